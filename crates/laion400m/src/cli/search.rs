//! What people type to search from the terminal.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Model;

/// Example: laion400m search run "a red car" -k 10 (with --json one object a line, the best first)
#[derive(Debug, Args)]
pub(crate) struct Search {
    /// The run
    pub(crate) run: PathBuf,
    /// What the pictures should show; "beach - people + sunset" puts several together
    #[arg(required_unless_present_any = ["image", "like"])]
    pub(crate) text: Option<String>,
    /// A picture whose like is looked for, too
    #[arg(long, value_name = "FILE")]
    pub(crate) image: Option<PathBuf>,
    /// A sample whose like is looked for, too
    #[arg(long, value_name = "KEY")]
    pub(crate) like: Option<String>,
    /// Results
    #[arg(long, short, alias = "count", short_alias = 'c', default_value_t = 10, value_name = "N")]
    pub(crate) k: usize,
    /// What is compared with it
    #[arg(long, value_enum, default_value = "image")]
    pub(crate) modality: Modality,
    /// Look at every row
    #[arg(long)]
    pub(crate) exact: bool,
    /// Write a page of the results with their pictures
    #[arg(long, value_name = "FILE")]
    pub(crate) open: Option<PathBuf>,
    /// Show rows that are not tagged UNLIKELY, too
    #[arg(long)]
    pub(crate) unsafe_too: bool,
    /// Rows whose picture and caption are at least so alike
    #[arg(long, value_name = "COSINE")]
    pub(crate) similarity_min: Option<f32>,
    /// Rows whose picture and caption are at most so alike
    #[arg(long, value_name = "COSINE")]
    pub(crate) similarity_max: Option<f32>,
    /// Pictures that were at least so wide
    #[arg(long, value_name = "PIXELS")]
    pub(crate) width_min: Option<u32>,
    /// Pictures that were at least so high
    #[arg(long, value_name = "PIXELS")]
    pub(crate) height_min: Option<u32>,
    /// Captions in these languages, with commas between
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    pub(crate) language: Vec<String>,
    /// These licences, with commas between: a code of Creative Commons, any, or a URL
    #[arg(long, value_delimiter = ',', value_name = "LICENCE")]
    pub(crate) license: Vec<String>,
    /// Pictures of these hosts and their subdomains, with commas between
    #[arg(long, value_delimiter = ',', value_name = "HOST")]
    pub(crate) host: Vec<String>,
    #[command(flatten)]
    pub(crate) model: Model,
}

/// What a query is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Modality {
    /// Pictures
    Image,
    /// Captions
    Text,
}
