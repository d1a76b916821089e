//! A source of bytes that can be gone back in.

use std::fmt;
use std::io::{self, Read};

/// Bytes asked of the source at once. When fuzzing, few.
const PART_BYTES: usize = if cfg!(fuzzing) { 1 << 9 } else { 1 << 18 };
/// Bytes behind the mark that are kept; from further away there is no way back.
const KEPT_BYTES_MAX: usize = if cfg!(fuzzing) { 1 << 10 } else { 8 << 20 };

/// Bytes from a mark on: read, and to be read again if what was taken for a member turns out to be none.
pub(super) struct Window {
    source: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    mark: usize,
    at: usize,
    /// Of the first byte of the buffer.
    offset: u64,
    ended: bool,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("offset", &self.offset()).finish_non_exhaustive()
    }
}

impl Window {
    pub(super) fn new(source: Box<dyn Read + Send>) -> Self {
        Self { source, buffer: Vec::new(), mark: 0, at: 0, offset: 0, ended: false }
    }

    /// Bytes of the source before the next one.
    pub(super) fn offset(&self) -> u64 {
        self.offset + self.at as u64
    }

    /// What is in memory of that which comes next.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Whether the source has nothing behind [`Self::rest`].
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Passes over bytes of the rest.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes.min(self.rest().len());
    }

    /// Keeps what comes next, and forgets what was before.
    pub(super) fn set_mark(&mut self) {
        self.mark = self.at;
    }

    /// Goes back to the mark, or as far as it can.
    pub(super) fn back_to_mark(&mut self) {
        self.at = self.mark;
    }

    /// Takes more of the source into memory; false at its end.
    pub(super) fn more(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.at - self.mark > KEPT_BYTES_MAX {
            self.mark = self.at;
        }
        self.buffer.drain(..self.mark);
        self.offset += self.mark as u64;
        self.at -= std::mem::take(&mut self.mark);
        let length = self.buffer.len();
        self.buffer.resize(length + PART_BYTES, 0);
        let read = loop {
            match self.source.read(&mut self.buffer[length..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        self.ended = read? == 0;
        Ok(!self.ended)
    }

    /// Goes to the next place from here on where these bytes stand, or to the end.
    pub(super) fn seek(&mut self, wanted: &[u8]) -> io::Result<()> {
        loop {
            self.set_mark();
            if let Some(found) = memchr::memmem::find(self.rest(), wanted) {
                self.skip(found);
                return Ok(());
            }
            // The last bytes may be the start of it.
            self.skip(self.rest().len().saturating_sub(wanted.len() - 1));
            self.set_mark();
            if !self.more()? {
                self.skip(wanted.len());
                return Ok(());
            }
        }
    }
}

impl Read for Window {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.rest().is_empty() && !self.more()? {
            return Ok(0);
        }
        let bytes = self.rest().len().min(out.len());
        out[..bytes].copy_from_slice(&self.rest()[..bytes]);
        self.skip(bytes);
        Ok(bytes)
    }
}

impl io::BufRead for Window {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest().is_empty() {
            self.more()?;
        }
        Ok(self.rest())
    }

    fn consume(&mut self, bytes: usize) {
        self.skip(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_back_to_its_mark_and_finds_what_lies_across_two_parts() {
        let bytes: Vec<u8> = (0..PART_BYTES * 3).map(|i| (i % 251) as u8).collect();
        let mut all = bytes.clone();
        all[PART_BYTES - 2..PART_BYTES + 3].copy_from_slice(b"\xFFhere");
        let mut window = Window::new(Box::new(io::Cursor::new(all.clone())));
        window.skip(10); // nothing is in memory yet
        assert!(window.more().expect("memory"));
        window.skip(1000);
        window.set_mark();
        let mut read = vec![0; PART_BYTES * 2];
        window.read_exact(&mut read).expect("long enough");
        assert_eq!(read, all[1000..1000 + read.len()]);
        window.back_to_mark();
        assert_eq!(window.offset(), 1000);
        window.seek(b"\xFFhere").expect("memory");
        assert_eq!((window.offset(), &window.rest()[..2]), (PART_BYTES as u64 - 2, &b"\xFFh"[..]));
        window.seek(b"\xFFnowhere").expect("memory");
        assert_eq!((window.offset(), window.rest()), (all.len() as u64, &b""[..]));
    }
}
