//! What can go wrong with files and values.

use std::path::{Path, PathBuf};

/// The result of this crate's functions, and of the stages.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Each variant names the operation, the thing and the cause. A bad row is a [`crate::Status`], never one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused; the message names the operation and the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file is not what its name says, or is damaged.
    #[error("read {}: {cause}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where in it, and what is wrong there.
        cause: String,
    },
    /// A table cannot be written.
    #[error("write {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A vector that cannot be scaled to length 1.
    #[error("embedding has no direction: its length is {length}")]
    NoDirection {
        /// Euclidean length.
        length: f64,
    },
    /// The embedder could not do its work.
    #[error("embed: {source}")]
    Embed {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A setting or an input makes no sense.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// A damaged file: `cause` says where and what.
    pub fn format(path: &Path, cause: impl ToString) -> Self {
        Self::Format { path: path.into(), cause: cause.to_string() }
    }
}
