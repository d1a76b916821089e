//! The files that hold the examples of a split, in the formats TFDS has for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::array_record::{ArrayRecordReader, ArrayRecordWriter};
use crate::publish::{Draft, FileEntry};
use crate::tfrecord::{RecordReader, append_record};
use crate::{Error, Result, table};

/// Rows of a row group, as TFDS writes them: the smallest part of a Parquet file that can be read alone.
const ROW_GROUP_ROWS: usize = 100;

/// How the examples of a split are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileFormat {
    /// A sequence, for `as_dataset`; TFDS's default.
    #[default]
    Tfrecord,
    /// Random access, for `as_data_source` and Grain.
    ArrayRecord,
    /// A column `data` of examples.
    Parquet,
}

impl FileFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tfrecord, Self::ArrayRecord, Self::Parquet];

    /// Its name in `dataset_info.json` and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tfrecord => "tfrecord",
            Self::ArrayRecord => "array_record",
            Self::Parquet => "parquet",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Writes a shard.
#[derive(Debug)]
pub(super) enum ShardWriter {
    Tfrecord(Draft),
    ArrayRecord(ArrayRecordWriter<Draft>),
    Parquet { writer: Box<ArrowWriter<Draft>>, path: PathBuf, waiting: Vec<Vec<u8>> },
}

impl ShardWriter {
    /// Starts the file that will be `path`.
    pub(super) fn create(path: &Path, format: FileFormat) -> Result<Self> {
        let draft = Draft::create(path)?;
        Ok(match format {
            FileFormat::Tfrecord => Self::Tfrecord(draft),
            FileFormat::ArrayRecord => Self::ArrayRecord(ArrayRecordWriter::new(draft)?),
            FileFormat::Parquet => {
                let schema = parquet_batch(&[]).schema();
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_dictionary_enabled(false)
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
                    .build();
                let writer = ArrowWriter::try_new(draft, schema, Some(properties));
                let writer = writer.map_err(|error| write_error(path, &error))?;
                Self::Parquet { writer: Box::new(writer), path: path.into(), waiting: Vec::new() }
            }
        })
    }

    /// Appends the serialised example that `put` puts behind the bytes it is given.
    pub(super) fn push(&mut self, put: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        let mut record = Vec::new();
        match self {
            Self::Tfrecord(draft) => append_record(draft, put),
            Self::ArrayRecord(writer) => {
                put(&mut record)?;
                Ok(writer.push(&record)?)
            }
            Self::Parquet { writer, path, waiting } => {
                put(&mut record)?;
                waiting.push(record);
                if waiting.len() < ROW_GROUP_ROWS {
                    return Ok(());
                }
                let batch = parquet_batch(&std::mem::take(waiting));
                writer.write(&batch).map_err(|error| write_error(path, &error))
            }
        }
    }

    /// Gives the file its final name.
    pub(super) fn publish(self) -> Result<FileEntry> {
        match self {
            Self::Tfrecord(draft) => draft.publish(),
            Self::ArrayRecord(writer) => writer.finish()?.publish(),
            Self::Parquet { mut writer, path, waiting } => {
                let written = writer.write(&parquet_batch(&waiting)).and_then(|()| writer.into_inner());
                written.map_err(|error| write_error(&path, &error))?.publish()
            }
        }
    }
}

fn parquet_batch(records: &[Vec<u8>]) -> RecordBatch {
    let column: ArrayRef = Arc::new(BinaryArray::from_iter_values(records));
    RecordBatch::try_from_iter([("data", column)]).expect("one column")
}

fn write_error(path: &Path, error: &parquet::errors::ParquetError) -> Error {
    Error::Write { path: path.into(), cause: error.to_string() }
}

/// Reads the serialised examples of a shard, forwards or by their numbers.
#[derive(Debug)]
pub(crate) enum ShardReader {
    Tfrecord(RecordReader),
    ArrayRecord { reader: ArrayRecordReader, next: u64 },
    Parquet(ParquetReader),
}

impl ShardReader {
    /// Opens `path`.
    pub(crate) fn open(path: &Path, format: FileFormat) -> Result<Self> {
        Ok(match format {
            FileFormat::Tfrecord => Self::Tfrecord(RecordReader::open(path)?),
            FileFormat::ArrayRecord => Self::ArrayRecord { reader: ArrayRecordReader::open(path)?, next: 0 },
            FileFormat::Parquet => Self::Parquet(ParquetReader::open(path)?),
        })
    }

    /// The example with this number, counted from 0. The next one is the cheapest, one before it the dearest.
    pub(crate) fn read(&mut self, number: u64) -> Result<Bytes> {
        let (record, path) = match self {
            Self::Tfrecord(reader) => {
                reader.seek(number)?;
                (reader.next(), reader.path())
            }
            Self::ArrayRecord { reader, .. } => return reader.read(number).map(Bytes::from),
            Self::Parquet(reader) => {
                reader.seek(number)?;
                (reader.next().map(|record| record.map(Bytes::from)), reader.path.as_path())
            }
        };
        record.unwrap_or_else(|| Err(Error::format(path, format!("record {number} is missing"))))
    }
}

impl Iterator for ShardReader {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Tfrecord(reader) => reader.next(),
            Self::ArrayRecord { reader, next } => {
                let number = *next;
                *next += 1;
                (number < reader.len()).then(|| reader.read(number).map(Bytes::from))
            }
            Self::Parquet(reader) => Some(reader.next()?.map(Bytes::from)),
        }
    }
}

/// A table of examples.
#[derive(Debug)]
pub(crate) struct ParquetReader {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    ready: std::vec::IntoIter<Vec<u8>>,
    next: u64,
}

impl ParquetReader {
    fn open(path: &Path) -> Result<Self> {
        let batches = Self::batches(path, 0)?;
        Ok(Self { path: path.into(), batches, ready: Vec::new().into_iter(), next: 0 })
    }

    fn batches(path: &Path, start: u64) -> Result<ParquetRecordBatchReader> {
        let builder = table::open(path)?.with_batch_size(ROW_GROUP_ROWS).with_offset(start as usize);
        builder.build().map_err(|error| Error::format(path, error))
    }

    fn seek(&mut self, number: u64) -> Result<()> {
        match number.checked_sub(self.next) {
            Some(ahead) if ahead < self.ready.len() as u64 => drop(self.ready.by_ref().take(ahead as usize).count()),
            Some(0) => {}
            _ => {
                self.batches = Self::batches(&self.path, number)?;
                self.ready = Vec::new().into_iter();
            }
        }
        self.next = number;
        Ok(())
    }
}

impl Iterator for ParquetReader {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.next() {
                self.next += 1;
                return Some(Ok(record));
            }
            let batch = match table::next_batch(&mut self.batches, &self.path)? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error)),
            };
            let column = batch.column_by_name("data").and_then(|column| column.as_binary_opt::<i32>());
            let Some(column) = column.filter(|column| column.null_count() == 0) else {
                return Some(Err(Error::format(&self.path, "no column \"data\" of bytes")));
            };
            self.ready = column.iter().flatten().map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
        }
    }
}
