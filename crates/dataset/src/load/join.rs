//! Embeddings of examples that lie in another package.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use half::f16;
use parquet::file::statistics::Statistics;

use super::Dataset;
use super::access::{Access, starts};
use super::matrices::MatrixShard;
use super::reader::Record;
use super::source::Shard;
use crate::released::EmbeddingShard;
use crate::table::{self, BATCH_ROWS, Batches};
use crate::tfds::Values;
use crate::{Error, Result};

/// Shards of embeddings whose keys are in memory at once: 10,000 keys are about 1 MB.
const OPEN_MAX: usize = 8;
/// Rows of a shard of embeddings whose keys are held in memory: the release has a million.
const SHARD_ROWS_MAX: u64 = 4 << 20;

/// The image and the text embedding of an example.
pub(super) type Pair = (Vec<f16>, Vec<f16>);

/// Where the embeddings of a dataset are.
#[derive(Debug)]
pub(super) enum Embeddings {
    /// In a dataset of the same pairs in the same order.
    Numbered(Dataset),
    /// In shards whose tables have keys.
    Keyed(Vec<KeyedShard>),
}

#[derive(Debug)]
pub(super) struct KeyedShard {
    files: Arc<EmbeddingShard>,
    /// Name of the column of keys, and the least and the largest, if the table tells.
    column: String,
    range: Option<(String, String)>,
}

impl Embeddings {
    /// Looks at what lies in `folder`.
    pub(super) fn open(dataset: &Dataset, folder: &Path) -> Result<Self> {
        let other = Dataset::open(folder)?;
        let wrong = |cause: &str| Err(other.wrong(format!("embeddings for {}: {cause}", dataset.folder().display())));
        let tars = dataset.shards.iter().all(|shard| matches!(shard, Shard::Tar(_)));
        let records = dataset.shards.iter().all(|shard| matches!(shard, Shard::Records(..)));
        if other.shards.iter().all(|shard| matches!(shard, Shard::Records(..))) {
            if !records {
                return wrong("TFDS keeps no keys, so they belong to laion400m/images only");
            }
            if other.len() != dataset.len() {
                return wrong(&format!("{} examples for {}", other.len(), dataset.len()));
            }
            return Ok(Self::Numbered(other));
        }
        if !tars {
            return wrong("they join by key, which only tars keep");
        }
        let shards = other.shards.iter().filter_map(|shard| match shard {
            Shard::Matrices(_, files) => Some(KeyedShard::open(files)),
            Shard::Records(..) | Shard::Tar(_) => None,
        });
        let shards: Vec<_> = shards.collect::<Result<_>>()?;
        if shards.is_empty() { wrong("there are none") } else { Ok(Self::Keyed(shards)) }
    }
}

impl KeyedShard {
    fn open(files: &Arc<EmbeddingShard>) -> Result<Self> {
        let path = &files.table;
        let builder = table::open(path)?;
        // clip-retrieval calls the key so.
        let names = ["key", "image_path"];
        let column = names.into_iter().find(|name| builder.schema().index_of(name).is_ok());
        let column = column.ok_or_else(|| Error::format(path, "no column \"key\" or \"image_path\""))?;
        if builder.metadata().file_metadata().num_rows() > SHARD_ROWS_MAX as i64 {
            return Err(Error::format(path, format!("more than {SHARD_ROWS_MAX} rows")));
        }
        let mut range: Option<(String, String)> = None;
        let mut known = true;
        for group in builder.metadata().row_groups() {
            let place = group.columns().iter().find(|chunk| chunk.column_path().string() == column);
            let bounds = place.and_then(|chunk| bounds(chunk.statistics()?));
            let Some((least, most)) = bounds else {
                known = false;
                break;
            };
            range = Some(match range {
                Some((low, high)) => (low.min(least), high.max(most)),
                None => (least, most),
            });
        }
        Ok(Self { files: files.clone(), column: column.into(), range: range.filter(|_| known) })
    }

    fn may_hold(&self, key: &str) -> bool {
        self.range.as_ref().is_none_or(|(least, most)| (least.as_str()..=most.as_str()).contains(&key))
    }
}

/// A bound may be cut short, which only makes the range larger: a least value becomes smaller, a largest one larger.
fn bounds(statistics: &Statistics) -> Option<(String, String)> {
    let Statistics::ByteArray(values) = statistics else { return None };
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    Some((text(values.min_opt()?.data())?, text(values.max_opt()?.data())?))
}

/// Finds embeddings.
#[derive(Debug)]
pub(super) struct Joiner {
    embeddings: Arc<Embeddings>,
    access: Option<(Access, Vec<u64>)>,
    /// Shards in the order in which they were asked for.
    open: Vec<(usize, OpenShard)>,
}

#[derive(Debug)]
struct OpenShard {
    matrices: MatrixShard,
    /// Rows by their key; `None` for a key that stands there more than once.
    rows: HashMap<Box<str>, Option<u32>>,
}

impl Joiner {
    pub(super) fn new(embeddings: Arc<Embeddings>) -> Self {
        Self { embeddings, access: None, open: Vec::new() }
    }

    /// Those of a record of a shard.
    pub(super) fn embeddings(&mut self, dataset: &Dataset, shard: usize, record: &Record) -> Result<Pair> {
        match &*self.embeddings.clone() {
            Embeddings::Numbered(other) => self.numbered(other, dataset, shard, record),
            Embeddings::Keyed(shards) => self.keyed(shards, record),
        }
    }

    fn numbered(&mut self, other: &Dataset, dataset: &Dataset, shard: usize, record: &Record) -> Result<Pair> {
        let (access, starts) = self.access.get_or_insert_with(|| (other.access(), starts(dataset)));
        let found = access.get(starts[shard] + record.number)?;
        let (example, candidate) = (record.example()?, found.example()?);
        if (example.caption, example.url) != (candidate.caption, candidate.url) {
            return Err(found.wrong(&format!("other caption or URL than {}", record.id())));
        }
        let values = |values: &Option<Values<'_>>| values.as_ref().map(Values::to_vec);
        let pair = values(&candidate.image_embedding).zip(values(&candidate.text_embedding));
        pair.ok_or_else(|| found.wrong("no embeddings"))
    }

    fn keyed(&mut self, shards: &[KeyedShard], record: &Record) -> Result<Pair> {
        let key = record.key().unwrap_or_default();
        for number in (0..shards.len()).filter(|&number| shards[number].may_hold(key)) {
            let open = self.open(number, &shards[number])?;
            match open.rows.get(key) {
                Some(Some(row)) => return open.matrices.embeddings(u64::from(*row)),
                Some(None) => {
                    return Err(Error::format(&shards[number].files.table, format!("key {key:?} more than once")));
                }
                None => {}
            }
        }
        Err(record.wrong(&format!("no embeddings for key {key:?}")))
    }

    fn open(&mut self, number: usize, shard: &KeyedShard) -> Result<&mut OpenShard> {
        let open = match self.open.iter().position(|(open, _)| *open == number) {
            Some(at) => self.open.remove(at),
            None => {
                self.open.truncate(OPEN_MAX - 1);
                (number, OpenShard { matrices: MatrixShard::open(&shard.files)?, rows: rows(shard)? })
            }
        };
        self.open.insert(0, open);
        Ok(&mut self.open[0].1)
    }
}

fn rows(shard: &KeyedShard) -> Result<HashMap<Box<str>, Option<u32>>> {
    let path = &shard.files.table;
    let (mut rows, mut row) = (HashMap::new(), 0);
    for batch in Batches::open(path, BATCH_ROWS, Some(&[shard.column.as_str()]))? {
        let keys = arrow_cast::cast(batch?.column(0), &arrow_schema::DataType::Utf8);
        let keys = keys.map_err(|error| Error::format(path, format!("column {:?}: {error}", shard.column)))?;
        for key in keys.as_string::<i32>() {
            if let Some(key) = key {
                rows.entry(key.into()).and_modify(|row| *row = None).or_insert(Some(row));
            }
            row += 1;
        }
    }
    Ok(rows)
}
