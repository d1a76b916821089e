//! The parts of this stage for engines that deduplicate on many machines. What comes out has the same bytes as [`super::run`]
//! makes of the same archives, if of equal pairs the one of the earliest archive stays, there the first.

use std::path::{Path, PathBuf};

use dataset::carried::RecordBatch;
use dataset::spill::{self, Collected, PairView, create_table};
use dataset::{Counts, Error, FileEntry, Progress, Reason, Result, ShardId, Status};
use serde::{Deserialize, Serialize};

use super::archive::{self, Ledger};
use super::rules::{Judge, Lists};
use super::{Config, finish};
use crate::remote;

/// Pairs of a batch.
const BATCH_ROWS: usize = 8192;

/// What became of an archive before anything was deduplicated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Read {
    ledger: Ledger,
    whole: bool,
}

/// Gives the pairs of one archive in their order, with the columns of `pairs/`. A damaged archive costs what is damaged.
pub fn archive(
    config: &Config,
    path: &Path,
    progress: &dyn Progress,
    each: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<Read> {
    config.check()?;
    let lists = Lists::read(config)?;
    let judge = Judge { config, lists: &lists };
    let Some(reader) = archive::open(path, progress) else {
        return Ok(Read { ledger: Ledger::unreadable(path), whole: false });
    };
    let name = super::name(path);
    let mut batch = Vec::<(u128, Vec<u8>)>::new();
    let mut give = |batch: &mut Vec<(u128, Vec<u8>)>| {
        let pairs = batch
            .iter()
            .map(|(uid, bytes)| Ok(Collected { uid: *uid, archive: &name, pair: PairView::from_bytes(bytes)? }));
        let rows = spill::to_batch(&pairs.collect::<Result<Vec<_>>>()?);
        batch.clear();
        each(rows)
    };
    let (ledger, whole) = archive::read(&judge, reader, path, progress, &|_| {}, &mut |uid, pair| {
        batch.push((uid, pair.to_bytes()));
        if batch.len() == BATCH_ROWS { give(&mut batch) } else { Ok(()) }
    })?;
    if !batch.is_empty() {
        give(&mut batch)?;
    }
    Ok(Read { ledger, whole })
}

/// No pairs, with the columns of `pairs/`.
pub fn no_pairs() -> RecordBatch {
    spill::to_batch(&[])
}

/// Writes one shard of unique pairs, in the order of their uids.
pub fn write_shard(output: &Path, id: ShardId, pairs: &RecordBatch) -> Result<FileEntry> {
    let mut table = create_table(&output.join(format!("{id}.parquet")))?;
    table.push_batch(&spill::aligned(pairs).map_err(Error::Invalid)?)?;
    table.publish()
}

/// Ends the stage: `archives` are those that were read, in the order of their paths, each with the pairs of it that stayed, and
/// `files` the shards that were written, in order.
pub fn finish_stage(
    config: &Config,
    archives: Vec<(PathBuf, Read, u64)>,
    output: &Path,
    files: Vec<FileEntry>,
) -> Result<Counts> {
    // Of one that was opened it is told what was read.
    if archives.iter().all(|(_, read, _)| read.ledger.counts.read.is_empty()) {
        return Err(Error::Invalid(format!("collect: none of {} archives can be read", archives.len())));
    }
    let inputs = archives.iter().map(|(path, ..)| path).chain(config.lists()).map(|path| remote::name(path)).collect();
    let mut ledgers = Vec::new();
    for (path, Read { mut ledger, whole }, stayed) in archives {
        let lost = ledger.counts.kept.checked_sub(stayed).ok_or_else(|| {
            Error::Invalid(format!("{}: {stayed} pairs stayed, but it has {}", path.display(), ledger.counts.kept))
        })?;
        ledger.counts.turn_kept(Status::Dropped(Reason::Duplicate), lost);
        ledgers.push((ledger, whole));
    }
    dataset::remove_shards(output, "parquet", ShardId(files.len() as u32))?;
    finish(output, &serde_json::json!(config), inputs, ledgers, files)
}
