//! JPEG by libjpeg-turbo.

use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat, ScalingFactor, Subsamp};

use super::{Layout, SCANS_MAX};
use crate::Pixels;

/// A decoder for one picture after the other.
#[derive(Debug)]
pub(super) struct Jpegs(Decompressor);

impl Jpegs {
    pub(super) fn new() -> Result<Self, String> {
        let mut decompressor = Decompressor::new().map_err(|error| error.to_string())?;
        decompressor.set_scan_limit(SCANS_MAX).map_err(|error| error.to_string())?;
        Ok(Self(decompressor))
    }

    /// Width, height, and whether it is in ink, which is decoded as that.
    pub(super) fn header(&mut self, bytes: &[u8]) -> Result<Option<(u32, u32, bool)>, String> {
        let header = self.0.read_header(bytes).map_err(|error| self.renewed(error))?;
        let ink = matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK);
        Ok(Some((header.width as u32, header.height as u32, ink)))
    }

    /// Fills `out` with the picture, both sides divided by `divisor`, 1, 2, 4 or 8, and rounded up; that is free of
    /// cost, since the coefficients left out are not computed. `width` is the width after that.
    pub(super) fn decode(
        &mut self,
        bytes: &[u8],
        divisor: u32,
        width: u32,
        layout: Layout,
        out: &mut [u8],
    ) -> Result<(), String> {
        let format = match layout {
            Layout::Rgb => PixelFormat::RGB,
            Layout::Rgbx => PixelFormat::RGBX,
            Layout::Cmyk => PixelFormat::CMYK,
        };
        let pitch = width as usize * layout.bytes();
        let height = out.len() / pitch;
        let image = Image { pixels: out, width: width as usize, pitch, height, format };
        let scaled = self.0.set_scaling_factor(ScalingFactor::new(1, divisor as usize));
        scaled.and_then(|()| self.0.decompress(bytes, image)).map_err(|error| self.renewed(error))
    }

    /// After a header that ends early, the next picture would fail, too, whatever it is.
    fn renewed(&mut self, error: turbojpeg::Error) -> String {
        if let Ok(jpegs) = Self::new() {
            *self = jpegs;
        }
        error.to_string()
    }
}

/// Encodes with chrominance at half the resolution.
pub(super) fn encode(pixels: &Pixels, quality: u8) -> Result<Vec<u8>, String> {
    let width = pixels.width() as usize;
    let image = Image {
        pixels: pixels.rgb(),
        width,
        pitch: width * 3,
        height: pixels.height() as usize,
        format: PixelFormat::RGB,
    };
    let jpeg = turbojpeg::compress(image, quality.into(), Subsamp::Sub2x2);
    jpeg.map(|jpeg| jpeg.to_vec()).map_err(|error| error.to_string())
}
