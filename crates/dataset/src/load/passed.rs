//! Which places of an order are behind.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Places of an order that have been passed: what lies between them is still to come. Readers of the same order, one of
/// several workers each, leave one of these behind, and together they say what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Passed(
    /// Ascending, with places between any two.
    Vec<Range<u64>>,
);

impl From<Vec<(u64, u64)>> for Passed {
    fn from(ranges: Vec<(u64, u64)>) -> Self {
        let mut passed = Self::default();
        ranges.into_iter().for_each(|(start, end)| passed.insert(start..end));
        passed
    }
}

impl From<Passed> for Vec<(u64, u64)> {
    fn from(passed: Passed) -> Self {
        passed.0.into_iter().map(|range| (range.start, range.end)).collect()
    }
}

impl Passed {
    /// Adds places.
    pub fn insert(&mut self, places: Range<u64>) {
        if places.is_empty() {
            return;
        }
        match self.0.last_mut() {
            // As a reader passes them: one after the other.
            Some(last) if last.end == places.start => return last.end = places.end,
            _ => {}
        }
        let first = self.0.partition_point(|range| range.end < places.start);
        let last = self.0.partition_point(|range| range.start <= places.end);
        let touched = &self.0[first..last];
        let start = touched.first().map_or(places.start, |range| range.start.min(places.start));
        let end = touched.last().map_or(places.end, |range| range.end.max(places.end));
        self.0.splice(first..last, std::iter::once(start..end));
    }

    /// Adds what another reader has passed.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().cloned().for_each(|range| self.insert(range));
    }

    /// How many places.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the last of them ends.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }

    /// The places up to `place`, itself included.
    pub fn until(&self, place: u64) -> Self {
        let cut = |range: &Range<u64>| range.start..range.end.min(place + 1);
        Self(self.0.iter().map(cut).filter(|range| !range.is_empty()).collect())
    }

    /// The first place from `place` on that has not been passed.
    pub(super) fn next_left(&self, place: u64) -> u64 {
        let range = self.0.get(self.0.partition_point(|range| range.end <= place));
        range.filter(|range| range.start <= place).map_or(place, |range| range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_places(ranges in prop::collection::vec((0..60u64, 0..9u64), 0..12), place in 0..70u64) {
            let mut passed = Passed::default();
            let mut expected = std::collections::BTreeSet::new();
            for (start, length) in ranges {
                passed.insert(start..start + length);
                expected.extend(start..start + length);
            }
            prop_assert_eq!(passed.len(), expected.len() as u64);
            prop_assert_eq!(passed.next_left(place), (place..).find(|place| !expected.contains(place)).expect("endless"));
            prop_assert_eq!(passed.until(place).len(), expected.range(..=place).count() as u64);
            prop_assert_eq!(passed.end(), expected.last().map_or(0, |last| last + 1));
            let pairs: Vec<(u64, u64)> = passed.clone().into();
            prop_assert!(pairs.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", pairs);
            prop_assert_eq!(Passed::from(pairs), passed);
        }
    }
}
