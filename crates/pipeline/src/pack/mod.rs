//! Curated rows to packages: WebDataset, embeddings and metadata shard by shard, then both TFDS configurations, then what
//! is said of all of them. And what other tools left of LAION-400M to the packages it can be.

mod described;
mod format;
mod kept;
mod keys;
mod package;
mod place;
mod released;
mod shard;
mod sink;
mod tables;
mod tfds;

use std::path::Path;

use dataset::files;
use dataset::tfds::FileFormat;
use dataset::{Counts, Error, Packages, Progress, Result, Run, Stage, Summary};

use place::Choice;

pub use format::Format;
pub use keys::Keys;
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
    pack_choice(Choice { run, keys: None }, output, formats, file_formats, progress)
}

/// The same of the rows whose keys are listed, into another folder than that of the run's own packages. An error if a row
/// is listed that the run has not kept. The counts are of the listed rows.
pub fn run_listed(
    run: &Run,
    keys: &Keys,
    output: &Packages,
    formats: &[Format],
    file_formats: &[FileFormat],
    progress: &dyn Progress,
) -> Result<Summary> {
    let (own, there) = (run.packages(), output.folder());
    if there == own.folder() || is_same(there, own.folder()) || is_same(there, run.folder()) {
        let there = there.display();
        return Err(Error::Invalid(format!("{there}: holds all kept rows; choose another output for those of a list")));
    }
    keys.check(run)?;
    keys.make_room(output)?;
    pack_choice(Choice { run, keys: Some(keys) }, output, formats, file_formats, progress)
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((files::canonical(a), files::canonical(b)), (Ok(a), Ok(b)) if a == b)
}

fn pack_choice(
    choice: Choice<'_>,
    output: &Packages,
    formats: &[Format],
    file_formats: &[FileFormat],
    progress: &dyn Progress,
) -> Result<Summary> {
    let mut summary = Summary::new(Stage::Pack);
    if formats.iter().any(|format| Format::BY_SHARD.contains(format)) {
        summary.counts = pack_shards(choice, output, formats, progress)?;
    }
    let mut rest: Vec<_> = [Format::Tfds, Format::Hf].into_iter().filter(|format| formats.contains(format)).collect();
    if choice.are_packed(output)? {
        summary.counts = pack_whole(output, formats, file_formats, progress)?;
        rest.retain(|&format| format != Format::Tfds);
    } else {
        described::describe_packages(output, formats)?;
    }
    if !rest.is_empty() {
        summary.counts = kept::pack_kept(choice, output, &rest, file_formats, progress)?;
    }
    Ok(summary)
}

fn pack_shards(choice: Choice<'_>, output: &Packages, formats: &[Format], progress: &dyn Progress) -> Result<Counts> {
    let shards = choice.shards()?;
    let mut rows = 0;
    for &id in &shards {
        rows += choice.row_count(id)?;
    }
    let task = progress.begin(Stage::Pack, Some(rows));
    let mut counts = Counts::default();
    for &id in &shards {
        counts.merge(&shard::pack_chosen(choice, output, id, formats, &*task)?);
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
