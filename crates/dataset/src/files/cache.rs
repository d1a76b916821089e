//! Parts of objects on the disk. The files have no names, so nothing is left of them once the process has ended, however it
//! ends.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use fs_err as fs;

use md5::Digest as _;

use super::{Installed, Object, installed};
use crate::schema::hex;

/// What is fetched at least.
const BLOCK_BYTES: u64 = 256 << 10;
/// What is fetched at once of a file that is read from front to back; every part is twice as long as the one before.
const AHEAD_BYTES_MAX: u64 = 8 << 20;
/// Files that nobody reads any more and that are kept open; the usual limit of a process is 1,024.
const IDLE_MAX: usize = 128;

/// The cached files of a process.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    bytes_max: u64,
    files: Mutex<Vec<Arc<Cached>>>,
    clock: AtomicU64,
    made: AtomicU64,
}

impl Cache {
    pub(super) fn new(folder: &Path, bytes_max: u64) -> Self {
        let (clock, made) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { folder: folder.into(), bytes_max, files: Mutex::default(), clock, made }
    }

    pub(super) fn scratch(&self, folder: &Path) -> PathBuf {
        let name = md5::Md5::digest(folder.as_os_str().as_encoded_bytes());
        self.folder.join("scratch").join(hex(&name))
    }

    /// A new file without a name.
    pub(super) fn unnamed(&self) -> io::Result<std::fs::File> {
        fs::create_dir_all(&self.folder)?;
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{}-{number}", std::process::id()));
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file.into_file())
    }

    /// What is cached of an object.
    pub(super) fn open(&self, path: &Path, object: Object) -> io::Result<Arc<Cached>> {
        let known =
            |cached: &&Arc<Cached>| !object.version.is_empty() && cached.path == path && cached.object == object;
        if let Some(cached) = self.files().iter().find(known) {
            return Ok(cached.clone());
        }
        Ok(self.add(Cached::new(path, object, self.unnamed()?)))
    }

    /// Takes a file with the whole content of an object.
    pub(super) fn adopt(&self, path: &Path, object: Object, file: std::fs::File) {
        if !object.version.is_empty() {
            let cached = Cached::new(path, object, file);
            self.make_room(cached.object.bytes, None);
            cached.note(0..cached.object.bytes);
            self.add(cached);
        }
    }

    /// Bytes on the disk that may go.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        let files = self.files();
        let files = files.iter().filter(|file| !file.pinned.load(Ordering::Relaxed));
        files.map(|file| file.held.load(Ordering::Relaxed)).sum()
    }

    fn add(&self, cached: Cached) -> Arc<Cached> {
        let cached = Arc::new(cached);
        cached.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let mut files = self.files();
        files.retain(|file| file.path != cached.path); // of an older version
        files.push(cached.clone());
        cached
    }

    fn files(&self) -> MutexGuard<'_, Vec<Arc<Cached>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empties files, those first that were not used for longest and `last` last of all, until so many bytes more are not too
    /// many. Mapped files do not count: they stay.
    fn make_room(&self, more: u64, last: Option<&Cached>) {
        let mut files = self.files();
        let is_last = |file: &Cached| last.is_some_and(|last| std::ptr::eq(last, file));
        files.sort_by_key(|file| (is_last(file), file.used.load(Ordering::Relaxed)));
        let may_go = files.iter().filter(|file| !file.pinned.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let mut bytes = more + may_go.iter().map(|file| file.held.load(Ordering::Relaxed)).sum::<u64>();
        for file in may_go {
            if bytes > self.bytes_max {
                bytes = bytes.saturating_sub(file.empty()); // it may have grown meanwhile
            }
        }
        let mut idle = files.iter().filter(|file| Arc::strong_count(file) == 1).count();
        files.retain(|file| {
            let is_idle = Arc::strong_count(file) == 1;
            let goes = is_idle && (idle > IDLE_MAX || file.held.load(Ordering::Relaxed) == 0);
            idle -= usize::from(goes);
            !goes
        });
    }
}

/// An object of which parts are on the disk.
#[derive(Debug)]
pub(crate) struct Cached {
    path: PathBuf,
    object: Object,
    file: std::fs::File,
    blocks: RwLock<Blocks>,
    used: AtomicU64,
    /// Bytes that are on the disk.
    held: AtomicU64,
    /// Somebody has mapped the file: it stays as it is.
    pinned: AtomicBool,
}

/// Which parts are there.
#[derive(Debug)]
struct Blocks {
    there: Vec<bool>,
    /// Where the last part that was fetched ended, and how long the next is if it goes on there.
    ahead: (u64, u64),
}

impl Cached {
    fn new(path: &Path, object: Object, file: std::fs::File) -> Self {
        let blocks =
            Blocks { there: vec![false; object.bytes.div_ceil(BLOCK_BYTES) as usize], ahead: (0, BLOCK_BYTES) };
        Self {
            path: path.into(),
            object,
            file,
            blocks: RwLock::new(blocks),
            used: AtomicU64::new(0),
            held: AtomicU64::new(0),
            pinned: AtomicBool::new(false),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.object.bytes
    }

    /// Reads some bytes, not always as many as there are; none at the end.
    pub(super) fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset.saturating_add(out.len() as u64).min(self.object.bytes);
        if offset >= end {
            return Ok(0);
        }
        let Installed { cache, store } = installed()?;
        self.used.store(cache.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        let missing = blocks.missing(offset..end, self.object.bytes);
        let there = missing.as_ref().map_or(end, |missing| missing.start.max(offset));
        if there > offset {
            // With the lock: nobody empties the file meanwhile.
            let out = &mut out[..(there - offset) as usize];
            return self.file.read_exact_at(out, offset).map(|()| out.len());
        }
        drop(blocks);
        let missing = missing.unwrap_or(offset..end);
        let bytes = store.read_range(&self.path, &self.object, missing.clone())?;
        if bytes.len() as u64 != missing.end - missing.start {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let part = &bytes[(offset - missing.start) as usize..];
        let read = part.len().min((end - offset) as usize);
        out[..read].copy_from_slice(&part[..read]);
        cache.make_room(bytes.len() as u64, Some(self));
        self.keep(missing, &bytes)?;
        Ok(read)
    }

    fn keep(&self, range: Range<u64>, bytes: &[u8]) -> io::Result<()> {
        // Blocks are told to be there once they are, and no file is emptied between.
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        self.file.write_all_at(bytes, range.start)?;
        let new = blocks.note(&range, self.object.bytes);
        blocks.ahead = (range.end, (2 * (range.end - range.start)).clamp(BLOCK_BYTES, AHEAD_BYTES_MAX));
        self.held.fetch_add(new, Ordering::Relaxed);
        Ok(())
    }

    /// Notes that these bytes are in the file.
    fn note(&self, range: Range<u64>) {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        self.held.fetch_add(blocks.note(&range, self.object.bytes), Ordering::Relaxed);
    }

    /// Gives the disk back what it has; the bytes that it had.
    fn empty(&self) -> u64 {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        if self.file.set_len(0).is_err() {
            return 0;
        }
        blocks.there.fill(false);
        self.held.swap(0, Ordering::Relaxed)
    }

    /// The file with the whole content.
    pub(super) fn whole(&self) -> io::Result<std::fs::File> {
        self.pinned.store(true, Ordering::Relaxed);
        let mut at = 0;
        let mut part = vec![0; BLOCK_BYTES as usize];
        while at < self.object.bytes {
            at += self.read_at(&mut part, at)? as u64;
        }
        self.file.try_clone()
    }
}

impl Blocks {
    /// The first bytes of a range that are not there, and those behind them that are fetched along.
    fn missing(&self, range: Range<u64>, bytes: u64) -> Option<Range<u64>> {
        let (first, last) = (range.start / BLOCK_BYTES, range.end.div_ceil(BLOCK_BYTES));
        let first = (first..last).find(|&block| !self.there[block as usize])?;
        let start = first * BLOCK_BYTES;
        let ahead = if self.ahead.0 == start { self.ahead.1 } else { BLOCK_BYTES };
        let last = last.max((start + ahead).min(bytes).div_ceil(BLOCK_BYTES));
        let last = (first..last).find(|&block| self.there[block as usize]).unwrap_or(last);
        // What is asked for at once has a limit, too.
        let end = (last * BLOCK_BYTES).min(bytes).min(start + AHEAD_BYTES_MAX);
        Some(start..end)
    }

    /// Notes that a range of whole blocks is there; the bytes of those that were not.
    fn note(&mut self, range: &Range<u64>, bytes: u64) -> u64 {
        let mut new = 0;
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            if !std::mem::replace(&mut self.there[block as usize], true) {
                new += BLOCK_BYTES.min(bytes - block * BLOCK_BYTES);
            }
        }
        new
    }
}
