//! The index of a run: its embeddings as memory, and exact search over them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use dataset::npy::MatrixReader;
use dataset::schema::KeptRow;
use dataset::table::{TableReader, read_rows_at};
use dataset::{Embedding, Error, Marker, Nsfw, Result, SampleKey};
use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::Mmap;

use crate::map::map;

pub(crate) const IMAGES: &str = "img_emb.npy";
pub(crate) const TEXTS: &str = "text_emb.npy";
pub(crate) const METADATA: &str = "metadata.parquet";
pub(crate) const MARKER: &str = "index.json";

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
    /// What a row must be like.
    pub filter: Filter,
}

impl Default for Options {
    fn default() -> Self {
        Self { modality: Modality::Image, count: 40, offset: 0, exact: false, filter: Filter::safe() }
    }
}

/// What a row must be like to be found; the default lets every row through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// One of these tags; none given: any.
    pub nsfw: Option<Vec<Nsfw>>,
    /// Picture and caption are at least so alike.
    pub similarity_min: Option<f32>,
    /// Picture and caption are at most so alike.
    pub similarity_max: Option<f32>,
    /// The picture was at least so wide where it came from, in pixels.
    pub width_min: Option<u32>,
    /// The picture was at least so high where it came from, in pixels.
    pub height_min: Option<u32>,
    /// The caption is in one of these languages (ISO 639-1); none given: any.
    pub languages: Vec<String>,
    /// One of these licences: a code of Creative Commons (`by-sa`), `any` for any that is known, or a URL; none given: all.
    pub licenses: Vec<String>,
    /// The picture is of one of these hosts or of a subdomain; none given: any.
    pub hosts: Vec<String>,
}

impl Filter {
    /// Only rows that are tagged UNLIKELY.
    pub fn safe() -> Self {
        Self { nsfw: Some(vec![Nsfw::Unlikely]), ..Self::default() }
    }
}

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

/// An open index. Embeddings stay in the file and come into memory as they are looked at; per row it holds 13 bytes.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    images: Matrix,
    texts: Matrix,
    dimensions: usize,
    model: String,
    /// [`SampleKey::number`] of each row, ascending.
    keys: Vec<i64>,
    nsfw: Vec<Nsfw>,
    similarity: Vec<f32>,
}

#[derive(Debug)]
struct Matrix {
    map: Mmap,
    offset: usize,
}

impl Index {
    /// Opens the folder that [`crate::build`] wrote.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MARKER);
        let marker =
            Marker::read(&path)?.ok_or_else(|| Error::Invalid(format!("{}: no index here", folder.display())))?;
        if let Some(file) = marker.damaged(&path) {
            return Err(Error::format(&folder.join(&file.name), "missing, or not as long as it was written"));
        }
        let number =
            |name: &str| marker.config[name].as_u64().ok_or_else(|| Error::format(&path, format!("no {name}")));
        let (rows, dimensions) = (number("rows")? as usize, number("dimensions")? as usize);
        let model = marker.config["model"].as_str().unwrap_or_default().to_owned();
        let matrix = |name: &str| {
            let path = folder.join(name);
            let reader = MatrixReader::open(&path)?;
            if (reader.rows(), reader.columns()) != (rows, dimensions) {
                let cause = format!("{} x {} instead of {rows} x {dimensions}", reader.rows(), reader.columns());
                return Err(Error::format(&path, cause));
            }
            Ok(Matrix { map: map(&path)?, offset: reader.data_offset() as usize })
        };
        let (images, texts) = (matrix(IMAGES)?, matrix(TEXTS)?);
        let metadata = folder.join(METADATA);
        let (mut keys, mut nsfw, mut similarity) = (Vec::new(), Vec::new(), Vec::new());
        for row in TableReader::<KeptRow>::open(&metadata)? {
            let row = row?;
            keys.push(row.key.parse::<SampleKey>()?.number());
            nsfw.push(Nsfw::from_name(&row.nsfw));
            similarity.push(row.similarity as f32);
        }
        if keys.len() != rows || !keys.is_sorted() {
            return Err(Error::format(&metadata, format!("{} rows, not {rows} in order of their keys", keys.len())));
        }
        Ok(Self { folder: folder.into(), images, texts, dimensions, model, keys, nsfw, similarity })
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is nothing to find.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Values of an embedding.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The weights the embeddings were made with.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The row of a sample.
    pub fn row_of(&self, key: SampleKey) -> Option<usize> {
        self.keys.binary_search(&key.number()).ok()
    }

    /// An embedding of a row.
    pub fn embedding(&self, row: usize, modality: Modality) -> Result<Embedding> {
        if row >= self.len() {
            return Err(Error::Invalid(format!("row {row} of {}", self.len())));
        }
        let mut values = Vec::new();
        self.row(self.matrix(modality), row, &mut values);
        Embedding::from_f16(&values)
    }

    /// What is known of some rows, in the order asked for.
    pub fn rows(&self, rows: &[usize]) -> Result<Vec<KeptRow>> {
        let mut ascending = rows.to_vec();
        ascending.sort_unstable();
        ascending.dedup();
        let found = read_rows_at::<KeptRow>(&self.folder.join(METADATA), &ascending)?;
        let at = |row: &usize| found[ascending.binary_search(row).expect("a copy of these rows")].clone();
        Ok(rows.iter().map(at).collect())
    }

    /// The rows most like `query`, best first: every row is looked at.
    pub fn search(&self, query: &Embedding, options: &Options) -> Result<Vec<Hit>> {
        if query.values().len() != self.dimensions {
            let cause = format!("the query has {} values, the index {}", query.values().len(), self.dimensions);
            return Err(Error::Invalid(cause));
        }
        let wanted = options.offset.saturating_add(options.count).min(COUNT_MAX);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let part = self.len().div_ceil(threads).max(1024);
        let mut hits: Vec<Hit> = std::thread::scope(|scope| {
            let parts: Vec<_> = (0..self.len())
                .step_by(part)
                .map(|start| {
                    let end = (start + part).min(self.len());
                    scope.spawn(move || self.scan(query, options, wanted, start, end))
                })
                .collect();
            parts.into_iter().flat_map(|part| part.join().expect("scanning rows does not panic")).collect()
        });
        hits.sort_unstable();
        hits.truncate(wanted);
        hits.drain(..options.offset.min(hits.len()));
        Ok(hits)
    }

    fn scan(&self, query: &Embedding, options: &Options, wanted: usize, start: usize, end: usize) -> Vec<Hit> {
        let matrix = self.matrix(options.modality);
        let (mut halves, mut values) = (Vec::new(), vec![0.0; self.dimensions]);
        let mut best: BinaryHeap<Hit> = BinaryHeap::new(); // the worst of them on top
        for row in start..end {
            if options.filter.nsfw.as_ref().is_some_and(|tags| !tags.contains(&self.nsfw[row])) {
                continue;
            }
            if options.filter.similarity_min.is_some_and(|least| self.similarity[row] < least) {
                continue;
            }
            self.row(matrix, row, &mut halves);
            halves.convert_to_f32_slice(&mut values);
            let score = query.values().iter().zip(&values).map(|(a, b)| a * b).sum();
            best.push(Hit { row, score });
            if best.len() > wanted {
                best.pop();
            }
        }
        best.into_vec()
    }

    fn matrix(&self, modality: Modality) -> &Matrix {
        match modality {
            Modality::Image => &self.images,
            Modality::Text => &self.texts,
        }
    }

    fn row(&self, matrix: &Matrix, row: usize, values: &mut Vec<f16>) {
        let bytes = self.dimensions * 2;
        let row = &matrix.map[matrix.offset + row * bytes..][..bytes];
        values.clear();
        values.extend(row.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]])));
    }
}
