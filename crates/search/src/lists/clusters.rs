//! The centres of the lists, by k-means over a sample.
//!
//! In two levels it would be many times faster, and rows would lie in the wrong lists: for the same recall a search then has to look
//! at ten times as many (docs/log.md).

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::rotation::random;

/// Rows whose products are taken at once.
const BLOCK_ROWS: usize = 256;
/// Rounds of k-means; more change little.
const ROUNDS: usize = 8;

/// Learns at most `count` centres of `rows`; the same rows give the same centres, on however many threads. A centre that no row
/// is near to begins anew with another row.
pub(super) fn learn(rows: ArrayView2<'_, f32>, count: usize) -> Array2<f32> {
    let (count, mut seed) = (count.min(rows.nrows()), 400);
    let mut drawn: Vec<usize> = (0..rows.nrows()).collect();
    for at in 0..count {
        drawn.swap(at, at + (random(&mut seed) % (rows.nrows() - at) as u64) as usize);
    }
    let mut centres = rows.select(Axis(0), &drawn[..count]);
    for _ in 0..ROUNDS {
        let blocks: Vec<_> = rows.axis_chunks_iter(Axis(0), BLOCK_ROWS).collect();
        let halves = half_squares(&centres);
        let near: Vec<Vec<usize>> = blocks.into_par_iter().map(|block| near(block, &centres, &halves)).collect();
        let mut sizes = vec![0usize; count];
        let mut sums = Array2::<f32>::zeros(centres.dim());
        for (row, near) in rows.outer_iter().zip(near.into_iter().flatten()) {
            sizes[near] += 1;
            let mut sum = sums.row_mut(near);
            sum += &row;
        }
        for (at, size) in sizes.into_iter().enumerate() {
            if size == 0 {
                let row = (random(&mut seed) % rows.nrows() as u64) as usize;
                sums.row_mut(at).assign(&rows.row(row));
            } else {
                sums.row_mut(at).mapv_inplace(|sum| sum / size as f32);
            }
        }
        centres = sums;
    }
    centres
}

/// The nearest of all centres for each row; of two the first.
pub(super) fn nearest(rows: ArrayView2<'_, f32>, centres: &Array2<f32>) -> Vec<usize> {
    let halves = half_squares(centres);
    rows.axis_chunks_iter(Axis(0), BLOCK_ROWS).flat_map(|block| near(block, centres, &halves)).collect()
}

fn near(rows: ArrayView2<'_, f32>, centres: &Array2<f32>, halves: &[f32]) -> Vec<usize> {
    let mut products = Array2::zeros((rows.nrows(), centres.nrows()));
    general_mat_mul(1.0, &rows, &centres.t(), 0.0, &mut products);
    let nearest = products.outer_iter().map(|products| {
        let mut best = (f32::NEG_INFINITY, 0);
        for (at, (product, half)) in products.iter().zip(halves).enumerate() {
            if product - half > best.0 {
                best = (product - half, at);
            }
        }
        best.1
    });
    nearest.collect()
}

/// Half the square of each row's length: with the product it makes the distance.
fn half_squares(rows: &Array2<f32>) -> Vec<f32> {
    rows.outer_iter().map(|row| row.dot(&row) / 2.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_place_come_to_one_centre() {
        let mut seed = 3;
        let mut noise = || (random(&mut seed) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        // Thirty places far apart, forty rows at each.
        let places = Array2::from_shape_simple_fn((30, 16), &mut noise);
        let rows = Array2::from_shape_fn((1200, 16), |(row, column)| places[(row % 30, column)] + 0.02 * noise());
        let centres = learn(rows.view(), 60);
        let assigned = nearest(rows.view(), &centres);
        for (row, &centre) in assigned.iter().enumerate() {
            let distance = |centre: usize| {
                let off = &rows.row(row) - &centres.row(centre);
                off.dot(&off)
            };
            assert!(distance(centre) < 0.5, "row {row} is {} off", distance(centre));
            assert!((0..centres.nrows()).all(|other| distance(centre) <= distance(other) + 1e-5), "row {row}");
        }
        assert_eq!(learn(rows.view(), 60), centres);
        assert_eq!(learn(rows.view(), 5000).nrows(), 1200, "no more centres than rows");
    }
}
