//! `download` and hosts that say how they want to be treated.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Server, answer, code, download_all, none, picture};
use dataset::schema::ImageRow;
use pipeline::download;

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

#[test]
fn a_host_learns_who_asks_and_how_to_reach_them() {
    let server = Server::new(|_, path| if path == "/robots.txt" { none() } else { picture() });
    let agent = |config: download::Config| {
        server.asked.lock().expect("no panic").clear();
        server.download(&["a/1.jpg"], config);
        let asked = server.asked.lock().expect("no panic");
        let agents = asked.iter().map(|request| {
            assert!(request.head.contains("accept-encoding: identity"), "{}", request.head);
            request.head.lines().find_map(|line| line.strip_prefix("user-agent: ")).map(str::to_owned)
        });
        let agents: Vec<_> = agents.collect();
        assert!(agents.len() == 2 && agents[0] == agents[1], "robots.txt and the picture: {agents:?}");
        agents[0].clone().expect("a user agent")
    };
    let config = download::Config::laion400m;
    let ours = concat!("laion400m/", env!("CARGO_PKG_VERSION"));
    assert_eq!(agent(config()), format!("{ours} (+https://github.com/laion400m/laion400m)"));
    let contact = Some("bot@example.org".to_owned());
    assert_eq!(agent(download::Config { contact, ..config() }), format!("{ours} (+bot@example.org)"));
    let named = download::Config { user_agent: "mydataset/1.0".into(), ..config() };
    assert_eq!(agent(named.clone()), "mydataset/1.0");
    let contact = Some("https://example.org/bot".to_owned());
    assert_eq!(agent(download::Config { contact, ..named }), "mydataset/1.0 (+https://example.org/bot)");

    let contact = Some("me\r\nX-Evil: 1".to_owned());
    let error = download::Downloader::new(&download::Config { contact, ..config() }).expect_err("two lines");
    assert!(error.to_string().contains("one line"), "{error}");
}

#[test]
fn requests_to_a_host_are_spaced_as_asked_for() {
    let server = Server::new(|_, path| if path == "/robots.txt" { none() } else { picture() });
    let config = download::Config { host_requests_per_second: Some(20.0), ..download::Config::laion400m() };
    let urls: Vec<String> = (0..11).map(|i| format!("a/{i}.jpg")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let started = Instant::now();
    let rows = server.download(&urls, config);
    assert!(rows.values().all(ImageRow::is_success), "{rows:?}");
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());

    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let config = download::Config { host_requests_per_second: Some(rate), ..download::Config::laion400m() };
        assert!(download::Downloader::new(&config).is_err(), "{rate}");
    }
}

#[test]
fn a_host_that_answers_by_drops_or_never_costs_a_few_requests() {
    let server = Server::raw(|request, stream| {
        use std::io::Write;
        match (request.host.as_str(), request.path.as_str()) {
            ("silent", _) => std::thread::sleep(Duration::from_secs(60)),
            (_, "/robots.txt") => stream.write_all(&none())?,
            ("drips", _) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")?;
                loop {
                    stream.write_all(b"x")?;
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            _ => stream.write_all(&picture())?,
        }
        Ok(())
    });
    let mut urls: Vec<String> = (0..100).flat_map(|i| [format!("silent/{i}.jpg"), format!("drips/{i}.jpg")]).collect();
    urls.extend((0..20).map(|i| format!("alive/{i}.jpg")));
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let rows = server.download(&urls, download::Config { timeout_ms: 1000, ..download::Config::laion400m() });
    let count = |name: &str| rows.values().filter(|row| row.error_code == name).count();
    let ends = ["kept", "timeout", "too_slow", "host_unavailable"].map(count);
    assert_eq!((ends[0], ends.iter().sum::<usize>()), (20, urls.len()), "{ends:?}");
    // The last that drips is cut at the end of what is left for its host.
    assert!((2..=3).contains(&ends[1]) && (2..=3).contains(&ends[2]), "{ends:?}");
    let asked = server.asked().iter().filter(|url| !url.starts_with("alive")).count();
    assert!(asked < 20, "asked {asked} times");
}

#[test]
fn a_deadline_that_passes_after_a_redirect_counts_against_the_host_that_was_slow() {
    let target = Server::new(|_, path| match path {
        "/robots.txt" => none(),
        "/late.jpg" => {
            std::thread::sleep(Duration::from_millis(800));
            picture()
        }
        _ => picture(),
    });
    let elsewhere = target.url("target/late.jpg");
    let server = Server::new(move |_, path| {
        if path == "/robots.txt" {
            return none();
        }
        std::thread::sleep(Duration::from_millis(800));
        answer(&format!("302 Found\r\nLocation: {elsewhere}"), b"")
    });
    let mut urls: Vec<String> = (0..40).map(|i| server.url(&format!("slow/{i}.jpg"))).collect();
    urls.extend((0..20).map(|i| target.url(&format!("target/{i}.jpg"))));
    let config =
        download::Config { timeout_ms: 1200, allow_private: true, image_bytes_min: 0, ..download::Config::laion400m() };
    let rows = download_all(&urls, &config, |_| ());
    let codes: Vec<_> = rows.iter().map(|row| row.error_code.as_str()).collect();
    assert!(codes[..40].iter().all(|code| ["timeout", "host_unavailable"].contains(code)), "{codes:?}");
    assert!(codes[40..].iter().all(|code| *code == "kept"), "{codes:?}");
    assert!(server.asked().len() < 10, "{:?}", server.asked());
}
