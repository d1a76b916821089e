//! The centres of the lists: k-means twice, first into groups and then within each, so that finding the centre of a row takes
//! the square root of the products, and so does learning them.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};
use rayon::prelude::*;

use super::rotation::random;

/// Rows whose products are taken at once.
const BLOCK_ROWS: usize = 256;
/// Rounds of k-means; more change little.
const ROUNDS: usize = 8;
/// Groups that are looked through for the nearest centre.
const GROUPS_OPEN: usize = 8;

/// Centres in groups.
#[derive(Debug)]
pub(crate) struct Clusters {
    groups: Array2<f32>,
    /// All centres, group by group.
    centres: Array2<f32>,
    /// Group g has the centres from place g to before place g + 1 of this.
    starts: Vec<usize>,
    /// Half the square of each centre's length.
    halves: Vec<f32>,
}

impl Clusters {
    /// Learns about `lists` centres of `rows`; the same rows give the same centres, on however many threads.
    pub(crate) fn learn(rows: ArrayView2<'_, f32>, lists: usize) -> Self {
        let mut seed = 400;
        let groups = centres(rows, (lists as f64).sqrt().round() as usize, &mut seed);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.nrows()];
        for (row, group) in nearest(rows, groups.view()).into_iter().enumerate() {
            members[group].push(row);
        }
        let seeds: Vec<u64> = members.iter().map(|_| random(&mut seed)).collect();
        let parts = members.par_iter().zip(seeds).map(|(members, mut seed)| {
            let share = members.len() as f64 / rows.nrows() as f64;
            let count = ((share * lists as f64).round() as usize).clamp(1, members.len().max(1));
            centres(rows.select(Axis(0), members).view(), count, &mut seed)
        });
        let parts: Vec<Array2<f32>> = parts.collect();
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        let all = concatenate(Axis(0), &views).expect("all have the length of the rows");
        Self::new(groups, all, parts.iter().map(Array2::nrows))
    }

    fn new(groups: Array2<f32>, centres: Array2<f32>, counts: impl Iterator<Item = usize>) -> Self {
        let mut starts = vec![0];
        starts.extend(counts.scan(0, |end, count| {
            *end += count;
            Some(*end)
        }));
        let halves = half_squares(centres.view());
        Self { groups, centres, starts, halves }
    }

    /// All centres.
    pub(crate) fn centres(&self) -> ArrayView2<'_, f32> {
        self.centres.view()
    }

    /// The centre nearest to each row, of those in the nearest groups.
    pub(crate) fn assign(&self, rows: ArrayView2<'_, f32>) -> Vec<usize> {
        let group_halves = half_squares(self.groups.view());
        let mut products = Array2::zeros((rows.nrows(), self.groups.nrows()));
        general_mat_mul(1.0, &rows, &self.groups.t(), 0.0, &mut products);
        let mut of_group: Vec<Vec<usize>> = vec![Vec::new(); self.groups.nrows()];
        let mut order: Vec<usize> = (0..self.groups.nrows()).collect();
        let open = GROUPS_OPEN.min(order.len());
        for (row, products) in products.outer_iter().enumerate() {
            let nearness = |group: usize| products[group] - group_halves[group];
            let nearer = |&a: &usize, &b: &usize| nearness(b).total_cmp(&nearness(a)).then(a.cmp(&b));
            order.select_nth_unstable_by(open - 1, nearer);
            order[..open].iter().for_each(|&group| of_group[group].push(row));
        }
        let mut best = vec![(f32::NEG_INFINITY, 0); rows.nrows()];
        for (group, members) in of_group.iter().enumerate() {
            let (start, end) = (self.starts[group], self.starts[group + 1]);
            if members.is_empty() || start == end {
                continue;
            }
            let own = rows.select(Axis(0), members);
            let mut products = Array2::zeros((members.len(), end - start));
            general_mat_mul(1.0, &own, &self.centres.slice(s![start..end, ..]).t(), 0.0, &mut products);
            for (products, &row) in products.outer_iter().zip(members) {
                for (product, centre) in products.iter().zip(start..) {
                    let nearness = product - self.halves[centre];
                    if nearness > best[row].0 {
                        best[row] = (nearness, centre);
                    }
                }
            }
        }
        best.into_iter().map(|(_, centre)| centre).collect()
    }
}

/// k-means, begun with rows drawn at random. A centre that no row is near to begins anew with another row.
fn centres(rows: ArrayView2<'_, f32>, count: usize, seed: &mut u64) -> Array2<f32> {
    let count = count.min(rows.nrows());
    let mut drawn: Vec<usize> = (0..rows.nrows()).collect();
    for at in 0..count {
        drawn.swap(at, at + (random(seed) % (rows.nrows() - at) as u64) as usize);
    }
    let mut centres = rows.select(Axis(0), &drawn[..count]);
    for _ in 0..ROUNDS {
        let mut sizes = vec![0usize; count];
        let mut sums = Array2::<f32>::zeros(centres.dim());
        for (row, near) in rows.outer_iter().zip(nearest(rows, centres.view())) {
            sizes[near] += 1;
            let mut sum = sums.row_mut(near);
            sum += &row;
        }
        for (at, size) in sizes.into_iter().enumerate() {
            if size == 0 {
                let row = (random(seed) % rows.nrows() as u64) as usize;
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
fn nearest(rows: ArrayView2<'_, f32>, centres: ArrayView2<'_, f32>) -> Vec<usize> {
    let halves = half_squares(centres);
    let blocks: Vec<_> = rows.axis_chunks_iter(Axis(0), BLOCK_ROWS).collect();
    let near = blocks.into_par_iter().flat_map_iter(|block| {
        let mut products = Array2::zeros((block.nrows(), centres.nrows()));
        general_mat_mul(1.0, &block, &centres.t(), 0.0, &mut products);
        let near = |products: ndarray::ArrayView1<'_, f32>| {
            let mut best = (f32::NEG_INFINITY, 0);
            for (at, (product, half)) in products.iter().zip(&halves).enumerate() {
                if product - half > best.0 {
                    best = (product - half, at);
                }
            }
            best.1
        };
        products.outer_iter().map(near).collect::<Vec<_>>()
    });
    near.collect()
}

fn half_squares(rows: ArrayView2<'_, f32>) -> Vec<f32> {
    rows.outer_iter().map(|row| row.dot(&row) / 2.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_place_come_to_one_centre_and_the_nearest_is_found() {
        let mut seed = 3;
        let mut noise = || (random(&mut seed) >> 40) as f32 / (1 << 24) as f32 - 0.5;
        // Thirty places far apart, forty rows at each.
        let places = Array2::from_shape_simple_fn((30, 16), &mut noise);
        let rows = Array2::from_shape_fn((1200, 16), |(row, column)| places[(row % 30, column)] + 0.02 * noise());
        let clusters = Clusters::learn(rows.view(), 60);
        assert!((40..=80).contains(&clusters.centres().nrows()), "{}", clusters.centres().nrows());
        let assigned = clusters.assign(rows.view());
        let exact = nearest(rows.view(), clusters.centres());
        let same = assigned.iter().zip(&exact).filter(|(a, b)| a == b).count();
        assert!(same >= 1190, "{same} of 1200");
        for (row, &centre) in assigned.iter().enumerate() {
            let off = &rows.row(row) - &clusters.centres().row(centre);
            assert!(off.dot(&off) < 0.5, "row {row} is {} off", off.dot(&off));
        }
        let again = Clusters::learn(rows.view(), 60);
        assert_eq!(again.centres(), clusters.centres());
    }
}
