//! Datasets and their batches.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{RecordBatch, RecordBatchIterator};
use arrow_schema::{ArrowError, Schema};
use dataset::load::{self, BatchOptions, Images, ReadOptions, Share, State};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::batch::Batch;
use crate::error::{poisoned, raise, unreadable};
use crate::source::Access;

/// How long Python's signals may wait.
const PATIENCE: Duration = Duration::from_millis(100);

/// A package.
#[pyclass(frozen, module = "laion400m._core")]
#[derive(Debug)]
pub(crate) struct Dataset(load::Dataset);

#[pymethods]
impl Dataset {
    /// Opens the package in a folder.
    #[staticmethod]
    fn open(py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        py.detach(|| load::Dataset::open(&folder)).map(Self).map_err(raise)
    }

    /// Opens a configuration of the catalogue below a data folder.
    #[staticmethod]
    fn named(py: Python<'_>, name: &str, data_dir: PathBuf) -> PyResult<Self> {
        py.detach(|| load::Dataset::named(name, &data_dir)).map(Self).map_err(raise)
    }

    /// The same with the embeddings of another package.
    fn with_embeddings(&self, py: Python<'_>, folder: PathBuf) -> PyResult<Self> {
        py.detach(|| self.0.clone().with_embeddings(&folder)).map(Self).map_err(raise)
    }

    fn __len__(&self) -> usize {
        self.0.len() as usize
    }

    /// Where it lies.
    #[getter]
    fn folder(&self) -> PathBuf {
        self.0.folder().to_owned()
    }

    /// Examples of every shard.
    #[getter]
    fn shard_lengths(&self) -> Vec<u64> {
        self.0.shard_lengths().to_vec()
    }

    /// Names of the features its examples have.
    fn features(&self, py: Python<'_>) -> PyResult<Vec<&'static str>> {
        py.detach(|| self.0.features()).map_err(raise)
    }

    /// Examples that are read with these options.
    fn count(&self, options: &str) -> PyResult<u64> {
        self.0.count(&read_options(options)?).map_err(raise)
    }

    /// The state of a reader that has read nothing.
    fn start(&self, options: &str) -> PyResult<String> {
        let options = read_options(options)?;
        self.0.count(&options).map_err(raise)?; // tells at once what is wrong with the split
        serde_json::to_string(&self.0.start(&options)).map_err(|error| unreadable(&error))
    }

    /// Batches from a state on. `share` is (index, count, unit). `images` is the side of the squares, 0 for all pixels,
    /// or `None` for pictures as they are stored.
    #[allow(clippy::too_many_arguments)]
    fn batches(
        &self,
        state: &str,
        share: (u64, u64, u64),
        size: usize,
        drop_remainder: bool,
        images: Option<u32>,
        ids: bool,
        threads: usize,
        ahead: usize,
    ) -> PyResult<Batches> {
        let state: State = serde_json::from_str(state).map_err(|error| unreadable(&error))?;
        let share = Share { index: share.0, count: share.1, unit: share.2 };
        let options = BatchOptions { size, drop_remainder, images: self::images(images), ids, threads, ahead };
        let batches = self.0.batches(&state, share, &options).map_err(raise)?;
        Ok(Batches { batches: Mutex::new(batches), process: std::process::id() })
    }

    /// Random access to the examples of a split.
    fn access(&self, split: &str, images: Option<u32>, threads: usize) -> PyResult<Access> {
        let split = self.0.split(split, load::Rounding::default()).map_err(raise)?;
        Ok(Access::new(self.0.access(), split, self::images(images), threads))
    }
}

fn read_options(json: &str) -> PyResult<ReadOptions> {
    serde_json::from_str(json).map_err(|error| unreadable(&error))
}

fn images(side: Option<u32>) -> Images {
    match side {
        None => Images::Encoded,
        Some(0) => Images::Decoded,
        Some(side) => Images::Square(side),
    }
}

/// Batches in their order.
#[pyclass(frozen, module = "laion400m._core")]
#[derive(Debug)]
pub(crate) struct Batches {
    batches: Mutex<load::Batches>,
    /// Threads do not survive a fork.
    process: u32,
}

#[pymethods]
impl Batches {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        if std::process::id() != self.process {
            return Err(PyRuntimeError::new_err("begun before a fork: call iter() in this process"));
        }
        loop {
            let next = py.detach(|| self.batches.lock().map(|mut batches| batches.next_within(PATIENCE)).map_err(drop));
            if let Some(batch) = next.map_err(poisoned)? {
                return batch.map(|batch| batch.map(Batch::new).map_err(raise)).transpose();
            }
            py.check_signals()?;
        }
    }

    /// Where it stands after the last batch.
    fn state(&self) -> PyResult<String> {
        let batches = self.batches.lock().map_err(poisoned)?;
        serde_json::to_string(batches.state()).map_err(|error| unreadable(&error))
    }
}

/// Batches as an Arrow stream, for whoever asks with the Arrow PyCapsule interface.
#[pyclass(frozen, module = "laion400m._core")]
#[derive(Debug)]
pub(crate) struct Stream(Mutex<Option<Py<Batches>>>);

#[pymethods]
impl Stream {
    #[new]
    fn new(batches: Py<Batches>) -> Self {
        Self(Mutex::new(Some(batches)))
    }

    /// The stream, which can be taken once.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema); // the standard lets a producer give its own schema
        let batches = self.0.lock().map_err(poisoned)?.take();
        let batches: Arc<Py<Batches>> =
            Arc::new(batches.ok_or_else(|| PyRuntimeError::new_err("the stream was taken"))?);
        let mut next = move || -> Option<Result<RecordBatch, ArrowError>> {
            let Ok(mut batches) = batches.get().batches.lock() else {
                return Some(Err(ArrowError::ComputeError("an earlier call has failed".into())));
            };
            let batch = batches.next()?;
            let arrow = batch.and_then(load::Batch::into_arrow);
            Some(arrow.map_err(|error| ArrowError::ExternalError(Box::new(error))))
        };
        // The schema stands in the batches, so the first one is needed now.
        let first = py.detach(&mut next).transpose().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        let schema = first.as_ref().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        let batches = first.map(Ok).into_iter().chain(std::iter::from_fn(next));
        let stream = FFI_ArrowArrayStream::new(Box::new(RecordBatchIterator::new(batches, schema)));
        PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
    }
}
