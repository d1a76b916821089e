//! Pixels to the tensor the image tower reads.

use candle_core::{Device, Tensor};
use dataset::Pixels;
use dataset::picture::Squares;

use crate::error::{Error, Result};

/// Mean of each channel over OpenAI's training pictures (openai/CLIP, `clip.py`).
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation of each channel, from the same place.
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Scales and crops as [`Squares`] does, and normalises. Gives a tensor of shape (pictures, 3, side, side).
pub(crate) fn batch(pictures: &[Pixels], side: usize) -> Result<Tensor> {
    let mut values = Vec::with_capacity(pictures.len() * 3 * side * side);
    let (mut squares, mut square) = (Squares::default(), vec![0; side * side * 3]);
    for picture in pictures {
        let filled = squares.fill(picture.rgb(), picture.width(), picture.height(), side as u32, &mut square);
        filled.map_err(Error::Resize)?;
        for channel in 0..3 {
            let (mean, deviation) = (MEAN[channel], DEVIATION[channel]);
            values.extend(
                square.iter().skip(channel).step_by(3).map(|&byte| (f32::from(byte) / 255.0 - mean) / deviation),
            );
        }
    }
    Ok(Tensor::from_vec(values, (pictures.len(), 3, side, side), &Device::Cpu)?)
}
