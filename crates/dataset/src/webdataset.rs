//! WebDataset shards: tar files in which files that share a name but for its ending are one sample.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::files;
use crate::members::Members;
use crate::publish::{Draft, FileEntry};
use crate::{Error, Result};

/// Writes a shard whose bytes depend on nothing but its content: no times, no user names.
#[derive(Debug)]
pub struct TarWriter {
    draft: Draft,
}

impl TarWriter {
    /// Starts the file that will be `path`.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self { draft: Draft::create(path)? })
    }

    /// Appends a file and gives the offset of its first byte.
    pub fn push(&mut self, name: &str, content: &[u8]) -> Result<u64> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(|error| Error::Invalid(format!("write tar member {name:?}: {error}")))?;
        header.set_size(content.len() as u64);
        header.set_mode(0o444);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.draft.write_all(header.as_bytes())?;
        let offset = self.draft.bytes();
        self.draft.write_all(content)?;
        let rest = content.len() % 512;
        if rest > 0 {
            self.draft.write_all(&[0; 512][rest..])?;
        }
        Ok(offset)
    }

    /// Ends the archive and gives the file its final name.
    pub fn publish(mut self) -> Result<FileEntry> {
        self.draft.write_all(&[0; 1024])?;
        self.draft.publish()
    }
}

/// A sample: its key, and its files by their lower-case ending (`jpg`, `txt`, `json`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TarSample {
    /// What the names have in common.
    pub key: String,
    /// Content by ending.
    pub files: HashMap<String, Vec<u8>>,
}

/// Calls `each` for every sample of a shard, in order. Files of a sample must stand together, as WebDataset asks.
pub fn read_samples(path: &Path, mut each: impl FnMut(TarSample) -> Result<()>) -> Result<()> {
    let mut members = Members::open(path)?;
    let mut sample = TarSample::default();
    while let Some(member) = members.next()? {
        let Some((key, ending)) = split_name(&member.name) else { continue };
        if sample.key != key {
            let done = std::mem::replace(&mut sample, TarSample { key: key.into(), files: HashMap::new() });
            if !done.files.is_empty() {
                each(done)?;
            }
        }
        let content = members.part(&member, 0, member.bytes as usize)?.to_vec();
        sample.files.insert(ending.to_ascii_lowercase(), content);
    }
    if sample.files.is_empty() { Ok(()) } else { each(sample) }
}

/// WebDataset's rule: the key ends at the first dot of the last path component.
pub(crate) fn split_name(name: &str) -> Option<(&str, &str)> {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.')?;
    (dot > base).then(|| (&name[..dot], &name[dot + 1..]))
}

/// Reads some bytes of a file, for a picture whose place in its shard is known.
pub fn read_range(path: &Path, offset: u64, bytes: usize) -> Result<Vec<u8>> {
    use std::io::{Seek, SeekFrom};
    let mut file = files::File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut content = Vec::new();
    file.take(bytes as u64).read_to_end(&mut content)?;
    if content.len() == bytes {
        Ok(content)
    } else {
        Err(Error::format(path, format!("cut off: {} of {bytes} bytes at byte {offset}", content.len())))
    }
}

/// Where a shard's tar is.
pub fn tar_path(folder: &Path, id: crate::ShardId) -> PathBuf {
    folder.join(format!("{id}.tar"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    fn shard(folder: &Path) -> (PathBuf, u64) {
        let path = folder.join("00000.tar");
        let mut writer = TarWriter::create(&path).expect("a new file");
        writer.push("000000001.jpg", b"picture").expect("room");
        let offset = writer.push("000000001.TXT", &[b'x'; 600]).expect("room");
        writer.push("000000002.jpg", b"").expect("room");
        writer.publish().expect("room");
        (path, offset)
    }

    #[test]
    fn samples_come_back_by_key() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, offset) = shard(folder.path());
        let mut samples = Vec::new();
        read_samples(&path, |sample| {
            samples.push(sample);
            Ok(())
        })
        .expect("readable");
        assert_eq!(samples.len(), 2);
        assert_eq!(samples[0].key, "000000001");
        assert_eq!(samples[0].files["jpg"], b"picture");
        assert_eq!(samples[0].files["txt"].len(), 600);
        assert_eq!(read_range(&path, offset, 600).expect("inside"), [b'x'; 600]);
        assert!(read_range(&path, offset, 1 << 20).is_err());
    }

    #[test]
    fn a_shard_that_was_cut_off_is_named_with_the_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, _) = shard(folder.path());
        let whole = fs::read(&path).expect("written above");
        for length in [100, 700, 1600, 1900] {
            fs::write(&path, &whole[..length]).expect("room");
            let error = read_samples(&path, |_| Ok(())).expect_err("cut off").to_string();
            assert!(error.contains("00000.tar"), "{length}: {error}");
        }
    }

    #[test]
    fn the_key_ends_at_the_first_dot() {
        assert_eq!(split_name("a/b.seg.png"), Some(("a/b", "seg.png")));
        assert_eq!(split_name("a.d/b.jpg"), Some(("a.d/b", "jpg")));
        assert_eq!(split_name(".hidden"), None);
        assert_eq!(split_name("none"), None);
    }
}
