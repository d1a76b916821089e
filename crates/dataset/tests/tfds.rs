//! What this crate writes against what TensorFlow Datasets wrote (`golden/tfds/README.md`).

use std::path::{Path, PathBuf};

use dataset::Nsfw;
use dataset::tfds::{Config, Example, FileFormat, TfdsReader, TfdsWriter, folder, shard_name};
use fs_err as fs;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tfds").join(name)
}

/// The golden captions start with `[shard/row]`, which is the key with another sign between.
fn key(example: &Example) -> String {
    example.caption[1..example.caption.find(']').expect("a key")].replace('/', "_")
}

fn example(caption: String) -> Example {
    Example {
        caption,
        image: Some(b"picture".to_vec()),
        embeddings: None,
        license: "?".into(),
        nsfw: Nsfw::Unlikely,
        original_height: 2,
        original_width: 3,
        similarity: 0.31,
        url: "http://a.com/i.jpg".into(),
    }
}

fn read(folder: &Path) -> Vec<Example> {
    TfdsReader::open(folder).expect("prepared").collect::<Result<_, _>>().expect("sound")
}

#[test]
fn the_golden_images_are_written_again_file_by_file() {
    let examples = read(&golden("images-3"));
    assert_eq!(examples.len(), 3);
    assert!(examples.iter().all(|example| example.image.as_ref().is_some_and(|image| image.starts_with(b"\xFF\xD8"))));
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut writer = TfdsWriter::create(data.path(), Config::Images, &[], 0).expect("a folder");
    for example in examples.iter().rev() {
        writer.push(&key(example), example).expect("room");
    }
    writer.finish().expect("room");
    let ours = folder(data.path(), Config::Images);
    assert_eq!(read(&ours), examples, "same examples in the same order");
    for file in ["dataset_info.json", "features.json", "nsfw.labels.txt"] {
        let (ours, golden) = (fs::read_to_string(ours.join(file)), fs::read_to_string(golden("images-3").join(file)));
        assert_eq!(ours.expect("written"), golden.expect("golden"), "{file}");
    }
    let names: Vec<_> =
        fs::read_dir(&ours).expect("a folder").map(|entry| entry.expect("a name").file_name()).collect();
    assert_eq!(names.len(), 4, "nothing else is left: {names:?}");
    let metadata = fs::read_to_string(data.path().join("laion400m/.config/metadata.json")).expect("written");
    assert_eq!(metadata, r#"{"default_config_name": "images"}"#);
}

#[test]
fn a_hundred_examples_stand_in_the_order_of_tfds_however_many_buckets_sort_them() {
    let order = fs::read_to_string(golden("order-100.txt")).expect("golden");
    let mut keys: Vec<_> = order.lines().collect();
    keys.sort_unstable();
    for expected_bytes in [0, 1 << 33] {
        let data = tempfile::tempdir().expect("a temporary folder");
        let mut writer = TfdsWriter::create(data.path(), Config::Images, &[], expected_bytes).expect("a folder");
        for key in &keys {
            writer.push(key, &example((*key).to_owned())).expect("room");
        }
        writer.finish().expect("room");
        let ours: Vec<_> = read(&folder(data.path(), Config::Images)).into_iter().map(|e| e.caption).collect();
        assert_eq!(ours, order.lines().collect::<Vec<_>>());
    }
}

#[test]
fn the_embeddings_are_described_as_by_tfds() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let embedding: Vec<_> = (0..512).map(|i| half::f16::from_f32(i as f32 / 512.0)).collect();
    let original = Example { image: None, embeddings: Some((embedding.clone(), embedding)), ..example("one".into()) };
    let mut writer = TfdsWriter::create(data.path(), Config::Embeddings, &[], 0).expect("a folder");
    writer.push("0_0", &original).expect("room");
    writer.finish().expect("room");
    let ours = folder(data.path(), Config::Embeddings);
    let text = |path: PathBuf| fs::read_to_string(path).expect("there");
    assert_eq!(text(ours.join("features.json")), text(golden("embeddings-100/features.json")));
    let mut info: serde_json::Value = serde_json::from_str(&text(ours.join("dataset_info.json"))).expect("JSON");
    let theirs: serde_json::Value =
        serde_json::from_str(&text(golden("embeddings-100/dataset_info.json"))).expect("JSON");
    info["splits"] = theirs["splits"].clone();
    assert_eq!(info, theirs, "all but the sizes");
    let mut expected = original;
    expected.similarity = f64::from(0.31f32); // TFDS declares float64 and stores float32
    assert_eq!(read(&ours), [expected]);
}

#[test]
fn a_shard_that_lost_a_record_is_named() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut writer = TfdsWriter::create(data.path(), Config::Images, &[], 0).expect("a folder");
    for key in ["0_0", "0_1"] {
        writer.push(key, &example(key.into())).expect("room");
    }
    writer.finish().expect("room");
    let ours = folder(data.path(), Config::Images);
    let shard = ours.join(shard_name(FileFormat::Tfrecord, 0, 1));
    let whole = fs::read(&shard).expect("written");
    fs::write(&shard, &whole[..whole.len() / 2]).expect("room");
    let error = TfdsReader::open(&ours).expect("described").collect::<Result<Vec<_>, _>>().expect_err("one is missing");
    assert!(error.to_string().contains("laion400m-train.tfrecord-00000-of-00001"), "{error}");
    let mut twice = TfdsWriter::create(data.path(), Config::Images, &[], 0).expect("a folder");
    twice.push("0_0", &example("a".into())).expect("room");
    twice.push("0_0", &example("b".into())).expect("room");
    assert!(twice.finish().is_err(), "two examples with one key");
}

#[test]
fn every_file_format_holds_what_tfds_puts_into_it() {
    for (config, name) in [(Config::Images, "images-100"), (Config::Embeddings, "embeddings-100")] {
        let examples = read(&golden(name));
        for format in FileFormat::ALL {
            let theirs = match format {
                FileFormat::Tfrecord => golden(name),
                _ => golden(&format!("{name}-{}", format.name())),
            };
            assert_eq!(read(&theirs), examples, "{theirs:?}");
            let data = tempfile::tempdir().expect("a temporary folder");
            let mut writer = TfdsWriter::create(data.path(), config, &[format], 0).expect("a folder");
            examples.iter().for_each(|example| writer.push(&key(example), example).expect("room"));
            writer.finish().expect("room");
            let ours = folder(data.path(), config);
            assert_eq!(read(&ours), examples, "{format:?}");
            let info = |folder: &Path| fs::read_to_string(folder.join("dataset_info.json")).expect("described");
            assert_eq!(info(&ours), info(&theirs));
        }
    }
}

#[test]
fn one_folder_holds_several_formats() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let formats = [FileFormat::ArrayRecord, FileFormat::Tfrecord];
    let mut writer = TfdsWriter::create(data.path(), Config::Images, &formats, 0).expect("a folder");
    (0..300).for_each(|row| writer.push(&format!("0_{row}"), &example(row.to_string())).expect("room"));
    let files = writer.finish().expect("room");
    assert_eq!(files[0].name, "laion400m-train.array_record-00000-of-00001");
    assert_eq!(files[1].name, "laion400m-train.tfrecord-00000-of-00001");
    let ours = folder(data.path(), Config::Images);
    let array_record = read(&ours);
    let info = ours.join("dataset_info.json");
    let text = fs::read_to_string(&info).expect("described");
    assert!(text.contains("\"alternativeFileFormats\": [\n    \"tfrecord\"\n  ]"), "{text}");
    fs::write(&info, text.replace("\"fileFormat\": \"array_record\"", "\"fileFormat\": \"tfrecord\"")).expect("room");
    assert_eq!(read(&ours), array_record);
}
