//! The stages for engines that run them on many machines: single archives and shards, and what is done once for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dataset::tfds::FileFormat;
use dataset::{Counts, Embedder, FileEntry, Progress, Run, ShardId, Silent, Stage, Summary, Task};
use laion400m::model;
use pipeline::build::{self, Report};
use pipeline::collect::apart::{self, Ends};
use pipeline::embed;
use pipeline::filter::{self, Scorers};
use pipeline::pack;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use serde::Serialize;

use crate::error::{raise, unreadable};
use crate::pairs::{self, Rows};

/// Errors of the program, which have the causes before them.
type Error = anyhow::Error;

/// Runs the program with these arguments, the first of which is its name; the exit status.
#[pyfunction]
pub(crate) fn run(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| laion400m::run(arguments))
}

/// Tells warnings on stderr, which engines keep with the log of the task.
#[derive(Clone, Copy)]
struct Told;

impl Progress for Told {
    fn begin(&self, _: Stage, _: Option<u64>) -> Box<dyn Task + '_> {
        Box::new(Silent)
    }

    #[expect(clippy::print_stderr, reason = "a task has no other way to say something")]
    fn warn(&self, line: &str) {
        eprintln!("{line}");
    }
}

pub(crate) fn json(value: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| unreadable(&error))
}

fn parse<'a, T: serde::Deserialize<'a>>(json: &'a str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|error| unreadable(&error))
}

/// The settings of a whole run.
#[pyclass(frozen, module = "laion400m._core")]
#[derive(Debug)]
pub(crate) struct Recipe {
    recipe: build::Recipe,
    /// Where its relative paths start.
    folder: PathBuf,
}

#[pymethods]
impl Recipe {
    /// Reads a recipe.
    #[staticmethod]
    fn read(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let recipe = py.detach(|| build::Recipe::read(&path)).map_err(raise)?;
        Ok(Self { recipe, folder: path.parent().unwrap_or(Path::new(".")).into() })
    }

    /// A recipe as JSON.
    #[staticmethod]
    fn parse(text: &str, folder: PathBuf) -> PyResult<Self> {
        let recipe = parse::<build::Recipe>(text)?.checked(Path::new("recipe")).map_err(raise)?;
        Ok(Self { recipe, folder })
    }

    /// Every setting as JSON.
    fn text(&self) -> PyResult<String> {
        json(&self.recipe)
    }

    /// Where its relative paths start.
    #[getter]
    fn folder(&self) -> &OsStr {
        self.folder.as_os_str() // as text: pathlib would make one slash of two
    }

    /// Pairs of a shard.
    #[getter]
    fn shard_rows(&self) -> u32 {
        self.recipe.collect.shard_rows
    }

    /// The archives in the order in which of equal pairs one stays.
    fn archives(&self, py: Python<'_>) -> PyResult<Vec<OsString>> {
        let archives = py.detach(|| self.recipe.archives(&self.folder)).map_err(raise)?;
        let distinct: BTreeSet<_> = archives.into_iter().collect();
        Ok(distinct.into_iter().map(PathBuf::into_os_string).collect())
    }

    /// Puts the recipe into a run folder, or checks that the one there is the same.
    fn claim(&self, py: Python<'_>, run: PathBuf) -> PyResult<()> {
        py.detach(|| self.recipe.claim(&Run::new(run))).map_err(raise)
    }

    /// Collects the archive of this number: what there is to find in it, its pairs for each of so many ranges of uids.
    fn collect(&self, py: Python<'_>, archive: PathBuf, number: u32, ranges: u32) -> PyResult<Rows> {
        let collect = || apart::archive(&self.recipe.collect, &archive, number, ranges, &Told);
        let (parcels, read) = py.detach(collect).map_err(raise)?;
        Ok(pairs::found(parcels, Some((number, json(&read)?))))
    }

    /// Tables of earlier runs whose pairs are left out.
    fn earlier_tables(&self, py: Python<'_>) -> PyResult<Vec<OsString>> {
        let tables = py.detach(|| apart::earlier_tables(&self.recipe.collect)).map_err(raise)?;
        Ok(tables.into_iter().map(PathBuf::into_os_string).collect())
    }

    /// Ends the collecting; `archives` are paths, what became of each, its pairs that stayed, and those that an earlier run has.
    fn finish_pairs(
        &self,
        py: Python<'_>,
        run: PathBuf,
        archives: Vec<(PathBuf, String, u64, u64)>,
        files: Vec<String>,
    ) -> PyResult<String> {
        let archives =
            archives.into_iter().map(|(path, read, stayed, before)| Ok((path, parse(&read)?, Ends { stayed, before })));
        let archives = archives.collect::<PyResult<Vec<_>>>()?;
        let files = files.iter().map(|file| parse(file)).collect::<PyResult<Vec<FileEntry>>>()?;
        let output = Run::new(run).pairs();
        let counts = py.detach(|| apart::finish_stage(&self.recipe.collect, archives, &output, files));
        json(&counts.map_err(raise)?)
    }

    /// Opens what the shards of a run need for these stages, for as long as the process lives; the model on these CUDA devices, or
    /// on the processor.
    fn shards(&self, py: Python<'_>, run: PathBuf, stages: Vec<String>, devices: Vec<i32>) -> PyResult<Shards> {
        let open = || {
            let (recipe, run) = (self.recipe.clone(), Run::new(run));
            let has = |name: &str| stages.iter().any(|stage| stage == name);
            let embeds = has("embed") || has("filter") && filter::stored_prompts(&run.embeddings())?.is_none();
            let embedder = embeds.then(|| opened(&recipe.embed, devices)).transpose()?;
            let judges = embeds || has("filter");
            let scorers =
                if judges { model::heads(&recipe.filter.heads, &self.folder, None)? } else { Scorers::default() };
            let scorers = leaked(scorers);
            let (recipe, run) = (leaked(recipe), leaked(run));
            Ok(Shards(build::Shards::new(recipe, embedder, scorers, run)?))
        };
        py.detach(open).map_err(|error: Error| PyRuntimeError::new_err(format!("{error:#}")))
    }

    /// Packs what needs all shards, builds the index, and publishes the report, which it gives; `counts` are those of collect,
    /// download, embed, filter and pack.
    fn finish(&self, py: Python<'_>, run: PathBuf, counts: Vec<String>) -> PyResult<String> {
        let stages = [Stage::Collect, Stage::Download, Stage::Embed, Stage::Filter, Stage::Pack];
        let summary = |(stage, counts): (Stage, &String)| Ok(Summary { stage, counts: parse::<Counts>(counts)? });
        let mut stages = stages.into_iter().zip(&counts).map(summary).collect::<PyResult<Vec<_>>>()?;
        let run = Run::new(run);
        let finish = || {
            pack::pack_whole(&run.packages(), &pack::Format::OF_RUN, &[FileFormat::default()], &Told)?;
            let model = model::fingerprint(&self.recipe.embed)?;
            stages.push(search::build(&run.packages().embeddings(), &run.index(), &model, &Told)?);
            let report = Report { stages, truth: None };
            report.publish(&run)?;
            Ok(report)
        };
        let report = py.detach(finish).map_err(|error: Error| PyRuntimeError::new_err(format!("{error:#}")))?;
        json(&report)
    }
}

/// The embedder of a recipe on these devices, opened once: whatever runs a worker serves, it has a model once on a card.
fn opened(config: &embed::Config, devices: Vec<i32>) -> Result<&'static dyn Embedder, Error> {
    static OPENED: Mutex<BTreeMap<String, &dyn Embedder>> = Mutex::new(BTreeMap::new());
    let mut all = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = format!("{} {:?} {devices:?}", config.model, config.precision);
    if let Some(embedder) = all.get(&key) {
        return Ok(*embedder);
    }
    let embedder: &'static dyn Embedder = &**leaked(model::on_devices(config, devices)?);
    all.insert(key, embedder);
    Ok(embedder)
}

/// A worker needs it as long as it lives.
fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// Single shards of a run.
#[pyclass(frozen, module = "laion400m._core")]
pub(crate) struct Shards(build::Shards<'static>);

#[pymethods]
impl Shards {
    /// Takes a shard through one stage: `download`, `embed`, `filter` or `pack`; what became of its rows.
    fn stage(&self, py: Python<'_>, stage: &str, shard: u32) -> PyResult<String> {
        let id = ShardId(shard);
        let done = py.detach(|| match stage {
            "download" => self.0.download(id, &Silent),
            "embed" => self.0.embed(id),
            "filter" => self.0.filter(id),
            "pack" => self.0.pack(id),
            other => Err(dataset::Error::Invalid(format!("no stage {other:?}"))),
        });
        json(&done.map_err(raise)?)
    }
}
