//! Inflating by libdeflate: members are short, and it has nothing to set up for each.

use libdeflater::Decompressor;

/// Inflates one member after the other.
pub(super) struct Inflater(Decompressor);

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inflater")
    }
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompressor::new())
    }

    /// Whether `member` is a gzip member that fills `out` exactly and has the right checksum.
    pub(super) fn inflate(&mut self, member: &[u8], out: &mut [u8]) -> bool {
        self.0.gzip_decompress(member, out) == Ok(out.len())
    }
}
