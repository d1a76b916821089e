//! gzip, zstd and WARC: any bytes, and a sound archive with these bytes in it.

#![no_main]

use std::io::{Cursor, Write};
use std::path::Path;
use std::sync::LazyLock;

use dataset::warc::{WarcEntry, WarcReader};
use libfuzzer_sys::fuzz_target;

fn records(bytes: Vec<u8>) -> usize {
    let length = bytes.len() as u64;
    let Ok(mut reader) = WarcReader::new(Box::new(Cursor::new(bytes)), Path::new("fuzz")) else { return 0 };
    let mut sound = 0;
    while let Some(entry) = reader.next_entry().expect("memory does not fail") {
        match entry {
            WarcEntry::Record(record) => {
                assert!(record.offset < length);
                sound += 1;
            }
            WarcEntry::Broken(flaw) => assert!(flaw.offset <= length),
        }
    }
    assert_eq!(reader.offset(), length, "all of it is looked at");
    sound
}

static MEMBER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"WARC/1.0\r\nContent-Length: 4\r\n\r\nbody\r\n\r\n").expect("memory");
    gzip.finish().expect("memory")
});

fuzz_target!(|bytes: &[u8]| {
    records(bytes.to_vec());
    let member = &MEMBER[..];
    assert!(records([member, bytes].concat()) >= 1, "what stands before damage is kept");
});
