//! The service over a small run with real pictures, asked over real sockets.

mod clip_retrieval;
mod description;
mod hostile;
mod limits;
mod support;
mod version_1;
