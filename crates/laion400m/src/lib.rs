//! `laion400m`: from crawl archives to a curated image-text dataset that people can train on and search. The program is here, so
//! that the Python package can run it, too.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod metrics;
pub mod model;
mod printer;
mod tally;

use std::ffi::OsString;

use clap::Parser;
use dataset::files;
use pipeline::remote;

use cli::Cli;
use printer::Printer;

/// How a command ended, as the exit status tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// 0: done.
    Done,
    /// 1: done, but rows failed or something is damaged.
    WithFailures,
}

/// Runs the program with these arguments, the first of which is its name; the exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    // `file://` is a path like any other.
    let arguments = arguments.into_iter().map(|argument| files::plain(argument.into()));
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print(); // nobody is left to tell
            return error.exit_code() as u8;
        }
    };
    let cache = cli.storage.cache.clone().unwrap_or_else(remote::default_cache);
    remote::install(&cache, cli.storage.cache_bytes);
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    // Somebody who runs the program twice in a process keeps the first log.
    let _ = match cli.command.log_format() {
        Some(cli::LogFormat::Json) => log.json().flatten_event(true).try_init(),
        _ => log.try_init(),
    };
    let printer = Printer::new(&cli.output);
    match commands::run(cli, &printer) {
        Ok(Ended::Done) => 0,
        Ok(Ended::WithFailures) => 1,
        // Whoever reads the output had enough of it.
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            printer.error(&format!("{error:#}"));
            2
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}
