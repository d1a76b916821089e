//! Pairs around a threshold, for people to look at.

use std::collections::BTreeMap;

use dataset::schema::{CuratedRow, EmbeddingRow};
use dataset::{Nsfw, ShardId};
use sha2::{Digest, Sha256};

use super::histogram::reaches;
use super::pictures::Thumbnail;

/// Bands below the threshold, and above it.
const BANDS: i32 = 3;
/// Width of a band.
const WIDTH: f64 = 0.02;
/// Pairs of a band that are shown.
const SAMPLES: usize = 6;

/// Pairs that are about as alike as one another.
#[derive(Clone, Debug)]
pub(super) struct Band {
    /// The least similarity in it.
    pub(super) from: f64,
    /// The least similarity above it.
    pub(super) end: f64,
    /// Whether the threshold keeps them.
    pub(super) kept: bool,
    /// All that there are.
    pub(super) pairs: u64,
    /// Those that may not be shown.
    pub(super) hidden: u64,
    /// Those that are shown, the least alike first.
    pub(super) samples: Vec<Sample>,
}

/// A pair that is shown.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) shard: ShardId,
    /// The key, or the path that clip-retrieval gives.
    pub(super) name: String,
    pub(super) caption: String,
    pub(super) similarity: f64,
    /// Where somebody filtered.
    pub(super) nsfw: Option<Nsfw>,
    /// Where it was found.
    pub(super) picture: Option<Thumbnail>,
}

/// Chooses pairs by a hash of their names: the same ones each time, wherever they stand.
pub(super) struct Sampler {
    bands: Vec<(Band, BTreeMap<Rank, Sample>)>,
    show_nsfw: bool,
}

/// Kept ones first, whose pictures are in the packages of a run; then by hash.
type Rank = (bool, [u8; 32]);

impl Sampler {
    pub(super) fn new(similarity_min: f64, show_nsfw: bool) -> Self {
        // Rounded, since 0.3 - 0.02 is a little less than 0.28.
        let edge = |step: i32| match step {
            0 => similarity_min,
            step => ((similarity_min + f64::from(step) * WIDTH) * 1e6).round() / 1e6,
        };
        let band = |step: i32| Band {
            from: edge(step),
            end: edge(step + 1),
            kept: step >= 0,
            pairs: 0,
            hidden: 0,
            samples: Vec::new(),
        };
        Self { bands: (-BANDS..BANDS).map(|step| (band(step), BTreeMap::new())).collect(), show_nsfw }
    }

    pub(super) fn offer(&mut self, similarity: f64, shard: ShardId, row: &EmbeddingRow, verdict: Option<&CuratedRow>) {
        let is_of = |band: &Band| reaches(similarity, band.from) && !reaches(similarity, band.end);
        let Some((band, chosen)) = self.bands.iter_mut().find(|(band, _)| is_of(band)) else { return };
        band.pairs += 1;
        let nsfw = verdict.map(|verdict| Nsfw::from_name(&verdict.nsfw));
        if !self.show_nsfw && nsfw.is_some_and(|nsfw| nsfw != Nsfw::Unlikely) {
            band.hidden += 1;
            return;
        }
        let hash = Sha256::digest(format!("{shard} {}", row.name()));
        let rank = (!verdict.is_some_and(CuratedRow::is_kept), hash.into());
        if chosen.len() == SAMPLES && chosen.last_key_value().is_some_and(|(last, _)| *last < rank) {
            return;
        }
        let (name, caption) = (row.name().to_owned(), row.caption.clone());
        chosen.insert(rank, Sample { shard, name, caption, similarity, nsfw, picture: None });
        if chosen.len() > SAMPLES {
            chosen.pop_last();
        }
    }

    pub(super) fn finish(self) -> Vec<Band> {
        let finish = |(mut band, chosen): (Band, BTreeMap<Rank, Sample>)| {
            band.samples = chosen.into_values().collect();
            band.samples.sort_by(|a, b| a.similarity.total_cmp(&b.similarity));
            band
        };
        self.bands.into_iter().map(finish).collect()
    }
}
