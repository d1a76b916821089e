//! Pairs between the tasks of engines, as Arrow: what tasks find, deduplicate, cut and write. Bytes come as views into Arrow's buffers
//! and go as Arrow's stream, neither of which copies them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arrow_array::builder::{Int32Builder, Int64Builder, ListBuilder};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, RecordBatchIterator, StringArray};
use arrow_schema::SchemaRef;
use dataset::schema::Pair;
use dataset::spill::Parcel;
use dataset::{Error, Result, Row as _, Run, ShardId};
use numpy::PyReadonlyArray1;
use pipeline::collect::apart::{self, Cut, Ends};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::error::raise;
use crate::stages::json;

/// Bytes of the pairs of a batch, in whose columns there is no room for 2 GiB.
const BATCH_BYTES: usize = 1 << 30;

/// Rows that are given away as an Arrow stream.
#[pyclass(frozen, module = "laion400m._core")]
#[derive(Debug)]
pub(crate) struct Rows(Mutex<Vec<RecordBatch>>, SchemaRef);

#[pymethods]
impl Rows {
    /// The stream, which can be taken once.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema); // the standard lets a producer give its own schema
        let rows = std::mem::take(&mut *self.0.lock().map_err(crate::error::poisoned)?);
        let rows = RecordBatchIterator::new(rows.into_iter().map(Ok), self.1.clone());
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(rows)), c"arrow_array_stream")
    }
}

impl Rows {
    fn of(batches: Vec<RecordBatch>, schema: SchemaRef) -> Self {
        Self(Mutex::new(batches), schema)
    }
}

/// A table of columns, any of which may have nulls.
fn table<const N: usize>(columns: [(&str, ArrayRef); N]) -> Rows {
    let batch = batch(columns);
    let schema = batch.schema();
    Rows::of(vec![batch], schema)
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// Bytes of Python's.
type Bytes<'py> = PyReadonlyArray1<'py, u8>;
/// Pairs: whose they are and their uids, and the rest.
type Parcels<'py> = Vec<(Bytes<'py>, Bytes<'py>)>;

fn views<'a>(parcels: &'a Parcels<'_>) -> PyResult<Vec<Parcel<&'a [u8]>>> {
    parcels.iter().map(|(uids, pairs)| Ok(Parcel { uids: uids.as_slice()?, pairs: pairs.as_slice()? })).collect()
}

/// A row of what a task finds in its sources: pairs of a range of uids, or what became of an archive.
#[derive(Clone, Copy, Default)]
struct Found<'a> {
    range: Option<i32>,
    parcel: Option<Parcel<&'a [u8]>>,
    archive: Option<i32>,
    read: Option<&'a str>,
}

impl Found<'_> {
    fn bytes(&self) -> usize {
        self.parcel.map_or(0, |parcel| parcel.uids.len() + parcel.pairs.len())
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        let parcels = || rows.iter().map(|row| row.parcel);
        batch([
            ("range", Arc::new(rows.iter().map(|row| row.range).collect::<Int32Array>())),
            ("uids", Arc::new(parcels().map(|parcel| Some(parcel?.uids)).collect::<BinaryArray>())),
            ("pairs", Arc::new(parcels().map(|parcel| Some(parcel?.pairs)).collect::<BinaryArray>())),
            ("archive_number", Arc::new(rows.iter().map(|row| row.archive).collect::<Int32Array>())),
            ("read", Arc::new(rows.iter().map(|row| row.read).collect::<StringArray>())),
        ])
    }
}

/// What a task found: columns `range`, `uids` and `pairs` of the ranges that have some; of an archive `archive_number` and `read`.
pub(crate) fn found(parcels: &[Parcel<Vec<u8>>], archive: Option<(i32, &str)>) -> Result<Rows> {
    let ranges = (0..).zip(parcels).filter(|(_, parcel)| !parcel.uids.is_empty());
    let ranges =
        ranges.map(|(range, parcel)| Found { range: Some(range), parcel: Some(parcel.view()), ..Found::default() });
    let told = archive.map(|(archive, read)| Found { archive: Some(archive), read: Some(read), ..Found::default() });
    let rows: Vec<_> = ranges.chain(told).collect();
    if rows.iter().any(|row| row.bytes() >= 2 * BATCH_BYTES) {
        return Err(Error::Invalid("over 2 GiB of pairs that one task found are in one range of uids".into()));
    }
    let (mut batches, mut rest) = (Vec::new(), &*rows);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |row: &&Found<'_>| {
            bytes += row.bytes();
            bytes <= BATCH_BYTES
        };
        let (front, back) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        batches.push(Found::batch(front));
        rest = back;
    }
    Ok(Rows::of(batches, Found::batch(&[]).schema()))
}

/// The uids of tables of earlier runs, as what a task found, for each of so many ranges of uids.
#[pyfunction]
pub(crate) fn earlier(py: Python<'_>, tables: Vec<PathBuf>, ranges: u32) -> PyResult<Rows> {
    py.detach(|| found(&apart::earlier(&tables, ranges)?, None)).map_err(raise)
}

/// What becomes of the pairs of ranges, by all of their uids: columns `range` and `length`, how many stay; `archives`, `stayed` and
/// `before`, of which archives how many stay, and how many an earlier run has.
#[pyfunction]
pub(crate) fn ends(py: Python<'_>, groups: Vec<(i32, Vec<(Bytes<'_>,)>)>) -> PyResult<Rows> {
    let mut ranges = Vec::new();
    for (range, uids) in &groups {
        ranges.push((*range, uids.iter().map(|(uids,)| uids.as_slice()).collect::<Result<Vec<_>, _>>()?));
    }
    let told = || {
        let (mut lengths, mut archives) = (Vec::<i64>::new(), ListBuilder::new(Int32Builder::new()));
        let [mut stayed, mut before] = [(); 2].map(|()| ListBuilder::new(Int64Builder::new()));
        for (_, uids) in &ranges {
            let ends = apart::ends(uids)?;
            lengths.push(ends.values().map(|ends| ends.stayed as i64).sum());
            archives.append_value(ends.keys().map(|archive| Some(*archive as i32)));
            let counts = |of: fn(&Ends) -> u64| ends.values().map(move |ends| Some(of(ends) as i64));
            stayed.append_value(counts(|ends| ends.stayed));
            before.append_value(counts(|ends| ends.before));
        }
        Ok(table([
            ("range", Arc::new(ranges.iter().map(|(range, _)| Some(*range)).collect::<Int32Array>())),
            ("length", Arc::new(Int64Array::from(lengths))),
            ("archives", Arc::new(archives.finish())),
            ("stayed", Arc::new(stayed.finish())),
            ("before", Arc::new(before.finish())),
        ]))
    };
    py.detach(told).map_err(raise)
}

/// All pairs of ranges of uids, each once: columns `range`, `uids` and `pairs`.
#[pyfunction]
pub(crate) fn deduplicate(py: Python<'_>, groups: Vec<(i32, Parcels<'_>)>) -> PyResult<Rows> {
    let groups = groups.iter().map(|(range, parcels)| Ok((*range, views(parcels)?))).collect::<PyResult<Vec<_>>>()?;
    let unique = || {
        let parcels = groups.iter().map(|(_, parcels)| apart::deduplicate(parcels)).collect::<Result<Vec<_>>>()?;
        Ok(table([
            ("range", Arc::new(groups.iter().map(|(range, _)| Some(*range)).collect::<Int32Array>())),
            ("uids", Arc::new(BinaryArray::from_iter_values(parcels.iter().map(|parcel| &parcel.uids)))),
            ("pairs", Arc::new(BinaryArray::from_iter_values(parcels.iter().map(|parcel| &parcel.pairs)))),
        ]))
    };
    py.detach(unique).map_err(raise)
}

/// Deduplicates all pairs of ranges of uids, each of which starts at its place among all, and cuts them where shards begin: columns
/// `shard`, and `uids` and `pairs` of what other ranges have the rest of, or `file` of what is whole and was written.
#[pyfunction]
pub(crate) fn cut(
    py: Python<'_>,
    run: PathBuf,
    groups: Vec<(i32, Parcels<'_>)>,
    starts: HashMap<i32, u64>,
    shard_rows: u32,
) -> PyResult<Rows> {
    let start = |range| starts.get(range).copied().ok_or_else(|| PyKeyError::new_err(format!("range {range}")));
    let groups = groups.iter().map(|(range, parcels)| Ok((start(range)?, views(parcels)?)));
    let groups = groups.collect::<PyResult<Vec<_>>>()?;
    let output = Run::new(run).pairs();
    let cut = |(first, parcels): &(u64, Vec<_>)| apart::cut(&output, parcels, *first, shard_rows);
    let parts = py.detach(|| groups.iter().map(cut).collect::<Result<Vec<_>>>()).map_err(raise)?;
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let part = |of: fn(&Parcel<Vec<u8>>) -> &Vec<u8>| {
        let bytes = parts.iter().map(|(_, cut)| if let Cut::Part(part) = cut { Some(of(part)) } else { None });
        Arc::new(bytes.collect::<BinaryArray>())
    };
    let file = |cut: &Cut| if let Cut::Whole(file) = cut { json(file).map(Some) } else { Ok(None) };
    let files = parts.iter().map(|(_, cut)| file(cut)).collect::<PyResult<StringArray>>()?;
    Ok(table([
        ("shard", Arc::new(parts.iter().map(|(shard, _)| Some(shard.0 as i32)).collect::<Int32Array>())),
        ("uids", part(|part| &part.uids)),
        ("pairs", part(|part| &part.pairs)),
        ("file", Arc::new(files)),
    ]))
}

/// A part of a shard, or the file that it became.
type CutOff<'py> = (Option<Bytes<'py>>, Option<Bytes<'py>>, Option<String>);

/// Writes shards of which these are all parts, unless they are written: columns `shard` and `file`.
#[pyfunction]
pub(crate) fn write_pairs(py: Python<'_>, run: PathBuf, groups: Vec<(u32, Vec<CutOff<'_>>)>) -> PyResult<Rows> {
    let output = Run::new(run).pairs();
    let mut files = Vec::new();
    for (shard, mut parts) in groups {
        if let Some(file) = parts.iter_mut().find_map(|(.., file)| file.take()) {
            files.push((shard as i32, file));
            continue;
        }
        let parts = parts.into_iter().filter_map(|(uids, pairs, _)| uids.zip(pairs)).collect();
        let parts = views(&parts)?;
        let file = py.detach(|| apart::write_shard(&output, ShardId(shard), &parts)).map_err(raise)?;
        files.push((shard as i32, json(&file)?));
    }
    Ok(table([
        ("shard", Arc::new(files.iter().map(|(shard, _)| Some(*shard)).collect::<Int32Array>())),
        ("file", Arc::new(StringArray::from_iter_values(files.iter().map(|(_, file)| file)))),
    ]))
}

/// Pairs as rows with the columns of `pairs/`.
#[pyfunction]
pub(crate) fn rows(py: Python<'_>, parcels: Parcels<'_>) -> PyResult<Rows> {
    let parcels = views(&parcels)?;
    Ok(Rows::of(py.detach(|| apart::rows(&parcels)).map_err(raise)?, Pair::schema()))
}
