//! Embeddings to verdicts: which pairs belong together, and how a picture is tagged.

mod nsfw;

use std::path::Path;

use dataset::npy::MatrixReader;
use dataset::schema::{CuratedRow, EmbeddingRow};
use dataset::table::{TableReader, TableWriter};
use dataset::{
    Counts, Embedder, EmbeddingFiles, Error, Marker, Progress, Reason, Result, ShardId, Stage, Status, Summary, Task,
    file_sha256,
};
use serde::{Deserialize, Serialize};

use nsfw::Tagger;

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Pairs whose embeddings are less alike are dropped: cosine, -1 to 1. LAION-400M: 0.3.
    pub similarity_min: f64,
}

impl Config {
    /// The published recipe of LAION-400M.
    pub fn laion400m() -> Self {
        Self { similarity_min: 0.3 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::laion400m()
    }
}

/// Filters every shard of `embeddings` into `output`.
pub fn run(
    config: &Config,
    embedder: &dyn Embedder,
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
    let filter = Filter::new(config, embedder)?;
    let task = progress.begin(Stage::Filter, Some(rows));
    for id in shards {
        summary.counts.merge(&filter.shard(embeddings, output, id, &*task)?);
    }
    Ok(summary)
}

/// Filters shards with prompts that were embedded once.
pub struct Filter {
    config: Config,
    tagger: Tagger,
    weights: String,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Filter {
    /// Embeds the prompts; `embedder` must be the one that made the embeddings.
    pub fn new(config: &Config, embedder: &dyn Embedder) -> Result<Self> {
        Ok(Self { config: config.clone(), tagger: Tagger::new(embedder)?, weights: embedder.fingerprint() })
    }

    /// Filters one shard; one that is done is not done again.
    pub fn shard(&self, embeddings: &Path, output: &Path, id: ShardId, task: &dyn Task) -> Result<Counts> {
        let files = EmbeddingFiles::of(embeddings, id);
        let marker = Marker::of_shard(output, id);
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
        let mut counts = Counts::default();
        let mut writer = TableWriter::create(&output.join(format!("{id}.parquet")))?;
        for (row, position) in rows.zip(0..) {
            let (Some(image), Some(text)) = (images.next_embedding()?, texts.next_embedding()?) else { break };
            let similarity = image.similarity(&text);
            let tags = self.tagger.tag(&image);
            let status = if similarity >= self.config.similarity_min {
                Status::Kept
            } else {
                Status::Dropped(Reason::SimilarityTooLow)
            };
            counts.add(status);
            task.advance(1);
            let row = row?;
            writer.push(CuratedRow {
                key: row.key,
                uid: row.uid,
                similarity,
                nsfw: tags.nsfw.name().into(),
                nsfw_2021: tags.nsfw_2021.name().into(),
                verdict: if status == Status::Kept { "kept" } else { "dropped" }.into(),
                reason: (status != Status::Kept).then(|| status.name().into()),
                embedding_row: position,
                caption: row.caption,
                url: row.url,
                page_url: row.page_url,
                license: row.license,
                width: row.width,
                height: row.height,
                original_width: row.original_width,
                original_height: row.original_height,
            })?;
        }
        let file = writer.publish()?;
        Ok(Marker::finish(&marker, &described, inputs, counts, vec![file])?.counts)
    }
}
