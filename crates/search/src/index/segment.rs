//! Rows that were indexed together, in a folder that is never written again.

use std::path::Path;

use dataset::carried::RecordBatch;
use dataset::files;
use dataset::indexed::{FACTS, Facts, METADATA, RowStore};
use dataset::npy::MatrixReader;
use dataset::{Embedding, Error, Marker, Result};
use half::f16;
use memmap2::Mmap;

use super::deleted::Bits;
use super::{Modality, Options};
use crate::hits::Best;
use crate::lists::{Lists, Rows, half_product};
use crate::map::{fetch, map};

/// Marker of a segment, in its folder.
pub(super) const MARKER: &str = "segment.json";

/// Whether a folder may be a segment: its name leads nowhere else, and nothing that somebody names himself looks like it.
pub(super) fn is_name(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Float16 rows in a mapped file.
#[derive(Debug)]
pub(super) struct Matrix {
    map: Mmap,
    offset: usize,
    columns: usize,
}

impl Matrix {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let reader = MatrixReader::open(path)?;
        Ok(Self { map: map(path)?, offset: reader.data_offset() as usize, columns: reader.columns() })
    }

    /// All rows, to be compared with a query.
    pub(super) fn all<'a>(&'a self, query: &'a [f32]) -> impl Rows + 'a {
        self.those(query, |_| true)
    }

    fn those<'a, F: Fn(usize) -> bool>(&'a self, query: &'a [f32], admits: F) -> Candidates<'a, F> {
        Candidates { query, rows: self, admits }
    }

    /// The float16 values of a row.
    fn bytes(&self, row: usize) -> &[u8] {
        let bytes = self.columns * 2;
        &self.map[self.offset + row * bytes..][..bytes]
    }
}

/// Embeddings of one kind.
#[derive(Debug)]
struct Side {
    rows: Matrix,
    /// Where there are many rows.
    lists: Option<Lists>,
}

/// Rows with their embeddings, and what is known of them.
#[derive(Debug)]
pub(super) struct Segment {
    first: usize,
    len: usize,
    dimensions: usize,
    images: Option<Side>,
    texts: Option<Side>,
    store: RowStore,
    facts: Facts<Mmap>,
}

impl Segment {
    /// Opens a folder whose first row has this number in the index.
    pub(super) fn open(folder: &Path, first: usize) -> Result<Self> {
        let path = folder.join(MARKER);
        let marker = Marker::read(&path)?.ok_or_else(|| Error::format(&path, "missing"))?;
        if let Some(file) = marker.damaged(&path)? {
            return Err(Error::format(&folder.join(&file.name), "missing, or not as long as it was written"));
        }
        let number =
            |name: &str| marker.config[name].as_u64().ok_or_else(|| Error::format(&path, format!("no {name}")));
        let (len, dimensions) = (number("rows")? as usize, number("dimensions")? as usize);
        let side = |modality: Modality| {
            let path = folder.join(modality.name()).with_extension("npy");
            if !files::exists(&path)? {
                return Ok(None);
            }
            let reader = MatrixReader::open(&path)?;
            if (reader.rows(), reader.columns()) != (len, dimensions) {
                let cause = format!("{} x {} instead of {len} x {dimensions}", reader.rows(), reader.columns());
                return Err(Error::format(&path, cause));
            }
            let lists = path.with_extension("lists");
            let lists = if files::exists(&lists)? {
                let probes = marker.config["probes"][modality.name()].as_u64().unwrap_or(u64::MAX) as usize;
                Some(Lists::parse(&lists, map(&lists)?, len, dimensions, probes)?)
            } else {
                None
            };
            Ok(Some(Side { rows: Matrix::open(&path)?, lists }))
        };
        let path = folder.join(FACTS);
        let facts = Facts::parse(&path, map(&path)?)?;
        if facts.rows() != len {
            return Err(Error::format(&path, format!("{} rows instead of {len}", facts.rows())));
        }
        Ok(Self {
            first,
            len,
            dimensions,
            images: side(Modality::Image)?,
            texts: side(Modality::Text)?,
            store: RowStore::open(&folder.join(METADATA))?,
            facts,
        })
    }

    pub(super) fn first(&self) -> usize {
        self.first
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub(super) fn facts(&self) -> &Facts<Mmap> {
        &self.facts
    }

    pub(super) fn has(&self, modality: Modality) -> bool {
        self.side(modality).is_some()
    }

    fn side(&self, modality: Modality) -> Option<&Side> {
        match modality {
            Modality::Image => self.images.as_ref(),
            Modality::Text => self.texts.as_ref(),
        }
    }

    /// All columns of some rows, in the order asked for.
    pub(super) fn columns(&self, rows: &[usize]) -> Result<RecordBatch> {
        self.store.columns(rows)
    }

    /// All rows with a key: nothing keeps tables of others from having it twice.
    pub(super) fn rows_of(&self, key: &str) -> Result<Vec<usize>> {
        let mut rows = Vec::new();
        for row in self.facts.rows_of(key) {
            let found = self.store.rows(&[row])?.remove(0);
            if found.key() == key || found.key().is_empty() && row.to_string() == key {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    pub(super) fn embedding(&self, row: usize, modality: Modality) -> Result<Embedding> {
        let side = self.side(modality);
        let side = side.ok_or_else(|| Error::Invalid(format!("the index has no {} embeddings", modality.name())))?;
        let pairs = side.rows.bytes(row).as_chunks().0;
        Embedding::from_f16(&pairs.iter().map(|&pair| f16::from_le_bytes(pair)).collect::<Vec<_>>())
    }

    /// Adds the rows most like `query`.
    pub(super) fn search(&self, query: &[f32], options: &Options, deleted: &Bits, best: &mut Best) {
        let Some(side) = self.side(options.modality) else { return };
        let test = self.facts.test(&options.filter);
        let admits = |row: usize| !deleted.has(self.first + row) && self.facts.passes(&test, row);
        let candidates = || side.rows.those(query, admits);
        match &side.lists {
            Some(lists) if !options.exact => lists.search(query, options.probes, &candidates(), best),
            _ => self.scan(&candidates, best),
        }
    }

    /// Looks at every row.
    fn scan<'a, F: Fn(usize) -> bool>(&self, candidates: &(impl Fn() -> Candidates<'a, F> + Sync), best: &mut Best) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let part = self.len.div_ceil(threads).max(4096);
        let wanted = best.wanted();
        std::thread::scope(|scope| {
            let parts = (0..self.len).step_by(part).map(|start| {
                scope.spawn(move || {
                    let (rows, mut best) = (candidates(), Best::new(wanted));
                    for row in start..(start + part).min(self.len) {
                        if rows.admits(row) {
                            best.push(row, rows.product(row));
                        }
                    }
                    best
                })
            });
            for part in parts.collect::<Vec<_>>() {
                for hit in part.join().expect("scanning rows does not panic").into_hits() {
                    best.push(hit.row, hit.score);
                }
            }
        });
    }
}

/// Rows of a segment to those that look for some.
struct Candidates<'a, F> {
    query: &'a [f32],
    rows: &'a Matrix,
    admits: F,
}

impl<F: Fn(usize) -> bool> Rows for Candidates<'_, F> {
    fn admits(&self, row: usize) -> bool {
        (self.admits)(row)
    }

    fn product(&self, row: usize) -> f32 {
        half_product(self.rows.bytes(row), self.query)
    }

    fn fetch(&self, row: usize) {
        fetch(self.rows.bytes(row));
    }
}
