//! Pictures to pixels, one after the other, as training wants them.

use image::ImageFormat;

use super::jpeg::Jpegs;
use super::{Limits, Squares, decode, format};
use crate::{Failure, Pixels};

/// Decodes as [`decode`] does, and keeps for the next picture what one alone would have to set up.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    jpegs: Option<Jpegs>,
    squares: Squares,
    rgbx: Vec<u8>,
}

/// The failure is a row's; the text says more.
type Result<T> = std::result::Result<T, (Failure, String)>;

impl Decoder {
    /// Decodes pictures within these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, jpegs: Jpegs::new().ok(), squares: Squares::default(), rgbx: Vec::new() }
    }

    /// All pixels.
    pub fn full(&mut self, bytes: &[u8]) -> Result<Pixels> {
        let mut rgb = Vec::new();
        match self.jpeg(bytes, None, 3, &mut rgb)? {
            Some((width, height)) => {
                Pixels::new(width, height, rgb).ok_or((Failure::ImageDamaged, "no pixels".to_owned()))
            }
            None => Ok(decode(bytes, self.limits)?.pixels),
        }
    }

    /// Fills `out` with the centred square of `side` pixels, as [`Squares`] does. A JPEG that is much larger is decoded
    /// at the half, the quarter or the eighth of its size.
    pub fn square(&mut self, bytes: &[u8], side: u32, out: &mut [u8]) -> Result<()> {
        let damaged = |cause| (Failure::ImageDamaged, cause);
        let mut rgbx = std::mem::take(&mut self.rgbx);
        let filled = match self.jpeg(bytes, Some(side), 4, &mut rgbx)? {
            Some((width, height)) => self.squares.fill_from_rgbx(&rgbx, width, height, side, out),
            None => {
                let pixels = decode(bytes, self.limits)?.pixels;
                self.squares.fill(pixels.rgb(), pixels.width(), pixels.height(), side, out)
            }
        };
        self.rgbx = rgbx;
        filled.map_err(damaged)
    }

    /// Width and height of what is in `pixels` then, so many bytes each; `None` for what only [`decode`] can read: other formats, CMYK, and
    /// pictures with EXIF, which may have to be turned.
    fn jpeg(
        &mut self,
        bytes: &[u8],
        shorter: Option<u32>,
        pixel_bytes: usize,
        pixels: &mut Vec<u8>,
    ) -> Result<Option<(u32, u32)>> {
        let damaged = |cause| (Failure::ImageDamaged, cause);
        let Some(jpegs) = self.jpegs.as_mut() else { return Ok(None) };
        if format(bytes) != Some(ImageFormat::Jpeg) || may_have_exif(bytes) {
            return Ok(None);
        }
        let Some((width, height)) = jpegs.header(bytes).map_err(damaged)? else { return Ok(None) };
        self.limits.check(width, height)?;
        let enough = |divisor: &u32| shorter.is_some_and(|shorter| width.min(height).div_ceil(*divisor) >= shorter);
        let divisor = [8, 4, 2].into_iter().find(enough).unwrap_or(1);
        let (width, height) = (width.div_ceil(divisor), height.div_ceil(divisor));
        pixels.resize(width as usize * height as usize * pixel_bytes, 0);
        jpegs.decode(bytes, divisor, width, pixel_bytes, pixels).map_err(damaged)?;
        Ok(Some((width, height)))
    }
}

/// Whether a segment with EXIF stands before the pixels of a JPEG, or what stands there is unclear.
fn may_have_exif(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[mark, kind, high, low]) = bytes.get(at..at + 4).and_then(|head| head.first_chunk()) {
        match (mark, kind) {
            (0xFF, 0xDA) => return false,
            (0xFF, 0xE1) if bytes[at + 4..].starts_with(b"Exif") => return true,
            (0xFF, 0xC0..=0xCF | 0xDB..=0xFE) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => return true,
        }
    }
    true
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
    fn it_decodes_what_the_general_decoder_does() {
        let mut decoder = Decoder::new(Limits::default());
        let jpeg = picture(60, 40);
        let mut png = Vec::new();
        let rgba = image::RgbaImage::from_pixel(4, 5, image::Rgba([255, 0, 0, 128]));
        rgba.write_to(&mut std::io::Cursor::new(&mut png), ImageFormat::Png).expect("memory");
        for bytes in [&jpeg, &turned(&jpeg), &png] {
            let general = decode(bytes, Limits::default()).expect("decodable").pixels;
            assert_eq!(decoder.full(bytes).expect("decodable"), general);
        }
        let turned = decoder.full(&turned(&jpeg)).expect("decodable");
        assert_eq!((turned.width(), turned.height()), (40, 60));
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
            (&picture(200, 200), Failure::TooManyPixels),
            (b"<html>", Failure::NotAnImage),
        ] {
            assert_eq!(decoder.full(bytes).expect_err("no picture").0, failure);
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
