//! The split language of TensorFlow Datasets: which examples `train[:10%]+train[-5:]` means.
//!
//! Source: `core/splits.py` and `core/subsplits_utils.py` of TFDS 4.9. Percentages are rounded to the nearest example,
//! halves to the even one, as Python rounds.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::tfds::SPLIT;

/// How a percentage becomes a number of examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To the nearest one.
    #[default]
    Closest,
    /// A hundredth of the split, rounded down, times the percentage: every per cent is as large as every other, and up
    /// to 99 examples are never read. TFDS's `pct1_dropremainder`.
    Pct1DropRemainder,
}

/// Examples of a split, in the order they are read: ranges of their numbers over all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    ranges: Vec<Range<u64>>,
}

impl Split {
    /// Reads a split such as `train`, `train[:10%]`, `train[100:200]`, `train[-1%:]`, `train[3shard]` or a sum of those.
    /// The error says what is wrong with it.
    pub fn parse(text: &str, shard_lengths: &[u64], rounding: Rounding) -> Result<Self, String> {
        let range =
            |part: &str| one(part.trim(), shard_lengths, rounding).map_err(|cause| format!("split {text:?}: {cause}"));
        let split = Self { ranges: text.split('+').map(range).collect::<Result<_, _>>()? };
        if split.is_empty() { Err(format!("split {text:?}: it has no examples")) } else { Ok(split) }
    }

    /// One of `count` parts of equal size, counted from 0. Examples that are left over go to the first parts one by one,
    /// or to none.
    pub fn even(&self, index: u64, count: u64, drop_remainder: bool) -> Result<Self, String> {
        if index >= count {
            return Err(format!("part {index} of {count}"));
        }
        let part = |range: &Range<u64>| {
            let (size, rest) = ((range.end - range.start) / count, (range.end - range.start) % count);
            let rest = if drop_remainder { 0 } else { rest };
            let start = |index: u64| range.start + size * index + index.min(rest);
            start(index)..start(index + 1)
        };
        Ok(Self { ranges: self.ranges.iter().map(part).collect() })
    }

    /// Examples.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number over all shards of an example of this split.
    pub fn number(&self, mut index: u64) -> Option<u64> {
        for range in &self.ranges {
            let length = range.end - range.start;
            match index.checked_sub(length) {
                None => return Some(range.start + index),
                Some(rest) => index = rest,
            }
        }
        None
    }

    /// The shards to read, and which of their records.
    pub(super) fn shards(&self, shard_lengths: &[u64]) -> Vec<(usize, Range<u64>)> {
        let mut found = Vec::new();
        for range in &self.ranges {
            let mut first = 0;
            for (shard, &length) in shard_lengths.iter().enumerate() {
                let records = range.start.max(first)..range.end.min(first + length);
                if records.start < records.end {
                    found.push((shard, records.start - first..records.end - first));
                }
                first += length;
            }
        }
        found
    }
}

/// A bound, as it is written.
#[derive(Clone, Copy)]
struct Bound<'a> {
    value: &'a str,
    unit: &'a str,
}

fn one(text: &str, lengths: &[u64], rounding: Rounding) -> Result<Range<u64>, String> {
    let total: u64 = lengths.iter().sum();
    let (name, selector) = match text.split_once('[') {
        None => (text, None),
        Some((name, rest)) => (name, Some(rest.strip_suffix(']').ok_or("']' is missing")?)),
    };
    match (name, selector) {
        ("all", Some(_)) => return Err("`all` cannot be sliced".into()),
        ("all", None) | (SPLIT, None) => return Ok(0..total),
        (SPLIT, Some(_)) => {}
        (other, _) => return Err(format!("there is no split {other:?}, only {SPLIT:?}")),
    }
    let selector = selector.expect("matched above");
    let (from, to, unit) = match selector.split_once(':') {
        Some((from, to)) => {
            let (from, to) = (bound(from)?, bound(to)?);
            let units = [from, to].map(|bound| bound.map_or("", |bound| bound.unit));
            (from, to, if units[0].is_empty() { units[1] } else { units[0] })
        }
        None => {
            let from = bound(selector)?.filter(|bound| bound.unit == "shard");
            (Some(from.ok_or("a part of it needs a ':', unless it is a shard")?), None, "shard")
        }
    };
    if from.is_none() && to.is_none() {
        return Err("nothing stands between the brackets".into());
    }
    let (from, to) = match unit {
        "%" => {
            let percent = |bound: Option<Bound<'_>>, default| match bound {
                None => Ok(default),
                Some(bound) => self::percent(number(bound.value)?, total, rounding),
            };
            (percent(from, 0)?, percent(to, total as i64)?)
        }
        "shard" => {
            let shard = |bound: Bound<'_>| number::<i64>(bound.value);
            let count = lengths.len() as i64;
            // As Python slices: negative ones count from the end, and what lies beyond an end is the end.
            let before = |shard: i64| {
                let shards = if shard < 0 { shard.saturating_add(count) } else { shard }.clamp(0, count);
                lengths[..shards as usize].iter().sum::<u64>() as i64
            };
            let first = from.map(shard).transpose()?;
            let last = if selector.contains(':') {
                to.map(shard).transpose()?
            } else {
                Some(first.expect("given above").saturating_add(1))
            };
            let last = last.map(|last| if last <= 0 { last.saturating_add(count) } else { last });
            (first.map_or(0, before), last.map_or(total as i64, before))
        }
        _ => {
            let example = |bound: Option<Bound<'_>>, default| bound.map_or(Ok(default), |bound| number(bound.value));
            (example(from, 0)?, example(to, total as i64)?)
        }
    };
    if from.unsigned_abs() > total || to.unsigned_abs() > total {
        return Err(format!("there are {total} examples"));
    }
    let place = |bound: i64| if bound < 0 { total - bound.unsigned_abs() } else { bound as u64 };
    let (from, to) = (place(from), place(to));
    Ok(from..to.max(from))
}

/// `-1_000`, `33.4%` or `3shard`; nothing at all is no bound.
fn bound(text: &str) -> Result<Option<Bound<'_>>, String> {
    let digits = text.trim_end_matches(|letter: char| letter == '%' || letter.is_ascii_alphabetic());
    let bound = Bound { value: digits, unit: &text[digits.len()..] };
    match (bound.value, bound.unit) {
        ("", "") => Ok(None),
        ("", _) => Err(format!("{text:?} has no number")),
        (_, "" | "%" | "shard") => Ok(Some(bound)),
        (_, unit) => Err(format!("{unit:?} is none of '%' and 'shard'")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"-_.".contains(&byte));
    let number = text.replace('_', "").parse().ok().filter(|_| plain);
    number.ok_or_else(|| format!("{text:?} is not a number of that kind"))
}

fn percent(percent: f64, total: u64, rounding: Rounding) -> Result<i64, String> {
    match rounding {
        Rounding::Closest => Ok((percent * total as f64 / 100.0).round_ties_even() as i64),
        Rounding::Pct1DropRemainder if total < 100 => {
            Err(format!("per cents of equal size need 100 examples, and there are {total}"))
        }
        Rounding::Pct1DropRemainder => Ok((percent * (total / 100) as f64) as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges(text: &str, lengths: &[u64]) -> Vec<Range<u64>> {
        Split::parse(text, lengths, Rounding::Closest).expect("a split").ranges
    }

    #[test]
    fn splits_mean_what_they_mean_to_tfds() {
        let lengths = [30, 50, 20, 25];
        for (text, expected) in [
            ("train", 0..125),
            ("all", 0..125),
            ("train[:10%]", 0..12), // 12.5 rounds to the even number
            ("train[:30%]", 0..38), // 37.5, too
            ("train[33.4%:66.6%]", 42..83),
            ("train[-1%:]", 124..125),
            ("train[100:120]", 100..120),
            ("train[-5:]", 120..125),
            ("train[:1_00]", 0..100),
            ("train[3shard]", 100..125),
            ("train[-1shard]", 100..125),
            ("train[1shard:3shard]", 30..100),
            ("train[:-1shard]", 0..100),
            ("train[2shard:]", 80..125),
        ] {
            assert_eq!(ranges(text, &lengths), [expected], "{text}");
        }
        assert_eq!(ranges("train[:1%] + train[99%:]", &lengths), [0..1, 124..125]);
        let pct1 = |text: &str| Split::parse(text, &lengths, Rounding::Pct1DropRemainder).expect("a split").ranges;
        assert_eq!(pct1("train[50%:52%]")[0], 50..52);
    }

    #[test]
    fn what_is_no_split_is_told() {
        for (text, cause) in [
            ("test", "no split \"test\""),
            ("train[", "']' is missing"),
            ("train[]", "':'"),
            ("train[:]", "nothing"),
            ("train[5]", "':'"),
            ("train[5%]", "':'"),
            ("train[:126]", "125 examples"),
            ("train[:101%]", "125 examples"),
            ("train[:1.5]", "\"1.5\""),
            ("train[:5kg]", "\"kg\""),
            ("train[:inf%]", "no number"),
            ("train[50:40]", "no examples"),
            ("all[:5]", "sliced"),
            ("train+", "no split \"\""),
        ] {
            let error = Split::parse(text, &[125], Rounding::Closest).expect_err(text);
            assert!(error.contains(cause) && error.contains(text), "{error}");
        }
        assert!(Split::parse("train[:1%]", &[99], Rounding::Pct1DropRemainder).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(train|all)?(\\[[-0-9_.%:shard]{0,12}\\]?)?[+]?.{0,6}", lengths in prop::collection::vec(0..9u64, 0..4)) {
            let _ = Split::parse(&text, &lengths, Rounding::Closest);
        }

        #[test]
        fn even_parts_are_disjoint_and_nearly_equal(length in 1..300u64, count in 1..20u64) {
            let split = Split::parse("train", &[length], Rounding::Closest).expect("a split");
            let mut all = Vec::new();
            for index in 0..count {
                let part = split.even(index, count, false).expect("a part");
                prop_assert!(part.len().abs_diff(length / count) <= 1);
                all.extend((0..part.len()).map(|index| part.number(index).expect("there")));
                prop_assert_eq!(split.even(index, count, true).expect("a part").len(), length / count);
            }
            prop_assert_eq!(all, (0..length).collect::<Vec<_>>());
        }
    }
}
