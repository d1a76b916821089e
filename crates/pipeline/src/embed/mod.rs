//! Images and captions to embeddings, in the layout of clip-retrieval.

use std::collections::HashMap;
use std::path::Path;

use dataset::npy::MatrixWriter;
use dataset::picture::{self, Limits};
use dataset::schema::{EmbeddingRow, ImageRow};
use dataset::table::{TableReader, write_table};
use dataset::webdataset::{TarSample, read_samples, tar_path};
use dataset::{
    Counts, Embedder, Embedding, EmbeddingFiles, Error, Failure, FileEntry, Marker, Pixels, Progress, Result, ShardId,
    Stage, Status, Summary, Task, file_sha256, list_shards,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `tiny`, the model that comes with the program, or a folder with a Hugging Face CLIP.
    pub model: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { model: "tiny".into() }
    }
}

/// Samples that are decoded and embedded together.
const BATCH: usize = 64;

/// Embeds every shard of `images` into `output`.
pub fn run(
    config: &Config,
    embedder: &dyn Embedder,
    images: &Path,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Summary> {
    let mut summary = Summary::new(Stage::Embed);
    let shards = list_shards(images, "parquet")?;
    let mut rows = 0;
    for &id in &shards {
        rows += TableReader::<ImageRow>::open(&images.join(format!("{id}.parquet")))?.row_count();
    }
    let task = progress.begin(Stage::Embed, Some(rows));
    for id in shards {
        summary.counts.merge(&shard(config, embedder, images, output, id, &*task)?);
    }
    Ok(summary)
}

/// Embeds one shard; one that is done is not done again.
pub fn shard(
    config: &Config,
    embedder: &dyn Embedder,
    images: &Path,
    output: &Path,
    id: ShardId,
    task: &dyn Task,
) -> Result<Counts> {
    let table = images.join(format!("{id}.parquet"));
    let tar = tar_path(images, id);
    let marker = Marker::of_shard(output, id);
    let described = serde_json::json!({"model": config.model, "weights": embedder.fingerprint()});
    let inputs = vec![file_sha256(&table)?];
    if let Some(done) = Marker::done(&marker, &described, &inputs)? {
        task.advance(done.counts.rows);
        return Ok(done.counts);
    }
    let mut rows = HashMap::new();
    for row in TableReader::<ImageRow>::open(&table)? {
        let row = row?;
        if row.is_success() {
            rows.insert(row.key.clone(), row);
        } else {
            task.advance(1);
        }
    }
    let mut shard = ShardEmbeddings::default();
    let mut batch = Vec::new();
    read_samples(&tar, |sample| {
        if let Some(row) = rows.remove(&sample.key) {
            batch.push((row, sample));
        }
        if batch.len() == BATCH {
            task.advance(BATCH as u64);
            shard.push(embedder, std::mem::take(&mut batch))?;
        }
        Ok(())
    })?;
    task.advance(batch.len() as u64);
    shard.push(embedder, batch)?;
    if let Some(key) = rows.keys().min() {
        let cause = format!("{} images of its table are missing, the first is {key}", rows.len());
        return Err(Error::format(&tar, cause));
    }
    let files = shard.write(embedder.dimensions(), output, id)?;
    Ok(Marker::finish(&marker, &described, inputs, shard.counts, files)?.counts)
}

/// The embeddings of one shard: 10,000 rows of both kinds are 20 MB as float16.
#[derive(Default)]
struct ShardEmbeddings {
    counts: Counts,
    rows: Vec<EmbeddingRow>,
    images: Vec<Embedding>,
    texts: Vec<Embedding>,
}

impl ShardEmbeddings {
    fn push(&mut self, embedder: &dyn Embedder, batch: Vec<(ImageRow, TarSample)>) -> Result<()> {
        let decoded: Vec<(EmbeddingRow, Option<Pixels>)> = batch.into_par_iter().map(decode).collect();
        let mut rows = Vec::new();
        let mut pixels = Vec::new();
        for (row, picture) in decoded {
            match picture {
                Some(picture) => {
                    rows.push(row);
                    pixels.push(picture);
                }
                None => self.counts.add(Status::Failed(Failure::ImageDamaged)),
            }
        }
        let captions: Vec<&str> = rows.iter().map(|row| row.caption.as_str()).collect();
        let images = each(&pixels, |part| embedder.images(part))?;
        let texts = each(&captions, |part| embedder.texts(part))?;
        for ((row, image), text) in rows.into_iter().zip(images).zip(texts) {
            match (image, text) {
                (Some(image), Some(text)) => {
                    self.rows.push(row);
                    self.images.push(image);
                    self.texts.push(text);
                    self.counts.add(Status::Kept);
                }
                _ => self.counts.add(Status::Failed(Failure::Embedding)),
            }
        }
        Ok(())
    }

    fn write(&mut self, dimensions: usize, output: &Path, id: ShardId) -> Result<Vec<FileEntry>> {
        let files = EmbeddingFiles::of(output, id);
        let matrix = |path: &Path, rows: &[Embedding]| {
            let mut writer = MatrixWriter::create(path, rows.len(), dimensions)?;
            rows.iter().try_for_each(|row| writer.push(row))?;
            writer.publish()
        };
        Ok(vec![
            matrix(&files.image, &self.images)?.below("img_emb"),
            matrix(&files.text, &self.texts)?.below("text_emb"),
            write_table(&files.metadata, std::mem::take(&mut self.rows))?.below("metadata"),
        ])
    }
}

/// Embeds a batch at once, and one by one where the batch holds something without direction.
fn each<T>(items: &[T], embed: impl Fn(&[T]) -> Result<Vec<Embedding>>) -> Result<Vec<Option<Embedding>>> {
    match embed(items) {
        Ok(all) => Ok(all.into_iter().map(Some).collect()),
        Err(Error::NoDirection { .. }) => items
            .iter()
            .map(|item| match embed(std::slice::from_ref(item)) {
                Ok(mut one) => Ok(one.pop()),
                Err(Error::NoDirection { .. }) => Ok(None),
                Err(error) => Err(error),
            })
            .collect(),
        Err(error) => Err(error),
    }
}

fn decode((row, sample): (ImageRow, TarSample)) -> (EmbeddingRow, Option<Pixels>) {
    let image = ["jpg", "jpeg", "png", "webp"].iter().find_map(|ending| sample.files.get(*ending));
    let picture = image.and_then(|bytes| picture::decode(bytes, Limits::default()).ok());
    let row = EmbeddingRow {
        image_path: row.key.clone(),
        caption: row.caption,
        url: row.url,
        key: row.key,
        uid: row.uid,
        page_url: row.page_url,
        license: row.license,
        width: row.width.unwrap_or_default(),
        height: row.height.unwrap_or_default(),
        original_width: row.original_width.unwrap_or_default(),
        original_height: row.original_height.unwrap_or_default(),
        sha256: row.sha256.unwrap_or_default(),
    };
    (row, picture.map(|picture| picture.pixels))
}
