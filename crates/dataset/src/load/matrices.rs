//! Rows of a shard of embeddings by their number.

use std::path::PathBuf;

use half::f16;

use crate::npy::MatrixReader;
use crate::released::{EmbeddingShard, ReleasedRow};
use crate::table::TableReader;
use crate::tfds::Example;
use crate::{Error, Result};

/// Rows that are passed over rather than opening the table anew: those that are in memory anyway.
const AHEAD_MAX: u64 = 8192;

/// Rows of a matrix that are read at once: 64 KiB of ViT-B/32.
const AHEAD_ROWS: usize = 64;

/// Both matrices and the table of a shard.
#[derive(Debug)]
pub(super) struct MatrixShard {
    image: Window,
    text: Window,
    table: TableReader<ReleasedRow>,
    path: PathBuf,
    next: u64,
}

impl MatrixShard {
    /// Opens a shard whose three files have equally many rows.
    pub(super) fn open(shard: &EmbeddingShard) -> Result<Self> {
        let table = TableReader::open(&shard.table)?;
        let (image, text) = shard.matrices(table.row_count())?;
        Ok(Self { image: Window::new(image), text: Window::new(text), table, path: shard.table.clone(), next: 0 })
    }

    /// Rows.
    pub(super) fn len(&self) -> u64 {
        self.table.row_count()
    }

    /// The example of a row, and its key if the table has one; what is not wanted stays empty.
    pub(super) fn read(&mut self, number: u64, metadata: bool, embeddings: bool) -> Result<(Option<String>, Example)> {
        let mut row = if metadata { self.row(number)? } else { ReleasedRow::default() };
        let key = row.key.take();
        let mut example = row.into_example_or_empty();
        if embeddings {
            example.embeddings = Some(self.embeddings(number)?);
        }
        Ok((key, example))
    }

    /// The image and the text embedding of a row.
    pub(super) fn embeddings(&mut self, number: u64) -> Result<(Vec<f16>, Vec<f16>)> {
        let number = number as usize;
        Ok((self.image.row(number)?, self.text.row(number)?))
    }

    fn row(&mut self, number: u64) -> Result<ReleasedRow> {
        let missing = || Error::format(&self.path, format!("no row {number}"));
        if number >= self.table.row_count() {
            return Err(missing());
        }
        match number.checked_sub(self.next) {
            Some(ahead) if ahead <= AHEAD_MAX => {
                for row in self.table.by_ref().take(ahead as usize) {
                    row?;
                }
            }
            _ => self.table = TableReader::open_at(&self.path, number)?,
        }
        self.next = number + 1;
        self.table.next().ok_or_else(missing)?
    }
}

/// A matrix, and some of its rows in memory.
#[derive(Debug)]
struct Window {
    matrix: MatrixReader,
    first: usize,
    values: Vec<f16>,
    /// The row after the one that was asked for last.
    next: usize,
}

impl Window {
    fn new(matrix: MatrixReader) -> Self {
        Self { matrix, first: 0, values: Vec::new(), next: usize::MAX }
    }

    /// Whoever asks for rows in their order gets them out of memory; of others, each is read alone.
    fn row(&mut self, number: usize) -> Result<Vec<f16>> {
        let columns = self.matrix.columns();
        let held = self.first..self.first + self.values.len() / columns.max(1);
        if !held.contains(&number) {
            let ahead = if number == self.next { AHEAD_ROWS } else { 1 };
            self.values.clear();
            let end = number.saturating_add(ahead).min(self.matrix.rows()).max(number + 1);
            self.matrix.append_rows(number..end, &mut self.values)?;
            self.first = number;
        }
        self.next = number + 1;
        let start = (number - self.first) * columns;
        Ok(self.values[start..start + columns].to_vec())
    }
}
