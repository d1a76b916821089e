//! LAION-400M as other tools left it, to the TFDS configuration it can be.

use std::path::Path;

use dataset::released::{Found, Join, Released};
use dataset::tfds::{Config, DATASET, FileFormat, TfdsWriter, VERSION, folder};
use dataset::{Counts, Error, Marker, Progress, Result, Stage, Status, Summary, Task, publish};

use super::tfds::{DIMENSIONS, names};

/// How to pack what other tools left.
#[derive(Clone, Debug)]
pub struct ReleasedConfig {
    /// How a picture finds its row.
    pub join: Join,
    /// The first is the one that readers take unasked.
    pub formats: Vec<FileFormat>,
    /// Whether examples stand in the order in which TFDS shuffles them, or in that of the input.
    pub shuffle: bool,
    /// Pictures of inputs up to this size are sorted by where they lie, and read again when their places are known:
    /// twice as fast as carrying them through the sort, as long as the system still has them in memory. What is packed
    /// is the same.
    pub cached_bytes: u64,
}

/// Packs what lies in `input` below the TFDS data folder `data`.
pub fn pack_released(input: &Path, data: &Path, config: &ReleasedConfig, progress: &dyn Progress) -> Result<Summary> {
    let ReleasedConfig { join, ref formats, shuffle, cached_bytes } = *config;
    let released = Released::find(input)?;
    let (kind, files): (_, Vec<_>) = match &released {
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
    let mut described = serde_json::json!({"config": kind.name(), "file_formats": names(formats), "join": join_name});
    if !shuffle {
        described["order"] = "input".into();
    }
    let marker = data.join(format!("{DATASET}-{}.json", kind.name()));
    if let Some(done) = Marker::done(&marker, &described, &inputs)? {
        return Ok(Summary { stage: Stage::Pack, counts: done.counts });
    }
    // A package that is whole but not yet marked is told from another program's by a claim made before it.
    let package = folder(data, kind);
    let claim = data.join(format!(".{DATASET}-{}.begun", kind.name()));
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
    let expected_bytes = if kind == Config::Embeddings { input_bytes * 2 } else { input_bytes };
    let writer = TfdsWriter::create(data, kind, formats, expected_bytes)?;
    let writer = if shuffle { writer } else { writer.unsorted(rows) };
    let mut ledger = Ledger { writer, counts: Counts::default(), task: &*task };
    match &released {
        Released::Images(shards) => {
            let whole = shuffle && input_bytes > cached_bytes;
            shards.iter().try_for_each(|shard| shard.scan(join, whole, |found| ledger.enter(found)))?;
        }
        Released::Embeddings(shards) => {
            shards.iter().try_for_each(|shard| shard.scan(DIMENSIONS, |found| ledger.enter(found)))?;
        }
    }
    let Ledger { writer, counts, .. } = ledger;
    let below = format!("{DATASET}/{}/{VERSION}", kind.name());
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
    fn enter(&mut self, found: Found<'_>) -> Result<()> {
        let status = match found {
            Ok((key, example, content)) => {
                self.writer.push_with(&key, &example, content)?;
                Status::Kept
            }
            Err(status) => status,
        };
        self.counts.add(status);
        self.task.advance(1);
        Ok(())
    }
}
