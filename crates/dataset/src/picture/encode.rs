//! Pixels to the formats that pictures are stored in.

use std::ops::RangeInclusive;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use serde::{Deserialize, Serialize};

use super::{Format, jpeg};
use crate::{Error, Pixels, Result};

/// The format that pictures are stored in, by img2dataset's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredFormat {
    /// JPEG, 4:2:0.
    #[default]
    Jpg,
    /// PNG.
    Png,
    /// WebP.
    Webp,
}

impl StoredFormat {
    /// Its name, which is also the ending of a file.
    pub fn name(self) -> &'static str {
        self.format().name()
    }

    /// As what it is read.
    pub fn format(self) -> Format {
        match self {
            Self::Jpg => Format::Jpeg,
            Self::Png => Format::Png,
            Self::Webp => Format::WebP,
        }
    }

    /// What its quality may be, as img2dataset has it. Of a PNG it is the effort to make it small, and changes no pixel. A
    /// WebP above 100 is lossless; without the feature `native` every WebP is, so there is no other quality.
    pub fn qualities(self) -> RangeInclusive<u8> {
        match self {
            Self::Jpg => 1..=100,
            Self::Png => 0..=9,
            Self::Webp if cfg!(feature = "native") => 1..=101,
            Self::Webp => 101..=101,
        }
    }
}

/// Encodes a picture. The quality must be one of the format's [`qualities`](StoredFormat::qualities).
pub fn encode(pixels: &Pixels, format: StoredFormat, quality: u8) -> Result<Vec<u8>> {
    let qualities = format.qualities();
    if !qualities.contains(&quality) {
        let (name, least, most) = (format.name(), qualities.start(), qualities.end());
        return Err(Error::Invalid(format!("encode a {name}: the quality is {least} to {most}, not {quality}")));
    }
    let encoded = match format {
        StoredFormat::Jpg => jpeg::encode(pixels, quality),
        StoredFormat::Png => png(pixels, quality),
        StoredFormat::Webp => webp(pixels, quality),
    };
    encoded.map_err(|cause| Error::Invalid(format!("encode a {}: {cause}", format.name())))
}

/// Encodes a JPEG, 4:2:0, `quality` 1 to 100.
pub fn encode_jpeg(pixels: &Pixels, quality: u8) -> Result<Vec<u8>> {
    encode(pixels, StoredFormat::Jpg, quality)
}

fn png(pixels: &Pixels, effort: u8) -> Result<Vec<u8>, String> {
    let (compression, filter) = match effort {
        0 => (CompressionType::Uncompressed, FilterType::NoFilter),
        effort => (CompressionType::Level(effort), FilterType::Adaptive),
    };
    let mut png = Vec::new();
    write(PngEncoder::new_with_quality(&mut png, compression, filter), pixels).map(|()| png)
}

fn write(encoder: impl ImageEncoder, pixels: &Pixels) -> Result<(), String> {
    let written = encoder.write_image(pixels.rgb(), pixels.width(), pixels.height(), ExtendedColorType::Rgb8);
    written.map_err(|error| error.to_string())
}

#[cfg(feature = "native")]
fn webp(pixels: &Pixels, quality: u8) -> Result<Vec<u8>, String> {
    /// A lossless one's is effort: that of libwebp's own tool.
    const EFFORT: f32 = 75.0;
    let encoder = webp::Encoder::from_rgb(pixels.rgb(), pixels.width(), pixels.height());
    let lossless = quality > 100;
    let encoded = encoder.encode_simple(lossless, if lossless { EFFORT } else { f32::from(quality) });
    encoded.map(|webp| webp.to_vec()).map_err(|error| format!("{error:?}"))
}

#[cfg(not(feature = "native"))]
fn webp(pixels: &Pixels, _: u8) -> Result<Vec<u8>, String> {
    let mut webp = Vec::new();
    write(image::codecs::webp::WebPEncoder::new_lossless(&mut webp), pixels).map(|()| webp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Limits, decode};

    fn picture() -> Pixels {
        let pixel = |x: u32, y: u32| [(x * 4) as u8, (y * 5) as u8, ((x * y) % 251) as u8];
        let rgb = (0..50).flat_map(|y| (0..60).flat_map(move |x| pixel(x, y))).collect();
        Pixels::new(60, 50, rgb).expect("full size")
    }

    #[test]
    fn every_format_and_quality_comes_back() {
        for format in [StoredFormat::Jpg, StoredFormat::Png, StoredFormat::Webp] {
            for quality in format.qualities() {
                let bytes = encode(&picture(), format, quality).expect("encodable");
                let decoded = decode(&bytes, Limits::default()).expect("decodable");
                assert_eq!((decoded.format, decoded.as_in_file), (format.format(), true));
                assert_eq!((decoded.original_width, decoded.original_height), (60, 50));
                let lossless = format == StoredFormat::Png || quality > 100;
                assert_eq!(decoded.pixels == picture(), lossless, "{format:?} {quality}");
            }
        }
    }

    #[test]
    fn more_quality_is_more_bytes_and_more_effort_is_fewer() {
        let size = |format, quality| encode(&picture(), format, quality).expect("encodable").len();
        assert!(size(StoredFormat::Jpg, 95) > size(StoredFormat::Jpg, 50));
        assert!(size(StoredFormat::Png, 0) > size(StoredFormat::Png, 6));
        if cfg!(feature = "native") {
            assert!(size(StoredFormat::Webp, 95) > size(StoredFormat::Webp, 50));
        }
    }

    #[test]
    fn a_quality_that_the_format_lacks_is_told() {
        for (format, quality) in [(StoredFormat::Jpg, 0), (StoredFormat::Png, 10), (StoredFormat::Webp, 102)] {
            let error = encode(&picture(), format, quality).expect_err("no such quality").to_string();
            assert!(error.contains(&format!("not {quality}")), "{error}");
        }
    }

    #[test]
    fn a_picture_too_long_for_webp_is_an_error() {
        let long = Pixels::new(20_000, 1, vec![7; 60_000]).expect("full size");
        assert!(encode(&long, StoredFormat::Webp, 101).is_err(), "WebP ends at 16,383 pixels");
    }
}
