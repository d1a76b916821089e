//! Pairs between the tasks of engines, as Arrow: what tasks find, deduplicate, cut and write. Bytes come as views into Arrow's buffers
//! and go as Arrow's stream, neither of which copies them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::{fmt, iter};

use arrow_array::builder::{BinaryBuilder, Int32Builder, Int64Builder, ListBuilder};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchIterator, StringArray};
use arrow_schema::SchemaRef;
use dataset::schema::Pair;
use dataset::spill::Parcel;
use dataset::{Result, Row as _, Run, ShardId};
use numpy::PyReadonlyArray1;
use pipeline::collect::apart::{self, Cut, Ends, Ranged};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::error::raise;
use crate::stages::json;

/// Bytes of the pairs of a batch: few, since every process that they pass takes as much memory anew for them.
const BATCH_BYTES: usize = 4 << 20;

/// Rows that are given away as an Arrow stream, whose batches are made one after the other.
#[pyclass(frozen, module = "laion400m._core")]
pub(crate) struct Rows(Mutex<Option<Batches>>, SchemaRef);

type Batches = Box<dyn Iterator<Item = RecordBatch> + Send>;

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
        let batches = self.0.lock().map_err(crate::error::poisoned)?.take();
        let rows = RecordBatchIterator::new(batches.into_iter().flatten().map(Ok), self.1.clone());
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(rows)), c"arrow_array_stream")
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rows").field(&self.1).finish()
    }
}

impl Rows {
    fn of(batches: impl IntoIterator<Item = RecordBatch, IntoIter: Send + 'static>, schema: SchemaRef) -> Self {
        Self(Mutex::new(Some(Box::new(batches.into_iter()))), schema)
    }
}

/// A table of columns, any of which may have nulls.
fn table<const N: usize>(columns: [(&str, ArrayRef); N]) -> Rows {
    let batch = batch(columns);
    let schema = batch.schema();
    Rows::of([batch], schema)
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

/// A column of bytes, which are copied once.
fn binary<'a>(values: impl Iterator<Item = Option<&'a [u8]>> + Clone) -> ArrayRef {
    let bytes = values.clone().flatten().map(<[u8]>::len).sum();
    let mut column = BinaryBuilder::with_capacity(values.clone().count(), bytes);
    values.for_each(|value| column.append_option(value));
    Arc::new(column.finish())
}

/// A row of what a task finds in its sources: pairs of a range of uids, or what became of an archive.
#[derive(Default)]
struct Found {
    /// The first, where it is no pairs, which goes their way.
    range: i32,
    parcel: Option<Parcel<Vec<u8>>>,
    archive: Option<i32>,
    read: Option<String>,
}

impl Found {
    fn bytes(&self) -> usize {
        self.parcel.as_ref().map_or(0, Parcel::bytes)
    }

    fn batch(rows: &[Self]) -> RecordBatch {
        let parcels = rows.iter().map(|row| row.parcel.as_ref());
        batch([
            ("range", Arc::new(rows.iter().map(|row| Some(row.range)).collect::<Int32Array>())),
            ("uids", binary(parcels.clone().map(|parcel| Some(&*parcel?.uids)))),
            ("pairs", binary(parcels.map(|parcel| Some(&*parcel?.pairs)))),
            ("archive_number", Arc::new(rows.iter().map(|row| row.archive).collect::<Int32Array>())),
            ("read", Arc::new(rows.iter().map(|row| row.read.as_deref()).collect::<StringArray>())),
        ])
    }
}

/// What a task found: columns `range`, `uids` and `pairs` of parcels; of an archive `archive_number` and `read`.
pub(crate) fn found(parcels: Ranged, archive: Option<(u32, String)>) -> Rows {
    let parcels = parcels.into_iter();
    let parcels =
        parcels.map(|(range, parcel)| Found { range: range as i32, parcel: Some(parcel), ..Found::default() });
    let told =
        archive.map(|(archive, read)| Found { archive: Some(archive as i32), read: Some(read), ..Found::default() });
    let mut rows = parcels.chain(told).peekable();
    let batches = iter::from_fn(move || {
        let first = rows.next()?;
        let mut bytes = first.bytes();
        let mut fits = |row: &Found| {
            bytes += row.bytes();
            bytes <= BATCH_BYTES
        };
        let others = iter::from_fn(|| rows.next_if(&mut fits));
        Some(Found::batch(&iter::once(first).chain(others).collect::<Vec<_>>()))
    });
    Rows::of(batches, Found::batch(&[]).schema())
}

/// The uids of tables of earlier runs, as what a task found, for each of so many ranges of uids.
#[pyfunction]
pub(crate) fn earlier(py: Python<'_>, tables: Vec<PathBuf>, ranges: u32) -> PyResult<Rows> {
    Ok(found(py.detach(|| apart::earlier(&tables, ranges)).map_err(raise)?, None))
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
            ("uids", binary(parcels.iter().map(|parcel| Some(&*parcel.uids)))),
            ("pairs", binary(parcels.iter().map(|parcel| Some(&*parcel.pairs)))),
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
    let part = |of: fn(&Parcel<Vec<u8>>) -> &[u8]| {
        binary(parts.iter().map(|(_, cut)| if let Cut::Part(part) = cut { Some(of(part)) } else { None }))
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
