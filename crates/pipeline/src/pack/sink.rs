//! What takes the samples of a package, one by one.

use std::path::Path;

use dataset::croissant::{Kind, Origin};
use dataset::hub::{HubColumns, HubWriter};
use dataset::tfds::{Config, Content, Example, FileFormat, TfdsWriter};
use dataset::{Counts, FileEntry, Result, ShardId};
use md5::{Digest, Md5};

/// A sample under all its names.
pub(super) struct Sample<'a> {
    /// Where it was.
    pub(super) shard: ShardId,
    /// TFDS's name of it.
    pub(super) tfds_key: String,
    /// Its name in tars and tables.
    pub(super) key: String,
    /// Its number, where it has one.
    pub(super) id: Option<i64>,
    pub(super) example: Example,
    /// Its picture or embeddings, if they are not in the example.
    pub(super) content: Option<Content<'a>>,
}

/// How samples are named.
#[derive(Clone, Copy, Debug)]
pub(super) enum Names {
    /// By shard and row, with so many digits for the row.
    Places { digits: usize },
    /// By `SAMPLE_ID`.
    Numbers,
}

impl Names {
    /// Room for every row of tables with so many rows, and never less than img2dataset leaves.
    pub(super) fn for_rows(row_counts: &[u64]) -> Self {
        let most = row_counts.iter().max().map_or(0, |most| most.saturating_sub(1));
        Self::Places { digits: most.to_string().len().max(4) }
    }

    /// What a sample of a shard is called whose TFDS key is given. Two keys never become the same name.
    pub(super) fn of(self, shard: ShardId, tfds_key: &str) -> (String, Option<i64>) {
        let Self::Places { digits } = self else { return (tfds_key.to_owned(), tfds_key.parse().ok()) };
        let place = tfds_key.split_once('_').map_or(tfds_key, |(_, place)| place);
        match place.parse::<u64>() {
            Ok(row) if row.to_string().len() <= digits => {
                let key = format!("{shard}{row:0digits$}");
                let id = key.parse().ok();
                (key, id)
            }
            Ok(row) => (format!("{shard}{row:020}"), None),
            // What comes from a stranger's tar becomes a file name here.
            Err(_) if plain(place) => (format!("{shard}_{place}"), None),
            Err(_) => (format!("{shard}-{:x}", Md5Hex(place)), None),
        }
    }
}

struct Md5Hex<'a>(&'a str);

impl std::fmt::LowerHex for Md5Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Md5::digest(self.0).iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn plain(name: &str) -> bool {
    name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// A package under way.
pub(super) trait Sink {
    /// The samples of another shard follow; so many, where matrices have to know.
    fn begin(&mut self, shard: ShardId, rows: u64) -> Result<()>;
    /// Takes a sample. It may take parts of the example away, if it puts them back.
    fn push(&mut self, sample: &mut Sample<'_>) -> Result<()>;
    /// Publishes the files, named relative to the package.
    fn finish(self: Box<Self>, origin: Origin, counts: &Counts) -> Result<Vec<FileEntry>>;
    /// What it makes.
    fn kind(&self) -> Kind;
}

/// A configuration of TFDS.
pub(super) struct TfdsSink {
    config: Config,
    format: FileFormat,
    writer: TfdsWriter,
}

impl TfdsSink {
    pub(super) fn new(config: Config, formats: &[FileFormat], writer: TfdsWriter) -> Self {
        Self { config, format: formats.first().copied().unwrap_or_default(), writer }
    }
}

impl Sink for TfdsSink {
    fn begin(&mut self, _: ShardId, _: u64) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, Sample { tfds_key, example, content, .. }: &mut Sample<'_>) -> Result<()> {
        if let Some(content) = *content {
            return self.writer.push_with(tfds_key, example, content);
        }
        match self.config {
            Config::Images => {
                let embeddings = example.embeddings.take();
                self.writer.push(tfds_key, example)?;
                example.embeddings = embeddings;
            }
            Config::Embeddings => {
                let image = example.image.take();
                self.writer.push(tfds_key, example)?;
                example.image = image;
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: Origin, _: &Counts) -> Result<Vec<FileEntry>> {
        self.writer.finish()
    }

    fn kind(&self) -> Kind {
        Kind::Tfds(self.config, self.format)
    }
}

/// A package for the Hub.
pub(super) struct HubSink {
    columns: HubColumns,
    writer: HubWriter,
}

impl HubSink {
    pub(super) fn new(folder: &Path, columns: HubColumns) -> Self {
        Self { columns, writer: HubWriter::create(folder, columns) }
    }
}

impl Sink for HubSink {
    fn begin(&mut self, _: ShardId, _: u64) -> Result<()> {
        Ok(())
    }

    fn push(&mut self, sample: &mut Sample<'_>) -> Result<()> {
        self.writer.push(&sample.key, &sample.example)
    }

    fn finish(self: Box<Self>, origin: Origin, counts: &Counts) -> Result<Vec<FileEntry>> {
        self.writer.finish(origin, counts)
    }

    fn kind(&self) -> Kind {
        Kind::Hub { images: self.columns.images, embeddings: self.columns.dimensions.is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_plain_and_sort_as_the_rows_do() {
        let names = Names::for_rows(&[50, 1_000_448]);
        let key = |tfds_key| names.of(ShardId(7), tfds_key);
        assert_eq!(key("7_12"), ("000070000012".into(), Some(70_000_012)));
        assert_eq!(key("7_12345678"), ("0000700000000000012345678".into(), None), "more digits than any row");
        assert_eq!(key("7_abc-D"), ("00007_abc-D".into(), None));
        assert_eq!(key("7_a b").0.len(), "00007-".len() + 32);
        assert_eq!(Names::for_rows(&[]).of(ShardId(1), "1_9999"), ("000019999".into(), Some(19_999)));
        assert_eq!(Names::Numbers.of(ShardId(0), "1581282014547"), ("1581282014547".into(), Some(1_581_282_014_547)));
    }
}
