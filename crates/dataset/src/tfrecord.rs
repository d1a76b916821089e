//! TFRecord files: a sequence of checked records.
//!
//! ```text
//! u64le length | u32le masked crc32c of those 8 bytes | data | u32le masked crc32c of the data
//! ```
//! Source: tensorflow/core/lib/io/record_writer.cc. No header, no footer, no compression.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::{Error, Result};

/// Longest record that is read; an Example holds one image.
pub(crate) const RECORD_BYTES_MAX: u64 = 256 << 20;

/// Bytes that framing adds to a record.
pub const FRAME_BYTES: u64 = 16;

/// The checksum as it is stored: rotated and shifted, so that a checksum over data with checksums stays sound.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Appends a record.
pub fn write_record(out: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    out.write_all(&length)?;
    out.write_all(&masked_crc(&length).to_le_bytes())?;
    out.write_all(data)?;
    out.write_all(&masked_crc(data).to_le_bytes())
}

/// Reads records and checks both of their checksums.
#[derive(Debug)]
pub struct RecordReader {
    file: io::BufReader<fs::File>,
    path: PathBuf,
    offset: u64,
}

impl RecordReader {
    /// Opens `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = io::BufReader::with_capacity(1 << 17, fs::File::open(path)?);
        Ok(Self { file, path: path.into(), offset: 0 })
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut head = [0; 12];
        if self.file.by_ref().take(1).read(&mut head).map_err(|e| e.to_string())? == 0 {
            return Ok(None);
        }
        self.file.read_exact(&mut head[1..]).map_err(|_| "cut off in a length".to_owned())?;
        let (length, crc) = head.split_at(8);
        if crc != masked_crc(length).to_le_bytes() {
            return Err("wrong checksum of a length".into());
        }
        let length = u64::from_le_bytes(length.try_into().expect("8 bytes"));
        if length > RECORD_BYTES_MAX {
            return Err(format!("a record of {length} bytes, over the limit"));
        }
        let mut data = Vec::new();
        self.file.by_ref().take(length + 4).read_to_end(&mut data).map_err(|e| e.to_string())?;
        if data.len() as u64 != length + 4 {
            return Err("cut off in a record".into());
        }
        let crc = data.split_off(length as usize);
        if crc != masked_crc(&data).to_le_bytes() {
            return Err("wrong checksum of a record".into());
        }
        self.offset += length + FRAME_BYTES;
        Ok(Some(data))
    }
}

impl Iterator for RecordReader {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.offset;
        self.read().map_err(|cause| Error::format(&self.path, format!("byte {offset}: {cause}"))).transpose()
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
