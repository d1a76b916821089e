//! CLIP: pixels and strings in, unit vectors out.
//!
//! A model is a folder as the Hugging Face Hub keeps it; [`Clip::tiny`] is one that comes with the program. This
//! crate decodes no picture files and knows nothing of datasets: it implements [`dataset::Embedder`].

#![forbid(unsafe_code)]

mod config;
mod error;
mod tokenizer;
mod preprocess;
mod transformer;
mod vision;
mod text;
mod model;

pub use config::{Activation, Config, TextConfig, VisionConfig};
pub use error::{Error, Result};
pub use model::Clip;
pub use tokenizer::Tokenizer;
