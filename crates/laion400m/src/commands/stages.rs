//! The stages, each alone.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dataset::files;
use dataset::released::Join;
use dataset::tfds::FileFormat;
use dataset::{EmbeddingFiles, Packages, Reason, Run, Summary};
use pipeline::pack::Format;
use pipeline::{collect, embed, filter, pack};
use serde::de::DeserializeOwned;

use super::ended;
use crate::Ended;
use crate::cli::{self, Settings};
use crate::model;
use crate::printer::Printer;

/// The settings of `--config`, or the recipe's.
pub(super) fn settings<T: DeserializeOwned + Default>(settings: &Settings) -> Result<T> {
    let Some(path) = &settings.config else { return Ok(T::default()) };
    let text = files::read_to_string(path)?;
    toml::from_str(&text).with_context(|| format!("read {}", path.display()))
}

pub(super) fn told(summary: &Summary, printer: &Printer) -> Result<Ended> {
    printer.summary(summary)?;
    Ok(ended(std::slice::from_ref(summary)))
}

pub(super) fn collect(options: cli::Collect, printer: &Printer) -> Result<Ended> {
    let mut config: collect::Config = settings(&options.settings)?;
    if let Some(rules) = options.rules {
        config.rules = match rules {
            cli::Rules::Laion400m => collect::Rules::Laion400m,
            cli::Rules::Cc2dataset => collect::Rules::Cc2dataset,
        };
    }
    if let Some(documents) = options.documents {
        config.documents = match documents {
            cli::Documents::Image => collect::Documents::Image,
            cli::Documents::ImageOnly => collect::Documents::ImageOnly,
            cli::Documents::Audio => collect::Documents::Audio,
            cli::Documents::Video => collect::Documents::Video,
            cli::Documents::Text => collect::Documents::Text,
        };
    }
    config.caption_characters_min = options.caption_characters_min.unwrap_or(config.caption_characters_min);
    config.caption_characters_max = options.caption_characters_max.or(config.caption_characters_max);
    if let Some(languages) = options.languages {
        config.languages = if languages == ["any"] { Vec::new() } else { languages };
    }
    config.extensions_refused = options.extensions_refused.unwrap_or(config.extensions_refused);
    config.hosts_allowed = options.hosts_allowed.or(config.hosts_allowed);
    config.hosts_blocked = options.hosts_blocked.or(config.hosts_blocked);
    config.urls_blocked = options.urls_blocked.or(config.urls_blocked);
    config.against = options.against.unwrap_or(config.against);
    let choice = collect::Choice { base: options.base, sample: options.sample, seed: options.seed };
    let archives = collect::archives(&options.archives, &choice)?;
    told(&collect::run(&config, &archives, &options.output, printer)?, printer)
}

pub(super) fn embed(options: &cli::Embed, printer: &Printer) -> Result<Ended> {
    let clip = model::open(&options.model)?;
    let (model, precision) = (options.model.model.clone(), model::precision(&options.model));
    let config = embed::Config { model, precision, images_only: options.images_only };
    let summary = embed::run(&config, &*clip, &options.images, &options.output, printer)?;
    let silent = summary.counts.dropped.get(Reason::NoCaption.name());
    if summary.counts.kept == 0 && silent.is_some() {
        printer.note("hint: --images-only embeds pictures without a caption");
    }
    told(&summary, printer)
}

pub(super) fn filter(options: cli::Filter, printer: &Printer) -> Result<Ended> {
    let mut config: filter::Config = settings(&options.settings)?;
    if let Some(rules) = options.rules {
        config.rules = match rules {
            cli::FilterRules::Laion400m => filter::Rules::Laion400m,
            cli::FilterRules::Laion400m2021 => filter::Rules::Laion400m2021,
        };
    }
    config.similarity_min = options.similarity_min.unwrap_or(config.similarity_min);
    config.near_duplicates = options.near_duplicates.or(config.near_duplicates);
    config.tag_only |= options.tag_only;
    let mut files = BTreeMap::new();
    for (name, file) in options.heads {
        ensure!(files.insert(name.clone(), file).is_none(), "--head names {name} twice");
    }
    for (name, file) in files {
        config.heads.entry(name).or_default().file = file;
    }
    for (name, least) in options.head_min {
        head(&mut config, &name)?.min = Some(least);
    }
    for (name, most) in options.head_max {
        head(&mut config, &name)?.max = Some(most);
    }
    EmbeddingFiles::list(&options.embeddings)?; // a folder that is not there is told before a model is opened
    let scorers = model::heads(&config.heads, Path::new(""), options.model.computer.onnxruntime.as_deref())?;
    let stored = filter::stored_prompts(&options.embeddings)?;
    let is_stored = stored.is_some();
    let prompts = match stored {
        Some(prompts) => prompts,
        None => filter::embed_prompts(&*model::open(&options.model)?)?,
    };
    let summary = filter::run(&config, &prompts, &scorers, &options.embeddings, &options.output, printer)?;
    if !is_stored {
        filter::store_prompts(&prompts, &options.embeddings)?;
    }
    told(&summary, printer)
}

/// The head that a bound is for.
fn head<'a>(config: &'a mut filter::Config, name: &str) -> Result<&'a mut filter::Head> {
    config
        .heads
        .get_mut(name)
        .with_context(|| format!("a score of {name} is bounded, but there is no --head {name}=FILE"))
}

pub(super) fn pack(options: cli::Pack, printer: &Printer) -> Result<Ended> {
    let mut formats = Vec::new();
    for format in options.file_format {
        let format = match format {
            cli::FileFormat::Tfrecord => FileFormat::Tfrecord,
            cli::FileFormat::ArrayRecord => FileFormat::ArrayRecord,
            cli::FileFormat::Parquet => FileFormat::Parquet,
        };
        ensure!(!formats.contains(&format), "--file-format names {} twice", format.name());
        formats.push(format);
    }
    let mut wanted = Vec::new();
    for format in options.format {
        let format = match format {
            cli::PackFormat::Tfds => Format::Tfds,
            cli::PackFormat::Webdataset => Format::Webdataset,
            cli::PackFormat::Parquet => Format::Parquet,
            cli::PackFormat::Npy => Format::Npy,
            cli::PackFormat::Hf => Format::Hf,
        };
        ensure!(!wanted.contains(&format), "--format names {} twice", format.name());
        wanted.push(format);
    }
    let run = Run::new(&options.input);
    if files::is_dir(run.curated())? {
        let input = options.input.display();
        ensure!(options.compat.is_none(), "--compat is for tars with tables, and {input} is a run");
        ensure!(!options.no_shuffle, "--no-shuffle is for files of other programs, and {input} is a run");
        let packages = options.output.map_or_else(|| run.packages(), Packages::new);
        let wanted = if wanted.is_empty() { Format::OF_RUN.to_vec() } else { wanted };
        let summary = match &options.keys {
            Some(keys) => {
                let keys = pack::Keys::read(keys)?;
                pack::run_listed(&run, &keys, &packages, &wanted, &formats, printer)?
            }
            None => pack::run(&run, &packages, &wanted, &formats, printer)?,
        };
        return told(&summary, printer);
    }
    ensure!(options.keys.is_none(), "--keys chooses rows of a run, and {} is none", options.input.display());
    let join = match options.compat {
        None => Join::Key,
        Some(cli::Compat::TfdsPositional) => Join::Position,
    };
    let output = options
        .output
        .with_context(|| format!("{} is no run: say with -o where the package goes", options.input.display()))?;
    let config = pack::ReleasedConfig {
        join,
        formats: wanted,
        file_formats: formats,
        shuffle: !options.no_shuffle,
        cached_bytes: cached_bytes(),
    };
    told(&pack::pack_released(&options.input, &output, &config, printer)?, printer)
}

/// What the system surely keeps in memory of files that were read: half of what is free, by Linux's account; 2 GiB where
/// nobody tells.
fn cached_bytes() -> u64 {
    let told = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let free =
        told.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse().ok());
    free.map_or(2 << 30, |kilobytes: u64| kilobytes * 1024 / 2)
}

pub(super) fn index(options: cli::Index, printer: &Printer) -> Result<Ended> {
    let run = Run::new(&options.input);
    // Embeddings lie in the packages of a run, or are all there is, as of clip-retrieval.
    let alone = EmbeddingFiles::are_in(&options.input)?;
    let output = options.output.unwrap_or_else(|| run.index());
    if let Some(list) = options.delete {
        let text = files::read_to_string(&list)?;
        let keys: Vec<String> = text.lines().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
        let index = search::Index::open(&output)?;
        index.delete(&keys)?;
        printer.note(&format!("{} of {} rows are deleted", index.deleted(), index.len()));
        return Ok(Ended::Done);
    }
    let embeddings = if alone { options.input } else { run.packages().embeddings() };
    let clip = model::open(&options.model)?;
    told(&search::build(&embeddings, &output, &clip.fingerprint(), printer)?, printer)
}
