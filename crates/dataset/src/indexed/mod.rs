//! What an index knows of its rows besides their embeddings.
//!
//! ```text
//! metadata.arrow   every column of the tables, Arrow IPC in batches of 128 rows: a row is read by its number
//! facts.bin        what filters look at, 16 bytes a row, and where each key is
//! ```
//! Tables may be ours, clip-retrieval's or of the release: names of columns that mean the same are read as one.

mod facts;
mod row;
mod store;

use std::path::Path;

pub use facts::{Fact, Facts, FactsWriter, Filter, Test};
pub use row::IndexedRow;
pub use store::{RowStore, RowStoreWriter, joined};

use crate::table::{Batches, schema};
use crate::{Error, FileEntry, Result};

/// Writes both files of rows that come as tables, in order: `metadata.arrow` and `facts.bin` below `folder`. After each batch
/// `written` is told how many rows it had.
pub fn index_rows(folder: &Path, tables: &[&Path], mut written: impl FnMut(u64)) -> Result<Vec<FileEntry>> {
    let first = tables.first().ok_or_else(|| Error::Invalid("no tables".into()))?;
    let mut store = RowStoreWriter::create(&folder.join(METADATA), schema(first)?)?;
    let mut facts = FactsWriter::new(&folder.join(FACTS));
    for path in tables {
        for batch in Batches::open(path, store::BATCH_ROWS * 64, None)? {
            let batch = batch?;
            facts.push(&batch).map_err(|cause| Error::format(path, cause))?;
            store.push(path, &batch)?;
            written(batch.num_rows() as u64);
        }
    }
    Ok(vec![store.publish()?, facts.publish()?])
}

/// Every column, in Arrow IPC.
pub const METADATA: &str = "metadata.arrow";
/// What filters look at.
pub const FACTS: &str = "facts.bin";
