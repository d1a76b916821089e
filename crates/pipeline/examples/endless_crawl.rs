//! A web server whose WAT archives are made as they are read, for measuring at sizes that no disk has room for. For
//! `benchsuite/scale.py`.
//!
//! usage: endless_crawl PAIRS, where `GET /N` is an archive of PAIRS pairs, the last fifth of which are the first of N + 1
//!
//! Prints its address, and serves until its standard input ends.

#![allow(clippy::print_stdout)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Images of a page.
const IMAGES: u64 = 50;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pairs: u64 = std::env::args().nth(1).ok_or("usage: endless_crawl PAIRS")?.parse()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A reader that goes away is none of our business.
            std::thread::spawn(move || drop(answer(stream, pairs)));
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(stream: TcpStream, pairs: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut request = String::new();
    let mut lines = BufReader::new(stream.try_clone()?);
    while lines.read_line(&mut request)? > 2 {}
    let name = request.split_ascii_whitespace().nth(1).and_then(|path| path.strip_prefix('/')).ok_or("no path")?;
    let first = name.parse::<u64>()? * (pairs - pairs / 5);
    let mut stream = BufWriter::with_capacity(64 << 10, stream);
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    let mut json = String::new();
    for page in (first..first + pairs).step_by(IMAGES as usize) {
        json.clear();
        json.push_str(r#"{"Envelope":{"Payload-Metadata":{"HTTP-Response-Metadata":{"HTML-Metadata":{"Links":["#);
        for pair in page..(page + IMAGES).min(first + pairs) {
            let comma = if pair == page { "" } else { "," };
            // Spread over the alphabet, as words are.
            let word = pair.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            write!(
                json,
                r#"{comma}{{"path":"IMG@/src","url":"/i/{word:016x}.jpg","alt":"a picture of {pair} things"}}"#
            )?;
        }
        let host = page / 5000;
        write!(json, r#"]}}}}}},"WARC-Header-Metadata":{{"WARC-Target-URI":"http://host{host}.com/{page}"}}}}}}"#)?;
        let length = json.len();
        write!(stream, "WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: {length}\r\n\r\n{json}\r\n\r\n")?;
    }
    stream.flush()?;
    Ok(())
}
