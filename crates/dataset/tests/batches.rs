//! Batches as training wants them.

use std::path::Path;

use dataset::load::{
    Batch, BatchOptions, Column, Dataset, Images, OnDamage, Pictures, ReadOptions, Share, Shuffle, State,
};
use dataset::picture::{Limits, Squares, decode, encode_jpeg};
use dataset::tfds::{Config, Example, TfdsWriter, folder};
use dataset::{Nsfw, Pixels, Result};
use half::f16;
use proptest::prelude::*;

fn jpeg(number: usize, width: u32, height: u32) -> Vec<u8> {
    let pixel = |x: u32, y: u32| [(x * 2) as u8, (y * 3) as u8, number as u8];
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
    encode_jpeg(&Pixels::new(width, height, rgb).expect("full size"), 90).expect("encodable")
}

fn example(number: usize) -> Example {
    Example {
        caption: number.to_string(),
        image: None,
        embeddings: None,
        license: "?".into(),
        nsfw: Nsfw::ALL[number % 4],
        original_height: 300,
        original_width: 400,
        similarity: 0.5,
        url: format!("http://a.com/{number}.jpg"),
    }
}

fn package(data: &Path, count: usize, picture: impl Fn(usize) -> Vec<u8>) -> Dataset {
    let mut writer = TfdsWriter::create(data, Config::Images, &[], 0).expect("a folder");
    for number in 0..count {
        let example = Example { image: Some(picture(number)), ..example(number) };
        writer.push(&format!("0_{number}"), &example).expect("room");
    }
    writer.finish().expect("room");
    Dataset::open(&folder(data, Config::Images)).expect("described")
}

fn texts(column: &Column) -> Vec<usize> {
    column.iter().map(|text| std::str::from_utf8(text).expect("UTF-8").parse().expect("a number")).collect()
}

fn batches(dataset: &Dataset, options: &ReadOptions, batch: &BatchOptions) -> Vec<Batch> {
    let batches = dataset.batches(&dataset.start(options), Share::default(), batch).expect("a split");
    batches.collect::<Result<_>>().expect("sound")
}

fn order(dataset: &Dataset, options: &ReadOptions) -> Vec<usize> {
    let records = dataset.read(options).expect("a split");
    records.map(|record| record.expect("sound").example().expect("one").caption.parse().expect("a number")).collect()
}

#[test]
fn a_batch_has_the_examples_in_columns() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let dataset = package(data.path(), 10, |number| jpeg(number, 40 + number as u32, 30));
    let options = ReadOptions::default();
    for (threads, ahead) in [(1, 0), (3, 2)] {
        let settings = BatchOptions { size: 4, threads, ahead, ids: true, ..BatchOptions::default() };
        let found = batches(&dataset, &options, &settings);
        assert_eq!(found.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [4, 4, 2]);
        let numbers: Vec<_> = found.iter().flat_map(|batch| texts(&batch.captions)).collect();
        assert_eq!(numbers, order(&dataset, &options));
        for batch in &found {
            let classes: Vec<_> = texts(&batch.captions).iter().map(|number| number as &usize % 4).collect();
            assert_eq!(batch.nsfw, classes.iter().map(|&class| class as i64).collect::<Vec<_>>());
            assert_eq!(batch.original_widths, vec![400; batch.rows]);
            let Pictures::Decoded(pictures) = &batch.pictures else { panic!("{:?}", batch.pictures) };
            for (number, picture) in texts(&batch.captions).into_iter().zip(pictures) {
                let expected = decode(&jpeg(number, 40 + number as u32, 30), Limits::default()).expect("decodable");
                assert_eq!(*picture, expected.pixels);
            }
        }
        let ids: Vec<_> = found[2].ids.iter().map(|id| String::from_utf8_lossy(id).into_owned()).collect();
        assert_eq!(ids[1], "laion400m-train.tfrecord-00000-of-00001__9");
        let settings = BatchOptions { drop_remainder: true, ..settings };
        assert_eq!(batches(&dataset, &options, &settings).len(), 2);
    }
}

#[test]
fn pictures_become_squares_or_stay_as_they_are() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let dataset = package(data.path(), 5, |number| jpeg(number, 60, 40 + number as u32));
    let settings = |images| BatchOptions { size: 5, images, ..BatchOptions::default() };
    let squares = batches(&dataset, &ReadOptions::default(), &settings(Images::Square(32)));
    let Pictures::Squares { side: 32, rgb } = &squares[0].pictures else { panic!("no squares") };
    let encoded = batches(&dataset, &ReadOptions::default(), &settings(Images::Encoded));
    let Pictures::Encoded(files) = &encoded[0].pictures else { panic!("no files") };
    for (number, (square, file)) in
        texts(&squares[0].captions).into_iter().zip(rgb.chunks(32 * 32 * 3).zip(files.iter()))
    {
        assert_eq!(file, jpeg(number, 60, 40 + number as u32));
        let whole = decode(file, Limits::default()).expect("decodable").pixels;
        let mut expected = vec![0; 32 * 32 * 3];
        Squares::default().fill(whole.rgb(), whole.width(), whole.height(), 32, &mut expected).expect("a square");
        assert_eq!(square, expected);
    }
    let features = Some(vec!["caption".into(), "similarity".into()]);
    let bare = batches(&dataset, &ReadOptions { features, ..ReadOptions::default() }, &settings(Images::Decoded));
    assert_eq!((&bare[0].pictures, bare[0].urls.len(), bare[0].captions.len()), (&Pictures::None, 0, 5));
    for (size, side) in [(0, 32), (5, 0), (usize::MAX, 32), (1, u32::MAX)] {
        let settings = BatchOptions { size, images: Images::Square(side), ..BatchOptions::default() };
        let start = dataset.start(&ReadOptions::default());
        assert!(dataset.batches(&start, Share::default(), &settings).is_err(), "{size} of {side}");
    }
}

#[test]
fn a_damaged_picture_stops_or_its_place_is_filled_with_the_next() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let dataset = package(data.path(), 20, |number| match number {
        3 => jpeg(3, 40, 40)[..200].to_vec(),
        4 => b"<html>gone</html>".to_vec(),
        _ => jpeg(number, 40, 40),
    });
    for images in [Images::Decoded, Images::Square(16)] {
        let settings = BatchOptions { size: 6, images, ..BatchOptions::default() };
        let start = dataset.start(&ReadOptions::default());
        let error = dataset.batches(&start, Share::default(), &settings).expect("a split").find_map(Result::err);
        let error = error.expect("damaged").to_string();
        assert!(
            error.contains("laion400m-train.tfrecord-00000-of-00001: record ") && error.contains("image: "),
            "{error}"
        );
        let skip = ReadOptions { on_damage: OnDamage::Skip, ..ReadOptions::default() };
        let mut found = dataset.batches(&dataset.start(&skip), Share::default(), &settings).expect("a split");
        let batches: Vec<_> = found.by_ref().collect::<Result<_>>().expect("sound");
        assert_eq!(batches.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [6, 6, 6]);
        assert_eq!((found.state().skipped, found.state().passed.len()), (2, 20));
        let numbers: Vec<_> = batches.iter().flat_map(|batch| texts(&batch.captions)).collect();
        let expected: Vec<_> = order(&dataset, &skip).into_iter().filter(|number| ![3, 4].contains(number)).collect();
        assert_eq!(numbers, expected);
        for batch in &batches {
            let pictures: Vec<u8> = match &batch.pictures {
                Pictures::Squares { rgb, .. } => rgb.chunks(16 * 16 * 3).map(|square| square[2]).collect(),
                Pictures::Decoded(pictures) => pictures.iter().map(|picture| picture.rgb()[2]).collect(),
                other => panic!("{other:?}"),
            };
            for (number, blue) in texts(&batch.captions).into_iter().zip(pictures) {
                assert!(blue.abs_diff(number as u8) < 12, "picture {number} has blue {blue}");
            }
        }
    }
}

#[test]
fn embeddings_come_as_a_matrix() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let mut writer = TfdsWriter::create(data.path(), Config::Embeddings, &[], 0).expect("a folder");
    let values =
        |number: usize, sign: f32| (0..8).map(|i| f16::from_f32(sign * (number + i) as f32)).collect::<Vec<_>>();
    for number in 0..10 {
        let embeddings = Some((values(number, 0.5), values(number, -0.25)));
        writer.push(&format!("0_{number}"), &Example { embeddings, ..example(number) }).expect("room");
    }
    writer.finish().expect("room");
    let dataset = Dataset::open(&folder(data.path(), Config::Embeddings)).expect("described");
    let batch =
        batches(&dataset, &ReadOptions::default(), &BatchOptions { size: 10, ..BatchOptions::default() }).remove(0);
    assert_eq!((batch.rows, batch.dimensions()), (10, 8));
    let numbers = texts(&batch.captions);
    let expected = |sign| numbers.iter().flat_map(|&number| values(number, sign)).collect::<Vec<_>>();
    assert_eq!(batch.image_embeddings, expected(0.5));
    assert_eq!(batch.text_embeddings, expected(-0.25));
    let arrow = batch.into_arrow().expect("columns");
    assert_eq!(arrow.num_rows(), 10);
    assert_eq!(
        format!("{}", arrow.column_by_name("image_embedding").expect("there").data_type()),
        "FixedSizeList(8 x non-null Float16)"
    );
}

/// A dataset of many small shards without pictures: only the order matters.
fn numbered(data: &Path, count: usize) -> Dataset {
    package(data, count, |number| number.to_string().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_number_of_readers_goes_on_where_any_other_number_stopped(
        count in 1..300usize,
        seed: Option<u64>,
        buffer in 1..100u64,
        size in 1..20usize,
        workers in prop::collection::vec(1..5u64, 1..4),
        after in prop::collection::vec(0..8usize, 4),
    ) {
        let data = tempfile::tempdir().expect("a temporary folder");
        let dataset = numbered(data.path(), count);
        let shuffle = seed.map(|seed| Shuffle { seed, epoch: 1, buffer });
        let options = ReadOptions { shuffle, ..ReadOptions::default() };
        let mut state = dataset.start(&options);
        let mut found = Vec::new();
        let settings = BatchOptions { size, images: Images::Encoded, ahead: 0, threads: 1, ..BatchOptions::default() };
        let last = workers.len() - 1;
        for (stage, &workers) in workers.iter().enumerate() {
            let mut merged = state.clone();
            for index in 0..workers {
                let share = Share { index, count: workers, unit: size as u64 };
                let mut batches = dataset.batches(&state, share, &settings).expect("a split");
                let limit = if stage == last { usize::MAX } else { after[index as usize % 4] };
                for batch in batches.by_ref().take(limit) {
                    found.extend(texts(&batch.expect("sound").captions));
                }
                merged.passed.merge(&batches.state().passed);
            }
            let kept = serde_json::to_string(&merged).expect("plain");
            state = serde_json::from_str::<State>(&kept).expect("what was kept");
        }
        prop_assert_eq!(state.passed.len(), count as u64);
        found.sort_unstable();
        prop_assert_eq!(found, (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn one_reader_after_another_gives_the_order_of_one() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let dataset = numbered(data.path(), 100);
    let options = ReadOptions { shuffle: Some(Shuffle { buffer: 30, ..Shuffle::new(5) }), ..ReadOptions::default() };
    let whole = order(&dataset, &options);
    let settings = BatchOptions { size: 7, images: Images::Encoded, ..BatchOptions::default() };
    let mut first = dataset.batches(&dataset.start(&options), Share::default(), &settings).expect("a split");
    let mut found = Vec::new();
    for batch in first.by_ref().take(5) {
        found.extend(texts(&batch.expect("sound").captions));
    }
    // In the middle of a batch, too: four of its seven rows.
    let batch = first.next().expect("more").expect("sound");
    let mut state = dataset.start(&options);
    state.passed = vec![(0, 35)].into();
    state.passed.merge(&batch.passed.until(batch.places[3]));
    found.extend(&texts(&batch.captions)[..4]);
    let rest = dataset.batches(&state, Share::default(), &settings).expect("a split");
    rest.for_each(|batch| found.extend(texts(&batch.expect("sound").captions)));
    assert_eq!(found, whole);
}
