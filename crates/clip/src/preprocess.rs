//! Pixels to the tensor the image tower reads.

use candle_core::{Device, Tensor};
use dataset::Pixels;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::error::{Error, Result};

/// Mean of each channel over OpenAI's training pictures (openai/CLIP, `clip.py`).
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation of each channel, from the same place.
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Scales the shorter side to `side` (bicubic, a = -0.5, antialiased: PIL's `BICUBIC`), crops the centre, and
/// normalises. Gives a tensor of shape (pictures, 3, side, side).
pub(crate) fn batch(pictures: &[Pixels], side: usize) -> Result<Tensor> {
    let mut values = Vec::with_capacity(pictures.len() * 3 * side * side);
    for picture in pictures {
        let square = square(picture, side as u32)?;
        for channel in 0..3 {
            let (mean, deviation) = (MEAN[channel], DEVIATION[channel]);
            values.extend(
                square.iter().skip(channel).step_by(3).map(|&byte| (f32::from(byte) / 255.0 - mean) / deviation),
            );
        }
    }
    Ok(Tensor::from_vec(values, (pictures.len(), 3, side, side), &Device::Cpu)?)
}

/// The centred square of `side` pixels that CLIP looks at, as RGB bytes.
fn square(picture: &Pixels, side: u32) -> Result<Vec<u8>> {
    let (width, height) = (picture.width(), picture.height());
    let failed = |cause: String| Error::Resize { width, height, cause };
    let scale = |long: u32, short: u32| (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
    let (wide, high) = if width <= height { (side, scale(height, width)) } else { (scale(width, height), side) };
    // The scaled picture is held whole, so its size has a limit.
    if wide.max(high) > side.saturating_mul(256) {
        return Err(failed("its sides differ by a factor above 256".into()));
    }
    let source = ImageRef::new(width, height, picture.rgb(), PixelType::U8x3).map_err(|e| failed(e.to_string()))?;
    let mut scaled = Image::new(wide, high, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new().resize(&source, &mut scaled, &options).map_err(|e| failed(e.to_string()))?;
    let (left, top) = (offset(wide, side), offset(high, side));
    let row_bytes = (wide * 3) as usize;
    Ok(scaled
        .buffer()
        .chunks_exact(row_bytes)
        .skip(top as usize)
        .take(side as usize)
        .flat_map(|row| &row[(left * 3) as usize..((left + side) * 3) as usize])
        .copied()
        .collect())
}

/// torchvision's centre crop: half of the rest, and a half rounds to the even number, as Python does.
fn offset(length: u32, side: u32) -> u32 {
    let rest = length - side;
    if rest % 4 == 3 { rest / 2 + 1 } else { rest / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crop_is_torchvisions() {
        // int(round((length - side) / 2.0)) in Python 3
        let expected = [(224, 0), (225, 0), (226, 1), (227, 2), (228, 2), (229, 2), (231, 4)];
        for (length, left) in expected {
            assert_eq!(offset(length, 224), left, "{length}");
        }
    }

    #[test]
    fn one_colour_stays_that_colour() {
        let picture = Pixels::new(40, 30, [10, 200, 30].repeat(40 * 30)).expect("full size");
        let square = square(&picture, 16).expect("a picture");
        assert_eq!(square, [10, 200, 30].repeat(16 * 16));
    }

    #[test]
    fn a_one_pixel_picture_and_a_thread_are_no_panic() {
        let dot = Pixels::new(1, 1, vec![1, 2, 3]).expect("full size");
        assert!(square(&dot, 64).is_ok());
        let thread = Pixels::new(1, 60_000, vec![7; 180_000]).expect("full size");
        assert!(square(&thread, 64).is_err());
    }
}
