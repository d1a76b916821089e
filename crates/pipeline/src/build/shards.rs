//! Single shards of a run, whoever says which and when: the run itself, or the tasks of an engine.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use dataset::texts::EmbeddedTexts;
use dataset::webdataset::tar_path;
use dataset::{Counts, Embedder, Error, Marker, Result, Run, ShardId, Silent, Task, file_sha256, files};

use super::Recipe;
use crate::download::Downloader;
use crate::filter::{Filter, Scorers};
use crate::{embed, filter, pack};

/// What every shard needs, opened once. Two that do the same shard write the same.
#[expect(missing_debug_implementations, reason = "a model has nothing to show")]
pub struct Shards<'a> {
    recipe: &'a Recipe,
    embedder: Option<&'a dyn Embedder>,
    scorers: &'a Scorers,
    run: &'a Run,
    downloader: Downloader,
    judge: OnceLock<Judge>,
}

/// What verdicts need.
struct Judge {
    filter: Filter,
    prompts: EmbeddedTexts,
    /// Whether the prompts lie beside the embeddings already.
    are_stored: AtomicBool,
}

impl<'a> Shards<'a> {
    /// Sets up the client and embeds the prompts, unless an earlier call has left them. Without an embedder nothing is embedded:
    /// [`Self::filter`] needs the prompts then that [`Self::embed`] has left.
    pub fn new(
        recipe: &'a Recipe,
        embedder: Option<&'a dyn Embedder>,
        scorers: &'a Scorers,
        run: &'a Run,
    ) -> Result<Self> {
        let downloader = Downloader::new(&recipe.download)?;
        let shards = Self { recipe, embedder, scorers, run, downloader, judge: OnceLock::new() };
        if embedder.is_some() {
            shards.judge()?;
        }
        Ok(shards)
    }

    fn embedder(&self) -> Result<&'a dyn Embedder> {
        self.embedder.ok_or_else(|| Error::Invalid("build: no model is open".into()))
    }

    fn judge(&self) -> Result<&Judge> {
        if let Some(judge) = self.judge.get() {
            return Ok(judge);
        }
        let stored = filter::stored_prompts(&self.run.embeddings())?;
        let same = |prompts: &EmbeddedTexts| self.embedder.is_none_or(|model| prompts.weights() == model.fingerprint());
        let stored = stored.filter(same);
        let are_stored = stored.is_some().into();
        let prompts = stored.map_or_else(|| filter::embed_prompts(self.embedder()?), Ok)?;
        let filter = Filter::new(&self.recipe.filter, &prompts, self.scorers)?;
        Ok(self.judge.get_or_init(|| Judge { filter, prompts, are_stored }))
    }

    /// Downloads the pairs of a shard. One that is packed is not downloaded again, although its pictures may be gone.
    pub fn download(&self, id: ShardId, task: &dyn Task) -> Result<Counts> {
        match self.packed(id)? {
            Some(counts) => {
                task.advance(counts.rows);
                Ok(counts)
            }
            None => self.downloader.shard(&self.run.pairs(), &self.run.images(), id, task),
        }
    }

    /// What was counted when this shard was downloaded, if all its later stages are done: its tar may be gone.
    fn packed(&self, id: ShardId) -> Result<Option<Counts>> {
        let marker = Marker::of_shard(self.run.packages().folder(), id);
        let Some(packages) = Marker::read(&marker)? else { return Ok(None) };
        let curated = self.run.curated().join(format!("{id}.parquet"));
        let sound =
            packages.is_whole(&marker)? && files::exists(&curated)? && packages.inputs == [file_sha256(&curated)?];
        let pairs = file_sha256(&self.run.pairs().join(format!("{id}.parquet")))?;
        let images = Marker::read(&Marker::of_shard(&self.run.images(), id))?;
        Ok(images.filter(|images| sound && images.inputs == [pairs]).map(|images| images.counts))
    }

    /// Embeds one shard that is downloaded, and leaves the prompts beside the embeddings: who filters them needs no model.
    pub fn embed(&self, id: ShardId) -> Result<Counts> {
        let (embedder, judge, embeddings) = (self.embedder()?, self.judge()?, self.run.embeddings());
        if !judge.are_stored.load(Ordering::Relaxed) {
            filter::store_prompts(&judge.prompts, &embeddings)?;
            judge.are_stored.store(true, Ordering::Relaxed);
        }
        embed::shard(&self.recipe.embed, embedder, &self.run.images(), &embeddings, id, &Silent)
    }

    /// Filters one shard that is embedded.
    pub fn filter(&self, id: ShardId) -> Result<Counts> {
        self.judge()?.filter.shard(&self.run.embeddings(), &self.run.curated(), id, &Silent)
    }

    /// Packs one shard that is filtered; then its pictures go, unless the recipe keeps them.
    pub fn pack(&self, id: ShardId) -> Result<Counts> {
        let packed = pack::pack_shard(self.run, &self.run.packages(), id, &pack::Format::OF_RUN, &Silent)?;
        let tar = tar_path(&self.run.images(), id);
        if !self.recipe.keep_images && files::exists(&tar)? {
            files::remove_file(tar)?;
        }
        Ok(packed)
    }

    /// Embeds, filters and packs one shard that is downloaded.
    pub fn finish(&self, id: ShardId) -> Result<[Counts; 3]> {
        Ok([self.embed(id)?, self.filter(id)?, self.pack(id)?])
    }
}
