//! TFRecord files: a sequence of checked records.
//!
//! ```text
//! u64le length | u32le masked crc32c of those 8 bytes | data | u32le masked crc32c of the data
//! ```
//! Source: tensorflow/core/lib/io/record_writer.cc. No header, no footer, no compression.

use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::crc::combine;
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

/// Reads records and checks both of their checksums.
#[derive(Debug)]
pub struct RecordReader {
    file: io::BufReader<fs::File>,
    path: PathBuf,
    offset: u64,
    /// Number of the record that comes next.
    record: u64,
    /// Offsets of records 0, 64, 128 … as far as the file was read.
    index: Vec<u64>,
}

impl RecordReader {
    /// Opens `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = io::BufReader::with_capacity(1 << 17, fs::File::open(path)?);
        Ok(Self { file, path: path.into(), offset: 0, record: 0, index: vec![0] })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the record with this number, counted from 0, the next one. What lies between is passed over unread.
    pub fn seek(&mut self, record: u64) -> Result<()> {
        let known = (record / INDEX_STEP).min(self.index.len() as u64 - 1);
        if record < self.record || self.record < known * INDEX_STEP {
            self.offset = self.index[known as usize];
            self.record = known * INDEX_STEP;
            self.file.seek(io::SeekFrom::Start(self.offset))?;
        }
        while self.record < record {
            let offset = self.offset;
            let head = Self::head(&mut self.file);
            let head = head.or_else(|cause| self.stay(&format!("byte {offset}: {cause}")));
            let Some(length) = head? else { break };
            self.file.seek_relative(length as i64 + 4)?;
            self.passed(length);
        }
        Ok(())
    }

    /// The error, after which the next read starts at the same record: what follows a damaged length is no record.
    fn stay<T>(&mut self, cause: &str) -> Result<T> {
        self.file.seek(io::SeekFrom::Start(self.offset))?;
        Err(Error::format(&self.path, cause))
    }

    /// Notes that a record of so many bytes is behind.
    fn passed(&mut self, length: u64) {
        self.offset += length + FRAME_BYTES;
        self.record += 1;
        if self.record == self.index.len() as u64 * INDEX_STEP {
            self.index.push(self.offset);
        }
    }

    /// The length of the record that follows; `None` at the end of the file.
    fn head(file: &mut io::BufReader<fs::File>) -> Result<Option<u64>, String> {
        let mut head = [0; 12];
        if file.by_ref().take(1).read(&mut head).map_err(|e| e.to_string())? == 0 {
            return Ok(None);
        }
        file.read_exact(&mut head[1..]).map_err(|_| "cut off in a length".to_owned())?;
        let (length, crc) = head.split_at(8);
        if crc != masked_crc(length).to_le_bytes() {
            return Err("wrong checksum of a length".into());
        }
        let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
        if length > RECORD_BYTES_MAX {
            return Err(format!("a record of {length} bytes, over the limit"));
        }
        Ok(Some(length))
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(length) = Self::head(&mut self.file)? else { return Ok(None) };
        let mut data = Vec::with_capacity((length + 4).min(1 << 20) as usize);
        self.file.by_ref().take(length + 4).read_to_end(&mut data).map_err(|e| e.to_string())?;
        if data.len() as u64 != length + 4 {
            return Err("cut off in a record".into());
        }
        self.passed(length); // also when it is damaged: the next one may not be
        let crc = data.split_off(length as usize);
        if crc != masked_crc(&data).to_le_bytes() {
            return Err("wrong checksum of a record".into());
        }
        Ok(Some(data))
    }
}

impl Iterator for RecordReader {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        self.read().or_else(|cause| self.stay(&format!("byte {offset}: {cause}"))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
