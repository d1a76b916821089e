//! Prints how many pictures and texts a CPU second embeds.
//!
//! ```text
//! cargo run --release -p clip --example embed_speed -- MODEL_FOLDER CAPTIONS [ONNXRUNTIME_LIBRARY [int8]]
//! ```
//!
//! CAPTIONS is a file with one on each line.

#![allow(clippy::print_stdout)] // it is here to print

use std::path::PathBuf;

use anyhow::{Context, Result};
use clip::{Clip, Options, Precision};
use dataset::{Embedder, Pixels};

const ROUNDS: usize = 3;
const BATCH: usize = 32;
/// Captions that `embed` has at once.
const TOGETHER: usize = 512;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("a model")?);
    let captions = arguments.next().context("captions")?;
    let runtime = arguments.next().filter(|library| library != "candle").map(PathBuf::from);
    let precision = if arguments.next().is_some() { Precision::Int8 } else { Precision::Float32 };
    let clip = Clip::open_with(&folder, &Options { runtime, precision, threads: Some(1) })?;
    let noise = |at: usize| (at.wrapping_mul(0x9E37_79B9) >> 24) as u8;
    let picture = Pixels::new(224, 224, (0..224 * 224 * 3).map(noise).collect()).context("a picture")?;
    let pictures = vec![picture; BATCH];
    let long = "one two three four five six seven eight nine ten ".repeat(8);
    let captions = fs_err::read_to_string(captions)?;
    let captions: Vec<&str> = captions.lines().collect();
    measure("pictures", || Ok(clip.images(&pictures)?.len()))?;
    measure("77 tokens", || Ok(clip.texts(&[long.as_str(); BATCH])?.len()))?;
    measure("captions", || captions.chunks(TOGETHER).map(|texts| Ok(clip.texts(texts)?.len())).sum::<Result<usize>>())?;
    Ok(())
}

fn measure(what: &str, mut embed: impl FnMut() -> Result<usize>) -> Result<()> {
    embed()?;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = cpu_seconds()?;
        let count = embed()?;
        best = best.min((cpu_seconds()? - start) / count as f64);
    }
    println!("{what}: {:.1} a CPU second", 1.0 / best);
    Ok(())
}

/// User and system time of this process, in hundredths of a second.
fn cpu_seconds() -> Result<f64> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("fields")?.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
