//! Reads packed datasets as training wants them: parts of them, in TFDS's order or shuffled, again from where it stopped.
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

mod order;
mod source;
mod split;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::order::{Block, Interleave, Random};
use self::source::Sources;
use crate::tfds::{ExampleView, FileFormat, Info, shard_name};
use crate::{Error, Result};

pub use self::split::{Rounding, Split};

/// A prepared configuration in its version folder.
#[derive(Clone, Debug)]
pub struct Dataset {
    folder: PathBuf,
    format: FileFormat,
    shard_lengths: Vec<u64>,
}

/// What to read, and in which order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            split: "train".into(),
            rounding: Rounding::default(),
            part: None,
            shuffle: None,
            on_damage: OnDamage::default(),
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
    /// Records passed so far.
    pub position: u64,
    /// Damaged ones among them.
    pub skipped: u64,
}

impl State {
    /// The format this program writes and reads.
    pub const VERSION: u32 = 1;
}

impl Dataset {
    /// Opens a version folder, such as `laion400m/images/1.0.0`.
    pub fn open(folder: &Path) -> Result<Self> {
        let info = Info::read(folder)?;
        Ok(Self { folder: folder.into(), format: info.formats[0], shard_lengths: info.shard_lengths })
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

    /// Which examples a split has.
    pub fn split(&self, text: &str, rounding: Rounding) -> Result<Split> {
        let wrong = |cause| Error::Invalid(format!("{}: {cause}", self.folder.display()));
        Split::parse(text, &self.shard_lengths, rounding).map_err(wrong)
    }

    /// Reads from the start.
    pub fn read(&self, options: &ReadOptions) -> Result<Reader> {
        self.resume(&State {
            version: State::VERSION,
            options: options.clone(),
            examples: self.len(),
            position: 0,
            skipped: 0,
        })
    }

    /// Goes on where a reader stood.
    pub fn resume(&self, state: &State) -> Result<Reader> {
        let wrong = |cause: String| Error::Invalid(format!("{}: {cause}", self.folder.display()));
        if state.version != State::VERSION {
            return Err(wrong(format!("a state of version {}, not {}", state.version, State::VERSION)));
        }
        if state.examples != self.len() {
            return Err(wrong(format!("a state of {} examples, but there are {}", state.examples, self.len())));
        }
        let options = &state.options;
        let mut split = self.split(&options.split, options.rounding)?;
        if let Some((index, count)) = options.part {
            split = split.even(index, count, true).map_err(wrong)?;
        }
        if state.position > split.len() {
            return Err(wrong(format!("a state at record {} of {}", state.position, split.len())));
        }
        let mut shards = split.shards(&self.shard_lengths);
        if let Some(shuffle) = &options.shuffle {
            Random::new(shuffle.seed, shuffle.epoch).shuffle(&mut shards);
        }
        let mut reader = Reader {
            order: Interleave::new(shards),
            sources: Sources::new(self.clone()),
            buffer: VecDeque::new(),
            buffers: 0,
            state: State { position: 0, ..state.clone() },
            ended: false,
        };
        // What was passed is counted, not read; the buffer in which the state lies is put together again.
        while reader.state.position < state.position && reader.next_buffer() {
            let passed = (state.position - reader.state.position).min(reader.buffer.len() as u64);
            reader.buffer.drain(..passed as usize);
            reader.state.position += passed;
        }
        Ok(reader)
    }

    /// Reads examples by their numbers, counted over all shards.
    pub fn access(&self) -> Access {
        Access { sources: Sources::new(self.clone()) }
    }

    fn shard_name(&self, shard: usize) -> String {
        shard_name(self.format, shard, self.shard_lengths.len())
    }
}

/// A record of an example.
#[derive(Clone, Debug)]
pub struct Record {
    bytes: Vec<u8>,
    path: PathBuf,
    number: u64,
}

impl Record {
    /// The example in it; the error names the file and the record.
    pub fn example(&self) -> Result<ExampleView<'_>> {
        let wrong = |cause| Error::format(&self.path, format!("record {}: {cause}", self.number));
        ExampleView::read(&self.bytes).map_err(wrong)
    }

    /// The name TFDS gives an example (`ReadConfig(add_tfds_id=True)`): its file and its number there.
    pub fn id(&self) -> String {
        format!("{}__{}", self.path.file_name().unwrap_or_default().display(), self.number)
    }
}

/// Records in their order.
#[derive(Debug)]
pub struct Reader {
    order: Interleave,
    sources: Sources,
    /// What comes next: records by shard and number. Each is read when its turn comes, or all of them together.
    buffer: VecDeque<Slot>,
    /// Buffers so far.
    buffers: u64,
    state: State,
    ended: bool,
}

/// A place in the buffer.
#[derive(Debug)]
enum Slot {
    Waiting(usize, u64),
    Read(Result<Record>),
}

impl Reader {
    /// Where it stands now.
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// Damaged records that were passed over.
    pub fn skipped(&self) -> u64 {
        self.state.skipped
    }

    /// Fills the buffer with the places of the next records; false at the end.
    fn next_buffer(&mut self) -> bool {
        let shuffle = self.state.options.shuffle.as_ref();
        let least = shuffle.map_or(1, |shuffle| shuffle.buffer.max(1));
        let mut places = Vec::new();
        while (places.len() as u64) < least {
            let Some(Block { shard, records }) = self.order.next() else { break };
            places.extend(records.map(|record| (shard, record)));
        }
        let mut slots: Vec<_> = places.into_iter().map(|(shard, record)| Slot::Waiting(shard, record)).collect();
        if let Some(shuffle) = shuffle {
            self.buffers += 1;
            // A stream of its own for each buffer of each epoch; stream 0 of an epoch orders the shards.
            Random::new(shuffle.seed ^ self.buffers.rotate_left(32), shuffle.epoch).shuffle(&mut slots);
        }
        self.buffer = slots.into();
        !self.buffer.is_empty()
    }

    /// Reads all that waits in the buffer, in the order of the files.
    fn read_buffer(&mut self) {
        let mut waiting: Vec<_> = Vec::new();
        for (place, slot) in self.buffer.iter().enumerate() {
            if let Slot::Waiting(shard, record) = slot {
                waiting.push((*shard, *record, place));
            }
        }
        waiting.sort_unstable();
        for (shard, record, place) in waiting {
            self.buffer[place] = Slot::Read(self.sources.read(shard, record));
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        while !self.ended {
            let slot = match self.buffer.pop_front() {
                Some(slot) => slot,
                None if self.next_buffer() => continue,
                None => break,
            };
            let record = match slot {
                Slot::Read(record) => record,
                waiting @ Slot::Waiting(..) => {
                    self.buffer.push_front(waiting);
                    self.read_buffer();
                    continue;
                }
            };
            self.state.position += 1;
            let skips = self.state.options.on_damage == OnDamage::Skip;
            let damaged = match &record {
                Ok(record) if skips => record.example().is_err(),
                Ok(_) => false,
                Err(error) => skips && matches!(error, Error::Format { .. }),
            };
            if damaged {
                self.state.skipped += 1;
                continue;
            }
            self.ended = record.is_err();
            return Some(record);
        }
        None
    }
}

/// Examples by their numbers.
#[derive(Debug)]
pub struct Access {
    sources: Sources,
}

impl Access {
    /// The record of the example with this number, counted over all shards.
    pub fn get(&mut self, number: u64) -> Result<Record> {
        let dataset = self.sources.dataset();
        let mut record = number;
        for (shard, &length) in dataset.shard_lengths.iter().enumerate() {
            match record.checked_sub(length) {
                None => return self.sources.read(shard, record),
                Some(rest) => record = rest,
            }
        }
        Err(Error::Invalid(format!("{}: no example {number}, there are {}", dataset.folder.display(), dataset.len())))
    }
}
