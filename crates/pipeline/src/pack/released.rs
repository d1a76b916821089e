//! LAION-400M as other tools left it, to the packages it can be.

use std::path::Path;

use dataset::files;
use dataset::hub::HubColumns;
use dataset::released::{Join, Released};
use dataset::tfds::{Config, FileFormat};
use dataset::{Error, Progress, Result, ShardId, Stage, Summary};

use super::format::{Format, names};
use super::package::{Ledger, Plan, Source, pack};
use super::sink::Names;
use super::tfds::DIMENSIONS;

/// How to pack what other tools left.
#[derive(Clone, Debug)]
pub struct ReleasedConfig {
    /// How a picture finds its row.
    pub join: Join,
    /// Packages to make; TFDS (of metadata alone: Parquet) if there is none.
    pub formats: Vec<Format>,
    /// What TFDS examples are kept in; the first is the one that readers take unasked.
    pub file_formats: Vec<FileFormat>,
    /// Whether the examples of TFDS stand in the order in which TFDS shuffles them, or in that of the input.
    pub shuffle: bool,
    /// Pictures of inputs up to this size are sorted by where they lie, and read again when their places are known:
    /// twice as fast as carrying them through the sort, as long as the system still has them in memory. What is packed
    /// is the same.
    pub cached_bytes: u64,
}

/// What an input can become, the form it becomes unasked first, and what it holds.
fn forms(released: &Released) -> (&'static [Format], &'static str) {
    match released {
        Released::Images(_) => (&[Format::Tfds, Format::Webdataset, Format::Parquet, Format::Hf], "pictures"),
        Released::Embeddings(_) => (&[Format::Tfds, Format::Npy, Format::Parquet, Format::Hf], "embeddings"),
        Released::Metadata(_) => (&[Format::Parquet, Format::Hf], "metadata alone"),
    }
}

/// Packs what lies in `input` into `data`.
pub fn pack_released(input: &Path, data: &Path, config: &ReleasedConfig, progress: &dyn Progress) -> Result<Summary> {
    let ReleasedConfig { join, ref formats, ref file_formats, shuffle, cached_bytes } = *config;
    let released = Released::find(input)?;
    let (possible, what) = forms(&released);
    if let Some(format) = formats.iter().find(|format| !possible.contains(format)) {
        return Err(Error::Invalid(format!(
            "{}: holds {what}, which can become {}, not {}",
            input.display(),
            names(possible),
            format.name()
        )));
    }
    let formats = if formats.is_empty() { &possible[..1] } else { formats };
    let config = if matches!(released, Released::Embeddings(_)) { Config::Embeddings } else { Config::Images };
    let join_name = match join {
        Join::Key => "key",
        Join::Position => "position",
    };
    let plan = |&format: &Format| match format {
        Format::Tfds if shuffle => Plan::tfds(data, config, file_formats).with("join", join_name),
        Format::Tfds => Plan::tfds(data, config, file_formats).with("join", join_name).with("order", "input"),
        other => Plan::new(data, other).with("join", join_name),
    };
    let row_counts = released.row_counts()?;
    let rows = row_counts.iter().sum();
    let (inputs, input_bytes) = inputs(&released, input)?;
    let source = Source {
        input,
        inputs,
        origin: released.origin()?,
        names: match released {
            Released::Metadata(_) => Names::Numbers,
            _ => Names::for_rows(&row_counts),
        },
        file_formats,
        unsorted_rows: (!shuffle).then_some(rows),
        columns: HubColumns {
            images: matches!(released, Released::Images(_)),
            dimensions: matches!(released, Released::Embeddings(_)).then_some(DIMENSIONS),
        },
        // A float16 becomes a float32 in TFDS.
        expected_bytes: if config == Config::Embeddings { input_bytes * 2 } else { input_bytes },
    };
    let plans: Vec<_> = formats.iter().map(plan).collect();
    let begin = || Ok(progress.begin(Stage::Pack, Some(rows)));
    let counts = pack(&plans, &source, begin, |ledger| {
        let whole = shuffle && input_bytes > cached_bytes;
        feed(&released, join, whole, ledger)
    })?;
    Ok(Summary { stage: Stage::Pack, counts })
}

/// What markers say of the input, and its bytes.
fn inputs(released: &Released, input: &Path) -> Result<(Vec<String>, u64)> {
    let (mut inputs, mut sum) = (Vec::new(), 0);
    for path in released.files() {
        let bytes = files::length(path)?;
        let name = path.strip_prefix(input).ok().filter(|name| !name.as_os_str().is_empty());
        inputs.push(format!("{}: {bytes} bytes", name.unwrap_or(path).display()));
        sum += bytes;
    }
    Ok((inputs, sum))
}

/// Content is carried along where something else than TFDS needs it, or where the examples are larger than what the
/// system keeps in memory.
fn feed(released: &Released, join: Join, whole: bool, ledger: &mut Ledger<'_>) -> Result<()> {
    match released {
        Released::Images(shards) => shards.iter().try_for_each(|shard| {
            ledger.begin(ShardId(shard.number), 0)?;
            if ledger.takes_places {
                shard.scan(join, whole, |found| ledger.enter_found(found))
            } else {
                shard.read(join, |outcome| ledger.enter(outcome))
            }
        }),
        Released::Embeddings(shards) => shards.iter().try_for_each(|shard| {
            let kept = if ledger.matrices { shard.kept_count()? } else { 0 };
            ledger.begin(ShardId(shard.number), kept)?;
            if ledger.takes_places {
                shard.scan(DIMENSIONS, |found| ledger.enter_found(found))
            } else {
                shard.read(DIMENSIONS, |outcome| ledger.enter(outcome))
            }
        }),
        Released::Metadata(parts) => parts.iter().try_for_each(|part| {
            ledger.begin(ShardId(part.number), 0)?;
            part.read(|outcome| ledger.enter(outcome))
        }),
    }
}
