//! LAION-400M as other tools left it, to the TFDS configuration it can be.

use std::path::Path;

use dataset::released::{Join, Outcome, Released};
use dataset::tfds::{Config, DATASET, FileFormat, TfdsWriter, VERSION, folder};
use dataset::{Counts, Error, Marker, Progress, Result, Stage, Status, Summary, Task, publish};

use super::tfds::{DIMENSIONS, names};

/// Packs what lies in `input` below the TFDS data folder `data`, in each of the formats.
pub fn pack_released(
    input: &Path,
    data: &Path,
    join: Join,
    formats: &[FileFormat],
    progress: &dyn Progress,
) -> Result<Summary> {
    let released = Released::find(input)?;
    let (config, files): (_, Vec<_>) = match &released {
        Released::Images(shards) => (Config::Images, shards.iter().flat_map(|shard| shard.files()).collect()),
        Released::Embeddings(shards) => (Config::Embeddings, shards.iter().flat_map(|shard| shard.files()).collect()),
    };
    let (mut inputs, mut input_bytes) = (Vec::new(), 0);
    for path in files {
        let bytes = fs_err::metadata(path)?.len();
        inputs.push(format!("{}: {bytes} bytes", path.strip_prefix(input).unwrap_or(path).display()));
        input_bytes += bytes;
    }
    let join_name = match join {
        Join::Key => "key",
        Join::Position => "position",
    };
    let described = serde_json::json!({"config": config.name(), "file_formats": names(formats), "join": join_name});
    let marker = data.join(format!("{DATASET}-{}.json", config.name()));
    if let Some(done) = Marker::done(&marker, &described, &inputs)? {
        return Ok(Summary { stage: Stage::Pack, counts: done.counts });
    }
    // A package that is whole but not yet marked is told from another program's by a claim made before it.
    let package = folder(data, config);
    let claim = data.join(format!(".{DATASET}-{}.begun", config.name()));
    if package.exists() && !marker.exists() && !claim.exists() {
        let package = package.display();
        return Err(Error::Invalid(format!("{package}: not a package of this program; choose another output")));
    }
    publish(&claim, b"")?;
    let rows = match &released {
        Released::Images(shards) => shards.iter().map(|shard| shard.row_count()).sum::<Result<_>>()?,
        Released::Embeddings(shards) => shards.iter().map(|shard| shard.row_count()).sum::<Result<_>>()?,
    };
    let task = progress.begin(Stage::Pack, Some(rows));
    // A float16 becomes a float32 in TFDS.
    let expected_bytes = if config == Config::Embeddings { input_bytes * 2 } else { input_bytes };
    let mut ledger = Ledger {
        writer: TfdsWriter::create(data, config, formats, expected_bytes)?,
        counts: Counts::default(),
        task: &*task,
    };
    match &released {
        Released::Images(shards) => {
            shards.iter().try_for_each(|shard| shard.read(join, |outcome| ledger.enter(outcome)))?;
        }
        Released::Embeddings(shards) => {
            shards.iter().try_for_each(|shard| shard.read(DIMENSIONS, |outcome| ledger.enter(outcome)))?;
        }
    }
    let Ledger { writer, counts, .. } = ledger;
    let below = format!("{DATASET}/{}/{VERSION}", config.name());
    let files = writer.finish()?.into_iter().map(|file| file.below(&below)).collect();
    let counts = Marker::finish(&marker, &described, inputs, counts, files)?.counts;
    fs_err::remove_file(&claim)?;
    Ok(Summary { stage: Stage::Pack, counts })
}

/// Where every row ends.
struct Ledger<'a> {
    writer: TfdsWriter,
    counts: Counts,
    task: &'a dyn Task,
}

impl Ledger<'_> {
    fn enter(&mut self, outcome: Outcome) -> Result<()> {
        let status = match outcome {
            Ok((key, example)) => {
                self.writer.push(&key, &example)?;
                Status::Kept
            }
            Err(status) => status,
        };
        self.counts.add(status);
        self.task.advance(1);
        Ok(())
    }
}
