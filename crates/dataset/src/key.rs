//! Where a row stands: shard and row.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// Rows in a full shard, as img2dataset's default.
pub const SHARD_ROWS: u32 = 10_000;

/// The number of a shard; shown with five digits, as img2dataset names its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:05}", self.0)
    }
}

/// Shard and row of a sample: nine digits (`000420017` is row 17 of shard 42), so that keys sort as text in the order
/// they were written. The key img2dataset has used since 1.9.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleKey {
    /// Which shard.
    pub shard: ShardId,
    /// Which row of it, below [`SHARD_ROWS`].
    pub row: u32,
}

impl SampleKey {
    /// The key as one number: LAION-400M's `SAMPLE_ID`.
    pub fn number(self) -> i64 {
        i64::from(self.shard.0) * i64::from(SHARD_ROWS) + i64::from(self.row)
    }
}

impl fmt::Display for SampleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:04}", self.shard, self.row)
    }
}

impl FromStr for SampleKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::Invalid(format!("sample key {text:?}: not nine or more digits"));
        if text.len() < 9 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let (shard, row) = text.split_at(text.len() - 4);
        let shard = ShardId(shard.parse().map_err(|_| invalid())?);
        Ok(Self { shard, row: row.parse().map_err(|_| invalid())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_sort_as_text_and_lead_back(a in (0..100_000u32, 0..SHARD_ROWS), b in (0..100_000u32, 0..SHARD_ROWS)) {
            let key = |(shard, row)| SampleKey { shard: ShardId(shard), row };
            let (a, b) = (key(a), key(b));
            prop_assert_eq!(a.to_string().parse::<SampleKey>().expect("written above"), a);
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.cmp(&b), a.number().cmp(&b.number()));
        }

        #[test]
        fn any_text_is_a_key_or_an_error(text in "\\PC*") {
            let _ = text.parse::<SampleKey>();
        }
    }
}
