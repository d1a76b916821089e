//! Pictures of every kind that the web has, as others made them (`golden/pictures/make.py`).

use std::path::{Path, PathBuf};

use dataset::picture::{Decoder, Format, Limits, Needed, decode, is_image};
use dataset::{Failure, Pixels};
use proptest::prelude::*;

/// Four squares, from the left and the top: what `make.py` drew.
const COLOURS: [[u8; 3]; 4] = [[220, 30, 40], [20, 180, 60], [30, 50, 200], [100, 100, 100]];
/// The same in grey, as PIL makes them.
const GREYS: [[u8; 3]; 4] = [[88; 3], [118; 3], [61; 3], [100; 3]];
/// The same as linear light, brought to sRGB by Little CMS.
const LINEAR: [[u8; 3]; 4] = [[239, 96, 110], [79, 219, 133], [96, 122, 229], [168, 168, 168]];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures")
}

fn file(name: &str) -> Vec<u8> {
    fs_err::read(folder().join(name)).expect("a file of the repository")
}

/// The middle of each of the four squares.
fn squares(pixels: &Pixels) -> [[u8; 3]; 4] {
    let at = |x: usize, y: usize| pixels.rgb().as_chunks().0[y * pixels.width() as usize + x];
    [at(3, 4), at(12, 4), at(3, 12), at(12, 12)]
}

fn furthest(found: [[u8; 3]; 4], expected: [[u8; 3]; 4]) -> u8 {
    let pairs = found.as_flattened().iter().zip(expected.as_flattened());
    pairs.map(|(a, b)| a.abs_diff(*b)).max().expect("four squares")
}

#[test]
fn every_kind_of_picture_is_read_right() {
    let kinds = [
        ("gif.gif", Format::Gif, COLOURS, 0),
        ("lzw.tiff", Format::Tiff, COLOURS, 0),
        ("cmyk.tiff", Format::Tiff, COLOURS, 1),
        ("16-bit-grey.tiff", Format::Tiff, GREYS, 0),
        ("palette.png", Format::Png, COLOURS, 0),
        ("16-bit.png", Format::Png, COLOURS, 0),
        ("bmp.bmp", Format::Bmp, COLOURS, 0),
        ("cmyk.jpg", Format::Jpeg, COLOURS, 4),
        ("grey.jpg", Format::Jpeg, GREYS, 2),
    ];
    for (name, format, expected, within) in kinds {
        let bytes = file(name);
        assert!(is_image(&bytes), "{name}");
        let picture = decode(&bytes, Limits::default()).expect(name);
        assert_eq!((picture.pixels.width(), picture.pixels.height(), picture.format), (16, 16, format), "{name}");
        let found = squares(&picture.pixels);
        assert!(furthest(found, expected) <= within, "{name}: {found:?}");
    }
}

#[test]
fn grey_with_transparency_lies_on_white() {
    let picture = decode(&file("grey-alpha.png"), Limits::default()).expect("a picture");
    assert_eq!(squares(&picture.pixels), [[88; 3], [255; 3], [61; 3], [255; 3]]);
    assert!(!picture.as_in_file);
}

#[test]
fn a_profile_is_followed_to_srgb_and_a_broken_one_passed_over() {
    let profiles = [
        ("linear.png", LINEAR, 1),
        ("linear.jpg", LINEAR, 4),
        ("srgb.png", COLOURS, 0),
        ("broken-profile.png", COLOURS, 0),
    ];
    for (name, expected, within) in profiles {
        let picture = decode(&file(name), Limits::default()).expect(name);
        let found = squares(&picture.pixels);
        assert!(furthest(found, expected) <= within, "{name}: {found:?}");
        assert_eq!(picture.as_in_file, expected == COLOURS, "{name}");
    }
    let picture = decode(&file("linear-grey.png"), Limits::default()).expect("a picture");
    // 255 * srgb(value / 255), IEC 61966-2-1
    let expected = [[158; 3], [181; 3], [134; 3], [168; 3]];
    let found = squares(&picture.pixels);
    assert!(furthest(found, expected) <= 1, "{found:?}");
}

#[test]
fn a_profile_is_passed_over_on_request() {
    let mut decoder = Decoder::new(Limits::default()).without_profiles();
    for (name, within) in [("linear.png", 0), ("linear.jpg", 2), ("srgb.png", 0)] {
        let picture = decoder.picture(&file(name), Needed::All).expect(name);
        let found = squares(&picture.pixels);
        assert!(furthest(found, COLOURS) <= within, "{name}: {found:?}");
        assert!(picture.as_in_file, "{name}");
    }
}

#[test]
fn too_many_pixels_are_told_in_every_format() {
    for name in ["gif.gif", "lzw.tiff", "palette.png", "bmp.bmp", "grey.jpg", "cmyk.jpg"] {
        let (failure, text) = decode(&file(name), Limits { pixels_max: 255 }).expect_err("16 x 16 are 256");
        assert_eq!(failure, Failure::TooManyPixels, "{name}: {text}");
        assert!(decode(&file(name), Limits { pixels_max: 256 }).is_ok(), "{name}");
    }
}

#[test]
fn a_text_that_starts_as_a_bitmap_does_is_none() {
    assert!(!is_image(b"BMW announces a car that nobody asked for, and more of the same."));
    let (failure, text) = decode(b"BMW announces a car that nobody asked for", Limits::default()).expect_err("a text");
    assert_eq!(failure, Failure::NotAnImage);
    assert!(text.contains("GIF") && text.contains("TIFF"), "{text}");
}

#[test]
fn only_what_shows_the_same_to_everybody_is_as_in_its_file() {
    let same = [("palette.png", true), ("bmp.bmp", true), ("grey.jpg", true)];
    let other = [("16-bit.png", false), ("cmyk.jpg", false), ("16-bit-grey.tiff", false)];
    for (name, expected) in same.into_iter().chain(other) {
        assert_eq!(decode(&file(name), Limits::default()).expect(name).as_in_file, expected, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_change_of_a_file_is_a_panic(
        file in prop::sample::select(files()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut: prop::sample::Index,
        is_cut: bool,
    ) {
        let mut bytes = file;
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Limits { pixels_max: 1 << 20 };
        if let Ok(picture) = Decoder::new(limits).picture(&bytes, Needed::Shorter(4)) {
            prop_assert!(u64::from(picture.original_width) * u64::from(picture.original_height) <= 1 << 20);
        }
    }
}

fn files() -> Vec<Vec<u8>> {
    let folders = [folder(), folder().with_file_name("avif")];
    let files = folders.iter().flat_map(|folder| fs_err::read_dir(folder).expect("a folder of the repository"));
    let mut paths: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs_err::read(path).expect("readable")).collect()
}
