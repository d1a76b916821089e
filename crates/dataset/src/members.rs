//! The members of a tar, found by their headers: what nobody asks for is passed over unread.
//!
//! ```text
//! member   header of 512 bytes | content | zeros up to a multiple of 512
//! archive  member … | two blocks of zeros
//! ```
//! A tar may be compressed as a whole, which its first bytes tell, whatever its name says: TFDS, too, opens it by
//! Python's `r:*`. Headers are those of USTAR, GNU and PAX.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header, PaxExtensions};

use crate::files;
use crate::{Error, Result};

const BLOCK: u64 = 512;
/// Longest member that is looked at: the largest JPEG anybody trains on is far below.
const MEMBER_BYTES_MAX: u64 = 256 << 20;
/// Longest name or PAX header that is read; file systems end at 4 KiB.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// Read at once: a header with the small files around it, so that one call is enough for most samples.
const WINDOW_BYTES: usize = 4 << 10;

/// Walks over the files in a tar.
#[derive(Debug)]
pub(crate) struct Members {
    window: Window,
    path: PathBuf,
    /// Of the next header.
    next: u64,
}

/// A file in a tar.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its path in the archive.
    pub(crate) name: String,
    /// Where its content starts, decompressed.
    pub(crate) offset: u64,
    /// Of the content.
    pub(crate) bytes: u64,
}

impl Members {
    /// Opens `path`, compressed or not.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self { window: Window::open(path)?, path: path.into(), next: 0 })
    }

    /// Whether offsets are those in the file, so that any part can be read again.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.window.source, Source::Plain { .. })
    }

    /// The next file; links, folders and devices are left out.
    pub(crate) fn next(&mut self) -> Result<Option<Member>> {
        let member = self.walk().map_err(|cause| Error::format(&self.path, cause))?;
        if let Some(Member { name, offset, bytes }) = &member
            && *bytes > MEMBER_BYTES_MAX
        {
            let cause = format!("member {name:?} at byte {offset} has {bytes} bytes, over the limit");
            return Err(Error::format(&self.path, cause));
        }
        Ok(member)
    }

    /// Some bytes of a member, until the next call. In a compressed tar none before them can be had any more.
    pub(crate) fn part(&mut self, member: &Member, from: u64, bytes: usize) -> Result<&[u8]> {
        let Member { name, offset, bytes: size } = member;
        let wrong = |cause: &dyn ToString| {
            let cause = cause.to_string();
            Error::format(&self.path, format!("member {name:?} of {size} bytes at byte {offset}: {cause}"))
        };
        let found = self.window.bytes(offset + from, bytes).map_err(|error| wrong(&error))?;
        if found.len() < bytes { Err(wrong(&"cut off")) } else { Ok(found) }
    }

    fn walk(&mut self) -> Result<Option<Member>, String> {
        let (mut long_name, mut pax) = (None::<Vec<u8>>, None::<Vec<u8>>);
        loop {
            let at = self.next;
            let wrong = |cause: &dyn ToString| format!("byte {at}: {}", cause.to_string());
            if !self.window.reaches(at).map_err(|error| wrong(&error))? {
                return Err(wrong(&"cut off in the content of a member"));
            }
            let block = self.window.bytes(at, BLOCK as usize).map_err(|error| wrong(&error))?;
            let described = long_name.is_some() || pax.is_some();
            match block.len() as u64 {
                0 | BLOCK if block.iter().all(|&byte| byte == 0) => {
                    return if described { Err(wrong(&"a name without its member")) } else { Ok(None) };
                }
                BLOCK => {}
                _ => return Err(wrong(&"cut off in a header")),
            }
            let header = Header::from_byte_slice(block);
            let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
            if header.cksum().ok() != Some(sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])) {
                return Err(wrong(&"wrong checksum of a header"));
            }
            let kind = header.entry_type();
            let mut bytes = header.entry_size().map_err(|error| wrong(&error))?;
            let extended = header.as_ustar().is_some() || header.as_gnu().is_some();
            let extension = extended && matches!(kind, EntryType::GNULongName | EntryType::XHeader);
            let name = header.path_bytes().into_owned();
            if let (false, Some(pax)) = (extension, &pax) {
                bytes = pax_value(pax, "size").map_or(Ok(bytes), |size| size.parse()).map_err(|error| wrong(&error))?;
            }
            if has_no_content(kind) {
                bytes = 0;
            }
            let padded = bytes.checked_next_multiple_of(BLOCK);
            let offset = at + BLOCK;
            self.next = padded.and_then(|padded| offset.checked_add(padded)).ok_or_else(|| wrong(&"a huge size"))?;
            if extension {
                if bytes > EXTENSION_BYTES_MAX {
                    return Err(wrong(&format!("a name of {bytes} bytes, over the limit")));
                }
                let text = self.window.bytes(offset, bytes as usize).map_err(|error| wrong(&error))?.to_vec();
                *(if kind == EntryType::XHeader { &mut pax } else { &mut long_name }) = Some(text);
                continue;
            }
            match kind {
                // One that describes all that follow says nothing of names or sizes.
                EntryType::XGlobalHeader | EntryType::GNULongLink => {}
                EntryType::GNUSparse => return Err(wrong(&"a sparse file, which this program does not read")),
                EntryType::Regular => {
                    let long_name =
                        long_name.take().map(|name| name.split(|&byte| byte == 0).next().unwrap_or(&[]).to_vec());
                    let name = long_name.unwrap_or(name);
                    let name = String::from_utf8_lossy(&name).into_owned();
                    let name = pax.take().and_then(|pax| pax_value(&pax, "path")).unwrap_or(name);
                    return Ok(Some(Member { name, offset, bytes }));
                }
                _ => (long_name, pax) = (None, None),
            }
        }
    }
}

/// Python's `tarfile` passes over no content of these, whatever size their headers have.
fn has_no_content(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
    matches!(kind, Link | Symlink | Char | Block | Directory | Fifo)
}

/// A value of a PAX header.
fn pax_value(pax: &[u8], key: &str) -> Option<String> {
    let entry = PaxExtensions::new(pax).flatten().filter(|entry| entry.key_bytes() == key.as_bytes()).last()?;
    Some(String::from_utf8_lossy(entry.value_bytes()).into_owned())
}

/// A part of a file that is in memory.
#[derive(Debug)]
struct Window {
    source: Source,
    buffer: Vec<u8>,
    /// Offset of the first byte in the buffer.
    start: u64,
}

enum Source {
    Plain { file: files::File, bytes: u64 },
    Compressed(Box<dyn Read>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain { file, .. } => file.fmt(out),
            Self::Compressed(_) => out.write_str("compressed"),
        }
    }
}

impl Window {
    fn open(path: &Path) -> Result<Self> {
        let file = files::File::open(path)?;
        let mut magic = [0; 6];
        let known = file.read_at(&mut magic, 0)?;
        let source = match &magic[..known] {
            [0x1F, 0x8B, ..] => {
                let file = BufReader::with_capacity(1 << 17, file);
                Source::Compressed(Box::new(flate2::bufread::MultiGzDecoder::new(file)))
            }
            b"\xFD7zXZ\0" => return Err(unknown_compression(path, "xz")),
            [b'B', b'Z', b'h', ..] => return Err(unknown_compression(path, "bzip2")),
            [0x28, 0xB5, 0x2F, 0xFD, ..] => return Err(unknown_compression(path, "zstd")),
            _ => {
                let bytes = file.length()?;
                Source::Plain { file, bytes }
            }
        };
        Ok(Self { source, buffer: Vec::new(), start: 0 })
    }

    /// So many bytes at an offset, fewer at the end of the file.
    fn bytes(&mut self, offset: u64, bytes: usize) -> io::Result<&[u8]> {
        let end = self.start + self.buffer.len() as u64;
        if offset < self.start || offset + bytes as u64 > end {
            self.fill(offset, bytes)?;
        }
        let start = ((offset - self.start) as usize).min(self.buffer.len());
        Ok(&self.buffer[start..(start + bytes).min(self.buffer.len())])
    }

    fn fill(&mut self, offset: u64, bytes: usize) -> io::Result<()> {
        match &mut self.source {
            Source::Plain { file, bytes: size } => {
                let wanted = (bytes.max(WINDOW_BYTES) as u64).min(size.saturating_sub(offset)) as usize;
                self.buffer.resize(wanted, 0);
                self.start = offset;
                file.read_exact_at(&mut self.buffer, offset)
            }
            Source::Compressed(source) => {
                let ahead = offset.checked_sub(self.start).ok_or_else(|| io::Error::other("passed over"))?;
                let passed = (ahead as usize).min(self.buffer.len());
                self.buffer.drain(..passed);
                self.start += passed as u64;
                // What lies before the window is decompressed and forgotten.
                let before = offset - self.start;
                let skipped =
                    if self.buffer.is_empty() { io::copy(&mut source.take(before), &mut io::sink())? } else { 0 };
                self.start += skipped;
                if skipped == before {
                    let wanted = bytes.max(WINDOW_BYTES).saturating_sub(self.buffer.len()) as u64;
                    source.take(wanted).read_to_end(&mut self.buffer)?;
                }
                Ok(())
            }
        }
    }

    /// Whether the file is at least so long.
    fn reaches(&mut self, offset: u64) -> io::Result<bool> {
        match self.source {
            Source::Plain { bytes, .. } => Ok(offset <= bytes),
            Source::Compressed(_) => {
                self.bytes(offset, 0)?;
                Ok(self.start + self.buffer.len() as u64 >= offset)
            }
        }
    }
}

fn unknown_compression(path: &Path, name: &str) -> Error {
    Error::format(path, format!("compressed with {name}, which this program does not read: decompress it, or use gzip"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;
    use proptest::prelude::*;

    /// Names and contents, as this walk finds them.
    fn walked(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
        let mut members = Members::open(path)?;
        let mut found = Vec::new();
        while let Some(member) = members.next()? {
            let content = members.part(&member, 0, member.bytes as usize)?.to_vec();
            found.push((member.name, content));
        }
        Ok(found)
    }

    /// Names and contents, as the crate `tar` finds them.
    fn listed(path: &Path) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(fs::File::open(path).expect("written"));
        let files = archive.entries().expect("an archive").map(|entry| entry.expect("sound"));
        files
            .filter(|entry| entry.header().entry_type().is_file())
            .map(|mut entry| {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("whole");
                (entry.path().expect("text").to_string_lossy().into_owned(), content)
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_file_is_found_whatever_stands_between(
            members in prop::collection::vec((0..4u8, "[a-z./]{1,8}", 0..260usize, 0..6000usize), 0..12),
            compress in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (plain, path) = (folder.path().join("plain.tar"), folder.path().join("00000.tar"));
            let mut archive = tar::Builder::new(Vec::new());
            for (number, (kind, name, more, bytes)) in members.into_iter().enumerate() {
                let name = format!("{number}{name}{}", "x".repeat(more)).replace("..", "a").replace("//", "/");
                let mut header = Header::new_gnu();
                header.set_mode(0o644);
                header.set_size(0);
                match kind {
                    0 => {
                        header.set_entry_type(EntryType::Directory);
                        archive.append_data(&mut header, name, &[][..]).expect("memory");
                    }
                    1 => {
                        header.set_entry_type(EntryType::Symlink);
                        archive.append_link(&mut header, name, "y".repeat(more + 1)).expect("memory");
                    }
                    2 => {
                        let pax = [("path", name.as_bytes()), ("mtime", b"1.5")];
                        archive.append_pax_extensions(pax).expect("memory");
                        header.set_size(bytes as u64);
                        archive.append_data(&mut header, "short", &vec![7; bytes][..]).expect("memory");
                    }
                    _ => {
                        header.set_size(bytes as u64);
                        archive.append_data(&mut header, name, &vec![number as u8; bytes][..]).expect("memory");
                    }
                }
            }
            let bytes = archive.into_inner().expect("memory");
            fs::write(&plain, &bytes).expect("room");
            let content = if compress {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                io::Write::write_all(&mut out, &bytes).expect("memory");
                out.finish().expect("memory")
            } else {
                bytes
            };
            fs::write(&path, content).expect("room");
            prop_assert_eq!(walked(&path).expect("sound"), listed(&plain));
        }

        #[test]
        fn no_bytes_make_the_walk_panic(places in prop::collection::vec((0..2048usize, any::<u8>()), 0..20), keep in 0..2048usize) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("00000.tar");
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = Header::new_gnu();
            header.set_size(3);
            archive.append_data(&mut header, "n".repeat(120), &b"abc"[..]).expect("memory");
            let mut bytes = archive.into_inner().expect("memory");
            for (place, byte) in places {
                bytes[place] = byte;
            }
            fs::write(&path, &bytes[..keep]).expect("room");
            let _ = walked(&path);
        }
    }
}
