//! Random access.

use std::sync::Mutex;

use dataset::load::{self, Images, Split};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use crate::batch::Batch;
use crate::error::{poisoned, raise};

/// The examples of a split by their numbers in it.
#[pyclass(frozen, module = "laion400m._core")]
#[derive(Debug)]
pub(crate) struct Access {
    access: Mutex<load::Access>,
    split: Split,
    images: Images,
    threads: usize,
}

impl Access {
    pub(crate) fn new(access: load::Access, split: Split, images: Images, threads: usize) -> Self {
        Self { access: Mutex::new(access), split, images, threads }
    }
}

#[pymethods]
impl Access {
    fn __len__(&self) -> usize {
        self.split.len() as usize
    }

    /// Examples of these numbers, in that order.
    fn get(&self, py: Python<'_>, numbers: Vec<u64>) -> PyResult<Batch> {
        let number = |index: u64| {
            let missing = || PyIndexError::new_err(format!("no example {index}: there are {}", self.split.len()));
            self.split.number(index).ok_or_else(missing)
        };
        let numbers = numbers.into_iter().map(number).collect::<PyResult<Vec<_>>>()?;
        let batch = py.detach(|| {
            let mut access = self.access.lock().map_err(drop)?;
            Ok(access.batch(&numbers, self.images, self.threads))
        });
        batch.map_err(|()| poisoned(()))?.map(Batch::new).map_err(raise)
    }
}
