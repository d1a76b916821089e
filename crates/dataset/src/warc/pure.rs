//! Inflating in Rust alone.

use std::io::Read;

use flate2::bufread::GzDecoder;

/// Inflates one member after the other.
#[derive(Debug)]
pub(super) struct Inflater;

impl Inflater {
    pub(super) fn new() -> Self {
        Self
    }

    /// Whether `member` is a gzip member that fills `out` exactly and has the right checksum.
    pub(super) fn inflate(&mut self, member: &[u8], out: &mut [u8]) -> bool {
        let mut decoder = GzDecoder::new(member);
        // The checksum is looked at when the end is.
        decoder.read_exact(out).is_ok() && matches!(decoder.read(&mut [0]), Ok(0))
    }
}
