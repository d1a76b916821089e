//! Reading packages as training does.

use std::path::{Path, PathBuf};

use dataset::load::{Dataset, OnDamage, ReadOptions, Reader, Shuffle, State};
use dataset::tfds::{Config, Example, FileFormat, TfdsWriter, folder, shard_name};
use dataset::tfrecord::write_record;
use dataset::{Nsfw, Result};
use fs_err as fs;
use proptest::prelude::*;

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

/// A package of shards of these lengths; the caption of an example is its number.
fn package(folder: &Path, lengths: &[u64]) -> Dataset {
    let mut number = 0;
    for (shard, &length) in lengths.iter().enumerate() {
        let mut file = Vec::new();
        for _ in 0..length {
            let mut record = Vec::new();
            example(number.to_string()).encode(&mut record);
            write_record(&mut file, &record).expect("memory");
            number += 1;
        }
        fs::write(folder.join(shard_name(FileFormat::Tfrecord, shard, lengths.len())), file).expect("room");
    }
    let info = serde_json::json!({"name": "laion400m", "splits": [{"name": "train", "shardLengths": lengths}]});
    fs::write(folder.join("dataset_info.json"), info.to_string()).expect("room");
    Dataset::open(folder).expect("described")
}

fn numbers(reader: impl Iterator<Item = Result<dataset::load::Record>>) -> Vec<u64> {
    reader
        .map(|record| {
            let record = record.expect("sound");
            record.example().expect("an example").caption.parse().expect("a number")
        })
        .collect()
}

fn read(dataset: &Dataset, split: &str) -> Vec<u64> {
    numbers(dataset.read(&ReadOptions { split: split.into(), ..ReadOptions::default() }).expect("a split"))
}

fn shuffled(seed: u64, epoch: u64, buffer: u64) -> ReadOptions {
    ReadOptions { shuffle: Some(Shuffle { seed, epoch, buffer }), ..ReadOptions::default() }
}

#[test]
fn examples_come_in_the_order_of_tfds() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dataset = package(folder.path(), &[20, 3, 40]);
    // Sixteen of each shard in turn; a shard whose end is met loses its turn.
    let expected: Vec<u64> = [0..16, 20..23, 23..39, 16..20, 39..63].into_iter().flatten().collect();
    assert_eq!(read(&dataset, "train"), expected);
    // A slice is cut out before the turns are taken.
    let expected: Vec<u64> = [15..20, 20..23, 23..25].into_iter().flatten().collect();
    assert_eq!(read(&dataset, "train[15:25]"), expected);
    assert_eq!(read(&dataset, "train[-2:]+train[:3]"), [61, 62, 0, 1, 2]);
    assert_eq!(read(&dataset, "train[1shard]"), [20, 21, 22]);
    let first = dataset.read(&ReadOptions::default()).expect("a split").next().expect("one").expect("sound");
    assert_eq!(first.id(), "laion400m-train.tfrecord-00000-of-00003__0");
    let error = dataset.read(&ReadOptions { split: "train[:64]".into(), ..ReadOptions::default() });
    let error = error.expect_err("too many").to_string();
    assert!(error.contains("train[:64]") && error.contains("63 examples"), "{error}");
}

#[test]
fn what_was_packed_without_shuffling_comes_shard_by_shard() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    package(folder.path(), &[20, 3, 40]);
    let path = folder.path().join("dataset_info.json");
    let info = fs::read_to_string(&path).expect("written").replacen('{', r#"{"disableShuffling": true, "#, 1);
    fs::write(&path, info).expect("room");
    let dataset = Dataset::open(folder.path()).expect("described");
    assert_eq!(read(&dataset, "train"), (0..63).collect::<Vec<_>>());
    assert_ne!(numbers(dataset.read(&shuffled(1, 0, 10)).expect("a split")), (0..63).collect::<Vec<_>>());
}

#[test]
fn hosts_read_equal_parts_that_share_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dataset = package(folder.path(), &[20, 3, 40]);
    let mut all = Vec::new();
    for index in 0..4 {
        let options = ReadOptions { part: Some((index, 4)), ..shuffled(1, 0, 8) };
        let part = numbers(dataset.read(&options).expect("a part"));
        assert_eq!(part.len(), 15);
        all.extend(part);
    }
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>());
    let none = ReadOptions { part: Some((4, 4)), ..ReadOptions::default() };
    assert!(dataset.read(&none).expect_err("four parts").to_string().contains("part 4 of 4"));
}

#[test]
fn a_seed_gives_an_order_and_an_epoch_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dataset = package(folder.path(), &[50; 20]);
    let order = |seed, epoch, buffer| numbers(dataset.read(&shuffled(seed, epoch, buffer)).expect("a split"));
    let first = order(7, 0, 100);
    assert_eq!(order(7, 0, 100), first);
    for other in [order(7, 1, 100), order(8, 0, 100), order(7, 0, 101), read(&dataset, "train")] {
        assert!(other != first);
        let mut sorted = other;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    }
}

/// What a reader that is stopped after so many examples, and another that goes on from its state, give together.
fn interrupted(dataset: &Dataset, options: &ReadOptions, after: usize) -> Vec<u64> {
    let mut reader = dataset.read(options).expect("a split");
    let mut all = numbers(reader.by_ref().take(after));
    let kept = serde_json::to_string(&reader.state()).expect("plain");
    drop(reader);
    let state: State = serde_json::from_str(&kept).expect("what was kept");
    all.extend(numbers(dataset.resume(&state).expect("the same dataset")));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_reader_goes_on_exactly_where_another_stopped(
        lengths in prop::collection::vec(0..40u64, 1..24),
        seed: Option<u64>,
        buffer in 1..200u64,
        after in 0..1000usize,
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        prop_assume!(lengths.iter().sum::<u64>() > 0);
        let dataset = package(folder.path(), &lengths);
        let options = seed.map_or_else(ReadOptions::default, |seed| shuffled(seed, 3, buffer));
        let whole = numbers(dataset.read(&options).expect("a split"));
        prop_assert_eq!(interrupted(&dataset, &options, after), whole);
    }
}

#[test]
fn a_state_of_another_dataset_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let state = package(folder.path(), &[20]).read(&ReadOptions::default()).expect("a split").state();
    let other = package(folder.path(), &[21]);
    let error = other.resume(&state).expect_err("another one").to_string();
    assert!(error.contains("20 examples") && error.contains("21"), "{error}");
    let far = State { examples: 21, passed: vec![(0, 22)].into(), ..state };
    assert!(other.resume(&far).expect_err("beyond the end").to_string().contains("22 of 21"));
}

#[test]
fn any_example_of_any_format_can_be_asked_for() {
    for format in FileFormat::ALL {
        let data = tempfile::tempdir().expect("a temporary folder");
        let mut writer = TfdsWriter::create(data.path(), Config::Images, &[format], 0).expect("a folder");
        (0..500).for_each(|row| writer.push(&format!("0_{row}"), &example(row.to_string())).expect("room"));
        writer.finish().expect("room");
        let dataset = Dataset::open(&folder(data.path(), Config::Images)).expect("described");
        assert_eq!(dataset.len(), 500);
        let all = read(&dataset, "train");
        let mut access = dataset.access();
        for number in [499, 0, 130, 131, 129, 64, 63, 499, 250, 251] {
            let record = access.get(number).expect("there");
            let caption = record.example().expect("an example").caption.to_owned();
            assert_eq!(caption, all[number as usize].to_string(), "{format:?} {number}");
        }
        assert!(access.get(500).expect_err("beyond the end").to_string().contains("500"));
    }
}

fn damaged(folder: &Path, place: usize) -> (Dataset, PathBuf) {
    let dataset = package(folder, &[20, 20]);
    let path = folder.join(shard_name(FileFormat::Tfrecord, 0, 2));
    let mut bytes = fs::read(&path).expect("written");
    let length = bytes.len() / 20;
    // Records of one and of two digits differ in length by a byte or two: near enough to find record 10.
    bytes[10 * length - length / 2 + place] ^= 0x20;
    fs::write(&path, bytes).expect("room");
    (dataset, path)
}

fn skipping(dataset: &Dataset) -> (Vec<u64>, Reader) {
    let options = ReadOptions { on_damage: OnDamage::Skip, ..ReadOptions::default() };
    let mut reader = dataset.read(&options).expect("a split");
    (numbers(reader.by_ref()), reader)
}

#[test]
fn a_damaged_record_stops_or_is_passed_over_and_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (dataset, path) = damaged(folder.path(), 0);
    let mut reader = dataset.read(&ReadOptions::default()).expect("a split");
    let error = reader.find_map(Result::err).expect("damaged").to_string();
    assert!(error.contains(path.to_str().expect("plain")) && error.contains("checksum"), "{error}");
    assert!(reader.next().is_none(), "it has ended");
    let (found, reader) = skipping(&dataset);
    assert_eq!((found.len(), reader.skipped()), (39, 1));
    assert_eq!(reader.state().passed.len(), 40);
}

#[test]
fn what_follows_a_damaged_length_is_lost_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dataset = package(folder.path(), &[20, 20]);
    let path = folder.path().join(shard_name(FileFormat::Tfrecord, 0, 2));
    let mut bytes = fs::read(&path).expect("written");
    let record = bytes.len() / 20;
    bytes.truncate(record * 5);
    fs::write(&path, bytes).expect("room");
    let (found, reader) = skipping(&dataset);
    assert_eq!(found.len() as u64 + reader.skipped(), 40);
    assert!(found.iter().filter(|&&number| number < 20).count() >= 4, "{found:?}");
    assert_eq!(found.iter().filter(|&&number| number >= 20).count(), 20, "{found:?}");
}
