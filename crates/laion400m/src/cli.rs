//! What people type.

mod model;
mod search;
mod serve;
mod storage;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use model::{Computer, Devices, Model};
pub(crate) use search::{Modality, Search};
pub(crate) use serve::{Listen, LogFormat, Serve};
pub(crate) use storage::Storage;

/// Builds CLIP-filtered image-text datasets such as LAION-400M out of web crawls, packs them for training, and lets
/// people search them.
///
/// Inputs, outputs and run folders may be in object stores: s3://bucket/path, gs://, az://, and to be read http(s)://.
///
/// Data goes to stdout, progress and words to stderr. The exit status is 0 when all is done, 1 when it is done but
/// rows failed, 2 when it could not be done.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) storage: Storage,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How the program speaks.
#[derive(Clone, Debug, Args)]
pub(crate) struct Output {
    /// Print results as JSON on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but results and errors
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Show no progress, but warnings and hints
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// How progress is shown: bars are drawn on a terminal only
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) progress: ProgressStyle,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressStyle {
    /// Bars on a terminal
    #[default]
    Bars,
    /// A JSON object a line, on stderr
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build and search a dataset from the bundled miniature web
    Demo(Demo),
    /// Build a dataset the whole way, as a recipe says; run again to go on where it stopped
    Build(Build),
    /// Crawl archives (WAT) to unique image-text pairs
    Collect(Collect),
    /// Pairs to images in WebDataset shards
    Download(Box<Download>),
    /// Images to CLIP embeddings
    Embed(Embed),
    /// Embeddings to verdicts: similarity, NSFW tag, what is dropped for it, near-duplicates
    Filter(Filter),
    /// The kept rows of a run, or LAION-400M's own files, to packages: TFDS, WebDataset, Parquet, npy, Hugging Face
    Pack(Pack),
    /// The packages of a run to a search index
    Index(Index),
    /// Serve the search page and API of a run
    Serve(Serve),
    /// Find pictures of a run by words
    Search(Box<Search>),
    /// Show the funnel of a run, what a package holds, or what a threshold makes of embeddings
    Stats(Stats),
    /// Check every file of a run or package
    Verify(Look),
}

impl Command {
    /// How this command's log is written, where it was told.
    pub(crate) fn log_format(&self) -> Option<LogFormat> {
        match self {
            Self::Serve(options) => options.log_format,
            _ => None,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The run folder; one that is there is gone on with
    #[arg(long, short, default_value = "demo-run", value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// End after the table
    #[arg(long)]
    pub(crate) no_serve: bool,
    /// Image links of the miniature web
    #[arg(long, value_name = "N")]
    pub(crate) pictures: Option<usize>,
    /// What the miniature web follows from
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Port of the miniature web [default: 18400, or a free one]
    #[arg(long, value_name = "PORT")]
    pub(crate) web_port: Option<u16>,
    /// Port of the search page
    #[arg(long, default_value_t = 8400)]
    pub(crate) port: u16,
}

/// Example: laion400m build recipe.toml -o run
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The recipe; its relative paths start at its own folder
    pub(crate) recipe: PathBuf,
    /// The run folder
    #[arg(long, short, default_value = "run", value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) computer: Computer,
}

/// Settings from a file, which flags then change.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// TOML file with settings of this stage; flags go before it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Example: laion400m collect crawl/*.warc.wat.gz -o pairs; laion400m collect wat.paths.gz --sample 10 -o pairs
#[derive(Debug, Args)]
pub(crate) struct Collect {
    /// WAT or WARC archives, gzip, zstd or plain; files, addresses (http, https, s3), or listings of them (*.paths,
    /// *.paths.gz)
    #[arg(required = true, value_name = "ARCHIVE")]
    pub(crate) archives: Vec<PathBuf>,
    /// Where the pairs go
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// Where the paths of a listing start: an address or a folder
    #[arg(long, value_name = "BASE", default_value = pipeline::collect::COMMON_CRAWL)]
    pub(crate) base: String,
    /// Take so many of the archives, by chance
    #[arg(long, value_name = "N")]
    pub(crate) sample: Option<usize>,
    /// What the chance follows from
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Which published rules; those of cc2dataset have none of the knobs below but --documents
    #[arg(long, value_enum)]
    pub(crate) rules: Option<Rules>,
    /// What to collect: images with an alt text, or as cc2dataset has them other documents with the text of their link
    #[arg(long, value_enum)]
    pub(crate) documents: Option<Documents>,
    /// Drop captions with fewer characters
    #[arg(long, value_name = "N")]
    pub(crate) caption_characters_min: Option<usize>,
    /// Drop captions with more characters
    #[arg(long, value_name = "N")]
    pub(crate) caption_characters_max: Option<usize>,
    /// ISO 639-3 codes of the languages to keep, with commas between, or `any`
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    pub(crate) languages: Option<Vec<String>>,
    /// Drop files with these extensions, with commas between [default: svg,svgz,gif,ico,cur]
    #[arg(long, value_name = "EXTENSIONS", value_delimiter = ',')]
    pub(crate) extensions_refused: Option<Vec<String>>,
    /// Keep images of these hosts only: a file with one host a line, which stands for those below it, too
    #[arg(long, value_name = "FILE")]
    pub(crate) hosts_allowed: Option<PathBuf>,
    /// Drop images of these hosts: a file with one host a line
    #[arg(long, value_name = "FILE")]
    pub(crate) hosts_blocked: Option<PathBuf>,
    /// Drop these URLs: a file with one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) urls_blocked: Option<PathBuf>,
    /// Drop pairs of earlier runs: folders or Parquet files of pairs, ours or cc2dataset's, with commas between
    #[arg(long, value_name = "PAIRS", value_delimiter = ',')]
    pub(crate) against: Option<Vec<PathBuf>>,
}

/// What to collect, as cc2dataset calls it.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Documents {
    /// Images with an alt text
    Image,
    /// Images with or without
    ImageOnly,
    /// Links to ogg, wav, mp3, flac, m4a
    Audio,
    /// Links to avi, mp4, mkv, webm, mov, mpg, mpeg, m4v
    Video,
    /// Links to pdf, epub, doc, txt and the like
    Text,
}

/// A published set of rules.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Rules {
    /// LAION-400M as published, its mistakes mended
    Laion400m,
    /// cc2dataset's rows, with the same uids
    Cc2dataset,
}

/// Example: laion400m download pairs -o images; laion400m download list.csv --url-col link --caption-col text -o images
#[derive(Debug, Args)]
pub(crate) struct Download {
    /// Folder of pairs; or lists of URLs: txt, csv, tsv, json, jsonl (each also .gz) or parquet, files, addresses (http, https,
    /// s3), or folders of lists
    #[arg(required = true, value_name = "PAIRS")]
    pub(crate) pairs: Vec<PathBuf>,
    /// Where the shards go
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// Column of URLs in lists [default: url]
    #[arg(long, value_name = "NAME")]
    pub(crate) url_col: Option<String>,
    /// Column of captions in lists
    #[arg(long, value_name = "NAME")]
    pub(crate) caption_col: Option<String>,
    /// Further columns of lists that go into the shards, with commas between
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) save_additional_columns: Vec<String>,
    /// Column of hashes (MD5, SHA-1, SHA-256 or SHA-512): drop images whose bytes have another one
    #[arg(long, value_name = "NAME")]
    pub(crate) verify_hash: Option<String>,
    /// Ask again for the rows of finished shards that failed, and for no others
    #[arg(long)]
    pub(crate) retry_failed: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// How shards are kept, in img2dataset's layouts [default: webdataset]
    #[arg(long, value_enum)]
    pub(crate) output_format: Option<OutputFormat>,
    /// Side of the stored picture, in pixels
    #[arg(long, value_name = "PIXELS")]
    pub(crate) image_size: Option<u32>,
    /// Which side becomes so long, and what becomes of the other
    #[arg(long, value_enum)]
    pub(crate) resize_mode: Option<ResizeMode>,
    /// Leave smaller pictures as they are
    #[arg(long)]
    pub(crate) resize_only_if_bigger: bool,
    /// Drop pictures whose shorter side has fewer pixels
    #[arg(long, value_name = "PIXELS")]
    pub(crate) image_side_min: Option<u32>,
    /// Drop pictures of more pixels
    #[arg(long, value_name = "PIXELS")]
    pub(crate) image_area_max: Option<u64>,
    /// Drop pictures whose longer side is more times their shorter one
    #[arg(long, value_name = "RATIO")]
    pub(crate) aspect_ratio_max: Option<f64>,
    /// Format of the stored picture [default: jpg]
    #[arg(long, value_enum)]
    pub(crate) encode_format: Option<EncodeFormat>,
    /// Quality of the stored picture: jpg 1 to 100, webp 1 to 100 and lossless at 101, png the effort of 0 to 9
    /// [default: 95, or the highest]
    #[arg(long, value_name = "N")]
    pub(crate) encode_quality: Option<u8>,
    /// Store the bytes as they came where the picture needs no change, without the place where it was taken
    #[arg(long)]
    pub(crate) skip_reencode: bool,
    /// Column of boxes [left, top, right, bottom], from 0 to 1, to be blurred: faces
    #[arg(long, value_name = "NAME")]
    pub(crate) bbox_col: Option<String>,
    /// Keep the bytes as they come, unseen: no decoding, no limits on pixels, and all that cameras write into them
    #[arg(long)]
    pub(crate) disable_all_reencoding: bool,
    /// Keep no image with one of these hashes: a file with an MD5, SHA-1, SHA-256 or perceptual hash a line
    #[arg(long, value_name = "FILE")]
    pub(crate) block_hashes: Option<PathBuf>,
    /// Bits in which a perceptual hash may differ from a blocked one [default: 0]
    #[arg(long, value_name = "BITS")]
    pub(crate) block_distance: Option<u32>,
    /// Ask for none of these URLs: a file with one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) block_urls: Option<PathBuf>,
    /// Drop pictures of fewer bytes [default: 5000]
    #[arg(long, value_name = "BYTES")]
    pub(crate) image_bytes_min: Option<u64>,
    /// Tell Prometheus how it goes, at /metrics of this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Deadline of a request, redirects included
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) timeout_ms: Option<u64>,
    /// Requests under way at once
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<usize>,
    /// Requests under way at once to one host
    #[arg(long, value_name = "N")]
    pub(crate) host_concurrency: Option<usize>,
    /// Requests to one host that begin in a second, such as 0.5
    #[arg(long, value_name = "N")]
    pub(crate) host_rate: Option<f64>,
    /// Give up answers that bring fewer bytes a second, after the first seconds; 0: none
    #[arg(long, value_name = "BYTES")]
    pub(crate) bytes_per_second_min: Option<u64>,
    /// Further attempts after a failure that may pass
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// Name server to ask in place of the system's, such as 127.0.0.1 or 127.0.0.1:5353; several: give it again
    #[arg(long = "dns-server", value_name = "ADDRESS", value_parser = dns_server)]
    pub(crate) dns_servers: Vec<SocketAddr>,
    /// How the program introduces itself
    #[arg(long, value_name = "TEXT")]
    pub(crate) user_agent: Option<String>,
    /// Where a host reaches you: a URL or an address, sent behind the name of the program
    #[arg(long, value_name = "TEXT")]
    pub(crate) contact: Option<String>,
    /// Ask private and loopback addresses, too: only for a web of your own
    #[arg(long)]
    pub(crate) allow_private: bool,
    /// Ask for what a host's robots.txt disallows: only with the host's consent
    #[arg(long)]
    pub(crate) ignore_robots_txt: bool,
    /// Keep images whose X-Robots-Tag says noai, noimageai, noindex, noimageindex or none
    #[arg(long)]
    pub(crate) ignore_robots_tag: bool,
    /// Keep images whose owner reserves the rights of text and data mining (TDM-Reservation: 1)
    #[arg(long)]
    pub(crate) ignore_tdm_reservation: bool,
}

/// How shards are kept, as img2dataset calls it.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum OutputFormat {
    /// NNNNN.tar with NNNNN.parquet
    Webdataset,
    /// A folder NNNNN of files with NNNNN.parquet
    Files,
    /// NNNNN.parquet with the pictures in it
    Parquet,
    /// NNNNN.tfrecord with NNNNN.parquet
    Tfrecord,
    /// Nothing but counts: to measure a network
    Dummy,
}

/// An address, and a port where it is not that of DNS.
fn dns_server(text: &str) -> Result<SocketAddr, std::net::AddrParseError> {
    text.parse().or_else(|_| text.parse().map(|address: IpAddr| SocketAddr::new(address, 53)))
}

/// Format of the stored picture.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum EncodeFormat {
    /// JPEG
    Jpg,
    /// PNG
    Png,
    /// WebP
    Webp,
}

/// How pictures are resized, as img2dataset calls it.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ResizeMode {
    /// Not at all
    No,
    /// The shorter side
    KeepRatio,
    /// The longer side
    KeepRatioLargest,
    /// The shorter side; the square in the middle is kept
    CenterCrop,
    /// The longer side; the picture stands in a white square
    Border,
}

/// Example: laion400m embed images -o embeddings --model clip-vit-base-patch32
#[derive(Debug, Args)]
pub(crate) struct Embed {
    /// Folder of shards: img2dataset's, LAION's, ours (tars with or without tables, files, parquet, tfrecord); or of pictures
    /// at any depth, captions beside them (*.txt); or one tar or table
    pub(crate) images: PathBuf,
    /// Where the embeddings go
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) model: Model,
    /// Embed pictures alone, also those without a caption
    #[arg(long)]
    pub(crate) images_only: bool,
}

/// Example: laion400m filter embeddings -o curated --similarity-min 0.28
///
/// The model is opened once: its embeddings of the prompts stay in the folder of the embeddings, as prompts.safetensors.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Folder of embeddings, ours or clip-retrieval's
    pub(crate) embeddings: PathBuf,
    /// Where the verdicts go
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) model: Model,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Which published rules to follow [default: laion400m]
    #[arg(long, value_enum)]
    pub(crate) rules: Option<FilterRules>,
    /// Drop pairs whose embeddings are less alike (cosine, -1 to 1)
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
    pub(crate) similarity_min: Option<f64>,
    /// Keep one of the pictures of a shard whose embeddings are so alike, such as 0.96
    #[arg(long, value_name = "COSINE")]
    pub(crate) near_duplicates: Option<f64>,
    /// Score pictures by a head, as column NAME of the verdicts: weights of an aesthetic predictor or a detector of unsafe
    /// pictures of LAION (.pth, .safetensors), or any .onnx; several: give it again
    #[arg(long = "head", value_name = "NAME=FILE", value_parser = named::<PathBuf>)]
    pub(crate) heads: Vec<(String, PathBuf)>,
    /// Drop pictures with a lower score of this head, such as aesthetic=5
    #[arg(long, value_name = "NAME=SCORE", value_parser = named::<f64>)]
    pub(crate) head_min: Vec<(String, f64)>,
    /// Drop pictures with a higher score of this head, such as punsafe=0.5
    #[arg(long, value_name = "NAME=SCORE", value_parser = named::<f64>)]
    pub(crate) head_max: Vec<(String, f64)>,
    /// Tag pictures, but drop none for what they seem to show: for models that know little of the world
    #[arg(long)]
    pub(crate) tag_only: bool,
}

/// What stands before and behind the first `=`.
fn named<T: FromStr>(text: &str) -> Result<(String, T), String>
where
    T::Err: std::fmt::Display,
{
    let (name, value) = text.split_once('=').ok_or("no = in it")?;
    Ok((name.to_owned(), value.parse().map_err(|error: T::Err| error.to_string())?))
}

/// A published set of rules for embeddings.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FilterRules {
    /// LAION-400M as it was meant: 36 prompts, words of captions in any case
    Laion400m,
    /// As its workers computed it: a comma is missing among the prompts, words of captions in lower case only
    #[value(name = "laion400m-2021")]
    Laion400m2021,
}

/// Example: laion400m pack run; laion400m pack laion400m-images -o ~/tensorflow_datasets; laion400m pack laion400m-meta
/// -o packages --format hf
#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// A run; or a folder of NNNNN.tar with NNNNN.parquet, of img_emb_N.npy, text_emb_N.npy and metadata_N.parquet, or
    /// of part-*.parquet: pictures, embeddings or the metadata of the release
    pub(crate) input: PathBuf,
    /// Where the packages go [default: packages in the run]
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) output: Option<PathBuf>,
    /// Pack only the kept rows of a run whose keys are in this file, a key a line, as the search page gives them
    #[arg(long, value_name = "FILE", requires = "output")]
    pub(crate) keys: Option<PathBuf>,
    /// What to make, with commas between [default: tfds; of metadata alone parquet; of a run
    /// webdataset,npy,parquet,tfds]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FORMAT")]
    pub(crate) format: Vec<PackFormat>,
    /// What TFDS examples are kept in, with commas between; readers take the first unless they are told
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tfrecord", value_name = "FORMAT")]
    pub(crate) file_format: Vec<FileFormat>,
    /// Leave examples of other programs' files in their order, and write them as they are read; TFDS reads them in it
    #[arg(long)]
    pub(crate) no_shuffle: bool,
    /// Repeat a fault of another program, to show the difference
    #[arg(long, value_enum)]
    pub(crate) compat: Option<Compat>,
}

/// What rows are packed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PackFormat {
    /// laion400m/images and laion400m/embeddings of TensorFlow Datasets, in the output folder itself; of a run in tfds/
    Tfds,
    /// NNNNN.tar with NNNNN.parquet, in webdataset/
    Webdataset,
    /// The columns of the release, in metadata/
    Parquet,
    /// Matrices of embeddings with tables, in embeddings/
    Npy,
    /// Parquet with a dataset card for the Hugging Face Hub, in hf/
    Hf,
}

/// How TFDS examples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum FileFormat {
    /// A sequence, for tfds.load
    Tfrecord,
    /// Random access, for tfds.data_source and Grain
    ArrayRecord,
    /// A column of examples
    Parquet,
}

/// A fault that can be repeated.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Compat {
    /// Give a picture the row whose position is its number, not the row with its key, as TensorFlow Datasets does: on
    /// img2dataset's tables most pictures get the row of another one
    TfdsPositional,
}

/// Example: laion400m index run
#[derive(Debug, Args)]
pub(crate) struct Index {
    /// A run, or a folder with img_emb, text_emb and metadata as clip-retrieval writes it
    pub(crate) input: PathBuf,
    /// Where the index goes [default: index in the input]
    #[arg(long, short, value_name = "FOLDER")]
    pub(crate) output: Option<PathBuf>,
    /// Delete the samples whose keys are in this file, one a line, from the index that is there: no search finds them again
    #[arg(long, value_name = "FILE")]
    pub(crate) delete: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: Model,
}

/// Example: laion400m stats packages/tfds/laion400m/images/1.0.0 --html images.html; laion400m stats embeddings --images
/// images --html threshold.html
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// A run; a TFDS version folder; or a folder of embeddings, ours or clip-retrieval's
    #[arg(value_name = "RUN|PACKAGE|EMBEDDINGS")]
    pub(crate) folder: PathBuf,
    /// Draw it on a page of its own, too; of embeddings with pairs around the threshold
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// The threshold to look at, of embeddings (cosine, -1 to 1) [default: the run's, or 0.3]
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
    pub(crate) similarity_min: Option<f64>,
    /// Where the pictures of the embeddings are, as `embed` takes them [default: those of the run]
    #[arg(long, value_name = "FOLDER", requires = "html")]
    pub(crate) images: Option<PathBuf>,
    /// Show pairs that are tagged UNSURE or NSFW on the page, too
    #[arg(long, requires = "html")]
    pub(crate) show_nsfw: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Look {
    /// A run, or a package: any folder with croissant.json, or what `pack` wrote into
    #[arg(value_name = "RUN|PACKAGE")]
    pub(crate) folder: PathBuf,
}
