//! What people type to serve runs.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Model;

/// Example: laion400m serve run --port 8400
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The run; of several, each is asked for by the name of its folder, and the first where none is named
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) listen: Listen,
    /// Let pages of another origin ask, such as <https://rom1504.github.io>
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub(crate) allow_origin: Vec<String>,
    /// Fetch the pictures that clients name by their address, guarded as `download` is
    #[arg(long)]
    pub(crate) allow_image_urls: bool,
    /// Fetch them from private and loopback addresses, too: only for a web of your own
    #[arg(long, requires = "allow_image_urls")]
    pub(crate) allow_private: bool,
    /// Write a line to stderr for every request [default: for errors alone]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    #[command(flatten)]
    pub(crate) model: Model,
}

/// How lines of a log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// A JSON object a line
    Json,
}

/// Where a service listens.
#[derive(Debug, Args)]
pub(crate) struct Listen {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) host: IpAddr,
    /// Where to listen; 0 takes a free port
    #[arg(long, default_value_t = 8400)]
    pub(crate) port: u16,
}

/// Scheme, host and port, as browsers send them.
fn origin(text: &str) -> Result<String, String> {
    let origin = text.trim_end_matches('/').to_ascii_lowercase();
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_host = |host: &str| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if host.is_some_and(is_host) { Ok(origin) } else { Err("an origin is https://example.com".into()) }
}
