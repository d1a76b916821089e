//! Prints how many pictures and texts a CPU second embeds.
//!
//! ```text
//! cargo run --release -p clip --example embed_speed -- MODEL_FOLDER [ONNXRUNTIME_LIBRARY [int8]]
//! ```

#![allow(clippy::print_stdout)] // it is here to print

use std::path::PathBuf;

use anyhow::{Context, Result};
use clip::{Clip, Options, Precision};
use dataset::{Embedder, Pixels};

const ROUNDS: usize = 3;
const BATCH: usize = 32;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("a model")?);
    let runtime = arguments.next().filter(|library| library != "candle").map(PathBuf::from);
    let precision = if arguments.next().is_some() { Precision::Int8 } else { Precision::Float32 };
    let clip = Clip::open_with(&folder, &Options { runtime, precision, threads: Some(1) })?;
    let noise = |at: usize| (at.wrapping_mul(0x9E37_79B9) >> 24) as u8;
    let picture = Pixels::new(224, 224, (0..224 * 224 * 3).map(noise).collect()).context("a picture")?;
    let pictures = vec![picture; BATCH];
    let long = "one two three four five six seven eight nine ten ".repeat(8);
    let texts: [(&str, &str); 2] = [
        ("77 tokens", &long),
        ("a caption of 18 tokens", "a small red circle and a large blue square, on the left side of a green field"),
    ];
    measure("pictures", || Ok(clip.images(&pictures)?.len()))?;
    for (what, text) in texts {
        measure(what, || Ok(clip.texts(&[text; BATCH])?.len()))?;
    }
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
