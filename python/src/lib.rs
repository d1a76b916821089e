//! The loader of `laion400m` for Python: what `dataset::load` has, in Python's types. All that can be said in Python is
//! said there, in the package `laion400m`.

mod batch;
mod error;
mod loader;
mod pairs;
mod source;
mod stages;

/// Batches are made by one thread and freed by another, which the system's allocator is slow at: it gives large blocks
/// back to the kernel and takes them again, zeroed. Version 2, since it takes no lock when a thread starts or ends: a
/// process that is forked at that moment would wait for it for ever.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
    use crate::pairs::{Rows, cut, deduplicate, earlier, ends, rows, write_pairs};
    #[pymodule_export]
    use crate::source::Access;
    #[pymodule_export]
    use crate::stages::{Recipe, Shards, run};

    /// Packages and runs may be in object stores.
    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        pipeline::remote::install(&pipeline::remote::default_cache(), 16 << 30);
        Ok(())
    }
}
