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

/// Both matrices and the table of a shard.
#[derive(Debug)]
pub(super) struct MatrixShard {
    image: MatrixReader,
    text: MatrixReader,
    table: TableReader<ReleasedRow>,
    path: PathBuf,
    next: u64,
}

impl MatrixShard {
    /// Opens a shard whose three files have equally many rows.
    pub(super) fn open(shard: &EmbeddingShard) -> Result<Self> {
        let table = TableReader::open(&shard.table)?;
        let (image, text) = shard.matrices(table.row_count())?;
        Ok(Self { image, text, table, path: shard.table.clone(), next: 0 })
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
    pub(super) fn embeddings(&self, number: u64) -> Result<(Vec<f16>, Vec<f16>)> {
        let read = |matrix: &MatrixReader| {
            let mut row = Vec::with_capacity(matrix.columns());
            matrix.append_row(number as usize, &mut row).map(|()| row)
        };
        Ok((read(&self.image)?, read(&self.text)?))
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
