//! The stages that turn a crawl into a curated image-text dataset: [`collect`], [`download`], [`embed`], [`filter`],
//! [`pack`], and [`build`], which takes every shard the whole way; [`verify`] checks what they wrote, and [`stats`] counts
//! it.
//!
//! Each stage is a function from settings, input and output to a [`dataset::Summary`]. It does nothing where its work
//! is done, and finishes what was begun: a file has its final name only when it is whole, and a shard's marker comes
//! last.

#![forbid(unsafe_code)]

pub mod remote;
mod address;
mod tls;

pub mod collect;
pub mod download;
pub mod embed;
pub mod filter;
pub mod pack;
pub mod build;
pub mod stats;
pub mod verify;
