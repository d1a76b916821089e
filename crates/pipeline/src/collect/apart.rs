//! The parts of this stage for engines that deduplicate on many machines. What comes out has the same bytes as [`super::run`]
//! makes of the same archives. Pairs go from task to task as [`Transit`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dataset::carried::RecordBatch;
use dataset::spill::{SpillWriter, Transit, create_table};
use dataset::{Counts, Error, FileEntry, Progress, Reason, Result, ShardId, Status};
use serde::{Deserialize, Serialize};

use super::archive::{self, Ledger, SPILL_BYTES_MAX};
use super::rules::{Judge, Lists};
use super::{Config, finish};
use crate::remote;

/// Rows of a batch: all that a task has may be more than one can hold.
const BATCH_ROWS: usize = 8192;

/// What became of an archive before anything was deduplicated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Read {
    ledger: Ledger,
    whole: bool,
}

/// Collects the archive of this number: its pairs for each of so many equal ranges of uids. A damaged archive costs what is damaged.
pub fn archive(
    config: &Config,
    path: &Path,
    number: u32,
    ranges: u32,
    progress: &dyn Progress,
) -> Result<(Vec<Vec<u8>>, Read)> {
    config.check()?;
    if !config.against.is_empty() {
        return Err(Error::Invalid(
            "collect: against is for the program, engines do not leave out the pairs of earlier runs".into(),
        ));
    }
    let lists = Lists::read(config)?;
    let judge = Judge { config, lists: &lists };
    let ranges = ranges.max(1);
    let mut carried = vec![Vec::new(); ranges as usize];
    let Some(reader) = archive::open(path, progress) else {
        return Ok((carried, Read { ledger: Ledger::unreadable(path), whole: false }));
    };
    let name = super::name(path);
    let mut pairs = SpillWriter::default();
    let mut carry = |pairs: &mut SpillWriter| {
        for (carried, file) in carried.iter_mut().zip(pairs.split(ranges).0) {
            if !file.is_empty() {
                carried.extend(Transit::section(number, &name, &file));
            }
        }
    };
    let (ledger, whole) = archive::read(&judge, reader, path, progress, &|_| {}, &mut |uid, pair| {
        pairs.push(uid, pair);
        if pairs.bytes() > SPILL_BYTES_MAX {
            carry(&mut pairs);
        }
        Ok(())
    })?;
    carry(&mut pairs);
    Ok((carried, Read { ledger, whole }))
}

/// Pairs of a range of uids, each once.
#[derive(Debug)]
pub struct Unique {
    /// The pairs.
    pub carried: Vec<u8>,
    /// How many each archive has of them.
    pub stayed: BTreeMap<u32, u64>,
}

/// Deduplicates all pairs of a range of uids: of equal ones that of the first archive stays, there the first.
pub fn deduplicate<'a>(carried: impl IntoIterator<Item = &'a [u8]>) -> Result<Unique> {
    let transit = Transit::open(carried)?;
    let mut entries = transit.entries().to_vec();
    entries.dedup_by_key(|entry| entry.uid);
    let mut stayed = BTreeMap::new();
    for entry in &entries {
        *stayed.entry(entry.spill).or_default() += 1;
    }
    Ok(Unique { carried: transit.put(&entries), stayed })
}

/// Cuts unique pairs of a range where shards begin. `first` is the place of its first pair among all.
pub fn cut(carried: &[u8], first: u64, shard_rows: u32) -> Result<Vec<(ShardId, Vec<u8>)>> {
    let transit = Transit::open([carried])?;
    let (mut rest, mut place) = (transit.entries(), first);
    let mut shards = Vec::new();
    while !rest.is_empty() {
        let (shard, passed) = (place / u64::from(shard_rows), place % u64::from(shard_rows));
        let rows = rest.len().min((u64::from(shard_rows) - passed) as usize);
        let (part, behind) = rest.split_at(rows);
        let id = ShardId(shard.try_into().map_err(|_| Error::Invalid("collect: too many shards".into()))?);
        shards.push((id, transit.put(part)));
        (rest, place) = (behind, place + rows as u64);
    }
    Ok(shards)
}

/// Carried pairs as rows, with the columns of `pairs/`, in the order of their uids.
pub fn rows<'a>(carried: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<RecordBatch>> {
    let transit = Transit::open(carried)?;
    let batches: Result<Vec<_>> = transit.entries().chunks(BATCH_ROWS).map(|entries| transit.rows(entries)).collect();
    Ok(batches?.concat())
}

/// Writes one shard of unique pairs, in the order of their uids.
pub fn write_shard<'a>(output: &Path, id: ShardId, carried: impl IntoIterator<Item = &'a [u8]>) -> Result<FileEntry> {
    let mut table = create_table(&output.join(format!("{id}.parquet")))?;
    let transit = Transit::open(carried)?;
    transit.rows(transit.entries())?.iter().try_for_each(|batch| table.push_batch(batch))?;
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
