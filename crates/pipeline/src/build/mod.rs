//! The whole road but for the index, shard by shard: while one shard is embedded, filtered and packed, the next one is
//! downloaded.

mod recipe;
mod report;

use std::path::Path;
use std::sync::mpsc::sync_channel;

use dataset::files;
use dataset::schema::Pair;
use dataset::table::TableReader;
use dataset::tfds::FileFormat;
use dataset::webdataset::tar_path;
use dataset::{
    Counts, Embedder, Error, Marker, Progress, Result, Run, ShardId, Silent, Stage, Summary, file_sha256, list_shards,
};
use fs_err as fs;

use crate::download::Downloader;
use crate::filter::{Filter, Scorers};
use crate::{collect, embed, filter, pack};

pub use recipe::{Recipe, expand};
pub use report::{Report, Truth};

/// Builds a run: `folder` is where the recipe's relative paths start. Whatever an earlier, interrupted call has done is
/// kept. The summaries come in the order of the stages. `scorers` are the heads of the recipe.
pub fn run(
    recipe: &Recipe,
    folder: &Path,
    embedder: &dyn Embedder,
    scorers: &Scorers,
    run: &Run,
    progress: &dyn Progress,
) -> Result<Vec<Summary>> {
    files::create_dir_all(run.folder())?;
    let _lock = lock(run)?;
    recipe.claim(run)?;
    let pairs = run.pairs();
    let collected = collect::run(&recipe.collect, &recipe.archives(folder)?, &pairs, progress)?;
    let shards = list_shards(&pairs, "parquet")?;
    let mut rows = 0;
    for id in &shards {
        rows += TableReader::<Pair>::open(&pairs.join(format!("{id}.parquet")))?.row_count();
    }
    let work = Work { recipe, embedder, scorers, run, progress };
    let [downloaded, embedded, filtered, packed] = work.shards(&shards, rows)?;
    pack::pack_whole(&run.packages(), &pack::Format::OF_RUN, &[FileFormat::default()], progress)?;
    let summary = |stage, counts| Summary { stage, counts };
    Ok(vec![
        collected,
        summary(Stage::Download, downloaded),
        summary(Stage::Embed, embedded),
        summary(Stage::Filter, filtered),
        summary(Stage::Pack, packed),
    ])
}

/// Keeps a second process out of a run folder of this machine for as long as the file is open.
fn lock(run: &Run) -> Result<Option<std::fs::File>> {
    if files::is_remote(run.folder()) {
        return Ok(None); // two processes write the same, and every marker only once
    }
    let path = run.folder().join(".lock");
    let file = fs::File::create(&path)?.into_file();
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::Invalid(format!("{}: another process is building here", run.folder().display())))
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

struct Work<'a> {
    recipe: &'a Recipe,
    embedder: &'a dyn Embedder,
    scorers: &'a Scorers,
    run: &'a Run,
    progress: &'a dyn Progress,
}

impl Work<'_> {
    /// Takes every shard from its pairs to its packages, and gives the counts of download, embed, filter and pack.
    fn shards(&self, shards: &[ShardId], rows: u64) -> Result<[Counts; 4]> {
        let (pairs, images) = (self.run.pairs(), self.run.images());
        let downloader = Downloader::new(&self.recipe.download)?;
        let stored = filter::stored_prompts(&self.run.embeddings())?;
        let stored = stored.filter(|prompts| prompts.weights() == self.embedder.fingerprint());
        let is_stored = stored.is_some();
        let prompts = stored.map_or_else(|| filter::embed_prompts(self.embedder), Ok)?;
        let filter = Filter::new(&self.recipe.filter, &prompts, self.scorers)?;
        let mut counts = <[Counts; 4]>::default();
        // One finished shard waits while another is being embedded: that is all the room a run needs.
        let (sender, receiver) = sync_channel::<Result<(ShardId, Counts)>>(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let task = self.progress.begin(Stage::Download, Some(rows));
                for &id in shards {
                    let done = self.packed(id).and_then(|packed| match packed {
                        Some(counts) => {
                            task.advance(counts.rows);
                            Ok(counts)
                        }
                        None => downloader.shard(&pairs, &images, id, &*task),
                    });
                    let failed = done.is_err();
                    if sender.send(done.map(|counts| (id, counts))).is_err() || failed {
                        return; // the other side has ended, or will on reading the error
                    }
                }
            });
            let task = self.progress.begin(Stage::Embed, Some(rows));
            for downloaded in receiver {
                let (id, downloaded) = downloaded?;
                counts[0].merge(&downloaded);
                for (total, part) in counts[1..].iter_mut().zip(self.finish(id, &filter)?) {
                    total.merge(&part);
                }
                task.advance(downloaded.rows);
            }
            if !is_stored && !shards.is_empty() {
                filter::store_prompts(&prompts, &self.run.embeddings())?;
            }
            Ok(counts)
        })
    }

    /// What was counted when this shard was downloaded, if all its later stages are done: its tar may be gone.
    fn packed(&self, id: ShardId) -> Result<Option<Counts>> {
        let marker = Marker::of_shard(self.run.packages().folder(), id);
        let Some(packages) = Marker::read(&marker)? else { return Ok(None) };
        let curated = self.run.curated().join(format!("{id}.parquet"));
        let sound = packages.damaged(&marker).is_none()
            && files::exists(&curated)
            && packages.inputs == [file_sha256(&curated)?];
        let pairs = file_sha256(&self.run.pairs().join(format!("{id}.parquet")))?;
        let images = Marker::read(&Marker::of_shard(&self.run.images(), id))?;
        Ok(images.filter(|images| sound && images.inputs == [pairs]).map(|images| images.counts))
    }

    /// Embeds, filters and packs one shard that is downloaded.
    fn finish(&self, id: ShardId, filter: &Filter) -> Result<[Counts; 3]> {
        let (images, embeddings) = (self.run.images(), self.run.embeddings());
        let embedded = embed::shard(&self.recipe.embed, self.embedder, &images, &embeddings, id, &Silent)?;
        let filtered = filter.shard(&embeddings, &self.run.curated(), id, &Silent)?;
        let packed = pack::pack_shard(self.run, &self.run.packages(), id, &pack::Format::OF_RUN, &Silent)?;
        let tar = tar_path(&images, id);
        if !self.recipe.keep_images && files::exists(&tar) {
            files::remove_file(tar)?;
        }
        Ok([embedded, filtered, packed])
    }
}
