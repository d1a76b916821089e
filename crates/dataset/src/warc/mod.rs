//! WARC archives as Common Crawl writes them (WARC, WAT and WET alike): a gzip member per record. Also archives that are
//! one gzip stream, zstd, or plain.
//!
//! ```text
//! WARC/1.0\r\n  Name: value\r\n …  \r\n  Content-Length bytes  \r\n\r\n
//! ```
//! Source: the WARC 1.0 and 1.1 specifications (ISO 28500), and files of Common Crawl.

mod head;
#[cfg_attr(feature = "native", path = "native.rs")]
#[cfg_attr(not(feature = "native"), path = "pure.rs")]
mod inflate;
mod window;

use std::borrow::Cow;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use fs_err as fs;
use memchr::memmem;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::{Error, Result};
use head::Front;
use inflate::Inflater;
use window::Window;

/// Longest record: Common Crawl cuts pages at 1 MiB, and the largest WAT record seen is below 32 MiB. When fuzzing, all limits are
/// so low that short inputs come to them, and memory is not what takes the time.
pub const RECORD_BYTES_MAX: usize = if cfg!(fuzzing) { 1 << 19 } else { 32 << 20 };
/// Longest member that is inflated in one go.
const MEMBER_BYTES_MAX: usize = if cfg!(fuzzing) { 1 << 8 } else { 4 << 20 };
/// Places that look like the end of a member and are none: in random bytes, one in 16 MiB.
const ENDS_MAX: usize = 8;
/// Inflated at once, where a member is longer.
const PART_BYTES: usize = if cfg!(fuzzing) { 1 << 11 } else { 1 << 20 };

/// Magic, and deflate as the method.
const GZIP: &[u8] = &[0x1F, 0x8B, 8];
const ZSTD: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD];

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarcRecord<'a> {
    /// Where it starts in the file, in bytes; of a compressed archive, where its member starts.
    pub offset: u64,
    /// `warcinfo`, `request`, `response`, `metadata`, …
    pub kind: Cow<'a, str>,
    /// The page; empty where the record has none.
    pub target: Cow<'a, str>,
    /// The content.
    pub body: &'a [u8],
}

/// What stands at a place of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WarcEntry<'a> {
    /// A sound record.
    Record(WarcRecord<'a>),
    /// Damage. Reading goes on with the next sound record.
    Broken(Flaw),
}

/// Damage of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Where it starts, in bytes from the start of the file.
    pub offset: u64,
    /// What is wrong.
    pub cause: String,
}

/// Reads an archive record by record, past any damage.
///
/// In memory are one member or [`RECORD_BYTES_MAX`], and 8 MiB of the file.
#[derive(Debug)]
pub struct WarcReader {
    path: PathBuf,
    input: Input,
    compression: Compression,
    inflater: Inflater,
    /// Inflated bytes, up to `filled`, of which those from `next` on have not been given.
    content: Vec<u8>,
    filled: usize,
    next: usize,
    /// Where in the file the member starts that `content` comes from, or in a plain archive `content` itself.
    offset: u64,
    flaw: Option<Flaw>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Gzip,
    Zstd,
    None,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::None => "plain",
        }
    }
}

/// Where the reader is.
enum Input {
    /// Between two members.
    Between(Window),
    /// In a member that is longer than is inflated in one go.
    Gzip(Box<GzDecoder<Window>>),
    Zstd(Box<Zstd>),
    Plain(Window),
    /// After an error of the system.
    Lost,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Between(_) => "Between",
            Self::Gzip(_) | Self::Zstd(_) | Self::Plain(_) => "Inside",
            Self::Lost => "Lost",
        })
    }
}

impl WarcReader {
    /// Opens an archive.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(Box::new(fs::File::open(path)?), path)
    }

    /// Reads an archive from anywhere; errors call it `path`.
    pub fn new(source: Box<dyn Read + Send>, path: &Path) -> Result<Self> {
        let mut window = Window::new(source);
        while window.rest().len() < 8 && window.more()? {}
        let start = window.rest();
        let compression = match start {
            [0x1F, 0x8B, ..] => Compression::Gzip,
            _ if start.starts_with(ZSTD) => Compression::Zstd,
            _ if start.starts_with(b"WARC/") || start.is_empty() => Compression::None,
            [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => {
                return Err(Error::format(path, "byte 0: zstd with a dictionary, which this program cannot read"));
            }
            _ => return Err(Error::format(path, "byte 0: neither gzip nor zstd nor WARC")),
        };
        let input = if compression == Compression::None { Input::Plain(window) } else { Input::Between(window) };
        Ok(Self {
            path: path.into(),
            input,
            compression,
            inflater: Inflater::new(),
            content: Vec::new(),
            filled: 0,
            next: 0,
            offset: 0,
            flaw: None,
        })
    }

    /// Bytes of the file that have been read.
    pub fn offset(&self) -> u64 {
        match &self.input {
            Input::Between(window) | Input::Plain(window) => window.offset(),
            Input::Gzip(decoder) => decoder.get_ref().offset(),
            Input::Zstd(decoder) => decoder.window.offset(),
            Input::Lost => self.offset,
        }
    }

    /// The next entry; `None` at the end. An error is the system's, and after it there is nothing more.
    pub fn next_entry(&mut self) -> Result<Option<WarcEntry<'_>>> {
        let found = match self.find() {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(self.flaw.take().map(WarcEntry::Broken)),
            Err(error) => {
                let offset = self.offset();
                self.input = Input::Lost;
                self.forget();
                return Err(Error::format(&self.path, format!("byte {offset}: {error}")));
            }
        };
        let content = &self.content;
        Ok(Some(WarcEntry::Record(WarcRecord {
            offset: found.offset,
            kind: head::text(&content[found.parts.kind]),
            target: head::text(&content[found.parts.target]),
            body: &content[found.parts.body],
        })))
    }

    /// Finds the next whole record. `None` where there is a flaw to be told, or the end.
    fn find(&mut self) -> io::Result<Option<Found>> {
        loop {
            if self.flaw.is_some() && !self.has_more() {
                return Ok(None);
            }
            let wrong: String = match head::look(&self.content[..self.filled], self.next) {
                Front::Nothing if self.filled - self.next > PART_BYTES => "nothing but spaces".into(),
                Front::Nothing => {
                    self.forget();
                    if self.flaw.is_some() || !self.go_on()? {
                        return Ok(None);
                    }
                    continue;
                }
                Front::Record(parts) if parts.body.end <= self.filled => {
                    let offset = self.record_offset();
                    self.next = parts.body.end;
                    return Ok(Some(Found { offset, parts }));
                }
                Front::Record(parts) if parts.body.len() > RECORD_BYTES_MAX => {
                    format!("a WARC record of {} bytes, over {RECORD_BYTES_MAX}", parts.body.len())
                }
                Front::Record(parts) => {
                    let (there, bytes) = (self.filled - parts.body.start.min(self.filled), parts.body.len());
                    if self.read_part()? {
                        continue;
                    }
                    format!("a WARC record cut off: {there} of {bytes} bytes")
                }
                Front::Begun => {
                    if self.read_part()? {
                        continue;
                    }
                    "a WARC record cut off in its head".into()
                }
                Front::Wrong(cause) => cause.into(),
            };
            self.give_up(wrong)?;
            return Ok(None);
        }
    }

    fn has_more(&self) -> bool {
        self.next < self.filled
    }

    fn record_offset(&self) -> u64 {
        if self.compression != Compression::None {
            return self.offset;
        }
        let spaces = self.content[self.next..self.filled].iter().position(|byte| !byte.is_ascii_whitespace());
        self.offset + (self.next + spaces.unwrap_or(0)) as u64
    }

    /// Leaves out the content that has not been given.
    fn forget(&mut self) {
        if self.compression == Compression::None {
            self.offset += self.filled as u64;
        }
        (self.filled, self.next) = (0, 0);
    }

    /// Gets content where there is none: the next member, or more of the one that it is in.
    fn go_on(&mut self) -> io::Result<bool> {
        if let Input::Between(window) = &mut self.input {
            if window.rest().is_empty() && !window.more()? {
                return Ok(false);
            }
            self.offset = window.offset();
            window.set_mark();
            return self.read_member();
        }
        // Whether it is the end or only that of this member, the next round will see.
        Ok(self.read_part()? || matches!(self.input, Input::Between(_)) || self.flaw.is_some())
    }

    /// Inflates the next member, or starts to.
    fn read_member(&mut self) -> io::Result<bool> {
        let Input::Between(window) = &mut self.input else { return Ok(false) };
        while window.rest().len() < 18 && window.more()? {}
        let magic = if self.compression == Compression::Gzip { GZIP } else { ZSTD };
        if !window.rest().starts_with(magic) {
            let zeros = window.rest().iter().all(|&byte| byte == 0) && window.ended();
            if !zeros {
                self.flaw = Some(Flaw { offset: self.offset, cause: format!("no {} member", self.compression.name()) });
            }
            window.skip(1);
            window.seek(magic)?;
            return Ok(true);
        }
        if self.compression == Compression::Gzip
            && let Some((member, bytes)) = whole_member(window, &mut self.inflater, &mut self.content)?
        {
            window.skip(member);
            self.filled = bytes;
            return Ok(true);
        }
        let Input::Between(window) = std::mem::replace(&mut self.input, Input::Lost) else { return Ok(false) };
        self.input = match self.compression {
            Compression::Gzip => Input::Gzip(Box::new(GzDecoder::new(window))),
            _ => Input::Zstd(Box::new(Zstd { window, frame: None })),
        };
        // A member as long as a record is looked at when all of it is known to be sound.
        while self.filled < RECORD_BYTES_MAX && self.read_part()? {}
        Ok(true)
    }

    /// Gets more of the member that it is in; false at the member's end, which may be a flaw.
    fn read_part(&mut self) -> io::Result<bool> {
        if self.next > 0 {
            self.content.copy_within(self.next..self.filled, 0);
            if self.compression == Compression::None {
                self.offset += self.next as u64;
            }
            self.filled -= std::mem::take(&mut self.next);
        }
        let decoder: &mut dyn Read = match &mut self.input {
            Input::Between(_) | Input::Lost => return Ok(false),
            Input::Gzip(decoder) => decoder,
            Input::Zstd(decoder) => decoder,
            Input::Plain(window) => window,
        };
        if self.content.len() < self.filled + PART_BYTES {
            self.content.resize(self.filled + PART_BYTES, 0);
        }
        match decoder.read(&mut self.content[self.filled..self.filled + PART_BYTES]) {
            Ok(0) => {
                self.leave();
                Ok(false)
            }
            Ok(read) => {
                self.filled += read;
                Ok(true)
            }
            Err(error) if self.compression == Compression::None => Err(error),
            Err(error) => {
                let (offset, ended) = (self.offset, error.kind() == io::ErrorKind::UnexpectedEof);
                self.seek_member()?;
                // A member that ends too early although another one follows is damaged: it was read beyond its end.
                let cut_off = ended && matches!(&self.input, Input::Between(window) if window.rest().is_empty());
                let cause = if cut_off { "cut off in a member".into() } else { format!("inflate: {error}") };
                self.flaw = Some(Flaw { offset, cause });
                if !cut_off {
                    self.forget(); // nothing in it can be trusted; what stands before a cut is sound
                }
                Ok(false)
            }
        }
    }

    /// From the end of a member to between two. A plain archive has but one.
    fn leave(&mut self) {
        self.input = match std::mem::replace(&mut self.input, Input::Lost) {
            Input::Gzip(decoder) => Input::Between(decoder.into_inner()),
            Input::Zstd(decoder) => Input::Between(decoder.window),
            other => other,
        };
    }

    /// From the middle of a damaged member to the next place that looks like the start of one.
    fn seek_member(&mut self) -> io::Result<()> {
        self.leave();
        let magic = if self.compression == Compression::Gzip { GZIP } else { ZSTD };
        if let Input::Between(window) = &mut self.input {
            window.back_to_mark();
            window.skip(1);
            window.seek(magic)?;
        }
        Ok(())
    }

    /// Tells a flaw, unless the member's own was found, and goes to where the next record may be.
    fn give_up(&mut self, cause: String) -> io::Result<()> {
        let offset = self.record_offset();
        self.flaw.get_or_insert(Flaw { offset, cause });
        if self.compression != Compression::None {
            let inside = !matches!(self.input, Input::Between(_));
            self.forget();
            return if inside { self.seek_member() } else { Ok(()) };
        }
        self.next = (offset - self.offset) as usize + 1;
        loop {
            if let Some(found) = memmem::find(&self.content[self.next..self.filled], b"WARC/1.") {
                self.next += found;
                return Ok(());
            }
            self.next = self.filled.saturating_sub(6).max(self.next.min(self.filled));
            if !self.read_part()? {
                self.forget();
                return Ok(());
            }
        }
    }
}

/// A zstd frame.
struct Zstd {
    window: Window,
    /// None before its first bytes.
    frame: Option<FrameDecoder>,
}

impl Read for Zstd {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let frame = match &mut self.frame {
            Some(frame) => frame,
            none => {
                let mut frame = FrameDecoder::new();
                frame.reset(&mut self.window).map_err(io::Error::other)?;
                none.insert(frame)
            }
        };
        while frame.can_collect() == 0 && !frame.is_finished() {
            if self.window.rest().is_empty() && !self.window.more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            frame.decode_blocks(&mut self.window, BlockDecodingStrategy::UptoBlocks(1)).map_err(io::Error::other)?;
        }
        frame.read(out)
    }
}

struct Found {
    offset: u64,
    parts: head::Parts,
}

/// Inflates the member that the window starts with, if all of it can be had at once: its length in the file, and
/// inflated. Its end is where another one begins, or the file ends; the last four bytes before say how long it is.
fn whole_member(
    window: &mut Window,
    inflater: &mut Inflater,
    content: &mut Vec<u8>,
) -> io::Result<Option<(usize, usize)>> {
    let finder = memmem::Finder::new(GZIP);
    let (mut from, mut ends) = (18, 0);
    loop {
        let length = window.rest().len();
        let found = window.rest().get(from..).and_then(|rest| finder.find(rest)).map(|found| from + found);
        let end = match found {
            Some(end) => end,
            None if window.ended() => length,
            None if length > MEMBER_BYTES_MAX => return Ok(None),
            None => {
                from = from.max(length.saturating_sub(GZIP.len() - 1));
                window.more()?;
                continue;
            }
        };
        let member = &window.rest()[..end.min(length)];
        if let Some(&bytes) = member.last_chunk::<4>()
            && member.len() >= 18
        {
            let bytes = u32::from_le_bytes(bytes) as usize;
            if bytes <= RECORD_BYTES_MAX {
                if content.len() < bytes {
                    content.resize(bytes, 0);
                }
                if inflater.inflate(member, &mut content[..bytes]) {
                    return Ok(Some((member.len(), bytes)));
                }
            }
        }
        ends += 1;
        if found.is_none() || ends == ENDS_MAX {
            return Ok(None);
        }
        from = end + 1;
    }
}

#[cfg(test)]
mod tests;
