//! Files of web servers and object stores, read from front to back, and gone on with where a connection breaks.

mod crypto;
mod http;
mod object;
mod store;

use std::io::{self, Read};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use dataset::{Error, Result, files};
use fs_err as fs;
use futures::stream::{Stream, StreamExt};
use reqwest::Client;
use tokio::runtime::Runtime;

pub use store::{default_cache, install};

/// Times that a broken connection is made again without a byte in between.
const RETRIES_MAX: u32 = 5;
/// Without a byte for so long, a connection is broken.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What a file or address is known by: where a file lies changes nothing, and one that was missing and has come since is
/// another input.
pub(crate) fn name(path: &Path) -> String {
    if files::is_remote(path) {
        return path.to_string_lossy().into_owned();
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match fs::metadata(path) {
        Ok(metadata) => format!("{name} {}", metadata.len()),
        Err(_) => format!("{name} missing"),
    }
}

/// The bytes of a file or of what an address leads to.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read + Send>> {
    if !files::is_remote(path) {
        return Ok(Box::new(fs::File::open(path)?));
    }
    Ok(Box::new(Remote::open(&path.to_string_lossy()).map_err(|error| Error::format(path, error))?))
}

/// Bytes as they arrive.
type Body = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// What an address leads to, and its length if that is known.
struct Answer {
    length: Option<u64>,
    body: Body,
}

/// Who has the file.
enum Server {
    Http(http::Page),
    Store(object::Object),
}

impl Server {
    /// Asks for what stands at `from` and behind it.
    async fn ask(&mut self, from: u64) -> Result<Answer, Broken> {
        match self {
            Self::Http(page) => page.ask(from).await,
            Self::Store(object) => object.ask(from).await,
        }
    }
}

/// Why a connection does not work.
enum Broken {
    /// Trying again may help.
    Passing(String),
    For(String),
}

/// A file that is read in one go.
struct Remote {
    runtime: Runtime,
    server: Server,
    body: Option<Body>,
    part: Bytes,
    at: u64,
    /// Bytes of the whole, if the server says so.
    length: Option<u64>,
    failures: u32,
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Asks one server, and nobody that it may name: a redirect could lead into a private network.
fn client() -> io::Result<Client> {
    let tls = crate::tls::config().map_err(io::Error::other)?;
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("laion400m/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(20))
        .read_timeout(SILENCE_MAX)
        .build()
        .map_err(io::Error::other)
}

/// An error with the causes behind it, which many do not write out.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl Remote {
    fn open(address: &str) -> io::Result<Self> {
        let runtime = runtime()?;
        let server = if address.starts_with("http") {
            Server::Http(http::Page::new(address, client()?))
        } else {
            Server::Store(object::Object::new(address)?)
        };
        let mut remote = Self { runtime, server, body: None, part: Bytes::new(), at: 0, length: None, failures: 0 };
        while remote.body.is_none() {
            let connected = remote.connect();
            remote.again_after(connected)?;
        }
        Ok(remote)
    }

    /// Asks for what has not been read.
    fn connect(&mut self) -> Result<(), Broken> {
        let answer = self.runtime.block_on(self.server.ask(self.at))?;
        if self.at == 0 {
            self.length = answer.length;
        }
        self.body = Some(answer.body);
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

impl Read for Remote {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            let result = match &mut self.body {
                None => self.connect().map(|()| None),
                Some(body) => match self.runtime.block_on(body.next()) {
                    Some(Ok(part)) => Ok(Some(part)),
                    None if self.length.is_some_and(|length| self.at < length) => {
                        Err(Broken::Passing(format!("the answer ends at byte {}", self.at)))
                    }
                    None => return Ok(0),
                    Some(Err(error)) => Err(Broken::Passing(error)),
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
        let result = Remote::open(&url).and_then(|mut remote| remote.read_to_string(&mut text)).map(|_| text);
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
