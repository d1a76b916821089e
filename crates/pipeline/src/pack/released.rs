//! LAION-400M as other tools left it, to the packages it can be.

use std::path::Path;

use dataset::hub::HubColumns;
use dataset::released::{Join, Released};
use dataset::tfds::{Config, FileFormat};
use dataset::{Error, Progress, Result, ShardId, Stage, Summary};

use super::format::{Format, names};
use super::package::{Ledger, Plan, Source, pack};
use super::sink::Names;
use super::tfds::DIMENSIONS;

/// What an input can become, the form it becomes unasked first, and what it holds.
fn forms(released: &Released) -> (&'static [Format], &'static str) {
    match released {
        Released::Images(_) => (&[Format::Tfds, Format::Webdataset, Format::Parquet, Format::Hf], "pictures"),
        Released::Embeddings(_) => (&[Format::Tfds, Format::Npy, Format::Parquet, Format::Hf], "embeddings"),
        Released::Metadata(_) => (&[Format::Parquet, Format::Hf], "metadata alone"),
    }
}

/// Packs what lies in `input` into `data`: in each of the formats, or as TFDS (metadata alone: as Parquet) if there is
/// none. TFDS examples are kept in each of the file formats.
pub fn pack_released(
    input: &Path,
    data: &Path,
    join: Join,
    formats: &[Format],
    file_formats: &[FileFormat],
    progress: &dyn Progress,
) -> Result<Summary> {
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
        Format::Tfds => Plan::tfds(data, config, file_formats).with("join", join_name),
        other => Plan::new(data, other).with("join", join_name),
    };
    let row_counts = released.row_counts()?;
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
        columns: HubColumns {
            images: matches!(released, Released::Images(_)),
            dimensions: matches!(released, Released::Embeddings(_)).then_some(DIMENSIONS),
        },
        // A float16 becomes a float32 in TFDS.
        expected_bytes: if config == Config::Embeddings { input_bytes * 2 } else { input_bytes },
    };
    let plans: Vec<_> = formats.iter().map(plan).collect();
    let begin = || Ok(progress.begin(Stage::Pack, Some(row_counts.iter().sum())));
    let counts = pack(&plans, &source, begin, |ledger| feed(&released, join, ledger))?;
    Ok(Summary { stage: Stage::Pack, counts })
}

/// What markers say of the input, and its bytes.
fn inputs(released: &Released, input: &Path) -> Result<(Vec<String>, u64)> {
    let (mut inputs, mut sum) = (Vec::new(), 0);
    for path in released.files() {
        let bytes = fs_err::metadata(path)?.len();
        let name = path.strip_prefix(input).ok().filter(|name| !name.as_os_str().is_empty());
        inputs.push(format!("{}: {bytes} bytes", name.unwrap_or(path).display()));
        sum += bytes;
    }
    Ok((inputs, sum))
}

fn feed(released: &Released, join: Join, ledger: &mut Ledger<'_>) -> Result<()> {
    match released {
        Released::Images(shards) => shards.iter().try_for_each(|shard| {
            ledger.begin(ShardId(shard.number), 0)?;
            shard.read(join, |outcome| ledger.enter(outcome))
        }),
        Released::Embeddings(shards) => shards.iter().try_for_each(|shard| {
            let kept = if ledger.matrices { shard.kept_count()? } else { 0 };
            ledger.begin(ShardId(shard.number), kept)?;
            shard.read(DIMENSIONS, |outcome| ledger.enter(outcome))
        }),
        Released::Metadata(parts) => parts.iter().try_for_each(|part| {
            ledger.begin(ShardId(part.number), 0)?;
            part.read(|outcome| ledger.enter(outcome))
        }),
    }
}
