//! Pairs on their way to be deduplicated: sorted by uid, in files that nobody else reads.
//!
//! ```text
//! record: uid (16 bytes) · length of the rest (varint) · record_offset (varint) · link (varint) · lengths · texts
//! length: 0 (none), or length + 1 (varint)
//! texts:  UTF-8, one behind the other, so that they are checked at once
//! ```

mod transit;

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use fs_err as fs;
use md5::{Digest, Md5};
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::proto::{put_varint, take_varint};
use crate::publish::{Draft, FileEntry};
use crate::row::Row;
use crate::schema::Pair;
use crate::table::TableWriter;
use crate::{Error, Result};

pub use transit::{Packer, Parcel, Transit, Uids, Whose};

/// Texts of a batch together.
const BATCH_TEXT_BYTES: usize = 1 << 30;

/// The identity of a pair, of which [`crate::schema::uid`] is the text: md5(caption + url), first byte first.
pub fn uid(caption: &str, url: &str) -> u128 {
    let mut hash = Md5::new();
    hash.update(caption);
    hash.update(url);
    u128::from_be_bytes(hash.finalize().into())
}

/// A [`Pair`] without its uid and archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PairView<'a> {
    pub url: &'a str,
    pub caption: &'a str,
    pub page_url: &'a str,
    pub license: Option<&'a str>,
    pub license_evidence: Option<&'a str>,
    pub language: &'a str,
    pub record_offset: u64,
    /// Which link of the record.
    pub link: u32,
    /// `TAG@/attribute`.
    pub path: &'a str,
    pub source: &'a str,
}

impl<'a> PairView<'a> {
    fn texts(&self) -> [Option<&'a str>; 8] {
        [
            Some(self.url),
            Some(self.caption),
            Some(self.page_url),
            self.license,
            self.license_evidence,
            Some(self.language),
            Some(self.path),
            Some(self.source),
        ]
    }

    fn text_bytes(&self) -> usize {
        self.texts().into_iter().flatten().map(str::len).sum()
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.record_offset);
        put_varint(out, self.link.into());
        let texts = self.texts();
        texts.iter().for_each(|text| put_varint(out, text.map_or(0, |text| text.len() as u64 + 1)));
        texts.into_iter().flatten().for_each(|text| out.extend_from_slice(text.as_bytes()));
    }

    fn take(mut bytes: &'a [u8]) -> Option<Self> {
        let (record_offset, link) = (take_varint(&mut bytes)?, take_varint(&mut bytes)?.try_into().ok()?);
        let mut lengths = [0usize; 8];
        for length in &mut lengths {
            *length = take_varint(&mut bytes)?.try_into().ok()?;
        }
        let (mut texts, mut lengths) = (simdutf8::basic::from_utf8(bytes).ok()?, lengths.into_iter());
        let mut text = || -> Option<Option<&'a str>> {
            let Some(length) = lengths.next()?.checked_sub(1) else { return Some(None) };
            let (text, rest) = texts.split_at_checked(length)?;
            texts = rest;
            Some(Some(text))
        };
        let (url, caption, page_url) = (text()??, text()??, text()??);
        let (license, license_evidence) = (text()?, text()?);
        let (language, path, source) = (text()??, text()??, text()??);
        Some(Self { url, caption, page_url, license, license_evidence, language, record_offset, link, path, source })
    }
}

/// Pairs in memory that will be a file.
#[derive(Debug, Default)]
pub struct SpillWriter {
    bytes: Vec<u8>,
    /// uid, and where the rest lies.
    entries: Vec<(u128, u32, u32)>,
}

impl SpillWriter {
    /// Memory that the pairs take.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<(u128, u32, u32)>()
    }

    /// Appends a pair.
    pub fn push(&mut self, uid: u128, pair: &PairView<'_>) {
        let start = self.bytes.len() as u32;
        pair.put(&mut self.bytes);
        self.entries.push((uid, start, self.bytes.len() as u32 - start));
    }

    /// Publishes the pairs, of equal ones the first, and forgets them. Gives the file and the number of the others.
    pub fn publish(&mut self, path: &Path) -> Result<(FileEntry, u64)> {
        let duplicates = self.sort();
        let (mut draft, mut part) = (Draft::create(path)?, Vec::new());
        for entry in &self.entries {
            put_record(&mut part, entry.0, self.content(entry));
            if part.len() >= PART_BYTES {
                draft.write_all(&part)?;
                part.clear();
            }
        }
        draft.write_all(&part)?;
        self.clear();
        Ok((draft.publish()?, duplicates))
    }

    /// Puts the pairs, of equal ones the first, into the parcel of the range of uids they are in, and forgets them. There are as many
    /// equal ranges as parcels.
    pub fn put(&mut self, packer: &mut Packer, whose: Whose<'_>, parcels: &mut [Parcel<Vec<u8>>]) {
        self.sort();
        // The first digits as a fraction of one.
        let ranges = parcels.len() as u128;
        let range = |uid: u128| (((uid >> 96) * ranges) >> 32) as usize;
        for entries in self.entries.chunk_by(|a, b| range(a.0) == range(b.0)) {
            let pairs = entries.iter().map(|entry| (entry.0, self.content(entry)));
            parcels[range(entries[0].0)].put(packer, whose, pairs);
        }
        self.clear();
    }

    /// Brings the pairs in the order of their uids, of equal ones the first, and gives the number of the others.
    fn sort(&mut self) -> u64 {
        // In the order they came in, by their place.
        self.entries.sort_unstable();
        let before = self.entries.len();
        self.entries.dedup_by_key(|entry| entry.0);
        (before - self.entries.len()) as u64
    }

    fn content(&self, &(_, start, length): &(u128, u32, u32)) -> &[u8] {
        &self.bytes[start as usize..][..length as usize]
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

/// A file of sorted pairs that is read once, from front to back. It is open only while it is read: there may be a hundred
/// thousand.
#[derive(Debug)]
pub struct Spill {
    path: PathBuf,
    at: u64,
    length: u64,
    /// The uid at `at`, if it has been seen.
    next: Option<u128>,
}

impl Spill {
    /// Looks at a file.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), at: 0, length: fs::metadata(path)?.len(), next: None })
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// Pairs whose uids lie in a range.
#[derive(Debug, Default)]
pub struct Bucket {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// A pair of a [`Bucket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Identity.
    pub uid: u128,
    /// Number of the file it comes from.
    pub spill: u32,
    start: u32,
    end: u32,
}

impl Bucket {
    /// Appends what the file has below `bound`, reading about `part` bytes at a time.
    pub fn take(&mut self, number: u32, spill: &mut Spill, bound: Option<u128>, part: usize) -> Result<()> {
        let beyond = |uid: u128| bound.is_some_and(|bound| uid >= bound);
        if spill.at == spill.length || spill.next.is_some_and(beyond) {
            return Ok(());
        }
        let file = fs::File::open(&spill.path)?;
        let mut start = self.bytes.len();
        loop {
            let mut missing = 0;
            while let Some((uid, content)) = record(&self.bytes, start) {
                if beyond(uid) {
                    spill.next = Some(uid);
                    self.bytes.truncate(start);
                    return Ok(());
                }
                missing = content.end.saturating_sub(self.bytes.len());
                if missing > 0 {
                    break;
                }
                let place = |place: usize| {
                    let cause = "over 4 GiB of pairs have uids that are next to each other";
                    u32::try_from(place).map_err(|_| Error::format(&spill.path, cause))
                };
                let (from, to) = (place(content.start)?, place(content.end)?);
                self.entries.push(Entry { uid, spill: number, start: from, end: to });
                spill.at += (content.end - start) as u64;
                start = content.end;
            }
            let filled = self.bytes.len();
            let from = spill.at + (filled - start) as u64;
            let bytes = (spill.length - from).min(part.max(missing) as u64) as usize;
            if bytes == 0 && filled == start {
                return Ok(());
            }
            if bytes == 0 {
                return Err(Error::format(&spill.path, format!("byte {}: a damaged pair", spill.at)));
            }
            self.bytes.resize(filled + bytes, 0);
            file.file().read_exact_at(&mut self.bytes[filled..], from)?;
        }
    }

    /// Brings the pairs in the order of their uids; of equal ones that of the first file comes first.
    pub fn sort(&mut self) {
        self.entries.sort_unstable();
    }

    /// The pairs, in their order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Memory that the pairs take.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>()
    }

    /// What belongs to an entry of this bucket.
    pub fn get(&self, entry: &Entry) -> Result<PairView<'_>> {
        entry.view(&self.bytes)
    }
}

impl Entry {
    /// The pair, in the bytes that the entry has places of.
    fn view<'a>(&self, bytes: &'a [u8]) -> Result<PairView<'a>> {
        PairView::take(&bytes[self.start as usize..self.end as usize])
            .ok_or_else(|| Error::Invalid(format!("the collected pair {:032x} is damaged", self.uid)))
    }
}

/// Bytes of records that are written at once: few enough to stay in the processor's cache.
const PART_BYTES: usize = 64 << 10;

fn put_record(file: &mut Vec<u8>, uid: u128, content: &[u8]) {
    file.extend_from_slice(&uid.to_be_bytes());
    put_bytes(file, content);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The uid of the record at `start`, and where its content lies, which may be beyond the end.
fn record(bytes: &[u8], start: usize) -> Option<(u128, Range<usize>)> {
    let (uid, mut rest) = bytes.get(start..)?.split_first_chunk()?;
    let length: usize = take_varint(&mut rest)?.try_into().ok()?;
    let content = bytes.len() - rest.len();
    Some((u128::from_be_bytes(*uid), content..content.checked_add(length)?))
}

/// A whole [`Pair`].
#[derive(Clone, Copy, Debug)]
pub struct Collected<'a> {
    /// Identity.
    pub uid: u128,
    /// The archive's file name.
    pub archive: &'a str,
    /// The rest.
    pub pair: PairView<'a>,
}

/// Starts a table of pairs, compressed with zstd (level 1; a build in Rust alone has Snappy).
///
/// Values that stand once are not looked for in a dictionary first, and the least and greatest are told of uids alone, which are in
/// their order.
pub fn create_table(path: &Path) -> Result<TableWriter<Pair>> {
    #[cfg(feature = "native")]
    let compression = Compression::ZSTD(Default::default());
    #[cfg(not(feature = "native"))]
    let compression = Compression::SNAPPY;
    let mut properties = WriterProperties::builder()
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled("uid".into(), EnabledStatistics::Page);
    for column in ["uid", "url", "caption", "page_url", "record_offset", "link_path"] {
        properties = properties.set_column_dictionary_enabled(column.into(), false);
    }
    TableWriter::with_properties(path, properties)
}

/// Pairs as the columns of [`Pair`]: one batch, or as many as it takes, because a column of texts has no room for 2 GiB.
pub fn to_batches(rows: &[Collected<'_>]) -> Vec<RecordBatch> {
    batches_within(rows, BATCH_TEXT_BYTES)
}

fn batches_within(mut rows: &[Collected<'_>], text_bytes: usize) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    // No pair at all is a batch, too.
    while batches.is_empty() || !rows.is_empty() {
        let mut bytes = 0;
        let mut fits = |row: &Collected<'_>| {
            bytes += row.pair.text_bytes();
            bytes <= text_bytes
        };
        let count = rows.iter().take_while(|row| fits(row)).count().max(1).min(rows.len());
        let (batch, rest) = rows.split_at(count);
        batches.push(to_batch(batch));
        rows = rest;
    }
    batches
}

fn to_batch(rows: &[Collected<'_>]) -> RecordBatch {
    let columns = vec![
        written(rows, 32, |row, out| put_hex(out, row.uid)),
        texts(rows, |row| row.pair.url),
        texts(rows, |row| row.pair.caption),
        texts(rows, |row| row.pair.page_url),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.pair.license))),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.pair.license_evidence))),
        texts(rows, |row| row.pair.language),
        texts(rows, |row| row.archive),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.pair.record_offset as i64))),
        written(rows, 16, |row, out| write!(out, "{} {}", row.pair.link, row.pair.path)),
        texts(rows, |row| row.pair.source),
    ];
    RecordBatch::try_new(Pair::schema(), columns).expect("columns follow the schema")
}

/// A column of texts, which are copied once.
fn texts<'a>(rows: &'a [Collected<'a>], text: impl Fn(&'a Collected<'a>) -> &'a str) -> ArrayRef {
    let bytes = rows.iter().map(|row| text(row).len()).sum();
    let mut column = StringBuilder::with_capacity(rows.len(), bytes);
    rows.iter().for_each(|row| column.append_value(text(row)));
    Arc::new(column.finish())
}

/// A column of texts of about so many bytes that do not stand anywhere yet.
fn written(
    rows: &[Collected<'_>],
    bytes: usize,
    write: impl Fn(&Collected<'_>, &mut StringBuilder) -> fmt::Result,
) -> ArrayRef {
    let mut column = StringBuilder::with_capacity(rows.len(), rows.len() * bytes);
    for row in rows {
        write(row, &mut column).expect("memory");
        column.append_value("");
    }
    Arc::new(column.finish())
}

fn put_hex(out: &mut impl fmt::Write, uid: u128) -> fmt::Result {
    let mut digits = [0; 32];
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(uid >> (4 * place)) as usize & 15];
    }
    out.write_str(std::str::from_utf8(&digits).expect("ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::FromBatch;
    use proptest::prelude::*;

    fn view<'a>(caption: &'a str, offset: u64) -> PairView<'a> {
        PairView {
            url: "http://a.com/i.jpg",
            caption,
            page_url: "http://a.com/",
            license: offset.is_multiple_of(2).then_some(""),
            record_offset: offset,
            link: offset as u32 % 7,
            path: "IMG@/src",
            source: "alt",
            ..PairView::default()
        }
    }

    fn all(spills: &mut [Spill], bound: Option<u128>, part: usize) -> Bucket {
        let mut bucket = Bucket::default();
        for (number, spill) in spills.iter_mut().enumerate() {
            bucket.take(number as u32, spill, bound, part).expect("sound");
        }
        bucket.sort();
        bucket
    }

    #[test]
    fn batches_keep_to_their_bytes_and_have_every_row() {
        let captions = ["a", "a caption of some length", "", "b", "c", "another one that is long"];
        let rows = captions.map(|caption| Collected { uid: 1, archive: "", pair: view(caption, 1) });
        let least = view("", 1).text_bytes();
        for text_bytes in [0, least, least + 3, 2 * least + 3, 4 * least, usize::MAX] {
            let batches = batches_within(&rows, text_bytes);
            let pairs: Vec<_> = batches.iter().map(|batch| Pair::from_batch(batch).expect("its columns")).collect();
            assert!(pairs.iter().flatten().map(|pair| pair.caption.as_str()).eq(captions), "{text_bytes}");
            let bytes = |batch: &Vec<Pair>| batch.iter().map(|pair| least + pair.caption.len()).sum::<usize>();
            assert!(pairs.iter().all(|batch| batch.len() == 1 || bytes(batch) <= text_bytes), "{text_bytes}");
        }
        assert_eq!(batches_within(&rows, usize::MAX).len(), 1);
        assert_eq!(batches_within(&rows, 0).len(), rows.len());
        assert_eq!(to_batches(&[]).len(), 1);
    }

    #[test]
    fn a_pair_is_the_row_that_it_was() {
        let (caption, url) = ("a cat", "http://a.com/i.jpg");
        assert_eq!(format!("{:032x}", uid(caption, url)), crate::schema::uid(caption, url));
        let rows = [Collected { uid: uid(caption, url), archive: "a.wat.gz", pair: view(caption, 8) }];
        let pair = Pair::from_batch(&to_batches(&rows)[0]).expect("its columns").remove(0);
        let expected = Pair {
            uid: crate::schema::uid(caption, url),
            url: url.into(),
            caption: caption.into(),
            page_url: "http://a.com/".into(),
            license: Some(String::new()),
            license_evidence: None,
            language: String::new(),
            archive: "a.wat.gz".into(),
            record_offset: 8,
            link_path: "1 IMG@/src".into(),
            source: "alt".into(),
        };
        assert_eq!(pair, expected);
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.pairs");
        let mut writer = SpillWriter::default();
        (0..50).for_each(|i| writer.push(i << 100, &view("a caption", i as u64)));
        writer.publish(&path).expect("room");
        let sound = fs::read(&path).expect("written");
        fs::write(&path, &sound[..sound.len() - 3]).expect("room");
        let error = Bucket::default().take(0, &mut Spill::open(&path).expect("there"), None, 100).expect_err("cut off");
        assert!(error.to_string().contains("a.pairs: byte"), "{error}");
        for place in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[place] ^= 0xFF;
            fs::write(&path, damaged).expect("room");
            let mut bucket = Bucket::default();
            let _ = bucket.take(0, &mut Spill::open(&path).expect("there"), None, 100);
            bucket.entries().iter().for_each(|entry| drop(bucket.get(entry)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_uid_comes_once_in_the_bucket_of_its_range(
            files in prop::collection::vec(prop::collection::vec((0..40u128, ".{0,30}"), 0..60), 1..4),
            buckets in 1..6u128,
            part in 1..400usize,
        ) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (mut spills, mut expected) = (Vec::new(), std::collections::BTreeMap::new());
            for (number, pairs) in files.iter().enumerate() {
                let mut writer = SpillWriter::default();
                for (offset, (uid, caption)) in (0..).zip(pairs) {
                    writer.push(uid << 120, &view(caption, offset));
                    expected.entry((uid << 120, number)).or_insert((offset, caption.clone()));
                }
                let path = folder.path().join(format!("{number}.pairs"));
                let (_, duplicates) = writer.publish(&path).expect("room");
                let uids: std::collections::BTreeSet<_> = pairs.iter().map(|(uid, _)| uid).collect();
                prop_assert_eq!(duplicates as usize, pairs.len() - uids.len());
                spills.push(Spill::open(&path).expect("written"));
            }
            let mut found = Vec::new();
            for number in 1..=buckets {
                let bound = (number < buckets).then_some((40 * number / buckets) << 120);
                let bucket = all(&mut spills, bound, part);
                for entry in bucket.entries() {
                    let pair = bucket.get(entry).expect("sound");
                    prop_assert!(bound.is_none_or(|bound| entry.uid < bound));
                    prop_assert_eq!(pair, view(pair.caption, pair.record_offset));
                    found.push(((entry.uid, entry.spill as usize), (pair.record_offset, pair.caption.to_owned())));
                }
            }
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
