//! A list of keys: which of the kept rows are packed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use dataset::files;
use dataset::schema::CuratedRow;
use dataset::table::TableReader;
use dataset::{Error, Marker, Packages, Result, Run, SampleKey, ShardId, list_shards};
use sha2::{Digest, Sha256};

/// Longest line that can be a key: a shard of ten digits, a row of four, blanks.
const LINE_BYTES_MAX: u64 = 100;
/// How what a marker says of a list begins.
const INPUT: &str = "keys: SHA-256 ";

/// The rows that somebody chose, by their keys; each counts once.
#[derive(Clone, Debug)]
pub struct Keys {
    path: PathBuf,
    listed: Vec<SampleKey>,
    rows: BTreeMap<ShardId, BTreeSet<u32>>,
}

impl Keys {
    /// Reads a list: a key a line, as `serve` gives it for a basket. Empty lines say nothing.
    pub fn read(path: &Path) -> Result<Self> {
        let mut keys = Self { path: path.into(), listed: Vec::new(), rows: BTreeMap::new() };
        let mut file = BufReader::new(files::File::open(path)?);
        let (mut line, mut number) = (Vec::new(), 0);
        loop {
            line.clear();
            if file.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            let text = String::from_utf8_lossy(&line);
            if text.trim().is_empty() {
                continue;
            }
            let wrong = |error: Error| Error::format(path, format!("line {number}: {error}"));
            let key: SampleKey = text.trim().parse().map_err(wrong)?;
            if keys.rows.entry(key.shard).or_default().insert(key.row) {
                keys.listed.push(key);
            }
        }
        if keys.listed.is_empty() {
            return Err(Error::format(path, "no keys"));
        }
        Ok(keys)
    }

    /// Whether rows of this shard are listed.
    pub(super) fn has_shard(&self, id: ShardId) -> bool {
        self.rows.contains_key(&id)
    }

    /// How many rows of this shard are listed.
    pub(super) fn count(&self, id: ShardId) -> u64 {
        self.rows.get(&id).map_or(0, |rows| rows.len() as u64)
    }

    /// Whether this row is listed.
    pub(super) fn has(&self, key: &str) -> bool {
        key.parse::<SampleKey>().is_ok_and(|key| self.rows.get(&key.shard).is_some_and(|rows| rows.contains(&key.row)))
    }

    /// What a marker says of the list: another list is another input of those shards whose rows differ.
    pub(super) fn input(&self, id: ShardId) -> String {
        let mut hash = Sha256::new();
        self.rows.get(&id).into_iter().flatten().for_each(|row| hash.update(row.to_le_bytes()));
        let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{INPUT}{hash}")
    }

    /// An error if the run has not kept all of them.
    pub(super) fn check(&self, run: &Run) -> Result<()> {
        let mut unknown = self.rows.clone();
        for (id, rows) in &mut unknown {
            let curated = run.curated().join(format!("{id}.parquet"));
            if !files::exists(&curated)? {
                continue;
            }
            for row in TableReader::<CuratedRow>::open(&curated)? {
                let row = row?;
                if row.is_kept() {
                    rows.remove(&row.key.parse::<SampleKey>()?.row);
                }
            }
        }
        let is_unknown = |key: &&SampleKey| unknown.get(&key.shard).is_some_and(|rows| rows.contains(&key.row));
        let Some(first) = self.listed.iter().find(is_unknown) else { return Ok(()) };
        let (count, of) = (unknown.values().map(BTreeSet::len).sum::<usize>(), self.listed.len());
        let run = run.folder().display();
        Err(Error::format(&self.path, format!("{count} of {of} keys are not of kept rows of {run}, first {first}")))
    }

    /// Makes room among packages that were made of another list: shards of which nothing is listed any more go. An error
    /// if the packages are those of all kept rows.
    pub(super) fn make_room(&self, packages: &Packages) -> Result<()> {
        if !files::is_dir(packages.folder())? {
            return Ok(());
        }
        for id in list_shards(packages.folder(), "json")? {
            let path = Marker::of_shard(packages.folder(), id);
            let Some(marker) = Marker::read(&path)? else { continue };
            if !matches!(&marker.inputs[..], [_, list] if list.starts_with(INPUT)) {
                let cause = "what lies there was not made of a list of keys; choose another output";
                return Err(Error::Invalid(format!("{}: {cause}", packages.folder().display())));
            }
            if !self.has_shard(id) {
                super::shard::remove(packages, id)?;
            }
        }
        Ok(())
    }
}
