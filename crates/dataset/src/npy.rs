//! NumPy's `.npy` files of float16 matrices, as LAION-400M and clip-retrieval keep embeddings.
//!
//! ```text
//! \x93NUMPY  1 0  u16le length of the header  {'descr': '<f2', 'fortran_order': False, 'shape': (rows, columns), } … \n
//! rows * columns float16, little-endian, row by row
//! ```
//! The header is padded with spaces so that the data starts at a multiple of 64. Source: numpy.lib.format, version 1.0.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use half::f16;

use crate::files;
use crate::publish::{Draft, FileEntry};
use crate::{Embedding, Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that is read; NumPy's own limit for a header of numbers.
const HEADER_BYTES_MAX: usize = 10_000;

/// Writes a matrix row by row.
#[derive(Debug)]
pub struct MatrixWriter {
    draft: Draft,
    path: PathBuf,
    columns: usize,
    rows_left: usize,
}

impl MatrixWriter {
    /// Starts the file that will be `path`; exactly `rows` rows must follow.
    pub fn create(path: &Path, rows: usize, columns: usize) -> Result<Self> {
        let mut draft = Draft::create(path)?;
        let mut header = format!("{{'descr': '<f2', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
        let unpadded = MAGIC.len() + 4 + header.len() + 1;
        header.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
        header.push('\n');
        draft.write_all(MAGIC)?;
        draft.write_all(&[1, 0])?;
        draft.write_all(&(header.len() as u16).to_le_bytes())?;
        draft.write_all(header.as_bytes())?;
        Ok(Self { draft, path: path.into(), columns, rows_left: rows })
    }

    /// Appends a row.
    pub fn push(&mut self, embedding: &Embedding) -> Result<()> {
        self.push_f16(&embedding.to_f16())
    }

    /// Appends a row as it is stored.
    pub fn push_f16(&mut self, row: &[f16]) -> Result<()> {
        if row.len() != self.columns || self.rows_left == 0 {
            let cause = format!("a row of {} values with {} rows to go", row.len(), self.rows_left);
            return Err(Error::Write { path: self.path.clone(), cause });
        }
        self.rows_left -= 1;
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(self.draft.write_all(&bytes)?)
    }

    /// Gives the file its final name.
    pub fn publish(self) -> Result<FileEntry> {
        if self.rows_left > 0 {
            return Err(Error::Write { path: self.path, cause: format!("{} rows are missing", self.rows_left) });
        }
        self.draft.publish()
    }
}

/// Reads a matrix row by row.
#[derive(Debug)]
pub struct MatrixReader {
    file: files::File,
    path: PathBuf,
    rows: usize,
    columns: usize,
    row: usize,
    data_offset: u64,
    /// Rows that were read together.
    bytes: Vec<u8>,
    /// The row that the bytes start with.
    first: usize,
}

/// Read at once, unless a single row is longer.
const READ_BYTES: usize = 1 << 17;

impl MatrixReader {
    /// Opens `path` and checks its length against its header.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = files::File::open(path)?;
        let length = file.length()?;
        let wrong = |cause: String| Error::format(path, cause);
        let cut = |_| Error::format(path, "the header is cut off");
        let mut start = [0; 8];
        file.read_exact(&mut start).map_err(cut)?;
        if &start[..6] != MAGIC {
            return Err(wrong("not an npy file".into()));
        }
        let header_bytes = if start[6] == 1 {
            let mut bytes = [0; 2];
            file.read_exact(&mut bytes).map_err(cut)?;
            (2, u16::from_le_bytes(bytes) as usize)
        } else {
            let mut bytes = [0; 4];
            file.read_exact(&mut bytes).map_err(cut)?;
            (4, u32::from_le_bytes(bytes) as usize)
        };
        if header_bytes.1 > HEADER_BYTES_MAX {
            return Err(wrong(format!("a header of {} bytes", header_bytes.1)));
        }
        let mut header = vec![0; header_bytes.1];
        file.read_exact(&mut header).map_err(cut)?;
        let header = String::from_utf8_lossy(&header);
        let (rows, columns) =
            parse_header(&header).ok_or_else(|| wrong(format!("not a C-ordered float16 matrix: {}", header.trim())))?;
        let data_offset = (8 + header_bytes.0 + header_bytes.1) as u64;
        let data = (rows as u64).checked_mul(columns as u64).and_then(|values| values.checked_mul(2));
        if data.and_then(|data| data.checked_add(data_offset)) != Some(length) {
            return Err(wrong(format!("{rows} x {columns} float16 do not fill {length} bytes")));
        }
        Ok(Self { file, path: path.into(), rows, columns, row: 0, data_offset, bytes: Vec::new(), first: 0 })
    }

    /// Rows of the whole file.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Where the first row starts, in bytes.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// The next row as the bytes of its little-endian values; `None` after the last.
    pub fn next_row(&mut self) -> Result<Option<&[u8]>> {
        let row_bytes = self.columns * 2;
        if self.row == self.rows {
            return Ok(None);
        }
        if (self.row - self.first) * row_bytes == self.bytes.len() {
            let rows = (READ_BYTES / row_bytes).clamp(1, self.rows - self.row);
            self.first = self.row;
            self.bytes.resize(rows * row_bytes, 0);
            let read = self.file.read_exact(&mut self.bytes);
            read.map_err(|error| Error::format(&self.path, format!("row {}: {error}", self.row)))?;
        }
        self.row += 1;
        let end = (self.row - self.first) * row_bytes;
        Ok(Some(&self.bytes[end - row_bytes..end]))
    }

    /// Reads the next row into `row`; false after the last.
    pub fn read_row(&mut self, row: &mut Vec<f16>) -> Result<bool> {
        let Some(bytes) = self.next_row()? else { return Ok(false) };
        row.clear();
        row.extend(bytes.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes)));
        Ok(true)
    }

    /// Appends rows with these numbers, whichever were read before.
    pub fn append_rows(&self, numbers: std::ops::Range<usize>, out: &mut Vec<f16>) -> Result<()> {
        use half::slice::HalfFloatSliceExt;
        let (start, end) = (numbers.start, numbers.end);
        if end > self.rows {
            return Err(Error::format(&self.path, format!("no row {}: it has {}", end - 1, self.rows)));
        }
        let mut bytes = vec![0; numbers.len() * self.columns * 2];
        let place = self.data_offset + (start * self.columns * 2) as u64;
        let read = self.file.read_exact_at(&mut bytes, place);
        read.map_err(|error| Error::format(&self.path, format!("row {start}: {error}")))?;
        let first = out.len();
        out.resize(first + bytes.len() / 2, f16::ZERO);
        let bits = out[first..].reinterpret_cast_mut();
        bits.iter_mut().zip(bytes.as_chunks().0).for_each(|(bits, &bytes)| *bits = u16::from_le_bytes(bytes));
        Ok(())
    }

    /// The next row as a checked embedding; `None` after the last.
    pub fn next_embedding(&mut self) -> Result<Option<Embedding>> {
        let mut row = Vec::new();
        if !self.read_row(&mut row)? {
            return Ok(None);
        }
        let place = self.row - 1;
        Embedding::from_f16(&row).map(Some).map_err(|error| Error::format(&self.path, format!("row {place}: {error}")))
    }
}

/// Rows and columns of a two-dimensional, C-ordered, little-endian float16 array.
fn parse_header(header: &str) -> Option<(usize, usize)> {
    let value = |key: &str| {
        let rest = header[header.find(&format!("'{key}'"))? + key.len() + 2..].trim_start();
        Some(rest.strip_prefix(':')?.trim_start())
    };
    if !value("descr")?.starts_with("'<f2'") || !value("fortran_order")?.starts_with("False") {
        return None;
    }
    let shape = value("shape")?.strip_prefix('(')?;
    let mut numbers = shape[..shape.find(')')?].split(',').map(str::trim);
    let (rows, columns) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    (columns > 0 && numbers.all(str::is_empty)).then_some((rows, columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;
    use proptest::prelude::*;

    #[test]
    fn rows_come_back_and_the_data_is_aligned() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("img_emb_0.npy");
        let row: Vec<f16> = (0..4).map(|i| f16::from_f32(if i == 2 { 1.0 } else { 0.0 })).collect();
        let mut writer = MatrixWriter::create(&path, 2, 4).expect("a new file");
        writer.push_f16(&row).expect("room");
        assert!(writer.push_f16(&row[..3]).is_err(), "a short row");
        writer.push_f16(&row).expect("room");
        assert!(writer.push_f16(&row).is_err(), "one row too many");
        writer.publish().expect("room");
        let mut reader = MatrixReader::open(&path).expect("readable");
        assert_eq!((reader.rows(), reader.columns(), reader.data_offset() % 64), (2, 4, 0));
        assert_eq!(reader.next_embedding().expect("a row").expect("a row").to_f16(), row);
        assert!(reader.next_embedding().expect("a row").is_some());
        assert!(reader.next_embedding().expect("the end").is_none());
    }

    #[test]
    fn a_missing_row_is_no_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let writer = MatrixWriter::create(&folder.path().join("a.npy"), 1, 4).expect("a new file");
        assert!(writer.publish().is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), keep in any::<bool>()) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("a.npy");
            let content = if keep { [MAGIC, &[1, 0], &bytes[..]].concat() } else { bytes };
            fs::write(&path, content).expect("room");
            prop_assert!(MatrixReader::open(&path).is_err());
        }

        #[test]
        fn no_header_makes_the_parser_panic(header in "\\PC*") {
            let _ = parse_header(&header);
        }
    }
}
