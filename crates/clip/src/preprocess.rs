//! Pixels to the values the image tower reads.

use dataset::Pixels;
use dataset::picture::pil_square;
use rayon::prelude::*;

use crate::config::Normalization;
use crate::error::{Error, Result};

/// Scales and crops as PIL and torchvision do, into bytes of shape (pictures or more, side, side, 3).
#[cfg(feature = "onnxruntime")]
pub(crate) fn fill(bytes: &mut [u8], pictures: &[Pixels], side: usize) -> Result<()> {
    bytes.par_chunks_exact_mut(3 * side * side).zip(pictures).try_for_each(|(bytes, picture)| {
        let square = pil_square(picture.rgb(), picture.width(), picture.height(), side as u32);
        bytes.copy_from_slice(&square.map_err(Error::Resize)?);
        Ok(())
    })
}

/// Scales and crops as PIL and torchvision do, and normalises. Gives values of shape (pictures, 3, side, side).
pub(crate) fn batch(pictures: &[Pixels], side: usize, normalization: &Normalization) -> Result<Vec<f32>> {
    // Every byte has its value, once for each channel.
    let tables = [0, 1, 2].map(|channel| {
        let (mean, deviation) = (normalization.mean[channel], normalization.deviation[channel]);
        std::array::from_fn::<f32, 256, _>(|byte| (byte as f32 / 255.0 - mean) / deviation)
    });
    let mut values = vec![0.0; pictures.len() * 3 * side * side];
    values.par_chunks_exact_mut(3 * side * side).zip(pictures).try_for_each(|(values, picture)| {
        let square = pil_square(picture.rgb(), picture.width(), picture.height(), side as u32);
        let square = square.map_err(Error::Resize)?;
        let pixels = square.as_chunks::<3>().0;
        for ((channel, values), table) in values.chunks_exact_mut(side * side).enumerate().zip(&tables) {
            values.iter_mut().zip(pixels).for_each(|(value, pixel)| *value = table[usize::from(pixel[channel])]);
        }
        Ok::<_, Error>(())
    })?;
    Ok(values)
}
