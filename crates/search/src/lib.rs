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
mod hits;
mod lists;
mod index;
pub mod query;
mod api;
mod clip_retrieval;
mod page;
mod server;

pub use dataset::indexed::Filter;
pub use hits::Hit;
pub use index::{COUNT_MAX, Index, Live, Modality, Options, build};
pub use server::{Fetch, Limits, Service, Settings, serve};
