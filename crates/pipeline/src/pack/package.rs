//! Packages that are made in one pass over the samples, each with a marker of its own.

use std::path::{Path, PathBuf};

use dataset::croissant::{self, Origin, describe};
use dataset::files;
use dataset::hub::HubColumns;
use dataset::released::{Found, Outcome};
use dataset::tfds::{Config, Content, DATASET, Example, FileFormat, TfdsWriter, VERSION};
use dataset::{Counts, Error, Marker, Result, ShardId, Status, Task, publish};
use serde_json::Value;

use super::format::Format;
use super::sink::{HubSink, Names, Sample, Sink, TfdsSink};
use super::tables::{NpySink, ReleaseSink, WebdatasetSink};

/// What the samples are.
pub(super) struct Source<'a> {
    /// Where they lie.
    pub(super) input: &'a Path,
    /// What a marker says of them.
    pub(super) inputs: Vec<String>,
    pub(super) origin: Origin,
    pub(super) names: Names,
    /// What TFDS examples are kept in.
    pub(super) file_formats: &'a [FileFormat],
    /// Rows, where TFDS examples stay in the order in which they come.
    pub(super) unsorted_rows: Option<u64>,
    /// The columns of a package for the Hub.
    pub(super) columns: HubColumns,
    /// Of all examples, roughly.
    pub(super) expected_bytes: u64,
}

/// A package to make.
pub(super) struct Plan {
    format: Format,
    /// Of TFDS.
    config: Config,
    /// Holds marker and package.
    data: PathBuf,
    name: String,
    /// The package below `data`.
    below: String,
    described: Value,
}

impl Plan {
    /// A package among others in `data`.
    pub(super) fn new(data: &Path, format: Format) -> Self {
        let (name, described) = (format.folder(), serde_json::json!({"format": format.name()}));
        Self { format, config: Config::Images, data: data.into(), name: name.into(), below: name.into(), described }
    }

    /// A configuration below the TFDS data folder `data`.
    pub(super) fn tfds(data: &Path, config: Config, file_formats: &[FileFormat]) -> Self {
        let described = serde_json::json!({"config": config.name(), "file_formats": super::tfds::names(file_formats)});
        Self {
            format: Format::Tfds,
            config,
            data: data.into(),
            name: format!("{DATASET}-{}", config.name()),
            below: format!("{DATASET}/{}/{VERSION}", config.name()),
            described,
        }
    }

    /// A setting that makes it another package.
    pub(super) fn with(mut self, setting: &str, value: &str) -> Self {
        self.described[setting] = value.into();
        self
    }

    fn marker(&self) -> PathBuf {
        self.data.join(format!("{}.json", self.name))
    }

    /// Tells a package that is whole but not yet marked from one of another program's.
    fn claim(&self) -> PathBuf {
        self.data.join(format!(".{}.begun", self.name))
    }

    fn folder(&self) -> PathBuf {
        self.data.join(&self.below)
    }

    /// An error if another program's package lies there, or the input itself: it would be written over.
    fn check(&self, input: &Path) -> Result<()> {
        let folder = self.folder();
        if files::exists(&folder)? && files::canonical(input)?.starts_with(files::canonical(&folder)?) {
            let (folder, input) = (folder.display(), input.display());
            return Err(Error::Invalid(format!("{folder}: {input} lies there itself; choose another output")));
        }
        if files::exists(&folder)? && !files::exists(self.marker())? && !files::exists(self.claim())? {
            let folder = folder.display();
            return Err(Error::Invalid(format!("{folder}: not a package of this program; choose another output")));
        }
        Ok(())
    }

    /// Starts from nothing.
    fn begin(&self, source: &Source<'_>) -> Result<Box<dyn Sink>> {
        publish(&self.claim(), b"")?;
        let folder = self.folder();
        if files::exists(&folder)? {
            files::remove_dir_all(&folder)?; // half-written: a whole one is never written again
        }
        Ok(match self.format {
            Format::Tfds => {
                let writer = TfdsWriter::create(&self.data, self.config, source.file_formats, source.expected_bytes)?;
                let writer = match source.unsorted_rows {
                    Some(rows) => writer.unsorted(rows),
                    None => writer,
                };
                Box::new(TfdsSink::new(self.config, source.file_formats, writer))
            }
            Format::Webdataset => Box::new(WebdatasetSink::new(&folder)),
            Format::Parquet => Box::new(ReleaseSink::new(&folder)),
            Format::Npy => Box::new(NpySink::new(&folder)),
            Format::Hf => Box::new(HubSink::new(&folder, source.columns)),
        })
    }

    fn finish(&self, sink: Box<dyn Sink>, source: &Source<'_>, counts: &Counts) -> Result<()> {
        let description = describe(sink.kind(), source.origin, counts.kept);
        let mut files = sink.finish(source.origin, counts)?;
        files::create_dir_all(self.folder())?;
        files.push(croissant::write(&self.folder(), &description, &files)?);
        let files = files.into_iter().map(|file| file.below(&self.below)).collect();
        Marker::finish(&self.marker(), &self.described, source.inputs.clone(), counts.clone(), files)?;
        self.remove_claim()
    }

    fn remove_claim(&self) -> Result<()> {
        match files::remove_file(self.claim()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Makes the packages that are not there yet, and gives what became of the rows. `begin` is asked for the progress bar
/// and `feed` for the samples only if there is something to make.
pub(super) fn pack<'a>(
    plans: &[Plan],
    source: &Source<'_>,
    begin: impl FnOnce() -> Result<Box<dyn Task + 'a>>,
    feed: impl FnOnce(&mut Ledger<'_>) -> Result<()>,
) -> Result<Counts> {
    let (mut counts, mut missing) = (Counts::default(), Vec::new());
    for plan in plans {
        match Marker::done(&plan.marker(), &plan.described, &source.inputs)? {
            Some(done) => {
                counts = done.counts;
                plan.remove_claim()?; // killed between marker and this
            }
            None => missing.push(plan),
        }
    }
    if missing.is_empty() {
        return Ok(counts);
    }
    missing.iter().try_for_each(|plan| plan.check(source.input))?;
    let task = begin()?;
    let sinks = missing.iter().map(|plan| plan.begin(source)).collect::<Result<_>>()?;
    let mut ledger = Ledger {
        sinks,
        counts: Counts::default(),
        task: &*task,
        names: source.names,
        shard: ShardId(0),
        matrices: missing.iter().any(|plan| plan.format == Format::Npy),
        takes_places: missing.iter().all(|plan| [Format::Tfds, Format::Parquet].contains(&plan.format)),
    };
    feed(&mut ledger)?;
    let Ledger { sinks, counts, .. } = ledger;
    missing.into_iter().zip(sinks).try_for_each(|(plan, sink)| plan.finish(sink, source, &counts))?;
    Ok(counts)
}

/// Where every row ends.
pub(super) struct Ledger<'a> {
    sinks: Vec<Box<dyn Sink>>,
    counts: Counts,
    task: &'a dyn Task,
    names: Names,
    shard: ShardId,
    /// Whether shards have to say first how many of their rows are kept.
    pub(super) matrices: bool,
    /// Whether it is enough to be told where pictures and embeddings are.
    pub(super) takes_places: bool,
}

impl Ledger<'_> {
    /// The rows of another shard follow. `kept` counts only if matrices are written.
    pub(super) fn begin(&mut self, shard: ShardId, kept: u64) -> Result<()> {
        self.shard = shard;
        self.sinks.iter_mut().try_for_each(|sink| sink.begin(shard, kept))
    }

    /// A whole example.
    pub(super) fn enter(&mut self, outcome: Outcome) -> Result<()> {
        match outcome {
            Ok((tfds_key, example)) => self.keep(tfds_key, example, None),
            Err(status) => self.count(status),
        }
    }

    /// An example whose picture or embeddings stand apart.
    pub(super) fn enter_found(&mut self, found: Found<'_>) -> Result<()> {
        match found {
            Ok((tfds_key, example, content)) => self.keep(tfds_key, example, Some(content)),
            Err(status) => self.count(status),
        }
    }

    fn keep(&mut self, tfds_key: String, example: Example, content: Option<Content<'_>>) -> Result<()> {
        let (key, id) = self.names.of(self.shard, &tfds_key);
        let mut sample = Sample { shard: self.shard, tfds_key, key, id, example, content };
        self.sinks.iter_mut().try_for_each(|sink| sink.push(&mut sample))?;
        self.count(Status::Kept)
    }

    fn count(&mut self, status: Status) -> Result<()> {
        self.counts.add(status);
        self.task.advance(1);
        Ok(())
    }
}
