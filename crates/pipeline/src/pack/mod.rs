//! Curated rows to packages: WebDataset, embeddings and metadata shard by shard, then both TFDS configurations. And
//! what other tools left of LAION-400M to a TFDS configuration.

mod released;
mod shard;
mod tfds;

use dataset::schema::CuratedRow;
use dataset::table::TableReader;
use dataset::tfds::FileFormat;
use dataset::{Packages, Progress, Result, Run, Stage, Summary, list_shards};

pub use released::{ReleasedConfig, pack_released};
pub use shard::pack_shard;
pub use tfds::pack_tfds;

/// Packs every shard of a run into `output`, the TFDS configurations in each of the formats. The counts are of the rows that were kept.
pub fn run(run: &Run, output: &Packages, formats: &[FileFormat], progress: &dyn Progress) -> Result<Summary> {
    let mut summary = Summary::new(Stage::Pack);
    let shards = list_shards(&run.curated(), "parquet")?;
    let mut rows = 0;
    for &id in &shards {
        rows += TableReader::<CuratedRow>::open(&run.curated().join(format!("{id}.parquet")))?.row_count();
    }
    let task = progress.begin(Stage::Pack, Some(rows));
    for id in shards {
        summary.counts.merge(&pack_shard(run, output, id, &*task)?);
    }
    pack_tfds(output, formats, progress)?;
    Ok(summary)
}
