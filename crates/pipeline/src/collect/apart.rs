//! The parts of this stage for engines that deduplicate on many machines. What comes out has the same bytes as [`super::run`]
//! makes of the same archives. Pairs go from task to task as [`Parcel`]s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dataset::carried::RecordBatch;
use dataset::spill::{Entry, Packer, PairView, Parcel, SpillWriter, Transit, Uids, Whose, create_table};
use dataset::{Counts, Error, FileEntry, Progress, Reason, Result, ShardId, Status};
use serde::{Deserialize, Serialize};

use super::archive::{self, Ledger, SPILL_BYTES_MAX};
use super::rules::{Judge, Lists};
use super::{Config, finish};
use crate::remote;

/// Memory that pairs take before they are packed: what a processor's cache holds, but enough of each range to be packed well.
const WAITING_BYTES_MIN: usize = 4 << 20;
const WAITING_BYTES_OF_RANGE: usize = 32 << 10;
/// A parcel that has as much is not added to any more: it would have to be copied each time it grows.
const PARCEL_BYTES: usize = 256 << 10;

/// Rows of a batch: all that a task has may be more than one can hold.
const BATCH_ROWS: usize = 8192;

/// What became of an archive before anything was deduplicated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Read {
    ledger: Ledger,
    whole: bool,
}

/// Parcels, each with the range of uids of its pairs. A range may have several.
pub type Ranged = Vec<(u32, Parcel<Vec<u8>>)>;

/// What a task puts into ranges of uids.
struct Ranges {
    archive: Option<u32>,
    name: String,
    part: u32,
    waiting: SpillWriter,
    waiting_bytes_max: usize,
    packer: Packer,
    /// One for each range.
    begun: Vec<Parcel<Vec<u8>>>,
    full: Ranged,
}

impl Ranges {
    fn new(archive: Option<u32>, name: String, ranges: u32) -> Self {
        Self {
            archive,
            name,
            part: 0,
            waiting: SpillWriter::default(),
            waiting_bytes_max: (ranges as usize * WAITING_BYTES_OF_RANGE).clamp(WAITING_BYTES_MIN, SPILL_BYTES_MAX),
            packer: Packer::default(),
            begun: vec![Parcel::default(); ranges.max(1) as usize],
            full: Vec::new(),
        }
    }

    fn push(&mut self, uid: u128, pair: &PairView<'_>) {
        self.waiting.push(uid, pair);
        if self.waiting.bytes() > self.waiting_bytes_max {
            self.put();
            self.take(PARCEL_BYTES);
        }
    }

    fn put(&mut self) {
        let whose = Whose { archive: self.archive, name: &self.name, part: self.part };
        self.waiting.put(&mut self.packer, whose, &mut self.begun);
        self.part += 1;
    }

    /// Takes the parcels that have so many bytes.
    fn take(&mut self, bytes: usize) {
        let begun = (0..).zip(&mut self.begun).filter(|(_, parcel)| parcel.bytes() >= bytes);
        self.full.extend(begun.map(|(range, parcel)| (range, std::mem::take(parcel))));
    }

    fn end(mut self) -> Ranged {
        self.put();
        self.take(1);
        self.full
    }
}

/// The tables of earlier runs whose pairs are left out, in order.
pub fn earlier_tables(config: &Config) -> Result<Vec<PathBuf>> {
    super::earlier_pairs(&config.against)
}

/// The uids of such tables, in so many equal ranges of uids.
pub fn earlier(tables: &[PathBuf], ranges: u32) -> Result<Ranged> {
    let mut found = Ranges::new(None, String::new(), ranges);
    for table in tables {
        archive::uids(table, &mut |uid| {
            found.push(uid, &PairView::default());
            Ok(())
        })?;
    }
    Ok(found.end())
}

/// Collects the archive of this number: its pairs in so many equal ranges of uids. A damaged archive costs what is damaged.
pub fn archive(
    config: &Config,
    path: &Path,
    number: u32,
    ranges: u32,
    progress: &dyn Progress,
) -> Result<(Ranged, Read)> {
    config.check()?;
    let lists = Lists::read(config)?;
    let judge = Judge { config, lists: &lists };
    let mut found = Ranges::new(Some(number), super::name(path), ranges);
    let Some(reader) = archive::open(path, progress) else {
        return Ok((found.end(), Read { ledger: Ledger::unreadable(path), whole: false }));
    };
    let (ledger, whole) = archive::read(&judge, reader, path, progress, &|_| {}, &mut |uid, pair| {
        found.push(uid, pair);
        Ok(())
    })?;
    Ok((found.end(), Read { ledger, whole }))
}

/// What became of an archive's pairs that are equal to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Pairs that stayed.
    pub stayed: u64,
    /// Pairs that an earlier run has.
    pub before: u64,
}

/// Of all uids of a range: what became of the pairs of each archive, by its number.
pub fn ends(uids: &[&[u8]]) -> Result<BTreeMap<u32, Ends>> {
    let mut ends = BTreeMap::<u32, Ends>::new();
    for mut equal in Uids::open(uids)?.equal() {
        match equal.next().flatten() {
            Some(first) => ends.entry(first).or_default().stayed += 1,
            // That an archive has it again does not depend on an earlier run.
            None => {
                let mut last = None;
                for archive in equal.flatten().filter(|&archive| last.replace(archive) != Some(archive)) {
                    ends.entry(archive).or_default().before += 1;
                }
            }
        }
    }
    Ok(ends)
}

/// Each pair of a range of uids once: of equal ones that of the first archive, there the first; none if an earlier run has it.
pub fn deduplicate(parcels: &[Parcel<&[u8]>]) -> Result<Parcel<Vec<u8>>> {
    let mut transit = Transit::open(parcels)?;
    transit.deduplicate();
    Ok(transit.put(transit.entries()))
}

/// What a range of uids has of a shard.
#[derive(Debug)]
pub enum Cut {
    /// All of it, written.
    Whole(FileEntry),
    /// Some, which ranges beside it have the rest of.
    Part(Parcel<Vec<u8>>),
}

/// Deduplicates all pairs of a range of uids, cuts them where shards begin, and writes those that are whole. `first` is the place of
/// the range's first pair among all.
pub fn cut(output: &Path, parcels: &[Parcel<&[u8]>], first: u64, shard_rows: u32) -> Result<Vec<(ShardId, Cut)>> {
    let mut transit = Transit::open(parcels)?;
    transit.deduplicate();
    let (mut rest, mut place) = (transit.entries(), first);
    let mut shards = Vec::new();
    while !rest.is_empty() {
        let (shard, passed) = (place / u64::from(shard_rows), place % u64::from(shard_rows));
        let rows = rest.len().min((u64::from(shard_rows) - passed) as usize);
        let (part, behind) = rest.split_at(rows);
        let id = ShardId(shard.try_into().map_err(|_| Error::Invalid("collect: too many shards".into()))?);
        let whole = rows as u64 == u64::from(shard_rows);
        shards.push((
            id,
            if whole { Cut::Whole(write(output, id, &transit, part)?) } else { Cut::Part(transit.put(part)) },
        ));
        (rest, place) = (behind, place + rows as u64);
    }
    Ok(shards)
}

/// Writes one shard of which these are all parts, in the order of their uids.
pub fn write_shard(output: &Path, id: ShardId, parts: &[Parcel<&[u8]>]) -> Result<FileEntry> {
    let transit = Transit::open(parts)?;
    write(output, id, &transit, transit.entries())
}

fn write(output: &Path, id: ShardId, transit: &Transit<'_>, entries: &[Entry]) -> Result<FileEntry> {
    let mut table = create_table(&output.join(format!("{id}.parquet")))?;
    transit.rows(entries)?.iter().try_for_each(|batch| table.push_batch(batch))?;
    table.publish()
}

/// Carried pairs as rows, with the columns of `pairs/`, in the order of their uids; of earlier runs' nothing is known.
pub fn rows(parcels: &[Parcel<&[u8]>]) -> Result<Vec<RecordBatch>> {
    let transit = Transit::open(parcels)?;
    let known: Vec<_> = transit.entries().iter().filter(|entry| transit.archive(entry).is_some()).copied().collect();
    let batches: Result<Vec<_>> = known.chunks(BATCH_ROWS).map(|entries| transit.rows(entries)).collect();
    Ok(batches?.concat())
}

/// Ends the stage: `archives` are those that were read, in the order of their paths, each with what became of its pairs, and `files`
/// the shards that were written, in order.
pub fn finish_stage(
    config: &Config,
    archives: Vec<(PathBuf, Read, Ends)>,
    output: &Path,
    files: Vec<FileEntry>,
) -> Result<Counts> {
    // Of one that was opened it is told what was read.
    if archives.iter().all(|(_, read, _)| read.ledger.counts.read.is_empty()) {
        return Err(Error::Invalid(format!("collect: none of {} archives can be read", archives.len())));
    }
    let earlier = earlier_tables(config)?;
    let inputs = archives.iter().map(|(path, ..)| path).chain(config.lists()).chain(&earlier);
    let inputs = inputs.map(|path| remote::name(path)).collect();
    let mut ledgers = Vec::new();
    for (path, Read { mut ledger, whole }, Ends { stayed, before }) in archives {
        let lost =
            stayed.checked_add(before).and_then(|known| ledger.counts.kept.checked_sub(known)).ok_or_else(|| {
                let kept = ledger.counts.kept;
                Error::Invalid(format!(
                    "{}: {stayed} pairs stayed and {before} were known, but it has {kept}",
                    path.display()
                ))
            })?;
        ledger.counts.turn_kept(Status::Dropped(Reason::Duplicate), lost);
        ledger.counts.turn_kept(Status::Dropped(Reason::CollectedBefore), before);
        ledgers.push((ledger, whole));
    }
    dataset::remove_shards(output, "parquet", ShardId(files.len() as u32))?;
    finish(output, &serde_json::json!(config), inputs, ledgers, files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_pairs_of_an_archive_come_in_several_parcels_and_each_of_them_once() {
        let (count, mut found) = (60_000u32, Ranges::new(Some(0), "0.wat.gz".into(), 2));
        for number in 0..count {
            // Digests, so that neither uids nor texts are alike.
            let [caption, url] =
                [0, 1].map(|of| format!("{:032x}", dataset::spill::uid(&number.to_string(), &of.to_string())));
            let pair = PairView { caption: &caption.repeat(2), url: &url, ..PairView::default() };
            found.push(dataset::spill::uid(&caption, &url), &pair);
        }
        let found = found.end();
        for range in 0..2 {
            assert!(found.iter().filter(|(of, _)| *of == range).count() > 1, "range {range}");
        }
        let views: Vec<_> = found.iter().rev().map(|(_, parcel)| parcel.view()).collect();
        let transit = Transit::open(&views).expect("sound");
        assert_eq!(transit.entries().len(), count as usize);
        assert!(transit.entries().is_sorted_by(|a, b| a.uid < b.uid), "each uid once");
    }
}
