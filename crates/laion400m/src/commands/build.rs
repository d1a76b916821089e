//! `build`: the whole road.

use std::path::Path;

use anyhow::Result;
use dataset::{Embedder, Run};
use pipeline::build::{self, Recipe, Report};
use pipeline::filter::Scorers;

use super::ended;
use crate::Ended;
use crate::cli::Build;
use crate::model;
use crate::printer::Printer;

pub(super) fn run(options: &Build, printer: &Printer) -> Result<Ended> {
    let recipe = Recipe::read(&options.recipe)?;
    let folder = options.recipe.parent().unwrap_or(Path::new("."));
    let clip = model::of_recipe(&recipe.embed, options.computer.clone())?;
    let scorers = model::heads(&recipe.filter.heads, folder, options.computer.onnxruntime.as_deref())?;
    let run = Run::new(&options.output);
    let report = whole_road(&recipe, folder, &*clip, &scorers, &run, printer)?;
    report.publish(&run)?;
    printer.funnel(&report)?;
    if report.failed_rows() > 0 {
        printer.note("hint: every failed row has its cause in error_code and error_message of images/*.parquet");
    }
    Ok(ended(&report.stages))
}

/// Every stage from the archives to the index.
pub(super) fn whole_road(
    recipe: &Recipe,
    folder: &Path,
    clip: &dyn Embedder,
    scorers: &Scorers,
    run: &Run,
    printer: &Printer,
) -> Result<Report> {
    let mut stages = build::run(recipe, folder, clip, scorers, run, printer)?;
    stages.push(search::build(&run.packages().embeddings(), &run.index(), &clip.fingerprint(), printer)?);
    Ok(Report { stages, truth: None })
}
