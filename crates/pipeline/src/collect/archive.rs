//! One archive.

use std::path::{Path, PathBuf};

use dataset::schema::Uid;
use dataset::spill::{PairView, SpillWriter};
use dataset::table::TableReader;
use dataset::warc::{Flaw, WarcEntry, WarcReader};
use dataset::{Counts, Error, Failure, FileEntry, Marker, Progress, Reason, Result, ShardId, Status, Task};
use serde::{Deserialize, Serialize};

use super::rules::Judge;
use super::wat;

/// Memory that the pairs of an archive take before they are sorted and written.
const SPILL_BYTES_MAX: usize = 24 << 20;
/// Flaws of an archive that are listed; all of them are counted.
const FLAWS_LISTED_MAX: usize = 100;

/// What became of an archive: a line of `archives.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// Its name.
    pub(super) archive: String,
    /// What was read, and what became of the candidates.
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// Where it is damaged, up to a hundred places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) flaws: Vec<Place>,
}

/// A damaged place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// In bytes from the start of the file.
    pub(super) offset: u64,
    pub(super) cause: String,
}

/// Where the pairs of archives go before they are deduplicated.
#[derive(Clone, Copy)]
pub(super) struct Runs<'a> {
    pub(super) folder: &'a Path,
    pub(super) settings: &'a serde_json::Value,
    pub(super) judge: Judge<'a>,
    pub(super) progress: &'a dyn Progress,
    pub(super) task: &'a dyn Task,
}

/// An archive and its pairs.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) ledger: Ledger,
    /// Each sorted.
    pub(super) spills: Vec<PathBuf>,
}

impl Runs<'_> {
    /// Collects an archive into sorted files. One that is done is not done again; one that cannot be opened has no files
    /// and will be tried again.
    pub(super) fn collect(&self, archive: &Path, input: String, id: ShardId) -> Result<Done> {
        let (marker, ledger_path) = (Marker::of_shard(self.folder, id), self.folder.join(format!("{id}.ledger")));
        let inputs = vec![input];
        let spills = |files: &[FileEntry]| {
            let pairs = files.iter().filter(|file| file.name.ends_with(".pairs"));
            pairs.map(|file| self.folder.join(&file.name)).collect()
        };
        if let Some(done) = Marker::done(&marker, self.settings, &inputs)? {
            let ledger = serde_json::from_slice(&fs_err::read(&ledger_path)?)
                .map_err(|error| Error::format(&ledger_path, error))?;
            return Ok(Done { ledger, spills: spills(&done.files) });
        }
        let mut ledger = Ledger { archive: super::name(archive), counts: Counts::default(), flaws: Vec::new() };
        let reader = match WarcReader::open(archive) {
            Ok(reader) => reader,
            Err(error) => {
                self.progress.warn(&format!("collect: {error}"));
                ledger.counts.add(Status::Failed(Failure::UnreadableArchive));
                return Ok(Done { ledger, spills: Vec::new() });
            }
        };
        let mut files = self.read(reader, archive, id, &mut ledger)?;
        let text = serde_json::to_vec(&ledger).expect("plain data");
        files.push(dataset::publish(&ledger_path, &text)?);
        let done = Marker::finish(&marker, self.settings, inputs, ledger.counts.clone(), files)?;
        Ok(Done { ledger, spills: spills(&done.files) })
    }

    fn read(
        &self,
        mut reader: WarcReader,
        archive: &Path,
        id: ShardId,
        ledger: &mut Ledger,
    ) -> Result<Vec<FileEntry>> {
        let (mut tally, mut spill, mut files) = (Tally::default(), SpillWriter::default(), Vec::new());
        let (mut records, mut metadata, mut pages, mut links, mut duplicates) = (0u64, 0u64, 0u64, 0u64, 0u64);
        let mut publish = |spill: &mut SpillWriter| -> Result<()> {
            let (file, equal) = spill.publish(&self.folder.join(format!("{id}-{:03}.pairs", files.len())))?;
            files.push(file);
            duplicates += equal;
            Ok(())
        };
        let mut told = 0;
        loop {
            self.task.advance(reader.offset().saturating_sub(told));
            told = reader.offset();
            let entry = match reader.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                // A disk that fails in the middle costs the rest of this archive, and no other.
                Err(error) => WarcEntry::Broken(Flaw { offset: told, cause: error.to_string() }),
            };
            let record = match entry {
                WarcEntry::Broken(flaw) => {
                    self.broken(archive, flaw.offset, flaw.cause, &mut tally, ledger);
                    continue;
                }
                WarcEntry::Record(record) => record,
            };
            records += 1;
            if !record.kind.eq_ignore_ascii_case("metadata") {
                continue;
            }
            metadata += 1;
            wat::parse(record.body, self.judge.wanted(), |page| match page {
                Err(cause) => self.broken(archive, record.offset, cause, &mut tally, ledger),
                Ok(None) => {}
                Ok(Some(page)) => {
                    pages += 1;
                    links += u64::from(page.link_count);
                    self.judge.page(&page, &record.target, record.offset, &mut |status, pair| {
                        tally.add(status);
                        if let Some((uid, pair)) = pair {
                            spill.push(uid, &pair);
                        }
                    });
                }
            });
            if spill.bytes() > SPILL_BYTES_MAX {
                publish(&mut spill)?;
            }
        }
        publish(&mut spill)?;
        if metadata == 0 && tally.is_empty() {
            let path = archive.display();
            self.progress.warn(&format!("collect: read {path}: no WAT records; is it a WAT archive?"));
        }
        let counts = &mut ledger.counts;
        tally.0.iter().for_each(|&(status, rows)| counts.add_many(status, rows));
        counts.turn_kept(Status::Dropped(Reason::Duplicate), duplicates);
        counts.read = [("records", records), ("pages", pages), ("links", links)].map(|(name, n)| (name.into(), n)).into();
        Ok(files)
    }

    fn broken(&self, archive: &Path, offset: u64, cause: String, tally: &mut Tally, ledger: &mut Ledger) {
        self.progress.warn(&format!("collect: read {}: byte {offset}: {cause}", archive.display()));
        tally.add(Status::Failed(Failure::BrokenRecord));
        if ledger.flaws.len() < FLAWS_LISTED_MAX {
            ledger.flaws.push(Place { offset, cause });
        }
    }
}

/// Writes the uids of an earlier run's pairs as pairs of which nothing else is known, into files of this name.
pub(super) fn uids(table: &Path, name: &Path) -> Result<Vec<PathBuf>> {
    let (mut spill, mut paths) = (SpillWriter::default(), Vec::new());
    let mut rows = TableReader::<Uid>::open_columns(table, &["uid"])?;
    loop {
        let row = rows.next().transpose()?;
        if row.is_none() || spill.bytes() > SPILL_BYTES_MAX {
            let path = name.with_extension(format!("{:03}.pairs", paths.len()));
            spill.publish(&path)?;
            paths.push(path);
        }
        let Some(Uid { uid }) = row else { return Ok(paths) };
        let number = (uid.len() == 32).then(|| u128::from_str_radix(&uid, 16).ok()).flatten();
        let number = number.ok_or_else(|| Error::format(table, format!("uid {uid:?} is no MD5 in hexadecimal")))?;
        spill.push(number, &PairView::default());
    }
}

/// Counts rows: there are few kinds of ends, and many rows.
#[derive(Debug, Default)]
struct Tally(Vec<(Status, u64)>);

impl Tally {
    fn add(&mut self, status: Status) {
        match self.0.iter_mut().find(|(known, _)| *known == status) {
            Some((_, rows)) => *rows += 1,
            None => self.0.push((status, 1)),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
