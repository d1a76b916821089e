use std::path::PathBuf;

use clap::Args;

/// What is kept of object stores on the disk while the program runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct Storage {
    /// Where parts of objects are kept that were read from stores [default: laion400m in the user's cache folder]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) cache: Option<PathBuf>,
    /// At most so many bytes of them
    #[arg(long, global = true, value_name = "BYTES", default_value_t = 16 << 30)]
    pub(crate) cache_bytes: u64,
}
