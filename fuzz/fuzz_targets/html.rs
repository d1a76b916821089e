//! The record of a WARC: an HTTP answer with a page; and the page alone.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzz::collect("response", bytes);
    fuzz::collect("response", &[b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", bytes].concat());
});
