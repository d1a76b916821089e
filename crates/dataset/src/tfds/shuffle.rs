//! The order and the shards TFDS gives its examples. Source: `core/shuffle.py` and `core/utils/shard_utils.py` of TFDS
//! 4.9 and its Beam writer.

use md5::{Digest, Md5};

use super::info::SPLIT;
use crate::tfrecord::FRAME_BYTES;

/// Shards are between 64 MiB and 0.9 GiB where that is possible.
const SHARD_BYTES_MIN: u64 = 64 << 20;
const SHARD_BYTES_MAX: f64 = 0.9 * (1u64 << 30) as f64;

/// Where an example stands: examples are sorted by the md5 of the split's name and their key.
pub(super) fn hash_key(key: &str) -> u128 {
    let mut hash = Md5::new();
    hash.update(SPLIT);
    if key.contains('\\') {
        hash.update(key.replace('\\', "/"));
    } else {
        hash.update(key);
    }
    u128::from_be_bytes(hash.finalize().into())
}

/// How many shards a split has: a power of two up to 1,024, then multiples of 1,024.
pub(super) fn shard_count(num_bytes: u64, examples: u64) -> u64 {
    let total = num_bytes + FRAME_BYTES * examples;
    let most = total / SHARD_BYTES_MIN;
    let least = (total as f64 / SHARD_BYTES_MAX).floor() as u64;
    let fits = |shards: u64| least <= shards && shards <= most && examples >= shards;
    if fits(1024) {
        1024
    } else if least > 1024 {
        least.div_ceil(1024).max(2) * 1024
    } else {
        (1..10).rev().map(|power| 1 << power).find(|&shards| fits(shards)).unwrap_or(1)
    }
}

/// The shard of an example: `min(trunc(hash * shards / largest), shards - 1)`, where `largest` is the largest hash
/// present and the division is Python's, that is, rounded to the nearest float64 before it is cut.
pub(super) fn shard_of(hash: u128, largest: u128, shards: u64) -> u64 {
    if largest == 0 {
        return 0;
    }
    // Long division of hash * shards by largest, a bit of `shards` at a time: the product needs more than 128 bits.
    let (mut quotient, mut rest) = (0u64, 0u128);
    let double = |rest: u128| if rest >= largest - rest { (1, rest - (largest - rest)) } else { (0, rest + rest) };
    for bit in (0..64 - shards.leading_zeros()).rev() {
        let (carry, doubled) = double(rest);
        (quotient, rest) = (quotient * 2 + carry, doubled);
        if shards >> bit & 1 == 1 {
            if hash >= largest {
                quotient += 1;
            } else if rest >= largest - hash {
                (quotient, rest) = (quotient + 1, rest - (largest - hash));
            } else {
                rest += hash;
            }
        }
    }
    // The quotient rounds up to the next whole number if every further bit of a float64 and the one after it are 1.
    let bits = 53 - (64 - quotient.leading_zeros());
    let rounds_up = (0..=bits).all(|_| {
        let (bit, doubled) = double(rest);
        rest = doubled;
        bit == 1
    });
    (quotient + u64::from(rounds_up)).min(shards - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_shard_counts_are_tfdss() {
        // Sizes and counts that were measured with TFDS itself (loader specification, section 2.6).
        assert_eq!(shard_count(79_000_000, 5_000), 1);
        assert_eq!(shard_count(219_600_000, 50_000), 2);
        assert_eq!(shard_count(6_600_000_000_000, 413_000_000), 7168);
        assert_eq!(shard_count(10_000_000_000_000, 407_000_000), 11264);
        assert_eq!(shard_count(1_800_000_000_000, 409_000_000), 2048);
        assert_eq!(shard_count(0, 0), 1);
    }

    #[test]
    fn the_largest_hash_is_in_the_last_shard() {
        assert_eq!(shard_of(u128::MAX, u128::MAX, 1024), 1023);
        assert_eq!(shard_of(0, u128::MAX, 1024), 0);
        assert_eq!(shard_of(5, 5, 1), 0);
    }

    #[test]
    fn a_quotient_just_below_a_whole_number_rounds_up_as_in_python() {
        // min(math.trunc((((1 << 127) - 1) * 2) / (2**128 - 1)), 1) == 1 in Python 3, although the floor is 0
        assert_eq!(shard_of((1 << 127) - 1, u128::MAX, 2), 1);
        // and with 2**127 - 2**70 the quotient stays below 1: trunc gives 0
        assert_eq!(shard_of((1 << 127) - (1 << 76), u128::MAX, 2), 0);
    }

    proptest! {
        #[test]
        fn small_numbers_divide_as_floats_do(largest in 1..1u64 << 40, share in 0.0..=1.0f64, shards in 1..5000u64) {
            let hash = (largest as f64 * share) as u64;
            let expected = ((hash * shards) as f64 / largest as f64).trunc() as u64;
            prop_assert_eq!(shard_of(hash.into(), largest.into(), shards), expected.min(shards - 1));
        }
    }
}
