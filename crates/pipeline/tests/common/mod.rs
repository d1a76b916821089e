//! A web server on this machine that notes what it is asked for, and says whatever a test wants.
#![allow(dead_code)] // no test needs all of it

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dataset::schema::{ImageRow, Pair, uid};
use dataset::table::{read_table, write_table};
use dataset::{Pixels, Silent, picture};
use pipeline::download;

/// A request, without what nobody looks at.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `a` of `a.localhost:1234`.
    pub(crate) host: String,
    /// With its slash.
    pub(crate) path: String,
    /// All lines, in small letters.
    pub(crate) head: String,
}

/// A web server that notes what it is asked for.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) asked: Arc<Mutex<Vec<Request>>>,
    /// Most requests at once.
    pub(crate) most: Arc<AtomicUsize>,
}

impl Server {
    /// Answers a request for a path of a host (`a` of `a.localhost`); nothing means that the connection is closed.
    pub(crate) fn new(answer: impl Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let (most, now) = (Arc::<AtomicUsize>::default(), AtomicUsize::new(0));
        let seen = most.clone();
        let server = Self::raw(move |request, stream| {
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let answer = answer(&request.host, &request.path);
            // Before it is sent: whoever has it may ask again at once.
            now.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(&answer)
        });
        Self { most, ..server }
    }

    /// Does what it wants with a connection, once the head of a request has been read.
    pub(crate) fn raw(answer: impl Fn(&Request, &mut TcpStream) -> Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked = Arc::<Mutex<Vec<Request>>>::default();
        let (noted, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (answer, noted) = (answer.clone(), noted.clone());
                std::thread::spawn(move || {
                    if let Ok(request) = read(&stream) {
                        noted.lock().expect("no panic").push(request.clone());
                        // A client that goes away is none of our business.
                        drop(answer(&request, &mut stream));
                    }
                });
            }
        });
        Self { port, asked, most: Arc::default() }
    }

    /// Downloads pictures of these addresses, without scheme and port, and gives their rows by address.
    pub(crate) fn download(&self, urls: &[&str], config: download::Config) -> HashMap<String, ImageRow> {
        let whole: Vec<String> = urls.iter().map(|url| self.url(url)).collect();
        let config = download::Config { allow_private: true, image_bytes_min: 0, ..config };
        let rows = download_all(&whole, &config, |_| ());
        rows.into_iter().zip(urls).map(|(row, url)| ((*url).to_owned(), row)).collect()
    }

    pub(crate) fn url(&self, short: &str) -> String {
        let (host, path) = short.split_once('/').expect("a path");
        format!("http://{host}.localhost:{}/{path}", self.port)
    }

    /// Hosts and paths, in the order in which they were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().map(|request| format!("{}{}", request.host, request.path)).collect()
    }
}

fn read(stream: &TcpStream) -> Result<Request> {
    let mut head = String::new();
    let mut lines = BufReader::new(stream);
    while lines.read_line(&mut head)? > 2 {}
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let head = head.to_ascii_lowercase();
    let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let host = host.split(['.', ':']).next().unwrap_or_default().to_owned();
    Ok(Request { host, path, head })
}

/// Downloads these URLs, one shard, and gives their rows; `look` sees the folder of images.
pub(crate) fn download_all(urls: &[String], config: &download::Config, look: impl FnOnce(&Path)) -> Vec<ImageRow> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (pairs, images) = (folder.path().join("pairs"), folder.path().join("images"));
    fs_err::create_dir(&pairs).expect("room");
    let rows = urls.iter().map(|url| Pair {
        uid: uid("a cat", url),
        url: url.clone(),
        caption: "a cat".into(),
        ..Pair::default()
    });
    write_table(&pairs.join("00000.parquet"), rows).expect("room");
    let summary = download::run(config, &pairs, &images, &Silent).expect("downloaded");
    summary.counts.check().expect("every row has an end");
    look(&images);
    let rows: Vec<ImageRow> = read_table(&images.join("00000.parquet")).expect("a table");
    assert_eq!(rows.len(), urls.len(), "one row for every URL");
    rows
}

pub(crate) fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    [format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n").as_bytes(), body].concat()
}

/// A small JPEG.
pub(crate) fn jpeg() -> Vec<u8> {
    let pixels = Pixels::new(8, 8, vec![90; 8 * 8 * 3]).expect("full size");
    picture::encode_jpeg(&pixels, 90).expect("a picture")
}

pub(crate) fn picture() -> Vec<u8> {
    answer("200 OK\r\nContent-Type: image/jpeg", &jpeg())
}

pub(crate) fn none() -> Vec<u8> {
    answer("404 Not Found", b"")
}

pub(crate) fn code(rows: &HashMap<String, ImageRow>, url: &str) -> String {
    rows[url].error_code.clone()
}
