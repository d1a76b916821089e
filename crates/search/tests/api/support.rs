//! A run, a model that depends on nothing but its input, a service, and a client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dataset::npy::MatrixWriter;
use dataset::picture::{StoredFormat, encode};
use dataset::schema::KeptRow;
use dataset::table::write_table;
use dataset::webdataset::{TarWriter, tar_path};
use dataset::{Embedder, Embedding, EmbeddingFiles, Nsfw, Pixels, Result, Run, SampleKey, ShardId, Silent};
use search::{Index, Limits, Service, Settings, build};
use serde_json::Value;
use tokio::sync::oneshot;

pub(crate) const DIMENSIONS: usize = 16;
/// Rows of each of the two shards.
pub(crate) const ROWS: u32 = 30;
/// Rows whose pictures are nearly that of row 10.
pub(crate) const TWINS: std::ops::Range<u32> = 50..53;

/// Gives every text a direction that depends on its bytes alone, and a picture that of the caption of the row whose number
/// its first value is.
#[derive(Clone, Default)]
pub(crate) struct HashEmbedder {
    /// Closed, it lets no text through.
    pub(crate) gate: Arc<(Mutex<bool>, Condvar)>,
}

impl HashEmbedder {
    pub(crate) fn close(&self) {
        *self.gate.0.lock().expect("not poisoned") = true;
    }

    pub(crate) fn open(&self) {
        *self.gate.0.lock().expect("not poisoned") = false;
        self.gate.1.notify_all();
    }
}

pub(crate) fn direction(seed: u64) -> Embedding {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values = (0..DIMENSIONS).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1u64 << 30) as f32 - 1.0
    });
    Embedding::normalized(values.collect()).expect("a direction")
}

pub(crate) fn of_text(text: &str) -> Embedding {
    direction(text.bytes().fold(7, |hash, byte| hash * 31 % 1_000_003 + u64::from(byte)))
}

pub(crate) fn of_picture(number: u32) -> Embedding {
    let number = if TWINS.contains(&number) { 10 } else { number };
    of_text(&caption(number))
}

impl Embedder for HashEmbedder {
    fn dimensions(&self) -> usize {
        DIMENSIONS
    }
    fn images(&self, batch: &[Pixels]) -> Result<Vec<Embedding>> {
        Ok(batch.iter().map(|pixels| of_picture(u32::from(pixels.rgb()[0]))).collect())
    }
    fn texts(&self, batch: &[&str]) -> Result<Vec<Embedding>> {
        let closed = self.gate.0.lock().expect("not poisoned");
        drop(self.gate.1.wait_while(closed, |closed| *closed).expect("not poisoned"));
        Ok(batch.iter().map(|text| of_text(text)).collect())
    }
    fn fingerprint(&self) -> String {
        "hash".into()
    }
}

pub(crate) fn caption(number: u32) -> String {
    match number {
        3 => "=SUM(A1) <script>alert(1)</script>".into(),
        number => format!("picture {number}"),
    }
}

pub(crate) fn key(number: u32) -> String {
    SampleKey { shard: ShardId(number / ROWS), row: number % ROWS }.to_string()
}

/// The picture of a row, as a PNG.
pub(crate) fn png(number: u32) -> Vec<u8> {
    let pixels = Pixels::new(8, 6, [number as u8, 7, 9].repeat(48)).expect("it fills its size");
    encode(&pixels, StoredFormat::Png, 6).expect("encoded")
}

/// Two shards of rows; every third is not safe.
pub(crate) fn run(folder: &Path) -> Run {
    let run = Run::new(folder);
    for shard in 0..2 {
        let id = ShardId(shard);
        let (mut kept, mut embeddings) = (Vec::new(), Vec::new());
        let mut tar = TarWriter::create(&tar_path(&run.packages().webdataset(), id)).expect("room");
        for number in shard * ROWS..(shard + 1) * ROWS {
            let (key, image) = (key(number), png(number));
            let nsfw = if number % 3 == 2 { Nsfw::Unsure } else { Nsfw::Unlikely };
            let license = if number % 2 == 0 { "https://creativecommons.org/licenses/by-sa/4.0/" } else { "?" };
            kept.push(KeptRow {
                image_path: key.clone(),
                caption: caption(number),
                url: format!("http://{}/{number}.png", ["a.com", "img.b.org"][number as usize / 40]),
                page_url: "http://a.com/".into(),
                license: license.into(),
                language: Some(if number % 4 == 3 { "deu" } else { "eng" }.into()),
                nsfw: nsfw.name().into(),
                similarity: f64::from(number) / 60.0,
                width: 8,
                height: 6,
                original_width: 100 * (1 + number as i32 % 10),
                original_height: 200,
                image_offset: tar.push(&format!("{key}.png"), &image).expect("room") as i64,
                image_bytes: image.len() as i64,
                key,
            });
            embeddings.push((of_picture(number), direction(u64::from(number) + 1000)));
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

/// A service that runs until this is dropped.
pub(crate) struct Running {
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) embedder: HashEmbedder,
    runtime: tokio::runtime::Runtime,
    end: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn limited(limits: Limits) -> Self {
        Self::with(Settings { limits, ..Settings::default() })
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runs = ["first", "second"].map(|name| run(&folder.path().join(name)));
        let indices = runs.into_iter().map(|run| (Index::open(&run.index()).expect("built"), run)).collect();
        let embedder = HashEmbedder::default();
        let service = Service::with(indices, Arc::new(embedder.clone()), settings).expect("the same weights");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (end, ended) = oneshot::channel();
        let served = runtime.spawn(search::serve(service, listener, async {
            let _ = ended.await;
        }));
        Self { folder, address, embedder, runtime, end: Some(end), served }
    }

    /// The run that is asked where none is named.
    pub(crate) fn run(&self) -> Run {
        Run::new(self.folder.path().join("first"))
    }

    /// Tells the service to end.
    pub(crate) fn end(&mut self) {
        self.end.take().expect("told once").send(()).expect("it runs");
    }

    /// Waits until it has ended.
    pub(crate) fn ended(self) {
        self.runtime.block_on(self.served).expect("no panic").expect("no error");
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        stream
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.ask("POST", path, "", body)
    }

    /// Further headers end with their own line ends.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).expect("sent");
        Answer::read(&mut stream).expect("an answer")
    }

    /// The JSON of an answer that is fine.
    pub(crate) fn json(&self, path: &str) -> Value {
        self.get(path).json(path)
    }

    /// The JSON of an answer that is fine.
    pub(crate) fn posted(&self, path: &str, body: &Value) -> Value {
        self.post(path, body.to_string().as_bytes()).json(path)
    }

    /// Waits until a line of the metrics is there.
    pub(crate) fn wait_for(&self, line: &str) {
        while !self.get("/metrics").text().lines().any(|found| found == line) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads until the connection ends; `None` where it ends without an answer.
    pub(crate) fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut answer = Vec::new();
        // Who refuses a body without reading it may break the connection off behind the answer.
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        Some(Self { status: head.get(9..12)?.parse().ok()?, head, body: answer[end..].to_vec() })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self, what: &str) -> Value {
        assert_eq!(self.status, 200, "{what}: {}", self.text());
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The cause of an answer that is not fine.
    pub(crate) fn cause(&self, member: &str) -> String {
        let answer: Value = serde_json::from_slice(&self.body).expect("JSON");
        answer[member].as_str().expect("a cause").to_owned()
    }
}

/// One member of each result.
pub(crate) fn each(answer: &Value, member: &str) -> Vec<Value> {
    answer["results"].as_array().expect("results").iter().map(|result| result[member].clone()).collect()
}
