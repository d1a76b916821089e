//! The stages for engines that run them on many machines: single archives and shards, and what is done once for all of them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{RecordBatch, RecordBatchIterator};
use arrow_schema::SchemaRef;
use dataset::schema::Pair;
use dataset::tfds::FileFormat;
use dataset::{Counts, FileEntry, Progress, Row as _, Run, ShardId, Silent, Stage, Summary, Task};
use laion400m::model;
use pipeline::build::{self, Report};
use pipeline::collect::apart::{self, Cut, Ends};
use pipeline::filter::{self, Scorers};
use pipeline::pack;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyCapsule};
use serde::Serialize;

use crate::error::{raise, unreadable};

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

fn json(value: &impl Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| unreadable(&error))
}

fn parse<'a, T: serde::Deserialize<'a>>(json: &'a str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|error| unreadable(&error))
}

/// Rows that are given away as an Arrow stream.
#[pyclass(frozen, module = "laion400m._core")]
#[derive(Debug)]
pub(crate) struct Rows(Mutex<Vec<RecordBatch>>, SchemaRef);

#[pymethods]
impl Rows {
    /// The stream, which can be taken once.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema); // the standard lets a producer give its own schema
        let rows = std::mem::take(&mut *self.0.lock().map_err(crate::error::poisoned)?);
        let rows = RecordBatchIterator::new(rows.into_iter().map(Ok), self.1.clone());
        PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(rows)), c"arrow_array_stream")
    }
}

/// Unique pairs; and of which archives how many stayed, and how many an earlier run has.
type Unique<'py> = (Bound<'py, PyBytes>, Vec<(u32, u64, u64)>);

/// A shard, and what there is of it or the file that it became.
type CutOff<'py> = (u32, Option<Bound<'py, PyBytes>>, Option<String>);

/// Pairs that were carried apart.
fn all(carried: &[PyBackedBytes]) -> Vec<&[u8]> {
    carried.iter().map(|bytes| &**bytes).collect()
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

    /// Collects the archive of this number: its pairs for each of so many ranges of uids, and what became of it.
    fn collect<'py>(
        &self,
        py: Python<'py>,
        archive: PathBuf,
        number: u32,
        ranges: u32,
    ) -> PyResult<(Vec<Bound<'py, PyBytes>>, String)> {
        let collect = || apart::archive(&self.recipe.collect, &archive, number, ranges, &Told);
        let (carried, read) = py.detach(collect).map_err(raise)?;
        Ok((carried.iter().map(|bytes| PyBytes::new(py, bytes)).collect(), json(&read)?))
    }

    /// Tables of earlier runs whose pairs are left out.
    fn earlier_tables(&self, py: Python<'_>) -> PyResult<Vec<OsString>> {
        let tables = py.detach(|| apart::earlier_tables(&self.recipe.collect)).map_err(raise)?;
        Ok(tables.into_iter().map(PathBuf::into_os_string).collect())
    }

    /// The uids of such tables, for each of so many ranges of uids.
    #[staticmethod]
    fn earlier(py: Python<'_>, tables: Vec<PathBuf>, ranges: u32) -> PyResult<Vec<Bound<'_, PyBytes>>> {
        let carried = py.detach(|| apart::earlier(&tables, ranges)).map_err(raise)?;
        Ok(carried.iter().map(|bytes| PyBytes::new(py, bytes)).collect())
    }

    /// Each pair of a range of uids once, and what became of the archives'.
    #[staticmethod]
    fn deduplicate<'py>(py: Python<'py>, carried: Vec<PyBackedBytes>) -> PyResult<Unique<'py>> {
        let unique = py.detach(|| apart::deduplicate(&all(&carried))).map_err(raise)?;
        let ends = unique.ends.into_iter().map(|(archive, Ends { stayed, before })| (archive, stayed, before));
        Ok((PyBytes::new(py, &unique.carried), ends.collect()))
    }

    /// Cuts unique pairs, of which the first is the one of this number, where shards begin: what of a shard others have the rest of,
    /// or the file it became.
    #[staticmethod]
    fn cut<'py>(
        py: Python<'py>,
        run: PathBuf,
        carried: PyBackedBytes,
        first: u64,
        shard_rows: u32,
    ) -> PyResult<Vec<CutOff<'py>>> {
        let cut = || apart::cut(&Run::new(run).pairs(), &carried, first, shard_rows);
        let told = |(shard, cut): (ShardId, Cut)| match cut {
            Cut::Part(bytes) => Ok((shard.0, Some(PyBytes::new(py, &bytes)), None)),
            Cut::Whole(file) => Ok((shard.0, None, Some(json(&file)?))),
        };
        py.detach(cut).map_err(raise)?.into_iter().map(told).collect()
    }

    /// Pairs as rows with the columns of `pairs/`.
    #[staticmethod]
    fn rows(py: Python<'_>, carried: Vec<PyBackedBytes>) -> PyResult<Rows> {
        let rows = py.detach(|| apart::rows(&all(&carried))).map_err(raise)?;
        Ok(Rows(Mutex::new(rows), Pair::schema()))
    }

    /// Writes a shard of unique pairs in the order of their uids; the file it became.
    #[staticmethod]
    fn write_pairs(py: Python<'_>, run: PathBuf, shard: u32, carried: Vec<PyBackedBytes>) -> PyResult<String> {
        let write = || apart::write_shard(&Run::new(run).pairs(), ShardId(shard), &all(&carried));
        json(&py.detach(write).map_err(raise)?)
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
            let embedder = embeds.then(|| model::on_devices(&recipe.embed, devices)).transpose()?;
            let judges = embeds || has("filter");
            let scorers =
                if judges { model::heads(&recipe.filter.heads, &self.folder, None)? } else { Scorers::default() };
            let (embedder, scorers) = (embedder.map(|embedder| &**leaked(embedder)), leaked(scorers));
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

/// A worker serves one run, and ends with it.
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
