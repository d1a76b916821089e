use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::Write;

fn member(kind: &str, body: &str) -> Vec<u8> {
    let head = format!("WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://a.com/{body}\r\n");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    write!(gzip, "{head}Content-Length: {}\r\n\r\n{body}\r\n\r\n", body.len()).expect("memory");
    gzip.finish().expect("memory")
}

/// Offset and content of each record, or what is wrong.
fn read(bytes: &[u8]) -> Vec<(u64, String)> {
    let Ok(mut reader) = WarcReader::new(Box::new(io::Cursor::new(bytes.to_vec())), Path::new("a.warc")) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry().expect("damage is an entry, not an error") {
        all.push(match entry {
            WarcEntry::Record(record) => {
                let text = std::str::from_utf8(record.body).unwrap_or("no text");
                assert!(record.target.is_empty() || text == "no text" || record.target.starts_with("http://a.com/"));
                (record.offset, text.to_owned())
            }
            WarcEntry::Broken(flaw) => (flaw.offset, format!("broken: {}", flaw.cause)),
        });
    }
    assert_eq!(reader.offset(), bytes.len() as u64);
    all
}

fn plain(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: {length}\r\n\r\n{body}\r\n\r\n").into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).expect("memory");
    gzip.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

fn texts(entries: &[(u64, String)]) -> Vec<&str> {
    entries.iter().map(|(_, text)| text.as_str()).collect()
}

#[test]
fn every_record_knows_its_offset() {
    let (one, two) = (member("warcinfo", "one"), member("metadata", "two"));
    let entries = read(&[&one[..], &two].concat());
    assert_eq!(entries, [(0, "one".into()), (one.len() as u64, "two".into())]);
}

#[test]
fn records_are_the_same_however_the_archive_is_compressed() {
    let long = "x".repeat(3 << 20);
    let records = [plain("one"), plain(&long), plain("three")];
    let all = records.concat();
    let starts = |parts: &[Vec<u8>]| [0, parts[0].len() as u64, (parts[0].len() + parts[1].len()) as u64];
    let each = |compress: fn(&[u8]) -> Vec<u8>| records.iter().map(|record| compress(record)).collect::<Vec<_>>();
    let (gzips, zstds) = (each(gzip), each(zstd));
    for (archive, offsets) in [
        (all.clone(), starts(&records)),
        (gzips.concat(), starts(&gzips)),
        (zstds.concat(), starts(&zstds)),
        (gzip(&all), [0; 3]),
        (zstd(&all), [0; 3]),
    ] {
        let expected: Vec<_> = offsets.into_iter().zip(["one", &long, "three"]).collect();
        let found = read(&archive);
        assert!(found.iter().map(|(offset, text)| (*offset, text.as_str())).eq(expected));
    }
}

#[test]
fn one_gzip_stream_may_be_longer_than_memory_allows() {
    let body = "0123456789".repeat(1 << 20);
    let records: Vec<u8> = (0..5).flat_map(|_| plain(&body)).chain(plain("last")).collect();
    let found = read(&gzip(&records));
    assert_eq!((found.len(), found[4].1.len(), found[5].1.as_str()), (6, body.len(), "last"));
}

#[test]
fn a_damaged_record_loses_nothing_else() {
    for compress in [gzip, zstd] {
        let [one, mut two, three] = ["one", &"two".repeat(100), "three"].map(|body| compress(&plain(body)));
        let middle = two.len() / 2;
        two[middle..middle + 8].fill(0xFF);
        let entries = read(&[&one[..], &two, &three].concat());
        assert_eq!((entries.len(), entries[0].1.as_str(), entries[2].1.as_str()), (3, "one", "three"), "{entries:?}");
        assert!(entries[1].1.starts_with("broken: ") && entries[1].0 == one.len() as u64, "{entries:?}");
    }
    // A flag that says that a name follows, up to a zero byte which there is none of.
    let mut members = [gzip(&plain("one")), gzip(&plain("two"))];
    members[0][3] |= 8;
    members[0].iter_mut().skip(10).filter(|byte| **byte == 0).for_each(|byte| *byte = 1);
    let found = read(&members.concat());
    assert_eq!((found.len(), found[1].1.as_str()), (2, "two"), "{found:?}");
    let mut records = [plain("one"), plain("two"), plain("three")];
    records[1][5] = b'9';
    let start = records[0].len() as u64;
    let entries = read(&records.concat());
    assert_eq!(texts(&entries), ["one", "broken: not a WARC record", "three"]);
    assert_eq!(entries[1].0, start);
}

#[test]
fn an_archive_that_was_cut_off_keeps_what_it_has() {
    let (one, two) = (member("metadata", "one"), member("metadata", "two"));
    let whole = [&one[..], &two].concat();
    assert_eq!(texts(&read(&whole[..whole.len() - 20])), ["one", "broken: cut off in a member"]);
    let whole = gzip(&[plain("one"), plain("two")].concat());
    assert_eq!(texts(&read(&whole[..whole.len() - 4])), ["one", "two", "broken: cut off in a member"]);
    let whole = [plain("one"), plain("two")].concat();
    let cut = read(&whole[..whole.len() - 6]);
    assert_eq!(texts(&cut), ["one", "broken: a WARC record cut off: 1 of 3 bytes"]);
}

#[test]
fn a_bomb_is_one_broken_record() {
    let bomb = |head: &str, filling: u8| {
        let mut gzip = GzEncoder::new(head.as_bytes().to_vec(), Compression::best());
        gzip.get_mut().clear();
        gzip.write_all(head.as_bytes()).expect("memory");
        (0..200).for_each(|_| gzip.write_all(&vec![filling; 1 << 20]).expect("memory"));
        gzip.finish().expect("memory")
    };
    let length = 200 << 20;
    let (good, lines) = (member("metadata", "good"), bomb("", b'\n'));
    let (long, huge) = (bomb(&format!("WARC/1.0\r\nContent-Length: {length}\r\n\r\n"), 0), bomb("WARC/1.0\r\n", b'a'));
    assert!(long.len() < 300_000);
    let entries = read(&[&long[..], &good, &huge, &good, &lines, &good].concat());
    let expected = [
        "broken: a WARC record of 209715200 bytes, over 33554432",
        "good",
        "broken: a WARC record whose head is over 64 KiB",
        "good",
        "broken: nothing but spaces",
        "good",
    ];
    assert_eq!(texts(&entries), expected);
}

#[test]
fn what_is_no_archive_is_told() {
    let open = |bytes: &'static [u8]| WarcReader::new(Box::new(bytes), Path::new("a.warc")).map(|_| ());
    for (bytes, cause) in [(&b"no archive"[..], "neither gzip"), (b"\x50\x2A\x4D\x18\0\0\0\0", "dictionary")] {
        let error = open(bytes).expect_err("none").to_string();
        assert!(error.contains("a.warc: byte 0: ") && error.contains(cause), "{error}");
    }
    assert!(open(b"").is_ok(), "nothing is no flaw");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0..4usize) {
        let start = [GZIP, ZSTD, b"WARC/1.0\r\n", b"WARC/1.0\r\nContent-Length: 18446744073709551615\r\n\r\n"][start];
        read(&[start, &bytes].concat());
        let sound = member("metadata", &String::from_utf8_lossy(&bytes));
        read(&[&sound, &bytes[..], &sound].concat());
    }

    #[test]
    fn a_flipped_bit_costs_one_record_and_no_more_than_its_neighbour(place in 0..10_000usize, bit in 0..8u32) {
        let members = ["one", "two", "three", "four"].map(|body| gzip(&plain(body)));
        let mut archive = members.concat();
        let place = 3 + place % (archive.len() - 3);
        archive[place] ^= 1u8 << bit;
        let entries = read(&archive);
        let sound = entries.iter().filter(|(_, text)| !text.starts_with("broken")).count();
        prop_assert!((2..=4).contains(&sound), "{:?}", entries);
    }
}
