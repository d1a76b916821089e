//! The world, its crawl, and its server over real sockets.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use flate2::read::{GzDecoder, MultiGzDecoder};
use fs_err as fs;
use miniweb::{Fate, Server, Settings, Truth, World, measure, serve, write_crawl};
use serde_json::Value;

const SMALL: Settings = Settings { seed: 5, pictures: 400, port: 18400 };

fn of(world: &World, fate: Fate) -> &Truth {
    world.truth().iter().find(|row| row.fate == fate).expect("every fate occurs")
}

/// A world on a port that was free.
fn served() -> (Arc<World>, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let world = Arc::new(World::new(Settings { port, ..SMALL }));
    let server = serve(world.clone(), listener).expect("a server");
    (world, server)
}

/// Sends one request on a connection of its own, and reads until the other side closes or falls silent.
fn ask(server: &Server, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let mut buffer = [0; 1 << 16];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..read]);
    }
    answer
}

fn get(server: &Server, url: &str) -> (String, Vec<u8>) {
    let url = url::Url::parse(url).expect("absolute");
    let target = url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
    let host = url.host_str().expect("a host");
    let answer = ask(server, &format!("GET {target} HTTP/1.1\r\nHost: {host}:1\r\n\r\n"));
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
    (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end..].to_vec())
}

#[test]
fn the_same_settings_give_the_same_crawl() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let wats = write_crawl(&World::new(SMALL), &one).expect("room");
    write_crawl(&World::new(SMALL), &two).expect("room");
    assert_eq!(wats.len(), miniweb::ARCHIVES);
    let names: Vec<_> = fs::read_dir(&one).expect("written").map(|entry| entry.expect("a name").file_name()).collect();
    assert_eq!(names.len(), 2 * miniweb::ARCHIVES + 1);
    for name in names {
        assert!(fs::read(one.join(&name)).expect("written") == fs::read(two.join(&name)).expect("written"), "{name:?}");
    }
}

#[test]
fn the_shares_are_as_documented_and_good_pairs_differ() {
    let world = World::new(Settings { pictures: 6000, ..SMALL });
    assert_eq!(world.truth().len(), 6000);
    let mut counts: HashMap<Fate, f64> = HashMap::new();
    world.truth().iter().for_each(|row| *counts.entry(row.fate).or_default() += 1.0);
    for (fate, per_mille) in Fate::SHARES {
        let (expected, found) = (6.0 * f64::from(per_mille), counts[&fate]);
        assert!((found - expected).abs() <= 5.0 * expected.sqrt() + 2.0, "{fate:?}: {found} instead of {expected}");
    }
    let good: Vec<_> = world.truth().iter().filter(|row| row.good).map(|row| (&row.url, &row.caption)).collect();
    assert!((0.55..0.65).contains(&(good.len() as f64 / 6000.0)), "{}", good.len());
    assert_eq!(good.iter().collect::<HashSet<_>>().len(), good.len());
}

#[test]
fn the_wat_lists_the_links_of_the_truth_in_order_and_points_into_the_warc() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let world = World::new(SMALL);
    let mut truth = world.truth().iter();
    let mut metadata = 0;
    for path in write_crawl(&world, folder.path()).expect("room") {
        let mut text = String::new();
        MultiGzDecoder::new(&fs::read(&path).expect("written")[..]).read_to_string(&mut text).expect("gzip");
        for json in text.lines().filter(|line| line.starts_with('{')) {
            let record: Value = serde_json::from_str(json).expect("JSON");
            metadata += 1;
            let payload = &record["Envelope"]["Payload-Metadata"];
            let target = record["Envelope"]["WARC-Header-Metadata"]["WARC-Target-URI"].as_str().expect("a page");
            let warc = fs::read(folder.path().join(record["Container"]["Filename"].as_str().expect("a name")))
                .expect("written");
            let offset: usize = record["Container"]["Offset"].as_str().expect("text").parse().expect("a number");
            let mut head = String::new();
            GzDecoder::new(&warc[offset..]).read_to_string(&mut head).expect("a member starts there");
            assert!(head.contains(&format!("WARC-Target-URI: {target}\r\n")), "{head}");
            let Some(links) = payload["HTTP-Response-Metadata"]["HTML-Metadata"]["Links"].as_array() else { continue };
            assert!(head.contains("WARC-Type: response") && head.contains("<img"), "{head}");
            for link in links.iter().filter(|link| link["path"] == "IMG@/src") {
                let row = truth.next().expect("a row per link");
                let alt = link["alt"].as_str().unwrap_or_default();
                assert_eq!(alt.split_whitespace().collect::<Vec<_>>().join(" "), row.caption);
                assert_eq!(row.page_url, target);
            }
        }
    }
    assert!(truth.next().is_none());
    assert_eq!(metadata, world.page_count() * 3);
}

#[test]
fn good_links_lead_to_pictures_of_at_least_5000_bytes() {
    let (world, server) = served();
    for row in world.truth().iter().filter(|row| row.fate == Fate::Good).step_by(7) {
        let (head, body) = get(&server, &row.url);
        assert!(head.starts_with("HTTP/1.1 200"), "{}: {head}", row.url);
        assert!(body.len() >= 5000, "{}: {} bytes", row.url, body.len());
        let picture = image::load_from_memory(&body).expect("decodable");
        assert!(picture.width() >= 240 && picture.height() >= 240);
    }
    assert!(server.requests() > 20);
}

#[test]
fn every_fault_is_seen_on_the_wire() {
    let (world, server) = served();
    let head = |fate| get(&server, &of(&world, fate).url).0;
    assert!(head(Fate::NotFound).starts_with("HTTP/1.1 404"));
    assert!(head(Fate::Forbidden).starts_with("HTTP/1.1 403"));
    assert!(head(Fate::ServerError).starts_with("HTTP/1.1 50"));
    assert_eq!(head(Fate::Timeout), "", "never answered");
    assert_eq!(head(Fate::Closed), "", "closed without an answer");
    assert!(head(Fate::NoAi).to_lowercase().contains("x-robots-tag: no"));
    assert!(head(Fate::GoodOtherBot).contains("X-Robots-Tag: otherbot: noai"));
    let (html, body) = get(&server, &of(&world, Fate::HtmlAsImage).url);
    assert!(html.starts_with("HTTP/1.1 200") && body.starts_with(b"<!doctype html>"));
    let (promise, body) = get(&server, &of(&world, Fate::TruncatedBody).url);
    let length: usize = promise
        .split("Content-Length: ")
        .nth(1)
        .and_then(|rest| rest.lines().next())
        .expect("a length")
        .parse()
        .expect("a number");
    assert!(body.len() < length, "{} of {length} bytes", body.len());
    let (_, body) = get(&server, &of(&world, Fate::TruncatedFile).url);
    // Some decoders make a picture of half a JPEG, so its end is looked at.
    assert!(image::load_from_memory(&body).is_err() || !body.ends_with(b"\xFF\xD9"), "half a file");
    let (_, body) = get(&server, &of(&world, Fate::TinyImage).url);
    assert!(body.len() < 5000 && image::load_from_memory(&body).is_ok(), "{} bytes", body.len());
}

#[test]
fn redirects_lead_to_a_picture_in_a_circle_or_nowhere() {
    let (world, server) = served();
    let follow = |fate| {
        let mut url = url::Url::parse(&of(&world, fate).url).expect("absolute");
        for hops in 0..5 {
            let (head, _) = get(&server, url.as_str());
            let Some(location) = head.split("Location: ").nth(1) else { return (hops, head[9..12].to_owned()) };
            url = url.join(location.lines().next().expect("a line")).expect("a URL");
        }
        (5, "loop".into())
    };
    assert_eq!(follow(Fate::GoodRedirect), (2, "200".into()));
    assert_eq!(follow(Fate::RedirectNowhere), (1, "404".into()));
    assert_eq!(follow(Fate::RedirectLoop), (5, "loop".into()));
}

#[test]
fn pages_are_served_and_garbage_harms_nobody() {
    let (world, server) = served();
    for garbage in [
        "\r\n\r\n",
        "GET\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "\u{0}\u{1}\r\n\r\n",
    ] {
        assert!(ask(&server, garbage).starts_with(b"HTTP/1.1 400"), "{garbage:?}");
    }
    let (head, body) = get(&server, &world.truth()[0].page_url);
    assert!(head.contains("text/html") && String::from_utf8_lossy(&body).contains("<img src="), "{head}");
    let markup = of(&world, Fate::GoodMarkup);
    let (_, body) = get(&server, &markup.page_url);
    assert!(!String::from_utf8_lossy(&body).contains("<script>"), "captions are escaped");
}

#[test]
fn precision_and_recall_are_measured_against_the_good_pairs() {
    let world = World::new(SMALL);
    let pair = |row: &'static str| (row, row);
    let good: Vec<_> =
        world.truth().iter().filter(|row| row.good).map(|row| (row.url.as_str(), row.caption.as_str())).collect();
    assert_eq!(measure(world.truth(), good.iter().copied()), (1.0, 1.0));
    let (precision, recall) = measure(world.truth(), good[..good.len() / 2].iter().copied().chain([pair("wrong")]));
    assert!(precision < 1.0 && precision > 0.95 && (recall - 0.5).abs() < 0.01, "{precision} {recall}");
    let twice = good.iter().chain(&good).copied();
    assert_eq!(measure(world.truth(), twice), (0.5, 1.0), "a pair that is kept twice is wrong once");
}
