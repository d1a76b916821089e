//! Crawl archives to unique pairs.
//!
//! Each archive becomes a run of pairs sorted by uid; the runs are merged, equal pairs becoming one. So pairs come out
//! in the order of a hash, which spreads the hosts over the shards, and the result depends on nothing but the input.

mod caption;
mod license;
mod merge;
mod resolve;
mod rules;
mod wat;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dataset::schema::Pair;
use dataset::table::{TableWriter, write_table};
use dataset::warc::{WarcEntry, WarcReader};
use dataset::{
    Counts, Error, Failure, Marker, Progress, Reason, Result, SHARD_ROWS, ShardId, Stage, Status, Summary, Task,
};
use fs_err as fs;
use serde::{Deserialize, Serialize};

pub use rules::Rules;

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which published rules.
    pub rules: Rules,
    /// Captions with fewer characters are dropped; LAION-400M: 5.
    pub caption_characters_min: usize,
    /// ISO 639-3 codes of the languages to keep; empty keeps all. LAION-400M: English.
    pub languages: Vec<String>,
    /// Pairs of a shard, 1 to 10,000: the unit of work of every later stage.
    pub shard_rows: u32,
}

impl Config {
    /// The published recipe of LAION-400M.
    pub fn laion400m() -> Self {
        Self {
            rules: Rules::Laion400m,
            caption_characters_min: 5,
            languages: vec!["eng".into()],
            shard_rows: SHARD_ROWS,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::laion400m()
    }
}

/// Name of the stage's marker in its folder.
pub const MARKER: &str = "pairs.json";

/// Collects the pairs of WAT archives into shards below `output`.
///
/// A damaged record, or an archive that cannot be read, is reported and counted, and costs nothing else. If every
/// archive is unreadable, that is an error.
pub fn run(config: &Config, archives: &[PathBuf], output: &Path, progress: &dyn Progress) -> Result<Summary> {
    let mut archives = archives.to_vec();
    archives.sort();
    archives.dedup();
    if archives.is_empty() {
        return Err(Error::Invalid("collect: no archives".into()));
    }
    if !(1..=SHARD_ROWS).contains(&config.shard_rows) {
        return Err(Error::Invalid(format!("collect: shard_rows is 1 to {SHARD_ROWS}")));
    }
    let marker = output.join(MARKER);
    let runs = output.join(".runs");
    let described = serde_json::json!(config);
    let inputs: Vec<_> = archives.iter().map(|archive| input(archive)).collect();
    if let Some(done) = Marker::done(&marker, &described, &inputs)? {
        return Ok(Summary { stage: Stage::Collect, counts: done.counts });
    }
    let bytes = archives.iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum();
    let task = progress.begin(Stage::Collect, Some(bytes));
    let collected = collect_all(config, &archives, &runs, progress, &*task)?;
    let mut counts = Counts::default();
    let mut paths = Vec::new();
    for (id, run) in (0..).map(ShardId).zip(&collected) {
        counts.merge(&run.counts);
        if !run.files.is_empty() {
            paths.push(runs.join(format!("{id}.parquet")));
        }
    }
    if paths.is_empty() {
        return Err(Error::Invalid(format!("collect: none of {} archives can be read", archives.len())));
    }
    let mut files = Vec::new();
    let mut shard: Option<(TableWriter<Pair>, u32)> = None;
    let duplicates = merge::merge(paths, &mut |pair| {
        if shard.as_ref().is_some_and(|&(_, rows)| rows == config.shard_rows)
            && let Some((full, _)) = shard.take()
        {
            files.push(full.publish()?);
        }
        if shard.is_none() {
            shard = Some((TableWriter::create(&output.join(format!("{}.parquet", ShardId(files.len() as u32))))?, 0));
        }
        let (writer, rows) = shard.as_mut().expect("opened above");
        *rows += 1;
        writer.push(pair)
    })?;
    match shard {
        Some((last, _)) => files.push(last.publish()?),
        // No pair at all is a result, too, and later stages look for a shard.
        None => files.push(write_table::<Pair>(&output.join(format!("{}.parquet", ShardId(0))), [])?),
    }
    counts.kept -= duplicates;
    counts.rows -= duplicates;
    counts.add_many(Status::Dropped(Reason::Duplicate), duplicates);
    let done = Marker::finish(&marker, &described, inputs, counts, files)?;
    fs::remove_dir_all(&runs)?;
    Ok(Summary { stage: Stage::Collect, counts: done.counts })
}

/// What an archive is known by: its name and length. Where it lies changes nothing, and one that was missing and has
/// come since is another input.
fn input(archive: &Path) -> String {
    match fs::metadata(archive) {
        Ok(metadata) => format!("{} {}", name(archive), metadata.len()),
        Err(_) => format!("{} missing", name(archive)),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Collects every archive, as many at a time as there are processors, and gives the markers of their runs in order.
fn collect_all(
    config: &Config,
    archives: &[PathBuf],
    runs: &Path,
    progress: &dyn Progress,
    task: &dyn Task,
) -> Result<Vec<Marker>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Marker>>>> = Mutex::new((0..archives.len()).map(|_| None).collect());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(archives.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let position = next.fetch_add(1, Ordering::Relaxed);
                    let Some(archive) = archives.get(position) else { return };
                    let run = collect_archive(config, archive, runs, ShardId(position as u32), progress, task);
                    results.lock().expect("no thread panics with the lock")[position] = Some(run);
                }
            });
        }
    });
    let results = results.into_inner().expect("all threads have ended");
    results.into_iter().map(|run| run.expect("every position was taken")).collect()
}

/// Collects one archive into a sorted run. A run that is done is not done again.
fn collect_archive(
    config: &Config,
    archive: &Path,
    runs: &Path,
    id: ShardId,
    progress: &dyn Progress,
    task: &dyn Task,
) -> Result<Marker> {
    let marker = Marker::of_shard(runs, id);
    let (described, inputs) = (serde_json::json!(config), vec![input(archive)]);
    if let Some(done) = Marker::done(&marker, &described, &inputs)? {
        return Ok(done);
    }
    let mut counts = Counts::default();
    let mut pairs = Vec::new();
    let archive_name = name(archive);
    let mut reader = match WarcReader::open(archive) {
        Ok(reader) => reader,
        Err(error) => {
            progress.warn(&format!("collect: {error}"));
            counts.add(Status::Failed(Failure::UnreadableArchive));
            let (version, files) = (Marker::VERSION, Vec::new());
            return Ok(Marker { version, config: described, inputs, counts, files }); // not published: it is not done
        }
    };
    let mut read = 0;
    let mut metadata = 0u64;
    while let Some(entry) = reader.next() {
        task.advance(reader.offset().saturating_sub(read));
        read = reader.offset();
        let mut broken = |offset: u64, cause: String| {
            progress.warn(&format!("collect: read {}: byte {offset}: {cause}", archive.display()));
            counts.add(Status::Failed(Failure::BrokenRecord));
        };
        // A disk that fails in the middle costs the rest of this archive, and no other.
        let entry = entry.unwrap_or_else(|error| WarcEntry::Broken { offset: read, cause: error.to_string() });
        match entry {
            WarcEntry::Broken { offset, cause } => broken(offset, cause),
            WarcEntry::Record(record) if record.kind == "metadata" => {
                metadata += 1;
                match wat::parse(&String::from_utf8_lossy(&record.body)) {
                    Err(cause) => broken(record.offset, cause),
                    Ok(None) => {}
                    Ok(Some(page)) => {
                        let place = rules::Place { archive: &archive_name, offset: record.offset };
                        rules::judge(&page, record.target.as_deref(), &place, config, &mut |status, pair| {
                            counts.add(status);
                            pairs.extend(pair);
                        });
                    }
                }
            }
            WarcEntry::Record(_) => {}
        }
    }
    if metadata == 0 && counts.rows == 0 {
        progress.warn(&format!("collect: read {}: no WAT records; is it a WAT archive?", archive.display()));
    }
    let duplicates = merge::sort_run(&mut pairs);
    counts.kept -= duplicates;
    counts.rows -= duplicates;
    counts.add_many(Status::Dropped(Reason::Duplicate), duplicates);
    let file = write_table(&runs.join(format!("{id}.parquet")), pairs)?;
    Marker::finish(&marker, &described, inputs, counts, vec![file])
}
