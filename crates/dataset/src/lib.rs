//! The nouns of an image-text dataset, and every file format it is kept in, reading and writing.
//!
//! All other crates speak these nouns. This one opens no socket and loads no model; column names and byte layouts
//! stand nowhere else.
//!
//! ```
//! use dataset::{Counts, Failure, Reason, SampleKey, ShardId, Status};
//!
//! let key = SampleKey { shard: ShardId(42), row: 17 };
//! assert_eq!(key.to_string(), "000420017");
//!
//! let mut counts = Counts::default();
//! counts.add(Status::Kept);
//! counts.add(Status::Dropped(Reason::Duplicate));
//! counts.add(Status::Failed(Failure::Timeout));
//! assert!(counts.check().is_ok(), "every row has one end");
//! ```

#![forbid(unsafe_code)]

mod error;
mod status;
mod key;
mod label;
mod embedding;
mod progress;
mod row;
mod crc;
mod members;
mod publish;
mod run;

pub mod array_record;
pub mod carried;
pub mod croissant;
pub mod encoded;
pub mod export;
pub mod files;
pub mod hub;
pub mod indexed;
pub mod list;
pub mod load;
pub mod npy;
pub mod picture;
pub mod proto;
pub mod released;
pub mod samples;
pub mod schema;
pub mod scored;
pub mod shard;
pub mod spill;
pub mod table;
pub mod texts;
pub mod tfds;
pub mod tfrecord;
pub mod warc;
pub mod webdataset;

pub use embedding::{Embedder, Embedding, Pixels, Precision, Scorer, UNIT_TOLERANCE, same_weights};
pub use error::{Error, Result};
pub use key::{SHARD_ROWS, SampleKey, ShardId};
pub use label::Nsfw;
pub use progress::{Progress, Silent, Task};
pub use publish::{
    Draft, FileEntry, Marker, file_crc32c, file_sha256, list_shards, publish, remove_shards, remove_temporary,
};
pub use row::{FromBatch, Row};
pub use run::{EmbeddingFiles, Packages, Run};
pub use status::{Counts, Failure, Reason, Stage, Status, Summary};
