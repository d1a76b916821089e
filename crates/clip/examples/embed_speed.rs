//! Prints how many pictures and texts a CPU second embeds, or with CUDA a second.
//!
//! ```text
//! cargo run --release -p clip --example embed_speed -- MODEL_FOLDER CAPTIONS [ONNXRUNTIME_LIBRARY [PRECISION [DEVICE]]]
//! ```
//!
//! CAPTIONS is a file with one on each line. The library is `candle` for none, PRECISION one of float32, int8, float16 and
//! bfloat16, DEVICE the number of a CUDA device.

#![allow(clippy::print_stdout)] // it is here to print

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clip::{Clip, Options, Precision};
use dataset::{Embedder, Pixels};

const ROUNDS: usize = 3;
/// Captions that `embed` has at once.
const TOGETHER: usize = 2048;
/// Batches that each lane embeds in a row where devices compute.
const BATCHES: usize = 32;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("a model")?);
    let captions = arguments.next().context("captions")?;
    let runtime = arguments.next().filter(|library| library != "candle").map(PathBuf::from);
    let precision = match arguments.next().as_deref() {
        None | Some("float32") => Precision::Float32,
        Some("int8") => Precision::Int8,
        Some("float16") => Precision::Float16,
        Some("bfloat16") => Precision::Bfloat16,
        Some(other) => bail!("precision {other}"),
    };
    let devices: Vec<i32> = arguments.next().map(|device| device.parse()).transpose()?.into_iter().collect();
    let on_device = !devices.is_empty();
    let clip = Clip::open_with(&folder, &Options { runtime, precision, threads: (!on_device).then_some(1), devices })?;
    let batch = if on_device { clip.batch() } else { 32 };
    let noise = |at: usize| (at.wrapping_mul(0x9E37_79B9) >> 24) as u8;
    let picture = Pixels::new(224, 224, (0..224 * 224 * 3).map(noise).collect()).context("a picture")?;
    let pictures = vec![picture; batch];
    let long = "one two three four five six seven eight nine ten ".repeat(8);
    let captions = fs_err::read_to_string(captions)?;
    let captions: Vec<&str> = captions.lines().collect();
    let lanes = clip.lanes();
    measure("pictures", lanes, || Ok(clip.images(&pictures)?.len()))?;
    measure("77 tokens", lanes, || Ok(clip.texts(&vec![long.as_str(); batch])?.len()))?;
    measure("captions", lanes, || {
        captions.chunks(TOGETHER).map(|texts| Ok(clip.texts(texts)?.len())).sum::<Result<usize>>()
    })?;
    Ok(())
}

/// On a processor one batch by CPU time; on devices many on all lanes by the clock.
fn measure(what: &str, lanes: usize, embed: impl Fn() -> Result<usize> + Sync) -> Result<()> {
    embed()?;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let (start, clock) = (cpu_seconds()?, Instant::now());
        let cost = if lanes == 1 {
            let count = embed()?;
            (cpu_seconds()? - start) / count as f64
        } else {
            let count = std::thread::scope(|scope| {
                let lane = || (0..BATCHES).map(|_| embed()).sum::<Result<usize>>();
                let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
                let joined = lanes.into_iter().map(|lane| lane.join());
                joined.map(|lane| lane.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum::<Result<usize>>()
            })?;
            clock.elapsed().as_secs_f64() / count as f64
        };
        best = best.min(cost);
    }
    println!("{what}: {:.1} a {}", 1.0 / best, if lanes == 1 { "CPU second" } else { "second" });
    Ok(())
}

/// User and system time of this process, in hundredths of a second.
fn cpu_seconds() -> Result<f64> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("fields")?.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
