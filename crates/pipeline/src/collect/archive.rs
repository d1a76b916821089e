//! One archive.

use std::path::{Path, PathBuf};

use dataset::schema::Uid;
use dataset::spill::{PairView, SpillWriter};
use dataset::table::TableReader;
use dataset::warc::{Flaw, WarcEntry, WarcReader, WarcRecord};
use dataset::{Counts, Error, Failure, FileEntry, Marker, Progress, Reason, Result, ShardId, Status, Task};
use serde::{Deserialize, Serialize};

use super::rules::Judge;
use super::wat::{self, Page};
use super::{html, response};

/// Memory that the pairs of an archive take before they are sorted.
pub(super) const SPILL_BYTES_MAX: usize = 24 << 20;
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
    /// Whether all of it could be read; if not, the next call tries again.
    pub(super) whole: bool,
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
            return Ok(Done { ledger, spills: spills(&done.files), whole: true });
        }
        let Some(reader) = open(archive, self.progress) else {
            return Ok(Done { ledger: Ledger::unreadable(archive), spills: Vec::new(), whole: false });
        };
        let (ledger, mut files, whole) = self.read(reader, archive, id)?;
        let spills = spills(&files);
        if whole {
            let text = serde_json::to_vec(&ledger).expect("plain data");
            files.push(dataset::publish(&ledger_path, &text)?);
            Marker::finish(&marker, self.settings, inputs, ledger.counts.clone(), files)?;
        }
        Ok(Done { ledger, spills, whole })
    }

    /// What became of the archive, the files, and whether all of it is in them.
    fn read(&self, reader: WarcReader, archive: &Path, id: ShardId) -> Result<(Ledger, Vec<FileEntry>, bool)> {
        let (mut spill, mut files, mut duplicates) = (SpillWriter::default(), Vec::new(), 0);
        let mut publish = |spill: &mut SpillWriter| -> Result<()> {
            let (file, equal) = spill.publish(&self.folder.join(format!("{id}-{:03}.pairs", files.len())))?;
            files.push(file);
            duplicates += equal;
            Ok(())
        };
        let advance = |bytes| self.task.advance(bytes);
        let (mut ledger, whole) = read(&self.judge, reader, archive, self.progress, &advance, &mut |uid, pair| {
            spill.push(uid, pair);
            if spill.bytes() > SPILL_BYTES_MAX { publish(&mut spill) } else { Ok(()) }
        })?;
        publish(&mut spill)?;
        ledger.counts.turn_kept(Status::Dropped(Reason::Duplicate), duplicates);
        Ok((ledger, files, whole))
    }
}

impl Ledger {
    /// Of an archive that cannot be opened.
    pub(super) fn unreadable(archive: &Path) -> Self {
        let mut counts = Counts::default();
        counts.add(Status::Failed(Failure::UnreadableArchive));
        Self { archive: super::name(archive), counts, flaws: Vec::new() }
    }
}

/// Opens an archive; a warning says why it cannot be.
pub(super) fn open(archive: &Path, progress: &dyn Progress) -> Option<WarcReader> {
    let opened = crate::remote::open(archive).and_then(|source| WarcReader::new(source, archive));
    opened.map_err(|error| progress.warn(&format!("collect: {error}"))).ok()
}

/// Gives the pairs of an archive in their order. What became of it, duplicates among the kept, and whether all of it was read.
pub(super) fn read(
    judge: &Judge<'_>,
    reader: WarcReader,
    archive: &Path,
    progress: &dyn Progress,
    advance: &dyn Fn(u64),
    each: &mut dyn FnMut(u128, &PairView<'_>) -> Result<()>,
) -> Result<(Ledger, bool)> {
    let path = archive.display();
    let told = Told {
        advance,
        flaw: &|Flaw { offset, cause }| progress.warn(&format!("collect: read {path}: byte {offset}: {cause}")),
    };
    let Extracted { counts, flaws, whole } = extract(judge, reader, told, each)?;
    if counts.rows == 0 && counts.read["pages"] == 0 {
        progress.warn(&format!("collect: read {path}: no pages; is it a WAT or WARC archive?"));
    }
    let flaws = flaws.into_iter().map(|Flaw { offset, cause }| Place { offset, cause }).collect();
    Ok((Ledger { archive: super::name(archive), counts, flaws }, whole))
}

/// Who is told what while an archive is read.
#[derive(Clone, Copy)]
pub(super) struct Told<'a> {
    /// Bytes of the file that have been read.
    pub(super) advance: &'a dyn Fn(u64),
    pub(super) flaw: &'a dyn Fn(&Flaw),
}

/// What became of an archive.
#[derive(Debug)]
pub(super) struct Extracted {
    /// Every candidate; duplicates are among the kept.
    pub(super) counts: Counts,
    /// The first of them.
    pub(super) flaws: Vec<Flaw>,
    /// Whether the system gave all of it.
    pub(super) whole: bool,
}

/// Gives the pairs of an archive in their order.
pub(super) fn extract(
    judge: &Judge<'_>,
    mut reader: WarcReader,
    told: Told<'_>,
    each: &mut dyn FnMut(u128, &PairView<'_>) -> Result<()>,
) -> Result<Extracted> {
    let (mut tally, mut flaws, mut result, mut whole) = (Tally::default(), Vec::new(), Ok(()), true);
    let (mut records, mut pages, mut links, mut read) = (0, 0, 0, 0);
    loop {
        (told.advance)(reader.offset().saturating_sub(read));
        read = reader.offset();
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            // A disk or connection that fails in the middle costs the rest of this archive, and no other.
            Err(error) => {
                (told.flaw)(&Flaw { offset: read, cause: error.to_string() });
                tally.add(Status::Failed(Failure::UnreadableArchive));
                whole = false;
                break;
            }
        };
        let mut judged = |page: Result<Option<Page<'_>>, String>, offset: u64, target: &str| match page {
            Ok(None) => None,
            Err(cause) => Some(Flaw { offset, cause }),
            Ok(Some(page)) => {
                pages += 1;
                links += u64::from(page.link_count);
                judge.page(&page, target, offset, &mut |status, pair| {
                    tally.add(status);
                    if let (Some((uid, pair)), Ok(())) = (pair, &result) {
                        result = each(uid, &pair);
                    }
                });
                None
            }
        };
        let flaw = match entry {
            WarcEntry::Broken(flaw) => Some(flaw),
            WarcEntry::Record(WarcRecord { offset, kind, target, body }) => {
                records += 1;
                match &*kind {
                    "metadata" => wat::parse(body, judge.wanted(), |page| judged(page, offset, &target)),
                    "response" => {
                        let page = response::html(body).map(|text| text.map(|text| html::page(&text, &target)));
                        judged(page, offset, &target)
                    }
                    _ => None,
                }
            }
        };
        std::mem::replace(&mut result, Ok(()))?;
        if let Some(flaw) = flaw {
            (told.flaw)(&flaw);
            tally.add(Status::Failed(Failure::BrokenRecord));
            if flaws.len() < FLAWS_LISTED_MAX {
                flaws.push(flaw);
            }
        }
    }
    let mut counts = Counts::default();
    tally.0.iter().for_each(|&(status, rows)| counts.add_many(status, rows));
    counts.read = [("records", records), ("pages", pages), ("links", links)].map(|(name, n)| (name.into(), n)).into();
    Ok(Extracted { counts, flaws, whole })
}

/// Gives the uids of a table of an earlier run's pairs.
pub(super) fn uids(table: &Path, each: &mut dyn FnMut(u128) -> Result<()>) -> Result<()> {
    for row in TableReader::<Uid>::open_columns(table, &["uid"])? {
        let Uid { uid } = row?;
        let number = (uid.len() == 32).then(|| u128::from_str_radix(&uid, 16).ok()).flatten();
        each(number.ok_or_else(|| Error::format(table, format!("uid {uid:?} is no MD5 in hexadecimal")))?)?;
    }
    Ok(())
}

/// Writes them as pairs of which nothing else is known, into files of this name.
pub(super) fn write_uids(table: &Path, name: &Path) -> Result<Vec<PathBuf>> {
    let (mut spill, mut paths) = (SpillWriter::default(), Vec::new());
    let mut publish = |spill: &mut SpillWriter| {
        let path = name.with_extension(format!("{:03}.pairs", paths.len()));
        spill.publish(&path)?;
        paths.push(path);
        Ok(())
    };
    uids(table, &mut |uid| {
        spill.push(uid, &PairView::default());
        if spill.bytes() > SPILL_BYTES_MAX { publish(&mut spill) } else { Ok(()) }
    })?;
    publish(&mut spill)?;
    Ok(paths)
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
}
