//! `download` and a web that wants to harm it: one row for every URL, with the right name, no request outside what was
//! allowed, and within its memory.

#[path = "../common/mod.rs"]
mod common;
mod names;
mod pictures;

use std::io::{Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::Duration;

use common::{Request, Server, answer, download_all, jpeg, none};
use dataset::webdataset::tar_path;
use dataset::{Failure, ShardId};
use flate2::Compression;
use flate2::write::GzEncoder;
use names::Names;
use pipeline::download::Config;

use pictures::{Random, mutated, png_of_zeros};

/// Damaged pictures that are downloaded.
const MUTANTS: usize = 2000;
/// What all tests together may take, the servers included.
const MEMORY_BYTES_MAX: u64 = 500 << 20;
const IMAGE_BYTES_MAX: u64 = 1 << 20;

fn config() -> Config {
    Config {
        image_bytes_min: 0,
        image_bytes_max: IMAGE_BYTES_MAX,
        pixels_max: 4_000_000,
        timeout_ms: 2_000,
        allow_private: true,
        ..Config::laion400m()
    }
}

/// Most memory that this process has had.
fn assert_memory_is_bounded() {
    let Ok(status) = fs_err::read_to_string("/proc/self/status") else { return }; // only Linux tells
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kilobytes * 1024 < MEMORY_BYTES_MAX, "{kilobytes} kB");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).expect("memory");
    packed.finish().expect("memory")
}

fn head(headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{headers}\r\n").into_bytes()
}

/// Writes until the other side has enough.
fn endless(stream: &mut TcpStream, start: &[u8], part: &[u8]) -> Result<()> {
    stream.write_all(start)?;
    loop {
        stream.write_all(part)?;
    }
}

fn drip(stream: &mut TcpStream, start: &[u8], drops: &[u8]) -> Result<()> {
    stream.write_all(start)?;
    for drop in drops {
        stream.write_all(&[*drop])?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What each host does, how its row ends, and how often it is asked for the picture.
#[rustfmt::skip]
const HOSTS: &[(&str, &str, usize)] = &[
    ("good", "kept", 1),
    ("endless-headers", "http_invalid", 1),
    ("endless-header", "http_invalid", 1),
    ("many-headers", "http_invalid", 1),
    ("endless-interim", "timeout", 1),
    ("no-http", "http_invalid", 1),
    ("closes", "connection_closed", 2),
    ("silent", "timeout", 1),
    ("drips-head", "timeout", 1),
    ("drips-body", "too_slow", 1),
    ("stops", "too_slow", 1),
    ("resets", "connection_closed", 2),
    ("cut", "connection_closed", 2),
    ("length-long", "connection_closed", 2),
    ("length-short", "image_damaged", 1),
    ("length-huge", "too_many_bytes", 1),
    ("length-negative", "http_invalid", 1),
    ("endless-body", "too_many_bytes", 1),
    ("endless-chunks", "too_many_bytes", 1),
    ("bad-chunk", "connection_closed", 2),
    ("gzip-bomb", "too_many_bytes", 1),
    ("gzip-good", "kept", 1),
    ("gzip-cut", "image_damaged", 1),
    ("gzip-not", "kept", 1),
    ("html", "not_an_image", 1),
    ("html-before", "not_an_image", 1),
    ("polyglot", "kept", 1),
    ("empty", "not_an_image", 1),
    ("half", "image_damaged", 1),
    ("png-huge", "too_many_pixels", 1),
    ("loop", "redirect", 11),
    ("nowhere", "redirect", 1),
    ("bad-target", "redirect", 1),
    ("file", "url_scheme", 1),
    ("wait", "http_5xx", 1),
    ("robots-endless", "kept", 1),
    ("robots-loop", "kept", 1),
    ("robots-drips", "too_slow", 0),
];

fn misbehave(request: &Request, stream: &mut TcpStream) -> Result<()> {
    let body = |headers: &str, body: &[u8]| answer(&format!("200 OK{headers}"), body);
    let sized = |length: &str, body: &[u8]| [head(&format!("Content-Length: {length}\r\n")), body.to_vec()].concat();
    let redirect = |target: &str| answer(&format!("302 Found\r\nLocation: {target}"), b"");
    let (jpeg, html) = (jpeg(), b"<!doctype html><title>Not found</title>".as_slice());
    let answer = match (request.host.as_str(), request.path.as_str()) {
        ("robots-endless", "/robots.txt") => return endless(stream, &head(""), b"Disallow: /nothing\n"),
        ("robots-loop", "/robots.txt") => redirect("/robots.txt"),
        ("robots-drips", "/robots.txt") => return drip(stream, &head(""), &[b'#'; 1000]),
        (_, "/robots.txt") => none(),
        ("endless-headers", _) => {
            return endless(stream, b"HTTP/1.1 200 OK\r\n", b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaa\r\n");
        }
        ("endless-header", _) => return endless(stream, b"HTTP/1.1 200 OK\r\nX-Filler: ", &[b'a'; 4096]),
        ("many-headers", _) => body(&"\r\nX: y".repeat(1000), &jpeg),
        ("endless-interim", _) => return endless(stream, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        ("no-http", _) => b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        ("closes", _) => Vec::new(),
        ("silent", _) => return drop_when_closed(stream),
        ("drips-head", _) => return drip(stream, b"", &[b"HTTP/1.1 200 OK\r\n".as_slice(), &[b'x'; 1000]].concat()),
        ("drips-body", _) => return drip(stream, &head("Content-Length: 1000\r\n"), &[0xFF; 1000]),
        ("stops", _) => {
            stream.write_all(&sized("100000", &jpeg))?;
            return drop_when_closed(stream);
        }
        ("resets", _) => {
            stream.write_all(&sized("100000", &jpeg))?;
            // Closed so that the other side is told of a reset.
            return socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        }
        ("cut", _) => sized(&jpeg.len().to_string(), &jpeg[..jpeg.len() / 2]),
        ("length-long", _) => sized("100000", &jpeg),
        ("length-short", _) => sized(&(jpeg.len() / 2).to_string(), &jpeg),
        ("length-huge", _) => sized("99999999999999", &jpeg),
        ("length-negative", _) => sized("-1", &jpeg),
        ("endless-body", _) => return endless(stream, &head(""), &[0xFF; 4096]),
        ("endless-chunks", _) => {
            return endless(
                stream,
                &head("Transfer-Encoding: chunked\r\n"),
                &[&b"400\r\n"[..], &[b'a'; 0x400], b"\r\n"].concat(),
            );
        }
        ("bad-chunk", _) => [head("Transfer-Encoding: chunked\r\n"), b"no number\r\n".to_vec()].concat(),
        ("gzip-bomb", _) => body("\r\nContent-Encoding: gzip", &gzip(&vec![0; 100 << 20])),
        ("gzip-good", _) => body("\r\nContent-Encoding: gzip", &gzip(&jpeg)),
        ("gzip-cut", _) => body("\r\nContent-Encoding: gzip", &gzip(&jpeg)[..100]),
        ("gzip-not", _) => body("\r\nContent-Encoding: gzip", &jpeg),
        ("html", _) => body("\r\nContent-Type: image/jpeg", html),
        ("html-before", _) => body("", &[html, &jpeg].concat()),
        ("polyglot", _) => body("", &[&jpeg, b"PK\x03\x04<script>alert(1)</script>".as_slice()].concat()),
        ("empty", _) => body("", b""),
        ("half", _) => body("", &jpeg[..jpeg.len() * 3 / 4]),
        ("png-huge", _) => body("", &png_of_zeros(30_000, 30_000)),
        ("loop", _) => redirect("/1.jpg"),
        ("nowhere", _) => answer("302 Found", b""),
        ("bad-target", _) => redirect("http://[:::"),
        ("file", _) => redirect("file:///etc/passwd"),
        ("wait", _) => answer("503 Closed\r\nRetry-After: 99999999999999999999999", b""),
        _ => body("", &jpeg),
    };
    stream.write_all(&answer)
}

fn drop_when_closed(stream: &mut TcpStream) -> Result<()> {
    stream.read(&mut [0]).map(drop)
}

#[test]
fn whatever_a_host_does_its_row_has_an_end_with_a_name() {
    let server = Server::raw(misbehave);
    let urls: Vec<String> = HOSTS.iter().map(|(host, ..)| server.url(&format!("{host}/1.jpg"))).collect();
    let mut stored = Vec::new();
    let rows = download_all(&urls, &config(), |images| {
        stored = fs_err::read(tar_path(images, ShardId(0))).expect("a tar");
    });
    let ends = HOSTS.iter().zip(&rows).map(|((host, end, _), row)| (host, *end, row.error_code.as_str()));
    let wrong: Vec<_> = ends.filter(|(_, expected, end)| expected != end).collect();
    assert!(wrong.is_empty(), "host, expected, found: {wrong:?}");
    let asked = server.asked();
    for (host, _, times) in HOSTS {
        let url = format!("{host}/1.jpg");
        assert_eq!(asked.iter().filter(|asked| **asked == url).count(), *times, "{url}");
    }
    let only_these = |url: &String| url.ends_with("/1.jpg") || url.ends_with("/robots.txt");
    assert!(asked.iter().all(only_these), "{asked:?}");
    let tail = b"<script>";
    assert!(!stored.windows(tail.len()).any(|bytes| bytes == tail), "what hides behind a picture is not stored");
    assert_memory_is_bounded();
}

#[test]
#[allow(clippy::print_stdout)] // shown where the test fails
fn two_thousand_damaged_pictures_are_rows_with_names() {
    let seed = std::env::var("HOSTILE_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || std::time::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
    let seed: u64 = seed.unwrap_or_else(now);
    println!("HOSTILE_SEED={seed}");
    let mut random = Random::new(seed);
    let originals = pictures::all();
    let bodies: Vec<_> = (0..MUTANTS).map(|i| mutated(&originals[i % originals.len()], &mut random)).collect();
    let server = Server::new(move |_, path| {
        let number = path.trim_start_matches('/').trim_end_matches(".jpg").parse::<usize>();
        number.map_or_else(|_| none(), |number| answer("200 OK", &bodies[number]))
    });
    let urls: Vec<String> = (0..MUTANTS).map(|i| server.url(&format!("host{}/{i}.jpg", i % 16))).collect();
    let rows = download_all(&urls, &config(), |_| ());
    assert_eq!(rows.len(), MUTANTS);
    let names = [Failure::ImageDamaged, Failure::NotAnImage, Failure::TooManyPixels].map(Failure::name);
    for (row, number) in rows.iter().zip(0..) {
        assert!(row.is_success() || names.contains(&row.error_code.as_str()), "{number}: {row:?}");
        assert_eq!(row.is_success(), row.error_message.is_none(), "{number}: {row:?}");
    }
    let kept = rows.iter().filter(|row| row.is_success()).count();
    assert!(kept > 0 && kept < MUTANTS, "{kept}");
    assert_memory_is_bounded();
}

#[test]
fn an_avif_is_a_kept_row_where_it_can_be_read() {
    let server = Server::new(|_, _| answer("200 OK\r\nContent-Type: image/avif", pictures::AVIF));
    let rows = download_all(&[server.url("host/1.avif")], &config(), |_| ());
    let found = (rows[0].error_code.as_str(), rows[0].original_width, rows[0].original_height);
    let expected = if cfg!(feature = "native") { ("kept", Some(38), Some(30)) } else { ("not_an_image", None, None) };
    assert_eq!(found, expected, "{:?}", rows[0]);
}

#[test]
fn no_name_leads_into_a_private_network() {
    const ADDRESSES: [&str; 8] = [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "fd00:ec2::254",
    ];
    let server = Server::new(|_, _| common::picture());
    let names =
        Names::new(|name, _| match name.strip_suffix(".example.test").and_then(|name| name.strip_prefix('n')) {
            Some("all") => ADDRESSES.map(|address| address.parse().expect("an address")).to_vec(),
            Some(number) => vec![ADDRESSES[number.parse::<usize>().expect("a number")].parse().expect("an address")],
            None => Vec::new(),
        });
    let numbers = (0..ADDRESSES.len()).map(|number| number.to_string()).chain(["all".into()]);
    let mut urls: Vec<_> = numbers.map(|n| format!("http://n{n}.example.test:{}/1.jpg", server.port)).collect();
    let absent = format!("http://absent.test:{}/1.jpg", server.port);
    urls.extend([absent.clone(), absent.replace("/1", "/2"), absent.replace("/1", "/3")]);
    let guarded = Config { dns_servers: vec![names.address], allow_private: false, ..config() };
    let rows = download_all(&urls, &guarded, |_| ());
    let ends: Vec<_> = rows.iter().map(|row| row.error_code.as_str()).collect();
    assert_eq!(ends[..ADDRESSES.len() + 1], ["private_address"; ADDRESSES.len() + 1]);
    assert_eq!(ends[ADDRESSES.len() + 1..], ["dns"; 3]);
    assert_eq!(names.asked("absent.test"), 1, "that a name does not exist is remembered");
    assert!(server.asked().is_empty(), "{:?}", server.asked());

    let allowed = Config { dns_servers: vec![names.address], ..config() };
    let rows = download_all(&urls[..1], &allowed, |_| ());
    assert_eq!(rows[0].error_code, "kept", "with --allow-private it is asked, so the names above are found");
}

#[test]
fn a_name_that_changes_its_address_after_a_check_gains_nothing() {
    // Public as addresses go, but routed nowhere since the 6bone ended (RFC 3701).
    let public: IpAddr = Ipv6Addr::new(0x3FFE, 0, 0, 0, 0, 0, 0, 1).into();
    let private: IpAddr = Ipv4Addr::LOCALHOST.to_ipv6_mapped().into();
    let server = Server::new(|_, _| common::picture());
    let names = Names::new(move |_, before| if before == 0 { vec![public] } else { vec![private] });
    let url = format!("http://rebind.test:{}/1.jpg", server.port);
    let guarded = Config { dns_servers: vec![names.address], allow_private: false, retries: 3, ..config() };
    let rows = download_all(&[url], &guarded, |_| ());
    assert!(["private_address", "timeout"].contains(&rows[0].error_code.as_str()), "{rows:?}");
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
fn no_spelling_of_a_private_address_is_asked() {
    let server = Server::new(|_, _| common::picture());
    let hosts = [
        "127.0.0.1",
        "127.1",
        "0",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST.",
        "a.b.localhost",
        "93.184.216.34@127.0.0.1",
        "example.com:80@127.0.0.1",
        "example.com%2F@127.0.0.1",
    ];
    let urls: Vec<_> = hosts.iter().map(|host| format!("http://{host}:{}/1.jpg", server.port)).collect();
    let rows = download_all(&urls, &Config { allow_private: false, ..config() }, |_| ());
    let ends: Vec<_> = hosts.iter().zip(&rows).map(|(host, row)| (*host, row.error_code.as_str())).collect();
    assert_eq!(ends, hosts.map(|host| (host, "private_address")));
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}
