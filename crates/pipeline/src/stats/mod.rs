//! What a package holds, and how matched pairs compare with mismatched ones.

mod calibration;
mod histogram;
mod page;
mod pictures;
mod samples;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use dataset::load::{Dataset, ReadOptions};
use dataset::tfds::ExampleView;
use dataset::{Nsfw, Result};
use serde::Serialize;

pub use calibration::{Calibration, CalibrationConfig, Passing, Threshold, calibration, cosine};
use histogram::Counter as Similarities;
pub use histogram::{Bin, Similarity, beside};
pub use page::{calibration_page, escaped, page};
pub use pictures::Pictures;

/// Sides, in pixels, that LAION's own table of sizes has.
const SIDES: [i32; 3] = [256, 512, 1024];
/// Hosts and licences that are told.
const TOP: usize = 20;
/// Hosts and licences that are told apart: above a million, new ones are counted together, so that memory is bounded.
const NAMES_MAX: usize = 1_000_000;

/// Counts over all examples of a package.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Examples.
    pub examples: u64,
    /// Files they are in.
    pub shards: usize,
    /// By tag.
    pub nsfw: BTreeMap<&'static str, u64>,
    /// Cosines of the embeddings.
    pub similarity: Similarity,
    /// How many pictures are at least so large, as the web had them.
    pub sizes: Vec<Size>,
    /// The most frequent ones, the most frequent first.
    pub licenses: Vec<Name>,
    /// The most frequent ones, the most frequent first.
    pub hosts: Vec<Name>,
}

/// A line of the table of sizes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Size {
    /// In pixels.
    pub side: i32,
    /// Pictures with one side that is at least as long.
    pub either: u64,
    /// Pictures with both.
    pub both: u64,
}

/// How often a name was met.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Name {
    /// The name.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// Reads a whole version folder of TFDS.
pub fn package(folder: &Path) -> Result<Stats> {
    let dataset = Dataset::open(folder)?;
    let mut counter = Counter::default();
    for record in dataset.read(&ReadOptions::default())? {
        counter.add(&record?.example()?);
    }
    Ok(counter.finish(dataset.shard_lengths().len()))
}

#[derive(Default)]
struct Counter {
    examples: u64,
    nsfw: [u64; Nsfw::ALL.len()],
    similarities: Similarities,
    sizes: [(u64, u64); SIDES.len()],
    licenses: HashMap<String, u64>,
    hosts: HashMap<String, u64>,
}

impl Counter {
    fn add(&mut self, example: &ExampleView<'_>) {
        self.examples += 1;
        self.nsfw[example.nsfw.class() as usize] += 1;
        let is_known = |similarity: &f64| (-1.0..=1.0).contains(similarity) && *similarity != -1.0;
        self.similarities.add(Some(example.similarity).filter(is_known));
        let (short, long) =
            (example.original_width.min(example.original_height), example.original_width.max(example.original_height));
        for ((either, both), side) in self.sizes.iter_mut().zip(SIDES) {
            *either += u64::from(long >= side);
            *both += u64::from(short >= side);
        }
        count(&mut self.licenses, example.license);
        let host = crate::address::parse(example.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        count(&mut self.hosts, &host.unwrap_or_else(|| "(no host)".into()));
    }

    fn finish(self, shards: usize) -> Stats {
        Stats {
            examples: self.examples,
            shards,
            nsfw: Nsfw::ALL.into_iter().map(|tag| (tag.name(), self.nsfw[tag.class() as usize])).collect(),
            similarity: self.similarities.finish(),
            sizes: SIDES
                .into_iter()
                .zip(self.sizes)
                .map(|(side, (either, both))| Size { side, either, both })
                .collect(),
            licenses: top(self.licenses),
            hosts: top(self.hosts),
        }
    }
}

fn count(names: &mut HashMap<String, u64>, name: &str) {
    if let Some(times) = names.get_mut(name) {
        *times += 1;
    } else if names.len() < NAMES_MAX {
        names.insert(name.to_owned(), 1);
    } else {
        *names.entry("(others)".into()).or_default() += 1;
    }
}

/// The most frequent names; of equally frequent ones those first in the alphabet.
fn top(names: HashMap<String, u64>) -> Vec<Name> {
    let mut names: Vec<_> = names.into_iter().map(|(name, count)| Name { name, count }).collect();
    names.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.name.cmp(&b.name)));
    names.truncate(TOP);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(similarity: f64, width: i32, height: i32, url: &str) -> ExampleView<'_> {
        ExampleView {
            caption: "",
            image: None,
            image_embedding: None,
            text_embedding: None,
            license: "?",
            nsfw: Nsfw::Untagged,
            original_height: height,
            original_width: width,
            similarity,
            url,
        }
    }

    #[test]
    fn unknown_values_are_counted_apart() {
        let mut counter = Counter::default();
        for view in [
            example(0.3125, 1024, 300, "https://b.com/1.jpg"),
            example(0.375, 512, 512, "https://a.com/1.jpg"),
            example(-1.0, -1, -1, "https://b.com:8080/2.jpg"),
            example(f64::NAN, 255, 2000, "not a URL"),
        ] {
            counter.add(&view);
        }
        let stats = counter.finish(1);
        let similarity = &stats.similarity;
        assert_eq!((similarity.least, similarity.mean, similarity.most), (Some(0.3125), Some(0.34375), Some(0.375)));
        assert_eq!(similarity.unknown, 2);
        let bins: Vec<_> = similarity.histogram.iter().map(|bin| (bin.from, bin.count)).collect();
        assert_eq!(bins, [(0.3, 1), (0.32, 0), (0.34, 0), (0.36, 1)]);
        let sizes: Vec<_> = stats.sizes.iter().map(|size| (size.side, size.either, size.both)).collect();
        assert_eq!(sizes, [(256, 3, 2), (512, 3, 1), (1024, 2, 0)]);
        let hosts: Vec<_> = stats.hosts.iter().map(|host| (host.name.as_str(), host.count)).collect();
        assert_eq!(hosts, [("b.com", 2), ("(no host)", 1), ("a.com", 1)]);
        assert_eq!(stats.nsfw["UNTAGGED"], 4);
    }
}
