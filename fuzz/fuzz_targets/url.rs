//! Relative links: the first line is the page, the second the base, every other one a link.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let (page, base) = (lines.next(), lines.next());
    let links: Vec<_> = lines.map(|url| json!({"path": "IMG@/src", "url": url, "alt": "a caption"})).collect();
    let html = json!({"Head": {"Base": base}, "Links": links});
    let record = json!({"Envelope": {
        "Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": html}},
        "WARC-Header-Metadata": {"WARC-Target-URI": page},
    }});
    fuzz::collect("metadata", record.to_string().as_bytes());
});
