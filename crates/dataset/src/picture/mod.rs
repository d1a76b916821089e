//! Encoded pictures to pixels and back: whatever the web sends.

#[cfg(feature = "native")]
mod avif;
mod color;
mod containers;
mod decoder;
mod encode;
mod general;
#[cfg_attr(feature = "native", path = "turbo.rs")]
#[cfg_attr(not(feature = "native"), path = "pure.rs")]
mod jpeg;
mod place;
mod square;

use std::collections::BTreeMap;

use crate::{Failure, Pixels, Result};

pub use decoder::Decoder;
pub use encode::{StoredFormat, encode, encode_jpeg};
pub use place::without_place;
pub use square::{Squares, pil_square};

/// What a decoded picture may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pixels, told by the header before anything is allocated. PIL's own guard is 89,478,485. A pixel may take 8 bytes
    /// while its file is read.
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

/// Scans of a progressive JPEG. Real ones have about ten; a file of many empty ones takes hours.
const SCANS_MAX: u32 = 500;

/// How many pixels a picture must have to be of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// All that it has.
    All,
    /// So many along its shorter side.
    Shorter(u32),
    /// So many along its longer side.
    Longer(u32),
}

impl Needed {
    /// By what a JPEG's sides can be divided so that enough is left.
    fn divisor(self, width: u32, height: u32) -> u32 {
        let (side, least) = match self {
            Self::All => return 1,
            Self::Shorter(least) => (width.min(height), least),
            Self::Longer(least) => (width.max(height), least),
        };
        [8, 4, 2].into_iter().find(|divisor| side / divisor >= least).unwrap_or(1)
    }
}

/// The formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG, in ink (CMYK), too.
    Jpeg,
    /// PNG.
    Png,
    /// WebP; the first picture of an animation.
    WebP,
    /// GIF; its first picture.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF; its first picture.
    Tiff,
    /// AVIF; of a sequence the picture that stands for it. Read by builds with the feature `native` alone.
    Avif,
}

impl Format {
    /// The format that the bytes start as.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        #[cfg(feature = "native")]
        if avif::is_avif(bytes) {
            return Some(Self::Avif);
        }
        Some(match image::guess_format(bytes).ok()? {
            image::ImageFormat::Jpeg => Self::Jpeg,
            image::ImageFormat::Png => Self::Png,
            image::ImageFormat::WebP => Self::WebP,
            image::ImageFormat::Gif => Self::Gif,
            image::ImageFormat::Bmp if has_bitmap_header(bytes) => Self::Bmp,
            image::ImageFormat::Tiff => Self::Tiff,
            _ => return None,
        })
    }

    /// Its name as the ending of a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
            Self::Avif => "avif",
        }
    }
}

/// "BM" starts many a text. A bitmap has one of these lengths of its second header there (OS/2 1 and 2, Windows 3 to 5).
fn has_bitmap_header(bytes: &[u8]) -> bool {
    bytes.get(14..18).is_some_and(|length| matches!(length, [12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
}

/// Whether the bytes start as a picture does that can be read: what is taken from the web.
pub fn is_image(bytes: &[u8]) -> bool {
    Format::of(bytes).is_some()
}

/// A decoded picture and what its file said of it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Upright, in sRGB, transparency laid on white.
    pub pixels: Pixels,
    /// What it has upright, however small it was decoded.
    pub original_width: u32,
    /// What it has upright, however small it was decoded.
    pub original_height: u32,
    /// By what the sides were divided when it was decoded, 1, 2, 4 or 8. What is left over is rounded up: the last column
    /// and the last row then stand for fewer pixels than the others.
    pub divisor: u32,
    /// What it was read from.
    pub format: Format,
    /// Whether the file shows nothing else to those who take no notice of orientation, profile and transparency, and is
    /// no animation: it may be stored in place of the pixels.
    pub as_in_file: bool,
    /// EXIF fields by name, without position data, as JSON; `{}` where there is none.
    pub exif: String,
}

/// Decodes a picture. The failure is a row's; the text says more.
pub fn decode(bytes: &[u8], limits: Limits) -> Result<Picture, (Failure, String)> {
    Decoder::new(limits).picture(bytes, Needed::All)
}

/// How the bytes of a pixel are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Rgb,
    /// The fourth byte means nothing.
    Rgbx,
    /// Ink.
    Cmyk,
}

impl Layout {
    fn bytes(self) -> usize {
        if self == Self::Rgb { 3 } else { 4 }
    }
}

fn exif_json(metadata: Option<&[u8]>) -> String {
    let mut fields = BTreeMap::new();
    if let Some(exif) = metadata.and_then(|raw| exif::Reader::new().read_raw(raw.to_vec()).ok()) {
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::ImageFormat;

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
