//! Facts about the whole dataset.

use std::collections::{BTreeMap, HashMap};
use std::io;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use dataset::Nsfw;
use dataset::files;
use dataset::indexed::Fact;
use serde::Serialize;

use super::ApiError;
use crate::index::Index;
use crate::server::Service;

/// Names of a kind that are told.
const TOP: usize = 20;
/// Licences that are told to choose among.
const NAMES_TOLD: usize = 100;
/// Names of a kind that are told apart; above it rare ones are forgotten, so that memory is bounded.
const NAMES_MAX: usize = 100_000;
/// Bins to a unit of similarity.
const BINS: f64 = 50.0;
/// Where bins of sides begin, in pixels.
const SIDES: [u16; 12] = [0, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096];

/// `GET /api/v1/info`
pub(super) async fn info(State(service): State<Service>) -> Result<Json<serde_json::Value>, ApiError> {
    let has_images = service.work(|inner| {
        let images = inner.first().run().packages().webdataset();
        files::is_dir(images).map_err(ApiError::internal)
    });
    let has_images = has_images.await?;
    let collection = service.first();
    let index = collection.index();
    let licenses: Vec<String> = index.licenses().into_iter().filter(|name| name != "?").take(NAMES_TOLD).collect();
    Ok(Json(serde_json::json!({
        "rows": index.len() - index.deleted(),
        "deleted": index.deleted(),
        "dimensions": index.dimensions(),
        "model": index.model(),
        "version": env!("CARGO_PKG_VERSION"),
        "modalities": index.modalities().iter().map(|modality| modality.name()).collect::<Vec<_>>(),
        "filters": {
            "nsfw": Nsfw::ALL.map(Nsfw::name),
            "languages": index.languages(),
            "licenses": licenses,
        },
        "images": has_images,
    })))
}

/// `GET /api/v1/report`: the funnel of the run.
pub(super) async fn report(State(service): State<Service>) -> Result<Response, ApiError> {
    let json = service.work(|inner| match files::read(inner.first().run().report()) {
        Ok(json) => Ok(json),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ApiError::not_found("this run has no report")),
        Err(error) => Err(ApiError::internal(error)),
    });
    Ok(([(CONTENT_TYPE, "application/json")], json.await?).into_response())
}

/// `GET /api/v1/statistics`
pub(super) async fn statistics(State(service): State<Service>) -> Result<Json<Statistics>, ApiError> {
    let counted = service.first().statistics(service.limits().request_time / 2).await?;
    Ok(Json(counted.as_ref().clone()))
}

/// Counts over all rows of an index.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Statistics {
    rows: u64,
    /// Cosines of both embeddings, in bins of 0.02.
    similarity: Vec<Bin>,
    /// As the web had them, in pixels.
    width: Vec<Bin>,
    /// As the web had them, in pixels.
    height: Vec<Bin>,
    nsfw: BTreeMap<&'static str, u64>,
    /// The most frequent ones, the most frequent first.
    licenses: Vec<(String, u64)>,
    /// The most frequent ones, the most frequent first.
    hosts: Vec<(String, u64)>,
    /// The most frequent ones, the most frequent first.
    languages: Vec<(String, u64)>,
}

/// A bin of a histogram.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Bin {
    /// The least value in it.
    from: f64,
    /// All values in it are less; `None` where there is no end.
    to: Option<f64>,
    count: u64,
}

impl Statistics {
    /// Looks at all rows, 16 bytes of each.
    pub(crate) fn of(index: &Index) -> Self {
        let mut counter = Counter::new();
        for fact in (0..index.len()).filter_map(|row| index.fact(row)) {
            counter.add(&fact);
        }
        counter.finish()
    }
}

struct Counter {
    rows: u64,
    similarity: Vec<u64>,
    sides: [[u64; SIDES.len()]; 2],
    nsfw: [u64; Nsfw::ALL.len()],
    licenses: Names,
    hosts: Names,
    languages: Names,
}

impl Counter {
    fn new() -> Self {
        Self {
            rows: 0,
            similarity: vec![0; 2 * BINS as usize + 1],
            sides: Default::default(),
            nsfw: Default::default(),
            licenses: Names::default(),
            hosts: Names::default(),
            languages: Names::default(),
        }
    }

    fn add(&mut self, fact: &Fact<'_>) {
        self.rows += 1;
        if let Some(similarity) = fact.similarity {
            let similarity = f64::from(similarity).clamp(-1.0, 1.0);
            self.similarity[((similarity + 1.0) * BINS).floor() as usize] += 1;
        }
        for (counts, side) in self.sides.iter_mut().zip([fact.width, fact.height]) {
            if side > 0 {
                counts[SIDES.iter().rposition(|&from| from <= side).unwrap_or(0)] += 1;
            }
        }
        self.nsfw[fact.nsfw.class() as usize] += 1;
        self.licenses.add(fact.license);
        for (names, name) in [(&mut self.hosts, fact.host), (&mut self.languages, fact.language)] {
            if !name.is_empty() {
                names.add(name);
            }
        }
    }

    fn finish(self) -> Statistics {
        let similarity = self.similarity.iter().enumerate().map(|(bin, &count)| {
            let edge = |bin: usize| (bin as f64 - BINS) / BINS;
            Bin { from: edge(bin), to: Some(edge(bin + 1)), count }
        });
        let side = |counts: [u64; SIDES.len()]| {
            let bin = |(at, &count): (usize, &u64)| {
                let to = SIDES.get(at + 1).copied().map(f64::from);
                Bin { from: SIDES[at].into(), to, count }
            };
            used(counts.iter().enumerate().map(bin).collect())
        };
        Statistics {
            rows: self.rows,
            similarity: used(similarity.collect()),
            width: side(self.sides[0]),
            height: side(self.sides[1]),
            nsfw: Nsfw::ALL.into_iter().map(|tag| (tag.name(), self.nsfw[tag.class() as usize])).collect(),
            licenses: self.licenses.top(),
            hosts: self.hosts.top(),
            languages: self.languages.top(),
        }
    }
}

/// The bins from the first that has any to the last.
fn used(bins: Vec<Bin>) -> Vec<Bin> {
    let first = bins.iter().position(|bin| bin.count > 0).unwrap_or(0);
    let end = bins.iter().rposition(|bin| bin.count > 0).map_or(0, |last| last + 1);
    bins[first.min(end)..end].to_vec()
}

/// Counts names in bounded memory. Once there are too many, those met least are forgotten, and a name that comes later may
/// be one of them: what is told of it is too large by at most that (lossy counting, Manku and Motwani 2002).
#[derive(Debug, Default)]
struct Names {
    counts: HashMap<String, u64>,
    forgotten: u64,
}

impl Names {
    fn add(&mut self, name: &str) {
        if let Some(count) = self.counts.get_mut(name) {
            *count += 1;
            return;
        }
        while self.counts.len() >= NAMES_MAX {
            self.forgotten += 1;
            self.counts.retain(|_, count| *count > self.forgotten);
        }
        self.counts.insert(name.into(), self.forgotten + 1);
    }

    fn top(self) -> Vec<(String, u64)> {
        let mut counts: Vec<_> = self.counts.into_iter().collect();
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(TOP);
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_names_are_told_however_many_rare_ones_there_are() {
        let mut names = Names::default();
        for number in 0..3 * NAMES_MAX {
            names.add(&format!("rare{number}"));
            if number % 3 == 0 {
                names.add("frequent");
            }
        }
        assert!(names.counts.len() <= NAMES_MAX);
        let (name, count) = names.top().swap_remove(0);
        assert_eq!((name.as_str(), count), ("frequent", NAMES_MAX as u64));
    }

    #[test]
    fn empty_bins_at_the_ends_are_not_told() {
        let bin = |count| Bin { from: 0.0, to: None, count };
        assert_eq!(used(vec![bin(0), bin(2), bin(0), bin(1), bin(0)]), [bin(2), bin(0), bin(1)]);
        assert!(used(vec![bin(0)]).is_empty() && used(Vec::new()).is_empty());
    }
}
