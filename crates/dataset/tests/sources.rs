//! Packages of every layout, against the golden data of TensorFlow Datasets (`golden/tfds/README.md`).

use std::path::{Path, PathBuf};

use dataset::load::{Dataset, Filter, OnDamage, ReadOptions, Record};
use dataset::npy::MatrixWriter;
use dataset::schema::KeptRow;
use dataset::table::write_table;
use dataset::tfds::{Config, Example, TfdsReader, TfdsWriter, folder};
use dataset::webdataset::TarWriter;
use dataset::{EmbeddingFiles, Nsfw, Result, ShardId};
use fs_err as fs;
use half::f16;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tfds").join(name)
}

fn open(name: &str) -> Dataset {
    Dataset::open(&golden(name)).expect("a package")
}

fn example(record: Result<Record>) -> Example {
    let mut example = record.expect("sound").example().expect("an example").to_example();
    example.similarity = f64::from(example.similarity as f32); // as TFDS stores it
    example
}

/// Examples by URL.
fn sorted(mut examples: Vec<Example>) -> Vec<Example> {
    examples.sort_by(|a, b| a.url.cmp(&b.url));
    examples
}

fn read(dataset: &Dataset, options: &ReadOptions) -> Vec<Example> {
    dataset.read(options).expect("a split").map(example).collect()
}

fn tfds(name: &str) -> Vec<Example> {
    TfdsReader::open(&golden(name)).expect("described").collect::<Result<_>>().expect("whole")
}

#[test]
fn tars_and_matrices_hold_what_tfds_made_of_them() {
    for (input, theirs) in [("inputs/images-100", "images-100"), ("inputs/embeddings-100", "embeddings-100")] {
        let dataset = open(input);
        let found = read(&dataset, &ReadOptions::default());
        assert_eq!(found.len(), 100);
        assert_eq!(sorted(found.clone()), sorted(tfds(theirs)), "{input}");
        // Shards take turns of sixteen here, too, and any example can be asked for.
        let mut access = dataset.access();
        let numbered: Vec<_> = (0..100).map(|number| example(access.get(number))).collect();
        assert_eq!(numbered[..16], found[..16]);
        assert_eq!(numbered[50..66], found[16..32]);
        assert_eq!(sorted(numbered), sorted(found));
    }
}

#[test]
fn every_format_of_tfds_gives_the_same_examples_in_the_same_order() {
    let expected = tfds("images-100");
    for name in ["images-100", "images-100-array_record", "images-100-parquet"] {
        assert_eq!(read(&open(name), &ReadOptions::default()), expected, "{name}");
    }
    assert_eq!(open("images-100").features().expect("readable").len(), 8);
    assert!(open("embeddings-100").features().expect("readable").contains(&"text_embedding"));
}

#[test]
fn a_filter_chooses_and_features_that_are_not_asked_for_are_left_unread() {
    let all = tfds("embeddings-100");
    let wanted = |example: &&Example| example.similarity > 0.35 && example.nsfw == Nsfw::Unlikely;
    let expected: Vec<_> = all.iter().filter(wanted).cloned().collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    let filter: Filter = "similarity > 0.35 and nsfw == UNLIKELY".parse().expect("a filter");
    let options = ReadOptions { filter: Some(filter), ..ReadOptions::default() };
    assert_eq!(read(&open("embeddings-100"), &options), expected);
    assert_eq!(sorted(read(&open("inputs/embeddings-100"), &options)), sorted(expected));
    let features = Some(vec!["image_embedding".into()]);
    let bare = read(&open("inputs/embeddings-100"), &ReadOptions { features, ..ReadOptions::default() });
    assert!(bare.iter().all(|example| example.caption.is_empty() && example.embeddings.is_some()));
    let unknown = ReadOptions { features: Some(vec!["picture".into()]), ..ReadOptions::default() };
    let error = open("images-100").read(&unknown).expect_err("no such feature").to_string();
    assert!(error.contains("\"picture\"") && error.contains("caption, image"), "{error}");
}

#[test]
fn a_folder_that_is_no_package_is_told() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let error = Dataset::open(empty.path()).expect_err("nothing").to_string();
    assert!(error.contains(empty.path().to_str().expect("plain")) && error.contains("no package"), "{error}");
    assert!(Dataset::open(&empty.path().join("missing")).expect_err("nothing").to_string().contains("missing"));
    for (name, part) in
        [("movies", "movies"), ("images", "laion400m/images/1.0.0"), ("laion400m/embeddings:1.0.0", "embeddings/1.0.0")]
    {
        let error = Dataset::named(name, empty.path()).expect_err("nothing").to_string();
        assert!(error.contains(part), "{error}");
    }
}

fn pair(number: usize) -> Example {
    Example {
        caption: format!("caption {number}"),
        image: None,
        embeddings: None,
        license: "?".into(),
        nsfw: Nsfw::Unlikely,
        original_height: 300,
        original_width: 400,
        similarity: 0.5,
        url: format!("http://a.com/{number}.jpg"),
    }
}

fn embeddings(number: usize) -> (Vec<f16>, Vec<f16>) {
    let values = |sign: f32| (0..4).map(|i| f16::from_f32(sign * (number * 4 + i) as f32)).collect();
    (values(1.0), values(-1.0))
}

fn key(number: usize) -> String {
    format!("{number:09}")
}

/// A tar of pictures with these numbers, a JSON beside each.
fn write_tar(path: &Path, numbers: impl IntoIterator<Item = usize>) {
    let mut tar = TarWriter::create(path).expect("a file");
    for number in numbers {
        let pair = pair(number);
        let json = serde_json::json!({"caption": pair.caption, "url": pair.url, "key": key(number)});
        tar.push(&format!("{}.jpg", key(number)), format!("picture {number}").as_bytes()).expect("room");
        tar.push(&format!("{}.json", key(number)), json.to_string().as_bytes()).expect("room");
    }
    tar.publish().expect("room");
}

/// The same in matrices, rows in another order.
fn write_matrices(folder: &Path, shard: u32, numbers: &[usize]) {
    let files = EmbeddingFiles::of(folder, ShardId(shard));
    for (path, second) in [(&files.image, false), (&files.text, true)] {
        let mut writer = MatrixWriter::create(path, numbers.len(), 4).expect("a file");
        for &number in numbers {
            let (image, text) = embeddings(number);
            writer.push_f16(if second { &text } else { &image }).expect("room");
        }
        writer.publish().expect("room");
    }
    let row = |&number: &usize| KeptRow {
        image_path: key(number),
        caption: pair(number).caption,
        url: pair(number).url,
        key: key(number),
        page_url: String::new(),
        license: "?".into(),
        language: None,
        nsfw: "UNLIKELY".into(),
        similarity: 0.5,
        width: 4,
        height: 4,
        original_width: 400,
        original_height: 300,
        image_offset: 0,
        image_bytes: 0,
    };
    write_table(&files.metadata, numbers.iter().map(row)).expect("room");
}

fn number(example: &Example) -> usize {
    example.caption.strip_prefix("caption ").and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn pictures_get_their_embeddings_by_key() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let (tars, matrices) = (place.path().join("tars"), place.path().join("matrices"));
    fs::create_dir(&tars).expect("room");
    write_tar(&tars.join("00000.tar"), 0..30);
    write_tar(&tars.join("00001.tar"), 30..50);
    write_matrices(&matrices, 0, &[40, 3, 17, 9, 22, 1, 0, 2, 4, 5, 6, 7, 8]);
    let others: Vec<_> = (10..50).filter(|number| ![17, 22, 40, 45].contains(number)).collect();
    write_matrices(&matrices, 1, &others);
    let dataset = Dataset::open(&tars).expect("tars").with_embeddings(&matrices).expect("matrices");
    let options = ReadOptions { on_damage: OnDamage::Skip, ..ReadOptions::default() };
    let mut reader = dataset.read(&options).expect("a split");
    let found: Vec<_> = reader.by_ref().map(example).collect();
    assert_eq!((found.len(), reader.skipped()), (49, 1));
    for example in &found {
        assert_eq!(example.embeddings, Some(embeddings(number(example))), "{}", example.caption);
        assert_eq!(example.image, Some(format!("picture {}", number(example)).into_bytes()));
    }
    let error = dataset.read(&ReadOptions::default()).expect("a split").find_map(Result::err).expect("one is missing");
    assert!(error.to_string().contains("no embeddings for key \"000000045\""), "{error}");
    // A key that stands in a table twice belongs to nobody.
    write_matrices(&matrices, 1, &[others, vec![45, 45]].concat());
    let dataset = Dataset::open(&tars).expect("tars").with_embeddings(&matrices).expect("matrices");
    let error =
        dataset.read(&ReadOptions::default()).expect("a split").find_map(Result::err).expect("one is there twice");
    assert!(error.to_string().contains("key \"000000045\" more than once"), "{error}");
}

/// Packs pairs as both configurations; some of the embeddings may be of another pair.
fn write_tfds(data: &Path, count: usize, of: impl Fn(usize) -> usize) {
    for config in Config::ALL {
        let mut writer = TfdsWriter::create(data, config, &[], 0).expect("a folder");
        for number in 0..count {
            let mut example = pair(if config == Config::Images { number } else { of(number) });
            match config {
                Config::Images => example.image = Some(b"picture".to_vec()),
                Config::Embeddings => example.embeddings = Some(embeddings(of(number))),
            }
            writer.push(&format!("0_{number}"), &example).expect("room");
        }
        writer.finish().expect("room");
    }
}

#[test]
fn both_configurations_of_tfds_join_by_number_and_are_checked() {
    let data = tempfile::tempdir().expect("a temporary folder");
    write_tfds(data.path(), 60, |number| number);
    let images = Dataset::named("laion400m", data.path()).expect("images");
    let joined = images.clone().with_embeddings(&folder(data.path(), Config::Embeddings)).expect("as many");
    let found = read(&joined, &ReadOptions::default());
    assert_eq!(found.len(), 60);
    for example in &found {
        assert_eq!(example.embeddings, Some(embeddings(number(example))));
        assert!(example.image.is_some());
    }
    let other = tempfile::tempdir().expect("a temporary folder");
    write_tfds(other.path(), 60, |number| if number == 7 { 8 } else { number });
    let joined = images.clone().with_embeddings(&folder(other.path(), Config::Embeddings)).expect("as many");
    let error = joined.read(&ReadOptions::default()).expect("a split").find_map(Result::err).expect("another pair");
    assert!(error.to_string().contains("other caption or URL than laion400m-train.tfrecord"), "{error}");
    let short = tempfile::tempdir().expect("a temporary folder");
    write_tfds(short.path(), 59, |number| number);
    let error = images.with_embeddings(&folder(short.path(), Config::Embeddings)).expect_err("too few").to_string();
    assert!(error.contains("59 examples for 60"), "{error}");
}

#[test]
fn a_tar_with_other_samples_than_its_sizes_say_is_told() {
    let place = tempfile::tempdir().expect("a temporary folder");
    write_tar(&place.path().join("00000.tar"), 0..30);
    fs::write(place.path().join("sizes.json"), r#"{"00000.tar": 30}"#).expect("room");
    assert_eq!(read(&Dataset::open(place.path()).expect("tars"), &ReadOptions::default()).len(), 30);
    fs::write(place.path().join("sizes.json"), r#"{"00000.tar": 31}"#).expect("room");
    let dataset = Dataset::open(place.path()).expect("tars");
    let error = dataset.read(&ReadOptions::default()).expect("a split").find_map(Result::err).expect("one too few");
    assert!(error.to_string().contains("00000.tar: 30 samples, not 31"), "{error}");
}
