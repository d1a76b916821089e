//! Pictures that were damaged on purpose.

use std::io::Cursor;

use flate2::write::ZlibEncoder;
use image::{ImageFormat, Rgb, RgbImage};

/// What a seed gives (xorshift64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }
}

/// The smallest GIF there is.
pub(crate) const GIF: &[u8] =
    b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF!\xF9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
/// The beginning of a TIFF of one pixel.
pub(crate) const TIFF: &[u8] =
    b"II*\0\x08\0\0\0\x02\0\0\x01\x03\0\x01\0\0\0\x01\0\0\0\x01\x01\x03\0\x01\0\0\0\x01\0\0\0\0\0\0\0";

/// An AVIF of 38 x 30 pixels, as Pillow writes it.
pub(crate) const AVIF: &[u8] = include_bytes!("../../../dataset/tests/golden/avif/420.avif");

/// One small picture of every format.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let pixel = |x: u32, y: u32| Rgb([(x * 5) as u8, (y * 7) as u8, (x * y) as u8]);
    let picture = RgbImage::from_fn(40, 30, pixel);
    let formats = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp];
    let encoded = formats.map(|format| {
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), format).expect("memory");
        bytes
    });
    encoded.into_iter().chain([GIF, TIFF, AVIF].map(<[u8]>::to_vec)).collect()
}

/// Some bytes flipped, a piece cut out, doubled or overwritten, or the end cut off.
pub(crate) fn mutated(picture: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = picture.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let end = (at + random.below(64)).min(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at.max(1)),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            3 => bytes[at..end].fill(if random.below(2) == 0 { 0 } else { 0xFF }),
            // Sizes and counts are in the first bytes.
            4 => {
                let at = random.below(bytes.len().min(48));
                bytes[at] = random.below(256) as u8;
            }
            _ => bytes[at] ^= 1 << random.below(8),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// A PNG of so many pixels, all black, which takes few bytes: every row is a filter byte and a bit for each pixel.
pub(crate) fn png_of_zeros(width: u32, height: u32) -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut checksum = flate2::Crc::new();
        checksum.update(kind);
        checksum.update(data);
        [&(data.len() as u32).to_be_bytes()[..], kind, data, &checksum.sum().to_be_bytes()].concat()
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[1, 0, 0, 0, 0]].concat();
    let mut pixels = ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let row = vec![0; 1 + width.div_ceil(8) as usize];
    for _ in 0..height {
        std::io::Write::write_all(&mut pixels, &row).expect("memory");
    }
    let pixels = pixels.finish().expect("memory");
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &pixels), &chunk(b"IEND", b"")].concat()
}
