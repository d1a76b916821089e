//! An index that may be replaced while others search it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use dataset::{Result, files};

use super::{Index, MARKER};

/// To ask a store takes longer than a search: it is asked beside them, and so often at most.
const STORE_ASKED_EVERY: Duration = Duration::from_secs(5);

/// The index of a folder, whichever it is now. Whoever has one keeps it as long as he needs; the next who asks gets the new one.
#[derive(Clone, Debug)]
pub struct Live {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    now: RwLock<(Stamp, Arc<Index>)>,
    /// When a store was asked last; held while it is asked.
    asked: Mutex<Instant>,
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
        let (asked, opening) = (Mutex::new(Instant::now()), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { folder, now, asked, opening }) }
    }

    /// The index, without what is deleted until now. If there is a new one it is opened meanwhile, and taken from then on; one
    /// that cannot be opened is left alone, and said so in the log. What is new in a store is seen some seconds later.
    pub fn index(&self) -> Arc<Index> {
        if !files::is_remote(&self.shared.folder) {
            self.shared.look();
        } else if self.shared.asked.try_lock().is_ok_and(|asked| asked.elapsed() >= STORE_ASKED_EVERY) {
            let shared = self.shared.clone();
            std::thread::spawn(move || shared.ask());
        }
        self.shared.now().1
    }
}

impl Shared {
    fn now(&self) -> (Stamp, Arc<Index>) {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks into a store, unless somebody else does or just did.
    fn ask(self: &Arc<Self>) {
        let Ok(mut asked) = self.asked.try_lock() else { return };
        if asked.elapsed() >= STORE_ASKED_EVERY {
            self.look();
            *asked = Instant::now();
        }
    }

    /// Takes in what is deleted, and has an index that is new opened beside the searches.
    fn look(self: &Arc<Self>) {
        let (seen, index) = self.now();
        if stamp(&self.folder).is_ok_and(|now| now.is_some() && now != seen)
            && !self.opening.swap(true, Ordering::AcqRel)
        {
            let shared = self.clone();
            std::thread::spawn(move || shared.open());
        }
        if let Err(error) = index.refresh() {
            tracing::warn!(%error, "what is deleted cannot be read");
        }
    }

    fn open(&self) {
        let now = stamp(&self.folder).unwrap_or_default();
        let before = self.now().1;
        let next = match Index::open(&self.folder) {
            // Queries of its model would not be understood.
            Ok(index) if !dataset::same_weights(index.model(), before.model()) => {
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
