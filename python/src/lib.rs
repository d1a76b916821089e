//! The loader of `laion400m` for Python: what `dataset::load` has, in Python's types. All that can be said in Python is
//! said there, in the package `laion400m`.

mod batch;
mod error;
mod loader;
mod source;

/// The module `laion400m._core`.
#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    use crate::batch::{Batch, merge};
    #[pymodule_export]
    use crate::error::DamagedError;
    #[pymodule_export]
    use crate::loader::{Batches, Dataset, Stream};
    #[pymodule_export]
    use crate::source::Access;
}
