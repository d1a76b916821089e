//! Which rows are deleted: a list of keys beside the index, and a bit a row in memory.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use dataset::{Result, files, publish};

const DELETED: &str = "deleted.txt";

/// Rows by number.
#[derive(Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl Bits {
    pub(super) fn has(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    fn set(&mut self, row: usize) {
        if !self.has(row) {
            self.words[row / 64] |= 1 << (row % 64);
            self.count += 1;
        }
    }
}

/// Which list it is; `None` where there is none.
type Stamp = Option<String>;

/// What the list said when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Deleted {
    seen: RwLock<(Stamp, Arc<Bits>)>,
}

impl Deleted {
    pub(super) fn rows(&self) -> Arc<Bits> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    pub(super) fn has(&self, row: usize) -> bool {
        self.rows().has(row)
    }

    pub(super) fn count(&self) -> usize {
        self.rows().count
    }

    /// Reads the list if it has another date or length than the last time. Keys that are not in the index do not matter: it may
    /// have been built again without them.
    pub(super) fn refresh(
        &self,
        folder: &Path,
        rows: usize,
        rows_of: impl Fn(&str) -> Result<Vec<usize>>,
    ) -> Result<()> {
        let now = files::version(&folder.join(DELETED))?;
        if self.seen.read().unwrap_or_else(PoisonError::into_inner).0 == now {
            return Ok(());
        }
        let mut bits = Bits { words: vec![0; rows.div_ceil(64)], count: 0 };
        for key in keys(folder)? {
            rows_of(&key)?.into_iter().for_each(|row| bits.set(row));
        }
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = (now, Arc::new(bits));
        Ok(())
    }
}

/// The keys of the list; none where there is no list.
fn keys(folder: &Path) -> Result<BTreeSet<String>> {
    match files::read_to_string(folder.join(DELETED)) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error.into()),
    }
}

/// Adds keys to the list, which takes the place of the old one at once.
pub(super) fn add(folder: &Path, new: &[String]) -> Result<()> {
    let mut all = keys(folder)?;
    all.extend(new.iter().cloned());
    let text: String = all.iter().flat_map(|key| [key.as_str(), "\n"]).collect();
    publish(&folder.join(DELETED), text.as_bytes())?;
    Ok(())
}
