//! Matched pairs against pairs mismatched on purpose: what a threshold of the similarity keeps and what it lets pass, by
//! whatever model embedded them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use dataset::files;
use dataset::npy::MatrixReader;
use dataset::schema::{CuratedRow, EmbeddingRow};
use dataset::table::TableReader;
use dataset::{Embedding, EmbeddingFiles, Error, Result};
use half::f16;
use serde::Serialize;

use super::histogram::{Counter, Similarity, reaches, value};
use super::samples::{Band, Sampler};

/// Pairs that are held in memory, 4 KiB each with ViT-B/32; a picture gets a text of the same block.
const BLOCK_PAIRS: usize = 8192;
/// Texts that are tried for a picture before it stays without a mismatched one: captions of a page may all be equal.
const TRIES: usize = 64;
/// Shares of mismatched pairs whose threshold is told.
const PASSING: [f64; 2] = [0.01, 0.001];

/// What is looked at.
#[derive(Clone, Debug)]
pub struct CalibrationConfig {
    /// The threshold: a cosine, -1 to 1, compared as the filter does.
    pub similarity_min: f64,
    /// Verdicts of the same rows, whose tags say what can be shown. Where there are none, nobody knows.
    pub curated: Option<PathBuf>,
    /// Whether samples may be tagged UNSURE and NSFW.
    pub show_nsfw: bool,
}

/// How similarities are spread, and what thresholds make of them.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// Rows of all tables.
    pub rows: u64,
    /// Files they are in.
    pub shards: usize,
    /// Each picture with its own text. Unknown: rows that lack an embedding.
    pub matched: Similarity,
    /// Each picture with the text of another row. Unknown: where no other caption was found.
    pub mismatched: Similarity,
    /// What the threshold that was asked for does.
    pub chosen: Threshold,
    /// The same in steps of 0.02, from where a quarter of the mismatched pairs is left to where all but 1 % of the matched
    /// ones are gone.
    pub thresholds: Vec<Threshold>,
    /// The least thresholds that let few of the mismatched pairs pass, where there are enough of them to tell.
    pub passing: Vec<Passing>,
    /// Samples around the threshold.
    #[serde(skip)]
    pub(super) bands: Vec<Band>,
    /// Whether the tags of samples are known.
    #[serde(skip)]
    pub(super) tagged: bool,
    /// Whether it did not matter what they are.
    #[serde(skip)]
    pub(super) show_nsfw: bool,
}

impl Calibration {
    /// The thresholds, the chosen one among them, in order.
    pub fn told(&self) -> Vec<&Threshold> {
        let chosen = self.chosen.similarity_min;
        let others = self.thresholds.iter().filter(|threshold| threshold.similarity_min != chosen);
        let mut told: Vec<_> = others.chain([&self.chosen]).collect();
        told.sort_by(|a, b| a.similarity_min.total_cmp(&b.similarity_min));
        told
    }

    /// How people choose a threshold, and what helps here; a paragraph each.
    pub fn advice(&self) -> Vec<String> {
        let mut paragraphs = vec![
            "A good threshold lets few mismatched pairs pass and keeps most of the others. But captions of the web often \
             fit their pictures badly, so a matched pair that is dropped need not be a loss: what tells are pairs just \
             below and just above the threshold, and whether their captions still say what is seen."
                .to_owned(),
        ];
        for Passing { share, threshold } in &self.passing {
            paragraphs.push(format!(
                "From {} on, no more than {} % of mismatched pairs pass; {:.1} % of the matched ones do.",
                cosine(threshold.similarity_min),
                100.0 * share,
                100.0 * threshold.matched_share
            ));
        }
        paragraphs.push(
            "LAION's authors chose 0.3 for CLIP ViT-B/32 by eye, after trying other values; 0.28 and 0.29 often seemed \
             good, too. Another model has other cosines, and needs another threshold."
                .to_owned(),
        );
        paragraphs
    }
}

/// A cosine with two digits, or three where it has them.
pub fn cosine(value: f64) -> String {
    let digits = format!("{value:.3}");
    digits.strip_suffix('0').map_or(digits.clone(), str::to_owned)
}

/// What a threshold does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Threshold {
    /// The least cosine.
    pub similarity_min: f64,
    /// Matched pairs that it keeps.
    pub matched: u64,
    /// Of all matched pairs, 0 to 1.
    pub matched_share: f64,
    /// Mismatched pairs that pass it.
    pub mismatched: u64,
    /// Of all mismatched pairs, 0 to 1.
    pub mismatched_share: f64,
}

/// The least threshold, in thousandths, that lets no more mismatched pairs pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Passing {
    /// No more than this share of them, 0 to 1.
    pub share: f64,
    /// The threshold.
    #[serde(flatten)]
    pub threshold: Threshold,
}

/// Reads a folder of embeddings, ours or clip-retrieval's, shard by shard.
pub fn calibration(config: &CalibrationConfig, embeddings: &Path) -> Result<Calibration> {
    let bound = config.similarity_min;
    if !(-1.0..=1.0).contains(&bound) {
        return Err(Error::Invalid(format!("similarity_min is {bound}, not a cosine of -1 to 1")));
    }
    let shards = EmbeddingFiles::list(embeddings)?;
    let first = shards.first().ok_or_else(|| Error::Invalid(format!("{}: no embeddings", embeddings.display())))?;
    for (what, path) in [("pictures", &first.image), ("texts", &first.text)] {
        if let Some(folder) = path.parent()
            && !files::is_dir(folder)?
        {
            let cause = format!("not there: pairs need embeddings of both, and there are none of {what}");
            return Err(Error::Invalid(format!("{}: {cause}", folder.display())));
        }
    }
    let mut counted = Counted {
        rows: 0,
        matched: Counter::default(),
        mismatched: Counter::default(),
        kept: [0; 2],
        sampler: Sampler::new(bound, config.show_nsfw),
        tagged: true,
        config,
    };
    for files in &shards {
        counted.shard(files)?;
    }
    Ok(counted.finish(shards.len()))
}

struct Counted<'a> {
    config: &'a CalibrationConfig,
    rows: u64,
    matched: Counter,
    mismatched: Counter,
    /// Matched and mismatched pairs that reach the threshold, however many digits it has.
    kept: [u64; 2],
    sampler: Sampler,
    tagged: bool,
}

/// A row that has both embeddings.
struct Pair {
    image: Embedding,
    text: Embedding,
    caption: u64,
}

impl Counted<'_> {
    fn shard(&mut self, files: &EmbeddingFiles) -> Result<()> {
        let rows = TableReader::<EmbeddingRow>::open(&files.metadata)?;
        let count = rows.row_count();
        let (mut images, mut texts) = files.matrices(count)?;
        let dimensions = images.columns();
        if texts.columns() != dimensions {
            let cause = format!("{} dimensions, but those of the pictures have {dimensions}", texts.columns());
            return Err(Error::format(&files.text, cause));
        }
        let mut verdicts = self.verdicts(files, count)?;
        self.tagged &= verdicts.is_some();
        self.rows += count;
        // Blocks of about the same size, so that none is left with a pair or two.
        let blocks = count.div_ceil(BLOCK_PAIRS as u64).max(1);
        let mut ends = (1..=blocks).map(|block| count * block / blocks);
        let mut end = ends.next().unwrap_or(count);
        let mut pairs = Vec::new();
        for (row, place) in rows.zip(0..) {
            if place == end {
                self.mismatch(&pairs);
                pairs.clear();
                end = ends.next().unwrap_or(count);
            }
            let row = row?;
            let verdict = verdicts.as_mut().map(|verdicts| verdicts.of(&row, place)).transpose()?;
            let image = embedding(&mut images, &files.image, place)?;
            let Some((image, text)) = image.zip(embedding(&mut texts, &files.text, place)?) else {
                self.matched.add(None);
                continue;
            };
            let similarity = in_range(row.cosine(&image, &text));
            self.matched.add(Some(similarity));
            self.kept[0] += u64::from(reaches(similarity, self.config.similarity_min));
            self.sampler.offer(similarity, files.id, &row, verdict.as_ref());
            pairs.push(Pair { image, text, caption: caption(&row.caption) });
        }
        self.mismatch(&pairs);
        Ok(())
    }

    fn verdicts(&self, files: &EmbeddingFiles, rows: u64) -> Result<Option<Verdicts>> {
        let Some(folder) = &self.config.curated else { return Ok(None) };
        let path = folder.join(format!("{}.parquet", files.id));
        if !files::exists(&path)? {
            return Ok(None);
        }
        let table = TableReader::open(&path)?;
        if table.row_count() != rows {
            let cause = format!("{} rows, but {} has {rows}", table.row_count(), files.metadata.display());
            return Err(Error::format(&path, cause));
        }
        Ok(Some(Verdicts { table, path }))
    }

    /// Gives every picture the text half of the block away, or the next one whose caption is another: neighbours often come
    /// from one page.
    fn mismatch(&mut self, pairs: &[Pair]) {
        for (place, pair) in pairs.iter().enumerate() {
            let mut others =
                (0..TRIES.min(pairs.len())).map(|step| &pairs[(place + pairs.len() / 2 + step) % pairs.len()]);
            let other = others.find(|other| other.caption != pair.caption);
            let similarity = other.map(|other| in_range(pair.image.similarity(&other.text) as f32));
            self.mismatched.add(similarity);
            let passes = similarity.is_some_and(|similarity| reaches(similarity, self.config.similarity_min));
            self.kept[1] += u64::from(passes);
        }
    }

    fn finish(self, shards: usize) -> Calibration {
        let (matched, mismatched) = (&self.matched, &self.mismatched);
        let threshold = |similarity_min: f64, kept: u64, passing: u64| Threshold {
            similarity_min,
            matched: kept,
            matched_share: share(kept, matched.known()),
            mismatched: passing,
            mismatched_share: share(passing, mismatched.known()),
        };
        let at = |least: i64| threshold(value(least), matched.at_least(least), mismatched.at_least(least));
        let told = |threshold: &Threshold| threshold.mismatched_share <= 0.25 && threshold.matched_share >= 0.01;
        let passing = |&share: &f64| {
            let most = (mismatched.known() as f64 * share).floor() as u64;
            let least = mismatched.reached_by(most).filter(|_| most > 0)?;
            Some(Passing { share, threshold: at(least) })
        };
        Calibration {
            rows: self.rows,
            shards,
            chosen: threshold(self.config.similarity_min, self.kept[0], self.kept[1]),
            thresholds: matched.bins().map(at).filter(told).collect(),
            passing: PASSING.iter().filter_map(passing).collect(),
            bands: self.sampler.finish(),
            tagged: self.tagged,
            show_nsfw: self.config.show_nsfw,
            matched: self.matched.finish(),
            mismatched: self.mismatched.finish(),
        }
    }
}

/// The verdicts of a shard, row by row.
struct Verdicts {
    table: TableReader<CuratedRow>,
    path: PathBuf,
}

impl Verdicts {
    fn of(&mut self, row: &EmbeddingRow, place: u64) -> Result<CuratedRow> {
        let verdict = self.table.next().transpose()?;
        verdict.filter(|verdict| verdict.key == row.name()).ok_or_else(|| {
            Error::format(&self.path, format!("row {place} is not of {}: filter the embeddings again", row.name()))
        })
    }
}

/// The next row of a matrix; `None` where it is empty or broken, which no embedding is.
fn embedding(matrix: &mut MatrixReader, path: &Path, place: u64) -> Result<Option<Embedding>> {
    let mut values = Vec::new();
    matrix.read_row(&mut values)?;
    if values.iter().all(|&value| value == f16::ZERO) || values.iter().any(|value| !value.is_finite()) {
        return Ok(None);
    }
    Embedding::from_f16(&values).map(Some).map_err(|error| Error::format(path, format!("row {place}: {error}")))
}

/// A cosine of vectors that are not quite of length 1 can be a little beyond its range.
fn in_range(similarity: f32) -> f64 {
    f64::from(similarity).clamp(-1.0, 1.0)
}

/// Captions that are one to a model, which takes no notice of case and white space, have one hash.
fn caption(text: &str) -> u64 {
    let mut hash = DefaultHasher::new();
    text.split_whitespace().for_each(|word| word.to_lowercase().hash(&mut hash));
    hash.finish()
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
