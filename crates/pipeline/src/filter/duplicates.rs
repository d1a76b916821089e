//! Pictures that are nearly the same.

use dataset::Embedding;
use rayon::prelude::*;

/// Rows that are compared with one another: a shard of ours is one bucket; of other programs' longer ones, each so many
/// rows in order are one. 16,384 x 512 float32 are 32 MiB, and to compare every two of them takes 12 s of a
/// core.
pub(super) const BUCKET_ROWS: usize = 16_384;

/// Rows that are compared with those before them at once.
const BLOCK_ROWS: usize = 256;

/// Rows before them that a processor's cache holds meanwhile: 128 KiB. Without this memory is what one waits for, twice as
/// long.
const TILE_ROWS: usize = 64;

/// By how much a product in float32 may differ from the cosine: many times what thousands of dimensions can make.
const MARGIN: f64 = 1e-3;

struct Picture<'a> {
    values: &'a [f32],
    /// Its product with itself: the square of its length, which rounding leaves not quite at 1.
    square: f64,
}

impl<'a> Picture<'a> {
    fn new(embedding: &'a Embedding) -> Self {
        Self { values: embedding.values(), square: embedding.similarity(embedding) }
    }

    /// Whether the cosine is at least `bound`; that of a picture with itself is exactly 1.
    fn is_like(&self, other: &Self, bound: f64) -> bool {
        let lengths = (self.square * other.square).sqrt();
        f64::from(product(self.values, other.values)) >= (bound - MARGIN) * lengths
            && exact_product(self.values, other.values) >= bound * lengths
    }
}

/// In eight sums, which the compiler keeps in one register.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0f32; 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

fn exact_product(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Which pictures of a bucket go: those whose cosine with one that stays and has a smaller key is at least `bound`. So no
/// two that stay are like one another, and each that goes is like one that stays.
pub(super) fn near_duplicates(bucket: &[(&str, &Embedding)], bound: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..bucket.len()).collect();
    order.sort_by_key(|&row| (bucket[row].0, row));
    let pictures: Vec<Picture<'_>> = bucket.iter().map(|(_, embedding)| Picture::new(embedding)).collect();
    let mut goes = vec![false; bucket.len()];
    let mut stays: Vec<usize> = Vec::new();
    for block in order.chunks(BLOCK_ROWS) {
        let like_any =
            |row: usize, others: &[usize]| others.iter().any(|&other| pictures[row].is_like(&pictures[other], bound));
        let like_earlier = block.par_chunks(BLOCK_ROWS / 16).flat_map_iter(|rows| {
            let mut like = vec![false; rows.len()];
            for tile in stays.chunks(TILE_ROWS) {
                rows.iter().zip(&mut like).for_each(|(&row, like)| *like = *like || like_any(row, tile));
            }
            like
        });
        let like_earlier: Vec<bool> = like_earlier.collect();
        let before = stays.len();
        for (&row, like_earlier) in block.iter().zip(like_earlier) {
            goes[row] = like_earlier || like_any(row, &stays[before..]);
            if !goes[row] {
                stays.push(row);
            }
        }
    }
    goes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture at so many degrees of a circle.
    fn at(degrees: f64) -> Embedding {
        let angle = degrees.to_radians();
        let mut values = vec![0.0; 21];
        (values[3], values[20]) = (angle.cos() as f32, angle.sin() as f32);
        Embedding::normalized(values).expect("a direction")
    }

    fn going(rows: &[(&str, f64)], bound: f64) -> Vec<String> {
        let pictures: Vec<_> = rows.iter().map(|&(_, degrees)| at(degrees)).collect();
        let bucket: Vec<_> = rows.iter().zip(&pictures).map(|(&(key, _), picture)| (key, picture)).collect();
        let goes = near_duplicates(&bucket, bound);
        rows.iter().zip(goes).filter(|(_, goes)| *goes).map(|((key, _), _)| (*key).to_owned()).collect()
    }

    #[test]
    fn the_smallest_key_stays_wherever_it_stands() {
        let bound = 10f64.to_radians().cos();
        assert_eq!(going(&[("2", 0.0), ("1", 9.0), ("3", 90.0)], bound), ["2"]);
        assert_eq!(going(&[("1", 0.0), ("2", 11.0)], bound), [""; 0]);
        // 2 is like 1 and goes; 3 is like 2 alone, which does not stay.
        assert_eq!(going(&[("1", 0.0), ("2", 9.0), ("3", 18.0)], bound), ["2"]);
        assert_eq!(going(&[("1", 40.0), ("2", 40.0), ("3", 40.0)], 1.0), ["2", "3"], "the same picture");
    }

    #[test]
    fn blocks_make_no_difference() {
        let seed = 11u64;
        let degrees: Vec<f64> = (0..700u64).map(|i| ((i * i * 31 + i * 7 + seed) % 3600) as f64 / 10.0).collect();
        let keys: Vec<String> = (0..700u64).map(|i| format!("{:04}", (i * 311) % 700)).collect();
        let rows: Vec<_> = keys.iter().map(String::as_str).zip(degrees.iter().copied()).collect();
        let bound = 0.45f64.to_radians().cos();
        let goes = going(&rows, bound);
        let mut expected = Vec::new();
        let mut stays: Vec<f64> = Vec::new();
        let mut sorted = rows.clone();
        sorted.sort_by_key(|row| row.0);
        for (key, degrees) in sorted {
            let apart = |other: f64| ((degrees - other).abs() + 180.0).rem_euclid(360.0) - 180.0;
            if stays.iter().any(|&other| apart(other).abs() < 0.45) {
                expected.push(key.to_owned());
            } else {
                stays.push(degrees);
            }
        }
        let mut goes = goes;
        goes.sort();
        assert!(goes.len() > 200 && stays.len() > 200, "{} go, {} stay", goes.len(), stays.len());
        assert_eq!(goes, expected, "seed {seed}");
    }
}
