//! One file a command; the smaller stages share one.

mod build;
mod demo;
mod download;
mod search;
mod serve;
mod stages;
mod stats;
mod verify;

use anyhow::Result;
use dataset::Summary;

use crate::Ended;
use crate::cli::{Cli, Command};
use crate::printer::Printer;

pub(crate) fn run(cli: Cli, printer: &Printer) -> Result<Ended> {
    match cli.command {
        Command::Demo(options) => demo::run(&options, printer),
        Command::Build(options) => build::run(&options, printer),
        Command::Collect(options) => stages::collect(options, printer),
        Command::Download(options) => download::run(*options, printer),
        Command::Embed(options) => stages::embed(&options, printer),
        Command::Filter(options) => stages::filter(options, printer),
        Command::Pack(options) => stages::pack(options, printer),
        Command::Index(options) => stages::index(options, printer),
        Command::Serve(options) => serve::run(&options, printer),
        Command::Search(options) => search::run(&options, printer),
        Command::Stats(options) => stats::run(&options, printer),
        Command::Verify(options) => verify::run(&options, printer),
    }
}

fn ended(summaries: &[Summary]) -> Ended {
    let failed = summaries.iter().any(|summary| summary.counts.failed_rows() > 0);
    if failed { Ended::WithFailures } else { Ended::Done }
}
