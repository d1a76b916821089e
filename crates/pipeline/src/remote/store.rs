//! What stands at addresses, for the rest of the program.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use dataset::files::{self, Condition, Entry, Object};
use futures::stream::{self, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{
    Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, PutResult, RetryConfig,
    UpdateVersion,
};
use tokio::runtime::Runtime;

use super::object::{cause, key, lacks_credentials, split, store};

/// Longer objects are written in parts of this length, some of them at once.
const PART_BYTES: u64 = 16 << 20;
const PARTS_AT_ONCE: usize = 4;
/// For so long a request is tried again, with pauses that grow to seconds.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Times that something is tried that may have been done although its answer was lost.
const ATTEMPTS_MAX: usize = 4;

/// Lets the program read and write `s3://`, `gs://` and `az://`, and read `http://` and `https://`. What was read or written
/// is kept below `cache` while the program runs, at most so many bytes.
pub fn install(cache: &Path, cache_bytes: u64) {
    files::install(Box::new(Stores::default()), cache, cache_bytes);
}

/// Where the cache is unless somebody says otherwise: `laion400m` in the user's cache folder.
pub fn default_cache() -> PathBuf {
    let set = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = set.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    folder.unwrap_or_else(std::env::temp_dir).join("laion400m")
}

/// All stores that were asked so far.
#[derive(Default)]
struct Stores {
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    /// Of which process: connections and threads do not survive a fork.
    process: u32,
    runtime: Option<Arc<Runtime>>,
    stores: HashMap<(String, String), Arc<dyn ObjectStore>>,
}

/// An object, and who has it.
struct Place {
    runtime: Arc<Runtime>,
    store: Arc<dyn ObjectStore>,
    key: Key,
}

impl Stores {
    fn place(&self, path: &Path) -> io::Result<Place> {
        let address = path.to_str().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not text"))?;
        let (scheme, bucket, rest) = split(address)?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.process != std::process::id() {
            // What belongs to the parent's threads is not dropped here, for they are not there to be waited for.
            std::mem::forget(std::mem::take(&mut *opened));
            opened.process = std::process::id();
        }
        let runtime = match &opened.runtime {
            Some(runtime) => runtime.clone(),
            None => {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
                opened.runtime.insert(Arc::new(runtime)).clone()
            }
        };
        let name = (scheme.to_owned(), bucket.to_owned());
        let store = match opened.stores.get(&name) {
            Some(store) => store.clone(),
            None => {
                let retry = RetryConfig { max_retries: 7, retry_timeout: RETRY_MAX, ..RetryConfig::default() };
                let new = store(scheme, bucket, retry)?;
                opened.stores.entry(name).or_insert(new).clone()
            }
        };
        Ok(Place { runtime, store, key: key(rest)? })
    }
}

impl Place {
    /// Waits for what is asked of the store. The caller may itself be part of another runtime, whose threads must not run this
    /// one's work.
    fn wait<T: Send + 'static>(
        &self,
        ask: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = mpsc::channel();
        self.runtime.spawn(async move {
            let _ = sender.send(ask.await); // nobody waits any more
        });
        let lost = || Error::Generic { store: "store", source: "the answer was lost".into() };
        receiver.recv().unwrap_or_else(|_| Err(lost()))
    }

    /// The same, asking again where an answer broke off, which the store's own library does only before it has begun.
    fn ask<T: Send + 'static, F>(&self, ask: impl Fn(Arc<dyn ObjectStore>, Key) -> F) -> io::Result<T>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut attempt = 1;
        loop {
            match self.wait(ask(self.store.clone(), self.key.clone())) {
                Err(error @ Error::Generic { .. }) if attempt < ATTEMPTS_MAX && !lacks_credentials(&error) => {
                    attempt += 1
                }
                other => return other.map_err(|error| into_io(&error)),
            }
        }
    }

    /// Asks for some bytes, or all.
    fn get(&self, options: &GetOptions) -> io::Result<Bytes> {
        self.ask(|store, key| {
            let options = options.clone();
            async move { store.get_opts(&key, options).await?.bytes().await }
        })
    }
}

fn into_io(error: &Error) -> io::Error {
    let kind = match error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::AlreadyExists { .. } | Error::Precondition { .. } => io::ErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, cause(error))
}

impl files::Store for Stores {
    fn head(&self, path: &Path) -> io::Result<Object> {
        let meta = self.place(path)?.ask(|store, key| async move { store.head(&key).await })?;
        let version = meta.e_tag.or(meta.version).unwrap_or_default();
        Ok(Object { bytes: meta.size, version })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.place(path)?.get(&GetOptions::default())?.into())
    }

    fn read_range(&self, path: &Path, object: &Object, range: Range<u64>) -> io::Result<Vec<u8>> {
        let if_match = Some(object.version.clone()).filter(|version| version.starts_with('"'));
        let options = GetOptions { range: Some(range.into()), if_match, ..GetOptions::default() };
        let read = self.place(path)?.get(&options);
        let changed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::Error::other("it has changed while it was read"),
            _ => error,
        };
        read.map(Into::into).map_err(changed)
    }

    fn write(&self, path: &Path, from: &std::fs::File, bytes: u64, condition: Condition<'_>) -> io::Result<Object> {
        let place = self.place(path)?;
        let from = from.try_clone()?;
        let mode = match condition {
            Condition::Always => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Version(version) => {
                PutMode::Update(UpdateVersion { e_tag: Some(version.into()), version: None })
            }
        };
        let (store, key) = (place.store.clone(), place.key.clone());
        let put = place
            .wait(async move {
                let mut attempt = 1;
                loop {
                    let put = if bytes <= PART_BYTES {
                        put_whole(&*store, &key, &from, bytes, mode.clone()).await
                    } else {
                        put_parts(&*store, &key, &from, bytes).await
                    };
                    match put {
                        // The last request of an upload may have been done although its answer was lost.
                        Err(Error::Generic { .. } | Error::NotFound { .. }) if attempt < ATTEMPTS_MAX => attempt += 1,
                        other => return other,
                    }
                }
            })
            .map_err(|error| into_io(&error))?;
        Ok(Object { bytes, version: put.e_tag.or(put.version).unwrap_or_default() })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        if folder.starts_with("http:") || folder.starts_with("https:") {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a web server has no listing"));
        }
        let place = self.place(folder)?;
        let found = place.ask(|store, key| async move { store.list_with_delimiter(Some(&key)).await })?;
        let entry = |key: &Key, is_dir| {
            Some(Entry { path: folder.join(key.filename().filter(|name| !name.is_empty())?), is_dir })
        };
        let objects = found.objects.iter().filter(|object| object.location != place.key);
        let objects = objects.filter_map(|object| entry(&object.location, false));
        let folders = found.common_prefixes.iter().filter_map(|prefix| entry(prefix, true));
        let mut entries: Vec<_> = objects.chain(folders).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.place(path)?.ask(|store, key| async move { store.delete(&key).await }) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to = self.place(to)?.key;
        // Not by one call: what was copied and removed is not there any more when that is tried again.
        self.place(from)?.ask(|store, key| {
            let to = to.clone();
            async move { store.copy(&key, &to).await }
        })?;
        self.remove(from)
    }
}

fn part(from: &std::fs::File, start: u64, bytes: u64) -> Result<PutPayload, Error> {
    let mut part = vec![0; bytes as usize];
    let read = from.read_exact_at(&mut part, start);
    read.map_err(|error| Error::Generic { store: "cache", source: error.into() })?;
    Ok(part.into())
}

async fn put_whole(
    store: &dyn ObjectStore,
    key: &Key,
    from: &std::fs::File,
    bytes: u64,
    mode: PutMode,
) -> Result<PutResult, Error> {
    store.put_opts(key, part(from, 0, bytes)?, PutOptions { mode, ..PutOptions::default() }).await
}

/// Writes a long object, which appears when its last part is there.
async fn put_parts(store: &dyn ObjectStore, key: &Key, from: &std::fs::File, bytes: u64) -> Result<PutResult, Error> {
    let mut upload = store.put_multipart(key).await?;
    let starts = (0..bytes).step_by(PART_BYTES as usize);
    let parts = stream::iter(starts.map(|start| {
        let payload = part(from, start, PART_BYTES.min(bytes - start));
        payload.map(|payload| upload.put_part(payload))
    }));
    let sent = parts.try_buffer_unordered(PARTS_AT_ONCE).try_collect::<Vec<()>>().await;
    let done = match sent {
        Ok(_) => upload.complete().await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        let _ = upload.abort().await; // the first error is the one to tell
    }
    done
}
