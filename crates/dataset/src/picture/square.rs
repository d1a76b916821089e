//! The centred square that models look at.

use scaling::{Filter, Rgbx, Window};

/// A side may be so many times the other one: the scaled picture is held whole.
const RATIO_MAX: u32 = 256;

/// Scales pictures as CLIP's preprocessing does: the shorter side to `side` (bicubic, a = -0.5, antialiased: PIL's
/// `BICUBIC`), then the centre is cut out as torchvision's `CenterCrop` does.
#[derive(Debug, Default)]
pub struct Squares {
    scaling: Rgbx,
    rgbx: Vec<u8>,
    scaled: Vec<u8>,
}

impl Squares {
    /// Whether a picture of this size has a square of any side: its sides differ by no more than a factor of 256.
    pub fn takes(width: u32, height: u32) -> bool {
        u64::from(width.max(height)) <= u64::from(width.min(height)) * u64::from(RATIO_MAX)
    }

    /// Fills `out`, `side * side * 3` bytes of RGB, from `width * height * 3` bytes. The error says why it cannot.
    pub fn fill(&mut self, rgb: &[u8], width: u32, height: u32, side: u32, out: &mut [u8]) -> Result<(), String> {
        let mut rgbx = std::mem::take(&mut self.rgbx);
        rgbx.clear();
        rgbx.extend(rgb.as_chunks().0.iter().flat_map(|&[red, green, blue]| [red, green, blue, 0]));
        let filled = self.fill_from_rgbx(&rgbx, width, height, side, out);
        self.rgbx = rgbx;
        filled
    }

    /// The same from pixels of four bytes, the last of which means nothing: those are scaled twice as fast.
    pub(super) fn fill_from_rgbx(
        &mut self,
        rgbx: &[u8],
        width: u32,
        height: u32,
        side: u32,
        out: &mut [u8],
    ) -> Result<(), String> {
        let (wide, high) = scaled_size(width, height, side)?;
        let scaled = if (wide, high) == (width, height) {
            rgbx
        } else {
            self.scaled.resize(wide as usize * high as usize * 4, 0);
            self.scaling.fill(rgbx, width, height, (wide, high), Filter::Bicubic, &mut self.scaled)?;
            &self.scaled
        };
        let (left, top) = (offset(wide, side) as usize, offset(high, side) as usize);
        let rows = scaled.chunks_exact(wide as usize * 4).skip(top);
        for (out, row) in out.chunks_exact_mut(side as usize * 3).zip(rows) {
            let pixels = row.as_chunks::<4>().0[left..].iter();
            out.as_chunks_mut().0.iter_mut().zip(pixels).for_each(|(out, pixel)| *out = [pixel[0], pixel[1], pixel[2]]);
        }
        Ok(())
    }
}

/// The square as CLIP's preprocessing makes it, to the bit, and more slowly than by [`Squares`], whose values are
/// one off now and then.
pub fn pil_square(rgb: &[u8], width: u32, height: u32, side: u32) -> Result<Vec<u8>, String> {
    let (wide, high) = scaled_size(width, height, side)?;
    let window = Window { left: offset(wide, side), top: offset(high, side), width: side, height: side };
    scaling::bicubic(rgb, width, height, (wide, high), window).ok_or_else(|| format!("{width} x {height}: no pixels"))
}

/// The size at which the shorter side is `side`.
fn scaled_size(width: u32, height: u32, side: u32) -> Result<(u32, u32), String> {
    // First, for the longer side of another picture may not fit a number.
    if !Squares::takes(width, height) {
        return Err(format!("{width} x {height}: its sides differ by a factor above {RATIO_MAX}"));
    }
    let scale = |long: u32, short: u32| (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
    Ok(if width <= height { (side, scale(height, width)) } else { (scale(width, height), side) })
}

/// torchvision's centre crop: half of the rest, and a half rounds to the even number, as Python does.
fn offset(length: u32, side: u32) -> u32 {
    let rest = length - side;
    if rest % 4 == 3 { rest / 2 + 1 } else { rest / 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(rgb: &[u8], width: u32, height: u32, side: u32) -> Result<Vec<u8>, String> {
        let mut out = vec![0; (side * side * 3) as usize];
        Squares::default().fill(rgb, width, height, side, &mut out).map(|()| out)
    }

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
        let expected = [10, 200, 30].repeat(16 * 16);
        assert_eq!(square(&[10, 200, 30].repeat(40 * 30), 40, 30, 16).expect("a picture"), expected);
        assert_eq!(square(&[10, 200, 30].repeat(16 * 16), 16, 16, 16).expect("a picture"), expected);
    }

    #[test]
    fn a_one_pixel_picture_and_a_thread_are_no_panic() {
        assert!(square(&[1, 2, 3], 1, 1, 64).is_ok());
        assert!(square(&vec![7; 180_000], 1, 60_000, 64).is_err());
        // Scaled, it would be 2^32 + 32 pixels high.
        assert!(scaled_size(1, 134_217_729, 32).is_err());
        for (height, taken) in [(256, true), (257, false), (10_000, false)] {
            assert_eq!((Squares::takes(1, height), Squares::takes(height, 1)), (taken, taken), "{height}");
            assert!(!taken || square(&vec![7; height as usize * 3], 1, height, 64).is_ok());
        }
    }
}
