//! Exact deduplication by merging sorted runs: memory depends on the number of runs, never on the number of rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use dataset::schema::Pair;
use dataset::table::{TableReader, TableWriter};
use dataset::{Result, remove_temporary};

/// Runs that are open at once. Each holds [`RUN_BATCH_ROWS`] rows: 128 runs are about 50 MiB.
const FAN_IN: usize = 128;
const RUN_BATCH_ROWS: usize = 1024;

/// Sorts the pairs of one archive by uid. The sort is stable, so of equal pairs the first on the page stays first;
/// the others are removed and counted.
pub(super) fn sort_run(pairs: &mut Vec<Pair>) -> u64 {
    pairs.sort_by(|a, b| a.uid.cmp(&b.uid));
    let before = pairs.len();
    pairs.dedup_by(|later, first| later.uid == first.uid);
    (before - pairs.len()) as u64
}

/// Merges runs, each sorted by uid, into `each`, in order of uid. Of equal pairs the one of the earliest run is given;
/// the number of the others is returned.
pub(super) fn merge(mut runs: Vec<PathBuf>, each: &mut impl FnMut(Pair) -> Result<()>) -> Result<u64> {
    let mut duplicates = 0;
    while runs.len() > FAN_IN {
        let rest = runs.split_off(FAN_IN);
        // A merged run takes the place of the runs it came from, so that earlier archives still win.
        let merged = runs[0].with_extension("merged.parquet");
        let mut writer = TableWriter::create(&merged)?;
        duplicates += merge_few(&runs, &mut |pair| writer.push(pair))?;
        writer.publish()?;
        runs = rest;
        runs.insert(0, merged);
    }
    Ok(duplicates + merge_few(&runs, each)?)
}

fn merge_few(runs: &[PathBuf], each: &mut impl FnMut(Pair) -> Result<()>) -> Result<u64> {
    if let Some(folder) = runs.first().and_then(|run| run.parent()) {
        remove_temporary(folder)?;
    }
    let mut readers: Vec<TableReader<Pair>> =
        runs.iter().map(|run| TableReader::open_batched(run, RUN_BATCH_ROWS)).collect::<Result<_>>()?;
    let mut front: Vec<Option<Pair>> = Vec::new();
    let mut heap = BinaryHeap::new();
    for (run, reader) in readers.iter_mut().enumerate() {
        let pair = reader.next().transpose()?;
        if let Some(pair) = &pair {
            heap.push(Reverse((pair.uid.clone(), run)));
        }
        front.push(pair);
    }
    let (mut duplicates, mut last) = (0, String::new());
    while let Some(Reverse((uid, run))) = heap.pop() {
        let next = readers[run].next().transpose()?;
        if let Some(next) = &next {
            heap.push(Reverse((next.uid.clone(), run)));
        }
        let pair = std::mem::replace(&mut front[run], next).expect("the heap holds one entry per front");
        if uid == last {
            duplicates += 1;
        } else {
            last = uid;
            each(pair)?;
        }
    }
    Ok(duplicates)
}
