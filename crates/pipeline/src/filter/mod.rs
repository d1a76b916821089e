//! Embeddings to verdicts: which pairs belong together, how a picture is tagged, and what is dropped for it.

mod duplicates;
mod nearest;
mod nsfw;
mod rules;
mod stored;
mod under_age;

pub mod prompts;

use std::path::Path;

use dataset::npy::MatrixReader;
use dataset::schema::{CuratedRow, EmbeddingRow, uid};
use dataset::table::{TableReader, TableWriter};
use dataset::texts::EmbeddedTexts;
use dataset::{
    Counts, Embedding, EmbeddingFiles, Error, Marker, Progress, Reason, Result, ShardId, Stage, Status, Summary, Task,
    file_sha256,
};
use serde::{Deserialize, Serialize};

pub use rules::Rules;
use rules::{Judge, Verdict};
pub use stored::{embed_prompts, store_prompts, stored_prompts};

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How pictures are tagged, and words looked for.
    pub rules: Rules,
    /// Pairs whose embeddings are less alike are dropped: cosine, -1 to 1, compared as float32. LAION-400M: 0.3.
    pub similarity_min: f64,
    /// Of pictures in one bucket whose embeddings have at least this cosine, one stays; `None`: all do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_duplicates: Option<f64>,
    /// Whether tags are given but nothing is dropped for what a picture seems to show: for models that know too little of
    /// the world, such as the included one.
    pub tag_only: bool,
}

impl Config {
    /// The published recipe of LAION-400M.
    pub fn laion400m() -> Self {
        Self { rules: Rules::Laion400m, similarity_min: 0.3, near_duplicates: None, tag_only: false }
    }

    fn check(&self) -> Result<()> {
        match self.near_duplicates {
            Some(bound) if !(bound > 0.0 && bound <= 1.0) => {
                Err(Error::Invalid(format!("near_duplicates is {bound}, not a cosine above 0 and up to 1")))
            }
            _ => Ok(()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::laion400m()
    }
}

/// Filters every shard of `embeddings` into `output`, by the prompts of [`stored_prompts`] or [`embed_prompts`].
pub fn run(
    config: &Config,
    prompts: &EmbeddedTexts,
    embeddings: &Path,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Summary> {
    let mut summary = Summary::new(Stage::Filter);
    let shards = EmbeddingFiles::list(embeddings)?;
    let mut rows = 0;
    for &id in &shards {
        rows += TableReader::<EmbeddingRow>::open(&EmbeddingFiles::of(embeddings, id).metadata)?.row_count();
    }
    let filter = Filter::new(config, prompts)?;
    let task = progress.begin(Stage::Filter, Some(rows));
    for id in shards {
        summary.counts.merge(&filter.shard(embeddings, output, id, &*task)?);
    }
    Ok(summary)
}

/// Filters shards with prompts that were embedded once.
pub struct Filter {
    config: Config,
    judge: Judge,
    weights: String,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Filter {
    /// The prompts must be of the model that made the embeddings. Settings that make no sense are an error.
    pub fn new(config: &Config, prompts: &EmbeddedTexts) -> Result<Self> {
        config.check()?;
        Ok(Self { config: config.clone(), judge: Judge::new(prompts)?, weights: prompts.weights().into() })
    }

    /// Filters one shard; one that is done is not done again.
    pub fn shard(&self, embeddings: &Path, output: &Path, id: ShardId, task: &dyn Task) -> Result<Counts> {
        let files = EmbeddingFiles::of(embeddings, id);
        let marker = Marker::of_shard(output, id);
        stored::check_weights(embeddings, id, &self.weights)?;
        let described = serde_json::json!({"filter": self.config, "weights": self.weights});
        let inputs = vec![file_sha256(&files.metadata)?, file_sha256(&files.image)?, file_sha256(&files.text)?];
        if let Some(done) = Marker::done(&marker, &described, &inputs)? {
            task.advance(done.counts.rows);
            return Ok(done.counts);
        }
        let rows = TableReader::<EmbeddingRow>::open(&files.metadata)?;
        let (mut images, mut texts) = (MatrixReader::open(&files.image)?, MatrixReader::open(&files.text)?);
        for (path, matrix) in [(&files.image, &images), (&files.text, &texts)] {
            if matrix.rows() as u64 != rows.row_count() {
                let cause = format!("{} rows, but its metadata has {}", matrix.rows(), rows.row_count());
                return Err(Error::format(path, cause));
            }
        }
        let mut bucket = Bucket {
            near_duplicates: self.config.near_duplicates,
            counts: Counts::default(),
            writer: TableWriter::create(&output.join(format!("{id}.parquet")))?,
            rows: Vec::new(),
        };
        for (row, position) in rows.zip(0..) {
            let (Some(image), Some(text)) = (images.next_embedding()?, texts.next_embedding()?) else { break };
            let row = row?;
            let similarity = row.similarity.unwrap_or_else(|| image.similarity(&text)) as f32;
            let verdict = self.judge.verdict(&self.config, similarity, &image, &row.caption);
            bucket.push(curated(row, position, similarity, &verdict), verdict.status, image)?;
            task.advance(1);
        }
        bucket.flush()?;
        let (counts, file) = (bucket.counts, bucket.writer.publish()?);
        Ok(Marker::finish(&marker, &described, inputs, counts, vec![file])?.counts)
    }
}

/// The row but for its verdict.
fn curated(row: EmbeddingRow, position: i64, similarity: f32, tags: &Verdict) -> CuratedRow {
    let uid = if row.uid.is_empty() { uid(&row.caption, &row.url) } else { row.uid };
    CuratedRow {
        key: if row.key.is_empty() { row.image_path } else { row.key },
        uid,
        similarity: f64::from(similarity),
        nsfw: tags.nsfw.name().into(),
        nsfw_meant: tags.nsfw_meant.name().into(),
        nsfw_2021: tags.nsfw_2021.name().into(),
        verdict: String::new(),
        reason: None,
        embedding_row: position,
        caption: row.caption,
        url: row.url,
        page_url: row.page_url,
        license: row.license,
        width: row.width,
        height: row.height,
        original_width: row.original_width,
        original_height: row.original_height,
    }
}

/// Rows whose pictures are compared with one another before they are written.
struct Bucket {
    near_duplicates: Option<f64>,
    counts: Counts,
    writer: TableWriter<CuratedRow>,
    rows: Vec<(CuratedRow, Status, Embedding)>,
}

impl Bucket {
    fn push(&mut self, row: CuratedRow, status: Status, image: Embedding) -> Result<()> {
        if self.near_duplicates.is_none() {
            return self.write(row, status);
        }
        self.rows.push((row, status, image));
        if self.rows.len() == duplicates::BUCKET_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let kept = rows.iter().filter(|(_, status, _)| *status == Status::Kept);
        let kept: Vec<_> = kept.map(|(row, _, image)| (row.key.as_str(), image)).collect();
        let goes = self.near_duplicates.map(|bound| duplicates::near_duplicates(&kept, bound));
        let mut goes = goes.unwrap_or_default().into_iter();
        for (row, mut status, _) in rows {
            if status == Status::Kept && goes.next() == Some(true) {
                status = Status::Dropped(Reason::NearDuplicate);
            }
            self.write(row, status)?;
        }
        Ok(())
    }

    fn write(&mut self, mut row: CuratedRow, status: Status) -> Result<()> {
        self.counts.add(status);
        let kept = status == Status::Kept;
        row.verdict = if kept { "kept" } else { "dropped" }.into();
        row.reason = (!kept).then(|| status.name().into());
        self.writer.push(row)
    }
}
