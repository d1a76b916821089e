//! What real files hold and TFDS's own builder stumbles over: where it dies, pairs a picture with another one's row, or
//! stores what nobody can read, here a row is packed right or has a named end. What TFDS 4.9.10 does was measured.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use dataset::Nsfw;
use dataset::released::{Join, Released};
use dataset::tfds::{Config, Example, TfdsReader, TfdsWriter, folder};
use dataset::webdataset::TarWriter;
use fs_err as fs;

const JPEG: &[u8] = b"\xFF\xD8\xFF\xE0 picture \xFF\xD9";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n picture IEND\xAE\x42\x60\x82";
const BMP: &[u8] = b"BM\x0e\x00\x00\x00 picture";

/// Members of a tar and columns of its table, of shard 0 unless it says another one.
struct Case<'a> {
    number: u32,
    members: Vec<(&'a str, &'a [u8])>,
    columns: Vec<(&'a str, ArrayRef)>,
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

impl<'a> Case<'a> {
    /// Rows of these keys, with captions `c0`, `c1` … and URLs `u0`, `u1` …
    fn new(members: &[(&'a str, &'a [u8])], keys: &[&str]) -> Self {
        let numbered = |letter: &str| -> ArrayRef {
            Arc::new(StringArray::from((0..keys.len()).map(|row| format!("{letter}{row}")).collect::<Vec<_>>()))
        };
        let columns = vec![
            ("key", texts(&keys.iter().copied().map(Some).collect::<Vec<_>>())),
            ("caption", numbered("c")),
            ("url", numbered("u")),
        ];
        Self { number: 0, members: members.to_vec(), columns }
    }

    /// Adds a column, or puts it into the place of another one.
    fn with(mut self, name: &'a str, values: ArrayRef) -> Self {
        self.columns.retain(|&(other, _)| other != name);
        self.columns.push((name, values));
        self
    }

    fn write(&self, folder: &Path) {
        let mut tar = TarWriter::create(&folder.join(format!("{:05}.tar", self.number))).expect("a new file");
        self.members.iter().for_each(|(name, content)| {
            tar.push(name, content).expect("room");
        });
        tar.publish().expect("room");
        let batch = RecordBatch::try_from_iter_with_nullable(
            self.columns.iter().map(|(name, values)| (*name, Arc::clone(values), true)),
        )
        .expect("columns of one length");
        let file = fs::File::create(folder.join(format!("{:05}.parquet", self.number))).expect("a new file");
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("a schema");
        writer.write(&batch).expect("room");
        writer.close().expect("room");
    }

    /// Packs the case and reads the package: keys with examples in order of the keys, and the other ends.
    fn packed(&self) -> (Vec<(String, Example)>, Vec<&'static str>) {
        let (input, data) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        self.write(input.path());
        let Ok(Released::Images(shards)) = Released::find(input.path()) else { panic!("a layout of images") };
        let mut writer = TfdsWriter::create(data.path(), Config::Images, &[], 0).expect("a folder");
        let (mut keys, mut ends) = (Vec::new(), Vec::new());
        shards[0]
            .scan(Join::Key, false, |found| {
                match found {
                    Ok((key, example, content)) => {
                        writer.push_with(&key, &example, content)?;
                        keys.push((example.caption, key));
                    }
                    Err(status) => ends.push(status.name()),
                }
                Ok(())
            })
            .expect("readable");
        writer.finish().expect("room");
        let examples = TfdsReader::open(&folder(data.path(), Config::Images)).expect("described");
        let mut packed: Vec<_> = examples
            .map(|example| {
                let example = example.expect("readable");
                let key = keys.iter().find(|(caption, _)| *caption == example.caption).expect("pushed").1.clone();
                (key, example)
            })
            .collect();
        packed.sort_by(|a, b| a.0.cmp(&b.0));
        ends.sort_unstable();
        (packed, ends)
    }

    /// Keys and captions of what is packed, and the other ends.
    fn outcome(&self) -> (Vec<(String, String)>, Vec<&'static str>) {
        let (packed, ends) = self.packed();
        (packed.into_iter().map(|(key, example)| (key, example.caption)).collect(), ends)
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|&(key, caption)| (key.to_owned(), caption.to_owned())).collect()
}

#[test]
fn names_that_are_no_row_numbers() {
    // TFDS: ValueError for `abc`, `0.seg`; `-1` takes the last row; two pictures of one name: the writer dies.
    let members: &[(&str, &[u8])] = &[
        ("000000000.jpg", JPEG),
        ("000000000.png", PNG),
        ("000000000.cls", b"3"),
        ("000000000.TXT", b"text"),
        ("-1.jpg", JPEG),
        ("abc.jpg", JPEG),
        ("000000001.seg.png", PNG),
    ];
    let (packed, ends) = Case::new(members, &["000000000", "abc", "000000001", "000000002"]).outcome();
    assert_eq!(packed, pairs(&[("0_0", "c0"), ("0_abc", "c1")]));
    assert_eq!(ends, ["no_image", "no_image", "no_row"]);
}

#[test]
fn keys_of_img2dataset_since_1_9_3_in_any_shard() {
    // TFDS: IndexError in every shard but the first, or, where the table is long enough, the row of another picture.
    for (number, key) in [(0, "000000003"), (1, "000010003"), (41_454, "414540003")] {
        let member = format!("{key}.jpg");
        let mut case = Case::new(&[(&member, JPEG)], &[&key.replace('3', "1"), key]);
        case.number = number;
        let (packed, ends) = case.outcome();
        assert_eq!(packed, pairs(&[(&format!("{number}_3"), "c1")]), "shard {number}");
        assert_eq!(ends, ["no_image"]);
    }
}

#[test]
fn pictures_that_tfds_reads_back_are_packed_as_they_are() {
    let members: &[(&str, &[u8])] =
        &[("000000000.jpg", JPEG), ("000000001.png", PNG), ("000000002.bmp", BMP), ("000000003.JPEG", JPEG)];
    let keys: Vec<_> = members.iter().map(|member| &member.0[..9]).collect();
    let (packed, ends) = Case::new(members, &keys).packed();
    let pictures: Vec<_> = packed.iter().map(|(_, example)| example.image.as_deref()).collect();
    assert_eq!(pictures, [Some(JPEG), Some(PNG), Some(BMP), Some(JPEG)]);
    assert!(ends.is_empty());
}

#[test]
fn pictures_that_tfds_stores_and_cannot_read_back_have_an_end() {
    let gif: &[u8] = b"GIF89a picture";
    let webp: &[u8] = b"RIFF1234WEBP";
    let cut_off = &JPEG[..9];
    let long_and_cut_off = [JPEG.split_at(JPEG.len() - 2).0, &[b'x'; 10_000]].concat();
    let members: &[(&str, &[u8])] = &[
        ("000000000.webp", webp),
        ("000000001.jpg", webp),
        ("000000002.gif", gif),
        ("000000003.jpg", gif),
        ("000000004.avif", b"avif"),
        ("000000005.jpg", b"\0\0\0\x1cftypavif"),
        ("000000006.jpg", b"<html>404</html>"),
        ("000000007.jpg", b""),
        ("000000008.jpg", cut_off),
        ("000000009.jpg", &long_and_cut_off),
        ("000000010.png", &PNG[..12]),
        ("000000011.bmp", &BMP[..12]),
    ];
    let keys: Vec<_> = members.iter().map(|member| &member.0[..9]).collect();
    let (packed, ends) = Case::new(members, &keys).outcome();
    assert!(packed.is_empty());
    let of = |name: &str| ends.iter().filter(|end| **end == name).count();
    assert_eq!((of("image_format"), of("not_an_image"), of("image_damaged"), ends.len()), (5, 3, 4, 12));
}

#[test]
fn a_jpeg_with_much_behind_its_end_mark_is_whole() {
    let picture = [JPEG, &[0; 5000]].concat();
    let (packed, ends) = Case::new(&[("000000000.jpg", &picture)], &["000000000"]).packed();
    assert_eq!((packed[0].1.image.as_ref(), ends.len()), (Some(&picture), 0));
}

#[test]
fn captions_and_urls_that_are_null_or_empty() {
    // TFDS: null is a TypeError that ends the whole job; empty is fine.
    let members: &[(&str, &[u8])] = &[("000000000.jpg", JPEG), ("000000001.jpg", JPEG), ("000000002.jpg", JPEG)];
    let case = Case::new(members, &["000000000", "000000001", "000000002"])
        .with("caption", texts(&[None, Some(""), Some("c2")]))
        .with("url", texts(&[Some("u0"), Some(""), None]));
    let (packed, ends) = case.packed();
    assert_eq!(packed.len(), 1);
    assert_eq!((packed[0].1.caption.as_str(), packed[0].1.url.as_str()), ("", ""));
    assert_eq!(ends, ["no_caption", "no_url"]);
}

#[test]
fn tags_that_are_none_of_the_four() {
    let names = [None, Some("FALSE"), Some("unlikely"), Some(""), Some("UNSURE"), Some("NSFW")];
    let tags = [Nsfw::Untagged, Nsfw::Untagged, Nsfw::Untagged, Nsfw::Untagged, Nsfw::Unsure, Nsfw::Nsfw];
    let members: Vec<_> = (0..6).map(|row| format!("00000000{row}.jpg")).collect();
    let members: Vec<_> = members.iter().map(|name| (name.as_str(), JPEG)).collect();
    let keys: Vec<_> = members.iter().map(|member| &member.0[..9]).collect();
    let (packed, _) = Case::new(&members, &keys).with("NSFW", texts(&names)).packed();
    assert_eq!(packed.iter().map(|(_, example)| example.nsfw).collect::<Vec<_>>(), tags);
}

#[test]
fn numbers_that_are_missing_too_large_or_too_exact() {
    // TFDS: a missing width is -2147483648 on x86 and 0 on ARM, one over int32 wraps around.
    let members: &[(&str, &[u8])] = &[("000000000.jpg", JPEG), ("000000001.jpg", JPEG), ("000000002.jpg", JPEG)];
    let case = || Case::new(members, &["000000000", "000000001", "000000002"]);
    let floats = |values: [Option<f64>; 3]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
    let (packed, _) = case()
        .with("original_width", floats([Some(11.0), None, Some(f64::NAN)]))
        .with("original_height", Arc::new(Int64Array::from(vec![21, (1 << 31) + 5, -3])))
        .with("similarity", floats([Some(0.300_012_345_678_901_2), None, Some(f64::INFINITY)]))
        .with("LICENSE", texts(&[Some("?"), None, Some("")]))
        .packed();
    let values: Vec<_> =
        packed.iter().map(|(_, e)| (e.original_width, e.original_height, e.similarity, e.license.as_str())).collect();
    // Every fraction is a float32 in TFDS's files.
    assert_eq!(values, [(11, 21, 0.300_012_350_082_397_46, "?"), (-1, -1, -1.0, ""), (-1, -1, -1.0, "")]);
    // TFDS: KeyError. Without the column no similarity is known.
    assert_eq!(case().packed().0[0].1.similarity, -1.0);
}

#[test]
fn a_table_without_captions_is_named() {
    let input = tempfile::tempdir().expect("a folder");
    let mut case = Case::new(&[("000000000.jpg", JPEG)], &["000000000"]);
    case.columns.retain(|&(name, _)| name != "caption");
    case.write(input.path());
    let Ok(Released::Images(shards)) = Released::find(input.path()) else { panic!("a layout of images") };
    let error = shards[0].scan(Join::Key, false, |_| Ok(())).expect_err("no captions").to_string();
    assert!(error.contains("00000.parquet") && error.contains("caption"), "{error}");
}

#[test]
fn an_empty_tar_has_no_pictures() {
    let (packed, ends) = Case::new(&[], &["000000000"]).outcome();
    assert!(packed.is_empty());
    assert_eq!(ends, ["no_image"]);
}
