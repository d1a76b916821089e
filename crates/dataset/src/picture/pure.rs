//! JPEG without libjpeg-turbo: the general decoder's, in Rust.

use crate::Pixels;

/// Leaves pictures to the general decoder, but for those that it would take although they are cut off.
#[derive(Debug)]
pub(super) struct Jpegs;

impl Jpegs {
    pub(super) fn new() -> Result<Self, String> {
        Ok(Self)
    }

    /// Always `None`. The general decoder fills what a cut file lacks with grey and says nothing, so that is told here.
    pub(super) fn header(&mut self, bytes: &[u8]) -> Result<Option<(u32, u32)>, String> {
        if has_end(bytes) { Ok(None) } else { Err("the JPEG is cut off".into()) }
    }

    pub(super) fn decode(&mut self, _: &[u8], _: u32, _: u32, _: usize, _: &mut [u8]) -> Result<(), String> {
        Err("no JPEG decoder of its own".into())
    }
}

/// Walks the segments of a JPEG to its end marker (ITU-T T.81, annex B).
fn has_end(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[mark, kind]) = bytes.get(at..at + 2).and_then(|pair| pair.first_chunk()) {
        at += match (mark, kind) {
            (0xFF, 0xD9) => return true,
            (0xFF, 0xFF) => 1,
            // Between the segments of a scan lies its data, in which 0xFF is followed by 0 or a restart marker.
            (0xFF, 0x00 | 0x01 | 0xD0..=0xD8) => 2,
            (0xFF, _) => match bytes.get(at + 2..at + 4) {
                Some(length) => 2 + usize::from(u16::from_be_bytes([length[0], length[1]])).max(2),
                None => return false,
            },
            _ => 1,
        };
    }
    false
}

/// Encodes a JPEG.
pub(super) fn encode(pixels: &Pixels, quality: u8) -> Result<Vec<u8>, String> {
    let mut jpeg = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, quality);
    let (width, height) = (pixels.width(), pixels.height());
    image::ImageEncoder::write_image(encoder, pixels.rgb(), width, height, image::ExtendedColorType::Rgb8)
        .map(|()| jpeg)
        .map_err(|error| error.to_string())
}
