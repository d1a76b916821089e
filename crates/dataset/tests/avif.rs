//! AVIF as others write it (`golden/avif/make.py`), and as nobody should.
#![cfg(feature = "native")]

use std::path::{Path, PathBuf};

use dataset::picture::{Decoder, Format, Limits, Picture, decode, is_image};
use dataset::{Failure, Pixels};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/avif")
}

fn file(name: &str) -> Vec<u8> {
    fs_err::read(folder().join(name)).expect("a file of the repository")
}

fn read(name: &str) -> Picture {
    let bytes = file(name);
    assert!(is_image(&bytes), "{name}");
    let picture = decode(&bytes, Limits::default()).expect(name);
    assert_eq!((picture.format, picture.as_in_file), (Format::Avif, false), "{name}");
    picture
}

/// What Pillow read in the file of this name.
fn pillows(name: &str) -> Pixels {
    decode(&file(&format!("{name}.png")), Limits::default()).expect(name).pixels
}

/// The furthest that two values of the first `columns` are from one another.
fn furthest(found: &Pixels, expected: &Pixels, columns: u32) -> u8 {
    assert_eq!((found.width(), found.height()), (expected.width(), expected.height()));
    let lines = |pixels: &Pixels| pixels.rgb().chunks_exact(pixels.width() as usize * 3).map(<[u8]>::to_vec).collect();
    let (found, expected): (Vec<_>, Vec<_>) = (lines(found), lines(expected));
    let lines = found.iter().zip(&expected);
    let values = lines.flat_map(|(found, expected)| found.iter().zip(expected).take(columns as usize * 3));
    values.map(|(a, b)| a.abs_diff(*b)).max().expect("pixels")
}

#[test]
fn every_kind_of_avif_is_read_as_pillow_reads_it() {
    let kinds = [
        ("420", 2),
        ("422-limited", 2),
        ("444", 1),
        ("grey", 0),
        ("alpha", 2),
        ("premultiplied", 3),
        ("grain", 2),
        ("sequence", 2),
        ("10-bit", 3), // Pillow's library loses the last two bits before it makes colours of them
        ("12-bit", 3),
        ("grid", 1),
    ];
    for (name, within) in kinds {
        let found = read(&format!("{name}.avif")).pixels;
        let furthest = furthest(&found, &pillows(name), found.width());
        assert!(furthest <= within, "{name}: {furthest}");
    }
}

#[test]
fn an_odd_number_of_columns_is_no_trouble() {
    // Pillow's library (libyuv) takes the colour of the last of an odd number of columns from beyond the row.
    let found = read("odd.avif").pixels;
    assert_eq!((found.width(), found.height()), (37, 29));
    let furthest = furthest(&found, &pillows("odd"), 36);
    assert!(furthest <= 2, "{furthest}");
}

#[test]
fn a_picture_is_turned_and_mirrored_as_its_boxes_say() {
    for number in 2..=8 {
        let name = format!("turned-{number}");
        let found = read(&format!("{name}.avif"));
        let size = (found.pixels.width(), found.pixels.height());
        assert_eq!(size, if number < 5 { (38, 30) } else { (30, 38) }, "{name}");
        assert_eq!((found.original_width, found.original_height), size, "{name}");
        let furthest = furthest(&found.pixels, &pillows(&name), size.0);
        assert!(furthest <= 2, "{name}: {furthest}");
        assert_eq!(found.exif, r#"{"Make":"\"somebody\""}"#, "{name}");
    }
}

#[test]
fn a_profile_is_followed_to_srgb_or_passed_over() {
    let middle = |pixels: &Pixels| pixels.rgb().as_chunks::<3>().0[4 * 16 + 3];
    let near = |found: [u8; 3], expected: [u8; 3]| found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 4);
    let found = middle(&read("linear.avif").pixels);
    assert!(near(found, [239, 96, 110]), "{found:?}"); // as Little CMS has it, see pictures.rs
    let plain = Decoder::new(Limits::default()).without_profiles().full(&file("linear.avif")).expect("a picture");
    assert!(near(middle(&plain), [220, 30, 40]), "{:?}", middle(&plain));
}

#[test]
fn too_many_pixels_are_told_by_the_boxes_and_by_the_data_behind_them() {
    let whole = file("420.avif");
    let failure = |bytes: &[u8], pixels_max| decode(bytes, Limits { pixels_max }).expect_err("no picture");
    assert!(decode(&whole, Limits { pixels_max: 38 * 30 }).is_ok());
    assert_eq!(failure(&whole, 38 * 30 - 1).0, Failure::TooManyPixels);
    // The box says 8 x 8 and the data 38 x 30.
    let mut lie = whole.clone();
    let size = [38u32.to_be_bytes(), 30u32.to_be_bytes()].concat();
    let at = whole.windows(8).position(|bytes| bytes == size).expect("a box of the size");
    lie[at..at + 8].copy_from_slice(&[8u32.to_be_bytes(), 8u32.to_be_bytes()].concat());
    assert_eq!(failure(&lie, 38 * 30 - 1).0, Failure::TooManyPixels);
    assert_eq!(failure(&lie, 38 * 30).0, Failure::ImageDamaged);
    // A grid is as large as its parts together, two of 64 x 64.
    assert_eq!(failure(&file("grid.avif"), 2 * 64 * 64 - 1).0, Failure::TooManyPixels);
    assert!(decode(&file("grid.avif"), Limits { pixels_max: 2 * 64 * 64 }).is_ok());
}

#[test]
fn many_pictures_in_one_item_are_not_decoded() {
    // The same frame again and again, and boxes that know of it: each takes the decoder as long as the first.
    let whole = file("444.avif");
    let at = memchr::memmem::find(&whole, b"mdat").expect("data") + 4;
    let data = &whole[at..];
    let length = (data.len() as u32).to_be_bytes();
    let place = whole.windows(4).position(|bytes| bytes == length).expect("the length of the item");
    let repeated = |count: usize| {
        let mut bytes = [&whole[..at], &data.repeat(count)].concat();
        bytes[place..place + 4].copy_from_slice(&((data.len() * count) as u32).to_be_bytes());
        let size = (data.len() * count + 8) as u32;
        bytes[at - 8..at - 4].copy_from_slice(&size.to_be_bytes());
        bytes
    };
    assert!(decode(&repeated(1), Limits::default()).is_ok());
    let (failure, text) = decode(&repeated(5), Limits::default()).expect_err("five frames");
    assert_eq!(failure, Failure::ImageDamaged);
    assert!(text.contains("AV1"), "{text}");
    assert_eq!(decode(&repeated(2), Limits { pixels_max: 38 * 30 }).expect_err("two frames").0, Failure::TooManyPixels);
}

#[test]
fn what_is_cut_off_is_damaged_and_other_brands_are_no_picture() {
    let whole = file("420.avif");
    for length in [40, 200, whole.len() - 1] {
        assert_eq!(decode(&whole[..length], Limits::default()).expect_err("cut").0, Failure::ImageDamaged, "{length}");
    }
    assert!(is_image(&file("sequence.avif")));
    for other in [&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], b"\0\0\0\x14ftypmp42avif\0\0\0\0", b"\0\0\0\x1Cftyp"] {
        assert!(!is_image(other), "{}", other.escape_ascii());
    }
}
