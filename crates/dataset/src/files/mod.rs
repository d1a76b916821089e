//! Files of this machine and objects of stores, by their paths: `run/recipe.toml`, `s3://bucket/run/recipe.toml`.
//!
//! This crate opens no socket. Who runs it hands over a [`Store`], which knows what stands at addresses; parts of objects that
//! were read or written lie in a cache on the disk. An object appears whole or not at all, as files do that are published.
//! Where nothing is said of addresses, a function is that of [`fs_err`].

mod cache;

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fs_err as fs;

use cache::Cache;
pub(crate) use cache::Cached;

use crate::{Error, Result};

/// How addresses start.
const SCHEMES: [&str; 6] = ["s3://", "s3a://", "gs://", "az://", "http://", "https://"];

/// An object as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its length.
    pub bytes: u64,
    /// Another one once the content is another; empty where the store does not say.
    pub version: String,
}

/// When an object may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// Whatever is there.
    Always,
    /// If there is none.
    Absent,
    /// If it is the one of this version.
    Version(&'a str),
}

/// What is in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The folder's path with the entry's name.
    pub path: PathBuf,
    /// Whether it is a folder.
    pub is_dir: bool,
}

impl Entry {
    /// Whether it is a file, or leads to one; of an object this is known without asking again.
    pub fn is_file(&self) -> bool {
        if is_remote(&self.path) { !self.is_dir } else { self.path.is_file() }
    }
}

/// Reads and writes what stands at addresses, and tries again what may pass. Errors are of the kinds that files have:
/// `NotFound` where there is nothing, `AlreadyExists` where a condition does not hold.
pub trait Store: Send + Sync {
    /// Looks at an object.
    fn head(&self, path: &Path) -> io::Result<Object>;
    /// An object, whole.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// These bytes of an object; an error if it is not of this version any more.
    fn read_range(&self, path: &Path, object: &Object, range: Range<u64>) -> io::Result<Vec<u8>>;
    /// Makes the first bytes of a file an object.
    fn write(&self, path: &Path, from: &std::fs::File, bytes: u64, condition: Condition<'_>) -> io::Result<Object>;
    /// Objects and folders that are directly in a folder, in order; none where there is no such folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>>;
    /// Removes an object.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives an object another address.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

struct Installed {
    store: Box<dyn Store>,
    cache: Cache,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// From now on addresses are asked of `store`, and what was read lies below `folder`, at most so many bytes. What is installed
/// already stays.
pub fn install(store: Box<dyn Store>, folder: &Path, bytes_max: u64) {
    let _ = INSTALLED.set(Installed { store, cache: Cache::new(folder, bytes_max) });
}

fn installed() -> io::Result<&'static Installed> {
    INSTALLED.get().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "no object store is at hand"))
}

/// Whether it is an address and no file.
pub fn is_remote(path: &Path) -> bool {
    path.to_str().is_some_and(|path| SCHEMES.iter().any(|scheme| path.starts_with(scheme)))
}

/// `file://` is a path like any other.
pub fn plain(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_prefix("file://")) {
        Some(text) => text.into(),
        None => path,
    }
}

/// Where a relative path of a file that lies in `folder` leads to.
pub fn relative_to(folder: &Path, path: &Path) -> PathBuf {
    if is_remote(path) { path.into() } else { folder.join(plain(path.into())) }
}

/// Tells which path it was, as `fs_err` does.
fn at<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Asks the store.
fn ask<T>(path: &Path, ask: impl FnOnce(&dyn Store) -> io::Result<T>) -> io::Result<T> {
    at(path, installed().and_then(|installed| ask(&*installed.store)))
}

/// A file or an object that is read, from front to back or anywhere.
#[derive(Debug)]
pub struct File {
    source: Source,
    path: PathBuf,
}

#[derive(Debug)]
enum Source {
    Local(fs::File),
    Stored { object: Arc<Cached>, at: u64 },
}

impl File {
    /// Opens it.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let source = if is_remote(path) {
            let installed = installed()?;
            let object = at(path, installed.store.head(path))?;
            Source::Stored { object: at(path, installed.cache.open(path, object))?, at: 0 }
        } else {
            Source::Local(fs::File::open(path)?)
        };
        Ok(Self { source, path: path.into() })
    }

    /// Its length.
    pub fn length(&self) -> io::Result<u64> {
        match &self.source {
            Source::Local(file) => Ok(file.metadata()?.len()),
            Source::Stored { object, .. } => Ok(object.bytes()),
        }
    }

    /// Reads some bytes at an offset.
    pub fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.source {
            Source::Local(file) => file.file().read_at(out, offset),
            Source::Stored { object, .. } => at(&self.path, object.read_at(out, offset)),
        }
    }

    /// Fills `out` from an offset on.
    pub fn read_exact_at(&self, mut out: &mut [u8], mut offset: u64) -> io::Result<()> {
        if let Source::Local(file) = &self.source {
            return file.file().read_exact_at(out, offset);
        }
        while !out.is_empty() {
            let read = self.read_at(out, offset)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out = &mut out[read..];
            offset += read as u64;
        }
        Ok(())
    }

    /// A file of this machine with the whole content, which stays as it is for as long as it is open.
    pub fn into_local(self) -> io::Result<std::fs::File> {
        match self.source {
            Source::Local(file) => Ok(file.into_file()),
            Source::Stored { object, .. } => at(&self.path, object.whole()),
        }
    }
}

impl Read for File {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Source::Local(file) => file.read(out),
            Source::Stored { object, at: place } => {
                let read = at(&self.path, object.read_at(out, *place))?;
                *place += read as u64;
                Ok(read)
            }
        }
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match &mut self.source {
            Source::Local(file) => file.seek(to),
            Source::Stored { object, at: place } => {
                let from = |start: u64, by: i64| start.checked_add_signed(by);
                let target = match to {
                    SeekFrom::Start(offset) => Some(offset),
                    SeekFrom::End(by) => from(object.bytes(), by),
                    SeekFrom::Current(by) => from(*place, by),
                };
                *place = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the start"))?;
                Ok(*place)
            }
        }
    }
}

/// The whole content.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    if is_remote(path) { ask(path, |store| store.read(path)) } else { fs::read(path) }
}

/// The whole content as text.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref();
    let text = String::from_utf8(read(path)?);
    at(path, text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// The length of a file.
pub fn length(path: impl AsRef<Path>) -> io::Result<u64> {
    let path = path.as_ref();
    Ok(if is_remote(path) { ask(path, |store| store.head(path))?.bytes } else { fs::metadata(path)?.len() })
}

/// Whether there is a file of this length.
pub(crate) fn has_length(path: impl AsRef<Path>, bytes: u64) -> io::Result<bool> {
    there(length(path).map(|length| length == bytes))
}

/// Whether there is a file.
pub fn is_file(path: impl AsRef<Path>) -> io::Result<bool> {
    let path = path.as_ref();
    there(if is_remote(path) { length(path).map(|_| true) } else { fs::metadata(path).map(|found| found.is_file()) })
}

/// Whether there is a folder; in a store, whether something is in it.
pub fn is_dir(path: impl AsRef<Path>) -> io::Result<bool> {
    let path = path.as_ref();
    if is_remote(path) {
        return there(list_any(path).map(|found| !found.is_empty()));
    }
    there(fs::metadata(path).map(|found| found.is_dir()))
}

/// Whether there is a file or a folder.
pub fn exists(path: impl AsRef<Path>) -> io::Result<bool> {
    let path = path.as_ref();
    if is_remote(path) { Ok(is_file(path)? || is_dir(path)?) } else { there(fs::metadata(path).map(|_| true)) }
}

/// What was found, or that nothing is there. Whoever cannot tell, as a store that does not answer or a folder that may not be
/// looked into, has not said that: its error stays one.
fn there(found: io::Result<bool>) -> io::Result<bool> {
    match found {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        found => found,
    }
}

fn list_any(folder: &Path) -> io::Result<Vec<Entry>> {
    ask(folder, |store| store.list(folder))
}

/// What is in a folder. One that is not there is an error.
pub fn list(folder: impl AsRef<Path>) -> io::Result<Vec<Entry>> {
    let folder = folder.as_ref();
    if is_remote(folder) {
        let found = list_any(folder)?;
        let nothing = || io::Error::new(io::ErrorKind::NotFound, "nothing is there");
        return at(folder, if found.is_empty() { Err(nothing()) } else { Ok(found) });
    }
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok(Entry { path: entry.path(), is_dir: entry.file_type()?.is_dir() })
    };
    fs::read_dir(folder)?.map(entry).collect()
}

/// Removes a file.
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    if is_remote(path) { ask(path, |store| store.remove(path)) } else { fs::remove_file(path) }
}

/// Removes a folder with all that is in it.
pub fn remove_dir_all(folder: impl AsRef<Path>) -> io::Result<()> {
    let folder = folder.as_ref();
    if !is_remote(folder) {
        return fs::remove_dir_all(folder);
    }
    for entry in list_any(folder)? {
        if entry.is_dir { remove_dir_all(&entry.path)? } else { remove_file(&entry.path)? }
    }
    Ok(())
}

/// Makes a folder and those above it; stores have none.
pub fn create_dir_all(folder: impl AsRef<Path>) -> io::Result<()> {
    let folder = folder.as_ref();
    if is_remote(folder) { Ok(()) } else { fs::create_dir_all(folder) }
}

/// Gives a file another name. In a store it is copied first, so for a moment there are two.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    if is_remote(from) { ask(from, |store| store.rename(from, to)) } else { fs::rename(from, to) }
}

/// Makes sure that the names in a folder outlive a power cut.
pub(crate) fn sync_names(folder: &Path) -> io::Result<()> {
    if is_remote(folder) { Ok(()) } else { fs::File::open(folder)?.sync_all() }
}

/// The path without detours.
pub fn canonical(path: impl AsRef<Path>) -> io::Result<PathBuf> {
    let path = path.as_ref();
    if is_remote(path) { Ok(path.into()) } else { fs::canonicalize(path) }
}

/// The folder for what is only needed while the one at `folder` is made: itself, or for one in a store a folder of this
/// machine that has always the same name. It need not be there yet.
pub fn scratch(folder: &Path) -> Result<PathBuf> {
    Ok(if is_remote(folder) { installed()?.cache.scratch(folder) } else { folder.into() })
}

/// A new file of this machine for the content of an object.
pub(crate) fn unnamed(path: &Path) -> Result<std::fs::File> {
    Ok(at(path, installed().and_then(|installed| installed.cache.unnamed()))?)
}

/// Makes the content of such a file the object at `path`.
pub(crate) fn store(path: &Path, file: std::fs::File, bytes: u64, condition: Condition<'_>) -> Result<()> {
    let Installed { store, cache } = installed()?;
    let object = at(path, store.write(path, &file, bytes, condition))?;
    cache.adopt(path, object, file);
    Ok(())
}

/// The version of a file that may change: another one once it was written again. `None` where there is none.
pub fn version(path: &Path) -> Result<Option<String>> {
    let version = if is_remote(path) {
        ask(path, |store| store.head(path)).map(|object| object.version)
    } else {
        fs::metadata(path).and_then(|file| Ok(format!("{:?} {}", file.modified()?, file.len())))
    };
    match version {
        Ok(version) => Ok(Some(version)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::from(error)),
    }
}

#[cfg(test)]
mod tests;
