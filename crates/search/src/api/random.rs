//! Random samples, the same for the same seed.

use std::time::Instant;

use axum::Json;
use axum::extract::State;

use super::answer::{Answer, Found};
use super::query::Wanted;
use super::search::{Pairs, pairs};
use super::{ApiError, facts};
use crate::server::Service;

/// Rows that are looked at together.
const ROWS: usize = 1024;
/// Rows that one request looks at, where few are as it wants them.
const ROWS_MAX: usize = 65_536;

/// `GET /api/v1/random?count=…&seed=…` and the filters of a search.
pub(super) async fn random(State(service): State<Service>, parameters: Pairs) -> Result<Json<Answer>, ApiError> {
    let started = Instant::now();
    let mut given = pairs(parameters)?;
    let seed = given.integer("seed")?;
    let Wanted { options, .. } = Wanted::take(&mut given)?;
    given.finish()?;
    let seed = seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64));
    let results = service.work(move |inner| {
        let index = inner.first().index();
        let order = Shuffled::new(index.len(), seed);
        let (mut found, mut passed) = (Vec::new(), 0);
        let mut next = 0;
        while found.len() < options.count && next < index.len().min(ROWS_MAX) {
            // Without a filter most rows will do.
            let rows = (2 * options.count).clamp(16, ROWS).min(index.len() - next);
            let rows: Vec<_> = (next..next + rows).map(|place| order.at(place)).collect();
            next += rows.len();
            let wanted = rows.into_iter().filter(|&row| index.admits(row, &options.filter));
            let passed_by = wanted.clone().take(options.offset - passed).count();
            let rows: Vec<_> = wanted.skip(passed_by).take(options.count - found.len()).collect();
            passed += passed_by;
            found.extend(facts(&index, &rows)?.into_iter().map(|facts| Found::new(facts, None, None)));
        }
        Ok(found)
    });
    let results = results.await?;
    Ok(Json(Answer { took_ms: started.elapsed().as_millis() as u64, results }))
}

/// The numbers below `len`, each once, in an order that follows from a seed: four rounds of a Feistel network over the
/// next power of four, of which numbers that are too large are passed on once more.
#[derive(Debug)]
struct Shuffled {
    len: u64,
    half: u32,
    seed: u64,
}

impl Shuffled {
    fn new(len: usize, seed: u64) -> Self {
        let bits = u64::BITS - (len.max(2) as u64 - 1).leading_zeros();
        Self { len: len as u64, half: bits.div_ceil(2), seed }
    }

    /// The number at a place below `len`.
    fn at(&self, place: usize) -> usize {
        let mut number = place as u64;
        loop {
            number = self.once(number);
            if number < self.len {
                return number as usize;
            }
        }
    }

    fn once(&self, number: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        let (mut left, mut right) = (number >> self.half, number & mask);
        for round in 0..4 {
            (left, right) = (right, left ^ (mixed(right ^ self.seed.wrapping_add(round << 56)) & mask));
        }
        left << self.half | right
    }
}

/// SplitMix64's finish.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_comes_once_in_an_order_of_the_seed() {
        for len in [1, 2, 3, 60, 1000, 4097] {
            let order = |seed| (0..len).map(|place| Shuffled::new(len, seed).at(place)).collect::<Vec<_>>();
            let mut sorted = order(7);
            sorted.sort_unstable();
            assert_eq!(sorted, (0..len).collect::<Vec<_>>());
            assert_eq!(order(7), order(7));
            assert!(len < 60 || order(7) != order(8));
        }
    }
}
