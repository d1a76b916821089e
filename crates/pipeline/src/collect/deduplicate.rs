//! Exact deduplication at any size: sorted files are read side by side, one range of uids at a time.
//!
//! uids are hashes, so equal ranges of them hold about equally many pairs: memory depends on the width of a range, never
//! on the number of pairs. What comes out is in the order of the uids, which spreads the hosts over the shards.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use dataset::spill::{Bucket, Collected, Entry, Spill, create_table, to_batches};
use dataset::{FileEntry, Result, ShardId, remove_shards, remove_temporary};

/// Bytes of pairs that are in memory as one range.
const RANGE_BYTES: u64 = 32 << 20;
/// More ranges mean more, and shorter, reads of every file: with more pairs than so many ranges hold, ranges grow.
const RANGES_MAX: u64 = 16_384;

/// A file of pairs, and whose it is.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Number of the archive; none if the pairs are those of an earlier run, which are left out.
    pub(super) archive: Option<usize>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Unique {
    pub(super) files: Vec<FileEntry>,
    /// Pairs of each archive that stand before in it, or in an earlier one.
    pub(super) duplicates: Vec<u64>,
    /// Of other pairs of each archive, those that an earlier run has.
    pub(super) collected_before: Vec<u64>,
}

/// Rows of one shard, which may lie in several ranges.
struct Shard {
    id: ShardId,
    parts: Vec<(Arc<Bucket>, Vec<Entry>)>,
}

/// Writes each pair once into shards below `output`: of equal ones that of the first source.
pub(super) fn deduplicate(sources: &[Source], archives: &[String], output: &Path, shard_rows: u32) -> Result<Unique> {
    remove_temporary(output)?;
    let mut spills = sources.iter().map(|source| Spill::open(&source.path)).collect::<Result<Vec<_>>>()?;
    let bytes: u64 = spills.iter().map(Spill::length).sum();
    let ranges = bytes.div_ceil(RANGE_BYTES).clamp(1, RANGES_MAX);
    let mut unique =
        Unique { files: Vec::new(), duplicates: vec![0; archives.len()], collected_before: vec![0; archives.len()] };
    let written = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (sender, receiver) = sync_channel::<Shard>(threads);
    let receiver = Mutex::new(receiver);
    thread::scope(|scope| -> Result<()> {
        for _ in 0..threads {
            scope.spawn(|| write_shards(&receiver, sources, archives, output, &written));
        }
        let (mut shard, mut rows) = (Shard { id: ShardId(0), parts: Vec::new() }, 0);
        // That nobody waits for shards any more cannot be before the end; what could not be written is told below.
        let send = |shard| drop(sender.send(shard));
        for range in 1..=ranges {
            let bound = (range < ranges).then(|| u128::MAX / u128::from(ranges) * u128::from(range));
            let mut bucket = Bucket::default();
            for (number, spill) in (0..).zip(&mut spills) {
                // A little more than its share, so that one read is enough.
                let share = spill.length() / ranges;
                bucket.take(number, spill, bound, (share + share / 8 + (16 << 10)) as usize)?;
            }
            bucket.sort();
            let bucket = Arc::new(bucket);
            let mut winners = unique.winners(bucket.entries(), sources).into_iter().peekable();
            while winners.peek().is_some() {
                let part: Vec<_> = winners.by_ref().take((shard_rows - rows) as usize).collect();
                rows += part.len() as u32;
                shard.parts.push((bucket.clone(), part));
                if rows == shard_rows {
                    let next = Shard { id: ShardId(shard.id.0 + 1), parts: Vec::new() };
                    send(std::mem::replace(&mut shard, next));
                    rows = 0;
                }
            }
        }
        // No pair at all is a result, too, and later stages look for a shard.
        if rows > 0 || shard.id == ShardId(0) {
            send(shard);
        }
        drop(sender);
        Ok(())
    })?;
    let mut written = written.into_inner().expect("no thread panics with the lock");
    written.sort_by_key(|(id, _): &(ShardId, _)| *id);
    unique.files = written.into_iter().map(|(_, file)| file).collect::<Result<_>>()?;
    // Shards of a call that had other archives would look like more of these.
    remove_shards(output, "parquet", ShardId(unique.files.len() as u32))?;
    Ok(unique)
}

impl Unique {
    /// The first of equal pairs, unless an earlier run has it; the others are counted.
    fn winners(&mut self, entries: &[Entry], sources: &[Source]) -> Vec<Entry> {
        let owner = |entry: &Entry| sources[entry.spill as usize].archive;
        let mut winners = Vec::with_capacity(entries.len());
        for equal in entries.chunk_by(|a, b| a.uid == b.uid) {
            let before = owner(&equal[0]).is_none();
            if !before {
                winners.push(equal[0]);
            }
            // What is counted is the same however many files the pairs of an archive are in.
            for (place, of_archive) in equal.chunk_by(|a, b| owner(a) == owner(b)).enumerate() {
                let Some(archive) = owner(&of_archive[0]) else { continue };
                let again = of_archive.len() as u64 - 1;
                self.duplicates[archive] += again + u64::from(!before && place > 0);
                self.collected_before[archive] += u64::from(before);
            }
        }
        winners
    }
}

fn write_shards(
    shards: &Mutex<Receiver<Shard>>,
    sources: &[Source],
    archives: &[String],
    output: &Path,
    written: &Mutex<Vec<(ShardId, Result<FileEntry>)>>,
) {
    loop {
        let next = shards.lock().map(|shards| shards.recv());
        let Ok(Ok(shard)) = next else { return };
        let file = write_shard(&shard, sources, archives, output);
        written.lock().expect("no thread panics with the lock").push((shard.id, file));
    }
}

fn write_shard(shard: &Shard, sources: &[Source], archives: &[String], output: &Path) -> Result<FileEntry> {
    let mut rows = Vec::with_capacity(shard.parts.iter().map(|(_, entries)| entries.len()).sum());
    for (bucket, entries) in &shard.parts {
        for entry in entries {
            let archive = sources[entry.spill as usize].archive.map_or("", |archive| archives[archive].as_str());
            rows.push(Collected { uid: entry.uid, archive, pair: bucket.get(entry)? });
        }
    }
    let mut writer = create_table(&output.join(format!("{}.parquet", shard.id)))?;
    to_batches(&rows).iter().try_for_each(|batch| writer.push_batch(batch))?;
    writer.publish()
}
