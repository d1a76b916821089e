//! Batches of examples, decoded by several threads ahead of whoever asks for them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::batch::{Batch, Column, Pictures, keep};
use super::reader::is_passed_over;
use super::{ReadOptions, Reader, Record, State};
use crate::picture::{Decoder, Limits};
use crate::{Error, Failure, Pixels, Result};

/// Bytes that the pixels of a batch may take.
const PIXEL_BYTES_MAX: usize = 16 << 30;

/// How the pictures of a batch are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Images {
    /// As they are stored.
    Encoded,
    /// All pixels.
    #[default]
    Decoded,
    /// The centred square of so many pixels, scaled as CLIP's preprocessing does.
    Square(u32),
}

/// What a batch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Examples of a batch, at least 1.
    pub size: usize,
    /// Leave out the last batch if it is smaller.
    pub drop_remainder: bool,
    /// How pictures are wanted.
    pub images: Images,
    /// Give each example the name of its record.
    pub ids: bool,
    /// Threads that decode; 0 takes as many as the processor has.
    pub threads: usize,
    /// Batches that are made ahead by a thread of their own; 0 makes each when it is asked for.
    pub ahead: usize,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { size: 256, drop_remainder: false, images: Images::default(), ids: false, threads: 0, ahead: 2 }
    }
}

/// Batches in their order.
#[derive(Debug)]
pub struct Batches {
    state: State,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Inline(Box<Producer>),
    /// `None` tells the end; the thread ends when this is dropped.
    Ahead(Receiver<Option<Result<Batch>>>),
    Ended,
}

impl Batches {
    pub(super) fn new(reader: Reader, options: &BatchOptions) -> Result<Self> {
        let state = reader.start().clone();
        let builder = Builder::new(state.options.clone(), options.clone())?;
        let producer = Producer { reader, builder, ended: false };
        if options.ahead == 0 {
            return Ok(Self { state, source: Source::Inline(producer.into()) });
        }
        // One batch more is in the making while the channel is full.
        let (sender, receiver) = sync_channel(options.ahead - 1);
        let produce = move || {
            for batch in producer.map(Some).chain([None]) {
                if sender.send(batch).is_err() {
                    break; // nobody waits for it
                }
            }
        };
        thread::Builder::new().name("laion400m-load".into()).spawn(produce)?;
        Ok(Self { state, source: Source::Ahead(receiver) })
    }

    /// Where it stands after the batch that was given last.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Waits at most so long for the next batch; `None` if there is none yet. The end is `Some(None)`.
    pub fn next_within(&mut self, time: Duration) -> Option<Option<Result<Batch>>> {
        let batch = match &mut self.source {
            Source::Inline(producer) => producer.next(),
            Source::Ahead(receiver) => match receiver.recv_timeout(time) {
                Ok(batch) => batch,
                Err(RecvTimeoutError::Timeout) => return None,
                // It has panicked: what is left must not look like the end.
                Err(RecvTimeoutError::Disconnected) => {
                    Some(Err(std::io::Error::other("the thread that makes batches has failed").into()))
                }
            },
            Source::Ended => None,
        };
        if let Some(Ok(batch)) = &batch {
            self.state.passed.merge(&batch.passed);
            self.state.skipped += batch.skipped.len() as u64;
        }
        // After the last example may come records that are damaged or unwanted.
        let batch = batch.filter(|batch| batch.as_ref().map_or(true, |batch| batch.rows > 0));
        if !matches!(batch, Some(Ok(_))) {
            self.source = Source::Ended;
        }
        Some(batch)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.next_within(Duration::from_secs(3600)) {
                return batch;
            }
        }
    }
}

/// Makes batches of records.
#[derive(Debug)]
pub(super) struct Builder {
    wanted: ReadOptions,
    options: BatchOptions,
    /// One for each thread.
    decoders: Vec<Decoder>,
}

/// What comes next, and its place.
type Next<'a> = dyn FnMut() -> Option<(u64, Result<Record>)> + 'a;

/// What became of a picture.
type Decoded = Result<Option<Pixels>, (Failure, String)>;

impl Builder {
    pub(super) fn new(wanted: ReadOptions, options: BatchOptions) -> Result<Self> {
        let side = if let Images::Square(side) = options.images { side as usize } else { 1 };
        let bytes = side.checked_mul(side).and_then(|pixels| pixels.checked_mul(3)?.checked_mul(options.size));
        if bytes.is_none_or(|bytes| bytes == 0 || bytes > PIXEL_BYTES_MAX) {
            return Err(Error::Invalid(format!("batches of {} pictures of {side} x {side} pixels", options.size)));
        }
        let threads = match options.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let decoders = (0..threads).map(|_| Decoder::new(Limits::default())).collect();
        Ok(Self { wanted, options, decoders })
    }

    /// A batch that is full, or of all that was left.
    pub(super) fn batch(&mut self, next: &mut Next<'_>) -> Result<Batch> {
        let mut batch = Batch::default();
        while batch.rows < self.options.size {
            let first = batch.rows;
            let pending = self.gather(&mut batch, next)?;
            if batch.rows == first {
                break;
            }
            self.add_pictures(&mut batch, first, &pending)?;
        }
        Ok(batch)
    }

    /// Fills the columns up, but for pictures: the records that have some that are to be decoded.
    fn gather(&self, batch: &mut Batch, next: &mut Next<'_>) -> Result<Vec<Record>> {
        let mut pending = Vec::new();
        while batch.rows < self.options.size
            && let Some((place, record)) = next()
        {
            let options = &self.wanted;
            let added = record.and_then(|record| {
                let example = record.example()?;
                if options.filter.as_ref().is_some_and(|filter| !filter.accepts(&example)) {
                    return Ok(None);
                }
                let picture = example.image.filter(|_| options.wants("image"));
                let others = !pending.is_empty() || batch.pictures != Pictures::None;
                if batch.rows > 0 && picture.is_some() != others {
                    return Err(record.wrong("some examples have a picture, others have none"));
                }
                batch.push(place, &example, options, self.options.size).map_err(|cause| record.wrong(&cause))?;
                if self.options.ids {
                    batch.ids.push(record.id().as_bytes());
                }
                let Some(picture) = picture else { return Ok(None) };
                if self.options.images != Images::Encoded {
                    return Ok(Some(record));
                }
                if let Pictures::None = batch.pictures {
                    batch.pictures = Pictures::Encoded(Column::with_room(picture.len(), self.options.size));
                }
                if let Pictures::Encoded(column) = &mut batch.pictures {
                    column.push(picture);
                }
                Ok(None)
            });
            match added {
                Ok(record) => pending.extend(record),
                Err(error) if is_passed_over(&error, options.on_damage) => batch.skipped.push(place),
                Err(error) => return Err(error),
            }
        }
        Ok(pending)
    }

    /// Decodes the pictures of the rows from `first` on; rows whose picture is damaged are taken out again.
    fn add_pictures(&mut self, batch: &mut Batch, first: usize, records: &[Record]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let results = match self.options.images {
            Images::Square(side) => {
                let bytes = side as usize * side as usize * 3;
                if let Pictures::None = batch.pictures {
                    batch.pictures = Pictures::Squares { side, rgb: Vec::new() };
                }
                let Pictures::Squares { rgb, .. } = &mut batch.pictures else { return Ok(()) };
                rgb.resize((first + records.len()) * bytes, 0);
                let places = records.iter().zip(rgb[first * bytes..].chunks_exact_mut(bytes));
                self.decode(places, |decoder, (record, out)| decoder.square(picture(record)?, side, out).map(|()| None))
            }
            _ => {
                let total = AtomicUsize::new(first_bytes(&batch.pictures));
                self.decode(records.iter(), |decoder, record| {
                    let pixels = decoder.full(picture(record)?)?;
                    let bytes = pixels.rgb().len();
                    if total.fetch_add(bytes, Ordering::Relaxed) + bytes > PIXEL_BYTES_MAX {
                        return Err((Failure::TooManyPixels, "the batch is too large with it".into()));
                    }
                    Ok(Some(pixels))
                })
            }
        };
        let mut kept = vec![true; first];
        let mut pixels = Vec::with_capacity(results.len());
        for (result, record) in results.into_iter().zip(records) {
            kept.push(result.is_ok());
            match result {
                Ok(decoded) => pixels.extend(decoded),
                Err((_, cause)) => {
                    let error = record.wrong(&format!("image: {cause}"));
                    if !is_passed_over(&error, self.wanted.on_damage) {
                        return Err(error);
                    }
                }
            }
        }
        match &mut batch.pictures {
            Pictures::Squares { rgb, .. } => keep(rgb, &kept),
            Pictures::Decoded(all) => all.extend(pixels),
            empty => *empty = Pictures::Decoded(pixels),
        }
        let damaged = batch.places.iter().zip(&kept).filter(|(_, kept)| !**kept).map(|(&place, _)| place);
        batch.skipped.extend(damaged);
        batch.skipped.sort_unstable();
        if kept.contains(&false) {
            batch.keep(&kept);
        }
        Ok(())
    }

    /// Calls `each` for every item in one of the threads; results come in the order of the items.
    fn decode<T: Send>(
        &mut self,
        items: impl ExactSizeIterator<Item = T> + Send,
        each: impl Fn(&mut Decoder, T) -> Decoded + Sync,
    ) -> Vec<Decoded> {
        let mut results: Vec<Decoded> = Vec::new();
        results.resize_with(items.len(), || Ok(None));
        let threads = self.decoders.len().min(results.len());
        let work = Mutex::new(items.zip(&mut results));
        let run = |decoder: &mut Decoder| {
            loop {
                let next = work.lock().map(|mut work| work.next());
                let Ok(Some((item, result))) = next else { break };
                *result = each(decoder, item);
            }
        };
        match &mut self.decoders[..threads] {
            [one] => run(one),
            several => thread::scope(|scope| {
                let run = &run;
                several.iter_mut().for_each(|decoder| drop(scope.spawn(move || run(decoder))));
            }),
        }
        results
    }
}

/// Of the pictures that were decoded before.
fn first_bytes(pictures: &Pictures) -> usize {
    let Pictures::Decoded(pictures) = pictures else { return 0 };
    pictures.iter().map(|pixels| pixels.rgb().len()).sum()
}

fn picture(record: &Record) -> Result<&[u8], (Failure, String)> {
    let example = record.example().map_err(|error| (Failure::ImageDamaged, error.to_string()))?;
    example.image.ok_or((Failure::ImageDamaged, "none".into()))
}

/// Makes the batches of a reader.
#[derive(Debug)]
struct Producer {
    reader: Reader,
    builder: Builder,
    ended: bool,
}

impl Iterator for Producer {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut batch = self.builder.batch(&mut || self.reader.take_next());
        let BatchOptions { size, drop_remainder, .. } = self.builder.options;
        self.ended = batch.as_ref().map_or(true, |batch| batch.rows < size);
        if let Ok(batch) = &mut batch {
            batch.passed = self.reader.take_passed();
        }
        let left_out = drop_remainder && batch.as_ref().is_ok_and(|batch| (1..size).contains(&batch.rows));
        (!left_out).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Passed;

    #[test]
    fn a_thread_that_fails_is_not_the_end() {
        let state =
            State { version: 2, options: ReadOptions::default(), examples: 2, passed: Passed::default(), skipped: 0 };
        let (sender, receiver) = sync_channel(2);
        let mut batches = Batches { state, source: Source::Ahead(receiver) };
        sender.send(Some(Ok(Batch { rows: 1, ..Batch::default() }))).expect("room");
        drop(sender);
        assert!(batches.next().is_some_and(|batch| batch.is_ok()));
        let error = batches.next().expect("an error").expect_err("an error").to_string();
        assert!(error.contains("has failed"), "{error}");
        assert!(batches.next().is_none());
    }
}
