//! Finds images of a dataset by words or by another image: the index of a run, and a service with a page.
//!
//! Embeddings of queries come from whoever implements [`dataset::Embedder`]; this crate loads no model.
//!
//! ```no_run
//! use dataset::Embedder;
//! # fn find(embedder: &dyn Embedder) -> dataset::Result<()> {
//! let index = search::Index::open("run/index".as_ref())?;
//! let query = embedder.texts(&["a red circle"])?.remove(0);
//! for hit in index.search(&query, &search::Options::default())? {
//!     println!("{:.3}", hit.score);
//! }
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod map;
mod build;
mod index;
mod api;
mod server;

pub use build::build;
pub use index::{COUNT_MAX, Filter, Hit, Index, Modality, Options};
pub use server::{Service, serve};
