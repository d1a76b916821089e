//! Everything but JPEG, and JPEG where libjpeg-turbo is not built in.

use std::io::Cursor;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageReader};

use super::containers::is_ink;
use super::{Format, Limits};
use crate::Failure;

/// Bytes that a pixel may take in the file's own form: four channels of 16 bits.
const PIXEL_BYTES_MAX: u64 = 8;

/// What a decoder may allocate besides the pixels: lines, strips, windows, profiles.
const BESIDES_MAX: u64 = 64 << 20;

/// Pixels as they are in the file, and what it says of them.
pub(super) struct Raster {
    pub(super) pixels: Vec<u8>,
    /// Bytes of a pixel: 3, or 4 with opacity.
    pub(super) channels: usize,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Width and height as the file has them, and by what they were divided.
    pub(super) original: (u32, u32),
    pub(super) divisor: u32,
    /// Whether these are the values of the file: neither scaled, nor of more bits, nor ink.
    pub(super) exact: bool,
    pub(super) orientation: Orientation,
    pub(super) exif: Option<Vec<u8>>,
    pub(super) profile: Option<Vec<u8>>,
}

/// Decodes with the crate `image`: the first picture of an animation.
pub(super) fn decode(bytes: &[u8], limits: Limits) -> Result<Raster, (Failure, String)> {
    let damaged = |error: image::ImageError| match error {
        image::ImageError::Limits(error) => (Failure::TooManyPixels, error.to_string()),
        error => (Failure::ImageDamaged, error.to_string()),
    };
    let mut allowed = image::Limits::no_limits();
    let pixel_bytes_max = limits.pixels_max.saturating_mul(PIXEL_BYTES_MAX);
    allowed.max_alloc = Some(pixel_bytes_max.saturating_add(BESIDES_MAX));
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| damaged(error.into()))?;
    reader.limits(allowed);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    limits.check(width, height)?;
    if decoder.total_bytes() > pixel_bytes_max {
        return Err((Failure::TooManyPixels, format!("{width} x {height} pixels, {} bytes", decoder.total_bytes())));
    }
    let exif = decoder.exif_metadata().ok().flatten();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().ok().flatten();
    let picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let ink = Format::of(bytes) == Some(Format::Jpeg) && is_ink(bytes);
    let exact = !ink && matches!(picture.color(), ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8);
    let (pixels, channels) = match picture.color().has_alpha() {
        true => (picture.into_rgba8().into_raw(), 4),
        false => (picture.into_rgb8().into_raw(), 3),
    };
    Ok(Raster {
        pixels,
        channels,
        width,
        height,
        original: (width, height),
        divisor: 1,
        exact,
        orientation,
        exif,
        profile,
    })
}
