//! A file as memory: the only place of this crate with `unsafe`.

use std::path::Path;

use dataset::Result;
use memmap2::Mmap;

/// Maps a file for reading.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = fs_err::File::open(path)?;
    // SAFETY: the bytes of a map change if somebody changes the file. Files of an index are never written again once
    // they have their name: a new index replaces them by renaming, and this map keeps the old file alive. Somebody who
    // writes into them all the same gets wrong results, or a signal if the file is made shorter, as with any mapping.
    let map = unsafe { Mmap::map(file.file())? };
    Ok(map)
}
