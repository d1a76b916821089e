//! Errors as Python people expect them.

use pyo3::exceptions::{PyException, PyRuntimeError, PyValueError};
use pyo3::{PyErr, create_exception};

create_exception!(
    laion400m,
    DamagedError,
    PyException,
    "A file is damaged. The text names the file, the record and the cause."
);

/// `OSError` for the system's, `ValueError` for a setting that makes no sense, `DamagedError` for damaged files.
pub(crate) fn raise(error: dataset::Error) -> PyErr {
    match error {
        dataset::Error::Io(error) => error.into(),
        dataset::Error::Invalid(cause) => PyValueError::new_err(cause),
        error @ dataset::Error::Format { .. } => DamagedError::new_err(error.to_string()),
        error => PyRuntimeError::new_err(error.to_string()),
    }
}

/// JSON that does not say what it should.
pub(crate) fn unreadable(error: &serde_json::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A lock that a panic left behind.
pub(crate) fn poisoned<T>(_: T) -> PyErr {
    PyRuntimeError::new_err("an earlier call has failed")
}
