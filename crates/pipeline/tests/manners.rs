//! `download` and hosts that say how they want to be treated.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dataset::schema::{ImageRow, Pair, uid};
use dataset::table::{read_table, write_table};
use dataset::{Pixels, Silent, picture};
use pipeline::download;

/// Answers a request for a path of a host (`a` of `a.localhost`); nothing means that the connection is closed.
type Answer = dyn Fn(&str, &str) -> Vec<u8> + Send + Sync;

/// A web server that notes what it is asked for.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    /// Most requests at once.
    most: Arc<AtomicUsize>,
}

impl Server {
    fn new(answer: impl Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (asked, most) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicUsize>::default());
        let (noted, seen, now) = (asked.clone(), most.clone(), AtomicUsize::new(0));
        let answer = Arc::new(move |host: &str, path: &str| {
            noted.lock().expect("no panic").push(format!("{host}{path}"));
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let answer = answer(host, path);
            // Before it is sent: whoever has it may ask again at once.
            now.fetch_sub(1, Ordering::SeqCst);
            answer
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.clone();
                // A client that goes away is none of our business.
                std::thread::spawn(move || drop(serve(stream, &*answer)));
            }
        });
        Self { port, asked, most }
    }

    /// Downloads pictures of these addresses, without scheme and port, and gives their rows by address.
    fn download(&self, urls: &[&str], config: download::Config) -> HashMap<String, ImageRow> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pairs = urls.iter().map(|url| {
            let (host, path) = url.split_once('/').expect("a path");
            let url = format!("http://{host}.localhost:{}/{path}", self.port);
            Pair { uid: uid("a cat", &url), url, caption: "a cat".into(), ..pair() }
        });
        fs_err::create_dir(folder.path().join("pairs")).expect("room");
        write_table(&folder.path().join("pairs/00000.parquet"), pairs).expect("room");
        let images = folder.path().join("images");
        let config = download::Config { allow_private: true, image_bytes_min: 0, ..config };
        let summary = download::run(&config, &folder.path().join("pairs"), &images, &Silent).expect("downloaded");
        summary.counts.check().expect("every row has an end");
        rows(&images).into_iter().zip(urls).map(|(row, url)| ((*url).to_owned(), row)).collect()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn rows(images: &Path) -> Vec<ImageRow> {
    read_table(&images.join("00000.parquet")).expect("a table")
}

fn serve(mut stream: TcpStream, answer: &Answer) -> std::io::Result<()> {
    let mut head = String::new();
    let mut lines = BufReader::new(stream.try_clone()?);
    while lines.read_line(&mut head)? > 2 {}
    let path = head.split(' ').nth(1).unwrap_or_default();
    let host = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned));
    let host = host.unwrap_or_default();
    let host = host.split('.').next().unwrap_or_default();
    stream.write_all(&answer(host, path))
}

fn pair() -> Pair {
    Pair {
        uid: String::new(),
        url: String::new(),
        caption: String::new(),
        page_url: String::new(),
        license: None,
        license_evidence: None,
        language: String::new(),
        archive: String::new(),
        record_offset: 0,
        link_path: String::new(),
        source: "alt".into(),
    }
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    [format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n").as_bytes(), body].concat()
}

fn picture() -> Vec<u8> {
    let pixels = Pixels::new(8, 8, vec![90; 8 * 8 * 3]).expect("full size");
    answer("200 OK\r\nContent-Type: image/jpeg", &picture::encode_jpeg(&pixels, 90).expect("a picture"))
}

fn none() -> Vec<u8> {
    answer("404 Not Found", b"")
}

fn code(rows: &HashMap<String, ImageRow>, url: &str) -> String {
    rows[url].error_code.clone()
}

#[test]
fn what_a_host_forbids_is_not_asked_for() {
    let server = Server::new(|host, path| match (host, path) {
        ("a", "/robots.txt") => answer("200 OK", b"User-agent: *\nDisallow: /no\nAllow: /no/yes\n"),
        ("named", "/robots.txt") => {
            answer("200 OK", b"User-agent: laion400m\nDisallow: /\n\nUser-agent: *\nAllow: /\n")
        }
        ("moved", "/robots.txt") => answer("301 Moved\r\nLocation: /elsewhere.txt", b""),
        ("moved", "/elsewhere.txt") => answer("200 OK", b"User-agent: *\nDisallow: /\n"),
        ("broken", "/robots.txt") => answer("500 Oh", b""),
        ("hop", "/1.jpg") => answer(&format!("302 Found\r\nLocation: {}", "/no.jpg"), b""),
        ("hop", "/robots.txt") => answer("200 OK", b"User-agent: *\nDisallow: /no\n"),
        ("reserved", "/1.jpg") => answer("200 OK\r\nTDM-Reservation: 1", b"x"),
        ("tagged", "/1.jpg") => answer("200 OK\r\nX-Robots-Tag: noai", b"x"),
        (_, "/robots.txt") => none(),
        _ => picture(),
    });
    let urls = [
        "a/1.jpg",
        "a/no/1.jpg",
        "a/no/yes/1.jpg",
        "named/1.jpg",
        "moved/1.jpg",
        "broken/1.jpg",
        "hop/1.jpg",
        "free/1.jpg",
        "reserved/1.jpg",
        "tagged/1.jpg",
    ];
    let rows = server.download(&urls, download::Config::laion400m());
    let codes = urls.map(|url| code(&rows, url));
    let expected = [
        "kept",
        "robots_txt",
        "kept",
        "robots_txt",
        "robots_txt",
        "http_5xx",
        "robots_txt",
        "kept",
        "tdm_reservation",
        "robots_tag",
    ];
    assert_eq!(codes, expected, "{rows:?}");
    assert!(rows["broken/1.jpg"].error_message.as_deref().is_some_and(|text| text.starts_with("robots.txt: HTTP 500")));
    let asked = server.asked();
    for forbidden in ["a/no/1.jpg", "named/1.jpg", "moved/1.jpg", "broken/1.jpg", "hop/no.jpg"] {
        assert!(!asked.iter().any(|url| url == forbidden), "{forbidden} was asked for");
    }
    assert_eq!(asked.iter().filter(|url| *url == "a/robots.txt").count(), 1, "read once");

    let relaxed = download::Config {
        robots_txt: false,
        robots_tag: false,
        tdm_reservation: false,
        ..download::Config::laion400m()
    };
    let rows = server.download(&["named/1.jpg", "reserved/1.jpg", "tagged/1.jpg"], relaxed);
    assert_eq!(code(&rows, "named/1.jpg"), "kept");
    assert_eq!(code(&rows, "reserved/1.jpg"), "not_an_image", "it was looked at");
    assert_eq!(code(&rows, "tagged/1.jpg"), "not_an_image", "it was looked at");
}

#[test]
fn a_host_gets_a_few_requests_at_once() {
    let server = Server::new(|_, path| {
        std::thread::sleep(Duration::from_millis(30));
        if path == "/robots.txt" { none() } else { picture() }
    });
    let urls: Vec<String> = (0..24).map(|i| format!("a/{i}.jpg")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let config = download::Config { host_concurrency: 3, ..download::Config::laion400m() };
    let rows = server.download(&urls, config);
    assert!(rows.values().all(ImageRow::is_success), "{rows:?}");
    assert_eq!(server.most.load(Ordering::SeqCst), 3);
}

#[test]
fn a_host_that_wants_a_pause_gets_it() {
    let first = AtomicUsize::new(0);
    let server = Server::new(move |host, path| match (host, path) {
        (_, "/robots.txt") => none(),
        ("busy", _) if first.fetch_add(1, Ordering::SeqCst) == 0 => answer("429 Slow down\r\nRetry-After: 2", b""),
        ("closed", _) => answer("503 Closed\r\nRetry-After: 7200", b""),
        _ => picture(),
    });
    let started = Instant::now();
    let config = || download::Config { host_concurrency: 1, ..download::Config::laion400m() };
    let rows = server.download(&["busy/1.jpg"], config());
    assert_eq!((code(&rows, "busy/1.jpg").as_str(), rows["busy/1.jpg"].attempts), ("kept", 2));
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());

    let started = Instant::now();
    let rows = server.download(&["closed/1.jpg", "closed/2.jpg", "open/1.jpg"], config());
    assert!(started.elapsed() < Duration::from_secs(20), "nobody waits two hours");
    assert_eq!(code(&rows, "open/1.jpg"), "kept");
    assert_eq!(server.asked().iter().filter(|url| url.starts_with("closed/") && url.ends_with("jpg")).count(), 1);
    let codes = ["closed/1.jpg", "closed/2.jpg"].map(|url| (code(&rows, url), rows[url].attempts));
    assert!(codes.contains(&("host_unavailable".into(), 0)), "{codes:?}");
}

#[test]
fn a_dead_host_costs_a_few_requests_and_no_other_host() {
    let server = Server::new(|host, path| match (host, path) {
        ("dead", _) => Vec::new(),
        (_, "/robots.txt") => none(),
        _ => picture(),
    });
    let mut urls: Vec<String> = (0..200).map(|i| format!("dead/{i}.jpg")).collect();
    urls.extend((0..20).map(|i| format!("alive/{i}.jpg")));
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let rows = server.download(&urls, download::Config::laion400m());
    let count = |name: &str| rows.values().filter(|row| row.error_code == name).count();
    assert_eq!(count("kept"), 20);
    assert_eq!(count("connection_closed") + count("host_unavailable"), 200);
    let asked = server.asked().iter().filter(|url| url.starts_with("dead/")).count();
    assert!(asked < 40, "asked {asked} times");
}
