//! Shards that are open, and their records by number.

use std::collections::HashMap;

use super::{Dataset, Record};
use crate::Result;
use crate::tfds::ShardReader;

/// Shards that are open at once: twice as many as are read at a time.
const OPEN_MAX: usize = 32;

/// The shards of a dataset. Reading forwards is cheap in every format.
#[derive(Debug)]
pub(super) struct Sources {
    dataset: Dataset,
    open: HashMap<usize, (u64, ShardReader)>,
    /// Counts reads, so that the shard that was not asked for longest is closed.
    clock: u64,
}

impl Sources {
    pub(super) fn new(dataset: Dataset) -> Self {
        Self { dataset, open: HashMap::new(), clock: 0 }
    }

    pub(super) fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// A record of a shard.
    pub(super) fn read(&mut self, shard: usize, number: u64) -> Result<Record> {
        let path = self.dataset.folder.join(self.dataset.shard_name(shard));
        if !self.open.contains_key(&shard) {
            if self.open.len() == OPEN_MAX {
                let oldest = self.open.iter().min_by_key(|(_, (used, _))| *used).map(|(&shard, _)| shard);
                oldest.and_then(|oldest| self.open.remove(&oldest));
            }
            self.open.insert(shard, (0, ShardReader::open(&path, self.dataset.format)?));
        }
        self.clock += 1;
        let (used, reader) = self.open.get_mut(&shard).expect("opened above");
        *used = self.clock;
        let bytes = reader.read(number)?;
        Ok(Record { bytes, path, number })
    }
}
