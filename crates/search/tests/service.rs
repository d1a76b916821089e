//! The index and the service over a small run, asked over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use dataset::npy::MatrixWriter;
use dataset::schema::KeptRow;
use dataset::table::write_table;
use dataset::webdataset::{TarWriter, tar_path};
use dataset::{Embedder, Embedding, EmbeddingFiles, Nsfw, Pixels, Result, Run, SampleKey, ShardId, Silent};
use fs_err as fs;
use search::{Index, Service, build};

const DIMENSIONS: usize = 16;

/// Gives every text a direction that depends on its bytes alone.
struct HashEmbedder;

fn direction(seed: u64) -> Embedding {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values = (0..DIMENSIONS).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1u64 << 30) as f32 - 1.0
    });
    Embedding::normalized(values.collect()).expect("a direction")
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(7, |hash, byte| hash * 31 % 1_000_003 + u64::from(byte))
}

impl Embedder for HashEmbedder {
    fn dimensions(&self) -> usize {
        DIMENSIONS
    }
    fn images(&self, batch: &[Pixels]) -> Result<Vec<Embedding>> {
        Ok(batch.iter().map(|pixels| direction(u64::from(pixels.rgb()[0]))).collect())
    }
    fn texts(&self, batch: &[&str]) -> Result<Vec<Embedding>> {
        Ok(batch.iter().map(|text| direction(hash(text))).collect())
    }
    fn fingerprint(&self) -> String {
        "hash".into()
    }
}

fn caption(row: u32) -> String {
    format!("picture {row} <script>alert(1)</script>")
}

/// Two shards of rows; every third is not safe. A row's picture lies in the direction of its caption.
fn run(folder: &std::path::Path, rows: u32) -> Run {
    let run = Run::new(folder);
    for shard in 0..2 {
        let id = ShardId(shard);
        let (mut kept, mut embeddings) = (Vec::new(), Vec::new());
        let mut tar = TarWriter::create(&tar_path(&run.packages().webdataset(), id)).expect("room");
        for row in 0..rows {
            let number = shard * rows + row;
            let key = SampleKey { shard: id, row }.to_string();
            let image = [b"\xFF\xD8".as_slice(), key.as_bytes()].concat();
            let nsfw = if number % 3 == 2 { Nsfw::Unsure } else { Nsfw::Unlikely };
            kept.push(KeptRow {
                image_path: key.clone(),
                caption: caption(number),
                url: format!("http://a.com/{number}.jpg"),
                page_url: "http://a.com/".into(),
                license: "?".into(),
                language: Some("eng".into()),
                nsfw: nsfw.name().into(),
                similarity: f64::from(number) / f64::from(2 * rows),
                width: 256,
                height: 256,
                original_width: 300,
                original_height: 200,
                image_offset: tar.push(&format!("{key}.jpg"), &image).expect("room") as i64,
                image_bytes: image.len() as i64,
                key,
            });
            embeddings.push((direction(hash(&caption(number))), direction(u64::from(number) + 1000)));
        }
        tar.publish().expect("room");
        let files = EmbeddingFiles::of(&run.packages().embeddings(), id);
        for (path, first) in [(&files.image, true), (&files.text, false)] {
            let mut matrix = MatrixWriter::create(path, embeddings.len(), DIMENSIONS).expect("room");
            embeddings.iter().for_each(|(image, text)| matrix.push(if first { image } else { text }).expect("room"));
            matrix.publish().expect("room");
        }
        write_table(&files.metadata, kept).expect("room");
    }
    build(&run.packages().embeddings(), &run.index(), "hash", &Silent).expect("built");
    run
}

struct Running {
    _folder: tempfile::TempDir,
    run: Run,
    address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

fn serving() -> Running {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = run(folder.path(), 30);
    let index = Index::open(&run.index()).expect("built");
    let service = Service::new(index, run.clone(), Arc::new(HashEmbedder)).expect("the same weights");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
    let address = listener.local_addr().expect("bound");
    runtime.spawn(search::serve(service, listener, std::future::pending()));
    Running { _folder: folder, run, address, _runtime: runtime }
}

/// Status, head and body of an answer.
fn get(running: &Running, path: &str) -> (u16, String, Vec<u8>) {
    get_as(running, path, "localhost:1234")
}

fn get_as(running: &Running, path: &str, host: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(running.address).expect("a connection");
    let accept = "text/html,*/*;q=0.8";
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    (head[9..12].parse().expect("a status"), head, answer[end..].to_vec())
}

fn json(running: &Running, path: &str) -> serde_json::Value {
    let (status, _, body) = get(running, path);
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).expect("JSON")
}

fn keys(answer: &serde_json::Value) -> Vec<String> {
    answer["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|hit| hit["key"].as_str().expect("a key").into())
        .collect()
}

#[test]
fn a_text_finds_its_picture_and_captions_are_data() {
    let running = serving();
    let text = "picture%207%20%3Cscript%3Ealert(1)%3C/script%3E";
    let answer = json(&running, &format!("/api/v1/search?text={text}&count=3"));
    let first = &answer["results"][0];
    assert_eq!(first["key"], "000000007");
    assert_eq!(first["caption"], caption(7));
    assert!(first["score"].as_f64().expect("a number") > 0.99);
    let (status, head, body) = get(&running, first["image"].as_str().expect("an address"));
    assert_eq!((status, body), (200, b"\xFF\xD8000000007".to_vec()));
    assert!(head.contains("image/jpeg") && head.contains("content-security-policy: default-src 'none'"), "{head}");
}

#[test]
fn more_like_this_starts_with_the_picture_itself() {
    let running = serving();
    assert_eq!(keys(&json(&running, "/api/v1/search?key=000010003&count=2"))[0], "000010003");
}

#[test]
fn safe_mode_is_on_until_it_is_switched_off() {
    let running = serving();
    let count = |query: &str| keys(&json(&running, &format!("/api/v1/search?text=a&count=200{query}"))).len();
    assert_eq!((count(""), count("&safe=false"), count("&safe=false&similarity_min=0.5")), (40, 60, 30));
}

#[test]
fn mistakes_are_answered_with_their_cause() {
    let running = serving();
    let long = format!("/api/v1/search?text={}", "a".repeat(5000));
    let cases = [
        ("/api/v1/search", 400, "neither text nor key"),
        ("/api/v1/search?text=a&key=000000001", 400, "not both"),
        ("/api/v1/search?key=7", 404, "no sample 7"),
        ("/api/v1/search?key=000990000", 404, "no sample 000990000"),
        ("/api/v1/search?text=a&count=0", 400, "count"),
        ("/api/v1/search?text=a&count=many", 400, "count"),
        ("/api/v1/search?text=a&modality=smell", 400, "modality"),
        ("/api/v1/search?txt=a", 400, "txt"),
        ("/api/v1/search?text=a&similarity_min=NaN", 400, "similarity_min"),
        (&long, 400, "longer"),
        ("/api/v1/images/000990000", 404, "no sample"),
        ("/api/v1/images/..%2F..%2Fetc", 404, "no sample ../../etc"),
        ("/api/v1/report", 404, "no report"),
        ("/nothing", 404, "no such address"),
    ];
    for (path, expected, cause) in cases {
        let (status, _, body) = get(&running, path);
        let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(cause)), "{path}: {answer}");
    }
}

#[test]
fn the_page_the_report_and_the_facts_are_served() {
    let running = serving();
    for (path, kind) in
        [("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css"), ("/?text=a", "text/html")]
    {
        let (status, head, body) = get(&running, path);
        assert!(status == 200 && head.contains(kind) && body.len() > 1000, "{path}: {head}");
    }
    assert_eq!(get(&running, "/healthz").2, b"ok\n");
    let info = json(&running, "/api/v1/info");
    assert_eq!((info["rows"].as_u64(), info["dimensions"].as_u64()), (Some(60), Some(16)));
    fs::write(running.run.report(), r#"{"stages":[]}"#).expect("room");
    assert!(json(&running, "/api/v1/report")["stages"].is_array());
}

#[test]
fn a_foreign_host_name_is_refused() {
    let running = serving();
    for host in ["evil.example", "localhost.evil.example", "192.168.0.1", ""] {
        assert_eq!(get_as(&running, "/api/v1/info", host).0, 421, "{host}");
    }
    for host in ["127.0.0.1:80", "[::1]:80", "demo.localhost"] {
        assert_eq!(get_as(&running, "/api/v1/info", host).0, 200, "{host}");
    }
}

#[test]
fn queries_of_another_model_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = run(folder.path(), 2);
    build(&run.packages().embeddings(), &run.index(), "another", &Silent).expect("built");
    let index = Index::open(&run.index()).expect("built");
    let error = Service::new(index, run, Arc::new(HashEmbedder)).expect_err("other weights").to_string();
    assert!(error.contains("another") && error.contains("hash"), "{error}");
}
