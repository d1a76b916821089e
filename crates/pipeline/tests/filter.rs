//! `filter` on made-up embeddings: the rules against a golden file, and what the stage needs and leaves.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use dataset::npy::MatrixWriter;
use dataset::schema::{CuratedRow, EmbeddingRow};
use dataset::table::{further_columns, read_table, write_table};
use dataset::{Counts, Embedder, Embedding, EmbeddingFiles, Marker, Pixels, Result, Scorer, ShardId, Silent};
use fs_err as fs;
use pipeline::filter::{self, Config, Head, Rules, Scorers, prompts};

const DIMENSIONS: usize = 32;

/// splitmix64, as `data/filter_rules.py` has it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 32) as usize % bound
    }

    fn vector(&mut self) -> [i64; DIMENSIONS] {
        std::array::from_fn(|_| self.below(2001) as i64 - 1000)
    }
}

/// Gives every text a direction that follows from its hash, FNV-1a.
struct Hashed;

fn direction(text: &str) -> [i64; DIMENSIONS] {
    let hash = |value: u64, byte: u8| (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    Random(text.bytes().fold(0xCBF2_9CE4_8422_2325, hash)).vector()
}

fn embedding(values: [i64; DIMENSIONS]) -> Embedding {
    Embedding::normalized(values.map(|value| value as f32).to_vec()).expect("a direction")
}

impl Embedder for Hashed {
    fn dimensions(&self) -> usize {
        DIMENSIONS
    }
    fn images(&self, _: &[Pixels]) -> Result<Vec<Embedding>> {
        unreachable!("only texts are asked for")
    }
    fn texts(&self, batch: &[&str]) -> Result<Vec<Embedding>> {
        Ok(batch.iter().map(|text| embedding(direction(text))).collect())
    }
    fn fingerprint(&self) -> String {
        "hashed".into()
    }
}

/// A pair that is embedded.
struct Made {
    image: Embedding,
    caption: String,
    similarity: Option<f64>,
}

fn row(number: usize, made: &Made) -> EmbeddingRow {
    let key = format!("{number:09}");
    EmbeddingRow {
        image_path: key.clone(),
        caption: made.caption.clone(),
        url: format!("http://a.com/{number}.jpg"),
        key,
        uid: String::new(),
        page_url: String::new(),
        license: None,
        language: None,
        width: 256,
        height: 256,
        original_width: 256,
        original_height: 256,
        sha256: String::new(),
        similarity: made.similarity,
    }
}

/// Writes one shard; every text is the first picture.
fn write_embeddings(folder: &Path, made: &[Made]) {
    let files = EmbeddingFiles::of(folder, ShardId(0));
    let mut images = MatrixWriter::create(&files.image, made.len(), DIMENSIONS).expect("room");
    let mut texts = MatrixWriter::create(&files.text, made.len(), DIMENSIONS).expect("room");
    for pair in made {
        images.push(&pair.image).expect("room");
        texts.push(&made[0].image).expect("room");
    }
    images.publish().expect("room");
    texts.publish().expect("room");
    write_table(&files.metadata, made.iter().enumerate().map(|(number, made)| row(number, made))).expect("room");
}

/// Filters with the prompts that are there, or else those of [`Hashed`], which are then there.
fn filtered(config: &Config, embeddings: &Path, output: &Path) -> (Counts, Vec<CuratedRow>) {
    filtered_by(config, &Scorers::new(), embeddings, output)
}

/// The same with heads.
fn filtered_by(config: &Config, heads: &Scorers, embeddings: &Path, output: &Path) -> (Counts, Vec<CuratedRow>) {
    let prompts = filter::stored_prompts(embeddings).expect("sound");
    let prompts = prompts.unwrap_or_else(|| filter::embed_prompts(&Hashed).expect("embedded"));
    let summary = filter::run(config, &prompts, heads, embeddings, output, &Silent).expect("filtered");
    filter::store_prompts(&prompts, embeddings).expect("room");
    summary.counts.check().expect("every row has an end");
    let rows = read_table::<CuratedRow>(&output.join("00000.parquet")).expect("sound");
    assert_eq!(rows.len() as u64, summary.counts.rows);
    let mut reasons = BTreeMap::new();
    rows.iter().filter_map(|row| row.reason.clone()).for_each(|reason| *reasons.entry(reason).or_insert(0) += 1);
    assert_eq!(reasons, summary.counts.dropped, "the funnel has what the rows say");
    assert!(rows.iter().all(|row| row.is_kept() == row.reason.is_none()));
    (summary.counts, rows)
}

const WORDS: [&str; 20] = [
    "a",
    "red",
    "car",
    "on",
    "the",
    "beach",
    "teen",
    "Teenager",
    "kidney",
    "KID",
    "child",
    "Children",
    "baby",
    "Babysitter",
    "man",
    "dress",
    "old",
    "house",
    "photo",
    "of",
];

/// The pairs of `data/filter_rules.py`.
fn golden_pairs(count: usize) -> Vec<Made> {
    let mut random = Random(2021);
    let texts = |list: &[prompts::Prompt]| list.iter().map(|prompt| direction(prompt.text)).collect::<Vec<_>>();
    let (nsfw, age, animals) = (texts(&prompts::NSFW), texts(&prompts::AGE), texts(&prompts::ANIMALS));
    let mut pair = || {
        let mut image = random.vector().map(|value| value * 2);
        for (list, weight) in [(&nsfw, 5), (&nsfw, 4), (&age, 3), (&animals, 3)] {
            let direction = list[random.below(list.len())];
            image.iter_mut().zip(direction).for_each(|(value, more)| *value += more * weight);
        }
        let words: Vec<_> = (0..1 + random.below(4)).map(|_| WORDS[random.below(WORDS.len())]).collect();
        let similarity = ((280 + random.below(100)) as f64 / 1000.0) as f32;
        Made { image: embedding(image), caption: words.join(" "), similarity: Some(f64::from(similarity)) }
    };
    (0..count).map(|_| pair()).collect()
}

#[test]
fn every_decision_is_that_of_the_rule_before_and_after_the_comma() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let embeddings = folder.path().join("embeddings");
    let golden: HashMap<&str, &str> =
        include_str!("data/filter-rules.txt").lines().filter_map(|line| line.split_once(' ')).collect();
    write_embeddings(&embeddings, &golden_pairs(10_000));
    let mut tags = Vec::new();
    for (name, rules) in [("laion400m", Rules::Laion400m), ("laion400m-2021", Rules::Laion400m2021)] {
        let config = Config { rules, ..Config::laion400m() };
        let (counts, rows) = filtered(&config, &embeddings, &folder.path().join(name));
        assert_eq!((counts.rows, golden[name].len()), (10_000, 20_000));
        for (place, row) in rows.iter().enumerate() {
            let tag = match row.nsfw.as_str() {
                "UNLIKELY" => 'U',
                "UNSURE" => '?',
                "NSFW" => 'N',
                other => unreachable!("tag {other}"),
            };
            let end = match row.reason.as_deref() {
                None => 'k',
                Some("similarity_too_low") => 's',
                Some("picture_under_age") => 'p',
                Some("caption_under_age") => 'c',
                Some("animal") => 'a',
                Some(other) => unreachable!("reason {other}"),
            };
            let expected = &golden[name][place * 2..place * 2 + 2];
            assert_eq!(String::from_iter([tag, end]), expected, "{name}, row {place}: {row:?}");
        }
        let column = |tag: fn(&CuratedRow) -> &String| rows.iter().map(tag).cloned().collect::<Vec<_>>();
        tags.push([column(|row| &row.nsfw), column(|row| &row.nsfw_meant), column(|row| &row.nsfw_2021)]);
    }
    let [meant, written] = &tags[..] else { unreachable!("two sets of rules") };
    assert_eq!(meant[1..], written[1..], "both tags stand in either table");
    assert_eq!((&meant[0], &written[0]), (&meant[1], &written[2]), "and the one that decided beside them");
    assert!(meant[1] != meant[2]);
}

#[test]
fn another_threshold_needs_no_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let embeddings = folder.path().join("embeddings");
    write_embeddings(&embeddings, &golden_pairs(200));
    assert_eq!(filter::stored_prompts(&embeddings).expect("nothing there"), None);
    let (strict, before) = filtered(&Config::laion400m(), &embeddings, &folder.path().join("strict"));
    let stored = filter::stored_prompts(&embeddings).expect("sound").expect("left by the first run");
    assert_eq!(stored, filter::embed_prompts(&Hashed).expect("embedded"), "bit for bit");
    let loose = Config { similarity_min: 0.2, ..Config::laion400m() };
    let (loose, after) = filtered(&loose, &embeddings, &folder.path().join("loose"));
    assert!(strict.dropped["similarity_too_low"] > 0 && !loose.dropped.contains_key("similarity_too_low"));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.nsfw, before.similarity), (&after.nsfw, after.similarity));
        assert!(before.is_kept() <= after.is_kept());
    }
    let tags = Config { tag_only: true, ..Config::laion400m() };
    let (tagged, rows) = filtered(&tags, &embeddings, &folder.path().join("tagged"));
    assert_eq!(tagged.dropped.keys().collect::<Vec<_>>(), ["similarity_too_low"]);
    assert!(rows.iter().any(|row| row.nsfw == "NSFW" && row.is_kept()));

    // The embeddings of another model are not judged by these prompts.
    let marker = Marker::of_shard(&embeddings, ShardId(0));
    let made_by = serde_json::json!({"model": "b32", "weights": "others"});
    Marker::finish(&marker, &made_by, Vec::new(), Counts::default(), Vec::new()).expect("room");
    assert_eq!(filter::stored_prompts(&embeddings).expect("sound"), None);
    let refused =
        filter::run(&Config::laion400m(), &stored, &Scorers::new(), &embeddings, &folder.path().join("other"), &Silent);
    let refused = refused.expect_err("another model").to_string();
    assert!(["00000.json", "others", "hashed"].iter().all(|part| refused.contains(part)), "{refused}");
}

#[test]
fn the_similarity_is_the_stored_one_or_that_of_the_matrices() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let embeddings = folder.path().join("embeddings");
    let mut pairs = golden_pairs(3);
    // 0.3 as float32 is kept; the next smaller float32 is not, though both are 0.3 as float16.
    let just_below = f32::from_bits(0.3f32.to_bits() - 1);
    for (pair, similarity) in pairs.iter_mut().zip([None, Some(0.3f32), Some(just_below)]) {
        pair.similarity = similarity.map(f64::from);
    }
    write_embeddings(&embeddings, &pairs);
    let config = Config { tag_only: true, ..Config::laion400m() };
    let (_, rows) = filtered(&config, &embeddings, &folder.path().join("curated"));
    assert!((rows[0].similarity - 1.0).abs() < 1e-3, "its text is the picture itself: {:?}", rows[0]);
    assert_eq!(rows.iter().map(CuratedRow::is_kept).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(rows[1].similarity, f64::from(0.3f32));
}

#[test]
fn of_nearly_the_same_pictures_the_first_that_is_kept_stays() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let embeddings = folder.path().join("embeddings");
    let mut random = Random(7);
    let mut pairs = Vec::new();
    for picture in 0..60 {
        let values = random.vector();
        for copy in 0..3 {
            let mut near = values;
            near[copy] += 40; // of about 3,300: a cosine of 0.9999
            // The first copy of every other picture is dropped for another reason, and takes no other with it.
            let similarity = if copy == 0 && picture % 2 == 0 { 0.1 } else { 0.4 };
            let caption = format!("picture {picture}");
            pairs.push(Made { image: embedding(near), caption, similarity: Some(similarity) });
        }
    }
    write_embeddings(&embeddings, &pairs);
    let config = Config { near_duplicates: Some(0.96), tag_only: true, ..Config::laion400m() };
    let (counts, rows) = filtered(&config, &embeddings, &folder.path().join("curated"));
    assert_eq!((counts.kept, counts.dropped["near_duplicate"], counts.dropped["similarity_too_low"]), (60, 90, 30));
    for (picture, copies) in rows.chunks(3).enumerate() {
        let stays = if picture % 2 == 0 { [false, true, false] } else { [true, false, false] };
        assert_eq!(copies.iter().map(CuratedRow::is_kept).collect::<Vec<_>>(), stays, "{copies:?}");
    }
    let prompts = filter::stored_prompts(&embeddings).expect("sound").expect("left by the first run");
    for bound in [0.0, 1.5, f64::NAN] {
        let config = Config { near_duplicates: Some(bound), ..Config::laion400m() };
        let refused =
            filter::run(&config, &prompts, &Scorers::new(), &embeddings, &folder.path().join("refused"), &Silent);
        assert!(refused.expect_err("no bound").to_string().contains("near_duplicates"));
    }
    let marker = fs::read_to_string(folder.path().join("curated/00000.json")).expect("written");
    assert!(marker.contains("near_duplicates"), "{marker}");
}

/// Scores a picture by one of its dimensions; not a number where that is 0.
struct Dimension(usize);

impl Scorer for Dimension {
    fn scores(&self, images: &[Embedding]) -> Result<Vec<f32>> {
        Ok(images.iter().map(|image| image.values()[self.0]).map(|v| if v == 0.0 { f32::NAN } else { v }).collect())
    }
    fn fingerprint(&self) -> String {
        format!("dimension {}", self.0)
    }
}

#[test]
fn heads_score_every_picture_and_drop_what_is_out_of_bounds() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let embeddings = folder.path().join("embeddings");
    let mut random = Random(11);
    let mut pairs: Vec<_> = (0..3000)
        .map(|_| Made { image: embedding(random.vector()), caption: "a car".into(), similarity: Some(0.4) })
        .collect();
    let mut without = random.vector();
    (without[0], without[1]) = (0, 300);
    pairs[1500].image = embedding(without);
    pairs[7].similarity = Some(0.1);
    write_embeddings(&embeddings, &pairs);
    let head = |min: Option<f64>, max: Option<f64>| Head { file: "anywhere".into(), min, max };
    let config = |first: Head, second: Head| Config {
        heads: [("first".into(), first), ("second".into(), second)].into(),
        tag_only: true,
        ..Config::laion400m()
    };
    let open: Scorers = (0..2).map(|at| (["first", "second"][at].into(), Arc::new(Dimension(at)) as _)).collect();

    let output = folder.path().join("curated");
    let bounded = config(head(Some(-0.1), None), head(Some(-0.2), Some(0.1)));
    let (counts, rows) = filtered_by(&bounded, &open, &embeddings, &output);
    let further = further_columns::<CuratedRow>(&output.join("00000.parquet")).expect("sound");
    let names: Vec<_> = further.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!((names, further.num_rows()), (vec!["first".to_owned(), "second".to_owned()], 3000));
    let mut nulls = [0, 0];
    let mut reasons = BTreeMap::new();
    for (pair, row) in pairs.iter().zip(&rows) {
        let stored = Embedding::from_f16(&pair.image.to_f16()).expect("a direction");
        let (first, second) = (stored.values()[0], stored.values()[1]);
        let expected = match () {
            () if row.similarity < 0.3 => Some("similarity_too_low"),
            () if first == 0.0 || first < -0.1 || second == 0.0 || second < -0.2 => Some("score_too_low"),
            () if second > 0.1 => Some("score_too_high"),
            () => None,
        };
        assert_eq!(row.reason.as_deref(), expected, "{first} {second}");
        nulls.iter_mut().zip([first, second]).for_each(|(nulls, value)| *nulls += usize::from(value == 0.0));
        *reasons.entry(expected).or_insert(0) += 1;
    }
    assert_eq!(further.columns().iter().map(|column| column.null_count()).collect::<Vec<_>>(), nulls);
    assert!(nulls[0] > 0 && reasons.len() == 4 && reasons.values().all(|&rows| rows > 0), "{reasons:?}");
    assert_eq!(counts.kept, reasons[&None]);

    // The same again is nothing to do, wherever the file lies; other bounds and other weights are another result.
    let mut moved = bounded.clone();
    moved.heads.values_mut().for_each(|head| head.file = "elsewhere".into());
    let written = || fs::metadata(output.join("00000.parquet")).and_then(|file| file.modified()).expect("written");
    let before = written();
    assert_eq!(filtered_by(&moved, &open, &embeddings, &output).0, counts);
    assert_eq!(written(), before);
    let free = config(head(None, None), head(None, None));
    assert_eq!(filtered_by(&free, &open, &embeddings, &folder.path().join("free")).0.kept, 2999);
    let swapped: Scorers = (0..2).map(|at| (["second", "first"][at].into(), Arc::new(Dimension(at)) as _)).collect();
    let (others, _) = filtered_by(&bounded, &swapped, &embeddings, &folder.path().join("others"));
    assert_ne!(others.dropped, counts.dropped);

    // Settings that make no sense, and a folder that has the result of others.
    let prompts = filter::stored_prompts(&embeddings).expect("sound").expect("left by the first run");
    let refused = |config: &Config, heads: &Scorers, part: &str| {
        let refused = filter::run(config, &prompts, heads, &embeddings, &output, &Silent);
        let refused = refused.expect_err(part).to_string();
        assert!(refused.contains(part), "{refused}");
    };
    refused(&config(head(Some(0.5), Some(0.4)), Head::default()), &open, "head first: no score");
    refused(&config(Head::default(), head(Some(f64::NAN), None)), &open, "head second: no score");
    refused(&bounded, &Scorers::new(), "first is not open");
    refused(&bounded, &swapped, "other settings");
    let named = Config { heads: [("similarity".into(), Head::default())].into(), ..Config::laion400m() };
    refused(&named, &open, "another column");
}

/// From ten parts on, clip-retrieval pads their numbers with zeros to one length (`clip_inference/writer.py`).
#[test]
fn parts_of_clip_retrieval_are_filtered_however_their_numbers_are_padded() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (embeddings, output) = (folder.path().join("embeddings"), folder.path().join("curated"));
    let name = |kind: &str, digits: &str, ending: &str| embeddings.join(format!("{kind}/{kind}_{digits}.{ending}"));
    let pairs = golden_pairs(24);
    for (part, pairs) in pairs.chunks(2).enumerate() {
        write_embeddings(&embeddings, pairs);
        for (kind, ending) in [("img_emb", "npy"), ("text_emb", "npy"), ("metadata", "parquet")] {
            fs::rename(name(kind, "0", ending), name(kind, &format!("{part:02}"), ending)).expect("written");
        }
    }
    let prompts = filter::embed_prompts(&Hashed).expect("embedded");
    let run = || filter::run(&Config::laion400m(), &prompts, &Scorers::new(), &embeddings, &output, &Silent);
    assert_eq!(run().expect("filtered").counts.rows, 24);
    let row = |part: usize| read_table::<CuratedRow>(&output.join(format!("{part:05}.parquet"))).expect("sound");
    let captions = (0..12).flat_map(row).map(|row| row.caption);
    assert!(captions.eq(pairs.into_iter().map(|pair| pair.caption)), "every part once, in order");

    let says = |parts: &[&str]| {
        let error = run().expect_err("no whole set of parts").to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    fs::write(name("metadata", "3", "parquet"), "").expect("room");
    says(&["metadata_00.parquet beside metadata_3.parquet", "different lengths"]);
    fs::remove_file(name("metadata", "3", "parquet")).expect("written");
    fs::rename(name("metadata", "05", "parquet"), folder.path().join("away")).expect("there");
    says(&["part 05 is missing", "there is part 06"]);
    fs::rename(folder.path().join("away"), name("metadata", "05", "parquet")).expect("there");
    fs::remove_file(name("text_emb", "11", "npy")).expect("there");
    says(&["text_emb_11.npy"]);
}
