//! Rows of any columns, read by their number.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{RecordBatch, UInt64Array};
use arrow_cast::cast;
use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use super::IndexedRow;
use crate::files;
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
        let rows = aligned(rows, &self.schema).map_err(|error| Error::format(from, error))?;
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
    schema: SchemaRef,
}

impl RowStore {
    /// Opens the file; it stays open.
    pub fn open(path: &Path) -> Result<Self> {
        let reader = || {
            let file = BufReader::new(files::File::open(path)?.into_local()?);
            FileReader::try_new(file, None).map_err(|error| Error::format(path, error))
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let readers = (0..threads.min(8)).map(|_| reader()).collect::<Result<Vec<_>>>()?;
        let (batches, schema) = (readers[0].num_batches(), readers[0].schema());
        Ok(Self { path: path.into(), readers: readers.into_iter().map(Mutex::new).collect(), batches, schema })
    }

    /// The columns as they are stored.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// All columns of the rows with these numbers, in the order asked for.
    pub fn columns(&self, numbers: &[usize]) -> Result<RecordBatch> {
        let wrong = |error: ArrowError| Error::format(&self.path, error);
        let mut order: Vec<usize> = (0..numbers.len()).collect();
        order.sort_by_key(|&at| numbers[at]);
        let mut found = Vec::new();
        for places in order.chunk_by(|&a, &b| numbers[a] / BATCH_ROWS == numbers[b] / BATCH_ROWS) {
            let batch = self.batch(numbers[places[0]] / BATCH_ROWS)?;
            let wanted = places.iter().map(|&place| (numbers[place] % BATCH_ROWS) as u64);
            if wanted.clone().any(|row| row >= batch.num_rows() as u64) {
                return Err(Error::format(&self.path, format!("no row {}", numbers[places[places.len() - 1]])));
            }
            found.push(take_record_batch(&batch, &UInt64Array::from_iter_values(wanted)).map_err(wrong)?);
        }
        put_back(&concat_batches(&self.schema, &found).map_err(wrong)?, &order).map_err(wrong)
    }

    /// The rows with these numbers, in the order asked for.
    pub fn rows(&self, numbers: &[usize]) -> Result<Vec<IndexedRow>> {
        IndexedRow::of(&self.columns(numbers)?).map_err(|cause| Error::format(&self.path, cause))
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
}

/// Rows of which the one at each place belongs to that of `order`.
pub(super) fn put_back(rows: &RecordBatch, order: &[usize]) -> Result<RecordBatch, ArrowError> {
    let mut places = vec![0; order.len()];
    order.iter().enumerate().for_each(|(from, &to)| places[to] = from as u64);
    take_record_batch(rows, &UInt64Array::from(places))
}

/// Rows with the columns of a schema: others are left out, those that are missing are empty.
fn aligned(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(column) => cast(column, field.data_type()),
        None => Ok(arrow_array::new_null_array(field.data_type(), rows.num_rows())),
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<Vec<_>, _>>()?)
}

/// Rows of several stores, each with its place in the whole, put together with the columns of the first.
pub fn joined(parts: &[(Vec<usize>, RecordBatch)]) -> Result<RecordBatch> {
    let wrong = |error: ArrowError| Error::Invalid(format!("rows of several segments: {error}"));
    let (_, first) = parts.first().ok_or_else(|| Error::Invalid("no rows".into()))?;
    let schema = first.schema();
    let rows = parts.iter().map(|(_, rows)| aligned(rows, &schema)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let order: Vec<usize> = parts.iter().flat_map(|(places, _)| places.iter().copied()).collect();
    put_back(&concat_batches(&schema, &rows).map_err(wrong)?, &order).map_err(wrong)
}
