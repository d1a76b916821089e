//! An index that may be replaced while others search it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use dataset::{Result, files};

use super::{Index, MARKER};

/// The index of a folder, whichever it is now. Whoever has one keeps it as long as he needs; the next who asks gets the new one.
#[derive(Clone, Debug)]
pub struct Live {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    now: RwLock<(Stamp, Arc<Index>)>,
    /// Somebody is opening a new one.
    opening: AtomicBool,
}

/// Which index it is; `None` where there is none.
type Stamp = Option<String>;

impl Live {
    /// Watches the folder of an index that is open.
    pub fn new(index: Index) -> Self {
        let folder = index.folder().to_owned();
        let now = RwLock::new((stamp(&folder).unwrap_or_default(), Arc::new(index)));
        Self { shared: Arc::new(Shared { folder, now, opening: AtomicBool::new(false) }) }
    }

    /// The index, without what is deleted until now. If there is a new one it is opened meanwhile, and taken from then on; one
    /// that cannot be opened is left alone, and said so in the log. That of a store stays as it was opened.
    pub fn index(&self) -> Arc<Index> {
        let (seen, index) = self.shared.now.read().unwrap_or_else(PoisonError::into_inner).clone();
        if files::is_remote(&self.shared.folder) {
            return index; // to ask the store takes longer than a search
        }
        if stamp(&self.shared.folder).is_ok_and(|now| now.is_some() && now != seen)
            && !self.shared.opening.swap(true, Ordering::AcqRel)
        {
            let shared = self.shared.clone();
            std::thread::spawn(move || shared.open());
        }
        if let Err(error) = index.refresh() {
            tracing::warn!(%error, "what is deleted cannot be read");
        }
        index
    }
}

impl Shared {
    fn open(&self) {
        let now = stamp(&self.folder).unwrap_or_default();
        let before = self.now.read().unwrap_or_else(PoisonError::into_inner).1.clone();
        let next = match Index::open(&self.folder) {
            // Queries of its model would not be understood.
            Ok(index) if index.model() != before.model() => {
                tracing::error!("the new index is of another model: the old one stays until this ends");
                before
            }
            Ok(index) => {
                tracing::info!(rows = index.len(), "a new index is served");
                Arc::new(index)
            }
            Err(error) => {
                tracing::error!(%error, "the new index cannot be opened: the old one stays");
                before
            }
        };
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = (now, next);
        self.opening.store(false, Ordering::Release);
    }
}

fn stamp(folder: &std::path::Path) -> Result<Stamp> {
    files::version(&folder.join(MARKER))
}
