//! The order in which examples are read.

use std::collections::VecDeque;
use std::ops::Range;

/// Shards that are read at the same time, and records that are taken from one before the next has its turn: the
/// defaults of TFDS (`interleave_cycle_length` and `interleave_block_length` of its `ReadConfig`).
const CYCLE: usize = 16;
const BLOCK: u64 = 16;

/// Records of a shard that are read one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) shard: usize,
    pub(super) records: Range<u64>,
}

/// TFDS's order without shuffling: that of `tf.data`'s interleave, where a shard that has ended loses its turn, and the
/// next one takes its place at the turn after that.
#[derive(Clone, Debug)]
pub(super) struct Interleave {
    waiting: VecDeque<(usize, Range<u64>)>,
    slots: Vec<Option<(usize, Range<u64>)>>,
    cursor: usize,
}

impl Interleave {
    /// Over these records of these shards.
    pub(super) fn new(shards: Vec<(usize, Range<u64>)>) -> Self {
        Self { waiting: shards.into(), slots: vec![None; CYCLE], cursor: 0 }
    }

    /// The same, one shard after the other: TFDS's order of a dataset that was packed without shuffling.
    pub(super) fn in_sequence(shards: Vec<(usize, Range<u64>)>) -> Self {
        Self { waiting: shards.into(), slots: vec![None], cursor: 0 }
    }
}

impl Iterator for Interleave {
    type Item = Block;

    fn next(&mut self) -> Option<Block> {
        loop {
            let slot = &mut self.slots[self.cursor];
            if slot.is_none() {
                *slot = self.waiting.pop_front();
                if slot.is_none() && self.slots.iter().all(Option::is_none) {
                    return None;
                }
            }
            let turn = self.cursor;
            self.cursor = (turn + 1) % self.slots.len();
            let slot = &mut self.slots[turn];
            let Some((shard, records)) = slot else { continue };
            let (shard, start) = (*shard, records.start);
            let end = records.end.min(start + BLOCK);
            records.start = end;
            if end < start + BLOCK {
                *slot = None; // its end was met within its turn
            }
            if start < end {
                return Some(Block { shard, records: start..end });
            }
        }
    }
}

/// Numbers that follow from a seed alone (SplitMix64, by Sebastiano Vigna).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// `stream` tells sequences of the same seed apart.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed);
        let start = random.next();
        Self(start ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Brings `values` into another order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            // The bias of the multiplication is under 2^-32 for any number of values that fits into memory.
            let other = (u128::from(self.next()) * (last as u128 + 1)) >> 64;
            values.swap(last, other as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blocks(lengths: &[u64]) -> Vec<(usize, u64, u64)> {
        let shards = lengths.iter().enumerate().map(|(shard, &length)| (shard, 0..length)).collect();
        Interleave::new(shards).map(|block| (block.shard, block.records.start, block.records.end)).collect()
    }

    #[test]
    fn shards_take_turns_of_sixteen() {
        assert_eq!(blocks(&[20, 40]), [(0, 0, 16), (1, 0, 16), (0, 16, 20), (1, 16, 32), (1, 32, 40)]);
        // The seventeenth shard takes the place of the first that has ended, a turn later.
        let mut lengths = [32; 17];
        lengths[3] = 5;
        let found: Vec<_> = blocks(&lengths).into_iter().map(|(shard, start, _)| (shard, start)).collect();
        let mut expected: Vec<_> = (0..16).map(|shard| (shard, 0)).collect();
        expected.extend((0..16).map(|slot| if slot == 3 { (16, 0) } else { (slot, 16) }));
        expected.push((16, 16));
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn every_record_comes_once(lengths in prop::collection::vec(0..60u64, 0..60)) {
            let mut found: Vec<_> =
                blocks(&lengths).into_iter().flat_map(|(shard, start, end)| (start..end).map(move |at| (shard, at))).collect();
            found.sort_unstable();
            let all: Vec<_> =
                lengths.iter().enumerate().flat_map(|(shard, &length)| (0..length).map(move |at| (shard, at))).collect();
            prop_assert_eq!(found, all);
        }

        #[test]
        fn a_shuffle_follows_from_its_seed_and_loses_nothing(seed: u64, stream: u64, count in 0..200usize) {
            let shuffled = |seed| {
                let mut values: Vec<_> = (0..count).collect();
                Random::new(seed, stream).shuffle(&mut values);
                values
            };
            prop_assert_eq!(shuffled(seed), shuffled(seed));
            let mut values = shuffled(seed);
            prop_assert!(count < 20 || values != shuffled(seed ^ 1));
            values.sort_unstable();
            prop_assert_eq!(values, (0..count).collect::<Vec<_>>());
        }
    }
}
