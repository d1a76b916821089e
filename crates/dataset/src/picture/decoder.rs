//! Pictures to pixels, one after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::color::{cmyk_to_rgb, on_white, to_srgb};
use super::containers::{JPEG_SCAN, JpegParts, is_animated, jpeg_content};
use super::general::{self, Raster};
use super::jpeg::Jpegs;
use super::{Format, Layout, Limits, Needed, Picture, Squares, color, exif_json};
use crate::{Failure, Pixels};

/// Decodes pictures, and keeps for the next one what one alone would have to set up.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    profiles: bool,
    jpegs: Option<Jpegs>,
    squares: Squares,
    rgbx: Vec<u8>,
}

/// The failure is a row's; the text says more.
pub(super) type Result<T> = std::result::Result<T, (Failure, String)>;

pub(super) fn damaged(cause: impl ToString) -> (Failure, String) {
    (Failure::ImageDamaged, cause.to_string())
}

impl Decoder {
    /// Decodes pictures within these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, profiles: true, jpegs: Jpegs::new().ok(), squares: Squares::default(), rgbx: Vec::new() }
    }

    /// Takes colours as they are in the file, whatever its profile says of them: as PIL's `convert("RGB")` does, and with it
    /// everybody who trained a CLIP.
    pub fn without_profiles(self) -> Self {
        Self { profiles: false, ..self }
    }

    /// All pixels.
    pub fn full(&mut self, bytes: &[u8]) -> Result<Pixels> {
        Ok(self.picture(bytes, Needed::All)?.pixels)
    }

    /// A picture of at least the size `needed`: a JPEG that is much larger is decoded at the half, the quarter or the
    /// eighth of its sides.
    pub fn picture(&mut self, bytes: &[u8], needed: Needed) -> Result<Picture> {
        unpanicked(|| {
            let format = Format::of(bytes).ok_or_else(not_an_image)?;
            let special = match format {
                Format::Jpeg => self.jpeg(bytes, needed)?,
                #[cfg(feature = "native")]
                Format::Avif => Some(super::avif::decode(bytes, self.limits)?),
                _ => None,
            };
            let mut raster = special.map_or_else(|| general::decode(bytes, self.limits), Ok)?;
            raster.profile = raster.profile.filter(|_| self.profiles);
            finish(bytes, format, raster)
        })
    }

    /// Fills `out` with the centred square of `side` pixels, as [`Squares`] does, from no more pixels than that takes.
    pub fn square(&mut self, bytes: &[u8], side: u32, out: &mut [u8]) -> Result<()> {
        let mut rgbx = std::mem::take(&mut self.rgbx);
        let plain = unpanicked(|| self.plain_jpeg(bytes, Needed::Shorter(side), &mut rgbx))?;
        let filled = match plain {
            Some((width, height)) => self.squares.fill_from_rgbx(&rgbx, width, height, side, out),
            None => {
                let pixels = self.picture(bytes, Needed::Shorter(side))?.pixels;
                self.squares.fill(pixels.rgb(), pixels.width(), pixels.height(), side, out)
            }
        };
        self.rgbx = rgbx;
        filled.map_err(damaged)
    }

    /// A JPEG; `None` where the general decoder is to be asked.
    fn jpeg(&mut self, bytes: &[u8], needed: Needed) -> Result<Option<Raster>> {
        let Some(jpegs) = self.jpegs.as_mut() else { return Ok(None) };
        let Some((width, height, ink)) = jpegs.header(bytes).map_err(damaged)? else { return Ok(None) };
        self.limits.check(width, height)?;
        let JpegSays { exif, profile, adobe } = JpegSays::of(bytes);
        let orientation = exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
        // Turned, the column that stands for fewer pixels would not be the last one.
        let whole = |divisor: u32| width % divisor == 0 && height % divisor == 0;
        let divisor = match needed.divisor(width, height) {
            divisor if orientation == Orientation::NoTransforms || whole(divisor) => divisor,
            _ => 1,
        };
        let (wide, high) = (width.div_ceil(divisor), height.div_ceil(divisor));
        let layout = if ink { Layout::Cmyk } else { Layout::Rgb };
        let mut pixels = vec![0; wide as usize * high as usize * layout.bytes()];
        jpegs.decode(bytes, divisor, wide, layout, &mut pixels).map_err(damaged)?;
        let (pixels, profile) =
            if ink { (cmyk_to_rgb(pixels, adobe, profile.as_deref()), None) } else { (pixels, profile) };
        Ok(Some(Raster {
            pixels,
            channels: 3,
            width: wide,
            height: high,
            original: (width, height),
            exact: divisor == 1 && !ink,
            divisor,
            orientation,
            exif: exif.map(<[u8]>::to_vec),
            profile,
        }))
    }

    /// Width and height of a JPEG whose pixels are in `rgbx` then; `None` for what takes more than that: other formats,
    /// ink, and pictures with EXIF or a profile, which may have to be turned or brought to sRGB.
    fn plain_jpeg(&mut self, bytes: &[u8], needed: Needed, rgbx: &mut Vec<u8>) -> Result<Option<(u32, u32)>> {
        let Some(jpegs) = self.jpegs.as_mut() else { return Ok(None) };
        if Format::of(bytes) != Some(Format::Jpeg) || !JpegSays::of(bytes).nothing() {
            return Ok(None);
        }
        let Some((width, height, false)) = jpegs.header(bytes).map_err(damaged)? else { return Ok(None) };
        self.limits.check(width, height)?;
        let divisor = needed.divisor(width, height);
        let (width, height) = (width.div_ceil(divisor), height.div_ceil(divisor));
        rgbx.resize(width as usize * height as usize * Layout::Rgbx.bytes(), 0);
        jpegs.decode(bytes, divisor, width, Layout::Rgbx, rgbx).map_err(damaged)?;
        Ok(Some((width, height)))
    }
}

fn not_an_image() -> (Failure, String) {
    let avif = if cfg!(feature = "native") { ", AVIF" } else { "" };
    (Failure::NotAnImage, format!("none of JPEG, PNG, WebP{avif}, GIF, BMP and TIFF"))
}

/// A panic in a decoder, all of which are other people's, is a damaged picture.
fn unpanicked<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(damaged("the decoder gave up")))
}

/// To sRGB, onto white, upright.
fn finish(bytes: &[u8], format: Format, mut raster: Raster) -> Result<Picture> {
    let moved = match &raster.profile {
        Some(profile) => to_srgb(profile, &mut raster.pixels, raster.channels),
        None => false,
    };
    let (rgb, seen_through) = if raster.channels == 4 { on_white(&raster.pixels) } else { (raster.pixels, false) };
    let upright = raster.orientation == Orientation::NoTransforms;
    let (mut width, mut height, mut rgb) = (raster.width, raster.height, rgb);
    let (mut original_width, mut original_height) = raster.original;
    if !upright {
        let mut turned =
            DynamicImage::from(RgbImage::from_raw(width, height, rgb).ok_or_else(|| damaged("no pixels"))?);
        turned.apply_orientation(raster.orientation);
        if width != turned.width() {
            std::mem::swap(&mut original_width, &mut original_height);
        }
        (width, height, rgb) = (turned.width(), turned.height(), turned.into_rgb8().into_raw());
    }
    Ok(Picture {
        pixels: Pixels::new(width, height, rgb).ok_or_else(|| damaged("no pixels"))?,
        original_width,
        original_height,
        divisor: raster.divisor,
        format,
        as_in_file: raster.exact && upright && !moved && !seen_through && !is_animated(bytes),
        exif: exif_json(raster.exif.as_deref()),
    })
}

/// What a JPEG says before its pixels.
#[derive(Default)]
struct JpegSays<'a> {
    exif: Option<&'a [u8]>,
    profile: Option<Vec<u8>>,
    /// Whether Adobe's programs wrote it, or others in their way.
    adobe: bool,
}

impl<'a> JpegSays<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let mut says = Self::default();
        let mut profile: Vec<(u8, &[u8])> = Vec::new();
        for (kind, part) in JpegParts::new(bytes).take_while(|(kind, _)| *kind != JPEG_SCAN) {
            let content = jpeg_content(part);
            match kind {
                0xE1 => says.exif = says.exif.or(content.strip_prefix(b"Exif\0\0")),
                // A profile comes in pieces that are numbered from 1 (ICC.1:2022, annex B.4).
                0xE2 => {
                    let piece = content.strip_prefix(b"ICC_PROFILE\0").and_then(|piece| piece.split_at_checked(2));
                    profile.extend(piece.map(|(number, piece)| (number[0], piece)));
                }
                0xEE => says.adobe |= content.starts_with(b"Adobe"),
                _ => (),
            }
        }
        profile.sort_by_key(|(number, _)| *number);
        let size: usize = profile.iter().map(|(_, piece)| piece.len()).sum();
        let complete = profile.iter().zip(1..).all(|((number, _), expected)| u32::from(*number) == expected);
        says.profile = (complete && (1..=color::PROFILE_BYTES_MAX).contains(&size))
            .then(|| profile.iter().flat_map(|(_, piece)| *piece).copied().collect());
        says
    }

    fn nothing(&self) -> bool {
        self.exif.is_none() && self.profile.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::encode_jpeg;
    use proptest::prelude::*;

    fn picture(width: u32, height: u32) -> Vec<u8> {
        let pixel = |x: u32, y: u32| [(x * 255 / width) as u8, (y * 255 / height) as u8, 90];
        let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
        encode_jpeg(&Pixels::new(width, height, rgb).expect("full size"), 95).expect("encodable")
    }

    /// The same picture with an EXIF segment that says to turn it by 90 degrees.
    fn turned(jpeg: &[u8]) -> Vec<u8> {
        let tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let length = (tiff.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], b"\xFF\xE1", &length, tiff, &jpeg[2..]].concat()
    }

    #[test]
    fn a_jpeg_comes_out_as_the_general_decoder_has_it_and_upright() {
        let mut decoder = Decoder::new(Limits::default());
        let jpeg = picture(60, 40);
        let pixels = decoder.full(&jpeg).expect("decodable");
        let general = general::decode(&jpeg, Limits::default()).expect("decodable").pixels;
        let worst = pixels.rgb().iter().zip(&general).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(8), "{worst:?}");
        let upright = decoder.picture(&turned(&jpeg), Needed::All).expect("decodable");
        assert_eq!((upright.pixels.width(), upright.original_width, upright.as_in_file), (40, 40, false));
        let corner =
            |pixels: &Pixels, x: u32, y: u32| pixels.rgb()[(y * pixels.width() + x) as usize * 3..][..3].to_vec();
        assert_eq!(corner(&upright.pixels, 39, 0), corner(&pixels, 0, 0), "turned clockwise");
    }

    #[test]
    fn a_larger_picture_is_decoded_smaller_and_its_size_is_told() {
        let mut decoder = Decoder::new(Limits::default());
        let jpeg = picture(605, 403);
        let cases = [
            (Needed::All, (605, 403), true),
            (Needed::Shorter(201), (303, 202), false),
            (Needed::Shorter(202), (605, 403), true),
            (Needed::Longer(151), (152, 101), false),
            (Needed::Longer(1), (76, 51), false),
            (Needed::Longer(2000), (605, 403), true),
        ];
        for (needed, (width, height), as_in_file) in cases {
            let found = decoder.picture(&jpeg, needed).expect("decodable");
            assert_eq!((found.original_width, found.original_height), (605, 403), "{needed:?}");
            if cfg!(feature = "native") {
                let size = (found.pixels.width(), found.pixels.height());
                assert_eq!((size, found.as_in_file), ((width, height), as_in_file), "{needed:?}");
                assert_eq!(605u32.div_ceil(found.divisor), width, "{needed:?}");
            }
        }
    }

    #[test]
    fn a_picture_to_be_turned_is_decoded_smaller_only_where_nothing_is_left_over() {
        let mut decoder = Decoder::new(Limits::default());
        for (size, divisor) in [((640, 400), 4), ((640, 402), 1)] {
            let found = decoder.picture(&turned(&picture(size.0, size.1)), Needed::Longer(160)).expect("decodable");
            assert_eq!((found.original_width, found.original_height), (size.1, size.0));
            if cfg!(feature = "native") {
                assert_eq!((found.divisor, found.pixels.width()), (divisor, size.1 / divisor));
            }
        }
    }

    #[test]
    fn a_panic_in_a_decoder_is_a_damaged_picture() {
        let (failure, _) = unpanicked::<()>(|| panic!("as a decoder would")).expect_err("no picture");
        assert_eq!(failure, Failure::ImageDamaged);
    }

    #[test]
    fn a_large_picture_is_as_good_as_the_whole_one_scaled() {
        let mut decoder = Decoder::new(Limits::default());
        let large = picture(1000, 700);
        let mut fast = vec![0; 64 * 64 * 3];
        decoder.square(&large, 64, &mut fast).expect("decodable");
        let whole = decoder.full(&large).expect("decodable");
        let mut exact = vec![0; 64 * 64 * 3];
        Squares::default().fill(whole.rgb(), 1000, 700, 64, &mut exact).expect("a picture");
        let worst = fast.iter().zip(&exact).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst < Some(8), "{worst:?}");
    }

    #[test]
    fn damage_and_too_many_pixels_are_told_and_the_next_picture_is_fine() {
        let mut decoder = Decoder::new(Limits { pixels_max: 10_000 });
        let jpeg = picture(60, 40);
        let mut out = vec![0; 32 * 32 * 3];
        for (bytes, failure) in [
            (&jpeg[..jpeg.len() / 2], Failure::ImageDamaged),
            (&jpeg[..200], Failure::ImageDamaged), // its header is not complete
            (&picture(200, 200), Failure::TooManyPixels),
            (b"<html>", Failure::NotAnImage),
        ] {
            assert_eq!(decoder.full(bytes).expect_err("no picture").0, failure);
            assert!(decoder.full(&jpeg).is_ok());
            assert_eq!(decoder.square(bytes, 32, &mut out).expect_err("no picture").0, failure);
            assert!(decoder.full(&jpeg).is_ok());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(place in 0..1000usize, value: u8, cut in 0..1000usize, side in 1..70u32) {
            let mut jpeg = turned(&picture(48, 32));
            let length = jpeg.len();
            jpeg[place % length] = value;
            jpeg.truncate(length - cut % (length / 2));
            let mut out = vec![0; (side * side * 3) as usize];
            let mut decoder = Decoder::new(Limits::default());
            let _ = (decoder.full(&jpeg), decoder.square(&jpeg, side, &mut out));
        }
    }
}
