//! WARC archives as Common Crawl writes them: a gzip member per record (WARC, WAT and WET alike).
//!
//! ```text
//! WARC/1.0\r\n  Name: value\r\n …  \r\n  Content-Length bytes  \r\n\r\n
//! ```
//! Source: the WARC 1.0 and 1.1 specifications (ISO 28500), and files of Common Crawl.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use fs_err as fs;

use crate::{Error, Result};

/// Longest inflated member: Common Crawl cuts pages at 1 MiB, and the largest WAT record seen is below 32 MiB.
const MEMBER_BYTES_MAX: u64 = 64 << 20;
/// Longest header block of a record.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// A record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WarcRecord {
    /// Where its gzip member starts in the file, in bytes.
    pub offset: u64,
    /// `warcinfo`, `request`, `response`, `metadata`, …
    pub kind: String,
    /// The page, where the record has one.
    pub target: Option<String>,
    /// The content.
    pub body: Vec<u8>,
}

/// What stands at a place of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarcEntry {
    /// A sound record.
    Record(WarcRecord),
    /// Damage: where it starts, and what it is. Reading goes on with the next sound member.
    Broken {
        /// In bytes from the start of the file.
        offset: u64,
        /// What is wrong.
        cause: String,
    },
}

/// Reads an archive record by record, one gzip member in memory at a time, past any damage.
#[derive(Debug)]
pub struct WarcReader {
    file: Counted,
    path: PathBuf,
    length: u64,
    pending: std::collections::VecDeque<WarcEntry>,
}

/// A file that knows where it is: [`BufReader`] alone would ask the system each time.
#[derive(Debug)]
struct Counted {
    file: BufReader<fs::File>,
    offset: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.file.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.offset += bytes as u64;
        self.file.consume(bytes);
    }
}

impl WarcReader {
    /// Opens a `.warc.gz` or `.warc.wat.gz`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        let mut file = Counted { file: BufReader::with_capacity(1 << 17, file), offset: 0 };
        if length > 0 && !file.fill_buf()?.starts_with(&[0x1F, 0x8B]) {
            return Err(Error::format(path, "byte 0: not gzip"));
        }
        Ok(Self { file, path: path.into(), length, pending: Default::default() })
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.file.offset
    }

    fn read(&mut self) -> Result<Option<WarcEntry>> {
        loop {
            if let Some(entry) = self.pending.pop_front() {
                return Ok(Some(entry));
            }
            if self.file.fill_buf()?.is_empty() {
                return Ok(None);
            }
            self.read_member()?;
        }
    }

    fn read_member(&mut self) -> Result<()> {
        let offset = self.file.offset;
        let mut content = Vec::new();
        let read = GzDecoder::new(&mut self.file).take(MEMBER_BYTES_MAX + 1).read_to_end(&mut content);
        let cut_off = matches!(&read, Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof);
        let cause = match read {
            Ok(_) if content.len() as u64 <= MEMBER_BYTES_MAX => None,
            Ok(_) => Some(format!("a gzip member of over {MEMBER_BYTES_MAX} bytes")),
            Err(_) if cut_off => Some("cut off in a gzip member".into()),
            Err(error) => Some(format!("gzip: {error}")),
        };
        // What stands before a cut is sound; of a member with another flaw nothing can be trusted.
        let mut rest = if cause.is_none() || cut_off { content.as_slice() } else { &[] };
        while !rest.iter().all(u8::is_ascii_whitespace) {
            match parse_record(&mut rest, offset) {
                Ok(record) => self.pending.push_back(WarcEntry::Record(record)),
                Err(_) if cut_off => break, // the cut is reported below
                Err(cause) => {
                    self.pending.push_back(WarcEntry::Broken { offset, cause });
                    break;
                }
            }
        }
        if let Some(cause) = cause {
            self.pending.push_back(WarcEntry::Broken { offset, cause });
            self.skip_to_member(offset + 1)?;
        }
        Ok(())
    }

    /// Goes to the next place at or after `from` that looks like the start of a gzip member.
    fn skip_to_member(&mut self, from: u64) -> Result<()> {
        self.file.file.seek(SeekFrom::Start(from))?;
        self.file.offset = from;
        let mut matched = 0;
        loop {
            let buffer = self.file.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            for (i, &byte) in buffer.iter().enumerate() {
                // Magic, and deflate as the method.
                const START: [u8; 3] = [0x1F, 0x8B, 8];
                matched = if byte == START[matched] { matched + 1 } else { usize::from(byte == START[0]) };
                if matched == START.len() {
                    let start = self.file.offset + i as u64 + 1 - START.len() as u64;
                    self.file.file.seek(SeekFrom::Start(start))?;
                    self.file.offset = start;
                    return Ok(());
                }
            }
            let bytes = buffer.len();
            self.file.consume(bytes);
        }
    }
}

impl Iterator for WarcReader {
    type Item = Result<WarcEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.file.offset;
        self.read().map_err(|error| Error::format(&self.path, format!("byte {offset}: {error}"))).transpose()
    }
}

/// Takes one record off the front of `bytes`.
fn parse_record(bytes: &mut &[u8], offset: u64) -> Result<WarcRecord, String> {
    let head_end = bytes
        .windows(4)
        .take(HEADER_BYTES_MAX)
        .position(|window| window == b"\r\n\r\n")
        .ok_or("a WARC record without end of headers")?;
    let head = String::from_utf8_lossy(&bytes[..head_end]);
    let mut lines = head.split("\r\n");
    if !lines.next().is_some_and(|line| line.trim_start().starts_with("WARC/1.")) {
        return Err("not a WARC record".into());
    }
    let mut record = WarcRecord { offset, ..WarcRecord::default() };
    let mut length = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "warc-type" => record.kind = value.to_ascii_lowercase(),
            "warc-target-uri" => record.target = Some(value.trim_matches(['<', '>']).to_owned()),
            "content-length" => length = value.parse::<usize>().ok(),
            _ => {}
        }
    }
    let length = length.ok_or("a WARC record without Content-Length")?;
    let rest = &bytes[head_end + 4..];
    let (body, rest) = rest
        .split_at_checked(length)
        .ok_or_else(|| format!("a WARC record cut off: {} of {length} bytes", rest.len()))?;
    record.body = body.to_vec();
    *bytes = rest.strip_prefix(b"\r\n\r\n").unwrap_or(rest);
    Ok(record)
}

#[cfg(test)]
mod tests {
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

    fn read(bytes: &[u8]) -> Vec<WarcEntry> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.warc.gz");
        fs::write(&path, bytes).expect("room");
        match WarcReader::open(&path) {
            Ok(reader) => reader.collect::<Result<_>>().expect("damage is an entry, not an error"),
            Err(_) => Vec::new(),
        }
    }

    fn bodies(entries: &[WarcEntry]) -> Vec<String> {
        let body = |entry: &WarcEntry| match entry {
            WarcEntry::Record(record) => record.body.clone(),
            WarcEntry::Broken { .. } => b"broken".to_vec(),
        };
        entries.iter().map(|entry| String::from_utf8(body(entry)).expect("text")).collect()
    }

    #[test]
    fn every_record_knows_its_offset() {
        let (one, two) = (member("warcinfo", "one"), member("metadata", "two"));
        let entries = read(&[&one[..], &two].concat());
        assert_eq!(bodies(&entries), ["one", "two"]);
        let WarcEntry::Record(second) = &entries[1] else { panic!("{entries:?}") };
        assert_eq!((second.offset, second.kind.as_str()), (one.len() as u64, "metadata"));
        assert_eq!(second.target.as_deref(), Some("http://a.com/two"));
    }

    #[test]
    fn a_damaged_record_loses_nothing_else() {
        let (one, mut two, three) = (member("metadata", "one"), member("metadata", "two"), member("metadata", "three"));
        let middle = two.len() / 2;
        two[middle..middle + 8].fill(0xFF);
        let entries = read(&[&one[..], &two, &three].concat());
        assert_eq!(bodies(&entries), ["one", "broken", "three"]);
        assert!(matches!(entries[1], WarcEntry::Broken { offset, .. } if offset == one.len() as u64));
    }

    #[test]
    fn an_archive_that_was_cut_off_keeps_what_it_has() {
        let (one, two) = (member("metadata", "one"), member("metadata", "two"));
        let whole = [&one[..], &two].concat();
        assert_eq!(bodies(&read(&whole[..whole.len() - 20])), ["one", "broken"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let gzip = member("metadata", &String::from_utf8_lossy(&bytes));
            let _ = read(&[&[0x1F, 0x8B, 8], &bytes[..]].concat());
            let _ = read(&[&gzip[..], &bytes, &gzip].concat());
        }
    }
}
