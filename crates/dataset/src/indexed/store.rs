//! Rows of any columns, read by their number.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{RecordBatch, UInt64Array};
use arrow_cast::cast;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_json::writer::{JsonArray, WriterBuilder};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use fs_err as fs;

use super::IndexedRow;
use crate::publish::{Draft, FileEntry};
use crate::{Error, Result};

/// Rows that are read for one that is wanted: 128 captions and addresses are about 40 KiB.
pub(super) const BATCH_ROWS: usize = 128;

/// Writes tables of the same columns as one.
pub struct RowStoreWriter {
    writer: FileWriter<Draft>,
    path: PathBuf,
    schema: SchemaRef,
    /// Rows that do not fill a batch yet.
    rest: Vec<RecordBatch>,
    resting: usize,
}

impl RowStoreWriter {
    /// Starts the file that will be `path`, with columns as the first table has them.
    pub(super) fn create(path: &Path, schema: SchemaRef) -> Result<Self> {
        // Dictionaries would have to be read whole before the first row.
        let fields = schema.fields().iter().map(|field| match field.data_type() {
            DataType::Dictionary(_, value) => field.as_ref().clone().with_data_type((**value).clone()),
            _ => field.as_ref().clone(),
        });
        let schema = Arc::new(Schema::new(fields.map(|field| field.with_nullable(true)).collect::<Vec<_>>()));
        let writer = FileWriter::try_new(Draft::create(path)?, &schema).map_err(|error| write_error(path, &error))?;
        Ok(Self { writer, path: path.into(), schema, rest: Vec::new(), resting: 0 })
    }

    /// Appends rows of the table `from`. Columns that the first table does not have are left out, those that are missing are
    /// empty.
    pub(super) fn push(&mut self, from: &Path, rows: &RecordBatch) -> Result<()> {
        let columns = self.schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
            Some(column) => cast(column, field.data_type()).map_err(|error| Error::format(from, error)),
            None => Ok(arrow_array::new_null_array(field.data_type(), rows.num_rows())),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let rows = RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| Error::format(from, error))?;
        self.resting += rows.num_rows();
        self.rest.push(rows);
        if self.resting >= BATCH_ROWS { self.write(BATCH_ROWS) } else { Ok(()) }
    }

    /// Writes batches while at least so many rows are left.
    fn write(&mut self, least: usize) -> Result<()> {
        let all = concat_batches(&self.schema, &self.rest).map_err(|error| write_error(&self.path, &error))?;
        let mut start = 0;
        while all.num_rows() - start >= least.max(1) {
            let rows = all.slice(start, BATCH_ROWS.min(all.num_rows() - start));
            start += rows.num_rows();
            self.writer.write(&rows).map_err(|error| write_error(&self.path, &error))?;
        }
        self.resting = all.num_rows() - start;
        self.rest = vec![all.slice(start, self.resting)];
        Ok(())
    }

    /// Gives the file its final name.
    pub(super) fn publish(mut self) -> Result<FileEntry> {
        if self.resting > 0 {
            self.write(1)?;
        }
        self.writer.finish().map_err(|error| write_error(&self.path, &error))?;
        self.writer.into_inner().map_err(|error| write_error(&self.path, &error))?.publish()
    }
}

impl std::fmt::Debug for RowStoreWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowStoreWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

fn write_error(path: &Path, error: &ArrowError) -> Error {
    Error::Write { path: path.into(), cause: error.to_string() }
}

/// Rows by number. Several threads may read at once.
#[derive(Debug)]
pub struct RowStore {
    path: PathBuf,
    readers: Vec<Mutex<FileReader<BufReader<std::fs::File>>>>,
    batches: usize,
}

impl RowStore {
    /// Opens the file; it stays open.
    pub fn open(path: &Path) -> Result<Self> {
        let reader = || {
            let file = BufReader::new(fs::File::open(path)?.into_file());
            FileReader::try_new(file, None).map_err(|error| Error::format(path, error))
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let readers = (0..threads.min(8)).map(|_| reader()).collect::<Result<Vec<_>>>()?;
        let batches = readers[0].num_batches();
        Ok(Self { path: path.into(), readers: readers.into_iter().map(Mutex::new).collect(), batches })
    }

    /// The rows with these numbers, in the order asked for.
    pub fn rows(&self, numbers: &[usize]) -> Result<Vec<IndexedRow>> {
        let mut order: Vec<usize> = (0..numbers.len()).collect();
        order.sort_by_key(|&at| numbers[at]);
        let mut found = vec![IndexedRow::default(); numbers.len()];
        for places in order.chunk_by(|&a, &b| numbers[a] / BATCH_ROWS == numbers[b] / BATCH_ROWS) {
            let batch = self.batch(numbers[places[0]] / BATCH_ROWS)?;
            let wanted = places.iter().map(|&place| (numbers[place] % BATCH_ROWS) as u64);
            if wanted.clone().any(|row| row >= batch.num_rows() as u64) {
                return Err(Error::format(&self.path, format!("no row {}", numbers[places[places.len() - 1]])));
            }
            let rows = take_record_batch(&batch, &UInt64Array::from_iter_values(wanted));
            let rows = rows.map_err(|error| Error::format(&self.path, error))?;
            for (&place, row) in places.iter().zip(self.json(&rows)?) {
                found[place] = IndexedRow::new(row);
            }
        }
        Ok(found)
    }

    fn batch(&self, number: usize) -> Result<RecordBatch> {
        if number >= self.batches {
            return Err(Error::format(&self.path, format!("no row {}", number * BATCH_ROWS)));
        }
        let free = self.readers.iter().find_map(|reader| reader.try_lock().ok());
        // A reader is put to the batch before it reads, whatever it did when a thread died.
        let mut reader = free.unwrap_or_else(|| self.readers[0].lock().unwrap_or_else(PoisonError::into_inner));
        let wrong = |error: ArrowError| Error::format(&self.path, error);
        reader.set_index(number).map_err(wrong)?;
        reader.next().ok_or_else(|| Error::format(&self.path, "ends early"))?.map_err(wrong)
    }

    fn json(&self, rows: &RecordBatch) -> Result<Vec<serde_json::Map<String, serde_json::Value>>> {
        let mut writer = WriterBuilder::new().build::<_, JsonArray>(Vec::new());
        let written = writer.write(rows).and_then(|()| writer.finish());
        written.map_err(|error| Error::format(&self.path, error))?;
        serde_json::from_slice(&writer.into_inner()).map_err(|error| Error::format(&self.path, error))
    }
}
