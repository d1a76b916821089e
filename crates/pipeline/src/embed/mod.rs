//! Images and captions to embeddings, in the layout of clip-retrieval.

mod batches;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use dataset::npy::MatrixWriter;
use dataset::samples::{Further, SampleShard};
use dataset::schema::EmbeddingRow;
use dataset::table::write_table_around;
use dataset::{
    Counts, Embedder, Embedding, EmbeddingFiles, Error, Failure, FileEntry, Marker, Precision, Progress, Result,
    ShardId, Stage, Status, Summary, Task,
};
use serde::{Deserialize, Serialize};

use batches::Batch;

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `tiny`, the model that comes with the program, or another as `--model` takes it.
    pub model: String,
    /// With how many bits it computes: wherever that is, so that the rows that stay do not depend on it.
    pub precision: Precision,
    /// Embeds pictures alone, with captions or without. Later stages need both.
    pub images_only: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { model: "tiny".into(), precision: Precision::Float32, images_only: false }
    }
}

/// Columns of clip-retrieval that stand before those of the input: path and caption.
const COLUMNS_BEFORE: usize = 2;
/// Captions that are embedded together: of many, those of like length fill a batch.
const CAPTIONS: usize = 2048;
/// Less of them if they are long.
const CAPTION_BYTES: usize = 64 << 20;

/// Embeds every shard of `images` into `output`: a folder in one of the layouts that [`dataset::samples`] reads, or one tar
/// or table of it. A shard with a damaged file is an error, which comes once the others are done.
pub fn run(
    config: &Config,
    embedder: &dyn Embedder,
    images: &Path,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Summary> {
    let mut summary = Summary::new(Stage::Embed);
    let shards = SampleShard::list(images)?;
    let mut rows = Some(0);
    for shard in &shards {
        rows = rows.zip(shard.row_count()?).map(|(sum, more)| sum + more);
    }
    let task = progress.begin(Stage::Embed, rows);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let lane = || {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(shard) = shards.get(at) else { break };
            let counts = embed(config, embedder, shard, output, &*task);
            match &counts {
                Err(error @ Error::Format { .. }) if shards.len() > 1 => progress.warn(&error.to_string()),
                Err(error) if !matches!(error, Error::Format { .. }) => failed.store(true, Ordering::Relaxed),
                _ => (),
            }
            done.push((at, counts));
        }
        done
    };
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..embedder.lanes()).map(|_| scope.spawn(lane)).collect();
        lanes
            .into_iter()
            .flat_map(|lane| lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    drop(task);
    done.sort_by_key(|&(at, _)| at);
    let mut damaged = Vec::new();
    for (_, counts) in done {
        match counts {
            Ok(counts) => summary.counts.merge(&counts),
            Err(error @ Error::Format { .. }) => damaged.push(error),
            Err(error) => return Err(error),
        }
    }
    let count = damaged.len();
    match damaged.into_iter().next() {
        None => Ok(summary),
        Some(error) if count == 1 => Err(error),
        Some(error) => Err(Error::Invalid(format!("{count} shards are damaged, the first: {error}"))),
    }
}

/// Embeds the shard of this number, named as img2dataset and this program do; one that is done is not done again.
pub fn shard(
    config: &Config,
    embedder: &dyn Embedder,
    images: &Path,
    output: &Path,
    id: ShardId,
    task: &dyn Task,
) -> Result<Counts> {
    embed(config, embedder, &SampleShard::at(images, id), output, task)
}

fn embed(
    config: &Config,
    embedder: &dyn Embedder,
    shard: &SampleShard,
    output: &Path,
    task: &dyn Task,
) -> Result<Counts> {
    let marker = Marker::of_shard(output, shard.id);
    let mut described = serde_json::json!({"model": config.model, "weights": embedder.fingerprint()});
    if config.images_only {
        described["images_only"] = true.into();
    }
    let inputs = shard.inputs()?;
    if let Some(done) = Marker::done(&marker, &described, &inputs)? {
        task.advance(done.counts.rows);
        return Ok(done.counts);
    }
    let mut embedded = ShardEmbeddings { texts: (!config.images_only).then(Vec::new), ..ShardEmbeddings::default() };
    let further = ahead(config, embedder.batch(), shard, |batch| embedded.push(embedder, batch, task))?;
    embedded.finish(embedder, task)?;
    let files = embedded.write(embedder.dimensions(), &further, output, shard.id)?;
    Ok(Marker::finish(&marker, &described, inputs, embedded.counts, files)?.counts)
}

/// Calls `each` for every batch, while the next one is being read and decoded and another waits.
fn ahead(
    config: &Config,
    size: usize,
    shard: &SampleShard,
    mut each: impl FnMut(Batch) -> Result<()>,
) -> Result<Further> {
    let threads = rayon::ThreadPoolBuilder::new().build();
    let threads = threads.map_err(|error| Error::Invalid(format!("embed: start threads: {error}")))?;
    let (sender, receiver) = sync_channel(1);
    std::thread::scope(|scope| {
        let threads = &threads;
        let reading = scope.spawn(move || batches::send(shard, !config.images_only, size, threads, &sender));
        for batch in receiver {
            each(batch)?;
        }
        reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The embeddings of one shard: 10,000 rows of both kinds are 40 MB.
#[derive(Default)]
struct ShardEmbeddings {
    counts: Counts,
    /// Rows whose picture is embedded, and their caption not yet.
    waiting: Vec<(EmbeddingRow, usize, Option<Embedding>)>,
    rows: Vec<EmbeddingRow>,
    /// Where each row stands among the further columns.
    numbers: Vec<usize>,
    images: Vec<Embedding>,
    /// None where texts are not asked for.
    texts: Option<Vec<Embedding>>,
}

impl ShardEmbeddings {
    fn push(&mut self, embedder: &dyn Embedder, batch: Batch, task: &dyn Task) -> Result<()> {
        let Batch { rows, pixels, lost, absent } = batch;
        let images = each(&pixels, |part| embedder.images(part))?;
        self.waiting.extend(rows.into_iter().zip(images).map(|((row, number), image)| (row, number, image)));
        lost.into_iter().for_each(|(status, rows)| self.end(status, rows, task));
        task.advance(absent);
        let bytes: usize = self.waiting.iter().map(|(row, ..)| row.caption.len()).sum();
        if self.waiting.len() >= CAPTIONS || bytes >= CAPTION_BYTES { self.finish(embedder, task) } else { Ok(()) }
    }

    /// Embeds the captions of the rows that wait.
    fn finish(&mut self, embedder: &dyn Embedder, task: &dyn Task) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let captions: Vec<&str> = waiting.iter().map(|(row, ..)| row.caption.as_str()).collect();
        let mut texts = match &self.texts {
            Some(_) => each(&captions, |part| embedder.texts(part))?.into_iter(),
            None => Vec::new().into_iter(),
        };
        for (mut row, number, image) in waiting {
            match (image, texts.next().flatten(), &mut self.texts) {
                (Some(image), Some(text), Some(texts)) => {
                    row.similarity = Some(f64::from(image.similarity(&text) as f32));
                    self.images.push(image);
                    texts.push(text);
                }
                (Some(image), _, None) => self.images.push(image),
                _ => {
                    self.end(Status::Failed(Failure::Embedding), 1, task);
                    continue;
                }
            }
            self.rows.push(row);
            self.numbers.push(number);
            self.end(Status::Kept, 1, task);
        }
        Ok(())
    }

    fn end(&mut self, status: Status, rows: u64, task: &dyn Task) {
        self.counts.add_many(status, rows);
        (0..rows).for_each(|_| task.row(status, 0));
    }

    fn write(&mut self, dimensions: usize, further: &Further, output: &Path, id: ShardId) -> Result<Vec<FileEntry>> {
        let files = EmbeddingFiles::of(output, id);
        let matrix = |path: &Path, rows: &[Embedding]| {
            let mut writer = MatrixWriter::create(path, rows.len(), dimensions)?;
            rows.iter().try_for_each(|row| writer.push(row))?;
            writer.publish()
        };
        let mut written = vec![matrix(&files.image, &self.images)?.below("img_emb")];
        if let Some(texts) = &self.texts {
            written.push(matrix(&files.text, texts)?.below("text_emb"));
        }
        let wrong = |cause| Error::Write { path: files.metadata.clone(), cause };
        let further = further.of(&self.numbers).map_err(wrong)?;
        written.push(write_table_around(&files.metadata, &self.rows, COLUMNS_BEFORE, &further)?.below("metadata"));
        Ok(written)
    }
}

/// Embeds a batch at once, and one by one where the batch holds something without direction.
fn each<T>(items: &[T], embed: impl Fn(&[T]) -> Result<Vec<Embedding>>) -> Result<Vec<Option<Embedding>>> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
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
