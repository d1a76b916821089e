//! What an AV1 item consists of, before it is decoded (AV1 Bitstream & Decoding Process Specification, 5.3 to 5.5).

use super::reader::{Bits, Bytes};

/// Coded pictures of an item: one, or one for each of at most four layers. A file of many empty ones takes hours.
const FRAMES_MAX: u32 = 4;

const SEQUENCE_HEADER: u8 = 1;
const FRAME_HEADER: u8 = 3;
const TILES: u8 = 4;
const FRAME: u8 = 6;
const SAME_FRAME_HEADER: u8 = 7;

/// What is decoded of an item.
pub(super) struct Stream {
    /// Headers and tiles alone: without metadata, padding and what nobody knows.
    pub(super) bytes: Vec<u8>,
    /// The most that a picture of it can have: no frame is larger than its sequence header says.
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) frames: u32,
}

impl Stream {
    /// `None` if it is cut off or has more frames than a picture needs.
    pub(super) fn read(content: &[u8]) -> Option<Self> {
        let mut stream = Self { bytes: Vec::with_capacity(content.len()), width: 0, height: 0, frames: 0 };
        let mut rest = Bytes(content);
        while !rest.0.is_empty() {
            let unit = rest.0;
            let head = rest.take(1)?[0];
            if head & 0x04 != 0 {
                rest.take(1)?; // which layer
            }
            let length = if head & 0x02 != 0 { leb128(&mut rest)? } else { rest.0.len() };
            let body = rest.take(length)?;
            let kind = head >> 3 & 15;
            match kind {
                SEQUENCE_HEADER => {
                    let (width, height) = size_max(body)?;
                    (stream.width, stream.height) = (stream.width.max(width), stream.height.max(height));
                }
                FRAME_HEADER | FRAME => stream.frames += 1,
                TILES | SAME_FRAME_HEADER => (),
                _ => continue,
            }
            stream.bytes.extend_from_slice(&unit[..unit.len() - rest.0.len()]);
        }
        let is_picture = stream.width > 0 && (1..=FRAMES_MAX).contains(&stream.frames);
        is_picture.then_some(stream)
    }
}

fn leb128(bytes: &mut Bytes<'_>) -> Option<usize> {
    let mut value = 0;
    for at in 0..8 {
        let byte = bytes.take(1)?[0];
        value |= u64::from(byte & 0x7F) << (at * 7);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// The largest width and height of a sequence header.
fn size_max(header: &[u8]) -> Option<(u32, u32)> {
    let mut bits = Bits::new(header);
    bits.number(4)?; // profile, still picture
    if bits.flag()? {
        bits.number(5)?; // reduced: the level alone
    } else {
        let delay = if bits.flag()? { timing(&mut bits)? } else { None };
        let has_display_delay = bits.flag()?;
        for _ in 0..=bits.number(5)? {
            bits.number(12)?; // which layers
            if bits.number(5)? > 7 {
                bits.flag()?; // tier
            }
            if let Some(delay) = delay
                && bits.flag()?
            {
                bits.number(delay)?;
                bits.number(delay)?;
                bits.flag()?;
            }
            if has_display_delay && bits.flag()? {
                bits.number(4)?;
            }
        }
    }
    let (width, height) = (bits.number(4)? + 1, bits.number(4)? + 1);
    Some((bits.number(width)? + 1, bits.number(height)? + 1))
}

/// When pictures are shown; the bits of a delay, where there are such.
fn timing(bits: &mut Bits<'_>) -> Option<Option<u32>> {
    bits.number(32)?;
    bits.number(32)?;
    if bits.flag()? {
        let mut zeros = 0;
        while !bits.flag()? {
            zeros += 1;
        }
        bits.number(if zeros < 32 { zeros } else { 0 })?;
    }
    if !bits.flag()? {
        return Some(None);
    }
    let delay = bits.number(5)? + 1;
    bits.number(32)?;
    bits.number(10)?;
    Some(Some(delay))
}
