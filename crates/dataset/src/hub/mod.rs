//! Parquet as the Hugging Face Hub has it and `datasets` reads it, with a dataset card.
//!
//! ```text
//! README.md                                        the card: YAML, then words
//! data/train-00000-of-00002.parquet …              the only split
//! ```
//! Source: datasets 5.2, `arrow_writer.py` and `features/features.py`, and files that it wrote.

mod card;
mod columns;

use std::path::{Path, PathBuf};

use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{CdcOptions, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::croissant::Origin;
use crate::files;
use crate::publish::{Draft, FileEntry, publish};
use crate::tfds::Example;
use crate::{Counts, Error, Nsfw, Result};

pub use columns::HubColumns;

use columns::Batch;

/// A row group is what a reader that streams holds: no more than 16 MiB, where one picture is not more already.
const GROUP_BYTES: usize = 16 << 20;
/// For rows without pictures.
const GROUP_ROWS: usize = 10_000;
/// `datasets` writes shards of at most 500 MB before compression; the last row group may be a whole one.
const SHARD_BYTES: u64 = 480_000_000;
/// Pages end where their content says so, in `datasets`' own sizes: after an edit the Hub stores only pages that changed.
const PAGES: CdcOptions = CdcOptions { min_chunk_size: 256 << 10, max_chunk_size: 1 << 20, norm_level: 0 };

/// Writes the package. Bytes depend on nothing but the rows and their order.
#[derive(Debug)]
pub struct HubWriter {
    folder: PathBuf,
    columns: HubColumns,
    shard_bytes: u64,
    batch: Batch,
    open: Option<(ArrowWriter<Draft>, PathBuf, u64)>,
    shards: Vec<FileEntry>,
    rows: u64,
    bytes: u64,
    tags: [u64; Nsfw::ALL.len()],
}

impl HubWriter {
    /// Starts a package in `folder`, which must not hold another one.
    pub fn create(folder: &Path, columns: HubColumns) -> Self {
        Self {
            folder: folder.into(),
            columns,
            shard_bytes: SHARD_BYTES,
            batch: Batch::default(),
            open: None,
            shards: Vec::new(),
            rows: 0,
            bytes: 0,
            tags: [0; Nsfw::ALL.len()],
        }
    }

    /// Appends a row. The example must have what the columns say, pictures and embeddings.
    pub fn push(&mut self, key: &str, example: &Example) -> Result<()> {
        self.rows += 1;
        self.tags[example.nsfw.class() as usize] += 1;
        self.batch.push(&self.columns, key, example).map_err(|cause| self.wrong(&format!("row {key}: {cause}")))?;
        if self.batch.bytes() >= GROUP_BYTES || self.batch.rows() == GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    fn wrong(&self, cause: &dyn ToString) -> Error {
        Error::Write { path: self.folder.clone(), cause: cause.to_string() }
    }

    /// Makes the rows that wait a row group, and ends the shard if that made it large enough.
    fn flush(&mut self) -> Result<()> {
        let path = self.folder.join(format!(".shards/{}", self.shards.len()));
        let (mut writer, path, mut bytes) = match self.open.take() {
            Some(open) => open,
            None => {
                let draft = Draft::create(&path)?;
                let writer = ArrowWriter::try_new(draft, self.columns.schema(), Some(self.properties()));
                (writer.map_err(|error| self.wrong(&error))?, path, 0)
            }
        };
        let batch = std::mem::take(&mut self.batch);
        bytes += batch.bytes() as u64;
        self.bytes += batch.bytes() as u64;
        if batch.rows() > 0 {
            let batch = batch.finish(&self.columns);
            writer.write(&batch).and_then(|()| writer.flush()).map_err(|error| self.wrong(&error))?;
        }
        if bytes >= self.shard_bytes {
            self.shards.push(self.published(writer)?);
        } else {
            self.open = Some((writer, path, bytes));
        }
        Ok(())
    }

    fn published(&self, writer: ArrowWriter<Draft>) -> Result<FileEntry> {
        writer.into_inner().map_err(|error| self.wrong(&error))?.publish()
    }

    /// Pictures are compressed already and embeddings cannot be: both are stored plainly, as `datasets` does with media.
    fn properties(&self) -> WriterProperties {
        let path = |names: &[&str]| ColumnPath::new(names.iter().map(|name| (*name).to_owned()).collect());
        let plain = [
            path(&["image", "bytes"]),
            path(&["image_embedding", "list", "element"]),
            path(&["text_embedding", "list", "element"]),
        ];
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(None)
            .set_content_defined_chunking(Some(PAGES))
            .set_key_value_metadata(Some(vec![KeyValue::new("huggingface".into(), self.columns.metadata())]));
        let plainly = |properties: WriterPropertiesBuilder, column: ColumnPath| {
            properties
                .set_column_compression(column.clone(), Compression::UNCOMPRESSED)
                .set_column_dictionary_enabled(column, false)
        };
        plain.into_iter().fold(properties, plainly).build()
    }

    /// Gives the shards their names and writes the card. `counts` is what became of all rows.
    pub fn finish(mut self, origin: Origin, counts: &Counts) -> Result<Vec<FileEntry>> {
        if self.batch.rows() > 0 || (self.open.is_none() && self.shards.is_empty()) {
            self.flush()?;
        }
        if let Some((writer, _, _)) = self.open.take() {
            self.shards.push(self.published(writer)?);
        }
        let (parts, data) = (self.folder.join(".shards"), self.folder.join("data"));
        files::create_dir_all(&data)?;
        let shards = self.shards.len();
        let mut files = Vec::with_capacity(shards + 1);
        for (number, mut file) in std::mem::take(&mut self.shards).into_iter().enumerate() {
            let name = format!("train-{number:05}-of-{shards:05}.parquet");
            files::rename(parts.join(&file.name), data.join(&name))?;
            file.name = name;
            files.push(file.below("data"));
        }
        files::remove_dir_all(&parts)?;
        files::sync_names(&data)?;
        let card = card::Card {
            columns: self.columns,
            origin,
            rows: self.rows,
            bytes: self.bytes,
            file_bytes: files.iter().map(|file| file.bytes).sum(),
            tags: self.tags,
            counts,
        };
        files.push(publish(&self.folder.join("README.md"), card.text().as_bytes())?);
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;
    use half::f16;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn example(row: usize) -> Example {
        Example {
            caption: format!("picture {row} & more: \"quotes\""),
            image: Some(vec![7; 1000]),
            embeddings: Some((vec![f16::ONE; 4], vec![f16::ZERO; 4])),
            license: String::new(),
            nsfw: Nsfw::Unlikely,
            original_height: -1,
            original_width: 3,
            similarity: -1.0,
            url: "http://a.com/i.jpg".into(),
        }
    }

    fn package(rows: usize, shard_bytes: u64) -> (tempfile::TempDir, Vec<FileEntry>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = HubWriter::create(folder.path(), HubColumns { images: true, dimensions: Some(4) });
        writer.shard_bytes = shard_bytes;
        (0..rows).for_each(|row| writer.push(&format!("{row:09}"), &example(row)).expect("room"));
        let mut counts = Counts::default();
        counts.add_many(crate::Status::Kept, rows as u64);
        let files = writer.finish(Origin::Crawl, &counts).expect("room");
        (folder, files)
    }

    #[test]
    fn shards_are_named_by_their_count_and_hold_every_row_once_in_small_groups() {
        let rows = 50_000; // 51 MB in groups of 16 MiB
        let (folder, files) = package(rows, 30 << 20);
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "README.md"]);
        let mut read = 0;
        for name in &names[..2] {
            let file = fs::File::open(folder.path().join(name)).expect("there").into_file();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a table");
            for group in reader.metadata().row_groups() {
                assert!(group.total_byte_size() < 20 << 20, "{}", group.total_byte_size());
            }
            read += reader.metadata().file_metadata().num_rows();
        }
        assert_eq!(read, rows as i64);
        assert!(!folder.path().join(".shards").exists());
        let card = fs::read_to_string(folder.path().join("README.md")).expect("there");
        assert!(card.contains("num_examples: 50000") && card.contains("- 10K<n<100K"), "{card}");
        assert!(!card.contains("picture 7"), "no caption stands in the card");
    }

    #[test]
    fn a_package_without_rows_has_a_shard_and_a_row_that_lacks_a_column_is_an_error() {
        let (folder, files) = package(0, 1);
        assert_eq!(files[0].name, "data/train-00000-of-00001.parquet");
        assert!(fs::read_to_string(folder.path().join("README.md")).expect("there").contains("- n<1K"));
        let mut writer = HubWriter::create(folder.path(), HubColumns { images: false, dimensions: Some(5) });
        let error = writer.push("000000000", &example(0)).expect_err("four values").to_string();
        assert!(error.contains("000000000") && error.contains('5'), "{error}");
    }
}
