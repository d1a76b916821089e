//! The model that people name, and the library that runs it.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clip::{Clip, Options, PRESETS, Preset};
use dataset::{Embedder, Precision, Scorer};
use pipeline::embed;
use pipeline::filter::{Head, Scorers};

use crate::cli;

/// Opens the model that the options name, to embed what is kept: the included model by a library only where it was asked
/// for, so that a demo has the same bytes wherever it runs, or where nothing else computes with so few bits.
pub(crate) fn open(options: &cli::Model) -> Result<Arc<dyn Embedder>> {
    let asked = options.model != "tiny"
        || options.computer.onnxruntime.is_some()
        || !options.computer.device.0.is_empty()
        || precision(options) != Precision::Float32;
    open_with(options, if asked { runtime(options.computer.onnxruntime.as_deref())? } else { None })
}

/// The same to embed what people look for, of which nothing is kept: by the library where it is installed, for which the
/// included model takes a fifth of the time.
pub(crate) fn open_for_queries(options: &cli::Model) -> Result<Arc<dyn Embedder>> {
    match open_with(options, runtime(options.computer.onnxruntime.as_deref())?) {
        // The included model needs no library that happens to be there and does not work.
        Err(_) if options.model == "tiny" && options.computer.onnxruntime.is_none() => open(options),
        opened => opened,
    }
}

fn open_with(options: &cli::Model, runtime: Option<PathBuf>) -> Result<Arc<dyn Embedder>> {
    let devices = options.computer.device.0.clone();
    let name = &options.model;
    let options = Options { runtime, precision: precision(options), devices, threads: None };
    let clip = if name == "tiny" { Clip::tiny_with(&options) } else { Clip::open_with(&folder(name)?, &options) };
    Ok(Arc::new(clip.with_context(|| format!("open model {name}"))?))
}

/// With how many bits the options let a model compute.
pub(crate) fn precision(options: &cli::Model) -> Precision {
    let usual = if options.computer.device.0.is_empty() { Precision::Float32 } else { Precision::Float16 };
    options.precision.unwrap_or(usual)
}

/// Opens the model that a recipe names, on these CUDA devices; without any, on the processor.
pub fn on_devices(config: &embed::Config, devices: Vec<i32>) -> Result<Arc<dyn Embedder>> {
    of_recipe(config, cli::Computer { onnxruntime: None, device: cli::Devices(devices) })
}

/// The same, by who is told to.
pub(crate) fn of_recipe(config: &embed::Config, computer: cli::Computer) -> Result<Arc<dyn Embedder>> {
    open(&cli::Model { model: config.model.clone(), precision: Some(config.precision), computer })
}

/// What the embedder of a recipe is called; no device and no library is needed for that.
pub fn fingerprint(config: &embed::Config) -> Result<String> {
    let exact = embed::Config { precision: Precision::Float32, ..config.clone() };
    Ok(config.precision.fingerprint(&on_devices(&exact, Vec::new())?.fingerprint()))
}

/// Opens heads; relative paths start at `folder`.
pub fn heads(heads: &BTreeMap<String, Head>, folder: &Path, onnxruntime: Option<&Path>) -> Result<Scorers> {
    let open = heads.iter().map(|(name, head)| {
        let open = || anyhow::Ok(clip::Head::open(&folder.join(&head.file), runtime(onnxruntime)?.as_deref())?);
        let scorer: Arc<dyn Scorer> = Arc::new(open().with_context(|| format!("open head {name}"))?);
        Ok((name.clone(), scorer))
    });
    open.collect()
}

/// Where the files of a model are.
fn folder(name: &str) -> Result<PathBuf> {
    let repository = match (name.strip_prefix("hf:"), Preset::named(name)) {
        (Some(repository), _) => repository,
        (None, Some(preset)) if !Path::new(name).exists() => preset.repository,
        _ => {
            let path = PathBuf::from(name);
            if !path.exists() && !name.contains(['/', std::path::MAIN_SEPARATOR]) {
                let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
                bail!("open model {name}: no such folder, and no model of that name: tiny, {}", names.join(", "));
            }
            return Ok(path);
        }
    };
    let cache = cache().context("no home folder, so no cache of the Hugging Face Hub: set HF_HOME")?;
    clip::cached(&cache, repository).with_context(|| {
        let size = PRESETS.iter().find(|preset| preset.repository == repository).map(|preset| preset.megabytes);
        let size = size.map(|megabytes| format!(" ({megabytes} MB)")).unwrap_or_default();
        let cache = cache.display();
        format!("open model {name}: {cache} does not have it{size}; hint: fetch it with `hf download {repository}`")
    })
}

/// The cache of `huggingface_hub` (its page "Environment variables").
fn cache() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HF_HOME").or_else(|| Some(env::home_dir()?.join(".cache/huggingface")));
    set("HF_HUB_CACHE").or_else(|| Some(home()?.join("hub")))
}

/// ONNX Runtime where it is said to be, or where it usually is.
fn runtime(told: Option<&Path>) -> Result<Option<PathBuf>> {
    told.map_or_else(|| Ok(installed()), |path| library(path).map(Some))
}

/// ONNX Runtime where it usually is.
fn installed() -> Option<PathBuf> {
    if cfg!(not(feature = "onnxruntime")) {
        return None;
    }
    if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let packages = PathBuf::from(env::var_os("VIRTUAL_ENV")?).join("lib");
    let pythons = fs_err::read_dir(packages).ok()?.flatten().map(|entry| entry.path());
    let mut folders =
        pythons.map(|python| python.join("site-packages/onnxruntime/capi")).filter(|folder| folder.is_dir());
    folders.find_map(|folder| library(&folder).ok())
}

/// The library itself, or the one in a folder.
fn library(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.into());
    }
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libonnxruntime.") || name == "onnxruntime.dll"
    };
    let mut found: Vec<_> = fs_err::read_dir(path)?.flatten().map(|entry| entry.path()).filter(is_library).collect();
    found.sort();
    found.pop().with_context(|| format!("{}: no libonnxruntime in it", path.display()))
}
