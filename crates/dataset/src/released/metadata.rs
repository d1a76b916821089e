//! The metadata table of the release, in parts: rows without pictures and without embeddings.

use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;

use super::{Outcome, ReleasedRow};
use crate::files;
use crate::row::FromBatch;
use crate::table::TableReader;
use crate::{Error, Result, Status};

/// A part of the table, such as `part-00000-5b54c5d5-bbcf-484d-a2ce-0d6f73df1a36-c000.snappy.parquet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataPart {
    /// Its place among the parts.
    pub number: u32,
    /// The file.
    pub table: PathBuf,
}

/// A row with its number in the release.
struct NumberedRow {
    /// `SAMPLE_ID`.
    id: Option<i64>,
    row: ReleasedRow,
}

impl FromBatch for NumberedRow {
    fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>, String> {
        let ids = ids(batch)?;
        let rows = ReleasedRow::from_batch(batch)?;
        Ok(ids.into_iter().zip(rows).map(|(id, row)| Self { id, row }).collect())
    }
}

/// Writers disagree on the type: it is read from any integer, and from floats where they hold integers.
fn ids(batch: &RecordBatch) -> Result<Vec<Option<i64>>, String> {
    let array = batch.column_by_name("SAMPLE_ID").ok_or("no column \"SAMPLE_ID\"")?;
    let floats = array.data_type().is_floating();
    // NaN and what is too large for 64 bits are null in a table of floats, and an error in others.
    let options = CastOptions { safe: floats, ..CastOptions::default() };
    let array = cast_with_options(array, &DataType::Int64, &options)
        .map_err(|error| format!("column \"SAMPLE_ID\" holds {}: {error}", array.data_type()))?;
    Ok(array.as_primitive::<Int64Type>().iter().collect())
}

impl MetadataPart {
    /// Every `part-*.parquet` of a folder, in order of the names; or `path` itself, if it is a file.
    pub(super) fn list(path: &Path) -> Result<Vec<Self>> {
        let mut tables = Vec::new();
        if files::is_file(path)? {
            tables.push(path.to_owned());
        } else {
            for entry in files::list(path)? {
                let name = entry.path.file_name().and_then(|name| name.to_str());
                if name.is_some_and(|name| name.starts_with("part-") && name.ends_with(".parquet")) {
                    tables.push(entry.path);
                }
            }
        }
        tables.sort_unstable();
        Ok(tables.into_iter().zip(0..).map(|(table, number)| Self { number, table }).collect())
    }

    /// The only file.
    pub fn files(&self) -> Vec<&Path> {
        vec![&self.table]
    }

    /// Rows of the table.
    pub fn row_count(&self) -> Result<u64> {
        Ok(TableReader::<NumberedRow>::open(&self.table)?.row_count())
    }

    /// Calls `each` for every row in order, with `SAMPLE_ID` as its key.
    pub fn read(&self, mut each: impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        for row in TableReader::<NumberedRow>::open(&self.table)? {
            let NumberedRow { id, row } = row?;
            each(match row.into_example() {
                Ok(example) => Ok((id.map(|id| id.to_string()).unwrap_or_default(), example)),
                Err(reason) => Err(Status::Dropped(reason)),
            })?;
        }
        Ok(())
    }

    /// An error that names the column, if this is no part of the release.
    pub(super) fn check(&self) -> Result<()> {
        let columns = TableReader::<NumberedRow>::columns(&self.table)?;
        for name in ["SAMPLE_ID", "URL", "TEXT"] {
            if !columns.iter().any(|column| column == name) {
                return Err(Error::format(&self.table, format!("no part of the release: no column {name:?}")));
            }
        }
        Ok(())
    }
}
