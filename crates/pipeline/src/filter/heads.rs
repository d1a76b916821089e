//! Scores that heads give pictures, and what is dropped for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataset::npy::MatrixReader;
use dataset::{Error, Reason, Result, Scorer, scored};
use serde::{Deserialize, Serialize};

/// Embeddings that are scored at once: 3 MiB of 768 dimensions.
const BATCH_ROWS: usize = 1024;

/// A head, and the scores of pictures that are kept. Without bounds pictures are scored, and none is dropped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its weights.
    pub file: PathBuf,
    /// The least score that is kept, compared as float32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The highest score that is kept, compared as float32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// Heads that are open, by name.
pub type Scorers = BTreeMap<String, Arc<dyn Scorer>>;

impl Head {
    pub(super) fn check(&self, name: &str) -> Result<()> {
        scored::check_name(name)?;
        let (min, max) = (self.min.unwrap_or(f64::MIN), self.max.unwrap_or(f64::MAX));
        if min.is_finite() && max.is_finite() && min <= max {
            return Ok(());
        }
        let bounds = [self.min, self.max].map(|bound| bound.map_or("none".into(), |bound| bound.to_string()));
        Err(Error::Invalid(format!("head {name}: no score lies between min {} and max {}", bounds[0], bounds[1])))
    }

    /// A score that is no number is neither high enough nor low enough.
    fn refuses(&self, score: f32) -> Option<Reason> {
        let low = self.min.is_some_and(|min| score.is_nan() || score < min as f32);
        let high = self.max.is_some_and(|max| score.is_nan() || score > max as f32);
        if low { Some(Reason::ScoreTooLow) } else { high.then_some(Reason::ScoreTooHigh) }
    }
}

/// The heads of the settings, open.
pub(super) struct Heads(BTreeMap<String, (Head, Arc<dyn Scorer>)>);

impl Heads {
    /// An error if one of the heads is not among `scorers`.
    pub(super) fn new(heads: &BTreeMap<String, Head>, scorers: &Scorers) -> Result<Self> {
        let open = heads.iter().map(|(name, head)| {
            let scorer = scorers.get(name).ok_or_else(|| Error::Invalid(format!("the head {name} is not open")))?;
            Ok((name.clone(), (head.clone(), scorer.clone())))
        });
        Ok(Self(open.collect::<Result<_>>()?))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The settings as a marker has them: what a file holds counts, not where it lies.
    pub(super) fn described(&self) -> BTreeMap<String, Head> {
        let described =
            |(head, scorer): &(Head, Arc<dyn Scorer>)| Head { file: scorer.fingerprint().into(), ..head.clone() };
        self.0.iter().map(|(name, open)| (name.clone(), described(open))).collect()
    }

    /// The scores of the rows of a matrix, in order.
    pub(super) fn scores(&self, matrix: &Path) -> Result<Scores<'_>> {
        Ok(Scores { heads: self, matrix: MatrixReader::open(matrix)?, ready: Vec::new().into_iter() })
    }

    /// Why a row with these scores is dropped: for the first head by name that refuses it.
    pub(super) fn refuse(&self, scores: &[f32]) -> Option<Reason> {
        self.0.values().zip(scores).find_map(|((head, _), &score)| head.refuses(score))
    }
}

/// Scores of one row after another: one of each head, in the order of their names.
pub(super) struct Scores<'a> {
    heads: &'a Heads,
    matrix: MatrixReader,
    ready: std::vec::IntoIter<Vec<f32>>,
}

impl Scores<'_> {
    /// Those of the next row; none where there are no heads.
    pub(super) fn next(&mut self) -> Result<Vec<f32>> {
        if self.heads.0.is_empty() {
            return Ok(Vec::new());
        }
        if self.ready.len() == 0 {
            self.ready = self.batch()?.into_iter();
        }
        Ok(self.ready.next().expect("asked for once a row, and batches end with the rows"))
    }

    fn batch(&mut self) -> Result<Vec<Vec<f32>>> {
        let mut images = Vec::new();
        while images.len() < BATCH_ROWS
            && let Some(image) = self.matrix.next_embedding()?
        {
            images.push(image);
        }
        let mut rows = vec![Vec::new(); images.len()];
        for (name, (_, scorer)) in &self.heads.0 {
            let scores = scorer.scores(&images)?;
            if scores.len() != images.len() {
                let cause = format!("head {name}: {} scores of {} pictures", scores.len(), images.len());
                return Err(Error::Invalid(cause));
            }
            rows.iter_mut().zip(scores).for_each(|(row, score)| row.push(score));
        }
        Ok(rows)
    }
}
