//! LAION-400M as it lies on people's disks: what img2dataset and clip-retrieval wrote, and the release itself.
//!
//! ```text
//! 00000.tar 00000.parquet                                   pictures and their rows
//! img_emb_0.npy text_emb_0.npy metadata_0.parquet           embeddings and their rows, also in folders of those names
//! part-00000-….snappy.parquet                               rows alone: the metadata of the release
//! ```
//! Source: the `laion400m` builder of TensorFlow Datasets 4.9.10, which reads the first two.

mod embeddings;
mod images;
mod metadata;
mod row;

use std::path::{Path, PathBuf};

pub use embeddings::EmbeddingShard;
pub(crate) use images::Key;
pub use images::{ImageShard, Join};
pub use metadata::MetadataPart;
pub use row::ReleasedRow;
pub(crate) use row::{numbers as number_column, size, texts as text_column};

use crate::croissant::Origin;
use crate::files;
use crate::table::TableReader;
use crate::tfds::{Content, Example};
use crate::{Error, Result, Status};

/// Rows of a table that are held in memory at a time, where not all are needed.
const BATCH_ROWS: usize = 8192;

/// An example with TFDS's key of it, or what became of a row that is none.
pub type Outcome = Result<(String, Example), Status>;

/// An example with TFDS's key of it and what it has beside text and numbers, or what became of a row that is none.
pub type Found<'a> = Result<(String, Example, Content<'a>), Status>;

/// What lies in a folder, in order of the shards' numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// Tars with pictures, a table beside each.
    Images(Vec<ImageShard>),
    /// Matrices, a table to each two.
    Embeddings(Vec<EmbeddingShard>),
    /// Tables alone.
    Metadata(Vec<MetadataPart>),
}

impl Released {
    /// Looks at the names in `folder`, which may also be one table of the release's metadata. A shard that lacks one of
    /// its files is an error that names the file.
    pub fn find(folder: &Path) -> Result<Self> {
        if files::is_file(folder)? {
            return Self::metadata(folder);
        }
        let images = ImageShard::list(folder)?;
        let embeddings = EmbeddingShard::list(folder)?;
        match (images.is_empty(), embeddings.is_empty()) {
            (false, true) => Ok(Self::Images(images)),
            (true, false) => Ok(Self::Embeddings(embeddings)),
            (true, true) => Self::metadata(folder),
            (false, false) => Err(Error::Invalid(format!(
                "{}: both tars and embeddings; give a folder that holds one of them",
                folder.display()
            ))),
        }
    }

    fn metadata(path: &Path) -> Result<Self> {
        let parts = MetadataPart::list(path)?;
        if parts.is_empty() {
            return Err(Error::Invalid(format!(
                "{}: neither a run, nor NNNNN.tar with NNNNN.parquet, nor img_emb_N.npy with text_emb_N.npy and \
                 metadata_N.parquet, nor part-NNNNN.parquet",
                path.display()
            )));
        }
        parts.iter().try_for_each(MetadataPart::check)?;
        Ok(Self::Metadata(parts))
    }

    /// Where the pairs come from. Only this program writes the page of each pair into its tables: out of a crawl.
    pub fn origin(&self) -> Result<Origin> {
        let Some(table) = self.files().into_iter().find(|path| path.extension().is_some_and(|e| e == "parquet")) else {
            return Ok(Origin::Laion400m);
        };
        let columns = TableReader::<ReleasedRow>::columns(table)?;
        Ok(if columns.iter().any(|column| column == "page_url") { Origin::Crawl } else { Origin::Laion400m })
    }

    /// Every file.
    pub fn files(&self) -> Vec<&Path> {
        match self {
            Self::Images(shards) => shards.iter().flat_map(ImageShard::files).collect(),
            Self::Embeddings(shards) => shards.iter().flat_map(EmbeddingShard::files).collect(),
            Self::Metadata(parts) => parts.iter().flat_map(MetadataPart::files).collect(),
        }
    }

    /// Rows of every table.
    pub fn row_counts(&self) -> Result<Vec<u64>> {
        match self {
            Self::Images(shards) => shards.iter().map(ImageShard::row_count).collect(),
            Self::Embeddings(shards) => shards.iter().map(EmbeddingShard::row_count).collect(),
            Self::Metadata(parts) => parts.iter().map(MetadataPart::row_count).collect(),
        }
    }
}

/// `path`, if it is there.
fn present(path: PathBuf) -> Result<PathBuf> {
    files::length(&path)?;
    Ok(path)
}
