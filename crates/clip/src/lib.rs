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
mod weights;
#[cfg(feature = "onnxruntime")]
mod onnx;
mod hub;
mod model;
mod head;

pub use config::{Activation, Config, Normalization, TextConfig, VisionConfig};
pub use error::{Error, Result};
pub use head::Head;
pub use hub::{PRESETS, Preset, cached};
pub use model::{Clip, Options};
pub use tokenizer::Tokenizer;

pub use dataset::Precision;
