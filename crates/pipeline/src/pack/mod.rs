//! Curated rows to packages: WebDataset, embeddings and metadata shard by shard, then both TFDS configurations, then what
//! is said of all of them. And what other tools left of LAION-400M to the packages it can be.

mod described;
mod format;
mod kept;
mod package;
mod released;
mod shard;
mod sink;
mod tables;
mod tfds;

use dataset::schema::CuratedRow;
use dataset::table::TableReader;
use dataset::tfds::FileFormat;
use dataset::{Counts, Packages, Progress, Result, Run, ShardId, Stage, Summary, list_shards};

pub use format::Format;
pub use released::{ReleasedConfig, pack_released};
pub use shard::pack_shard;

/// Packs every shard of a run into `output` in each of the formats, the TFDS configurations in each of the file formats.
/// The counts are of the rows that were kept.
pub fn run(
    run: &Run,
    output: &Packages,
    formats: &[Format],
    file_formats: &[FileFormat],
    progress: &dyn Progress,
) -> Result<Summary> {
    let mut summary = Summary::new(Stage::Pack);
    let shards = list_shards(&run.curated(), "parquet")?;
    if formats.iter().any(|format| Format::BY_SHARD.contains(format)) {
        summary.counts = pack_shards(run, output, formats, &shards, progress)?;
    }
    let mut rest: Vec<_> = [Format::Tfds, Format::Hf].into_iter().filter(|format| formats.contains(format)).collect();
    if kept::are_packed(run, output, &shards)? {
        summary.counts = pack_whole(output, formats, file_formats, progress)?;
        rest.retain(|&format| format != Format::Tfds);
    } else {
        described::describe_packages(output, formats)?;
    }
    if !rest.is_empty() {
        summary.counts = kept::pack_kept(run, output, &rest, file_formats, &shards, progress)?;
    }
    Ok(summary)
}

fn pack_shards(
    run: &Run,
    output: &Packages,
    formats: &[Format],
    shards: &[ShardId],
    progress: &dyn Progress,
) -> Result<Counts> {
    let mut rows = 0;
    for &id in shards {
        rows += TableReader::<CuratedRow>::open(&run.curated().join(format!("{id}.parquet")))?.row_count();
    }
    let task = progress.begin(Stage::Pack, Some(rows));
    let mut counts = Counts::default();
    for &id in shards {
        counts.merge(&pack_shard(run, output, id, formats, &*task)?);
    }
    Ok(counts)
}

/// Packs what needs all shards of `packages`, among which are WebDataset and npy: the TFDS configurations, if they are
/// among the formats, and the description of each package. The counts are of their rows.
pub fn pack_whole(
    packages: &Packages,
    formats: &[Format],
    file_formats: &[FileFormat],
    progress: &dyn Progress,
) -> Result<Counts> {
    if formats.contains(&Format::Tfds) {
        tfds::pack_tfds(packages, file_formats, progress)?;
    }
    described::describe_packages(packages, formats)
}
