//! LAION-400M's own layouts, against what TensorFlow Datasets made of the same files (`golden/tfds/README.md`), and with
//! everything that can be wrong with them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use dataset::released::{ImageShard, Join, Outcome, Released};
use dataset::tfds::{Config, Content, Example, TfdsReader, TfdsWriter, folder};
use dataset::webdataset::TarWriter;
use dataset::{Result, Status};
use fs_err as fs;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tfds").join(name)
}

fn text(path: PathBuf) -> String {
    fs::read_to_string(path).expect("there")
}

fn read(folder: &Path) -> Vec<Example> {
    TfdsReader::open(folder).expect("described").collect::<Result<_>>().expect("whole")
}

/// Packs `input`, and compares all that TFDS wrote with all that we write: files of text byte by byte, records field by
/// field in order.
fn packs_as_tfds_does(input: &str, theirs: &str, config: Config) {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut writer = TfdsWriter::create(data.path(), config, &[], 0).expect("a folder");
    let mut each = |outcome: Outcome| {
        let (key, example) = outcome.expect("every row is good");
        writer.push(&key, &example)
    };
    match Released::find(&golden(input)).expect("a layout") {
        Released::Images(shards) => shards.iter().try_for_each(|shard| shard.read(Join::Key, &mut each)),
        Released::Embeddings(shards) => shards.iter().try_for_each(|shard| shard.read(512, &mut each)),
        Released::Metadata(_) => panic!("no layout of TFDS"),
    }
    .expect("readable");
    writer.finish().expect("room");
    let ours = folder(data.path(), config);
    for file in ["dataset_info.json", "features.json", "nsfw.labels.txt"] {
        assert_eq!(text(ours.join(file)), text(golden(theirs).join(file)), "{file}");
    }
    assert_eq!(read(&ours), read(&golden(theirs)));
}

#[test]
fn three_pictures_become_what_tfds_made_of_them() {
    packs_as_tfds_does("inputs/images-3", "images-3", Config::Images);
}

#[test]
fn a_hundred_pictures_become_what_tfds_made_of_them() {
    packs_as_tfds_does("inputs/images-100", "images-100", Config::Images);
}

#[test]
fn a_hundred_embeddings_become_what_tfds_made_of_them() {
    packs_as_tfds_does("inputs/embeddings-100", "embeddings-100", Config::Embeddings);
}

/// What became of the rows of a shard: captions by key, and the names of the other ends.
fn outcomes(shard: &ImageShard, join: Join) -> (BTreeMap<String, String>, Vec<&'static str>) {
    let (mut packed, mut ends) = (BTreeMap::new(), Vec::new());
    shard
        .read(join, |outcome| {
            match outcome {
                Ok((key, example)) => assert_eq!(packed.insert(key, example.caption), None, "a key twice"),
                Err(status) => ends.push(Status::name(status)),
            }
            Ok(())
        })
        .expect("readable");
    ends.sort_unstable();
    (packed, ends)
}

/// A shard of the given number: members of its tar, rows of its table as `key, caption, url, similarity`.
fn shard(
    folder: &Path,
    number: u32,
    members: &[(&str, &[u8])],
    rows: &[(&str, Option<&str>, Option<&str>)],
) -> ImageShard {
    let mut tar = TarWriter::create(&folder.join(format!("{number:05}.tar"))).expect("a new file");
    for (name, content) in members {
        tar.push(name, content).expect("room");
    }
    tar.publish().expect("room");
    write_rows(&folder.join(format!("{number:05}.parquet")), rows);
    let Ok(Released::Images(mut shards)) = Released::find(folder) else { panic!("a layout of images") };
    shards.remove(0)
}

fn write_rows(path: &Path, rows: &[(&str, Option<&str>, Option<&str>)]) {
    use arrow_array::{ArrayRef, Float64Array, NullArray, RecordBatch, StringArray};
    use std::sync::Arc;
    let column = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("key", column(rows.iter().map(|row| Some(row.0)).collect()), true),
        ("TEXT", column(rows.iter().map(|row| row.1).collect()), true),
        ("URL", column(rows.iter().map(|row| row.2).collect()), true),
        ("original_width", Arc::new(Float64Array::from(vec![Some(f64::NAN); rows.len()])) as ArrayRef, true),
        ("LICENSE", Arc::new(NullArray::new(rows.len())) as ArrayRef, true),
    ])
    .expect("columns of one length");
    let file = fs::File::create(path).expect("a new file");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("a schema");
    writer.write(&batch).expect("room");
    writer.close().expect("room");
}

const JPEG: &[u8] = b"\xFF\xD8\xFF\xE0 picture \xFF\xD9";

fn good<'a>(key: &'a str, caption: &'a str) -> (&'a str, Option<&'a str>, Option<&'a str>) {
    (key, Some(caption), Some("http://a.com/i.jpg"))
}

#[test]
fn pictures_find_their_rows_by_key_in_any_order_and_with_keys_of_both_generations() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let members: &[(&str, &[u8])] = &[("000010000.jpg", JPEG), ("000010002.jpg", JPEG)];
    let rows = [good("000010002", "two"), good("000010001", "one"), good("000010000", "zero")];
    let new = shard(folder.path(), 1, members, &rows);
    let (packed, ends) = outcomes(&new, Join::Key);
    assert_eq!(packed, BTreeMap::from([("1_0".into(), "zero".into()), ("1_2".into(), "two".into())]));
    assert_eq!(ends, ["no_image"]);

    let folder = tempfile::tempdir().expect("a temporary folder");
    let members: &[(&str, &[u8])] = &[("000000000.jpg", JPEG), ("000000002.jpg", JPEG)];
    let rows = [good("000000002", "two"), good("000000000", "zero")];
    let old = shard(folder.path(), 1, members, &rows);
    let (packed, ends) = outcomes(&old, Join::Key);
    assert_eq!(packed, BTreeMap::from([("1_0".into(), "zero".into()), ("1_2".into(), "two".into())]));
    assert!(ends.is_empty());
    // TFDS's own join: picture 0 gets row 0, which is that of picture 2, and there is no row 2.
    let (packed, ends) = outcomes(&old, Join::Position);
    assert_eq!(packed, BTreeMap::from([("1_0".into(), "two".into())]));
    assert_eq!(ends, ["no_image", "no_row"]);
}

#[test]
fn whatever_cannot_be_packed_has_a_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let members: &[(&str, &[u8])] = &[
        ("000000000.jpg", JPEG),
        ("000000000.npy", b"more"),
        ("000000000.JSON", br#"{"url": "http://a.com/i.jpg", "caption": "zero"}"#),
        ("sub/000000001.jpg", JPEG),
        ("000000002.jpg", JPEG),
        ("000000003.jpg", JPEG),
        ("000000004.webp", b"RIFF1234WEBP"),
        ("000000005.jpg", b""),
        ("000000006.jpg", b"<html>"),
        ("000000007.jpg", &JPEG[..10]),
        ("000000008.jpg", JPEG),
        ("000000008.json", br#"{"url": "http://b.com/", "caption": "eight"}"#),
        ("000000009.jpg", JPEG),
        ("000000010.jpg", JPEG),
        ("abc.jpg", JPEG),
        ("000000000.jpg", JPEG),
        ("000000011.txt", b"no picture"),
        ("000000012.seg.png", b"no picture of ours"),
    ];
    let mut rows: Vec<_> = ["0", "1", "4", "5", "6", "7", "8"].map(|key| good(key, "fine")).into();
    rows[0].1 = Some("zero");
    rows[6].1 = Some("eight");
    rows.extend([("2", None, Some("http://a.com/")), ("3", Some("three"), None)]);
    rows.extend([good("9", "a"), good("9", "b"), good("11", "eleven")]);
    let (packed, ends) = outcomes(&shard(folder.path(), 0, members, &rows), Join::Key);
    assert_eq!(packed, BTreeMap::from([("0_0".into(), "zero".into()), ("0_1".into(), "fine".into())]));
    let expected = [
        "duplicate_key", // two rows of key 9 …
        "duplicate_key",
        "duplicate_key", // … and a second picture 0
        "image_damaged",
        "image_format",
        "join_mismatch",
        "no_caption",
        "no_image", // row 11
        "no_row",   // picture 10
        "no_row",   // picture abc
        "no_url",
        "not_an_image",
        "not_an_image",
    ];
    assert_eq!(ends, expected);
}

#[test]
fn what_is_not_known_of_a_row_is_said_as_the_catalogue_says_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shard = shard(folder.path(), 0, &[("000000000.jpg", JPEG)], &[good("000000000", "")]);
    let mut examples = Vec::new();
    shard
        .read(Join::Key, |outcome| {
            examples.push(outcome.expect("good").1);
            Ok(())
        })
        .expect("readable");
    let example = &examples[0];
    assert_eq!((example.caption.as_str(), example.license.as_str()), ("", ""));
    assert_eq!((example.original_width, example.original_height, example.similarity), (-1, -1, -1.0));
    assert_eq!(example.nsfw, dataset::Nsfw::Untagged);
}

#[test]
fn embeddings_in_folders_and_with_padded_numbers_are_found() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (kind, ending) in [("img_emb", "npy"), ("text_emb", "npy"), ("metadata", "parquet")] {
        fs::create_dir(folder.path().join(kind)).expect("room");
        let from = golden("inputs/embeddings-100").join(format!("{kind}_1.{ending}"));
        fs::copy(from, folder.path().join(format!("{kind}/{kind}_01.{ending}"))).expect("room");
    }
    let Ok(Released::Embeddings(shards)) = Released::find(folder.path()) else { panic!("a layout of embeddings") };
    let mut keys = Vec::new();
    shards[0]
        .read(512, |outcome| {
            keys.push(outcome.expect("good").0);
            Ok(())
        })
        .expect("readable");
    assert_eq!((keys.len(), keys[0].as_str(), keys[49].as_str()), (50, "1_0", "1_49"));
}

/// The names of `inputs/images-100` in a new folder, each file made anew out of its bytes.
fn changed(change: impl Fn(&Path, Vec<u8>) -> Vec<u8>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for entry in fs::read_dir(golden("inputs/images-100")).expect("there") {
        let path = entry.expect("readable").path();
        let bytes = change(&path, fs::read(&path).expect("there"));
        fs::write(folder.path().join(path.file_name().expect("a name")), bytes).expect("room");
    }
    folder
}

fn only_tars(change: impl Fn(Vec<u8>) -> Vec<u8>) -> tempfile::TempDir {
    changed(|path, bytes| if path.extension().is_some_and(|ending| ending == "tar") { change(bytes) } else { bytes })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

/// All bytes of the package, and why there is none.
fn package(input: &Path, whole: bool) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let data = tempfile::tempdir().expect("a temporary folder");
    let Released::Images(shards) = Released::find(input)? else { panic!("a layout of images") };
    let mut writer = TfdsWriter::create(data.path(), Config::Images, &[], 0)?;
    for shard in shards {
        shard.scan(Join::Key, whole, |found| {
            let (key, example, content) = found.expect("every row is good");
            writer.push_with(&key, &example, content)
        })?;
    }
    let files = writer.finish()?;
    let ours = folder(data.path(), Config::Images);
    Ok(files.iter().map(|file| (file.name.clone().into(), fs::read(ours.join(&file.name)).expect("there"))).collect())
}

#[test]
fn pictures_that_are_carried_read_later_or_decompressed_make_the_same_bytes() {
    let expected = package(&golden("inputs/images-100"), true).expect("sound");
    assert!(package(&golden("inputs/images-100"), false).expect("sound") == expected);
    let compressed = only_tars(|tar| gzip(&tar));
    assert!(package(compressed.path(), false).expect("sound") == expected);
    let in_parts = only_tars(|tar| [gzip(&tar[..5000]), gzip(&tar[5000..])].concat());
    assert!(package(in_parts.path(), false).expect("sound") == expected, "as pigz and bgzip write it");
}

#[test]
fn a_tar_with_another_compression_or_one_cut_off_is_named() {
    for (magic, name) in [(&b"\xFD7zXZ\0"[..], "xz"), (b"BZh9", "bzip2"), (b"\x28\xB5\x2F\xFD", "zstd")] {
        let folder = only_tars(|tar| [magic, &tar].concat());
        let error = package(folder.path(), false).expect_err("not read").to_string();
        assert!(error.contains("00000.tar") && error.contains(name) && error.contains("gzip"), "{error}");
    }
    for keep in [5, 12, 2000, 90_000] {
        let folder = only_tars(|tar| gzip(&tar)[..keep].to_vec());
        let error = package(folder.path(), false).expect_err("cut off").to_string();
        assert!(error.contains("00000.tar"), "{keep}: {error}");
    }
}

#[test]
fn unsorted_examples_stay_in_their_order_in_shards_as_large_as_tfdss() {
    let Released::Images(shards) = Released::find(&golden("inputs/images-100")).expect("a layout") else {
        panic!("a layout of images")
    };
    let data = tempfile::tempdir().expect("a temporary folder");
    let writer = TfdsWriter::create(data.path(), Config::Images, &[], 1).expect("a folder");
    let (mut writer, mut captions) = (writer.unsorted(100), Vec::new());
    for shard in &shards {
        shard
            .scan(Join::Key, false, |found| {
                let (key, example, content) = found.expect("every row is good");
                captions.push(example.caption.clone());
                writer.push_with(&key, &example, content)
            })
            .expect("readable");
    }
    writer.finish().expect("room");
    let ours = folder(data.path(), Config::Images);
    let found = read(&ours);
    assert_eq!(found.iter().map(|example| example.caption.as_str()).collect::<Vec<_>>(), captions);
    assert!(text(ours.join("dataset_info.json")).contains("\"disableShuffling\": true"));

    // TFDS's rule makes two shards of 150 MB.
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut writer = TfdsWriter::create(data.path(), Config::Images, &[], 150_000_000).expect("a folder").unsorted(15);
    let picture = vec![7; 10_000_000];
    for _ in 0..15 {
        writer.push_with("any", &found[0], Content::Picture(&picture)).expect("room");
    }
    writer.finish().expect("room");
    let reader = TfdsReader::open(&folder(data.path(), Config::Images)).expect("described");
    assert_eq!(reader.shard_lengths, [8, 7]);
    assert!(reader.map(|example| example.expect("sound").image).all(|image| image.as_ref() == Some(&picture)));
}

#[test]
fn a_shard_without_one_of_its_files_is_named() {
    for (input, lost) in [
        ("inputs/images-100", "00001.parquet"),
        ("inputs/images-100", "00001.tar"),
        ("inputs/embeddings-100", "text_emb_1.npy"),
        ("inputs/embeddings-100", "metadata_0.parquet"),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for entry in fs::read_dir(golden(input)).expect("there") {
            let path = entry.expect("readable").path();
            if !path.ends_with(lost) {
                fs::copy(&path, folder.path().join(path.file_name().expect("a name"))).expect("room");
            }
        }
        let error = Released::find(folder.path()).expect_err("incomplete").to_string();
        assert!(error.contains(lost), "{error}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert!(Released::find(folder.path()).expect_err("empty").to_string().contains("img_emb_N.npy"));
}

#[test]
fn damaged_inputs_end_in_an_error_that_names_the_file_or_in_fewer_rows_and_never_in_other_ones() {
    let mut state: u64 = 20_261_124; // always the same, so a round's number is its seed
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let whole: BTreeMap<_, _> = read(&golden("images-3")).into_iter().map(|e| (e.image.clone(), e)).collect();
    for round in 0..200 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, damaged) in [("00000.tar", round % 2 == 0), ("00000.parquet", round % 2 == 1)] {
            let mut bytes = fs::read(golden("inputs/images-3").join(name)).expect("there");
            if damaged {
                match round / 2 % 3 {
                    0 => bytes.truncate(random(bytes.len())),
                    1 => {
                        let place = random(bytes.len());
                        bytes[place] ^= 1 << random(8);
                    }
                    _ => {
                        let (from, to) = (random(bytes.len()), random(bytes.len()));
                        bytes.swap(from, to);
                    }
                }
            }
            fs::write(folder.path().join(name), bytes).expect("room");
        }
        let Ok(Released::Images(shards)) = Released::find(folder.path()) else { panic!("a layout of images") };
        let mut rows = 0;
        let result = shards[0].read(Join::Key, |outcome| {
            rows += 1;
            if let Ok((_, example)) = outcome
                && let Some(original) = whole.get(&example.image)
            {
                assert_eq!((&example.caption, &example.url), (&original.caption, &original.url), "round {round}");
            }
            Ok(())
        });
        match result {
            Ok(()) => assert!(rows >= 3, "round {round}: {rows} of 3 rows"),
            Err(error) => assert!(error.to_string().contains("00000."), "round {round}: {error}"),
        }
    }
}

/// The release's columns, with numbers of the types that its writers and readers disagree on.
fn metadata(ids: arrow_array::ArrayRef, sizes: arrow_array::ArrayRef) -> arrow_array::RecordBatch {
    use arrow_array::{ArrayRef, Float64Array, StringArray};
    let text = |values: [Option<&str>; 4]| std::sync::Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    arrow_array::RecordBatch::try_from_iter_with_nullable([
        ("SAMPLE_ID", ids, true),
        ("URL", text([Some("http://a.com/1"), Some("http://a.com/2"), None, Some("http://a.com/4")]), true),
        ("TEXT", text([Some("one"), None, Some("three"), Some("four <b>é</b>")]), true),
        ("HEIGHT", sizes.clone(), true),
        ("WIDTH", sizes, true),
        ("LICENSE", text([Some("?"), Some("?"), Some("?"), None]), true),
        ("NSFW", text([Some("UNLIKELY"), None, None, Some("FALSE")]), true),
        ("similarity", std::sync::Arc::new(Float64Array::from(vec![Some(0.25), None, None, None])), true),
    ])
    .expect("columns of one length")
}

const PART: &str = "part-00003-5b54c5d5-bbcf-484d-a2ce-0d6f73df1a36-c000.snappy.parquet";

fn write_part(folder: &Path, batch: &arrow_array::RecordBatch) {
    let file = fs::File::create(folder.join(PART)).expect("a new file");
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).expect("a schema");
    writer.write(batch).expect("room");
    writer.close().expect("room");
}

#[test]
fn the_metadata_of_the_release_is_read_whatever_types_its_numbers_have() {
    use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array};
    use std::sync::Arc;
    let large = 1_581_282_014_547;
    let ids: [ArrayRef; 2] = [
        Arc::new(Int64Array::from(vec![Some(large), Some(2), Some(3), None])),
        Arc::new(Float64Array::from(vec![Some(large as f64), Some(2.0), Some(3.0), Some(f64::NAN)])),
    ];
    let sizes: [ArrayRef; 3] = [
        Arc::new(Int32Array::from(vec![Some(600), None, None, None])),
        Arc::new(Int64Array::from(vec![Some(600), None, None, Some(i64::MAX)])),
        Arc::new(Float64Array::from(vec![Some(600.0), None, None, Some(f64::NAN)])),
    ];
    for (ids, sizes) in ids.iter().flat_map(|ids| sizes.iter().map(move |sizes| (ids.clone(), sizes.clone()))) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_part(folder.path(), &metadata(ids, sizes));
        let Ok(Released::Metadata(parts)) = Released::find(folder.path()) else { panic!("a layout of metadata") };
        assert_eq!((parts.len(), parts[0].row_count().expect("readable")), (1, 4));
        let (mut packed, mut ends) = (Vec::new(), Vec::new());
        parts[0]
            .read(|outcome| {
                match outcome {
                    Ok(pair) => packed.push(pair),
                    Err(status) => ends.push(status.name()),
                }
                Ok(())
            })
            .expect("readable");
        assert_eq!(ends, ["no_caption", "no_url"]);
        let (key, example) = &packed[0];
        assert_eq!((key.as_str(), example.caption.as_str()), ("1581282014547", "one"));
        assert_eq!((example.known_size(), example.known_similarity()), ((Some(600), Some(600)), Some(0.25)));
        let (key, example) = &packed[1];
        assert_eq!((key.as_str(), example.url.as_str()), ("", "http://a.com/4"));
        assert_eq!((example.known_size(), example.known_similarity()), ((None, None), None));
        assert_eq!((example.nsfw, example.license.as_str()), (dataset::Nsfw::Untagged, ""));
    }
}

#[test]
fn damaged_metadata_ends_in_an_error_that_names_the_file_or_in_all_of_its_rows() {
    use arrow_array::{Int32Array, Int64Array};
    use proptest::test_runner::{Config as Cases, TestRunner};
    use std::sync::Arc;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sizes = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
    write_part(folder.path(), &metadata(Arc::new(Int64Array::from(vec![1, 2, 3, 4])), sizes));
    let path = folder.path().join(PART);
    let whole = fs::read(&path).expect("written");
    let check = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("room");
        let mut rows = 0;
        let read = Released::find(folder.path()).and_then(|released| {
            let Released::Metadata(parts) = released else { panic!("a layout of metadata") };
            parts[0].read(|_| {
                rows += 1;
                Ok(())
            })
        });
        match read {
            Ok(()) => assert_eq!(rows, 4),
            Err(error) => assert!(error.to_string().contains("part-00003"), "{error}"),
        }
    };
    // Every bit of the footer, whose numbers say how many rows there are.
    let length = u32::from_le_bytes(*whole[..whole.len() - 4].last_chunk().expect("a length")) as usize;
    for bit in 8 * (whole.len() - 8 - length)..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes);
    }
    let damages = (0..whole.len(), 0..whole.len(), 0u8..8, 0..3u8);
    let mut runner = TestRunner::new(Cases::with_cases(300));
    let result = runner.run(&damages, |(place, other, bit, kind)| {
        let mut bytes = whole.clone();
        match kind {
            0 => bytes.truncate(place),
            1 => bytes[place] ^= 1 << bit,
            _ => bytes.swap(place, other),
        }
        check(&bytes);
        Ok(())
    });
    result.expect("no damage does more");
}
