//! Reads packages as training wants them: parts of them, in TFDS's order or shuffled, decoded and in batches, again from
//! where it stopped.
//!
//! ```no_run
//! use dataset::load::{Dataset, ReadOptions, Shuffle};
//!
//! # fn main() -> dataset::Result<()> {
//! let dataset = Dataset::open("tensorflow_datasets/laion400m/images/1.0.0".as_ref())?;
//! let options = ReadOptions { split: "train[:90%]".into(), shuffle: Some(Shuffle::new(1)), ..ReadOptions::default() };
//! let mut reader = dataset.read(&options)?;
//! for record in reader.by_ref().take(1000) {
//!     let record = record?;
//!     let example = record.example()?;
//!     assert!(example.similarity >= 0.3, "{}: {}", record.id(), example.caption);
//! }
//! // The same examples follow as would have followed here, in this process or in another one.
//! let later = dataset.resume(&reader.state())?;
//! # let _ = later;
//! # Ok(())
//! # }
//! ```

mod access;
mod arrow;
mod batch;
mod batches;
mod filter;
mod join;
mod matrices;
mod order;
mod passed;
mod reader;
mod source;
mod split;
mod tar;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::join::Embeddings;
use self::source::Shard;
use crate::files;
use crate::released::EmbeddingShard;
use crate::tfds::{self, Config, FEATURES, Info, shard_name};
use crate::{Error, Result};

pub use self::access::Access;
pub use self::batch::{Batch, Column, Pictures};
pub use self::batches::{BatchOptions, Batches, Images};
pub use self::filter::Filter;
pub use self::passed::Passed;
pub use self::reader::{Reader, Record, Share};
pub use self::split::{Rounding, Split};

/// A package whose examples can be read.
#[derive(Clone, Debug)]
pub struct Dataset {
    folder: PathBuf,
    shards: Arc<[Shard]>,
    shard_lengths: Arc<[u64]>,
    /// Whether the order in which it was packed is to be kept.
    in_sequence: bool,
    /// Of examples that have none themselves.
    embeddings: Option<Arc<Embeddings>>,
}

/// What to read, and in which order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// In the split language of TFDS; `train` is everything.
    pub split: String,
    /// How per cents of the split become examples.
    pub rounding: Rounding,
    /// For training on several hosts: which of so many equal parts of the split, counted from 0. What does not divide
    /// evenly is left out, so that every host has as many batches as every other.
    pub part: Option<(u64, u64)>,
    /// TFDS's default order if there is none.
    pub shuffle: Option<Shuffle>,
    /// What to do about a damaged record.
    pub on_damage: OnDamage,
    /// Which examples are wanted; it is asked before a picture is decoded.
    pub filter: Option<Filter>,
    /// Features to read; the others stay empty, and what can be left unread is. All of them if there is no list.
    pub features: Option<Vec<String>>,
}

impl ReadOptions {
    /// Whether a feature is read.
    pub fn wants(&self, feature: &str) -> bool {
        self.features.as_ref().is_none_or(|features| features.iter().any(|known| known == feature))
    }
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            split: "train".into(),
            rounding: Rounding::default(),
            part: None,
            shuffle: None,
            on_damage: OnDamage::default(),
            filter: None,
            features: None,
        }
    }
}

/// An order that follows from a seed: shards are shuffled, read sixteen at a time, and their examples shuffled within a
/// buffer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shuffle {
    /// Another seed gives another order, the same one the same, on any machine.
    pub seed: u64,
    /// Every epoch has an order of its own.
    pub epoch: u64,
    /// Examples that are held in memory. TFRecord files were shuffled when they were written, so that a few suffice.
    pub buffer: u64,
}

impl Shuffle {
    /// The first epoch with a buffer of 4,096 examples: about 64 MB of pictures of 256 pixels.
    pub fn new(seed: u64) -> Self {
        Self { seed, epoch: 0, buffer: 4096 }
    }
}

/// What to do about a damaged record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDamage {
    /// Give an error that names the file and the record, and end.
    #[default]
    Stop,
    /// Go on with the next one, and count it.
    Skip,
}

/// Where a reader stands. It can be kept as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Format of the state.
    pub version: u32,
    /// What is being read.
    pub options: ReadOptions,
    /// Examples in the dataset: another number is another dataset.
    pub examples: u64,
    /// Places in the order that have been passed so far. Readers that share an order each pass their own; put together,
    /// they say what is left for any number of readers.
    pub passed: Passed,
    /// Damaged ones among them.
    pub skipped: u64,
}

impl State {
    /// The format this program writes and reads.
    pub const VERSION: u32 = 2;
}

impl Dataset {
    /// Opens a package: a version folder of TFDS such as `laion400m/images/1.0.0`, a folder of WebDataset shards, or one
    /// of `img_emb_N.npy`, `text_emb_N.npy` and `metadata_N.parquet`.
    pub fn open(folder: &Path) -> Result<Self> {
        let mut in_sequence = false;
        let (shards, shard_lengths): (Vec<_>, Vec<_>) = if files::exists(folder.join("dataset_info.json"))? {
            let info = Info::read(folder)?;
            in_sequence = !info.shuffled;
            let (format, count) = (info.formats[0], info.shard_lengths.len());
            let shard = |shard| Shard::Records(folder.join(shard_name(format, shard, count)).into(), format);
            ((0..count).map(shard).collect(), info.shard_lengths)
        } else {
            let tars = tars(folder)?;
            let matrices = if tars.is_empty() { EmbeddingShard::list(folder)? } else { Vec::new() };
            if tars.is_empty() && matrices.is_empty() {
                return Err(Error::Invalid(format!(
                    "{}: no package: neither dataset_info.json, nor tars, nor img_emb_N.npy lie there",
                    folder.display()
                )));
            }
            let tar_lengths = tar::lengths(folder, &tars)?;
            let matrix_lengths: Vec<_> = matrices.iter().map(EmbeddingShard::row_count).collect::<Result<_>>()?;
            let tars = tars.into_iter().map(|path| Shard::Tar(path.into()));
            let matrices =
                matrices.into_iter().map(|shard| Shard::Matrices(shard.table.as_path().into(), shard.into()));
            (tars.chain(matrices).collect(), [tar_lengths, matrix_lengths].concat())
        };
        Ok(Self {
            folder: folder.into(),
            shards: shards.into(),
            shard_lengths: shard_lengths.into(),
            in_sequence,
            embeddings: None,
        })
    }

    /// Opens what the catalogue calls `laion400m`, `laion400m/images` or `laion400m/embeddings` below a data folder; the
    /// name of the dataset and the version `1.0.0` may be left out or given.
    pub fn named(name: &str, data: &Path) -> Result<Self> {
        let bare = name.strip_suffix(tfds::VERSION).map_or(name, |name| name.trim_end_matches(['/', ':']));
        let config = match bare.strip_prefix(tfds::DATASET) {
            Some("") => Config::Images.name(),
            Some(config) => config.strip_prefix('/').unwrap_or(bare),
            None => bare,
        };
        let known = Config::ALL.into_iter().find(|known| known.name() == config);
        let known =
            known.ok_or_else(|| Error::Invalid(format!("{name:?}: neither a folder, nor images, nor embeddings")))?;
        Self::open(&tfds::folder(data, known))
    }

    /// The same examples, each with the image and text embedding that another package has for it: `img_emb_N.npy`,
    /// `text_emb_N.npy` and `metadata_N.parquet` by key, for pictures in tars; `laion400m/embeddings` of the same pairs
    /// by number, for `laion400m/images`, where caption and URL must agree. An example without embeddings counts as
    /// damaged.
    pub fn with_embeddings(mut self, folder: &Path) -> Result<Self> {
        self.embeddings = Some(Arc::new(Embeddings::open(&self, folder)?));
        Ok(self)
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Examples in the split `train`.
    pub fn len(&self) -> u64 {
        self.shard_lengths.iter().sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Examples of every shard.
    pub fn shard_lengths(&self) -> &[u64] {
        &self.shard_lengths
    }

    /// Names of the features that its first example has.
    pub fn features(&self) -> Result<Vec<&'static str>> {
        let record = if self.is_empty() { None } else { Some(self.access().get(0)?) };
        let example = record.as_ref().map(Record::example).transpose()?;
        let has = |feature: &str| match feature {
            "image" => example.as_ref().is_some_and(|example| example.image.is_some()),
            "image_embedding" => example.as_ref().is_some_and(|example| example.image_embedding.is_some()),
            "text_embedding" => example.as_ref().is_some_and(|example| example.text_embedding.is_some()),
            _ => true,
        };
        Ok(FEATURES.into_iter().filter(|feature| has(feature)).collect())
    }

    /// Which examples a split has.
    pub fn split(&self, text: &str, rounding: Rounding) -> Result<Split> {
        Split::parse(text, &self.shard_lengths, rounding).map_err(|cause| self.wrong(cause))
    }

    /// Examples that a reader with these options passes: those of its part of the split, before filtering.
    pub fn count(&self, options: &ReadOptions) -> Result<u64> {
        Ok(self.part(options)?.len())
    }

    /// The split of a host; features that there are not are an error here, too, before anything is read.
    fn part(&self, options: &ReadOptions) -> Result<Split> {
        let unknown = options.features.iter().flatten().find(|feature| !FEATURES.contains(&feature.as_str()));
        if let Some(unknown) = unknown {
            return Err(self.wrong(format!("no feature {unknown:?}: {}", FEATURES.join(", "))));
        }
        let split = self.split(&options.split, options.rounding)?;
        let Some((index, count)) = options.part else { return Ok(split) };
        split.even(index, count, true).map_err(|cause| self.wrong(cause))
    }

    /// The state of a reader that has read nothing.
    pub fn start(&self, options: &ReadOptions) -> State {
        State {
            version: State::VERSION,
            options: options.clone(),
            examples: self.len(),
            passed: Passed::default(),
            skipped: 0,
        }
    }

    /// Reads from the start.
    pub fn read(&self, options: &ReadOptions) -> Result<Reader> {
        self.resume(&self.start(options))
    }

    /// Goes on where a reader stood.
    pub fn resume(&self, state: &State) -> Result<Reader> {
        Reader::new(self, state, Share::default())
    }

    /// Goes on where a reader stood, or several of them whose passed places were put together, as one of several.
    pub fn resume_share(&self, state: &State, share: Share) -> Result<Reader> {
        Reader::new(self, state, share)
    }

    /// Reads batches, from the start or from where a reader stood, alone or as one of several.
    pub fn batches(&self, state: &State, share: Share, options: &BatchOptions) -> Result<Batches> {
        Batches::new(Reader::new(self, state, share)?, options)
    }

    /// Reads examples by their numbers, counted over all shards.
    pub fn access(&self) -> Access {
        Access::new(self)
    }

    fn wrong(&self, cause: impl std::fmt::Display) -> Error {
        Error::Invalid(format!("{}: {cause}", self.folder.display()))
    }
}

/// The tars of a folder, by name.
fn tars(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in files::list(folder)? {
        let path = entry.path;
        found.extend(Some(path).filter(|path| path.extension().is_some_and(|ending| ending == "tar")));
    }
    found.sort_unstable();
    Ok(found)
}
