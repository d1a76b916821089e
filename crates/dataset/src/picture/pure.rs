//! JPEG without libjpeg-turbo: the general decoder's, in Rust.

use super::containers::{JPEG_END, JPEG_SCAN, JpegParts};
use super::{Layout, SCANS_MAX};
use crate::Pixels;

/// Leaves pictures to the general decoder, but for those that it would take although they are cut off.
#[derive(Debug)]
pub(super) struct Jpegs;

impl Jpegs {
    pub(super) fn new() -> Result<Self, String> {
        Ok(Self)
    }

    /// Always `None`. The general decoder fills what a cut file lacks with grey and says nothing, and takes any number of
    /// scans, so that is told here.
    pub(super) fn header(&mut self, bytes: &[u8]) -> Result<Option<(u32, u32, bool)>, String> {
        let (mut scans, mut end) = (0, false);
        JpegParts::new(bytes).for_each(|(kind, _)| {
            scans += u32::from(kind == JPEG_SCAN);
            end |= kind == JPEG_END;
        });
        match end {
            false => Err("the JPEG is cut off".into()),
            true if scans > SCANS_MAX => Err(format!("{scans} scans")),
            true => Ok(None),
        }
    }

    pub(super) fn decode(&mut self, _: &[u8], _: u32, _: u32, _: Layout, _: &mut [u8]) -> Result<(), String> {
        Err("no JPEG decoder of its own".into())
    }
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
