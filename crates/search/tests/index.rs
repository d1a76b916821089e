//! The index alone: what it finds, what it leaves out, what is added and deleted.

use std::path::Path;

use arrow_array::{Array, Float32Array, Int64Array, RecordBatch, StringArray};
use dataset::npy::MatrixWriter;
use dataset::{Embedding, EmbeddingFiles, Nsfw, ShardId, Silent};
use fs_err as fs;
use search::{Filter, Hit, Index, Live, Modality, Options, build};

const DIMENSIONS: usize = 48;

/// Numbers from a seed, between -1 and 1.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f32 / (1u64 << 30) as f32 - 1.0
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIMENSIONS).map(|_| self.next() + self.next() + self.next()).collect()
    }
}

fn add(a: &[f32], b: &[f32], share: f32) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + share * b).collect()
}

/// Images in clusters around one another, their captions elsewhere, as CLIP has them.
fn embeddings(shard: u32, rows: usize) -> Vec<(Embedding, Embedding)> {
    let mut world = Chance(1);
    let (images, texts) = (world.vector(), world.vector());
    let clusters: Vec<Vec<f32>> = (0..60).map(|_| world.vector()).collect();
    let mut chance = Chance(u64::from(shard) + 77);
    let mut one = |row: usize| {
        let content = add(&clusters[row * 7 % 60], &chance.vector(), 0.7);
        let image = add(&content, &images, 1.0);
        let text = add(&add(&content, &chance.vector(), 0.8), &texts, 2.0);
        (Embedding::normalized(image).expect("a direction"), Embedding::normalized(text).expect("a direction"))
    };
    (0..rows).map(&mut one).collect()
}

fn key(shard: u32, row: usize) -> String {
    format!("{shard:05}{row:04}")
}

const TAGS: [Nsfw; 4] = [Nsfw::Unlikely, Nsfw::Unlikely, Nsfw::Unsure, Nsfw::Nsfw];
const LICENSES: [&str; 3] =
    ["?", "https://creativecommons.org/licenses/by-sa/4.0/", "https://creativecommons.org/publicdomain/zero/1.0/"];
const HOSTS: [&str; 4] = ["example.com", "img.example.com", "badexample.com", "b.org"];

/// A shard in clip-retrieval's layout, whose columns follow from the row.
fn write_shard(folder: &Path, shard: u32, rows: &[(Embedding, Embedding)]) {
    write_shard_as(folder, shard, shard, rows);
}

/// The same in the files of shard `number`, with the keys of `shard`.
fn write_shard_as(folder: &Path, number: u32, shard: u32, rows: &[(Embedding, Embedding)]) {
    let files = EmbeddingFiles::of(folder, ShardId(number));
    for (path, image) in [(&files.image, true), (&files.text, false)] {
        let mut matrix = MatrixWriter::create(path, rows.len(), DIMENSIONS).expect("room");
        rows.iter().for_each(|(i, t)| matrix.push(if image { i } else { t }).expect("room"));
        matrix.publish().expect("room");
    }
    let numbers = || 0..rows.len();
    let text = |of: &dyn Fn(usize) -> String| -> std::sync::Arc<dyn Array> {
        std::sync::Arc::new(StringArray::from_iter_values(numbers().map(of)))
    };
    let table = RecordBatch::try_from_iter([
        ("image_path", text(&|row| key(shard, row))),
        ("caption", text(&|row| format!("caption {row} of {shard}"))),
        ("url", text(&|row| format!("https://user@{}:81/{row}.jpg", HOSTS[row % 4].to_uppercase()))),
        ("NSFW", text(&|row| TAGS[row % 4].name().into())),
        ("LICENSE", text(&|row| LICENSES[row % 3].into())),
        ("language", text(&|row| ["en", "de"][row % 2].into())),
        (
            "similarity",
            std::sync::Arc::new(Float32Array::from_iter_values(numbers().map(|row| row as f32 / rows.len() as f32)))
                as _,
        ),
        ("WIDTH", std::sync::Arc::new(Int64Array::from_iter_values(numbers().map(|row| row as i64 % 1000))) as _),
        ("HEIGHT", std::sync::Arc::new(Int64Array::from_iter_values(numbers().map(|row| row as i64 % 700))) as _),
    ])
    .expect("columns of one length");
    fs::create_dir_all(files.metadata.parent().expect("in a folder")).expect("room");
    let mut writer = parquet::arrow::ArrowWriter::try_new(
        fs::File::create(&files.metadata).expect("room").into_file(),
        table.schema(),
        None,
    )
    .expect("a table");
    writer.write(&table).expect("room");
    writer.close().expect("room");
}

/// Two shards of so many rows, indexed.
fn indexed(folder: &Path, rows: usize) -> Index {
    for shard in 0..2 {
        write_shard(folder, shard, &embeddings(shard, rows));
    }
    build_in(folder);
    Index::open(&folder.join("index")).expect("built")
}

fn build_in(folder: &Path) -> u64 {
    build(folder, &folder.join("index"), "weights", &Silent).expect("built").counts.kept
}

/// Rows of both shards as they are found by looking at all.
fn truth(query: &Embedding, modality: Modality, rows: usize, wanted: impl Fn(usize) -> bool) -> Vec<(usize, f64)> {
    let all = (0..2).flat_map(|shard| embeddings(shard, rows));
    let stored = |embedding: &Embedding| Embedding::from_f16(&embedding.to_f16()).expect("a direction");
    let mut found: Vec<(usize, f64)> = all
        .enumerate()
        .filter(|(row, _)| wanted(row % rows))
        .map(|(row, (image, text))| {
            (row, query.similarity(&stored(if modality == Modality::Image { &image } else { &text })))
        })
        .collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found
}

fn rows_of(hits: &[Hit]) -> Vec<usize> {
    hits.iter().map(|hit| hit.row).collect()
}

fn any(count: usize) -> Options {
    Options { count, filter: Filter::default(), ..Options::default() }
}

#[test]
fn an_exact_search_finds_what_a_plain_scan_finds() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = indexed(folder.path(), 3000); // enough for lists
    for (seed, (_, query)) in embeddings(5, 6).iter().enumerate() {
        let modality = [Modality::Image, Modality::Text][seed % 2];
        let filter = if seed % 3 == 0 { Filter::safe() } else { Filter::default() };
        let options = Options { count: 25, exact: true, modality, filter, ..Options::default() };
        let expected = truth(query, modality, 3000, |row| seed % 3 != 0 || TAGS[row % 4] == Nsfw::Unlikely);
        let found = index.search(query, &options).expect("searched");
        assert_eq!(found.len(), 25);
        for (hit, (row, score)) in found.iter().zip(&expected) {
            assert!((f64::from(hit.score) - score).abs() < 1e-5, "seed {seed}: {hit:?} instead of {row} {score}");
        }
    }
}

#[test]
fn lists_find_nearly_all_of_the_best_and_give_their_true_scores() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = indexed(folder.path(), 6000);
    for modality in [Modality::Image, Modality::Text] {
        for count in [10, 100] {
            let mut found = 0;
            for (image, text) in &embeddings(9, 30) {
                let query = if modality == Modality::Image { text } else { image };
                let options = Options { modality, ..any(count) };
                let hits = index.search(query, &options).expect("searched");
                let exact = index.search(query, &Options { exact: true, ..options }).expect("searched");
                assert_eq!(hits.len(), count);
                assert!(hits.is_sorted(), "best first");
                for hit in &hits {
                    let own = query.similarity(&index.embedding(hit.row, modality).expect("there"));
                    assert!((f64::from(hit.score) - own).abs() < 1e-5);
                }
                found += exact.iter().filter(|hit| hits.contains(hit)).count();
            }
            let recall = found as f64 / (30 * count) as f64;
            assert!(recall >= 0.93, "{modality:?}, {count} results: {recall}");
        }
    }
}

#[test]
fn filters_leave_out_what_is_not_wanted_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = indexed(folder.path(), 3000);
    let (query, rows) = (&embeddings(9, 1)[0].1, 3000);
    let list = |names: &[&str]| names.iter().map(|&name| name.into()).collect::<Vec<String>>();
    type Wanted = Box<dyn Fn(usize) -> bool>;
    let cases: Vec<(Filter, Wanted)> = vec![
        (Filter::safe(), Box::new(|row| row % 4 < 2)),
        (Filter { nsfw: Some(vec![Nsfw::Nsfw, Nsfw::Unsure]), ..Filter::default() }, Box::new(|row| row % 4 >= 2)),
        (
            Filter { similarity_min: Some(0.5), similarity_max: Some(0.6), ..Filter::default() },
            Box::new(move |row| (0.5..=0.6).contains(&(row as f32 / rows as f32))),
        ),
        (Filter { width_min: Some(900), ..Filter::default() }, Box::new(|row| row % 1000 >= 900)),
        (Filter { height_min: Some(650), ..Filter::default() }, Box::new(|row| row % 700 >= 650)),
        (Filter { languages: list(&["DE"]), ..Filter::default() }, Box::new(|row| row % 2 == 1)),
        (Filter { licenses: list(&["by-sa"]), ..Filter::default() }, Box::new(|row| row % 3 == 1)),
        (Filter { licenses: list(&["any"]), ..Filter::default() }, Box::new(|row| row % 3 != 0)),
        (Filter { licenses: list(&[LICENSES[2]]), ..Filter::default() }, Box::new(|row| row % 3 == 2)),
        (Filter { hosts: list(&["Example.com"]), ..Filter::default() }, Box::new(|row| row % 4 < 2)),
        (Filter { hosts: list(&["img.example.com", "b.org"]), ..Filter::default() }, Box::new(|row| row % 4 % 2 == 1)),
        (Filter { hosts: list(&["nowhere.net"]), ..Filter::default() }, Box::new(|_| false)),
        (
            Filter { languages: list(&["en"]), width_min: Some(990), ..Filter::safe() },
            Box::new(|row| row % 4 == 0 && row % 1000 >= 990),
        ),
    ];
    for (filter, wanted) in cases {
        let expected: Vec<usize> =
            truth(query, Modality::Image, rows, &wanted).into_iter().take(10).map(|(row, _)| row).collect();
        for exact in [true, false] {
            let options = Options { exact, filter: filter.clone(), ..any(10) };
            let found = rows_of(&index.search(query, &options).expect("searched"));
            assert!(found.iter().all(|row| wanted(row % rows)), "{filter:?}: {found:?}");
            assert_eq!(found.len(), expected.len(), "{filter:?}");
            let same = found.iter().filter(|row| expected.contains(row)).count();
            assert!(same + 2 >= expected.len() && (!exact || found == expected), "{filter:?}: {found:?} {expected:?}");
        }
    }
}

#[test]
fn pages_of_results_follow_one_another() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = indexed(folder.path(), 40);
    let query = &embeddings(3, 1)[0].0;
    let page = |offset, count| rows_of(&index.search(query, &Options { offset, ..any(count) }).expect("searched"));
    let all = page(0, 80);
    assert_eq!(all.len(), 80);
    assert_eq!([page(0, 30), page(30, 30), page(60, 30)].concat(), all);
    assert!(page(80, 10).is_empty());
}

#[test]
fn shards_that_come_later_are_a_further_segment_and_numbers_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = indexed(folder.path(), 50);
    let segments = || {
        let folders = fs::read_dir(folder.path().join("index")).expect("built").map(|entry| entry.expect("readable"));
        let mut names: Vec<String> = folders
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let before = segments();
    assert_eq!((before.len(), index.len()), (1, 100));
    write_shard(folder.path(), 2, &embeddings(2, 30));
    assert_eq!(build_in(folder.path()), 130);
    let after = segments();
    assert!(after.len() == 2 && after.contains(&before[0]), "{before:?} {after:?}");
    let grown = Index::open(&folder.path().join("index")).expect("built");
    let new = &embeddings(2, 30)[4].0;
    let hit = grown.search(new, &any(1)).expect("searched")[0];
    assert_eq!((hit.row, grown.rows(&[hit.row]).expect("there")[0].caption()), (104, "caption 4 of 2"));
    assert_eq!(grown.row_of(&key(1, 7)).expect("read"), Some(57));
    // A shard that has changed makes all of it anew, and what was there is gone; what somebody else put there is not.
    let own = folder.path().join("index/2026");
    fs::create_dir(&own).expect("room");
    write_shard(folder.path(), 0, &embeddings(8, 20));
    assert_eq!(build_in(folder.path()), 100);
    assert!(own.is_dir());
    fs::remove_dir(own).expect("there");
    assert!(segments().len() == 1 && !segments().contains(&before[0]));
    // Who has the old one open still has it.
    assert_eq!(index.search(&embeddings(0, 50)[3].0, &any(1)).expect("searched")[0].row, 3);
}

#[test]
fn an_index_of_the_same_shards_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(indexed(folder.path(), 5));
    let marker = folder.path().join("index/index.json");
    let made = || fs::metadata(&marker).expect("there").modified().expect("a time");
    let before = made();
    assert_eq!(build_in(folder.path()), 10);
    assert_eq!(made(), before, "not written again");
}

#[test]
fn what_is_deleted_is_found_by_no_search_and_stays_deleted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = indexed(folder.path(), 3000);
    let other = Index::open(&folder.path().join("index")).expect("built");
    let query = &embeddings(1, 12)[11].0;
    let found = |index: &Index, exact| rows_of(&index.search(query, &Options { exact, ..any(5) }).expect("searched"));
    assert_eq!(found(&index, false)[0], 3011);
    let error = index.delete(&[key(1, 11), "nobody".into(), "nothing".into()]).expect_err("unknown").to_string();
    assert!(error.contains("\"nobody\"") && error.contains("2 of 3"), "{error}");
    assert_eq!((index.deleted(), found(&index, false)[0]), (0, 3011), "nothing is deleted when a key is unknown");
    index.delete(&[key(1, 11)]).expect("known");
    index.delete(&[key(0, 0)]).expect("known");
    other.refresh().expect("read");
    let again = Index::open(&folder.path().join("index")).expect("built");
    for index in [&index, &other, &again] {
        assert_eq!(index.deleted(), 2);
        assert!(!found(index, false).contains(&3011) && !found(index, true).contains(&3011));
        assert!(index.is_deleted(3011) && !index.admits(0, &Filter::default()));
    }
    // A shard that has the key once more does not bring it back.
    write_shard_as(folder.path(), 2, 1, &embeddings(2, 12));
    build_in(folder.path());
    let doubled = Index::open(&folder.path().join("index")).expect("built");
    assert_eq!(doubled.deleted(), 3);
    fs::remove_file(EmbeddingFiles::of(folder.path(), ShardId(2)).metadata).expect("there");
    // The key stays deleted when its shard is indexed again.
    write_shard(folder.path(), 0, &embeddings(8, 20));
    build_in(folder.path());
    let anew = Index::open(&folder.path().join("index")).expect("built");
    assert_eq!(anew.deleted(), 2);
    assert!(anew.is_deleted(anew.row_of(&key(1, 11)).expect("read").expect("there")));
}

#[test]
fn a_live_index_takes_the_new_one_and_what_is_deleted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let live = Live::new(indexed(folder.path(), 10));
    let held = live.index();
    Index::open(&folder.path().join("index")).expect("built").delete(&[key(0, 3)]).expect("known");
    assert!(live.index().is_deleted(3), "at once");
    write_shard(folder.path(), 2, &embeddings(2, 10));
    build_in(folder.path());
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while live.index().len() != 30 {
        assert!(std::time::Instant::now() < until, "the new index is not taken");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(live.index().is_deleted(3));
    assert_eq!(held.search(&embeddings(0, 10)[1].0, &any(1)).expect("searched")[0].row, 1);
    // One that is damaged is not taken.
    fs::write(folder.path().join("index/index.json"), "{").expect("room");
    for _ in 0..20 {
        assert_eq!(live.index().len(), 30);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn work_that_was_interrupted_is_gone_on_with_and_makes_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(indexed(folder.path(), 2500));
    let index = folder.path().join("index");
    let segment = fs::read_dir(&index).expect("built").map(|entry| entry.expect("readable").path());
    let segment = segment.into_iter().find(|path| path.is_dir()).expect("a segment");
    let files = |folder: &Path| -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(folder).expect("there").map(|entry| entry.expect("readable"));
        let mut files: Vec<_> = entries
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).expect("readable")))
            .collect();
        files.sort();
        files
    };
    let whole = files(&segment);
    assert_eq!(
        whole.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["facts.bin", "image.lists", "image.npy", "metadata.arrow", "segment.json", "text.lists", "text.npy"]
    );
    for gone in [&["segment.json"][..], &["segment.json", "text.lists", "facts.bin"], &["segment.json", "image.npy"]] {
        fs::remove_file(index.join("index.json")).expect("there");
        gone.iter().for_each(|name| fs::remove_file(segment.join(name)).expect("there"));
        assert_eq!(build_in(folder.path()), 5000);
        assert!(files(&segment) == whole, "without {gone:?}");
    }
}

#[test]
fn damage_names_its_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    drop(indexed(folder.path(), 2500));
    let index = folder.path().join("index");
    let segment = fs::read_dir(&index).expect("built").map(|entry| entry.expect("readable").path());
    let segment = segment.into_iter().find(|path| path.is_dir()).expect("a segment");
    for name in ["facts.bin", "image.lists", "image.npy", "metadata.arrow"] {
        let whole = fs::read(segment.join(name)).expect("built");
        fs::write(segment.join(name), &whole[..whole.len() - 2]).expect("room");
        let error = Index::open(&index).expect_err("shorter").to_string();
        assert!(error.contains(name), "{error}");
        // As long as it was, and other bytes: an error, or an index that answers, and no panic.
        for at in (0..400).step_by(3).chain((400..whole.len()).step_by(whole.len() / 60)) {
            let mut changed = whole.clone();
            changed[at..(at + 4).min(whole.len() - 2)].iter_mut().for_each(|byte| *byte ^= 0x55);
            fs::write(segment.join(name), &changed).expect("room");
            if let Ok(index) = Index::open(&index) {
                let _ = index.search(&embeddings(0, 1)[0].0, &any(5)).expect("answers");
                let _ = index.rows(&[0, 4999]);
            }
        }
        fs::write(segment.join(name), &whole).expect("room");
    }
    fs::write(&EmbeddingFiles::of(folder.path(), ShardId(1)).image, b"\x93NUMPY").expect("room");
    let error = build(folder.path(), &index, "weights", &Silent).expect_err("damaged").to_string();
    assert!(error.contains("img_emb_1.npy"), "{error}");
    let error = Index::open(folder.path()).expect_err("no index").to_string();
    assert!(error.contains("no index"), "{error}");
}

#[test]
fn images_alone_and_tables_without_keys_are_indexed_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_shard(folder.path(), 0, &embeddings(0, 20));
    fs::remove_dir_all(folder.path().join("text_emb")).expect("there");
    let files = EmbeddingFiles::of(folder.path(), ShardId(0));
    let captions: std::sync::Arc<dyn Array> = std::sync::Arc::new(StringArray::from(vec!["a"; 20]));
    let table = RecordBatch::try_from_iter([("caption", captions)]).expect("a column");
    let file = fs::File::create(&files.metadata).expect("room").into_file();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, table.schema(), None).expect("a table");
    writer.write(&table).expect("room");
    writer.close().expect("room");
    build_in(folder.path());
    let index = Index::open(&folder.path().join("index")).expect("built");
    let query = &embeddings(0, 20)[13].0;
    assert_eq!(index.modalities(), [Modality::Image]);
    assert_eq!(index.search(query, &any(1)).expect("searched")[0].row, 13);
    let error = index.search(query, &Options { modality: Modality::Text, ..any(1) }).expect_err("none").to_string();
    assert!(error.contains("no text embeddings"), "{error}");
    index.delete(&["13".into()]).expect("its number is its key");
    assert_ne!(index.search(query, &any(1)).expect("searched")[0].row, 13);
}
