//! Single shards of a run, whoever says which and when: the run itself, or the tasks of an engine.

use dataset::texts::EmbeddedTexts;
use dataset::webdataset::tar_path;
use dataset::{Counts, Embedder, Marker, Result, Run, ShardId, Silent, Task, file_sha256, files};

use super::Recipe;
use crate::download::Downloader;
use crate::filter::{Filter, Scorers};
use crate::{embed, filter, pack};

/// What every shard needs, opened once. Two that do the same shard write the same.
#[expect(missing_debug_implementations, reason = "a model has nothing to show")]
pub struct Shards<'a> {
    recipe: &'a Recipe,
    embedder: &'a dyn Embedder,
    run: &'a Run,
    downloader: Downloader,
    filter: Filter,
    prompts: EmbeddedTexts,
    /// Whether the prompts lie beside the embeddings already.
    are_stored: bool,
}

impl<'a> Shards<'a> {
    /// Sets up the client and embeds the prompts, unless an earlier call has left them.
    pub fn new(recipe: &'a Recipe, embedder: &'a dyn Embedder, scorers: &Scorers, run: &'a Run) -> Result<Self> {
        let stored = filter::stored_prompts(&run.embeddings())?;
        let stored = stored.filter(|prompts| prompts.weights() == embedder.fingerprint());
        let are_stored = stored.is_some();
        let prompts = stored.map_or_else(|| filter::embed_prompts(embedder), Ok)?;
        let filter = Filter::new(&recipe.filter, &prompts, scorers)?;
        Ok(Self { recipe, embedder, run, downloader: Downloader::new(&recipe.download)?, filter, prompts, are_stored })
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

    /// Embeds one shard that is downloaded.
    pub fn embed(&self, id: ShardId) -> Result<Counts> {
        embed::shard(&self.recipe.embed, self.embedder, &self.run.images(), &self.run.embeddings(), id, &Silent)
    }

    /// Filters one shard that is embedded.
    pub fn filter(&self, id: ShardId) -> Result<Counts> {
        self.filter.shard(&self.run.embeddings(), &self.run.curated(), id, &Silent)
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

    /// Leaves the prompts beside the embeddings for the next time.
    pub fn leave_prompts(&self) -> Result<()> {
        if self.are_stored { Ok(()) } else { filter::store_prompts(&self.prompts, &self.run.embeddings()) }
    }
}
