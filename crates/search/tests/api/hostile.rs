//! Requests that nobody in his right mind sends: none of them breaks the service.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{DIMENSIONS, Running, key, png};

const REQUESTS: usize = 10_000;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let number = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        number ^ number >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    /// Damages bytes a little.
    fn damage(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(5) {
                0 => bytes.truncate(at),
                1 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                2 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                3 => {
                    let more = self.bytes(20);
                    bytes.splice(at..at, more).for_each(drop);
                }
                _ => bytes.extend_from_within(at.min(bytes.len())..),
            }
        }
        bytes
    }
}

const PATHS: [&str; 22] = [
    "/",
    "/app.js",
    "/healthz",
    "/metrics",
    "/metrics-summary",
    "/indices-list",
    "/metadata",
    "/knn-service",
    "/api/v1/info",
    "/api/v1/report",
    "/api/v1/statistics",
    "/api/v1/search",
    "/api/v1/search",
    "/api/v1/search/image",
    "/api/v1/random",
    "/api/v1/samples/000000001",
    "/api/v1/images/000000001",
    "/api/v1/export",
    "/api/v1/openapi.json",
    "/api/v1/images/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/api/v2/search",
    "/%00%ff/../..//",
];

const NAMES: [&str; 27] = [
    "text",
    "key",
    "count",
    "offset",
    "modality",
    "safe",
    "nsfw",
    "similarity_min",
    "similarity_max",
    "width_min",
    "height_min",
    "language",
    "license",
    "host",
    "exact",
    "fold",
    "similarity_weight",
    "aesthetic_weight",
    "seed",
    "format",
    "keys",
    "query",
    "ids",
    "indice_name",
    "num_images",
    "num_result_ids",
    "embedding_input",
];

const VALUES: [&str; 36] = [
    "",
    "0",
    "1",
    "-1",
    "200",
    "201",
    "9800",
    "10000",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e309",
    "-1e-320",
    "NaN",
    "nan",
    "inf",
    "-Infinity",
    "true",
    "false",
    "null",
    "text",
    "image",
    "UNLIKELY,NSFW",
    "en,de",
    "any,by-sa",
    "a.com",
    "000000001",
    "000099999",
    "99999999999999",
    "a+-+b+%2B+c",
    "%F0%9F%98%80%E2%80%AE",
    "%00%01%ff%fe",
    "first",
    "csv",
];

fn value(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 9 } else { 12 }) {
        0 => Value::Null,
        1 => json!(dice.below(2) == 0),
        2 => json!(dice.next() as i64),
        3 => json!(dice.below(100)),
        4 => json!(f64::from_bits(dice.next())), // what is no number is null
        5 => json!(key(dice.below(80) as u32)),
        6 => json!(String::from_utf8_lossy(&dice.bytes(30))),
        7 => json!(dice.one(&VALUES)),
        8 => json!((0..DIMENSIONS - dice.below(2)).map(|_| dice.below(9)).collect::<Vec<_>>()),
        9 => (0..dice.below(5)).map(|_| value(dice, depth - 1)).collect(),
        10 => {
            let members = (0..dice.below(4)).map(|_| (dice.one(&NAMES).to_owned(), value(dice, depth - 1)));
            Value::Object(members.collect())
        }
        _ => {
            let name = dice.one(&["text", "key", "image", "embedding", "weight"]);
            json!([{ name: value(dice, depth - 1), "weight": value(dice, 0) }])
        }
    }
}

/// A request that is right but for one member or two.
fn nearly_right(dice: &mut Dice, path: &str) -> Value {
    let mut request = match path {
        "/knn-service" => json!({"text": "a", "modality": "image", "num_images": 3, "indice_name": null}),
        "/metadata" => json!({"ids": [1, 2], "indice_name": "first"}),
        "/api/v1/export" => json!({"keys": [key(1), key(2)]}),
        _ => json!({"query": [{"text": "a"}, {"key": key(3), "weight": -0.5}], "count": 3}),
    };
    for _ in 0..dice.below(3) {
        let more = value(dice, 3);
        let members = request.as_object_mut().expect("an object");
        let known: Vec<_> = members.keys().cloned().collect();
        let name =
            if dice.below(2) == 0 { known[dice.below(known.len())].clone() } else { dice.one(&NAMES).to_owned() };
        members.insert(name, more);
    }
    request
}

fn body(dice: &mut Dice, path: &str, pictures: &[Vec<u8>]) -> Vec<u8> {
    let picture = pictures[dice.below(pictures.len())].clone();
    match dice.below(10) {
        0 => Vec::new(),
        1 => dice.bytes(300),
        2 => dice.damage(picture),
        3 => picture,
        4 => {
            let form = b"--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n";
            dice.damage([form.as_slice(), &picture, b"\r\n--x--\r\n"].concat())
        }
        5 => [b"[".repeat(dice.below(5000)), b"]".repeat(dice.below(5000))].concat(),
        6 => {
            let right = nearly_right(dice, path).to_string().into_bytes();
            dice.damage(right)
        }
        7 => value(dice, 4).to_string().into_bytes(),
        _ => nearly_right(dice, path).to_string().into_bytes(),
    }
}

#[test]
#[allow(clippy::print_stdout)] // the seed
fn ten_thousand_hostile_requests_break_nothing() {
    let seed = match std::env::var("FUZZ_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos() as u64,
    };
    println!("FUZZ_SEED={seed}");
    let running = Running::new();
    let pictures =
        vec![png(1), png(200), b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(), b"\xFF\xD8\xFF\xE0\0\x10JFIF\0".to_vec()];
    let (next, statuses) = (AtomicUsize::new(0), Mutex::new(std::collections::BTreeMap::<u16, usize>::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= REQUESTS {
                        break;
                    }
                    let mut dice = Dice(seed ^ (number as u64) << 40);
                    let path = dice.one(&PATHS);
                    let mut address = path.to_owned();
                    for place in 0..dice.below(4) {
                        address.push(if place == 0 { '?' } else { '&' });
                        address.push_str(dice.one(&NAMES));
                        address.push('=');
                        address.push_str(dice.one(&VALUES));
                    }
                    let method =
                        dice.one(&["GET", "GET", "GET", "POST", "POST", "POST", "POST", "PUT", "HEAD", "BREW"]);
                    let kind = dice.one(&[
                        "application/json",
                        "image/png",
                        "multipart/form-data; boundary=x",
                        "text/html",
                        "?",
                    ]);
                    let body = body(&mut dice, path, &pictures);
                    let answer = running.ask(method, &address, &format!("Content-Type: {kind}\r\n"), &body);
                    let shown = String::from_utf8_lossy(&body[..body.len().min(2000)]).into_owned();
                    assert!(
                        (200..500).contains(&answer.status),
                        "FUZZ_SEED={seed}, request {number}: {} to {method} {address} {shown}",
                        answer.status
                    );
                    *statuses.lock().expect("not poisoned").entry(answer.status).or_default() += 1;
                }
            });
        }
    });
    let statuses = statuses.into_inner().expect("not poisoned");
    assert!(statuses[&200] > REQUESTS / 20, "requests that are fine are among them: {statuses:?}");
    assert!(statuses[&400] > REQUESTS / 20, "{statuses:?}");
    assert_eq!(running.json("/api/v1/search?text=picture+7")["results"][0]["key"], key(7), "it still searches");
}
