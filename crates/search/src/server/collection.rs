//! A run that is served.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use dataset::Run;
use tokio::sync::watch;

use crate::api::{ApiError, Statistics};
use crate::index::{Index, Live};

/// Comes once all rows are counted.
type Counting = watch::Receiver<Option<Arc<Statistics>>>;

/// An index, the run it belongs to, and the name it is asked for by.
pub(crate) struct Collection {
    name: String,
    run: Run,
    index: Live,
    /// The statistics of the index that they were started for, and how many of its rows were deleted by then.
    counting: Mutex<Option<(Weak<Index>, usize, Counting)>>,
}

impl Collection {
    pub(super) fn new(name: String, run: Run, index: Index) -> Self {
        Self { name, run, index: Live::new(index), counting: Mutex::default() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// The index as it is now. A request asks once, and keeps what it got: so it sees one index from its beginning to its
    /// end.
    pub(crate) fn index(&self) -> Arc<Index> {
        self.index.index()
    }

    /// Counts over all rows, which the first who asks for them starts; until they are there, `busy`.
    pub(crate) async fn statistics(&self, patience: std::time::Duration) -> Result<Arc<Statistics>, ApiError> {
        let mut counting = self.counting(&self.index());
        let counted = tokio::time::timeout(patience, counting.wait_for(Option::is_some)).await;
        let counted = counted.map_err(|_| ApiError::busy("the rows are being counted; ask again"))?;
        let counted = counted.map_err(|_| ApiError::internal("counting rows ended early"))?.clone();
        counted.ok_or_else(|| ApiError::internal("nothing was counted"))
    }

    fn counting(&self, index: &Arc<Index>) -> Counting {
        let mut counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let deleted = index.deleted();
        if let Some((of, then, counting)) = &*counting
            && Weak::ptr_eq(of, &Arc::downgrade(index))
            && *then == deleted
        {
            return counting.clone();
        }
        let (done, waiting) = watch::channel(None);
        let counted = index.clone();
        std::thread::spawn(move || {
            let _ = done.send(Some(Arc::new(Statistics::of(&counted)))); // nobody waits any more
        });
        *counting = Some((Arc::downgrade(index), deleted, waiting.clone()));
        waiting
    }
}
