//! Encoded pictures to pixels and back: JPEG, PNG, WebP and BMP, whatever the web sends.

mod decoder;
#[cfg_attr(feature = "native", path = "turbo.rs")]
#[cfg_attr(not(feature = "native"), path = "pure.rs")]
mod jpeg;
mod square;

use std::collections::BTreeMap;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use crate::{Error, Failure, Pixels, Result};

pub use decoder::Decoder;
pub use square::Squares;

/// What a decoded picture may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pixels, told by the header before anything is allocated. PIL's own guard is 89,478,485.
    pub pixels_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pixels_max: 89_478_485 }
    }
}

impl Limits {
    fn check(&self, width: u32, height: u32) -> Result<(), (Failure, String)> {
        if u64::from(width) * u64::from(height) > self.pixels_max {
            return Err((Failure::TooManyPixels, format!("{width} x {height} pixels")));
        }
        Ok(())
    }
}

/// A decoded picture and what its file said of it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Upright, in sRGB, transparency laid on white.
    pub pixels: Pixels,
    /// EXIF fields by name, without position data, as JSON; `{}` where there is none.
    pub exif: String,
}

/// Whether the bytes start as a JPEG, PNG or WebP does: what is taken from the web.
pub fn is_image(bytes: &[u8]) -> bool {
    format(bytes).is_some_and(|format| format != ImageFormat::Bmp)
}

fn format(bytes: &[u8]) -> Option<ImageFormat> {
    use ImageFormat::{Bmp, Jpeg, Png, WebP};
    image::guess_format(bytes).ok().filter(|format| matches!(format, Jpeg | Png | WebP | Bmp))
}

/// Decodes a picture. The failure is a row's; the text says more.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, (Failure, String)> {
    let Some(format) = format(bytes) else {
        return Err((Failure::NotAnImage, "neither JPEG, PNG, WebP nor BMP".into()));
    };
    let damaged = |error: image::ImageError| (Failure::ImageDamaged, error.to_string());
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    limits.check(width, height)?;
    let metadata = decoder.exif_metadata().ok().flatten();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let turbo = if format == ImageFormat::Jpeg { decode_jpeg(bytes)? } else { None };
    let mut picture = match turbo {
        Some(picture) => picture,
        None => DynamicImage::from_decoder(decoder).map_err(damaged)?,
    };
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width(), picture.height());
    let pixels = Pixels::new(width, height, on_white(picture));
    let pixels = pixels.ok_or((Failure::ImageDamaged, "no pixels".to_owned()))?;
    Ok(Picture { pixels, exif: exif_json(metadata) })
}

/// What the JPEG decoder makes of it; `None` where the general decoder is to be asked.
fn decode_jpeg(bytes: &[u8]) -> Result<Option<DynamicImage>, (Failure, String)> {
    let damaged = |cause| (Failure::ImageDamaged, cause);
    let mut jpegs = jpeg::Jpegs::new().map_err(damaged)?;
    let Some((width, height)) = jpegs.header(bytes).map_err(damaged)? else { return Ok(None) };
    let mut rgb = vec![0; width as usize * height as usize * 3];
    jpegs.decode(bytes, 1, width, 3, &mut rgb).map_err(damaged)?;
    Ok(image::RgbImage::from_raw(width, height, rgb).map(DynamicImage::from))
}

fn on_white(picture: DynamicImage) -> Vec<u8> {
    if !picture.color().has_alpha() {
        return picture.into_rgb8().into_raw();
    }
    let over = |value: u8, alpha: u8| {
        let alpha = u32::from(alpha);
        ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    picture.into_rgba8().pixels().flat_map(|pixel| [0, 1, 2].map(|i| over(pixel[i], pixel[3]))).collect()
}

fn exif_json(metadata: Option<Vec<u8>>) -> String {
    let mut fields = BTreeMap::new();
    if let Some(exif) = metadata.and_then(|raw| exif::Reader::new().read_raw(raw).ok()) {
        for field in exif.fields() {
            // Where somebody was is nobody's business.
            if field.tag.context() != exif::Context::Gps {
                let text: String = field.display_value().to_string().chars().take(200).collect();
                fields.insert(field.tag.to_string(), text);
            }
        }
    }
    serde_json::to_string(&fields).expect("a map of texts")
}

/// Encodes a JPEG, 4:2:0, `quality` 1 to 100.
pub fn encode_jpeg(pixels: &Pixels, quality: u8) -> Result<Vec<u8>> {
    jpeg::encode(pixels, quality).map_err(|cause| Error::Invalid(format!("encode a JPEG: {cause}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(width: u32, height: u32) -> Pixels {
        let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| [(x * 3) as u8, (y * 5) as u8, 90])).collect();
        Pixels::new(width, height, rgb).expect("full size")
    }

    #[test]
    fn a_jpeg_comes_back_almost_as_it_was() {
        let original = picture(48, 32);
        let jpeg = encode_jpeg(&original, 95).expect("encodable");
        let decoded = decode(&jpeg, Limits::default()).expect("decodable");
        assert_eq!((decoded.pixels.width(), decoded.pixels.height()), (48, 32));
        let worst = original.rgb().iter().zip(decoded.pixels.rgb()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(40), "{worst:?}");
        assert_eq!(decoded.exif, "{}");
    }

    #[test]
    fn a_cut_jpeg_and_html_are_failures_with_a_name() {
        let jpeg = encode_jpeg(&picture(200, 200), 95).expect("encodable");
        let failure = |bytes: &[u8]| decode(bytes, Limits::default()).expect_err("damaged").0;
        assert_eq!(failure(&jpeg[..jpeg.len() / 2]), Failure::ImageDamaged);
        assert_eq!(failure(b"<html><body>no picture</body></html>"), Failure::NotAnImage);
        assert_eq!(failure(b""), Failure::NotAnImage);
        let limits = Limits { pixels_max: 100 };
        assert_eq!(decode(&jpeg, limits).expect_err("too large").0, Failure::TooManyPixels);
    }

    #[test]
    fn transparency_lies_on_white() {
        let mut png = Vec::new();
        let rgba = image::RgbaImage::from_pixel(4, 4, image::Rgba([255, 0, 0, 128]));
        rgba.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).expect("memory");
        let decoded = decode(&png, Limits::default()).expect("decodable");
        assert_eq!(decoded.pixels.rgb()[..3], [255, 127, 127]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            start in prop::sample::select(vec![&b"\xFF\xD8\xFF\xE0"[..], b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8L"]),
        ) {
            let _ = decode(&[start, &bytes].concat(), Limits::default());
        }
    }
}
