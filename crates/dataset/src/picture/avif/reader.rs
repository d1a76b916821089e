//! Numbers, bits and boxes out of bytes: `None` where they end.

/// What is left of some bytes.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// So many bytes, at most 8, as a number; the first is the highest.
    pub(super) fn number(&mut self, bytes: usize) -> Option<u64> {
        let taken = if bytes <= 8 { self.take(bytes)? } else { return None };
        Some(taken.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The version before the content of many boxes; three bytes of flags follow it.
    pub(super) fn version(&mut self) -> Option<u8> {
        Some(self.take(4)?[0])
    }

    /// The kind and the content of the box that comes next.
    pub(super) fn next_box(&mut self) -> Option<([u8; 4], &'a [u8])> {
        let (mut rest, whole) = (*self, self.0.len() as u64);
        let length = rest.number(4)?;
        let kind = *rest.take(4)?.first_chunk()?;
        let length = match length {
            0 => whole,
            1 => rest.number(8)?,
            length => length,
        };
        let content = length.checked_sub(whole - rest.0.len() as u64)?;
        let content = rest.take(usize::try_from(content).ok()?)?;
        *self = rest;
        Some((kind, content))
    }

    /// The same, leaving it there.
    pub(super) fn first_box(mut self) -> Option<([u8; 4], &'a [u8])> {
        self.next_box()
    }

    /// The content of the first box of this kind.
    pub(super) fn find(mut self, kind: &[u8; 4]) -> Option<&'a [u8]> {
        std::iter::from_fn(|| self.next_box()).find_map(|(found, content)| (found == *kind).then_some(content))
    }
}

/// Bits, the highest of a byte first.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// So many bits, at most 32, as a number.
    pub(super) fn number(&mut self, bits: u32) -> Option<u32> {
        let mut number = 0u64;
        for _ in 0..bits {
            let byte = self.bytes.get(self.at / 8)?;
            number = number << 1 | u64::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(number as u32)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        Some(self.number(1)? == 1)
    }
}
