//! Luma and chroma to red, green and blue of 8 bits (ITU-T H.273, section 8.3).

/// How numbers of a picture become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coding {
    /// `MatrixCoefficients` of H.273.
    pub(super) matrix: u16,
    /// Whether black is 0 and white the largest number.
    pub(super) full: bool,
}

/// The numbers of a picture, row by row.
pub(super) struct Planes {
    pub(super) width: usize,
    pub(super) height: usize,
    /// 8, 10 or 12.
    pub(super) bits: u32,
    pub(super) luma: Vec<u16>,
    pub(super) chroma: Option<Chroma>,
}

/// The two planes of colour.
pub(super) struct Chroma {
    pub(super) width: usize,
    pub(super) blue: Vec<u16>,
    pub(super) red: Vec<u16>,
    /// Whether there is one for two columns, and one for two rows.
    pub(super) half_width: bool,
    pub(super) half_height: bool,
}

/// For red, green and blue: the shares of luma, blue and red, and what is added.
type Shares = [[f32; 4]; 3];

/// Steps between two numbers of chroma: a quarter along each axis.
const STEPS: f32 = 16.0;

impl Planes {
    /// Calls `each` with the number of a row and its colours. `None` for a coding that is not known, or does not fit.
    pub(super) fn colours(&self, coding: Coding, mut each: impl FnMut(usize, &[[u8; 3]])) -> Option<()> {
        let mut row = vec![[0; 3]; self.width];
        let Some(chroma) = &self.chroma else {
            self.greys(coding.full, |at, greys| {
                row.iter_mut().zip(greys).for_each(|(pixel, &grey)| *pixel = [grey; 3]);
                each(at, &row);
            });
            return Some(());
        };
        let is_whole = !chroma.half_width && !chroma.half_height;
        let shares = shares(coding, self.bits, is_whole)?;
        let (mut blue, mut red) = (vec![0.0; self.width], vec![0.0; self.width]);
        // One colour after the other, since the compiler makes vectors of that.
        let mut colours = [vec![0; self.width], vec![0; self.width], vec![0; self.width]];
        for (at, luma) in self.luma.chunks_exact(self.width).enumerate() {
            chroma.spread(&chroma.blue, at, &mut blue);
            chroma.spread(&chroma.red, at, &mut red);
            for (colour, [of_luma, of_blue, of_red, more]) in colours.iter_mut().zip(shares) {
                for (((value, &luma), &blue), &red) in colour.iter_mut().zip(luma).zip(&blue).zip(&red) {
                    let exact = f32::from(luma) * of_luma + blue * of_blue + red * of_red + more;
                    *value = (exact + 0.5) as u8; // what is out of range goes to its end
                }
            }
            let [reds, greens, blues] = &colours;
            for (((pixel, &red), &green), &blue) in row.iter_mut().zip(reds).zip(greens).zip(blues) {
                *pixel = [red, green, blue];
            }
            each(at, &row);
        }
        Some(())
    }

    /// Calls `each` with the number of a row and its luma, as 8 bits.
    pub(super) fn greys(&self, full: bool, mut each: impl FnMut(usize, &[u8])) {
        let (scale, more) = luma_scale(full, self.bits);
        let mut row = vec![0; self.width];
        for (at, luma) in self.luma.chunks_exact(self.width).enumerate() {
            let greys = luma.iter().map(|&luma| (f32::from(luma) * scale + more + 0.5) as u8);
            row.iter_mut().zip(greys).for_each(|(to, grey)| *to = grey);
            each(at, &row);
        }
    }
}

impl Chroma {
    /// The numbers of one plane for every pixel of a row of the picture, in sixteenths. Where there are fewer than pixels,
    /// they stand in the middle of theirs, and what is between is as near to one as to the other.
    fn spread(&self, plane: &[u16], row: usize, to: &mut [f32]) {
        let line = |at: usize| plane.chunks_exact(self.width).nth(at);
        let (near, far) = if self.half_height { neighbours(row) } else { (row, row) };
        let Some(near) = line(near) else { return };
        let far = line(far).unwrap_or(near);
        let mixed = |at: usize| f32::from(near[at]) * 3.0 + f32::from(far[at]);
        if self.half_width {
            for (column, value) in to.iter_mut().enumerate() {
                let (near, far) = neighbours(column);
                let near = mixed(near.min(self.width - 1));
                *value = near * 3.0 + if far < self.width { mixed(far) } else { near };
            }
        } else {
            to.iter_mut().zip(0..self.width).for_each(|(value, at)| *value = mixed(at) * 4.0);
        }
    }
}

/// The number of chroma that a pixel lies on, and the next one on its side; at the start there is none but the first.
fn neighbours(pixel: usize) -> (usize, usize) {
    let near = pixel / 2;
    (near, if pixel % 2 == 1 { near + 1 } else { near.saturating_sub(1) })
}

fn luma_scale(full: bool, bits: u32) -> (f32, f32) {
    let unit = (1 << (bits - 8)) as f32;
    let scale = if full { 255.0 / ((1 << bits) - 1) as f32 } else { 255.0 / (219.0 * unit) };
    (scale, if full { 0.0 } else { -16.0 * unit * scale })
}

/// `None` for a matrix that is not known. `is_whole`: there is chroma for every pixel.
fn shares(coding: Coding, bits: u32, is_whole: bool) -> Option<Shares> {
    let (luma, black) = luma_scale(coding.full, bits);
    let unit = (1 << (bits - 8)) as f32;
    let scale = if coding.full { luma } else { 255.0 / (224.0 * unit) };
    let middle = 128.0 * unit * scale;
    // Shares of blue and red as numbers from -0.5 to 0.5, times 255.
    let with = |blue: f32, red: f32| [luma, blue * scale / STEPS, red * scale / STEPS, black - (blue + red) * middle];
    let (red, blue) = match coding.matrix {
        0 if is_whole => {
            let plane = luma / STEPS;
            return Some([[0.0, 0.0, plane, black], [luma, 0.0, 0.0, black], [0.0, plane, 0.0, black]]);
        }
        8 => return Some([with(-1.0, 1.0), with(1.0, 0.0), with(-1.0, -1.0)]),
        1 => (0.2126, 0.0722),
        4 => (0.30, 0.11),
        2 | 5 | 6 => (0.299, 0.114), // 2 is unspecified: what libavif takes it for
        7 => (0.212, 0.087),
        9 => (0.2627, 0.0593),
        _ => return None,
    };
    let green = 1.0 - red - blue;
    Some([
        with(0.0, 2.0 * (1.0 - red)),
        with(-2.0 * blue * (1.0 - blue) / green, -2.0 * red * (1.0 - red) / green),
        with(2.0 * (1.0 - blue), 0.0),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One pixel through the formulas of H.273 backwards (equations 38 to 43), and here.
    fn there_and_back(rgb: [u8; 3], matrix: u16, weights: (f64, f64), full: bool, bits: u32) -> [u8; 3] {
        let [red, green, blue] = rgb.map(|value| f64::from(value) / 255.0);
        let luma = weights.0 * red + (1.0 - weights.0 - weights.1) * green + weights.1 * blue;
        let (of_blue, of_red) = ((blue - luma) / (2.0 - 2.0 * weights.1), (red - luma) / (2.0 - 2.0 * weights.0));
        let (unit, most) = (f64::from(1 << (bits - 8)), f64::from((1 << bits) - 1));
        let scaled = |value: f64, range: f64, zero: f64| match full {
            true => value * most + if zero == 128.0 { 128.0 * unit } else { 0.0 },
            false => (value * range + zero) * unit,
        };
        let whole = |value: f64| vec![value.round().clamp(0.0, most) as u16];
        let chroma = Chroma {
            width: 1,
            blue: whole(scaled(of_blue, 224.0, 128.0)),
            red: whole(scaled(of_red, 224.0, 128.0)),
            half_width: false,
            half_height: false,
        };
        let luma = whole(scaled(luma, 219.0, 16.0));
        let planes = Planes { width: 1, height: 1, bits, luma, chroma: Some(chroma) };
        let mut found = [0; 3];
        planes.colours(Coding { matrix, full }, |_, row| found = row[0]).expect("known");
        found
    }

    #[test]
    fn every_matrix_range_and_depth_gives_the_colour_back() {
        let matrices = [(1, (0.2126, 0.0722)), (6, (0.299, 0.114)), (9, (0.2627, 0.0593))];
        for rgb in [[0; 3], [255; 3], [220, 30, 40], [20, 180, 60], [30, 50, 200], [100, 100, 100]] {
            for (matrix, weights) in matrices {
                for (full, bits, within) in [(true, 8, 2), (false, 8, 2), (true, 10, 1), (false, 12, 0), (true, 12, 0)]
                {
                    let found = there_and_back(rgb, matrix, weights, full, bits);
                    let furthest = found.iter().zip(rgb).map(|(a, b)| a.abs_diff(b)).max();
                    assert!(furthest <= Some(within), "{rgb:?} by {matrix}, {full}, {bits} bits: {found:?}");
                }
            }
        }
    }

    #[test]
    fn planes_may_be_colours_themselves() {
        let chroma = Chroma { width: 1, blue: vec![200], red: vec![30], half_width: false, half_height: false };
        let planes = Planes { width: 1, height: 1, bits: 8, luma: vec![50], chroma: Some(chroma) };
        let mut found = [0; 3];
        planes.colours(Coding { matrix: 0, full: true }, |_, row| found = row[0]).expect("known");
        assert_eq!(found, [30, 50, 200]);
        assert!(planes.colours(Coding { matrix: 14, full: true }, |_, _| ()).is_none(), "ICtCp");
    }

    #[test]
    fn between_two_numbers_of_chroma_there_are_steps() {
        let chroma = Chroma { width: 2, blue: vec![0, 16], red: vec![0; 2], half_width: true, half_height: true };
        let mut row = [0.0; 4];
        chroma.spread(&chroma.blue, 0, &mut row);
        assert_eq!(row.map(|value| value / STEPS), [0.0, 4.0, 12.0, 16.0]);
    }
}
