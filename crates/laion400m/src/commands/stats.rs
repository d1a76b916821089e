//! `stats`: the funnel of a run, or what a package holds.

use std::path::Path;

use anyhow::{Result, bail};
use dataset::{Run, publish};
use pipeline::build::Report;
use pipeline::stats;

use crate::Ended;
use crate::cli;
use crate::printer::Printer;

/// Length of the longest bar, in characters.
const BAR: u64 = 40;

pub(super) fn run(options: &cli::Stats, printer: &Printer) -> Result<Ended> {
    let (folder, html) = (&options.look.folder, &options.html);
    let run = Run::new(folder);
    if run.report().exists() {
        if html.is_some() {
            bail!("--html is for packages; the page of {} is report.html in it", folder.display());
        }
        printer.funnel(&Report::read(&run)?)?;
        return Ok(Ended::Done);
    }
    if !folder.join("dataset_info.json").exists() {
        bail!("{}: neither a finished run (report.json) nor a TFDS version folder", folder.display());
    }
    let stats = stats::package(folder)?;
    if let Some(path) = html {
        publish(path, stats::page(&name(folder), &stats).as_bytes())?;
        printer.note(&format!("wrote {}", path.display()));
    }
    if printer.json() {
        printer.data(&serde_json::to_string(&stats)?)?;
    } else {
        printer.data(&text(&stats))?;
    }
    Ok(Ended::Done)
}

/// `images/1.0.0`: the last two folders say which package it is.
fn name(folder: &Path) -> String {
    let whole = fs_err::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
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
