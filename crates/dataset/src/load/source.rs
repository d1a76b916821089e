//! Shards that are open, and their records by number.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::Dataset;
use super::join::Joiner;
use super::matrices::MatrixShard;
use super::reader::{Content, Record};
use super::tar::TarShard;
use crate::released::EmbeddingShard;
use crate::tfds::{FileFormat, ShardReader};
use crate::{Error, Result};

/// Shards that are open at once: twice as many as are read at a time.
const OPEN_MAX: usize = 32;

/// The files of a shard.
#[derive(Clone, Debug)]
pub(super) enum Shard {
    Records(Arc<Path>, FileFormat),
    Tar(Arc<Path>),
    Matrices(Arc<Path>, Arc<EmbeddingShard>),
}

impl Shard {
    /// The file that its records are named after.
    pub(super) fn path(&self) -> &Arc<Path> {
        match self {
            Self::Records(path, _) | Self::Tar(path) | Self::Matrices(path, _) => path,
        }
    }

    fn wrong(&self, number: u64, cause: &str) -> Error {
        Error::format(self.path(), format!("record {number}: {cause}"))
    }
}

/// What of an example is asked for: what is not need not be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) pictures: bool,
    pub(super) embeddings: bool,
    /// All but pictures and embeddings.
    pub(super) metadata: bool,
}

impl Wanted {
    pub(super) const ALL: Self = Self { pictures: true, embeddings: true, metadata: true };
}

#[derive(Debug)]
enum Open {
    Records(ShardReader),
    Tar(TarShard),
    Matrices(Box<MatrixShard>),
}

impl Open {
    fn new(shard: &Shard, length: u64) -> Result<Self> {
        let (open, found) = match shard {
            Shard::Records(path, format) => return Ok(Self::Records(ShardReader::open(path, *format)?)),
            Shard::Tar(path) => {
                let tar = TarShard::open(path)?;
                let found = tar.len();
                (Self::Tar(tar), found)
            }
            Shard::Matrices(_, files) => {
                let matrices = MatrixShard::open(files)?;
                let found = matrices.len();
                (Self::Matrices(matrices.into()), found)
            }
        };
        // It was counted when the dataset was opened, or by whoever wrote sizes.json.
        let wrong = || Error::format(shard.path(), format!("{found} samples, not {length}"));
        if found == length { Ok(open) } else { Err(wrong()) }
    }
}

/// The shards of a dataset. Reading forwards is cheap in every format.
#[derive(Debug)]
pub(super) struct Sources {
    dataset: Dataset,
    wanted: Wanted,
    open: HashMap<usize, (u64, Open)>,
    joiner: Option<Box<Joiner>>,
    /// Counts reads, so that the shard that was not asked for longest is closed.
    clock: u64,
}

impl Sources {
    pub(super) fn new(dataset: &Dataset, wanted: Wanted) -> Self {
        let embeddings = dataset.embeddings.clone().filter(|_| wanted.embeddings);
        Self {
            dataset: dataset.clone(),
            wanted,
            open: HashMap::new(),
            joiner: embeddings.map(|embeddings| Box::new(Joiner::new(embeddings))),
            clock: 0,
        }
    }

    pub(super) fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// A record of a shard.
    pub(super) fn read(&mut self, shard: usize, number: u64) -> Result<Record> {
        if !self.open.contains_key(&shard) {
            if self.open.len() == OPEN_MAX {
                let oldest = self.open.iter().min_by_key(|(_, (used, _))| *used).map(|(&shard, _)| shard);
                oldest.and_then(|oldest| self.open.remove(&oldest));
            }
            self.open.insert(shard, (0, Open::new(&self.dataset.shards[shard], self.dataset.shard_lengths[shard])?));
        }
        self.clock += 1;
        let (used, open) = self.open.get_mut(&shard).expect("opened above");
        *used = self.clock;
        let (content, key) = match open {
            Open::Records(reader) => (Content::Serialized(reader.read(number)?), None),
            Open::Tar(tar) => {
                let sample = tar.read(number, self.wanted.pictures);
                let wrong = |cause: String| self.dataset.shards[shard].wrong(number, &cause);
                let (key, example) = sample.map_err(wrong)?;
                (Content::Example(example.into()), Some(key))
            }
            Open::Matrices(matrices) => {
                let (key, example) = matrices.read(number, self.wanted.metadata, self.wanted.embeddings)?;
                (Content::Example(example.into()), key)
            }
        };
        let path = self.dataset.shards[shard].path().clone();
        let mut record = Record { content, embeddings: None, path, number, key };
        if let Some(joiner) = &mut self.joiner {
            record.embeddings = Some(joiner.embeddings(&self.dataset, shard, &record)?.into());
        }
        Ok(record)
    }
}
