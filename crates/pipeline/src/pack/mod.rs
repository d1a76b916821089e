//! Curated rows to packages: WebDataset, embeddings and metadata shard by shard, then both TFDS configurations.

mod shard;
mod tfds;

use std::path::{Path, PathBuf};

use dataset::schema::CuratedRow;
use dataset::table::TableReader;
use dataset::{Counts, Progress, Result, Stage, Summary, list_shards};

pub use shard::{Packages, pack_shard};
pub use tfds::pack_tfds;

/// Where a run keeps what is packed.
#[derive(Clone, Debug)]
pub struct Input {
    /// WebDataset shards with every image that was downloaded.
    pub images: PathBuf,
    /// Embeddings of those images.
    pub embeddings: PathBuf,
    /// Verdicts.
    pub curated: PathBuf,
}

impl Input {
    /// The folders of a run.
    pub fn of_run(run: &Path) -> Self {
        Self { images: run.join("images"), embeddings: run.join("embeddings"), curated: run.join("curated") }
    }
}

/// Packs every shard of a run into `output`.
pub fn run(input: &Input, output: &Path, progress: &dyn Progress) -> Result<Summary> {
    let shards = list_shards(&input.curated, "parquet")?;
    let mut counts = Counts::default();
    let mut rows = 0;
    for &id in &shards {
        rows += TableReader::<CuratedRow>::open(&input.curated.join(format!("{id}.parquet")))?.row_count();
    }
    let task = progress.begin(Stage::Pack, Some(rows));
    for id in shards {
        counts.merge(&pack_shard(input, output, id, &*task)?);
    }
    pack_tfds(output, progress)?;
    Ok(Summary { stage: Stage::Pack, counts })
}
