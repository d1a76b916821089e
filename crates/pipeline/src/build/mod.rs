//! The whole road but for the index, shard by shard: while one shard is embedded, filtered and packed, the next one is
//! downloaded.

mod recipe;
mod report;
mod shards;

use std::path::Path;
use std::sync::mpsc::sync_channel;

use dataset::files;
use dataset::schema::Pair;
use dataset::table::TableReader;
use dataset::tfds::FileFormat;
use dataset::{Counts, Embedder, Error, Progress, Result, Run, ShardId, Stage, Summary, list_shards};
use fs_err as fs;

use crate::filter::Scorers;
use crate::{collect, pack};

pub use recipe::{Recipe, expand};
pub use report::{Report, Truth};
pub use shards::Shards;

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
    let ids = list_shards(&pairs, "parquet")?;
    let mut rows = 0;
    for id in &ids {
        rows += TableReader::<Pair>::open(&pairs.join(format!("{id}.parquet")))?.row_count();
    }
    let [downloaded, embedded, filtered, packed] = both(recipe, embedder, scorers, run, &ids, rows, progress)?;
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

/// Takes every shard from its pairs to its packages: while one is finished the next is downloaded. The counts of download,
/// embed, filter and pack.
fn both(
    recipe: &Recipe,
    embedder: &dyn Embedder,
    scorers: &Scorers,
    run: &Run,
    ids: &[ShardId],
    rows: u64,
    progress: &dyn Progress,
) -> Result<[Counts; 4]> {
    let shards = Shards::new(recipe, Some(embedder), scorers, run)?;
    let mut counts = <[Counts; 4]>::default();
    // One finished shard waits while another is being embedded: that is all the room a run needs.
    let (sender, receiver) = sync_channel::<Result<(ShardId, Counts)>>(1);
    std::thread::scope(|scope| {
        let shards = &shards;
        scope.spawn(move || {
            let task = progress.begin(Stage::Download, Some(rows));
            for &id in ids {
                let done = shards.download(id, &*task);
                let failed = done.is_err();
                if sender.send(done.map(|counts| (id, counts))).is_err() || failed {
                    return; // the other side has ended, or will on reading the error
                }
            }
        });
        let task = progress.begin(Stage::Embed, Some(rows));
        for downloaded in receiver {
            let (id, downloaded) = downloaded?;
            counts[0].merge(&downloaded);
            for (total, part) in counts[1..].iter_mut().zip(shards.finish(id)?) {
                total.merge(&part);
            }
            task.advance(downloaded.rows);
        }
        Ok(counts)
    })
}
