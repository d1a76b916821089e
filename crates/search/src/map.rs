//! A file as memory: the only place of this crate with `unsafe`.

use std::path::Path;

use dataset::{Result, files};
use memmap2::Mmap;

/// Maps a file for reading.
pub(crate) fn map(path: &Path) -> Result<Mmap> {
    let file = files::File::open(path)?.into_local()?;
    // SAFETY: the bytes of a map change if somebody changes the file. Files of an index are never written again once
    // they have their name: a new index replaces them by renaming, and this map keeps the old file alive. Somebody who
    // writes into them all the same gets wrong results, or a signal if the file is made shorter, as with any mapping.
    let map = unsafe { Mmap::map(&file)? };
    Ok(map)
}

/// Asks for bytes that are read soon. Nothing waits for them.
#[inline(always)]
pub(crate) fn fetch(bytes: &[u8]) {
    const LINE: usize = 64;
    #[cfg(target_arch = "x86_64")]
    for line in bytes.iter().step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it has no effect but on time, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, LINE);
}
