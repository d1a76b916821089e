//! `stats`: the funnel of a run, what a package holds, or what a threshold makes of embeddings.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use dataset::files;
use dataset::{EmbeddingFiles, Run, publish};
use pipeline::build::{Recipe, Report};
use pipeline::filter;
use pipeline::stats::{self, Calibration, CalibrationConfig, Pictures, Threshold, cosine};

use crate::Ended;
use crate::cli;
use crate::printer::Printer;

/// Length of the longest bar, in characters.
const BAR: u64 = 40;

pub(super) fn run(options: &cli::Stats, printer: &Printer) -> Result<Ended> {
    let folder = &options.folder;
    let run = Run::new(folder);
    if files::exists(run.report())? {
        return of_run(options, &run, printer);
    }
    if EmbeddingFiles::are_in(folder)? {
        let calibration = calibration(options, folder, None, printer)?;
        printer.data(&if printer.json() { serde_json::to_string(&calibration)? } else { compared(&calibration) })?;
        return Ok(Ended::Done);
    }
    if !files::exists(folder.join("dataset_info.json"))? {
        bail!(
            "{}: neither a finished run (report.json), nor a TFDS version folder, nor embeddings (metadata, img_emb, \
             text_emb)",
            folder.display()
        );
    }
    let of_embeddings = options.similarity_min.is_some() || options.images.is_some() || options.show_nsfw;
    ensure!(!of_embeddings, "--similarity-min, --images and --show-nsfw are for embeddings, not for packages");
    let stats = stats::package(folder)?;
    if let Some(path) = &options.html {
        page(path, &stats::page(&name(folder), &stats), printer)?;
    }
    printer.data(&if printer.json() { serde_json::to_string(&stats)? } else { text(&stats) })?;
    Ok(Ended::Done)
}

/// The funnel, and what the threshold did, as far as the embeddings are still there.
fn of_run(options: &cli::Stats, run: &Run, printer: &Printer) -> Result<Ended> {
    let report = Report::read(run)?;
    let embeddings = run.embeddings();
    if !EmbeddingFiles::are_in(&embeddings)? {
        ensure!(options.html.is_none(), "{}: no embeddings; the funnel is drawn in report.html", embeddings.display());
        printer.funnel(&report)?;
        return Ok(Ended::Done);
    }
    if printer.json() {
        let mut both = serde_json::to_value(&report)?;
        both["calibration"] = serde_json::to_value(calibration(options, &embeddings, Some(run), printer)?)?;
        printer.data(&both.to_string())?;
    } else {
        printer.funnel(&report)?;
        printer.data(&format!("\n{}", compared(&calibration(options, &embeddings, Some(run), printer)?)))?;
    }
    Ok(Ended::Done)
}

fn calibration(options: &cli::Stats, embeddings: &Path, run: Option<&Run>, printer: &Printer) -> Result<Calibration> {
    let similarity_min = match (options.similarity_min, run) {
        (Some(bound), _) => bound,
        (None, Some(run)) => Recipe::read(&run.recipe())?.filter.similarity_min,
        (None, None) => filter::Config::laion400m().similarity_min,
    };
    let config = CalibrationConfig { similarity_min, curated: run.map(Run::curated), show_nsfw: options.show_nsfw };
    let mut calibration = stats::calibration(&config, embeddings)?;
    if let Some(path) = &options.html {
        let pictures = options.images.clone().map(Pictures::Folder).or_else(|| run.cloned().map(Pictures::Run));
        if let Some(pictures) = pictures {
            calibration.add_pictures(&pictures)?;
        }
        page(path, &stats::calibration_page(&name(&options.folder), &calibration), printer)?;
    }
    Ok(calibration)
}

fn page(path: &Path, page: &str, printer: &Printer) -> Result<()> {
    publish(path, page.as_bytes())?;
    printer.note(&format!("wrote {}", path.display()));
    Ok(())
}

/// Both histograms side by side, and the thresholds.
fn compared(calibration: &Calibration) -> String {
    let Calibration { rows, shards, matched, mismatched, chosen, .. } = calibration;
    let mut lines = vec![format!("{rows} rows in {shards} shards")];
    for (what, similarity, unknown) in
        [("matched", matched, "lack an embedding"), ("mismatched", mismatched, "find no other caption")]
    {
        let range = match (similarity.least, similarity.mean, similarity.most) {
            (Some(least), Some(mean), Some(most)) => format!("{least:.3} to {most:.3}, mean {mean:.3}"),
            _ => "none".to_owned(),
        };
        let lack = match similarity.unknown {
            0 => String::new(),
            count => format!("; {count} {unknown}"),
        };
        lines.push(format!("  {what:<12}{range}{lack}"));
    }
    let bins = stats::beside([&matched.histogram, &mismatched.histogram]);
    let most = bins.iter().flat_map(|(_, counts)| *counts).max().unwrap_or(0).max(1);
    let bar = |count: u64| "█".repeat((count * BAR / 2).div_ceil(most) as usize);
    lines.extend([String::new(), format!("similarity   matched{:25}mismatched", "")]);
    for (bin, [matched, mismatched]) in &bins {
        let (left, right) = (bar(*matched), bar(*mismatched));
        let line = format!("  from {:>5.2} {matched:>9} {left:<21} {mismatched:>9} {right}", bin.from);
        lines.push(line.trim_end().to_owned());
    }
    lines.extend([String::new(), "threshold    matched pairs kept    mismatched ones that pass".to_owned()]);
    let line = |mark: &str, threshold: &Threshold| {
        let (matched, mismatched) = (100.0 * threshold.matched_share, 100.0 * threshold.mismatched_share);
        format!("{mark:<2}{:>10} {matched:>18.1} % {mismatched:>26.1} %", cosine(threshold.similarity_min))
    };
    for threshold in calibration.told() {
        lines.push(line(if threshold == chosen { ">" } else { "" }, threshold));
    }
    for paragraph in calibration.advice() {
        lines.extend([String::new(), paragraph]);
    }
    lines.join("\n")
}

/// `images/1.0.0`: the last two folders say which package it is.
fn name(folder: &Path) -> String {
    let whole = files::canonical(folder).unwrap_or_else(|_| folder.to_owned());
    let names: Vec<_> = whole.iter().map(|name| name.to_string_lossy()).collect();
    names[names.len().saturating_sub(2)..].join("/")
}

fn text(stats: &stats::Stats) -> String {
    let mut lines = vec![format!("{} examples in {} shards", stats.examples, stats.shards)];
    let mut section = |title: &str, rows: Vec<(String, u64)>| {
        lines.extend([String::new(), title.to_owned()]);
        let most = rows.iter().map(|&(_, count)| count).max().unwrap_or(0).max(1);
        for (name, count) in rows {
            let share = 100.0 * count as f64 / stats.examples.max(1) as f64;
            let bar = "█".repeat((count * BAR).div_ceil(most) as usize);
            lines.push(format!("  {count:>12} {share:>6.1} %  {name:<24} {bar}").trim_end().to_owned());
        }
    };
    section("NSFW tag", stats.nsfw.iter().map(|(&name, &count)| (name.to_owned(), count)).collect());
    let similarity = &stats.similarity;
    let title = match (similarity.least, similarity.mean, similarity.most) {
        (Some(least), Some(mean), Some(most)) => format!("similarity {least:.3} to {most:.3}, mean {mean:.3}"),
        _ => "similarity".to_owned(),
    };
    let mut rows: Vec<_> =
        similarity.histogram.iter().map(|bin| (format!("from {:.2}", bin.from), bin.count)).collect();
    if similarity.unknown > 0 {
        rows.push(("unknown".to_owned(), similarity.unknown));
    }
    section(&title, rows);
    let sizes = stats.sizes.iter().flat_map(|size| {
        let side = size.side;
        [(format!("one side ≥ {side}"), size.either), (format!("both sides ≥ {side}"), size.both)]
    });
    section("original size in pixels", sizes.collect());
    let named = |names: &[stats::Name]| {
        // They come from the web: nothing in them may steer the terminal.
        let shown = |name: &str| name.chars().map(|letter| if letter.is_control() { '�' } else { letter }).collect();
        names
            .iter()
            .map(|name| (if name.name.is_empty() { "(empty)".into() } else { shown(&name.name) }, name.count))
            .collect()
    };
    section("licences", named(&stats.licenses));
    section("hosts", named(&stats.hosts));
    lines.join("\n")
}
