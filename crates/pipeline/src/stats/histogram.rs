//! How similarities are spread.

use std::collections::BTreeMap;

use serde::Serialize;

/// Bins of the histogram to a unit of similarity.
const BINS: i64 = 50;
/// Values are counted by thousandths, which is as exact as anybody names a threshold.
const THOUSAND: i64 = 1000;

/// How alike pictures and captions are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Similarity {
    /// Of those that are known.
    pub least: Option<f64>,
    /// Of those that are known.
    pub mean: Option<f64>,
    /// Of those that are known.
    pub most: Option<f64>,
    /// Those that have none: of examples -1, of pairs one that lacks an embedding.
    pub unknown: u64,
    /// Bins of 0.02 from the first that has any to the last.
    pub histogram: Vec<Bin>,
}

/// A bin of a histogram.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// The least value in it.
    pub from: f64,
    /// Values in it.
    pub count: u64,
}

impl Bin {
    /// The least value of the next one.
    pub fn end(&self) -> f64 {
        (number(self.from) + 1) as f64 / BINS as f64
    }
}

/// The number of a bin; that from 0 to 0.02 is 0.
fn number(from: f64) -> i64 {
    (from * BINS as f64).round() as i64
}

/// Several histograms side by side: where each bin begins, and how many values each histogram has in it.
pub fn beside<const N: usize>(histograms: [&[Bin]; N]) -> Vec<(Bin, [u64; N])> {
    let of = |bins: &[Bin]| bins.iter().map(|bin| (number(bin.from), bin.count)).collect::<BTreeMap<_, _>>();
    let counts = histograms.map(of);
    let firsts = counts.iter().filter_map(|counts| Some(*counts.first_key_value()?.0));
    let lasts = counts.iter().filter_map(|counts| Some(*counts.last_key_value()?.0));
    let Some((first, last)) = firsts.min().zip(lasts.max()) else { return Vec::new() };
    let row = |number: i64| {
        let row = std::array::from_fn(|at| counts[at].get(&number).copied().unwrap_or(0));
        (Bin { from: number as f64 / BINS as f64, count: row.iter().sum() }, row)
    };
    (first..=last).map(row).collect()
}

/// Counts similarities.
#[derive(Debug, Default)]
pub(super) struct Counter {
    known: u64,
    unknown: u64,
    sum: f64,
    range: Option<(f64, f64)>,
    thousandths: BTreeMap<i64, u64>,
}

impl Counter {
    pub(super) fn add(&mut self, similarity: Option<f64>) {
        let Some(similarity) = similarity.filter(|similarity| similarity.is_finite()) else {
            self.unknown += 1;
            return;
        };
        self.known += 1;
        self.sum += similarity;
        let (least, most) = self.range.unwrap_or((similarity, similarity));
        self.range = Some((least.min(similarity), most.max(similarity)));
        // As the filter compares, so that 0.26 as float32, which is a little less than 0.26, counts as 0.26.
        let below = (similarity * THOUSAND as f64).floor() as i64;
        let next = below + i64::from(reaches(similarity, (below + 1) as f64 / THOUSAND as f64));
        *self.thousandths.entry(next).or_default() += 1;
    }

    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// The bins from the first that has any value to the last, by the thousandths they begin with.
    pub(super) fn bins(&self) -> impl Iterator<Item = i64> {
        let of = |thousandths: &i64| thousandths.div_euclid(THOUSAND / BINS);
        let first = self.thousandths.keys().next().map(of).unwrap_or(0);
        let last = self.thousandths.keys().next_back().map(of).unwrap_or(-1);
        (first..=last).map(|bin| bin * (THOUSAND / BINS))
    }

    /// Values of so many thousandths and more.
    pub(super) fn at_least(&self, thousandths: i64) -> u64 {
        self.thousandths.range(thousandths..).map(|(_, count)| count).sum()
    }

    /// The least number of thousandths that at most so many values reach.
    pub(super) fn reached_by(&self, most: u64) -> Option<i64> {
        let mut sum = 0;
        for (&thousandths, count) in self.thousandths.iter().rev() {
            sum += count;
            if sum > most {
                return Some(thousandths + 1);
            }
        }
        self.thousandths.keys().next().copied()
    }

    pub(super) fn finish(self) -> Similarity {
        let bin = |start: i64| Bin {
            from: start as f64 / THOUSAND as f64,
            count: self.at_least(start) - self.at_least(start + THOUSAND / BINS),
        };
        Similarity {
            least: self.range.map(|(least, _)| least),
            mean: (self.known > 0).then(|| self.sum / self.known as f64),
            most: self.range.map(|(_, most)| most),
            unknown: self.unknown,
            histogram: self.bins().map(bin).collect(),
        }
    }
}

/// What so many thousandths are.
pub(super) fn value(thousandths: i64) -> f64 {
    thousandths as f64 / THOUSAND as f64
}

/// Whether the filter would keep the pair: similarities are compared as float32.
pub(super) fn reaches(similarity: f64, similarity_min: f64) -> bool {
    similarity as f32 >= similarity_min as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(values: &[f32]) -> Counter {
        let mut counter = Counter::default();
        values.iter().for_each(|&value| counter.add(Some(f64::from(value))));
        counter
    }

    #[test]
    fn a_value_is_in_the_bin_whose_threshold_keeps_it() {
        let values: Vec<f32> = (-50..=50).map(|bin| (f64::from(bin) / 50.0) as f32).collect();
        let just_below = values.iter().map(|value| value.next_down());
        assert!(counter(&values).finish().histogram.iter().all(|bin| bin.count == 1), "{values:?}");
        for (bin, value) in (-50..=50).zip(just_below) {
            let histogram = counter(&[value]).finish().histogram;
            assert_eq!(histogram, [Bin { from: f64::from(bin - 1) / 50.0, count: 1 }], "{value}");
        }
    }

    #[test]
    fn what_few_values_reach_is_told_to_the_thousandth() {
        let counter = counter(&[0.1, 0.2, 0.2, 0.3]);
        assert_eq!([0, 100, 101, 200, 300, 301].map(|least| counter.at_least(least)), [4, 4, 3, 3, 1, 0]);
        assert_eq!([0, 1, 2, 3, 4].map(|most| counter.reached_by(most)), [301, 201, 201, 101, 100].map(Some));
    }

    #[test]
    fn histograms_side_by_side_have_all_bins_of_both() {
        let (left, right) = (counter(&[0.31, -0.01]).finish(), counter(&[0.35]).finish());
        let rows = beside([&left.histogram, &right.histogram]);
        assert_eq!((rows.len(), rows[0].0.from, rows[18].0.from), (19, -0.02, 0.34));
        let filled: Vec<_> = rows.iter().filter(|(bin, _)| bin.count > 0).map(|(bin, row)| (bin.from, *row)).collect();
        assert_eq!(filled, [(-0.02, [1, 0]), (0.3, [1, 0]), (0.34, [0, 1])]);
        assert_eq!(rows[18].0.end(), 0.36);
        assert!(beside([&[], &[]]).is_empty());
    }
}
