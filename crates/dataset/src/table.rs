//! Parquet tables of rows.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions, RecordBatchReader, UInt64Array};
use arrow_schema::{ArrowError, FieldRef, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::reader::{ChunkReader, Length};

use crate::carried::concealed;
use crate::files;
use crate::publish::{Draft, FileEntry};
use crate::row::{FromBatch, Row};
use crate::schema::Keyed;
use crate::{Error, Result};

/// Rows held in memory at a time, and rows of a row group: 8,192 captions and URLs are about 2 MiB.
pub(crate) const BATCH_ROWS: usize = 8192;

/// Writes a table, Snappy as the peers do.
#[derive(Debug)]
pub struct TableWriter<R: Row> {
    writer: ArrowWriter<Draft>,
    path: PathBuf,
    rows: Vec<R>,
    /// Columns that stand before those of the rows, and how many of their rows are written.
    beside: Option<(RecordBatch, usize)>,
}

impl<R: Row> TableWriter<R> {
    /// Starts the file that will be `path`.
    pub fn create(path: &Path) -> Result<Self> {
        Self::with_properties(path, snappy())
    }

    /// The same with further columns, which come first: row i of them belongs to row i.
    pub fn create_beside(path: &Path, columns: RecordBatch) -> Result<Self> {
        let properties = snappy().set_max_row_group_row_count(Some(BATCH_ROWS)).build();
        let schema = joined(&columns, R::schema());
        let writer = ArrowWriter::try_new(Draft::create(path)?, schema, Some(properties))
            .map_err(|error| write_error(path, error))?;
        Ok(Self { writer, path: path.into(), rows: Vec::new(), beside: Some((columns, 0)) })
    }

    pub(crate) fn with_properties(path: &Path, properties: WriterPropertiesBuilder) -> Result<Self> {
        Self::with_schema(path, R::schema(), properties)
    }

    /// The same with other columns, for those who push batches alone.
    pub(crate) fn with_schema(path: &Path, schema: SchemaRef, properties: WriterPropertiesBuilder) -> Result<Self> {
        let properties = properties.set_max_row_group_row_count(Some(BATCH_ROWS)).build();
        let writer = ArrowWriter::try_new(Draft::create(path)?, schema, Some(properties))
            .map_err(|error| write_error(path, error))?;
        Ok(Self { writer, path: path.into(), rows: Vec::new(), beside: None })
    }

    /// Appends a row.
    pub fn push(&mut self, row: R) -> Result<()> {
        self.rows.push(row);
        if self.rows.len() == BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    /// Leaves the further columns of the next row empty.
    pub(crate) fn conceal(&mut self) -> Result<()> {
        if let Some((columns, written)) = &mut self.beside {
            *columns =
                concealed(columns, *written + self.rows.len()).map_err(|error| write_error(&self.path, error))?;
        }
        Ok(())
    }

    /// Appends rows that are columns already.
    pub fn push_batch(&mut self, rows: &RecordBatch) -> Result<()> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        self.writer.write(rows).map_err(|error| write_error(&self.path, error))
    }

    fn flush(&mut self) -> Result<()> {
        let mut rows = R::to_batch(&self.rows);
        if let Some((columns, written)) = &mut self.beside {
            rows = beside(columns, *written, rows).map_err(|error| write_error(&self.path, error))?;
            *written += self.rows.len();
        }
        self.writer.write(&rows).map_err(|error| write_error(&self.path, error))?;
        self.rows.clear();
        Ok(())
    }

    /// Gives the file its final name.
    pub fn publish(mut self) -> Result<FileEntry> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        let draft = self.writer.into_inner().map_err(|error| write_error(&self.path, error))?;
        draft.publish()
    }
}

pub(crate) fn snappy() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::SNAPPY)
}

/// Columns and those of rows.
pub(crate) fn joined(columns: &RecordBatch, rows: SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(columns.schema().fields().iter().chain(rows.fields()).cloned().collect::<Vec<_>>()))
}

/// Rows behind the columns that belong to them, of which so many rows are passed by.
pub(crate) fn beside(columns: &RecordBatch, passed: usize, rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
    if passed + rows.num_rows() > columns.num_rows() {
        return Err(ArrowError::InvalidArgumentError("more rows than their further columns have".into()));
    }
    let schema = joined(columns, rows.schema());
    let columns = columns.slice(passed, rows.num_rows());
    RecordBatch::try_new(schema, [columns.columns(), rows.columns()].concat())
}

pub(crate) fn write_error(path: &Path, error: impl ToString) -> Error {
    Error::Write { path: path.into(), cause: error.to_string() }
}

/// Publishes a table that is in memory.
pub fn write_table<R: Row>(path: &Path, rows: impl IntoIterator<Item = R>) -> Result<FileEntry> {
    let mut writer = TableWriter::create(path)?;
    rows.into_iter().try_for_each(|row| writer.push(row))?;
    writer.publish()
}

/// Publishes rows with further columns, which stand behind the first `place` of the rows' own: row i of them belongs to row i.
pub fn write_table_around<R: Row>(path: &Path, rows: &[R], place: usize, further: &RecordBatch) -> Result<FileEntry> {
    let wrong = |error: ArrowError| write_error(path, error);
    let (ours, schema) = (R::schema(), further.schema());
    let fields = [&ours.fields()[..place], &schema.fields()[..], &ours.fields()[place..]].concat();
    let schema = Arc::new(Schema::new(fields));
    let properties = snappy().set_max_row_group_row_count(Some(BATCH_ROWS)).build();
    let mut writer = ArrowWriter::try_new(Draft::create(path)?, schema.clone(), Some(properties))
        .map_err(|error| write_error(path, error))?;
    if rows.len() != further.num_rows() {
        return Err(write_error(
            path,
            format!("{} rows, but {} of their further columns", rows.len(), further.num_rows()),
        ));
    }
    for (part, passed) in rows.chunks(BATCH_ROWS).zip((0..).step_by(BATCH_ROWS)) {
        let (ours, further) = (R::to_batch(part), further.slice(passed, part.len()));
        let columns = [&ours.columns()[..place], further.columns(), &ours.columns()[place..]].concat();
        let batch = RecordBatch::try_new(schema.clone(), columns).map_err(wrong)?;
        writer.write(&batch).map_err(|error| write_error(path, error))?;
    }
    writer.into_inner().map_err(|error| write_error(path, error))?.publish()
}

/// The same, behind all of them.
pub fn write_table_before<R: Row>(path: &Path, rows: &[R], further: &RecordBatch) -> Result<FileEntry> {
    write_table_around(path, rows, R::schema().fields().len(), further)
}

/// Reads columns of a table whole: only for tables of one shard, of at most so many rows.
pub(crate) fn read_batch(path: &Path, columns: &[&str], rows_max: usize) -> Result<RecordBatch> {
    let batches = Batches::open(path, BATCH_ROWS, Some(columns))?;
    if batches.row_count() > rows_max as u64 {
        return Err(Error::format(path, format!("{} rows, at most {rows_max} are read at once", batches.row_count())));
    }
    let schema = batches.batches.schema();
    let batches = batches.collect::<Result<Vec<_>>>()?;
    concat_batches(&schema, &batches).map_err(|error| Error::format(path, error))
}

/// Reads a table batch by batch.
#[derive(Debug)]
pub(crate) struct Batches {
    batches: ParquetRecordBatchReader,
    path: PathBuf,
    row_count: u64,
    rows_read: u64,
}

impl Batches {
    /// Opens `path`, holding at most so many rows in memory, and reads the columns of these names that are there, or all.
    pub(crate) fn open(path: &Path, batch_rows: usize, columns: Option<&[&str]>) -> Result<Self> {
        Self::open_at(path, batch_rows, columns, 0)
    }

    /// The same from the row with this number on.
    fn open_at(path: &Path, batch_rows: usize, columns: Option<&[&str]>, start: u64) -> Result<Self> {
        let builder = open(path)?;
        let row_count = builder.metadata().file_metadata().num_rows().max(0) as u64;
        let mask = match columns {
            Some(names) => ProjectionMask::columns(builder.parquet_schema(), names.iter().copied()),
            None => ProjectionMask::all(),
        };
        let rows_read = start.min(row_count);
        let builder = builder.with_projection(mask).with_batch_size(batch_rows).with_offset(rows_read as usize);
        let batches = builder.build().map_err(|error| Error::format(path, error))?;
        Ok(Self { batches, path: path.into(), row_count, rows_read })
    }

    /// Rows in the whole file.
    pub(crate) fn row_count(&self) -> u64 {
        self.row_count
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(batch) = next_batch(&mut self.batches, &self.path) else {
            // Callers count on the length in the footer: a damaged file must not lose rows quietly.
            let (read, expected) = (std::mem::replace(&mut self.rows_read, self.row_count), self.row_count);
            return (read != expected)
                .then(|| Err(Error::format(&self.path, format!("{read} rows, but its footer says {expected}"))));
        };
        Some(batch.inspect(|batch| self.rows_read += batch.num_rows() as u64))
    }
}

/// A file as the crate `parquet` reads it.
pub(crate) struct TableFile {
    file: Arc<files::File>,
    bytes: u64,
}

/// It, from an offset on.
pub(crate) struct FileFrom {
    file: Arc<files::File>,
    at: u64,
}

impl Read for FileFrom {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(out, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Length for TableFile {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for TableFile {
    type T = BufReader<FileFrom>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(FileFrom { file: self.file.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // A damaged footer may ask for more than there is.
        let there = self.bytes.saturating_sub(start);
        if length as u64 > there {
            return Err(ParquetError::EOF(format!("{length} bytes at byte {start}, but only {there} are there")));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}

/// Reads the footer of a table. Places below zero, which only damage or malice writes, are an error here: the reader of
/// the crate `parquet` panics at them. So are numbers of rows that do not agree, for it would read as few as the least.
pub(crate) fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<TableFile>> {
    let file = files::File::open(path)?;
    let file = TableFile { bytes: file.length()?, file: Arc::new(file) };
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| Error::format(path, error))?;
    let metadata = builder.metadata();
    let rows: i128 = metadata.row_groups().iter().map(|group| i128::from(group.num_rows())).sum();
    let expected = metadata.file_metadata().num_rows();
    if rows != i128::from(expected) {
        return Err(Error::format(path, format!("{rows} rows in its groups, but its footer says {expected}")));
    }
    for group in metadata.row_groups() {
        for column in group.columns() {
            let wrong = |cause: String| Error::format(path, format!("column {} {cause}", column.column_path()));
            let (values, rows) = (column.num_values(), group.num_rows());
            if column.column_descr().max_rep_level() == 0 && values != rows {
                return Err(wrong(format!("has {values} values in {rows} rows")));
            }
            let places =
                [Some(column.data_page_offset()), column.dictionary_page_offset(), Some(column.compressed_size())];
            if places.into_iter().flatten().any(|place| place < 0) {
                return Err(wrong("starts or ends before the file".into()));
            }
        }
    }
    Ok(builder)
}

/// The names of a file's columns, and what they hold.
pub(crate) fn schema(path: &Path) -> Result<SchemaRef> {
    Ok(open(path)?.schema().clone())
}

/// The names of a file's columns.
pub(crate) fn columns(path: &Path) -> Result<Vec<String>> {
    Ok(schema(path)?.fields().iter().map(|field| field.name().clone()).collect())
}

/// Columns of a table that a row of type `R` does not have, whole: only for tables of one shard.
pub fn further_columns<R: Row>(path: &Path) -> Result<RecordBatch> {
    let (known, there) = (R::schema(), schema(path)?);
    let more = |field: &&FieldRef| known.field_with_name(field.name()).is_err();
    let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
    let fields: Vec<_> = there.fields().iter().filter(more).map(nullable).collect();
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    let batches = Batches::open(path, BATCH_ROWS, Some(&names))?;
    let wrong = |error: ArrowError| Error::format(path, error);
    if fields.is_empty() {
        let options = RecordBatchOptions::new().with_row_count(Some(batches.row_count() as usize));
        return RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).map_err(wrong);
    }
    let schema = Arc::new(Schema::new(fields));
    let batches = batches
        .map(|batch| RecordBatch::try_new(schema.clone(), batch?.columns().to_vec()).map_err(wrong))
        .collect::<Result<Vec<_>>>()?;
    concat_batches(&schema, &batches).map_err(wrong)
}

/// The same of the rows with these keys, in their order. Tables without such columns are not asked for the keys.
pub fn further_columns_of<'a, R: Row>(path: &Path, keys: impl Iterator<Item = &'a str>) -> Result<RecordBatch> {
    let (all, keys) = (further_columns::<R>(path)?, keys.collect::<Vec<_>>());
    if all.num_columns() == 0 {
        let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
        return RecordBatch::try_new_with_options(all.schema(), Vec::new(), &options)
            .map_err(|error| Error::format(path, error));
    }
    let there = read_table::<Keyed>(path)?;
    let places: HashMap<&str, u64> = there.iter().map(|row| row.key.as_str()).zip(0..).collect();
    let place = |key: &&str| places.get(key).copied().ok_or_else(|| Error::format(path, format!("no row {key}")));
    let places = keys.iter().map(place).collect::<Result<UInt64Array>>()?;
    take_record_batch(&all, &places).map_err(|error| Error::format(path, error))
}

/// The next batch. Damaged pages make the crate `parquet` divide by zero: that, too, is an error of the file.
pub(crate) fn next_batch(batches: &mut ParquetRecordBatchReader, path: &Path) -> Option<Result<RecordBatch>> {
    let next = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| batches.next()));
    let Ok(next) = next else { return Some(Err(Error::format(path, "a damaged page"))) };
    next.map(|batch| batch.map_err(|error| Error::format(path, error)))
}

/// Reads a table row by row, holding one batch in memory.
#[derive(Debug)]
pub struct TableReader<R> {
    batches: Batches,
    rows: std::vec::IntoIter<R>,
}

impl<R: FromBatch> TableReader<R> {
    /// Opens `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_batched(path, BATCH_ROWS)
    }

    /// Opens `path`, holding at most so many rows in memory.
    pub fn open_batched(path: &Path, batch_rows: usize) -> Result<Self> {
        Ok(Self { batches: Batches::open(path, batch_rows, None)?, rows: Vec::new().into_iter() })
    }

    /// Opens `path` and reads no other columns than those of these names.
    pub fn open_columns(path: &Path, columns: &[&str]) -> Result<Self> {
        Ok(Self { batches: Batches::open(path, BATCH_ROWS, Some(columns))?, rows: Vec::new().into_iter() })
    }

    /// Opens `path` at the row with this number.
    pub(crate) fn open_at(path: &Path, start: u64) -> Result<Self> {
        Ok(Self { batches: Batches::open_at(path, BATCH_ROWS, None, start)?, rows: Vec::new().into_iter() })
    }

    /// The names of a file's columns.
    pub fn columns(path: &Path) -> Result<Vec<String>> {
        columns(path)
    }

    /// Rows in the whole file.
    pub fn row_count(&self) -> u64 {
        self.batches.row_count()
    }
}

impl<R: FromBatch> Iterator for TableReader<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            let rows = match self.batches.next()? {
                Ok(batch) => R::from_batch(&batch).map_err(|cause| Error::format(&self.batches.path, cause)),
                Err(error) => Err(error),
            };
            match rows {
                Ok(rows) => self.rows = rows.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Reads a table whole: only for tables of one shard.
pub fn read_table<R: FromBatch>(path: &Path) -> Result<Vec<R>> {
    TableReader::open(path)?.collect()
}

/// Reads some rows of a table, given by their ascending positions, and nothing else of their columns' pages.
pub fn read_rows_at<R: FromBatch>(path: &Path, positions: &[usize]) -> Result<Vec<R>> {
    let wrong = |error: parquet::errors::ParquetError| Error::format(path, error);
    let builder = open(path)?;
    let rows = builder.metadata().file_metadata().num_rows().max(0) as usize;
    let ascending = positions.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || positions.last().is_some_and(|&last| last >= rows) {
        return Err(Error::format(path, format!("rows {positions:?} of {rows}: not ascending, or not there")));
    }
    let ranges = positions.iter().map(|&position| position..position + 1);
    let selection = RowSelection::from_consecutive_ranges(ranges, rows);
    let mut found = Vec::with_capacity(positions.len());
    for batch in builder.with_row_selection(selection).build().map_err(wrong)? {
        let batch = batch.map_err(|error| Error::format(path, error))?;
        found.extend(R::from_batch(&batch).map_err(|cause| Error::format(path, cause))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Pair;
    use fs_err as fs;
    use proptest::prelude::*;

    fn pair(text: &str, license: Option<String>, offset: i64) -> Pair {
        Pair {
            uid: crate::schema::uid(text, "http://a.com/"),
            url: "http://a.com/".into(),
            caption: text.into(),
            page_url: String::new(),
            license_evidence: license.clone(),
            license,
            language: "eng".into(),
            archive: "a.warc.wat.gz".into(),
            record_offset: offset,
            link_path: "IMG@/src".into(),
            source: "alt".into(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn rows_come_back_as_they_were(values in prop::collection::vec((".*", prop::option::of(".*"), any::<i64>()), 0..40)) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("00000.parquet");
            let rows: Vec<_> = values.into_iter().map(|(text, license, offset)| pair(&text, license, offset)).collect();
            write_table(&path, rows.clone()).expect("writable");
            prop_assert_eq!(read_table::<Pair>(&path).expect("readable"), rows);
        }
    }

    #[test]
    fn rows_are_found_by_their_position() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("00000.parquet");
        write_table(&path, (0..20_000).map(|i| pair("a", None, i))).expect("writable");
        let offsets = |positions: &[usize]| {
            let rows = read_rows_at::<Pair>(&path, positions).expect("there");
            rows.iter().map(|row| row.record_offset).collect::<Vec<_>>()
        };
        assert_eq!(offsets(&[0, 1, 8191, 8192, 19_999]), [0, 1, 8191, 8192, 19_999]);
        assert!(offsets(&[]).is_empty());
        assert!(read_rows_at::<Pair>(&path, &[20_000]).is_err());
    }

    #[test]
    fn a_file_that_is_no_table_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bad.parquet");
        fs::write(&path, b"PAR1 not really").expect("room");
        let error = read_table::<Pair>(&path).expect_err("not a table").to_string();
        assert!(error.contains("bad.parquet"), "{error}");
    }

    #[test]
    fn a_missing_column_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("pairs.parquet");
        write_table(&path, [pair("a", None, 1)]).expect("writable");
        let error = read_table::<crate::schema::ReleaseRow>(&path).expect_err("other columns").to_string();
        assert!(error.contains("SAMPLE_ID"), "{error}");
    }
}
