//! Pictures as files.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder};

use crate::draw::draw;
use crate::random::Random;
use crate::scene::Scene;

/// The file format of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    Jpeg { quality: u8 },
    Png,
    WebP,
}

impl Format {
    /// As the `Content-Type` names it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg { .. } => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
        }
    }

    /// How its file names end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jpeg { .. } => "jpg",
            Self::Png => "png",
            Self::WebP => "webp",
        }
    }
}

/// A picture of the world: drawn and encoded whenever it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// What it shows.
    pub scene: Scene,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The file format.
    pub format: Format,
}

impl Picture {
    pub(crate) fn new(scene: Scene, tiny: bool, random: &mut Random) -> Self {
        let side = if tiny { 16 + random.below(33) as u32 } else { 240 + random.below(81) as u32 };
        let other = (side as f32 * random.between(1.0, if tiny { 1.0 } else { 1.3 })) as u32;
        let (width, height) = if random.chance(0.5) { (side, other) } else { (other, side) };
        let format = match random.below(20) {
            0..14 => Format::Jpeg { quality: 75 + random.below(21) as u8 },
            14..17 => Format::Png,
            _ => Format::WebP,
        };
        Self { scene, width, height, format }
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let rgb = draw(&self.scene, self.width, self.height);
        let mut file = Cursor::new(Vec::new());
        let (width, height, color) = (self.width, self.height, ExtendedColorType::Rgb8);
        match self.format {
            Format::Jpeg { quality } => {
                JpegEncoder::new_with_quality(&mut file, quality).write_image(&rgb, width, height, color)
            }
            Format::Png => PngEncoder::new(&mut file).write_image(&rgb, width, height, color),
            Format::WebP => WebPEncoder::new_lossless(&mut file).write_image(&rgb, width, height, color),
        }
        .expect("a buffer in memory takes every picture");
        file.into_inner()
    }
}
