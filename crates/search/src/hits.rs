//! What a search finds, best first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Row of the index.
    pub row: usize,
    /// Cosine similarity to the query.
    pub score: f32,
}

/// Best first; of equal scores the earlier row, so that an answer never depends on threads.
impl Ord for Hit {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Hit {}

/// The best of what was found so far.
#[derive(Debug)]
pub(crate) struct Best {
    /// The worst of them on top.
    hits: BinaryHeap<Hit>,
    wanted: usize,
    /// Added to the numbers of rows: that of the first row of a segment.
    first: usize,
}

impl Best {
    pub(crate) fn new(wanted: usize) -> Self {
        Self { hits: BinaryHeap::new(), wanted, first: 0 }
    }

    /// From now on rows are those of a segment that starts there.
    pub(crate) fn start_at(&mut self, first: usize) {
        self.first = first;
    }

    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    pub(crate) fn is_full(&self) -> bool {
        self.hits.len() >= self.wanted
    }

    /// A row with less than this is none of the best.
    pub(crate) fn bar(&self) -> f32 {
        match self.hits.peek() {
            Some(worst) if self.is_full() => worst.score,
            _ => f32::NEG_INFINITY,
        }
    }

    pub(crate) fn push(&mut self, row: usize, score: f32) {
        let hit = Hit { row: self.first + row, score };
        if !self.is_full() {
            self.hits.push(hit);
        } else if let Some(mut worst) = self.hits.peek_mut()
            && hit < *worst
        {
            *worst = hit;
        }
    }

    /// All of them, in no order.
    pub(crate) fn into_hits(self) -> Vec<Hit> {
        self.hits.into_vec()
    }
}
