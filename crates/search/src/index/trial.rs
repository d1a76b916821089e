//! How many lists a search has to look at: found out with embeddings of the set itself.

use std::path::Path;

use dataset::Result;
use dataset::npy::MatrixReader;
use half::f16;
use half::slice::HalfFloatSliceExt;
use ndarray::Array2;
use ndarray::linalg::general_mat_mul;
use rayon::prelude::*;

use super::segment::Matrix;
use crate::hits::{Best, Hit};
use crate::lists::{DEPTH, Lists, drawn};
use crate::map::map;

/// Queries, of so many rows at least; of larger sets fewer, since the truth costs a look at every row.
const QUERIES: usize = 200;
const QUERIES_LEAST: usize = 32;
const ROWS_OF_ALL_QUERIES: usize = 5_000_000;
/// The share of the nearest rows that must be found: a little more than 0.95, since queries of people are others.
const RECALL: f64 = 0.96;
/// Rows whose products are taken at once.
const BLOCK_ROWS: usize = 2048;

/// The lists to look at, so that rows of `asked` find [`RECALL`] of the ten rows of `path` that are most like them.
pub(super) fn probes(path: &Path, lists: &Path, asked: &MatrixReader) -> Result<usize> {
    let matrix = MatrixReader::open(path)?;
    let share = (ROWS_OF_ALL_QUERIES as f64 / matrix.rows() as f64).min(1.0);
    let count = ((QUERIES as f64 * share) as usize).max(QUERIES_LEAST).min(asked.rows());
    let mut queries = Array2::zeros((count, matrix.columns()));
    for (mut query, row) in queries.outer_iter_mut().zip(drawn(asked.rows(), count)) {
        let values = float32(asked, row..row + 1)?;
        query.iter_mut().zip(values).for_each(|(to, value)| *to = value);
    }
    let truth = nearest(&matrix, &queries)?;
    let lists = Lists::parse(lists, map(lists)?, matrix.rows(), matrix.columns(), 1)?;
    let rows = Matrix::open(path)?;
    let mut probes = 1;
    while probes < lists.len() {
        let found = queries.outer_iter().zip(&truth).collect::<Vec<_>>().into_par_iter().map(|(query, truth)| {
            let query = query.as_slice().unwrap_or_default();
            let mut best = Best::new(DEPTH);
            lists.search(query, Some(probes), &rows.all(query), &mut best);
            let found = best.into_hits();
            truth.iter().filter(|wanted| found.iter().any(|hit| hit.row == wanted.row)).count()
        });
        if found.sum::<usize>() as f64 >= RECALL * truth.iter().map(Vec::len).sum::<usize>() as f64 {
            break;
        }
        // By a quarter: more precisely two hundred queries cannot tell.
        probes += (probes / 4).max(1);
    }
    Ok(probes.min(lists.len()))
}

/// The nearest rows of each query, exactly.
fn nearest(matrix: &MatrixReader, queries: &Array2<f32>) -> Result<Vec<Vec<Hit>>> {
    let starts: Vec<usize> = (0..matrix.rows()).step_by(BLOCK_ROWS).collect();
    let blocks = starts.into_par_iter().map(|start| {
        let end = (start + BLOCK_ROWS).min(matrix.rows());
        let rows = float32(matrix, start..end)?;
        let rows = ndarray::ArrayView2::from_shape((end - start, matrix.columns()), &rows).expect("whole rows");
        let mut products = Array2::zeros((queries.nrows(), end - start));
        general_mat_mul(1.0, queries, &rows.t(), 0.0, &mut products);
        let nearest = products.outer_iter().map(|products| {
            let mut best = Best::new(DEPTH);
            products.iter().enumerate().for_each(|(at, &score)| best.push(start + at, score));
            best.into_hits()
        });
        Ok(nearest.collect::<Vec<_>>())
    });
    let blocks = blocks.collect::<Result<Vec<_>>>()?;
    Ok((0..queries.nrows())
        .map(|query| {
            let mut hits: Vec<Hit> = blocks.iter().flat_map(|block| block[query].iter().copied()).collect();
            hits.sort_unstable();
            hits.truncate(DEPTH);
            hits
        })
        .collect())
}

fn float32(matrix: &MatrixReader, rows: std::ops::Range<usize>) -> Result<Vec<f32>> {
    let mut halves: Vec<f16> = Vec::new();
    matrix.append_rows(rows, &mut halves)?;
    let mut values = vec![0.0; halves.len()];
    halves.convert_to_f32_slice(&mut values);
    Ok(values)
}
