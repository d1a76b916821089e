//! Records in their order.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use half::f16;

use super::order::{Block, Interleave, Random};
use super::source::{Sources, Wanted};
use super::{Dataset, OnDamage, Passed, State};
use crate::tfds::{Example, ExampleView, FEATURES, Values};
use crate::{Error, Result};

/// A record of an example.
#[derive(Clone, Debug)]
pub struct Record {
    pub(super) content: Content,
    /// Of the image and of the text, where they come from another package.
    pub(super) embeddings: Option<Box<(Vec<f16>, Vec<f16>)>>,
    pub(super) path: Arc<Path>,
    pub(super) number: u64,
    pub(super) key: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Serialized(Bytes),
    Example(Box<Example>),
}

impl Record {
    /// The example in it; the error names the file and the record.
    pub fn example(&self) -> Result<ExampleView<'_>> {
        let mut example = match &self.content {
            Content::Serialized(bytes) => ExampleView::read(bytes).map_err(|cause| self.wrong(&cause))?,
            Content::Example(example) => ExampleView::of(example),
        };
        if let Some((image, text)) = self.embeddings.as_deref() {
            example.image_embedding = Some(Values::Halves(image));
            example.text_embedding = Some(Values::Halves(text));
        }
        Ok(example)
    }

    /// The name TFDS gives an example (`ReadConfig(add_tfds_id=True)`): its file and its number there.
    pub fn id(&self) -> String {
        format!("{}__{}", self.path.file_name().unwrap_or_default().display(), self.number)
    }

    /// The sample's key, where its package keeps one: tars do, and tables of embeddings may.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// An error at this record.
    pub(super) fn wrong(&self, cause: &str) -> Error {
        Error::format(&self.path, format!("record {}: {cause}", self.number))
    }
}

/// Which of several readers of the same order one is: they take turns of `unit` places each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Counted from 0.
    pub index: u64,
    /// Readers.
    pub count: u64,
    /// Places of a turn.
    pub unit: u64,
}

impl Default for Share {
    /// Everything.
    fn default() -> Self {
        Self { index: 0, count: 1, unit: 1 }
    }
}

/// Records in their order.
#[derive(Debug)]
pub struct Reader {
    order: Interleave,
    sources: Sources,
    /// What comes next. Each is read when its turn comes, or all of them together.
    buffer: VecDeque<Slot>,
    /// Buffers so far, and places in them.
    buffers: u64,
    places: u64,
    /// Of these, the places that are left for all readers together.
    left: u64,
    share: Share,
    start: State,
    /// What this reader has passed and not yet told.
    fresh: Passed,
    /// Damaged records among them.
    skipped: u64,
    ended: bool,
}

/// A place in the order.
#[derive(Debug)]
struct Slot {
    place: u64,
    shard: usize,
    number: u64,
    record: Option<Result<Record>>,
}

impl Reader {
    pub(super) fn new(dataset: &Dataset, state: &State, share: Share) -> Result<Self> {
        if state.version != State::VERSION {
            return Err(dataset.wrong(format!("a state of version {}, not {}", state.version, State::VERSION)));
        }
        if state.examples != dataset.len() {
            return Err(dataset.wrong(format!(
                "a state of {} examples, but there are {}",
                state.examples,
                dataset.len()
            )));
        }
        if share.index >= share.count || share.unit == 0 {
            return Err(dataset.wrong(format!("share {} of {}, {} at a time", share.index, share.count, share.unit)));
        }
        let options = &state.options;
        let split = dataset.part(options)?;
        if state.passed.end() > split.len() {
            return Err(dataset.wrong(format!("a state at record {} of {}", state.passed.end(), split.len())));
        }
        let mut shards = split.shards(dataset.shard_lengths());
        if let Some(shuffle) = &options.shuffle {
            Random::new(shuffle.seed, shuffle.epoch).shuffle(&mut shards);
        }
        let wants = |feature| options.wants(feature);
        let wanted = Wanted {
            pictures: wants("image"),
            embeddings: wants("image_embedding") || wants("text_embedding"),
            metadata: options.filter.is_some()
                || FEATURES.into_iter().any(|feature| wants(feature) && is_metadata(feature)),
        };
        let in_sequence = dataset.in_sequence && options.shuffle.is_none();
        let order = if in_sequence { Interleave::in_sequence(shards) } else { Interleave::new(shards) };
        Ok(Self {
            order,
            sources: Sources::new(dataset, wanted),
            buffer: VecDeque::new(),
            buffers: 0,
            places: 0,
            left: 0,
            share,
            start: state.clone(),
            fresh: Passed::default(),
            skipped: 0,
            ended: false,
        })
    }

    /// Where it stands now.
    pub fn state(&self) -> State {
        let mut state = self.start.clone();
        state.passed.merge(&self.fresh);
        state.skipped += self.skipped;
        state
    }

    /// Damaged records that were passed over.
    pub fn skipped(&self) -> u64 {
        self.start.skipped + self.skipped
    }

    pub(super) fn start(&self) -> &State {
        &self.start
    }

    /// What was passed since this was asked last; batches carry it.
    pub(super) fn take_passed(&mut self) -> Passed {
        std::mem::take(&mut self.fresh)
    }

    /// Fills the buffer with the places of the next records that are this reader's; false at the end.
    fn next_buffer(&mut self) -> bool {
        let shuffle = self.start.options.shuffle.as_ref();
        let least = shuffle.map_or(1, |shuffle| shuffle.buffer.max(1));
        let mut found = Vec::new();
        while (found.len() as u64) < least {
            let Some(Block { shard, records }) = self.order.next() else { break };
            found.extend(records.map(|record| (shard, record)));
        }
        if found.is_empty() {
            return false;
        }
        self.buffers += 1;
        let start = self.places;
        self.places += found.len() as u64;
        let passed = &self.start.passed;
        if passed.next_left(start) >= self.places {
            return true;
        }
        if let Some(shuffle) = shuffle {
            // A stream of its own for each buffer of each epoch; stream 0 of an epoch orders the shards.
            Random::new(shuffle.seed ^ self.buffers.rotate_left(32), shuffle.epoch).shuffle(&mut found);
        }
        for (place, (shard, number)) in (start..).zip(found) {
            if passed.next_left(place) != place {
                continue;
            }
            if (self.left / self.share.unit) % self.share.count == self.share.index {
                self.buffer.push_back(Slot { place, shard, number, record: None });
            }
            self.left += 1;
        }
        true
    }

    /// Reads all that waits in the buffer, in the order of the files.
    fn read_buffer(&mut self) {
        let waiting = self.buffer.iter().enumerate().filter(|(_, slot)| slot.record.is_none());
        let mut waiting: Vec<_> = waiting.map(|(at, slot)| (slot.shard, slot.number, at)).collect();
        waiting.sort_unstable();
        for (shard, number, at) in waiting {
            self.buffer[at].record = Some(self.sources.read(shard, number));
        }
    }

    /// The next record, sound or not, and its place.
    pub(super) fn take_next(&mut self) -> Option<(u64, Result<Record>)> {
        loop {
            match self.buffer.pop_front() {
                Some(Slot { place, record: Some(record), .. }) => {
                    self.fresh.insert(place..place + 1);
                    return Some((place, record));
                }
                Some(waiting) => {
                    self.buffer.push_front(waiting);
                    self.read_buffer();
                }
                None if self.next_buffer() => {}
                None => return None,
            }
        }
    }
}

fn is_metadata(feature: &str) -> bool {
    !matches!(feature, "image" | "image_embedding" | "text_embedding")
}

/// Whether an error is damage that is to be passed over.
pub(super) fn is_passed_over(error: &Error, on_damage: OnDamage) -> bool {
    on_damage == OnDamage::Skip && matches!(error, Error::Format { .. })
}

impl Iterator for Reader {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        while !self.ended {
            let (_, record) = self.take_next()?;
            let options = &self.start.options;
            let sound = record.and_then(|record| {
                let example = record.example()?;
                let wanted = options.filter.as_ref().is_none_or(|filter| filter.accepts(&example));
                Ok(wanted.then_some(record))
            });
            match sound {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(record)),
                Err(error) if is_passed_over(&error, options.on_damage) => self.skipped += 1,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
