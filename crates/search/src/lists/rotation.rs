//! A random rotation, the same for every index: signs and Hadamard's matrix, twice. Afterwards no value of a vector is much
//! larger than the others, whatever model made it, and what codes lose is spread evenly.

/// Values are padded with zeros to a multiple of this, which codes are packed by.
const PADDING: usize = 8;

/// Turns vectors without changing their products.
#[derive(Debug)]
pub(crate) struct Rotation {
    dimensions: usize,
    /// Largest power of two that divides the length: Hadamard's matrix works on so many values.
    block: usize,
    signs: [Vec<f32>; 2],
}

impl Rotation {
    pub(crate) fn new(dimensions: usize) -> Self {
        let mut seed = 400;
        let mut signs = || (0..dimensions).map(|_| if random(&mut seed) >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        Self { dimensions, block: 1 << dimensions.trailing_zeros(), signs: [signs(), signs()] }
    }

    /// Values of a rotated vector, padding included.
    pub(crate) fn padded(&self) -> usize {
        self.dimensions.next_multiple_of(PADDING)
    }

    /// Rotates `values`, with zeros behind them.
    pub(crate) fn turn(&self, values: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.padded()];
        self.turn_into(values, &mut out);
        out
    }

    /// The same into `out`, of as many values as [`Rotation::padded`] says.
    pub(crate) fn turn_into(&self, values: &[f32], out: &mut [f32]) {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let blocks = self.dimensions / self.block;
                let norm = 1.0 / (self.block as f32).sqrt();
                let mut first: Vec<f32> = values.iter().zip(&self.signs[0]).map(|(value, sign)| value * sign).collect();
                first.chunks_exact_mut(self.block).for_each(hadamard);
                // The second time every block has its share of every other.
                for (at, sign) in self.signs[1].iter().enumerate() {
                    out[at] = first[at % blocks * self.block + at / blocks] * norm * sign;
                }
                out[..self.dimensions].chunks_exact_mut(self.block).for_each(hadamard);
                out[..self.dimensions].iter_mut().for_each(|value| *value *= norm);
                out[self.dimensions..].fill(0.0);
            },
        );
    }
}

/// The product with Hadamard's matrix, whose rows are not scaled.
#[inline(always)]
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): the next number of a seed.
pub(crate) fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// So many rows out of all, one of each stretch of equal length, drawn there at random: what comes in turns is not met in step.
pub(crate) fn drawn(rows: usize, count: usize) -> impl Iterator<Item = usize> {
    let (rows, count) = (rows as u128, count as u128);
    let mut seed = 400;
    (0..count).map(move |at| {
        let (start, end) = (at * rows / count, (at + 1) * rows / count);
        (start + u128::from(random(&mut seed)) % (end - start).max(1)) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_drawn_from_everywhere_and_none_twice() {
        for (rows, count) in [(10, 10), (12_000, 200), (1 << 40, 7)] {
            let rows_drawn: Vec<usize> = drawn(rows, count).collect();
            assert!(rows_drawn.is_sorted_by(|a, b| a < b) && rows_drawn.len() == count);
            assert!(rows_drawn[count - 1] < rows && rows_drawn[count - 1] >= rows - rows.div_ceil(count));
        }
        let steps: Vec<usize> =
            drawn(12_000, 200).collect::<Vec<_>>().windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().any(|&step| step != steps[0]));
    }

    #[test]
    fn products_stay_and_no_value_stands_out() {
        for dimensions in [1, 2, 12, 16, 100, 512, 640, 768, 1024] {
            let rotation = Rotation::new(dimensions);
            let mut seed = dimensions as u64;
            let mut vector = || -> Vec<f32> {
                (0..dimensions).map(|_| (random(&mut seed) >> 40) as f32 / (1 << 24) as f32 - 0.5).collect()
            };
            let (a, b) = (vector(), vector());
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let (turned_a, turned_b) = (rotation.turn(&a), rotation.turn(&b));
            assert_eq!(turned_a.len() % 8, 0);
            assert!((product(&a, &b) - product(&turned_a, &turned_b)).abs() < 1e-3, "{dimensions}");
            // One value alone, as CLIP has them, becomes many.
            if dimensions.is_power_of_two() && dimensions >= 16 {
                let mut one = vec![0.0; dimensions];
                one[dimensions / 3] = 1.0;
                let largest = rotation.turn(&one).into_iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                assert!(largest < 0.8, "{dimensions}: {largest}");
            }
        }
    }
}
