//! Measures searches of an index: `search_speed INDEX QUERIES TRUTH [PROBES…]`.
//!
//! QUERIES is an `.npy` of float32 rows, TRUTH one of int64 rows: the numbers of the rows nearest to each query, at least ten. For
//! the lists that the index was made to look at, and for each number of PROBES, a line of JSON is printed: recall@10, queries in
//! a second of CPU time on one thread, and the bytes that are resident afterwards.
#![allow(clippy::print_stdout)] // it is here to print

use std::path::Path;

use anyhow::{Context, Result, ensure};
use dataset::Embedding;
use search::{Filter, Index, Options};

const NEAREST: usize = 10;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [index, queries, truth, probes @ ..] = &arguments[..] else {
        anyhow::bail!("usage: search_speed INDEX QUERIES TRUTH [PROBES…]");
    };
    let opened = std::time::Instant::now();
    let index = Index::open(Path::new(index))?;
    let opened = opened.elapsed().as_secs_f64();
    let (queries, columns) = matrix(queries, "'<f4'", 4)?;
    let (truth, nearest) = matrix(truth, "'<i8'", 8)?;
    ensure!(nearest >= NEAREST && columns == index.dimensions(), "other shapes than the index needs");
    let values = |row: &[u8]| row.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect::<Vec<_>>();
    let queries = queries.chunks_exact(columns * 4).map(|row| Embedding::normalized(values(row)));
    let queries = queries.collect::<dataset::Result<Vec<Embedding>>>()?;
    let truth: Vec<Vec<usize>> = truth
        .chunks_exact(nearest * 8)
        .map(|row| row.as_chunks().0[..NEAREST].iter().map(|&bytes| i64::from_le_bytes(bytes) as usize).collect())
        .collect();
    let counts = probes.iter().map(|probes| probes.parse().map(Some)).collect::<Result<Vec<_>, _>>()?;
    for probes in [None].into_iter().chain(counts) {
        let options = Options { count: NEAREST, probes, filter: Filter::default(), ..Options::default() };
        // The first queries bring the lists into memory.
        for query in &queries[..queries.len() / 10] {
            index.search(query, &options)?;
        }
        let (mut found, before) = (0, cpu_seconds()?);
        for (query, truth) in queries.iter().zip(&truth) {
            let hits = index.search(query, &options)?;
            found += truth.iter().filter(|&&row| hits.iter().any(|hit| hit.row == row)).count();
        }
        let seconds = cpu_seconds()? - before;
        let line = serde_json::json!({
            "probes": probes,
            "recall": found as f64 / (queries.len() * NEAREST) as f64,
            "queries_per_cpu_second": queries.len() as f64 / seconds,
            "resident_bytes": resident_bytes("RssAnon")?,
            "mapped_bytes": resident_bytes("RssFile")?,
            "open_seconds": opened,
        });
        println!("{line}");
    }
    Ok(())
}

/// The bytes of a two-dimensional array of this type, and its columns.
fn matrix(path: &str, kind: &str, bytes: usize) -> Result<(Vec<u8>, usize)> {
    let file = fs_err::read(path)?;
    let start = 10 + usize::from(file[8]) + 256 * usize::from(file[9]);
    let header = String::from_utf8_lossy(&file[10..start]).into_owned();
    ensure!(header.contains(kind), "{path}: not of {kind}: {header}");
    let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).context("no shape")?.0;
    let columns = shape.split(',').nth(1).context("not two-dimensional")?.trim().parse::<usize>()?;
    ensure!((file.len() - start).is_multiple_of(columns * bytes), "{path}: cut off");
    Ok((file[start..].to_vec(), columns))
}

/// Of this thread, which runs all searches.
fn cpu_seconds() -> Result<f64> {
    let line = fs_err::read_to_string("/proc/thread-self/schedstat")?;
    Ok(line.split_whitespace().next().context("no time")?.parse::<f64>()? / 1e9)
}

fn resident_bytes(kind: &str) -> Result<u64> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(kind)).context("no such line")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? * 1024)
}
