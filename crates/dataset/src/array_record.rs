//! ArrayRecord files: records that can be read in any order, as Grain and TensorFlow Datasets' data sources do.
//!
//! ```text
//! file    signature chunk | one chunk per record … | footer chunk | padding | postscript chunk | padding
//! chunk   header { u64 hash, u64 data size, u64 data hash, u8 type, u56 records, u64 decoded size } | data | zeros
//! block   at every multiple of 64 KiB, in the middle of whatever stands there: { u64 hash, u64 previous, u64 next }
//! records type 'r': compression | varint length of sizes | sizes (varints) | values; hashes are HighwayHash-64
//! footer  records RiegeliFooterMetadata, then for each chunk ArrayRecordFooter { 1: offset, 2: size, 3: records }
//! ```
//! The footer starts at the offset that the postscript tells, which stands in the last 64 KiB. Sources:
//! riegeli_records_file_format.md of Riegeli, array_record_writer.cc and layout.proto of ArrayRecord.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use highway::{HighwayHash, HighwayHasher, Key};

use crate::files;
use crate::proto::{Value, each_field, put_bytes, put_varint, take_varint};
use crate::tfrecord::RECORD_BYTES_MAX;
use crate::{Error, Result};

const BLOCK: u64 = 1 << 16;
const BLOCK_HEADER: u64 = 24;
const USABLE: u64 = BLOCK - BLOCK_HEADER;
const CHUNK_HEADER: u64 = 40;
/// `Riegeli/` and `records\n`, twice.
const KEY: [u64; 4] = [0x2f69_6c65_6765_6952, 0x0a73_6472_6f63_6572, 0x2f69_6c65_6765_6952, 0x0a73_6472_6f63_6572];
/// Tells a postscript from anything else.
const MAGIC: u64 = 0x7193_0e70_4fda_e05e;
/// What the writer says of itself in the footer: a chunk holds one record, as random access wants it.
const OPTIONS: &[u8] = b"group_size:1,uncompressed";

const SIGNATURE: u8 = b's';
const RECORDS: u8 = b'r';
const PADDING: u8 = b'p';

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = HighwayHasher::new(Key(KEY));
    parts.iter().for_each(|part| hasher.append(part));
    hasher.finalize64()
}

/// Where a chunk ends that begins at `begin`: block headers and padding are part of it.
fn chunk_end(begin: u64, data_size: u64, records: u64) -> u64 {
    let size = CHUNK_HEADER + data_size;
    let headers = (size + (begin + USABLE - 1) % BLOCK) / USABLE;
    // Every record has a number of its own that looks like a file position; no chunk ends inside a block header.
    let least = begin + records;
    let rest_of_block = BLOCK - 1 - (least + BLOCK - 1) % BLOCK;
    (begin + size + headers * BLOCK_HEADER).max(least + rest_of_block.saturating_sub(USABLE - 1))
}

/// Writes records uncompressed, one to a chunk: pictures do not compress, and any record is one read away.
#[derive(Debug)]
pub struct ArrayRecordWriter<W> {
    out: W,
    position: u64,
    /// The footer so far: sizes of its records as varints, and the records.
    footers: (Vec<u8>, Vec<u8>),
    records: u64,
}

impl<W: Write> ArrayRecordWriter<W> {
    /// Starts a file.
    pub fn new(out: W) -> io::Result<Self> {
        let mut writer = Self { out, position: 0, footers: (Vec::new(), Vec::new()), records: 0 };
        writer.chunk(SIGNATURE, 0, 0, &[])?;
        Ok(writer)
    }

    /// Appends a record.
    pub fn push(&mut self, record: &[u8]) -> io::Result<()> {
        let mut footer = Vec::new();
        put_number(&mut footer, 1, self.position);
        put_number(&mut footer, 2, record.len() as u64);
        put_number(&mut footer, 3, 1);
        put_varint(&mut self.footers.0, footer.len() as u64);
        self.footers.1.extend(footer);
        let mut size = Vec::new();
        put_varint(&mut size, record.len() as u64);
        self.simple_chunk(1, &size, record)?;
        self.records += 1;
        Ok(())
    }

    /// Writes footer and postscript, and gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        let mut options = Vec::new();
        put_number(&mut options, 1, 1); // version
        put_number(&mut options, 2, self.records); // chunks
        put_number(&mut options, 3, self.records);
        put_bytes(&mut options, 4, OPTIONS);
        let mut metadata = Vec::new();
        put_bytes(&mut metadata, 1, &options);
        let (mut sizes, mut values) = (Vec::new(), metadata);
        put_varint(&mut sizes, values.len() as u64);
        let footers = std::mem::take(&mut self.footers);
        sizes.extend(footers.0);
        values.extend(footers.1);
        let footer_offset = self.position;
        self.simple_chunk(self.records + 1, &sizes, &values)?;
        self.pad()?;
        let mut postscript = Vec::new();
        put_number(&mut postscript, 1, footer_offset);
        put_number(&mut postscript, 2, MAGIC);
        let sizes = [postscript.len() as u8; 3];
        self.simple_chunk(3, &sizes, &postscript.repeat(3))?;
        self.pad()?;
        Ok(self.out)
    }

    fn simple_chunk(&mut self, records: u64, sizes: &[u8], values: &[u8]) -> io::Result<()> {
        let mut head = vec![0]; // not compressed
        put_varint(&mut head, sizes.len() as u64);
        self.chunk(RECORDS, records, values.len() as u64, &[&head, sizes, values])
    }

    /// Fills the rest of a block.
    fn pad(&mut self) -> io::Result<()> {
        let rest = (BLOCK - self.position % BLOCK) % BLOCK;
        let size = match rest.checked_sub(CHUNK_HEADER) {
            _ if rest == 0 => return Ok(()),
            Some(size) => size,
            None => rest + USABLE - CHUNK_HEADER,
        };
        self.chunk(PADDING, 0, 0, &[&vec![0; size as usize]])
    }

    fn chunk(&mut self, kind: u8, records: u64, decoded_size: u64, data: &[&[u8]]) -> io::Result<()> {
        let data_size = data.iter().map(|part| part.len() as u64).sum();
        let begin = self.position;
        let end = chunk_end(begin, data_size, records);
        let numbers = [data_size, hash(data), u64::from(kind) | records << 8, decoded_size];
        let header: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.put(&hash(&[&header]).to_le_bytes(), begin, end)?;
        self.put(&header, begin, end)?;
        data.iter().try_for_each(|part| self.put(part, begin, end))?;
        while self.position < end {
            self.put(&[0], begin, end)?;
        }
        Ok(())
    }

    /// Writes bytes of the chunk from `begin` to `end`, and a header wherever a block starts.
    fn put(&mut self, mut bytes: &[u8], begin: u64, end: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.position.is_multiple_of(BLOCK) {
                let distances = [self.position - begin, end - self.position].map(u64::to_le_bytes).concat();
                self.out.write_all(&hash(&[&distances]).to_le_bytes())?;
                self.out.write_all(&distances)?;
                self.position += BLOCK_HEADER;
            }
            let room = BLOCK - self.position % BLOCK;
            let (now, later) = bytes.split_at(bytes.len().min(room as usize));
            self.out.write_all(now)?;
            self.position += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }
}

fn put_number(out: &mut Vec<u8>, field: u64, value: u64) {
    put_varint(out, field << 3);
    put_varint(out, value);
}

/// Reads records by their number, and checks every hash of what it reads.
#[derive(Debug)]
pub struct ArrayRecordReader {
    file: files::File,
    path: PathBuf,
    bytes: u64,
    /// Offset of each chunk, and the number of its first record.
    chunks: Vec<(u64, u64)>,
    records: u64,
    /// The chunk that was read last: writers may put several records into one.
    last: Option<(usize, Vec<Vec<u8>>)>,
}

impl ArrayRecordReader {
    /// Opens `path` and reads its footer.
    pub fn open(path: &Path) -> Result<Self> {
        let file = files::File::open(path)?;
        let bytes = file.length()?;
        let mut reader = Self { file, path: path.into(), bytes, chunks: Vec::new(), records: 0, last: None };
        reader.read_footer().map_err(|cause| Error::format(path, format!("not an ArrayRecord file: {cause}")))?;
        Ok(reader)
    }

    fn read_footer(&mut self) -> Result<(), String> {
        let postscript = self.bytes.checked_sub(BLOCK).filter(|at| at % BLOCK == 0).ok_or("cut off")?;
        let postscripts = self.chunk(postscript).map_err(|cause| format!("postscript: {cause}"))?;
        let fields = numbers(postscripts.first().ok_or("no postscript")?).ok_or("damaged postscript")?;
        if fields[1] != MAGIC {
            return Err("no postscript".into());
        }
        let footers = self.chunk(fields[0]).map_err(|cause| format!("footer: {cause}"))?;
        for footer in footers.get(1..).ok_or("empty footer")? {
            let fields = numbers(footer).ok_or("damaged footer")?;
            self.chunks.push((fields[0], self.records));
            self.records = self.records.checked_add(fields[2]).ok_or("damaged footer")?;
        }
        Ok(())
    }

    /// Records in the file.
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The record with this number, counted from 0.
    pub fn read(&mut self, number: u64) -> Result<Vec<u8>> {
        let chunk = self.chunks.partition_point(|&(_, first)| first <= number).checked_sub(1);
        let Some(chunk) = chunk.filter(|_| number < self.records) else {
            return Err(Error::format(&self.path, format!("no record {number}: it holds {}", self.records)));
        };
        let (offset, first) = self.chunks[chunk];
        if self.last.as_ref().is_none_or(|&(last, _)| last != chunk) {
            let wrong = |cause| Error::format(&self.path, format!("record {number}, byte {offset}: {cause}"));
            self.last = Some((chunk, self.chunk(offset).map_err(wrong)?));
        }
        let record = self.last.as_mut().and_then(|(_, records)| records.get_mut((number - first) as usize));
        let record = record.ok_or_else(|| Error::format(&self.path, format!("record {number} is missing")))?;
        // A chunk of one record is not asked again: nothing is copied then.
        let alone = self.chunks.get(chunk + 1).map_or(self.records, |&(_, next)| next) == first + 1;
        let record = if alone { std::mem::take(record) } else { record.clone() };
        if alone {
            self.last = None;
        }
        Ok(record)
    }

    /// The records of the chunk at `begin`.
    fn chunk(&self, begin: u64) -> Result<Vec<Vec<u8>>, String> {
        let mut position = begin;
        let header = self.bytes_at(&mut position, CHUNK_HEADER)?;
        let number = |field: usize| u64::from_le_bytes(header[field * 8..field * 8 + 8].try_into().expect("8 bytes"));
        if hash(&[&header[8..]]) != number(0) {
            return Err("wrong hash of a header".into());
        }
        let (data_size, records, decoded_size) = (number(1), number(3) >> 8, number(4));
        if data_size > RECORD_BYTES_MAX.min(self.bytes) || decoded_size > RECORD_BYTES_MAX {
            return Err(format!("a chunk of {data_size} bytes that become {decoded_size}, over the limit"));
        }
        match header[24] {
            RECORDS => {}
            b't' => return Err("a transposed chunk, which this program does not read".into()),
            other => return Err(format!("a chunk of type {:?}", char::from(other))),
        }
        let data = self.bytes_at(&mut position, data_size)?;
        if hash(&[&data]) != number(2) {
            return Err("wrong hash of the data".into());
        }
        let (&compression, mut rest) = data.split_first().ok_or("an empty chunk")?;
        let damaged = "damaged sizes";
        let sizes_size = take_varint(&mut rest).ok_or(damaged)?;
        let (sizes, values) =
            rest.split_at_checked(usize::try_from(sizes_size).map_err(|_| damaged)?).ok_or(damaged)?;
        let sizes = decompressed(compression, sizes, records.saturating_mul(10).min(RECORD_BYTES_MAX))?;
        let values = decompressed(compression, values, decoded_size)?;
        let (mut sizes, mut values) = (&sizes[..], &values[..]);
        let mut found = Vec::new();
        for _ in 0..records {
            let size = take_varint(&mut sizes).and_then(|size| usize::try_from(size).ok()).ok_or(damaged)?;
            let (record, rest) = values.split_at_checked(size).ok_or(damaged)?;
            found.push(record.to_vec());
            values = rest;
        }
        if values.is_empty() { Ok(found) } else { Err(damaged.into()) }
    }

    /// Reads so many bytes of a chunk, block headers left out; moves `position`.
    fn bytes_at(&self, position: &mut u64, size: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::with_capacity(size as usize);
        while (bytes.len() as u64) < size {
            if position.is_multiple_of(BLOCK) {
                *position += BLOCK_HEADER;
            }
            let now = (size - bytes.len() as u64).min(BLOCK - *position % BLOCK);
            let start = bytes.len();
            bytes.resize(start + now as usize, 0);
            self.file.read_exact_at(&mut bytes[start..], *position).map_err(|error| error.to_string())?;
            *position = position.checked_add(now).ok_or("an offset over the limit")?;
        }
        Ok(bytes)
    }
}

/// Undoes a compression of Riegeli's, to at most `limit` bytes.
fn decompressed(compression: u8, mut data: &[u8], limit: u64) -> Result<std::borrow::Cow<'_, [u8]>, String> {
    match compression {
        0 => Ok(data.into()),
        b'z' => {
            let size = take_varint(&mut data).filter(|&size| size <= limit).ok_or("a size over the limit")?;
            if size == 0 {
                return Ok(Vec::new().into());
            }
            let decoder = ruzstd::decoding::StreamingDecoder::new(data).map_err(|error| error.to_string())?;
            let mut out = Vec::new();
            decoder.take(size + 1).read_to_end(&mut out).map_err(|error| error.to_string())?;
            if out.len() as u64 == size { Ok(out.into()) } else { Err("wrong decompressed size".into()) }
        }
        other => Err(format!("compression {:?}, which this program does not read", char::from(other))),
    }
}

/// The first three fields of a message of numbers.
fn numbers(message: &[u8]) -> Option<[u64; 3]> {
    let mut numbers = [0; 3];
    each_field(message, |field, value| {
        if let (1..=3, Value::Varint(number)) = (field, value) {
            numbers[field as usize - 1] = number;
        }
        Some(())
    })?;
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;
    use proptest::prelude::*;

    fn written(records: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = ArrayRecordWriter::new(Vec::new()).expect("memory");
        records.iter().for_each(|record| writer.push(record).expect("memory"));
        writer.finish().expect("memory")
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("train.array_record");
        fs::write(&path, bytes).expect("room");
        let mut reader = ArrayRecordReader::open(&path)?;
        (0..reader.len()).rev().map(|number| reader.read(number)).collect()
    }

    #[test]
    fn the_signature_is_rieglis() {
        let bytes = written(&[]);
        assert_eq!(bytes[..8], [0x83, 0xaf, 0x70, 0xd1, 0x0d, 0x88, 0x4a, 0x3f]);
        assert_eq!(bytes[24..32], [0x91, 0xba, 0xc2, 0x3c, 0x92, 0x87, 0xe1, 0xa9]);
        assert_eq!(bytes.len() as u64, 2 * BLOCK);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn records_of_any_size_come_back_in_any_order(
            sizes in prop::collection::vec(prop_oneof![0..100usize, 65_400..65_600usize, 130_000..132_000usize], 0..12)
        ) {
            let mut records: Vec<_> = sizes.iter().enumerate().map(|(i, &size)| vec![i as u8; size]).collect();
            let found = read(&written(&records)).expect("whole");
            records.reverse();
            prop_assert_eq!(found, records);
        }
    }

    #[test]
    fn a_flipped_bit_is_found_and_no_damage_makes_it_panic() {
        let records: Vec<Vec<u8>> = (0..40).map(|i| vec![i; 3000]).collect();
        let whole = written(&records);
        let expected: Vec<_> = records.iter().rev().cloned().collect();
        let mut found = 0;
        for place in (0..whole.len()).step_by(997) {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x10;
            match read(&damaged) {
                Ok(records) => assert_eq!(records, expected, "byte {place}: in padding or a block header"),
                Err(_) => found += 1,
            }
            assert!(read(&whole[..place]).is_err(), "cut at {place}");
        }
        assert!(found > 100, "{found}");
    }
}
