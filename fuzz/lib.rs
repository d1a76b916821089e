//! What the targets share.

use std::io::Cursor;
use std::path::Path;

use dataset::warc::WarcReader;
use pipeline::collect::{Config, Rules, extract};

/// Collects the pairs of an archive of one record by every set of rules; every candidate must have an end.
pub fn collect(kind: &str, body: &[u8]) {
    let head = format!(
        "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://a.com/x/\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let archive = [head.as_bytes(), body, b"\r\n\r\n"].concat();
    for rules in [Rules::Laion400m, Rules::Cc2dataset] {
        let config = Config { rules, languages: Vec::new(), ..Config::laion400m() };
        let reader = WarcReader::new(Box::new(Cursor::new(archive.clone())), Path::new("fuzz")).expect("an archive");
        let mut pairs = 0;
        let counts = extract(&config, reader, &mut |_, pair| {
            assert!(pair.url.starts_with("http://") || pair.url.starts_with("https://"));
            assert!(!pair.caption.is_empty());
            pairs += 1;
        });
        let counts = counts.expect("nothing but memory is read");
        counts.check().expect("every candidate has an end");
        assert_eq!((counts.kept, counts.read["records"]), (pairs, 1));
    }
}
