//! What can go wrong with a model.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Each variant names the file or the step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the model folder cannot be read; the message of the source names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// `config.json` is not a CLIP configuration.
    #[error("read model: {}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A folder without weights.
    #[error("read model: {}: none of {names}", folder.display())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// The files that were looked for.
        names: String,
    },
    /// The weights cannot be read.
    #[error("read model: {}: {source}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why.
        source: candle_core::Error,
    },
    /// A weight that is no number.
    #[error("read model: {}: {name} has a value that is not finite", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The weight.
        name: String,
    },
    /// A file that is no head.
    #[error("read head: {}: {cause}", path.display())]
    Head {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// ONNX Runtime cannot be loaded, or does not run the model.
    #[error("ONNX Runtime: {0}")]
    Runtime(String),
    /// A number in the configuration makes no model.
    #[error("read model: configuration: {cause}")]
    Shape {
        /// Which number, and why.
        cause: String,
    },
    /// `tokenizer.json` is no tokenizer, or a text cannot be cut into tokens.
    #[error("tokenizer: {0}")]
    Tokenizer(#[source] tokenizers::Error),
    /// The weights do not fit the configuration, or a tensor operation failed.
    #[error("model: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A picture cannot be scaled.
    #[error("resize a picture: {0}")]
    Resize(String),
    /// The vector has no direction.
    #[error(transparent)]
    Embedding(#[from] dataset::Error),
}

impl From<Error> for dataset::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Embedding(error) => error,
            error => Self::Embed { source: Box::new(error) },
        }
    }
}
