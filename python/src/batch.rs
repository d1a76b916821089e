//! Batches as NumPy arrays.

use std::sync::Mutex;

use dataset::load::{self, Column, Passed, Pictures, State};
use numpy::{Element, PyArray, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::error::{poisoned, unreadable};

/// Some examples.
#[pyclass(frozen, module = "laion400m._core")]
#[derive(Debug)]
pub(crate) struct Batch {
    columns: Mutex<Option<load::Batch>>,
    places: Vec<u64>,
    passed: Passed,
    skipped: Vec<u64>,
}

impl Batch {
    pub(crate) fn new(mut batch: load::Batch) -> Self {
        let places = std::mem::take(&mut batch.places);
        let (passed, skipped) = (std::mem::take(&mut batch.passed), std::mem::take(&mut batch.skipped));
        Self { columns: Mutex::new(Some(batch)), places, passed, skipped }
    }
}

#[pymethods]
impl Batch {
    fn __len__(&self) -> usize {
        self.places.len()
    }

    /// The columns by name, given away: texts and stored pictures as lists of bytes, pictures in their own sizes as a
    /// list of arrays, everything else as an array. No number and no pixel is copied.
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let batch = self.columns.lock().map_err(poisoned)?.take().unwrap_or_default();
        let (rows, columns) = (batch.rows, PyDict::new(py));
        let texts =
            [("caption", batch.captions), ("license", batch.licenses), ("url", batch.urls), ("tfds_id", batch.ids)];
        for (name, texts) in texts {
            if texts.len() == rows {
                columns.set_item(name, bytes(py, &texts)?)?;
            }
        }
        match batch.pictures {
            Pictures::None => {}
            Pictures::Encoded(pictures) => columns.set_item("image", bytes(py, &pictures)?)?,
            Pictures::Squares { side, rgb } => {
                let side = side as usize;
                columns.set_item("image", array(py, rgb, [rows, side, side, 3])?)?;
            }
            Pictures::Decoded(pictures) => {
                let arrays = pictures.into_iter().map(|picture| {
                    let shape = [picture.height() as usize, picture.width() as usize, 3];
                    array(py, picture.into_rgb(), shape)
                });
                columns.set_item("image", PyList::new(py, arrays.collect::<PyResult<Vec<_>>>()?)?)?;
            }
        }
        for (name, values) in [("image_embedding", batch.image_embeddings), ("text_embedding", batch.text_embeddings)] {
            if !values.is_empty() {
                let dimensions = values.len() / rows;
                columns.set_item(name, array(py, values, [rows, dimensions])?)?;
            }
        }
        if batch.nsfw.len() == rows {
            columns.set_item("nsfw", array(py, batch.nsfw, [rows])?)?;
        }
        for (name, sizes) in [("original_height", batch.original_heights), ("original_width", batch.original_widths)] {
            if sizes.len() == rows {
                columns.set_item(name, array(py, sizes, [rows])?)?;
            }
        }
        if batch.similarities.len() == rows {
            columns.set_item("similarity", array(py, batch.similarities, [rows])?)?;
        }
        Ok(columns)
    }

    /// Places that are behind once the row has been taken, or all of them, and how many of these were damaged.
    #[pyo3(signature = (row = None))]
    fn passed(&self, row: Option<usize>) -> (Vec<(u64, u64)>, u64) {
        match row.and_then(|row| self.places.get(row)).filter(|place| Some(*place) != self.places.last()) {
            Some(&place) => {
                let skipped = self.skipped.iter().filter(|&&skipped| skipped <= place).count();
                (self.passed.until(place).into(), skipped as u64)
            }
            None => (self.passed.clone().into(), self.skipped.len() as u64),
        }
    }
}

/// A state with more places behind.
#[pyfunction]
pub(crate) fn merge(state: &str, passed: Vec<(u64, u64)>, skipped: u64) -> PyResult<String> {
    let mut state: State = serde_json::from_str(state).map_err(|error| unreadable(&error))?;
    state.passed.merge(&passed.into());
    state.skipped += skipped;
    serde_json::to_string(&state).map_err(|error| unreadable(&error))
}

fn bytes<'py>(py: Python<'py>, column: &Column) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, column.iter().map(|value| PyBytes::new(py, value)))
}

fn array<T: Element, const N: usize>(py: Python<'_>, values: Vec<T>, shape: [usize; N]) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyArray::from_vec(py, values).reshape(shape.to_vec())?.into_any())
}
