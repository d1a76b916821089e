//! What clients may cost, and how the service ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use search::{Limits, Settings};
use serde_json::json;

use crate::support::{Answer, Running, png};

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let running = Running::limited(Limits { head_time: Duration::from_secs(1), ..Limits::default() });
    // Nothing; and a byte now and then, as slow-loris does.
    let mut silent = running.connect();
    let mut slow = running.connect();
    let head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: ";
    let mut sent = 0;
    let closed = loop {
        if slow.write_all(&[head.get(sent).copied().unwrap_or(b'a')]).is_err() {
            break true;
        }
        sent += 1;
        if sent > 10_000 {
            break false;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(closed, "a hundred seconds long");
    assert_eq!(silent.read(&mut [0; 100]).unwrap_or(0), 0, "closed without a word");
    assert_eq!(running.get("/healthz").status, 200);
}

#[test]
fn a_connection_that_nobody_uses_ends() {
    let running = Running::limited(Limits { head_time: Duration::from_secs(1), ..Limits::default() });
    let mut stream = running.connect();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let answer = Answer::read(&mut stream).expect("an answer, and then the end");
    assert_eq!(answer.body, b"ok\n");
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let running = Running::limited(Limits { body_time: Duration::from_secs(1), ..Limits::default() });
    for path in ["/api/v1/search", "/knn-service", "/api/v1/search/image", "/api/v1/export", "/metadata"] {
        let mut stream = running.connect();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{{");
        stream.write_all(head.as_bytes()).expect("sent");
        assert_eq!(Answer::read(&mut stream).map(|answer| answer.status), Some(408), "{path}");
    }
}

#[test]
fn long_bodies_and_heads_are_refused_at_once() {
    let running = Running::limited(Limits { body_bytes_max: 10_000, ..Limits::default() });
    for path in ["/api/v1/search", "/knn-service", "/api/v1/search/image", "/api/v1/export", "/metadata"] {
        let mut stream = running.connect();
        // It says how long it will be, and waits.
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10001\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        assert_eq!(Answer::read(&mut stream).map(|answer| answer.status), Some(413), "{path}");
        // It does not say.
        let mut stream = running.connect();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"2000\r\n", &[b'a'; 0x2000][..], b"\r\n2000\r\n", &[b'a'; 0x2000], b"\r\n"].concat();
        stream.write_all(&[head.as_bytes(), &chunk].concat()).expect("sent");
        assert_eq!(Answer::read(&mut stream).map(|answer| answer.status), Some(413), "{path}");
    }
    let long = "a".repeat(40_000);
    assert_eq!(running.ask("GET", "/healthz", &format!("X-A: {long}\r\n"), b"").status, 431);
    assert_eq!(running.ask("GET", "/healthz", &"X-A: a\r\n".repeat(200), b"").status, 431);
    assert!([414, 431].contains(&running.get(&format!("/{long}")).status));
}

#[test]
fn too_many_requests_at_once_are_told_to_come_again() {
    let running = Running::limited(Limits { requests_max: 4, ..Limits::default() });
    running.embedder.close();
    let ask = |text: &str| {
        let mut stream = running.connect();
        let head = format!("GET /api/v1/search?text={text} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        stream
    };
    let waiting: Vec<_> = ["a", "b", "c", "d"].map(ask).into();
    running.wait_for("laion400m_embeddings_in_flight 4");
    let refused = running.get("/api/v1/search?text=e");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    assert_eq!(running.get("/healthz").status, 200, "who watches gets an answer all the same");
    running.embedder.open();
    for mut stream in waiting {
        assert_eq!(Answer::read(&mut stream).map(|answer| answer.status), Some(200));
    }
    assert_eq!(running.get("/api/v1/search?text=e").status, 200);
}

#[test]
fn an_answer_that_takes_too_long_is_given_up() {
    let running = Running::limited(Limits { request_time: Duration::from_millis(200), ..Limits::default() });
    running.embedder.close();
    let late = running.get("/api/v1/search?text=a");
    assert!(late.status == 503 && late.cause("error").contains("too long"), "{}", late.text());
    running.embedder.open();
}

/// Whoever takes nothing of an answer does not keep it for ever.
#[test]
fn an_answer_that_nobody_takes_is_given_up() {
    let limits = Limits { write_time: Duration::from_millis(300), connections_max: 1, ..Limits::default() };
    let running = Running::limited(limits);
    let mut stream = running.connect();
    // More than all buffers on the way hold, and nothing of it is read.
    let request = b"GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a socket");
    while stream.write_all(&request).is_ok() {}
    // There is room for one connection, so this one waits until the other is given up.
    assert_eq!(running.get("/healthz").status, 200);
}

fn begin(running: &Running) -> TcpStream {
    let mut stream = running.connect();
    stream.write_all(b"GET /api/v1/search?text=a HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    running.wait_for("laion400m_embeddings_in_flight 1");
    stream
}

#[test]
fn requests_that_are_under_way_are_answered_before_the_end() {
    let mut running = Running::new();
    running.embedder.close();
    let mut stream = begin(&running);
    running.end();
    while TcpStream::connect(running.address).is_ok() {
        std::thread::sleep(Duration::from_millis(5)); // it still listens
    }
    running.embedder.open();
    assert_eq!(Answer::read(&mut stream).map(|answer| answer.status), Some(200));
    running.ended();
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let mut running = Running::limited(Limits { shutdown_time: Duration::from_millis(200), ..Limits::default() });
    running.embedder.close();
    let _stream = begin(&running);
    running.end();
    let embedder = running.embedder.clone();
    running.ended();
    embedder.open();
}

#[test]
fn pages_of_other_origins_may_ask_where_they_are_allowed() {
    let running = Running::new();
    let from = |running: &Running, origin: &str| {
        running.ask("POST", "/metadata", &format!("Origin: {origin}\r\n"), json!({"ids": []}).to_string().as_bytes())
    };
    for origin in ["https://evil.example", "null", "http://localhost:1", "http://localhost.evil.example"] {
        let refused = from(&running, origin);
        assert!(refused.status == 403 && !refused.head.contains("access-control"), "{origin}: {}", refused.head);
    }
    assert_eq!(from(&running, "http://localhost").status, 200, "its own page");
    let origin = "https://rom1504.github.io".to_owned();
    let running = Running::with(Settings { allow_origins: vec![origin.clone()], ..Settings::default() });
    let allowed = from(&running, &origin);
    assert!(allowed.head.contains(&format!("access-control-allow-origin: {origin}")), "{}", allowed.head);
    assert_eq!(from(&running, "https://evil.example").status, 403);
    let headers = format!(
        "Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n"
    );
    let before = running.ask("OPTIONS", "/knn-service", &headers, b"");
    assert!(
        before.status == 200 && before.head.contains("access-control-allow-headers: content-type"),
        "{}",
        before.head
    );
}

#[test]
fn a_picture_of_many_pixels_is_refused_before_it_is_decoded() {
    let running = Running::new();
    let mut picture = png(1);
    // The size stands behind the name of the first chunk, and its checksum behind it.
    picture[16..24].copy_from_slice(&[0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF]);
    let crc = crc(&picture[12..29]);
    picture[29..33].copy_from_slice(&crc.to_be_bytes());
    let answer = running.post("/api/v1/search/image", &picture);
    assert!(answer.status == 400 && answer.cause("error").contains("65535 x 65535 pixels"), "{}", answer.text());
}

/// CRC-32, as PNG has it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}
