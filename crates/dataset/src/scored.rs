//! `curated/` where heads scored the pictures: behind the columns of [`CuratedRow`] one of float32 for each head, under the
//! head's name. A cell is null where the head gave no number.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::publish::FileEntry;
use crate::row::Row;
use crate::schema::{CuratedRow, KeptRow};
use crate::table::{BATCH_ROWS, TableWriter, snappy};
use crate::{Error, Result};

/// An error unless a column of scores may have this name: small letters of ASCII, digits and `_`, and unlike the other columns
/// of the tables it stands in.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Error::Invalid(format!("a head is called {name:?}: only a to z, 0 to 9 and _ make its name")));
    }
    // Scores go on into the tables of packages.
    if [CuratedRow::schema(), KeptRow::schema()].iter().any(|schema| schema.field_with_name(name).is_ok()) {
        return Err(Error::Invalid(format!("a head is called {name:?}, as another column of the table is")));
    }
    Ok(())
}

/// Writes verdicts with scores.
#[derive(Debug)]
pub struct ScoredWriter {
    table: TableWriter<CuratedRow>,
    schema: SchemaRef,
    rows: Vec<CuratedRow>,
    /// Of each row that waits.
    scores: Vec<Vec<f32>>,
}

impl ScoredWriter {
    /// Starts the file that will be `path`, with scores of these names.
    pub fn create<'a>(path: &Path, names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let scores = names.into_iter().map(|name| Arc::new(Field::new(name, DataType::Float32, true)));
        let schema =
            Arc::new(Schema::new(CuratedRow::schema().fields().iter().cloned().chain(scores).collect::<Vec<_>>()));
        let table = TableWriter::with_schema(path, schema.clone(), snappy())?;
        Ok(Self { table, schema, rows: Vec::new(), scores: Vec::new() })
    }

    /// Appends a row and its scores, in the order of their names.
    pub fn push(&mut self, row: CuratedRow, scores: Vec<f32>) -> Result<()> {
        self.rows.push(row);
        self.scores.push(scores);
        if self.rows.len() == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = CuratedRow::to_batch(&self.rows);
        let column = |head: usize| {
            let scores = self.scores.iter().map(|scores| scores.get(head).copied().filter(|score| score.is_finite()));
            Arc::new(scores.collect::<Float32Array>()) as ArrayRef
        };
        let heads = rows.num_columns()..self.schema.fields().len();
        let scores: Vec<_> = heads.map(|place| column(place - rows.num_columns())).collect();
        let columns = [rows.columns(), &scores].concat();
        self.table
            .push_batch(&RecordBatch::try_new(self.schema.clone(), columns).expect("columns follow the schema"))?;
        self.rows.clear();
        self.scores.clear();
        Ok(())
    }

    /// Gives the file its final name.
    pub fn publish(mut self) -> Result<FileEntry> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        self.table.publish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_column_of_its_own() {
        for name in ["aesthetic", "punsafe", "score_2"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "Aesthetic", "a-b", "a b", "ä", "similarity", "key", "image_offset"] {
            assert!(check_name(name).expect_err("no name").to_string().contains(&format!("{name:?}")), "{name}");
        }
    }
}
