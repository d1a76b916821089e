//! LAION-400M as it lies on people's disks: what img2dataset and clip-retrieval wrote, and the release itself.
//!
//! ```text
//! 00000.tar 00000.parquet                                   pictures and their rows
//! img_emb_0.npy text_emb_0.npy metadata_0.parquet           embeddings and their rows, also in folders of those names
//! ```
//! Source: the `laion400m` builder of TensorFlow Datasets 4.9.10, which reads both.

mod embeddings;
mod images;
mod row;

use std::path::{Path, PathBuf};

use fs_err as fs;

pub use embeddings::EmbeddingShard;
pub use images::{ImageShard, Join};
pub use row::ReleasedRow;
pub(crate) use row::size;

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
}

impl Released {
    /// Looks at the names in `folder`. A shard that lacks one of its files is an error that names the file.
    pub fn find(folder: &Path) -> Result<Self> {
        let images = ImageShard::list(folder)?;
        let embeddings = EmbeddingShard::list(folder)?;
        match (images.is_empty(), embeddings.is_empty()) {
            (false, true) => Ok(Self::Images(images)),
            (true, false) => Ok(Self::Embeddings(embeddings)),
            (true, true) => Err(Error::Invalid(format!(
                "{}: neither a run, nor NNNNN.tar with NNNNN.parquet, nor img_emb_N.npy with text_emb_N.npy and \
                 metadata_N.parquet",
                folder.display()
            ))),
            (false, false) => Err(Error::Invalid(format!(
                "{}: both tars and embeddings; give a folder that holds one of them",
                folder.display()
            ))),
        }
    }
}

/// Numbers in the names of `folder` that are `prefix`, a number, `suffix`, as they are written there; in order.
fn numbers(folder: &Path, prefix: &str, suffix: &str) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        found.extend(digits.and_then(|digits| Some((digits.parse().ok()?, digits.to_owned()))));
    }
    found.sort_unstable();
    Ok(found)
}

/// `path`, if it is there.
fn present(path: PathBuf) -> Result<PathBuf> {
    fs::metadata(&path)?;
    Ok(path)
}
