//! The index of embeddings: segments of rows, each with its lists, and what is deleted.
//!
//! ```text
//! index.json                       the segments, in order, and what they were made from
//! deleted.txt                      keys that are not found any more, one a line
//! SEGMENT/{image,text}.npy         float16 rows
//! SEGMENT/{image,text}.lists       which rows a search looks at; none of small segments
//! SEGMENT/{metadata.arrow,facts.bin,segment.json}
//! ```
//! Rows that come later are a further segment. A segment is never written again, so that one who searches is not disturbed.

mod build;
mod deleted;
mod live;
mod segment;
mod trial;

use std::path::{Path, PathBuf};

use dataset::carried::RecordBatch;
use dataset::indexed::{Fact, Filter, IndexedRow, joined};
use dataset::{Embedding, Error, Marker, Result};

pub use build::build;
pub use live::Live;

use crate::hits::{Best, Hit};
use deleted::Deleted;
use segment::Segment;

const MARKER: &str = "index.json";

/// Results that can be asked for, those passed over included.
pub const COUNT_MAX: usize = 10_000;

/// What a query is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Modality {
    /// The pictures.
    #[default]
    Image,
    /// The captions.
    Text,
}

impl Modality {
    const ALL: [Self; 2] = [Self::Image, Self::Text];

    /// `image` or `text`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
        }
    }
}

/// How to search.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the query is compared with.
    pub modality: Modality,
    /// Results wanted.
    pub count: usize,
    /// Results passed over first.
    pub offset: usize,
    /// Look at every row, and do without the lists.
    pub exact: bool,
    /// Lists to look at in each segment, in place of as many as the index was made to need.
    pub probes: Option<usize>,
    /// What a row must be like.
    pub filter: Filter,
}

impl Default for Options {
    fn default() -> Self {
        Self { modality: Modality::Image, count: 40, offset: 0, exact: false, probes: None, filter: Filter::safe() }
    }
}

/// An open index. Everything but centres of lists and what is deleted stays in the files and comes into memory as it is looked at.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    segments: Vec<Segment>,
    rows: usize,
    dimensions: usize,
    model: String,
    deleted: Deleted,
}

impl Index {
    /// Opens the folder that [`crate::build`] wrote.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MARKER);
        let marker =
            Marker::read(&path)?.ok_or_else(|| Error::Invalid(format!("{}: no index here", folder.display())))?;
        if let Some(file) = marker.damaged(&path)? {
            return Err(Error::format(&folder.join(&file.name), "missing, or not as long as it was written"));
        }
        let model = marker.config["model"].as_str().unwrap_or_default().to_owned();
        let names = marker.config["segments"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut segments = Vec::new();
        let (mut rows, mut dimensions) = (0, 0);
        for name in names {
            let name = name.as_str().filter(|name| segment::is_name(name));
            let name = name.ok_or_else(|| Error::format(&path, "a segment has no name"))?;
            let segment = Segment::open(&folder.join(name), rows)?;
            if dimensions != 0 && dimensions != segment.dimensions() {
                return Err(Error::format(&path, "its segments have embeddings of different lengths"));
            }
            dimensions = segment.dimensions();
            rows += segment.len();
            segments.push(segment);
        }
        let index = Self { folder: folder.into(), segments, rows, dimensions, model, deleted: Deleted::default() };
        index.refresh()?;
        Ok(index)
    }

    /// The folder it lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Rows, those that are deleted included.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Rows that are deleted.
    pub fn deleted(&self) -> usize {
        self.deleted.count()
    }

    /// Values of an embedding.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The weights the embeddings were made with.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What queries can be compared with.
    pub fn modalities(&self) -> Vec<Modality> {
        let has = |modality: &Modality| self.segments.iter().all(|segment| segment.has(*modality));
        Modality::ALL.into_iter().filter(has).collect()
    }

    /// Languages of the captions, as far as they are known; in order.
    pub fn languages(&self) -> Vec<String> {
        self.names(|segment| segment.facts().languages())
    }

    /// Licences of the pictures; in order.
    pub fn licenses(&self) -> Vec<String> {
        self.names(|segment| segment.facts().licenses())
    }

    fn names<'a>(&'a self, of: impl Fn(&'a Segment) -> &'a [String]) -> Vec<String> {
        let mut names: Vec<String> =
            self.segments.iter().flat_map(of).filter(|name| !name.is_empty()).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The row of a sample, deleted or not; where tables have no keys, its key is its number in its segment.
    pub fn row_of(&self, key: &str) -> Result<Option<usize>> {
        Ok(self.rows_of(key)?.first().copied())
    }

    /// All rows with a key; those of the first segment first.
    fn rows_of(&self, key: &str) -> Result<Vec<usize>> {
        let mut rows = Vec::new();
        for segment in &self.segments {
            rows.extend(segment.rows_of(key)?.into_iter().map(|row| segment.first() + row));
        }
        Ok(rows)
    }

    /// Whether a row is not found any more.
    pub fn is_deleted(&self, row: usize) -> bool {
        self.deleted.has(row)
    }

    /// Whether a row is there and as wanted.
    pub fn admits(&self, row: usize, filter: &Filter) -> bool {
        let Some((segment, row_there)) = self.place(row) else { return false };
        !self.deleted.has(row) && segment.facts().passes(&segment.facts().test(filter), row_there)
    }

    /// What filters look at, of a row; `None` where it is not there or deleted.
    pub fn fact(&self, row: usize) -> Option<Fact<'_>> {
        let (segment, row_there) = self.place(row)?;
        (!self.deleted.has(row)).then(|| segment.facts().row(row_there))
    }

    /// An embedding of a row.
    pub fn embedding(&self, row: usize, modality: Modality) -> Result<Embedding> {
        let (segment, row) = self.place(row).ok_or_else(|| Error::Invalid(format!("row {row} of {}", self.rows)))?;
        segment.embedding(row, modality)
    }

    /// What is known of some rows, in the order asked for.
    pub fn rows(&self, rows: &[usize]) -> Result<Vec<IndexedRow>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        IndexedRow::of(&self.columns(rows)?).map_err(Error::Invalid)
    }

    /// All columns of some rows, in the order asked for; those of the first of their segments.
    pub fn columns(&self, rows: &[usize]) -> Result<RecordBatch> {
        if let Some(row) = rows.iter().find(|&&row| row >= self.rows) {
            return Err(Error::Invalid(format!("row {row} of {}", self.rows)));
        }
        let mut parts = Vec::new();
        for segment in &self.segments {
            let here = segment.first()..segment.first() + segment.len();
            let places: Vec<usize> = (0..rows.len()).filter(|&place| here.contains(&rows[place])).collect();
            if !places.is_empty() {
                let numbers: Vec<usize> = places.iter().map(|&place| rows[place] - segment.first()).collect();
                parts.push((places, segment.columns(&numbers)?));
            }
        }
        joined(&parts)
    }

    fn place(&self, row: usize) -> Option<(&Segment, usize)> {
        let at = self.segments.partition_point(|segment| segment.first() <= row).checked_sub(1)?;
        let segment = &self.segments[at];
        Some((segment, row - segment.first())).filter(|(_, row)| *row < segment.len())
    }

    /// The rows most like `query`, best first; of equal ones the earlier. Rows whose lists are not looked at are missed, unless
    /// the search is exact.
    pub fn search(&self, query: &Embedding, options: &Options) -> Result<Vec<Hit>> {
        if query.values().len() != self.dimensions {
            let cause = format!("the query has {} values, the index {}", query.values().len(), self.dimensions);
            return Err(Error::Invalid(cause));
        }
        if !self.modalities().contains(&options.modality) {
            return Err(Error::Invalid(format!("the index has no {} embeddings", options.modality.name())));
        }
        let wanted = options.offset.saturating_add(options.count).min(COUNT_MAX);
        let mut best = Best::new(wanted);
        let deleted = self.deleted.rows();
        for segment in &self.segments {
            best.start_at(segment.first());
            segment.search(query.values(), options, &deleted, &mut best);
        }
        let mut hits = best.into_hits();
        hits.sort_unstable();
        hits.drain(..options.offset.min(hits.len()));
        Ok(hits)
    }

    /// Takes in what was deleted since, at the cost of looking at a file's date.
    pub fn refresh(&self) -> Result<()> {
        self.deleted.refresh(&self.folder, self.rows, |key| self.rows_of(key))
    }

    /// Deletes samples for good: every search that begins after this does without them. Keys that are not there are an error,
    /// and nothing is deleted.
    ///
    /// # Errors
    /// Names the first unknown key and says how many there are.
    pub fn delete(&self, keys: &[String]) -> Result<()> {
        let mut unknown = Vec::new();
        for key in keys {
            if self.row_of(key)?.is_none() {
                unknown.push(key);
            }
        }
        if let Some(first) = unknown.first() {
            let (of, folder) = (keys.len(), self.folder.display());
            return Err(Error::Invalid(format!(
                "{folder}: no sample {first:?}; {} of {of} keys are unknown",
                unknown.len()
            )));
        }
        deleted::add(&self.folder, keys)?;
        self.refresh()
    }
}
