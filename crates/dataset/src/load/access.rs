//! Examples by their numbers.

use super::batches::Builder;
use super::reader::Record;
use super::source::{Sources, Wanted};
use super::{Batch, BatchOptions, Dataset, Images, ReadOptions};
use crate::Result;

/// Examples by their numbers.
#[derive(Debug)]
pub struct Access {
    sources: Sources,
    /// Number of the first example of every shard.
    starts: Vec<u64>,
}

impl Access {
    pub(super) fn new(dataset: &Dataset) -> Self {
        Self { sources: Sources::new(dataset, Wanted::ALL), starts: starts(dataset) }
    }

    /// The record of the example with this number, counted over all shards.
    pub fn get(&mut self, number: u64) -> Result<Record> {
        let dataset = self.sources.dataset();
        if number >= dataset.len() {
            return Err(dataset.wrong(format!("no example {number}, there are {}", dataset.len())));
        }
        let shard = self.starts.partition_point(|&start| start <= number) - 1;
        self.sources.read(shard, number - self.starts[shard])
    }

    /// Examples of these numbers in columns, in that order. A damaged one is an error.
    pub fn batch(&mut self, numbers: &[u64], images: Images, threads: usize) -> Result<Batch> {
        if numbers.is_empty() {
            return Ok(Batch::default());
        }
        let options = BatchOptions { size: numbers.len(), images, threads, ..BatchOptions::default() };
        let mut numbers = numbers.iter();
        let mut next = || numbers.next().map(|&number| (number, self.get(number)));
        Builder::new(ReadOptions::default(), options)?.batch(&mut next)
    }
}

/// Number of the first example of every shard.
pub(super) fn starts(dataset: &Dataset) -> Vec<u64> {
    let start = |start: &mut u64, &length: &u64| Some(std::mem::replace(start, *start + length));
    dataset.shard_lengths().iter().scan(0, start).collect()
}
