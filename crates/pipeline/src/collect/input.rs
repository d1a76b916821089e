//! Which archives, and how to read them: files, or what a web server has.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dataset::{Error, Result, spill};
use flate2::read::MultiGzDecoder;
use fs_err as fs;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::runtime::Runtime;

use crate::build::expand;

/// Where Common Crawl's listings start.
pub const COMMON_CRAWL: &str = "https://data.commoncrawl.org/";
/// Times that a broken connection is made again without a byte in between.
const RETRIES_MAX: u32 = 5;
/// Without a byte for so long, a connection is broken.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest listing; that of a crawl has 100,000 paths and below 20 MB.
const LISTING_BYTES_MAX: u64 = 64 << 20;

/// How archives are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Address or folder that the paths of listings start at.
    pub base: String,
    /// So many archives by chance, or all.
    pub sample: Option<usize>,
    /// What the chance follows from.
    pub seed: u64,
}

impl Default for Choice {
    fn default() -> Self {
        Self { base: COMMON_CRAWL.into(), sample: None, seed: 0 }
    }
}

/// The archives that some inputs mean: files, patterns with one `*` in the last component, addresses (`http`, `https`),
/// and listings as Common Crawl has them (`wat.paths.gz`, `warc.paths`, here or at an address).
pub fn archives(inputs: &[PathBuf], choice: &Choice) -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    for input in inputs {
        let name = super::name(input);
        if name.ends_with(".paths") || name.ends_with(".paths.gz") {
            let slash = if choice.base.ends_with('/') { "" } else { "/" };
            found.extend(listing(input)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
                let absolute = is_remote(Path::new(line)) || line.starts_with('/');
                PathBuf::from(if absolute { line.to_owned() } else { format!("{}{slash}{line}", choice.base) })
            }));
        } else if is_remote(input) {
            found.insert(input.clone());
        } else {
            found.extend(expand(input)?);
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    if let Some(sample) = choice.sample {
        // By a hash of the path, so that an archive more or less changes nothing for the others.
        found.sort_by_key(|path| spill::uid(&path.to_string_lossy(), &choice.seed.to_string()));
        found.truncate(sample);
        found.sort();
    }
    Ok(found)
}

fn listing(path: &Path) -> Result<String> {
    let file = whole(open(path)?, path)?;
    let text = if file.starts_with(&[0x1F, 0x8B]) { whole(MultiGzDecoder::new(&file[..]), path)? } else { file };
    String::from_utf8(text).map_err(|error| Error::format(path, error))
}

fn whole(source: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(LISTING_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| Error::format(path, error))?;
    if bytes.len() as u64 > LISTING_BYTES_MAX {
        return Err(Error::format(path, format!("a listing of over {LISTING_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// Whether an archive lies on a web server.
pub(crate) fn is_remote(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with("http://") || path.starts_with("https://"))
}

/// The bytes of an archive.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read + Send>> {
    if !is_remote(path) {
        return Ok(Box::new(fs::File::open(path)?));
    }
    let url = path.to_string_lossy().into_owned();
    Ok(Box::new(Remote::open(url).map_err(|error| Error::format(path, error))?))
}

/// A file of a web server, read in one go, and gone on with where the connection breaks.
struct Remote {
    runtime: Runtime,
    client: Client,
    url: String,
    body: Option<Response>,
    part: bytes::Bytes,
    at: u64,
    /// Bytes of the whole, if the server says so.
    length: Option<u64>,
    failures: u32,
}

impl Remote {
    fn open(url: String) -> io::Result<Self> {
        crate::tls::install_crypto().map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::builder()
            .user_agent(concat!("laion400m/", env!("CARGO_PKG_VERSION")))
            // Nobody but the user says whom to ask: a redirect could lead into a private network.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(20))
            .read_timeout(SILENCE_MAX)
            .build()
            .map_err(io::Error::other)?;
        let part = bytes::Bytes::new();
        let mut remote = Self { runtime, client, url, body: None, part, at: 0, length: None, failures: 0 };
        while remote.body.is_none() {
            let connected = remote.connect();
            remote.again_after(connected)?;
        }
        Ok(remote)
    }

    /// Asks for what has not been read.
    fn connect(&mut self) -> Result<(), Broken> {
        let mut request = self.client.get(&self.url);
        if self.at > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.at));
        }
        // Sending sets a timer, which needs the runtime at once.
        let response =
            self.runtime.block_on(async { request.send().await }).map_err(|error| Broken::Passing(reason(&error)))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(Broken::Passing(format!("the server answers {status}")));
        }
        if !status.is_success() {
            return Err(Broken::For(format!("the server answers {status}")));
        }
        if self.at == 0 {
            self.length = response.content_length();
        } else {
            let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
            if status != StatusCode::PARTIAL_CONTENT || !range.starts_with(&format!("bytes {}-", self.at)) {
                return Err(Broken::For("the connection broke, and the server cannot go on in the middle".into()));
            }
        }
        self.body = Some(response);
        Ok(())
    }

    /// Waits after a failure that may pass; any other, or too many, are the end.
    fn again_after<T>(&mut self, result: Result<T, Broken>) -> io::Result<Option<T>> {
        let cause = match result {
            Ok(value) => return Ok(Some(value)),
            Err(Broken::For(cause)) => return Err(io::Error::other(cause)),
            Err(Broken::Passing(cause)) => cause,
        };
        self.body = None;
        if self.failures == RETRIES_MAX {
            return Err(io::Error::other(format!("{cause} ({} attempts)", self.failures + 1)));
        }
        std::thread::sleep(Duration::from_millis(250 << self.failures));
        self.failures += 1;
        Ok(None)
    }
}

/// Why a connection does not work.
enum Broken {
    /// Trying again may help.
    Passing(String),
    For(String),
}

/// With the causes behind it, which reqwest does not write out.
fn reason(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Read for Remote {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            let result = match &mut self.body {
                None => self.connect().map(|()| None),
                Some(body) => match self.runtime.block_on(body.chunk()) {
                    Ok(Some(part)) => Ok(Some(part)),
                    Ok(None) if self.length.is_some_and(|length| self.at < length) => {
                        Err(Broken::Passing(format!("the answer ends at byte {}", self.at)))
                    }
                    Ok(None) => return Ok(0),
                    Err(error) => Err(Broken::Passing(reason(&error))),
                },
            };
            if let Some(Some(part)) = self.again_after(result)? {
                self.failures = 0;
                self.at += part.len() as u64;
                self.part = part;
            }
        }
        let bytes = out.len().min(self.part.len());
        out[..bytes].copy_from_slice(&self.part.split_to(bytes));
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn a_listing_is_sampled_by_its_seed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("wat.paths.gz");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        (0..50).for_each(|i| writeln!(gzip, "crawl-data/{i:05}.warc.wat.gz").expect("memory"));
        fs::write(&path, gzip.finish().expect("memory")).expect("room");
        let choose = |sample, seed| {
            let choice = Choice { sample, seed, ..Choice::default() };
            archives(std::slice::from_ref(&path), &choice).expect("a listing")
        };
        assert_eq!(choose(None, 1).len(), 50);
        assert_eq!(choose(None, 1)[3].to_str(), Some("https://data.commoncrawl.org/crawl-data/00003.warc.wat.gz"));
        let five = choose(Some(5), 1);
        assert!(five.len() == 5 && five.is_sorted());
        assert_eq!(five, choose(Some(5), 1));
        assert_ne!(five, choose(Some(5), 2));
        assert!(five.iter().all(|path| choose(Some(9), 1).contains(path)), "a larger sample has the smaller one");
        let local = Choice { base: "/data".into(), sample: Some(1), ..Choice::default() };
        assert!(archives(&[path], &local).expect("a listing")[0].starts_with("/data/crawl-data"));
        assert!(archives(&[folder.path().join("none*")], &local).is_err());
        let long = folder.path().join("long.paths.gz");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        (0..65).for_each(|_| gzip.write_all(&vec![b'a'; 1 << 20]).expect("memory"));
        fs::write(&long, gzip.finish().expect("memory")).expect("room");
        let error = archives(&[long], &local).expect_err("not cut off quietly").to_string();
        assert!(error.contains("long.paths.gz: a listing of over"), "{error}");
    }

    /// Answers each connection with the next of these, and tells the heads of the requests.
    fn serve(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/a.warc.gz", listener.local_addr().expect("bound"));
        let heads = std::thread::spawn(move || {
            answers
                .into_iter()
                .map(|answer| {
                    let (mut stream, _) = listener.accept().expect("a connection");
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("a request") == 1 {
                        head.push(byte[0]);
                    }
                    stream.write_all(&answer).expect("somebody reads");
                    String::from_utf8_lossy(&head).to_ascii_lowercase()
                })
                .collect()
        });
        (url, heads)
    }

    fn read(answers: &[&str]) -> (io::Result<String>, Vec<String>) {
        let (url, heads) = serve(answers.iter().map(|answer| answer.as_bytes().to_vec()).collect());
        let mut text = String::new();
        let result = Remote::open(url).and_then(|mut remote| remote.read_to_string(&mut text)).map(|_| text);
        (result, heads.join().expect("no panic"))
    }

    #[test]
    fn a_broken_connection_is_gone_on_with() {
        let (text, heads) = read(&[
            "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123",
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789",
        ]);
        assert_eq!(text.expect("all of it"), "0123456789");
        assert!(!heads[1].contains("range:") && heads[2].contains("range: bytes=4-"), "{heads:?}");
    }

    #[test]
    fn what_a_server_will_not_give_is_an_error() {
        let (result, _) = read(&["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"]);
        assert!(result.expect_err("not there").to_string().contains("404"));
        let (result, _) = read(&["HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"]);
        assert!(result.expect_err("not followed").to_string().contains("302"));
        let (result, _) = read(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123",
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
        ]);
        assert!(result.expect_err("from the start again").to_string().contains("in the middle"));
    }
}
