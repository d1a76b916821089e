//! Embeddings to verdicts: which pairs belong together, how a picture is tagged, and what is dropped for it.

mod duplicates;
mod heads;
mod nearest;
mod nsfw;
mod rules;
mod stored;
mod under_age;

pub mod prompts;

use std::collections::BTreeMap;
use std::path::Path;

use dataset::schema::{CuratedRow, EmbeddingRow, uid};
use dataset::scored::ScoredWriter;
use dataset::table::TableReader;
use dataset::texts::EmbeddedTexts;
use dataset::{
    Counts, Embedding, EmbeddingFiles, Error, Marker, Progress, Reason, Result, ShardId, Stage, Status, Summary, Task,
    file_sha256,
};
use serde::{Deserialize, Serialize};

use heads::Heads;
pub use heads::{Head, Scorers};
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
    /// Heads that score pictures, by the names that their scores get.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub heads: BTreeMap<String, Head>,
}

impl Config {
    /// The published recipe of LAION-400M.
    pub fn laion400m() -> Self {
        Self {
            rules: Rules::Laion400m,
            similarity_min: 0.3,
            near_duplicates: None,
            tag_only: false,
            heads: BTreeMap::new(),
        }
    }

    fn check(&self) -> Result<()> {
        self.heads.iter().try_for_each(|(name, head)| head.check(name))?;
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

/// Filters every shard of `embeddings` into `output`, by the prompts of [`stored_prompts`] or [`embed_prompts`]; `scorers` are
/// the heads of the settings.
pub fn run(
    config: &Config,
    prompts: &EmbeddedTexts,
    scorers: &Scorers,
    embeddings: &Path,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Summary> {
    let mut summary = Summary::new(Stage::Filter);
    let shards = EmbeddingFiles::list(embeddings)?;
    let mut rows = 0;
    for files in &shards {
        rows += TableReader::<EmbeddingRow>::open(&files.metadata)?.row_count();
    }
    let filter = Filter::new(config, prompts, scorers)?;
    let task = progress.begin(Stage::Filter, Some(rows));
    for files in &shards {
        summary.counts.merge(&filter.files(embeddings, files, output, &*task)?);
    }
    Ok(summary)
}

/// Filters shards with prompts that were embedded once, and heads that were opened once.
pub struct Filter {
    config: Config,
    judge: Judge,
    heads: Heads,
    weights: String,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Filter {
    /// The prompts must be of the model that made the embeddings. Settings that make no sense are an error.
    pub fn new(config: &Config, prompts: &EmbeddedTexts, scorers: &Scorers) -> Result<Self> {
        config.check()?;
        Ok(Self {
            config: config.clone(),
            judge: Judge::new(prompts)?,
            heads: Heads::new(&config.heads, scorers)?,
            weights: prompts.weights().into(),
        })
    }

    /// Filters one shard of ours; one that is done is not done again.
    pub fn shard(&self, embeddings: &Path, output: &Path, id: ShardId, task: &dyn Task) -> Result<Counts> {
        self.files(embeddings, &EmbeddingFiles::of(embeddings, id), output, task)
    }

    fn files(&self, embeddings: &Path, files: &EmbeddingFiles, output: &Path, task: &dyn Task) -> Result<Counts> {
        let id = files.id;
        let marker = Marker::of_shard(output, id);
        stored::check_weights(embeddings, id, &self.weights)?;
        let settings = Config { heads: self.heads.described(), ..self.config.clone() };
        let described = serde_json::json!({"filter": settings, "weights": self.weights});
        let inputs = vec![file_sha256(&files.metadata)?, file_sha256(&files.image)?, file_sha256(&files.text)?];
        if let Some(done) = Marker::done(&marker, &described, &inputs)? {
            task.advance(done.counts.rows);
            return Ok(done.counts);
        }
        let rows = TableReader::<EmbeddingRow>::open(&files.metadata)?;
        let (mut images, mut texts) = files.matrices(rows.row_count())?;
        let mut scores = self.heads.scores(&files.image)?;
        let mut bucket = Bucket {
            near_duplicates: self.config.near_duplicates,
            counts: Counts::default(),
            writer: ScoredWriter::create(&output.join(format!("{id}.parquet")), self.heads.names())?,
            rows: Vec::new(),
        };
        for (row, position) in rows.zip(0..) {
            let (Some(image), Some(text)) = (images.next_embedding()?, texts.next_embedding()?) else { break };
            let row = row?;
            let similarity = row.cosine(&image, &text);
            let verdict = self.judge.verdict(&self.config, similarity, &image, &row.caption);
            let scores = scores.next()?;
            let status = match verdict.status {
                Status::Kept => self.heads.refuse(&scores).map_or(Status::Kept, Status::Dropped),
                status => status,
            };
            bucket.push(Judged { row: curated(row, position, similarity, &verdict), scores, status }, image)?;
            task.advance(1);
        }
        bucket.flush()?;
        let (counts, file) = (bucket.counts, bucket.writer.publish()?);
        Ok(Marker::finish(&marker, &described, inputs, counts, vec![file])?.counts)
    }
}

/// The row but for its verdict.
fn curated(row: EmbeddingRow, position: i64, similarity: f32, tags: &Verdict) -> CuratedRow {
    let key = row.name().to_owned();
    let uid = if row.uid.is_empty() { uid(&row.caption, &row.url) } else { row.uid };
    CuratedRow {
        key,
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
        language: row.language,
        width: row.width,
        height: row.height,
        original_width: row.original_width,
        original_height: row.original_height,
    }
}

/// A row that all rules but the last have been asked about.
struct Judged {
    row: CuratedRow,
    scores: Vec<f32>,
    status: Status,
}

/// Rows whose pictures are compared with one another before they are written.
struct Bucket {
    near_duplicates: Option<f64>,
    counts: Counts,
    writer: ScoredWriter,
    rows: Vec<(Judged, Embedding)>,
}

impl Bucket {
    fn push(&mut self, judged: Judged, image: Embedding) -> Result<()> {
        if self.near_duplicates.is_none() {
            return self.write(judged);
        }
        self.rows.push((judged, image));
        if self.rows.len() == duplicates::BUCKET_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let kept = rows.iter().filter(|(judged, _)| judged.status == Status::Kept);
        let kept: Vec<_> = kept.map(|(judged, image)| (judged.row.key.as_str(), image)).collect();
        let goes = self.near_duplicates.map(|bound| duplicates::near_duplicates(&kept, bound));
        let mut goes = goes.unwrap_or_default().into_iter();
        for (mut judged, _) in rows {
            if judged.status == Status::Kept && goes.next() == Some(true) {
                judged.status = Status::Dropped(Reason::NearDuplicate);
            }
            self.write(judged)?;
        }
        Ok(())
    }

    fn write(&mut self, Judged { mut row, scores, status }: Judged) -> Result<()> {
        self.counts.add(status);
        let kept = status == Status::Kept;
        row.verdict = if kept { "kept" } else { "dropped" }.into();
        row.reason = (!kept).then(|| status.name().into());
        self.writer.push(row, scores)
    }
}
