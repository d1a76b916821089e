//! Crawl archives to unique pairs.
//!
//! Each archive becomes files of pairs sorted by uid; these are merged, equal pairs becoming one. So pairs come out in
//! the order of a hash, which spreads the hosts over the shards, and the result depends on nothing but the input.

pub mod apart;
mod archive;
mod caption;
mod deduplicate;
mod html;
mod input;
mod license;
mod resolve;
mod response;
mod rules;
mod wat;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dataset::files;
use dataset::spill::PairView;
use dataset::warc::WarcReader;
use dataset::{
    Counts, Error, FileEntry, Marker, Progress, Reason, Result, SHARD_ROWS, ShardId, Stage, Status, Summary,
};
use serde::{Deserialize, Serialize};

use archive::{Done, Ledger, Runs, Told};
use deduplicate::{Source, deduplicate};
use fs_err as fs;
use rules::{Judge, Lists};

use crate::remote;

pub use input::{COMMON_CRAWL, Choice, archives};
pub use rules::{Documents, Rules};

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which published rules. The settings below are those of `laion400m`; `cc2dataset` has no knobs.
    pub rules: Rules,
    /// What is collected. LAION-400M: images.
    pub documents: Documents,
    /// Captions with fewer characters are dropped; LAION-400M: 5.
    pub caption_characters_min: usize,
    /// Captions with more characters are dropped; LAION-400M: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caption_characters_max: Option<usize>,
    /// ISO 639-3 codes of the languages to keep; empty keeps all. LAION-400M: English.
    pub languages: Vec<String>,
    /// Extensions of files that are dropped. LAION-400M: svg, gif and ico.
    pub extensions_refused: Vec<String>,
    /// File with hosts, one a line: images of others are dropped. A host stands for those below it, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts_allowed: Option<PathBuf>,
    /// File with hosts, one a line, whose images are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts_blocked: Option<PathBuf>,
    /// File with URLs, one a line, that are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub urls_blocked: Option<PathBuf>,
    /// Folders or files with the pairs of earlier runs, ours or cc2dataset's: pairs that stand there are dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<PathBuf>,
    /// Pairs of a shard, 1 to 10,000: the unit of work of every later stage.
    pub shard_rows: u32,
}

impl Config {
    /// The published recipe of LAION-400M.
    pub fn laion400m() -> Self {
        Self {
            rules: Rules::Laion400m,
            documents: Documents::Image,
            caption_characters_min: 5,
            caption_characters_max: None,
            languages: vec!["eng".into()],
            extensions_refused: ["svg", "svgz", "gif", "ico", "cur"].map(str::to_owned).into(),
            hosts_allowed: None,
            hosts_blocked: None,
            urls_blocked: None,
            against: Vec::new(),
            shard_rows: SHARD_ROWS,
        }
    }

    fn check(&self) -> Result<()> {
        if !(1..=SHARD_ROWS).contains(&self.shard_rows) {
            return Err(Error::Invalid(format!("collect: shard_rows is 1 to {SHARD_ROWS}")));
        }
        if let Some(unknown) = self.languages.iter().find(|code| !caption::LANGUAGES.contains(&code.as_str())) {
            let known = caption::LANGUAGES.join(", ");
            return Err(Error::Invalid(format!("collect: language {unknown:?} is none of {known}")));
        }
        Ok(())
    }

    /// Files that the result depends on besides the archives.
    fn lists(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.hosts_allowed, &self.hosts_blocked, &self.urls_blocked].into_iter().flatten()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::laion400m()
    }
}

/// Name of the stage's marker in its folder.
pub const MARKER: &str = "pairs.json";

/// Name of the list of archives in its folder: a JSON object a line, each with what was read, what became of the
/// candidates, and where the archive is damaged.
pub const LEDGER: &str = "archives.jsonl";

/// Collects the pairs of WAT and WARC archives into shards below `output`.
///
/// An archive is a file, or an address (`http`, `https`, `s3`). A damaged record, or an archive that cannot be read, is
/// reported and counted, and costs nothing else. If every archive is unreadable, that is an error.
pub fn run(config: &Config, archives: &[PathBuf], output: &Path, progress: &dyn Progress) -> Result<Summary> {
    let mut archives = archives.to_vec();
    archives.sort();
    archives.dedup();
    if archives.is_empty() {
        return Err(Error::Invalid("collect: no archives".into()));
    }
    config.check()?;
    let marker = output.join(MARKER);
    let folder = files::scratch(&output.join(".runs"))?;
    let settings = serde_json::json!(config);
    let earlier = earlier_pairs(&config.against)?;
    let inputs: Vec<_> = archives.iter().chain(config.lists()).chain(&earlier).map(|path| remote::name(path)).collect();
    if let Some(done) = Marker::done(&marker, &settings, &inputs)? {
        // Left by a call that was killed after its last file; with archives still to be tried, it would not be done.
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        return Ok(Summary { stage: Stage::Collect, counts: done.counts });
    }
    let lists = Lists::read(config)?;
    let bytes = archives.iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum();
    let task = progress.begin(Stage::Collect, Some(bytes));
    let judge = Judge { config, lists: &lists };
    let runs = Runs { folder: &folder, settings: &settings, judge, progress, task: &*task };
    let mut collected = collect_all(&runs, &archives)?;
    let mut sources = Vec::new();
    for (number, path) in earlier.iter().enumerate() {
        let uids = archive::write_uids(path, &folder.join(format!("before-{number:05}")))?;
        sources.extend(uids.into_iter().map(|path| Source { path, archive: None }));
    }
    for (number, done) in collected.iter().enumerate() {
        sources.extend(done.spills.iter().map(|path| Source { path: path.clone(), archive: Some(number) }));
    }
    if sources.iter().all(|source| source.archive.is_none()) {
        return Err(Error::Invalid(format!("collect: none of {} archives can be read", archives.len())));
    }
    let names: Vec<_> = collected.iter().map(|done| done.ledger.archive.clone()).collect();
    let unique = deduplicate(&sources, &names, output, config.shard_rows)?;
    for (number, done) in collected.iter_mut().enumerate() {
        done.ledger.counts.turn_kept(Status::Dropped(Reason::Duplicate), unique.duplicates[number]);
        done.ledger.counts.turn_kept(Status::Dropped(Reason::CollectedBefore), unique.collected_before[number]);
    }
    let whole = collected.iter().all(|done| done.whole);
    let ledgers = collected.into_iter().map(|done| (done.ledger, done.whole)).collect();
    let counts = finish(output, &settings, inputs, ledgers, unique.files)?;
    if whole {
        fs::remove_dir_all(&folder)?;
    }
    Ok(Summary { stage: Stage::Collect, counts })
}

/// Writes what became of each archive, and whether all of it was read, and the marker of the stage. The first inputs are the
/// archives.
fn finish(
    output: &Path,
    settings: &serde_json::Value,
    mut inputs: Vec<String>,
    archives: Vec<(Ledger, bool)>,
    mut files: Vec<FileEntry>,
) -> Result<Counts> {
    let (mut counts, mut lines) = (Counts::default(), Vec::new());
    // An archive that could not be read is another one when it is tried again; the others need not be.
    for ((ledger, whole), input) in archives.iter().zip(&mut inputs) {
        ledger.counts.check()?;
        counts.merge(&ledger.counts);
        serde_json::to_writer(&mut lines, ledger).expect("plain data");
        lines.push(b'\n');
        if !whole {
            input.push_str(" unreadable");
        }
    }
    files.push(dataset::publish(&output.join(LEDGER), &lines)?);
    Ok(Marker::finish(&output.join(MARKER), settings, inputs, counts, files)?.counts)
}

/// Gives the pairs of one archive in their order, each as often as it stands there, and what became of the candidates.
/// Damage is counted.
pub fn extract(config: &Config, archive: WarcReader, each: &mut dyn FnMut(u128, &PairView<'_>)) -> Result<Counts> {
    let lists = Lists::read(config)?;
    let told = Told { advance: &|_| {}, flaw: &|_| {} };
    let judge = Judge { config, lists: &lists };
    let extracted = archive::extract(&judge, archive, told, &mut |uid, pair| {
        each(uid, pair);
        Ok(())
    })?;
    Ok(extracted.counts)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The Parquet files of earlier runs, in order.
fn earlier_pairs(against: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in against {
        let before = found.len();
        if files::is_dir(path)? {
            found.extend(files::list(path)?.into_iter().map(|entry| entry.path));
            found.retain(|file| file.extension().is_some_and(|extension| extension == "parquet"));
        } else {
            found.push(path.clone());
        }
        if found.len() == before {
            return Err(Error::Invalid(format!("collect: no Parquet files in {}", path.display())));
        }
    }
    found.sort();
    Ok(found)
}

/// Collects every archive, as many at a time as there are processors, in their order.
fn collect_all(runs: &Runs<'_>, archives: &[PathBuf]) -> Result<Vec<Done>> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<Result<Done>>>> = Mutex::new((0..archives.len()).map(|_| None).collect());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(archives.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let position = next.fetch_add(1, Ordering::Relaxed);
                    let Some(archive) = archives.get(position) else { return };
                    let run = runs.collect(archive, remote::name(archive), ShardId(position as u32));
                    results.lock().expect("no thread panics with the lock")[position] = Some(run);
                }
            });
        }
    });
    let results = results.into_inner().expect("all threads have ended");
    results.into_iter().map(|run| run.expect("every position was taken")).collect()
}
