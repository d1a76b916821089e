//! `laion400m/images` and `laion400m/embeddings` on disk, as TensorFlow Datasets 4.9 prepares and reads them.
//!
//! ```text
//! laion400m/.config/metadata.json
//! laion400m/images/1.0.0/dataset_info.json  features.json  nsfw.labels.txt
//! laion400m/images/1.0.0/laion400m-train.tfrecord-00000-of-00001 …
//! ```

mod features;
mod info;
mod records;
mod shuffle;
mod stored;
mod writer;

pub use features::{Config, Example, ExampleView, FEATURES, Values};
pub(crate) use info::{CITATION, HOMEPAGE};
pub use info::{DATASET, Info, SPLIT, VERSION, folder, shard_name};
pub use records::FileFormat;
pub(crate) use records::ShardReader;
pub use stored::Content;
pub use writer::{TfdsReader, TfdsWriter};
