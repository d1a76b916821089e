//! `laion400m`: from crawl archives to a curated image-text dataset that people can train on and search.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod metrics;
mod model;
mod printer;
mod tally;

use std::process::ExitCode;

use clap::Parser;
use dataset::files;
use pipeline::remote;

use cli::Cli;
use printer::Printer;

/// Gives back the memory of bodies and pictures of many sizes, which glibc keeps: see docs/log.md.
#[cfg(feature = "native")]
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How a command ended, as the exit status tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// 0: done.
    Done,
    /// 1: done, but rows failed or something is damaged.
    WithFailures,
}

fn main() -> ExitCode {
    // `file://` is a path like any other.
    let cli = Cli::parse_from(std::env::args_os().map(|argument| files::plain(argument.into())));
    let cache = cli.storage.cache.clone().unwrap_or_else(remote::default_cache);
    remote::install(&cache, cli.storage.cache_bytes);
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    match cli.command.log_format() {
        Some(cli::LogFormat::Json) => log.json().flatten_event(true).init(),
        _ => log.init(),
    }
    let printer = Printer::new(&cli.output);
    match commands::run(cli, &printer) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::WithFailures) => ExitCode::from(1),
        // Whoever reads the output had enough of it.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            printer.error(&format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}
