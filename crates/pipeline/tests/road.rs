//! `download`, `embed`, `filter` and `pack` on the miniature web.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use dataset::npy::MatrixReader;
use dataset::schema::{CuratedRow, EmbeddingRow, ImageRow, KeptRow, Pair, ReleaseRow};
use dataset::table::{read_table, write_table};
use dataset::tfds::{Config as Tfds, TfdsReader};
use dataset::webdataset::read_samples;
use dataset::{
    Embedder, Embedding, EmbeddingFiles, Packages, Pixels, Result, Run, SampleKey, ShardId, Silent, list_shards,
};
use fs_err as fs;
use miniweb::{Fate, Server, Settings, World};
use pipeline::{collect, download, embed, filter, pack, verify};

/// Sees the mean colour of a picture, and reads a caption by its letters: enough to tell some pairs from others.
struct ColorEmbedder;

impl Embedder for ColorEmbedder {
    fn dimensions(&self) -> usize {
        512
    }
    fn images(&self, batch: &[Pixels]) -> Result<Vec<Embedding>> {
        batch.iter().map(|pixels| spread(pixels.rgb().iter().map(|&byte| u64::from(byte)))).collect()
    }
    fn texts(&self, batch: &[&str]) -> Result<Vec<Embedding>> {
        batch.iter().map(|text| spread(text.bytes().map(|byte| u64::from(byte) * 3))).collect()
    }
    fn fingerprint(&self) -> String {
        "colors".into()
    }
}

fn spread(values: impl Iterator<Item = u64>) -> Result<Embedding> {
    let mut vector = vec![1.0f32; 512];
    values
        .enumerate()
        .for_each(|(i, value)| vector[i % 512] += value as f32 / 100.0 * if i % 3 == 0 { -1.0 } else { 1.0 });
    Embedding::normalized(vector)
}

struct Web {
    folder: tempfile::TempDir,
    world: Arc<World>,
    _server: Server,
}

impl Web {
    fn run(&self) -> Run {
        Run::new(self.folder.path().join("run"))
    }

    /// Collects the crawl of the world.
    fn collect(&self) {
        let archives = miniweb::write_crawl(&self.world, &self.folder.path().join("crawl")).expect("room");
        let config = collect::Config { shard_rows: 100, ..collect::Config::laion400m() };
        collect::run(&config, &archives, &self.run().pairs(), &Silent).expect("collected");
    }
}

fn web(pictures: usize) -> Web {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let world = Arc::new(World::new(Settings { seed: 11, pictures, port }));
    let server = miniweb::serve(world.clone(), listener).expect("a server");
    let web = Web { folder: tempfile::tempdir().expect("a temporary folder"), world, _server: server };
    web.collect();
    web
}

fn settings() -> download::Config {
    download::Config { allow_private: true, timeout_ms: 4000, ..download::Config::laion400m() }
}

fn rows(folder: &Path) -> Vec<ImageRow> {
    let shards = list_shards(folder, "parquet").expect("downloaded");
    shards.iter().flat_map(|id| read_table::<ImageRow>(&folder.join(format!("{id}.parquet"))).expect("sound")).collect()
}

#[test]
fn every_fault_of_the_web_has_its_name() {
    let web = web(300);
    let run = web.run();
    let summary = download::run(&settings(), &run.pairs(), &run.images(), &Silent).expect("downloaded");
    summary.counts.check().expect("every pair has an end");
    let fates: HashMap<_, _> =
        web.world.truth().iter().rev().map(|row| ((row.url.as_str(), row.caption.as_str()), row.fate)).collect();
    let rows = rows(&run.images());
    assert_eq!(rows.len() as u64, summary.counts.rows);
    let mut seen = HashMap::new();
    for row in &rows {
        let fate = fates[&(row.url.as_str(), row.caption.as_str())];
        let expected = match fate {
            Fate::NotFound | Fate::Forbidden | Fate::RedirectNowhere => "http_4xx",
            Fate::ServerError => "http_5xx",
            Fate::Closed | Fate::TruncatedBody => "connection_closed",
            Fate::Timeout => "timeout",
            Fate::RedirectLoop => "redirect",
            Fate::HtmlAsImage => "not_an_image",
            Fate::TruncatedFile => "image_damaged",
            Fate::TinyImage => "image_too_few_bytes",
            Fate::NoAi => "robots_tag",
            _ if row.bytes < Some(5000) => "image_too_few_bytes", // a plain scene makes a small file
            _ => "kept",
        };
        assert_eq!(row.error_code, expected, "{fate:?}: {row:?}");
        let success = expected == "kept";
        assert_eq!(row.is_success(), success, "{row:?}");
        assert_eq!(success, row.error_message.is_none(), "{row:?}");
        if success {
            assert_eq!((row.width, row.height, row.http_status), (Some(256), Some(256), Some(200)), "{row:?}");
            assert!(row.original_width >= Some(240) && row.bytes >= Some(5000), "{row:?}");
            let lengths = [&row.md5, &row.sha1, &row.sha256, &row.phash].map(|hash| hash.as_ref().map(String::len));
            assert_eq!(lengths, [Some(32), Some(40), Some(64), Some(16)], "{row:?}");
        }
        if fate == Fate::GoodRedirect {
            assert!(row.final_url.as_ref().is_some_and(|url| *url != row.url && url.ends_with(".2")), "{row:?}");
        }
        let attempts = if ["connection_closed", "http_5xx"].contains(&expected) { 2 } else { 1 };
        assert_eq!(row.attempts, attempts, "{row:?}");
        *seen.entry(fate).or_insert(0) += 1;
    }
    assert!(seen.len() >= 17, "{seen:?}");
}

#[test]
fn the_shards_are_img2datasets_and_a_second_call_asks_nobody() {
    let web = web(150);
    let run = web.run();
    download::run(&settings(), &run.pairs(), &run.images(), &Silent).expect("downloaded");
    let id = ShardId(0);
    let kept: Vec<_> = read_table::<ImageRow>(&run.images().join("00000.parquet"))
        .expect("sound")
        .into_iter()
        .filter(ImageRow::is_success)
        .collect();
    let mut samples = Vec::new();
    read_samples(&run.images().join(format!("{id}.tar")), |sample| {
        samples.push(sample);
        Ok(())
    })
    .expect("sound");
    assert_eq!(samples.len(), kept.len());
    for (sample, row) in samples.iter().zip(&kept) {
        assert_eq!((sample.key.as_str(), sample.key.len()), (row.key.as_str(), 9), "sorted by key");
        assert_eq!(sample.files["txt"], row.caption.as_bytes());
        let json: serde_json::Value = serde_json::from_slice(&sample.files["json"]).expect("JSON");
        for (name, value) in [("url", &row.url), ("caption", &row.caption), ("key", &row.key), ("status", &row.status)]
        {
            assert_eq!(json[name].as_str(), Some(value.as_str()));
        }
        assert_eq!(json["original_width"].as_i64(), row.original_width.map(i64::from));
        let picture = image::load_from_memory(&sample.files["jpg"]).expect("decodable");
        assert_eq!((picture.width(), picture.height()), (256, 256));
    }
    let asked = web._server.requests();
    download::run(&settings(), &run.pairs(), &run.images(), &Silent).expect("done");
    assert_eq!(web._server.requests(), asked);
    let other = download::Config { image_size: 128, ..settings() };
    assert!(download::run(&other, &run.pairs(), &run.images(), &Silent).is_err(), "other settings");
}

#[test]
fn private_addresses_are_asked_only_when_that_is_allowed() {
    let web = web(60);
    let run = web.run();
    let asked = web._server.requests();
    let guarded = download::Config { allow_private: false, ..settings() };
    // A redirect from a public host, a name, and an address that is written out are all checked; here all are loopback.
    let mut pairs = read_table::<Pair>(&run.pairs().join("00000.parquet")).expect("collected");
    let port = web.world.settings().port;
    for (pair, url) in pairs.iter_mut().zip([
        format!("http://127.0.0.1:{port}/a.jpg"),
        format!("http://[::1]:{port}/"),
        "http://169.254.169.254/latest".into(),
        "file:///etc/passwd".into(),
        format!("http://2130706433:{port}/"),
    ]) {
        pair.url = url;
    }
    write_table(&run.pairs().join("00000.parquet"), pairs).expect("room");
    let summary = download::run(&guarded, &run.pairs(), &run.images(), &Silent).expect("downloaded");
    assert_eq!(summary.counts.dropped["url_scheme"], 1);
    assert_eq!(summary.counts.dropped["private_address"], summary.counts.rows - 1);
    assert_eq!(web._server.requests(), asked, "nobody was asked");
}

#[test]
fn the_whole_road_keeps_rows_aligned() {
    let web = web(260);
    let run = web.run();
    download::run(&settings(), &run.pairs(), &run.images(), &Silent).expect("downloaded");
    let downloaded: Vec<_> = rows(&run.images()).into_iter().filter(ImageRow::is_success).collect();
    let embedded = embed::run(&embed::Config::default(), &ColorEmbedder, &run.images(), &run.embeddings(), &Silent)
        .expect("embedded");
    assert_eq!((embedded.counts.rows, embedded.counts.kept), (downloaded.len() as u64, downloaded.len() as u64));
    // A threshold in the middle of what these embeddings give, so that some rows go and some stay.
    let id = ShardId(0);
    let files = EmbeddingFiles::of(&run.embeddings(), id);
    let metadata = read_table::<EmbeddingRow>(&files.metadata).expect("sound");
    let (mut images, mut texts) =
        (MatrixReader::open(&files.image).expect("sound"), MatrixReader::open(&files.text).expect("sound"));
    let mut similarities = Vec::new();
    for row in &metadata {
        let (image, text) = (
            images.next_embedding().expect("sound").expect("a row"),
            texts.next_embedding().expect("sound").expect("a row"),
        );
        let expected = ColorEmbedder.texts(&[&row.caption]).expect("embeddable").remove(0);
        assert!(text.similarity(&expected) > 0.999, "row i of the matrix belongs to row i of the table");
        similarities.push(image.similarity(&text));
    }
    similarities.sort_by(f64::total_cmp);
    let middle = similarities[similarities.len() / 2];
    let config = filter::Config { similarity_min: middle, tag_only: true, ..filter::Config::laion400m() };
    let prompts = filter::embed_prompts(&ColorEmbedder).expect("embedded");
    let filtered = filter::run(&config, &prompts, &filter::Scorers::new(), &run.embeddings(), &run.curated(), &Silent)
        .expect("filtered");
    assert!(filtered.counts.kept > 0 && filtered.counts.dropped["similarity_too_low"] > 0, "{:?}", filtered.counts);
    let packed = pack::run(&run, &run.packages(), &pack::Format::OF_RUN, &[], &Silent).expect("packed");
    assert_eq!(packed.counts.kept, filtered.counts.kept);
    packages_agree(&run, &run.packages(), packed.counts.kept);
    assert_eq!(verify::run(&run).expect("a run").problems, Vec::<String>::new());
    damage_is_found(&run);
}

/// Every package holds the same rows, and each row is the curated one.
fn packages_agree(run: &Run, packages: &Packages, kept: u64) {
    let mut curated = Vec::new();
    for id in list_shards(&run.curated(), "parquet").expect("filtered") {
        let table = read_table::<CuratedRow>(&run.curated().join(format!("{id}.parquet"))).expect("sound");
        let ours: Vec<_> = table.into_iter().filter(CuratedRow::is_kept).collect();
        let rows = read_table::<KeptRow>(&packages.webdataset().join(format!("{id}.parquet"))).expect("sound");
        let release =
            read_table::<ReleaseRow>(&packages.metadata().join(format!("part-{id}.snappy.parquet"))).expect("sound");
        let files = EmbeddingFiles::of(&packages.embeddings(), id);
        assert_eq!(read_table::<KeptRow>(&files.metadata).expect("sound"), rows);
        let mut texts = MatrixReader::open(&files.text).expect("sound");
        for ((row, ours), release) in rows.iter().zip(&ours).zip(&release) {
            assert_eq!(
                (&row.key, &row.url, &row.caption, row.similarity),
                (&ours.key, &ours.url, &ours.caption, ours.similarity)
            );
            assert_eq!((&release.url, &release.text, release.similarity), (&ours.url, &ours.caption, ours.similarity));
            assert_eq!((release.height, release.width), (ours.original_height, ours.original_width));
            assert_eq!(release.sample_id, row.key.parse::<SampleKey>().expect("a key").number());
            let expected = ColorEmbedder.texts(&[&row.caption]).expect("embeddable").remove(0);
            assert!(texts.next_embedding().expect("sound").expect("a row").similarity(&expected) > 0.999);
        }
        assert_eq!((rows.len(), release.len()), (ours.len(), ours.len()));
        curated.extend(ours);
    }
    assert_eq!(curated.len() as u64, kept);
    for config in Tfds::ALL {
        let folder = dataset::tfds::folder(&packages.tfds(), config);
        let mut found: Vec<_> =
            TfdsReader::open(&folder).expect("packed").map(|example| example.expect("sound")).collect();
        let order =
            |a: &dataset::tfds::Example, b: &dataset::tfds::Example| (&a.url, &a.caption).cmp(&(&b.url, &b.caption));
        found.sort_by(order);
        curated.sort_by(|a, b| (&a.url, &a.caption).cmp(&(&b.url, &b.caption)));
        assert_eq!(found.len(), curated.len());
        for (example, row) in found.iter().zip(&curated) {
            assert_eq!(
                (&example.url, &example.caption, example.nsfw.name()),
                (&row.url, &row.caption, row.nsfw.as_str())
            );
            assert_eq!((example.original_width, example.original_height), (row.original_width, row.original_height));
            assert_eq!(example.similarity, f64::from(row.similarity as f32));
            assert_eq!(example.image.is_some(), config == Tfds::Images);
        }
    }
}

/// `verify` names each damaged file.
fn damage_is_found(run: &Run) {
    let tfrecord = dataset::tfds::folder(&run.packages().tfds(), Tfds::Images).join(dataset::tfds::shard_name(
        Default::default(),
        0,
        1,
    ));
    let curated = run.curated().join("00000.parquet");
    for path in [tfrecord, curated, run.packages().webdataset().join("00000.tar")] {
        let whole = fs::read(&path).expect("written");
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(&path, damaged).expect("room");
        let problems = verify::run(run).expect("a run").problems;
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(problems.iter().any(|problem| problem.contains(&name)), "{name}: {problems:?}");
        fs::write(&path, whole).expect("room");
    }
}

#[test]
fn a_picture_that_was_damaged_since_is_a_failed_row() {
    let web = web(80);
    let run = web.run();
    download::run(&settings(), &run.pairs(), &run.images(), &Silent).expect("downloaded");
    let tar = run.images().join("00000.tar");
    let mut bytes = fs::read(&tar).expect("written");
    let start = bytes.windows(3).position(|window| window == b"\xFF\xD8\xFF").expect("a JPEG");
    bytes[start..start + 400].fill(0);
    fs::write(&tar, bytes).expect("room");
    let summary = embed::run(&embed::Config::default(), &ColorEmbedder, &run.images(), &run.embeddings(), &Silent)
        .expect("embedded");
    assert_eq!((summary.counts.failed["image_damaged"], summary.counts.kept + 1), (1, summary.counts.rows));
    fs::write(&tar, b"no tar").expect("room");
    fs::remove_file(run.embeddings().join("00000.json")).expect("written");
    let error = embed::run(&embed::Config::default(), &ColorEmbedder, &run.images(), &run.embeddings(), &Silent)
        .expect_err("no tar");
    assert!(error.to_string().contains("00000.tar"), "{error}");
}
