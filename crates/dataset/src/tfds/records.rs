//! The files that hold the examples of a split, in the formats TFDS has for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch};
use fs_err as fs;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::array_record::{ArrayRecordReader, ArrayRecordWriter};
use crate::publish::{Draft, FileEntry};
use crate::tfrecord::{RecordReader, write_record};
use crate::{Error, Result};

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

    /// Appends a serialised example.
    pub(super) fn push(&mut self, record: &[u8]) -> Result<()> {
        match self {
            Self::Tfrecord(draft) => Ok(write_record(draft, record)?),
            Self::ArrayRecord(writer) => Ok(writer.push(record)?),
            Self::Parquet { writer, path, waiting } => {
                waiting.push(record.to_vec());
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

/// Reads the serialised examples of a shard in their order.
#[derive(Debug)]
pub(super) enum ShardReader {
    Tfrecord(RecordReader),
    ArrayRecord(ArrayRecordReader, std::ops::Range<u64>),
    Parquet { batches: ParquetRecordBatchReader, path: PathBuf, ready: std::vec::IntoIter<Vec<u8>> },
}

impl ShardReader {
    /// Opens `path`.
    pub(super) fn open(path: &Path, format: FileFormat) -> Result<Self> {
        Ok(match format {
            FileFormat::Tfrecord => Self::Tfrecord(RecordReader::open(path)?),
            FileFormat::ArrayRecord => {
                let reader = ArrayRecordReader::open(path)?;
                let numbers = 0..reader.len();
                Self::ArrayRecord(reader, numbers)
            }
            FileFormat::Parquet => {
                let file = fs::File::open(path)?.into_file();
                let batches = ParquetRecordBatchReaderBuilder::try_new(file)
                    .and_then(|builder| builder.with_batch_size(ROW_GROUP_ROWS).build())
                    .map_err(|error| Error::format(path, error))?;
                Self::Parquet { batches, path: path.into(), ready: Vec::new().into_iter() }
            }
        })
    }
}

impl Iterator for ShardReader {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Tfrecord(reader) => reader.next(),
            Self::ArrayRecord(reader, numbers) => Some(reader.read(numbers.next()?)),
            Self::Parquet { batches, path, ready } => loop {
                if let Some(record) = ready.next() {
                    return Some(Ok(record));
                }
                let batch = match batches.next()? {
                    Ok(batch) => batch,
                    Err(error) => return Some(Err(Error::format(path, error))),
                };
                let column = batch.column_by_name("data").and_then(|column| column.as_binary_opt::<i32>());
                let Some(column) = column.filter(|column| column.null_count() == 0) else {
                    return Some(Err(Error::format(path, "no column \"data\" of bytes")));
                };
                *ready = column.iter().flatten().map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
            },
        }
    }
}
