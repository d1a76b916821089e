//! Files that appear whole or not at all.

use std::fs::TryLockError;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files::{self, Condition};
use crate::schema::hex;
use crate::{Counts, Error, Result, ShardId};

/// A published file, so that damage can be found later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the folder of the marker.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// CRC-32C of the content, in hexadecimal: it finds damage, as the checksums of object stores do, at a tenth of the
    /// cost of a hash that finds forgery.
    pub crc32c: String,
}

impl FileEntry {
    /// A small file.
    pub(crate) fn of(path: &Path, content: &[u8]) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { name, bytes: content.len() as u64, crc32c: hex(&crc32c::crc32c(content).to_be_bytes()) }
    }

    /// The same file as a marker calls it that stands `folders` higher.
    pub fn below(mut self, folders: &str) -> Self {
        self.name = format!("{folders}/{}", self.name);
        self
    }
}

/// Written at once, and whole multiples of it as long as more follows: the kernel takes parts that start at such an
/// offset in a fifth less time. Little enough to stay in the processor's cache.
const BUFFER_BYTES: usize = 1 << 18;

/// A file under a temporary name, which several processes that write the same have each for itself. Dropped unpublished, it is
/// removed; killed unpublished, the next run overwrites it. What is to be an object of a store is a file of this machine until it is
/// published.
#[derive(Debug)]
pub struct Draft {
    file: fs::File,
    /// What comes next, written when there is enough of it.
    buffer: Vec<u8>,
    /// Its name until then, for a file of this machine.
    temporary: Option<PathBuf>,
    path: PathBuf,
    crc: u32,
    bytes: u64,
    published: bool,
}

impl Draft {
    /// Starts the file that will be `path`; makes its folder.
    pub fn create(path: &Path) -> Result<Self> {
        let (folder, name) = split(path)?;
        let (file, temporary) = if files::is_remote(path) {
            (fs::File::from_parts(files::unnamed(path)?, path), None)
        } else {
            fs::create_dir_all(folder)?;
            let open = |path: &Path| fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
            let (file, temporary) = temporary(folder, name, open)?;
            file.set_len(0)?;
            (file, Some(temporary))
        };
        Ok(Self { file, buffer: Vec::new(), temporary, path: path.into(), crc: 0, bytes: 0, published: false })
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends what `put` puts behind the bytes it is given, and takes over the checksum that it makes of its own: for who
    /// knows that of the new bytes already. An error leaves the file as it was.
    pub(crate) fn append<E: From<io::Error>>(
        &mut self,
        put: impl FnOnce(&mut Vec<u8>, &mut u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let (start, mut crc) = (self.buffer.len(), self.crc);
        if let Err(error) = put(&mut self.buffer, &mut crc) {
            self.buffer.truncate(start);
            return Err(error);
        }
        self.bytes += (self.buffer.len() - start) as u64;
        self.crc = crc;
        let full = self.buffer.len() - self.buffer.len() % BUFFER_BYTES;
        if full > 0 {
            self.file.write_all(&self.buffer[..full])?;
            self.buffer.drain(..full);
        }
        Ok(())
    }

    /// Gives the file its final name once every byte is on the disk, or in the store.
    pub fn publish(self) -> Result<FileEntry> {
        self.publish_if(Condition::Always)
    }

    /// The same in a store only under this condition.
    fn publish_if(mut self, condition: Condition<'_>) -> Result<FileEntry> {
        self.flush()?;
        let (folder, name) = split(&self.path)?;
        match &self.temporary {
            None => files::store(&self.path, self.file.file().try_clone()?, self.bytes, condition)?,
            Some(temporary) => {
                self.file.sync_all()?;
                fs::rename(temporary, &self.path)?;
                self.published = true;
                files::sync_names(folder)?;
            }
        }
        Ok(FileEntry { name: name.into(), bytes: self.bytes, crc32c: hex(&self.crc.to_be_bytes()) })
    }
}

impl Write for Draft {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.crc = crc32c::crc32c_append(self.crc, buffer);
        self.bytes += buffer.len() as u64;
        if self.buffer.len() + buffer.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if buffer.len() > BUFFER_BYTES {
            self.file.write_all(buffer)?;
        } else {
            self.buffer.extend_from_slice(buffer);
        }
        Ok(buffer.len())
    }

    /// Hands the bytes over to the operating system.
    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.as_ref().filter(|_| !self.published) {
            let _ = fs::remove_file(temporary); // nobody is left to tell
        }
    }
}

/// Opens what will have this name in a folder under one that nobody else writes at the moment: the lock stays as long as it is open.
/// What a killed process left is taken over, for its lock is gone; `open` must not clear it.
pub(crate) fn temporary(
    folder: &Path,
    name: &str,
    open: impl Fn(&Path) -> io::Result<fs::File>,
) -> io::Result<(fs::File, PathBuf)> {
    let mut number = 0;
    loop {
        let path = folder.join(if number == 0 { format!(".{name}.tmp") } else { format!(".{name}.{number}.tmp") });
        let file = open(&path)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, &path)? => return Ok((file, path)),
            Ok(()) => {} // published by another process after it was opened here
            Err(TryLockError::WouldBlock) => number += 1,
            // Without locks nobody can tell whether another one is writing.
            Err(TryLockError::Error(_)) => {
                let path = folder.join(format!(".{name}.{}.tmp", std::process::id()));
                return Ok((open(&path)?, path));
            }
        }
    }
}

fn is_at(file: &fs::File, path: &Path) -> io::Result<bool> {
    let (here, there) = (file.metadata()?, fs::metadata(path));
    Ok(there.is_ok_and(|there| (here.dev(), here.ino()) == (there.dev(), there.ino())))
}

fn split(path: &Path) -> Result<(&Path, &str)> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::Invalid(format!("write {}: the name is not text", path.display())))?;
    Ok((folder, name))
}

/// The SHA-256 of a file, in hexadecimal.
pub fn file_sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    each_part(path, |part| hash.update(part))?;
    Ok(hex(&hash.finalize()))
}

/// The CRC-32C of a file, as [`FileEntry`] has it.
pub fn file_crc32c(path: &Path) -> Result<String> {
    let mut crc = 0;
    each_part(path, |part| crc = crc32c::crc32c_append(crc, part))?;
    Ok(hex(&crc.to_be_bytes()))
}

fn each_part(path: &Path, mut each: impl FnMut(&[u8])) -> Result<()> {
    let mut file = files::File::open(path)?;
    let mut buffer = vec![0; 1 << 17];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(()),
            read => each(&buffer[..read]),
        }
    }
}

/// Publishes a small file in one call.
pub fn publish(path: &Path, content: &[u8]) -> Result<FileEntry> {
    publish_if(path, content, Condition::Always)
}

fn publish_if(path: &Path, content: &[u8], condition: Condition<'_>) -> Result<FileEntry> {
    let mut draft = Draft::create(path)?;
    draft.write_all(content)?;
    draft.publish_if(condition)
}

/// Publishes what several processes may publish at once: in a store it takes the place of what was seen there, or of nothing,
/// and is left alone where another process has written the same meanwhile.
fn publish_once(path: &Path, content: &[u8]) -> Result<FileEntry> {
    if !files::is_remote(path) {
        return publish(path, content);
    }
    let before = files::version(path)?;
    let condition = match before.as_deref() {
        None => Condition::Absent,
        Some("") => Condition::Always, // the store does not say
        Some(version) => Condition::Version(version),
    };
    match publish_if(path, content, condition) {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
            if files::read(path)? != content {
                let cause = "another process has written something else meanwhile; run again";
                return Err(Error::Invalid(format!("{}: {cause}", path.display())));
            }
            Ok(FileEntry::of(path, content))
        }
        // Stores that know no conditions: the last one wins, and all write the same.
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::Unsupported => publish(path, content),
        other => other,
    }
}

/// Makes a folder's temporary files of an earlier, killed run go away.
pub fn remove_temporary(folder: &Path) -> Result<()> {
    if files::is_remote(folder) || !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') && name.ends_with(".tmp") && path.is_file() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The done-marker of a shard (`00042.json`) or of a whole stage: it is published after the files it names, and its
/// presence means that they are whole. It holds nothing that differs between two runs on equal input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    /// Format of this file.
    pub version: u32,
    /// The settings of the stage.
    pub config: serde_json::Value,
    /// What it was made from: hashes, or names and lengths.
    pub inputs: Vec<String>,
    /// What became of the rows.
    #[serde(flatten)]
    pub counts: Counts,
    /// What was published; names are relative to the folder of the marker.
    pub files: Vec<FileEntry>,
}

impl Marker {
    /// Format written by this code.
    pub const VERSION: u32 = 2;

    /// Where the marker of a shard stands.
    pub fn of_shard(folder: &Path, id: ShardId) -> PathBuf {
        folder.join(format!("{id}.json"))
    }

    /// The marker at `path`, if its work is done: it was made from these inputs, and its files are there with the
    /// right length. An error if it was made with other settings.
    pub fn done(path: &Path, config: &serde_json::Value, inputs: &[String]) -> Result<Option<Self>> {
        Self::done_with(path, config, |made_from| made_from == inputs)
    }

    /// The same with a rule for the inputs.
    pub fn done_with(
        path: &Path,
        config: &serde_json::Value,
        accepts: impl Fn(&[String]) -> bool,
    ) -> Result<Option<Self>> {
        let Some(marker) = Self::read(path)? else { return Ok(None) };
        if marker.config != *config {
            return Err(Error::Invalid(format!(
                "{}: made with other settings ({} instead of {config}); choose another output folder",
                path.display(),
                marker.config
            )));
        }
        Ok((accepts(&marker.inputs) && marker.is_whole(path)?).then_some(marker))
    }

    /// The first file that is missing or has another length.
    pub fn damaged(&self, path: &Path) -> io::Result<Option<&FileEntry>> {
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in &self.files {
            if !files::has_length(folder.join(&file.name), file.bytes)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Whether every file of this marker, which stands at `path`, is there with the right length.
    pub fn is_whole(&self, path: &Path) -> io::Result<bool> {
        Ok(self.damaged(path)?.is_none())
    }

    /// Reads a marker; `None` where there is none, or one whose files are not all there with the right length.
    pub fn read_whole(path: &Path) -> Result<Option<Self>> {
        Ok(match Self::read(path)? {
            Some(marker) if marker.is_whole(path)? => Some(marker),
            _ => None,
        })
    }

    /// Reads a marker; `None` where there is none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match files::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let marker: Self = serde_json::from_slice(&text).map_err(|error| Error::format(path, error))?;
        if marker.version != Self::VERSION {
            let cause = format!("version {}, this program reads {}", marker.version, Self::VERSION);
            return Err(Error::format(path, cause));
        }
        Ok(Some(marker))
    }

    /// Publishes the marker, last of all, after the rows were counted.
    pub fn finish(
        path: &Path,
        config: &serde_json::Value,
        inputs: Vec<String>,
        counts: Counts,
        files: Vec<FileEntry>,
    ) -> Result<Self> {
        counts.check()?;
        let marker = Self { version: Self::VERSION, config: config.clone(), inputs, counts, files };
        let text = serde_json::to_string_pretty(&marker).expect("plain data");
        publish_once(path, text.as_bytes())?;
        Ok(marker)
    }
}

/// Removes the shards of a folder from this one on.
pub fn remove_shards(folder: &Path, extension: &str, from: ShardId) -> Result<()> {
    for id in list_shards(folder, extension)?.into_iter().filter(|id| *id >= from) {
        files::remove_file(folder.join(format!("{id}.{extension}")))?;
    }
    Ok(())
}

/// The shards of a folder whose files end so (`parquet`, `tar`, `json`), in order: every file named by digits.
pub fn list_shards(folder: &Path, extension: &str) -> Result<Vec<ShardId>> {
    let mut ids = Vec::new();
    for entry in files::list(folder)? {
        let path = entry.path;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let digits = stem.len() >= 5 && stem.bytes().all(|byte| byte.is_ascii_digit());
        if digits && path.extension().is_some_and(|e| e == extension) {
            ids.extend(stem.parse().map(ShardId));
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpublished_file_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/file.bin");
        let mut draft = Draft::create(&path).expect("a new file");
        draft.write_all(b"half").expect("room");
        drop(draft);
        assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("the folder").count(), 0);
    }

    #[test]
    fn who_writes_the_same_at_once_is_not_in_the_way() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("file.bin");
        fs::write(folder.path().join(".file.bin.tmp"), "of a killed process").expect("room");
        let drafts = ["first", "second one", "third"].map(|content| {
            let mut draft = Draft::create(&path).expect("a new file");
            draft.write_all(content.as_bytes()).expect("room");
            (draft, content)
        });
        for (draft, content) in drafts {
            assert_eq!(draft.publish().expect("published").bytes, content.len() as u64);
            assert_eq!(fs::read_to_string(&path).expect("whole"), content);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 1);
    }

    #[test]
    fn a_published_file_has_its_hash() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let entry = publish(&folder.path().join("a"), b"abc").expect("a new file");
        assert_eq!(entry.bytes, 3);
        assert_eq!(entry.crc32c, "364b3fb7");
    }

    #[test]
    fn a_marker_counts_only_while_its_files_are_whole() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (tar, config) = (folder.path().join("00007.tar"), serde_json::json!({"size": 256}));
        let path = Marker::of_shard(folder.path(), ShardId(7));
        let file = publish(&tar, b"content").expect("a new file");
        let inputs = ["one".to_owned()];
        Marker::finish(&path, &config, inputs.to_vec(), Counts::default(), vec![file]).expect("a marker");
        assert!(Marker::done(&path, &config, &inputs).expect("readable").is_some());
        assert!(Marker::done(&path, &config, &[]).expect("readable").is_none(), "other input");
        assert!(Marker::done(&path, &serde_json::json!({"size": 224}), &inputs).is_err(), "other settings");
        fs::write(&tar, b"cut").expect("room");
        assert!(Marker::done(&path, &config, &inputs).expect("readable").is_none());
        assert_eq!(list_shards(folder.path(), "tar").expect("readable"), [ShardId(7)]);
    }
}
