//! TFRecord files: a sequence of checked records.
//!
//! ```text
//! u64le length | u32le masked crc32c of those 8 bytes | data | u32le masked crc32c of the data
//! ```
//! Source: tensorflow/core/lib/io/record_writer.cc. No header, no footer, no compression.

use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::crc::combine;
use crate::files;
use crate::publish::Draft;
use crate::{Error, Result};

/// Longest record that is read; an Example holds one image.
pub(crate) const RECORD_BYTES_MAX: u64 = 256 << 20;

/// Bytes that framing adds to a record.
pub const FRAME_BYTES: u64 = 16;

/// The checksum as it is stored: rotated and shifted, so that a checksum over data with checksums stays sound.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn masked_crc(data: &[u8]) -> u32 {
    masked(crc32c::crc32c(data))
}

/// What stands before a record of so many bytes.
fn head(bytes: usize) -> [u8; 12] {
    let length = (bytes as u64).to_le_bytes();
    let mut head = [0; 12];
    head[..8].copy_from_slice(&length);
    head[8..].copy_from_slice(&masked_crc(&length).to_le_bytes());
    head
}

/// Appends a record.
pub fn write_record(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    out.write_all(&head(data.len()))?;
    out.write_all(data)?;
    out.write_all(&masked_crc(data).to_le_bytes())
}

/// Appends the record that `put` puts behind the bytes it is given. No byte of it is copied, and its checksum, which is
/// part of that of the file, is made once.
pub(crate) fn append_record(draft: &mut Draft, put: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    draft.append(|out, file_crc| {
        let start = out.len();
        out.extend([0; 12]);
        put(out)?;
        let (before, data) = out[start..].split_at_mut(12);
        before.copy_from_slice(&head(data.len()));
        let data_crc = crc32c::crc32c(data);
        let after = masked(data_crc).to_le_bytes();
        let crc = combine(crc32c::crc32c_append(*file_crc, before), data_crc, data.len() as u64);
        *file_crc = crc32c::crc32c_append(crc, &after);
        out.extend(after);
        Ok(())
    })
}

/// Every so many records their offset is kept: going back costs passing over fewer than these.
const INDEX_STEP: u64 = 64;
/// Read at once, where a record is not larger: it stays in memory for as long as any record in it is used.
const AHEAD_BYTES: usize = 256 << 10;
/// Room that is made before it is known that the bytes are there.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// Reads records and checks both of their checksums.
#[derive(Debug)]
pub struct RecordReader {
    file: files::File,
    path: PathBuf,
    /// Bytes of the file from `offset` on that are in memory. Records are parts of it, nothing is copied.
    ahead: Bytes,
    /// Of the record that comes next.
    offset: u64,
    record: u64,
    /// Offsets of every 64th record that has been seen.
    index: Vec<u64>,
}

impl RecordReader {
    /// Opens `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            file: files::File::open(path)?,
            path: path.into(),
            ahead: Bytes::new(),
            offset: 0,
            record: 0,
            index: vec![0],
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the record with this number, counted from 0, the next one. What lies between is passed over unread.
    pub fn seek(&mut self, record: u64) -> Result<()> {
        let known = (record / INDEX_STEP).min(self.index.len() as u64 - 1);
        if record < self.record || self.record < known * INDEX_STEP {
            self.offset = self.index[known as usize];
            self.record = known * INDEX_STEP;
            self.ahead = Bytes::new();
        }
        while self.record < record {
            let offset = self.offset;
            let length = self.length().map_err(|cause| Error::format(&self.path, format!("byte {offset}: {cause}")))?;
            let Some(length) = length else { break };
            self.passed(length);
        }
        Ok(())
    }

    /// Notes that a record of so many bytes is behind.
    fn passed(&mut self, length: u64) {
        let bytes = length + FRAME_BYTES;
        self.ahead = self.ahead.slice((bytes as usize).min(self.ahead.len())..);
        self.offset += bytes;
        self.record += 1;
        if self.record == self.index.len() as u64 * INDEX_STEP {
            self.index.push(self.offset);
        }
    }

    /// Reads on until so many bytes are in memory, or the file ends.
    fn fill(&mut self, bytes: usize) -> Result<(), String> {
        if self.ahead.len() >= bytes {
            return Ok(());
        }
        let mut ahead = Vec::with_capacity(bytes.clamp(AHEAD_BYTES, AHEAD_BYTES_MAX));
        ahead.extend_from_slice(&self.ahead);
        let mut read = |ahead: &mut Vec<u8>| -> io::Result<()> {
            self.file.seek(io::SeekFrom::Start(self.offset + ahead.len() as u64))?;
            let missing = bytes.max(AHEAD_BYTES) - ahead.len();
            // What is cut off is not worth memory for its whole length.
            self.file.by_ref().take(missing as u64).read_to_end(ahead).map(drop)
        };
        read(&mut ahead).map_err(|error| error.to_string())?;
        self.ahead = ahead.into();
        Ok(())
    }

    /// The length of the record that follows; `None` at the end of the file.
    fn length(&mut self) -> Result<Option<u64>, String> {
        self.fill(12)?;
        if self.ahead.is_empty() {
            return Ok(None);
        }
        let (length, crc) = self.ahead.get(..12).ok_or("cut off in a length")?.split_at(8);
        if crc != masked_crc(length).to_le_bytes() {
            return Err("wrong checksum of a length".into());
        }
        let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
        if length > RECORD_BYTES_MAX {
            return Err(format!("a record of {length} bytes, over the limit"));
        }
        Ok(Some(length))
    }

    fn read(&mut self) -> Result<Option<Bytes>, String> {
        let Some(length) = self.length()? else { return Ok(None) };
        self.fill((length + FRAME_BYTES) as usize)?;
        let end = 12 + length as usize;
        let crc = self.ahead.get(end..end + 4).ok_or("cut off in a record")?;
        let sound = crc == masked_crc(&self.ahead[12..end]).to_le_bytes();
        let data = self.ahead.slice(12..end);
        self.passed(length); // also when it is damaged: the next one may not be
        if sound { Ok(Some(data)) } else { Err("wrong checksum of a record".into()) }
    }
}

impl Iterator for RecordReader {
    type Item = Result<Bytes>;

    /// After an error the next read starts at the same record, if it is not known where that ends: what follows a damaged
    /// length is no record.
    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        self.read().map_err(|cause| Error::format(&self.path, format!("byte {offset}: {cause}"))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    #[test]
    fn a_flipped_bit_and_a_cut_are_found_with_their_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("train.tfrecord");
        let mut whole = Vec::new();
        for record in [b"one".as_slice(), b"", b"three"] {
            write_record(&mut whole, record).expect("memory");
        }
        fs::write(&path, &whole).expect("room");
        let records: Vec<_> = RecordReader::open(&path).expect("there").collect::<Result<_>>().expect("whole");
        assert_eq!(records, [b"one".to_vec(), vec![], b"three".to_vec()]);
        let mut flipped = whole.clone();
        flipped[36] ^= 1;
        for (bytes, place) in [(flipped, "byte 35"), (whole[..50].to_vec(), "byte 35"), (whole[..5].to_vec(), "byte 0")]
        {
            fs::write(&path, bytes).expect("room");
            let error = RecordReader::open(&path).expect("there").collect::<Result<Vec<_>>>().expect_err("damaged");
            assert!(error.to_string().contains(place), "{error}");
        }
    }
}
