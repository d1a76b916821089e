//! Pairs to images: fetched, checked, resized, and kept in WebDataset shards beside a row for every pair.

mod client;
mod dns;
mod guard;
mod hosts;
mod list;
mod resize;
mod robots;
mod room;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use dataset::picture::{self, Limits};
use dataset::schema::{ImageRow, Pair, hex};
use dataset::table::{TableReader, TableWriter};
use dataset::webdataset::{TarWriter, tar_path};
use dataset::{
    Counts, Error, Failure, Marker, Progress, Reason, Result, SampleKey, ShardId, Stage, Status, Summary, Task,
    file_sha256, list_shards,
};
use futures::{FutureExt, StreamExt};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::Sha256;
use tokio::sync::Semaphore;

use client::{Fetched, Fetcher};

pub use list::{lists, pairs};
pub use resize::ResizeMode;

/// The program's own name in requests.
const USER_AGENT: &str = concat!("laion400m/", env!("CARGO_PKG_VERSION"));

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Side of the stored picture, in pixels; LAION-400M: 256.
    pub image_size: u32,
    /// Which side, and what becomes of the other; LAION-400M: a square with a border.
    pub resize_mode: ResizeMode,
    /// Whether smaller pictures stay as they are.
    pub resize_only_if_bigger: bool,
    /// JPEG quality of the stored image, 1 to 100; img2dataset: 95.
    pub encode_quality: u8,
    /// Images of fewer bytes are dropped; LAION-400M: 5,000.
    pub image_bytes_min: u64,
    /// Pictures whose shorter side has fewer pixels are dropped; LAION-400M: 0.
    pub image_side_min: u32,
    /// Pictures of more pixels are dropped; LAION-400M: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_area_max: Option<u64>,
    /// Pictures whose longer side is more times their shorter one are dropped; LAION-400M: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aspect_ratio_max: Option<f64>,
    /// Bodies of more bytes are cut off and fail.
    pub image_bytes_max: u64,
    /// Pictures of more pixels are not decoded; PIL's limit.
    pub pixels_max: u64,
    /// From the first packet to the last, redirects included, for one attempt.
    pub timeout_ms: u64,
    /// An answer that brings fewer bytes a second, after the first seconds, is given up; 0: it may take its time.
    pub bytes_per_second_min: u64,
    /// Further attempts after a failure that may pass: no connection, a broken one, a status of 5xx.
    pub retries: u32,
    /// Redirects that are followed.
    pub redirects_max: u32,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Requests under way at once to one host.
    pub host_concurrency: usize,
    /// Requests to one host that begin in a second; none: as many as it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_requests_per_second: Option<f64>,
    /// Name servers that are asked in place of the system's, such as a caching resolver on this machine.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<SocketAddr>,
    /// How the program introduces itself.
    pub user_agent: String,
    /// Where a host reaches who asks: an address or a URL, sent behind `user_agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// The name by which robots.txt and `X-Robots-Tag` may speak to this program alone.
    pub robots_token: String,
    /// Whether nothing is asked for that the host's robots.txt disallows. LAION-400M did not look at it.
    pub robots_txt: bool,
    /// Whether images are left out whose `X-Robots-Tag` forbids the use. LAION-400M did not look at it.
    pub robots_tag: bool,
    /// Whether images are left out whose `TDM-Reservation` reserves the rights of text and data mining.
    pub tdm_reservation: bool,
    /// Whether private, loopback and link-local addresses may be asked: only for a web of one's own.
    pub allow_private: bool,
}

impl Config {
    /// LAION-400M as it was downloaded with img2dataset, with deadlines and limits that both lack.
    pub fn laion400m() -> Self {
        Self {
            image_size: 256,
            resize_mode: ResizeMode::Border,
            resize_only_if_bigger: false,
            encode_quality: 95,
            image_bytes_min: 5_000,
            image_side_min: 0,
            image_area_max: None,
            aspect_ratio_max: None,
            image_bytes_max: 64 << 20,
            pixels_max: Limits::default().pixels_max,
            timeout_ms: 10_000,
            bytes_per_second_min: 1_000,
            retries: 1,
            redirects_max: 10,
            concurrency: 64,
            host_concurrency: 4,
            host_requests_per_second: None,
            dns_servers: Vec::new(),
            user_agent: USER_AGENT.into(),
            contact: None,
            robots_token: "laion400m".into(),
            robots_txt: true,
            robots_tag: true,
            tdm_reservation: true,
            allow_private: false,
        }
    }
}

impl Config {
    /// Why a picture of this size is left out, in img2dataset's order.
    fn refuses(&self, width: u32, height: u32) -> Option<Reason> {
        let (shorter, longer) = (width.min(height), width.max(height));
        match () {
            () if shorter < self.image_side_min => Some(Reason::ImageTooSmall),
            () if self.image_area_max.is_some_and(|most| u64::from(width) * u64::from(height) > most) => {
                Some(Reason::ImageTooLarge)
            }
            () if self.aspect_ratio_max.is_some_and(|most| f64::from(longer) / f64::from(shorter) > most) => {
                Some(Reason::AspectRatio)
            }
            () => None,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::laion400m()
    }
}

/// Rows that are under way. Rows are written in order, so a host that does not answer must not hold up the others: at
/// 500 rows a second that is half a minute, more than such a host is waited for.
const WINDOW: usize = 16_384;
/// Bytes of pictures that are finished but wait for an earlier row; beyond them no row is begun.
const WINDOW_BYTES: u64 = 64 << 20;
/// Rows that are read at once.
const BATCH: usize = 2048;

/// Downloads every shard of `pairs` into `output`.
pub fn run(config: &Config, pairs: &Path, output: &Path, progress: &dyn Progress) -> Result<Summary> {
    let downloader = Downloader::new(config)?;
    let mut summary = Summary::new(Stage::Download);
    let shards = list_shards(pairs, "parquet")?;
    let mut rows = 0;
    for &id in &shards {
        rows += TableReader::<Pair>::open(&pairs.join(format!("{id}.parquet")))?.row_count();
    }
    let task = progress.begin(Stage::Download, Some(rows));
    for id in shards {
        summary.counts.merge(&downloader.shard(pairs, output, id, &*task)?);
    }
    Ok(summary)
}

/// Downloads shards over one pool of connections.
#[derive(Debug)]
pub struct Downloader {
    config: Config,
    fetcher: Fetcher,
    /// Pictures that are decoded at once: each may take much memory.
    decoders: Arc<Semaphore>,
    runtime: tokio::runtime::Runtime,
}

impl Downloader {
    /// Sets up the client.
    pub fn new(config: &Config) -> Result<Self> {
        if !(1..=16_384).contains(&config.image_size) || !(1..=100).contains(&config.encode_quality) {
            return Err(Error::Invalid("download: image_size is 1 to 16384, encode_quality 1 to 100".into()));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let guard = runtime.enter();
        let fetcher = Fetcher::new(config)?;
        drop(guard);
        let decoders = Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, |n| n.get())));
        Ok(Self { config: config.clone(), fetcher, decoders, runtime })
    }

    /// Downloads one shard; one that is done is not done again.
    pub fn shard(&self, pairs: &Path, output: &Path, id: ShardId, task: &dyn Task) -> Result<Counts> {
        let input = pairs.join(format!("{id}.parquet"));
        let marker = Marker::of_shard(output, id);
        let (described, inputs) = (serde_json::json!(self.config), vec![file_sha256(&input)?]);
        if let Some(done) = Marker::done(&marker, &described, &inputs)? {
            task.advance(done.counts.rows);
            return Ok(done.counts);
        }
        let mut counts = Counts::default();
        let mut tar = TarWriter::create(&tar_path(output, id))?;
        let mut table = TableWriter::<ImageRow>::create(&output.join(format!("{id}.parquet")))?;
        let rows = TableReader::<Pair>::open_batched(&input, BATCH)?;
        let waiting = &AtomicU64::new(0);
        // Nobody has to be woken: every row that is taken out below asks for new ones.
        let room = |_: &mut Context<'_>| {
            if waiting.load(Ordering::Relaxed) > WINDOW_BYTES { Poll::Pending } else { Poll::Ready(()) }
        };
        let rows = futures::stream::iter(rows.zip(0..)).then(|row| poll_fn(room).map(|()| row));
        let fetches = rows.map(|(pair, row)| {
            let (fetcher, config, decoders) = (self.fetcher.clone(), self.config.clone(), self.decoders.clone());
            async move {
                let pair = pair?;
                let key = SampleKey { shard: id, row };
                let (status, fetched) = fetcher.fetch(&pair.url).await;
                let decoder = decoders.acquire_owned().await.expect("the semaphore is never closed");
                let work = move || {
                    let _decoder = decoder;
                    finish(&config, &pair, key, status, fetched)
                };
                let finished = tokio::task::spawn_blocking(work).await;
                let finished = finished.map_err(|error| Error::Invalid(format!("image {key}: {error}")))?;
                waiting.fetch_add(size(&finished.2), Ordering::Relaxed);
                Ok::<_, Error>(finished)
            }
        });
        let mut fetches = std::pin::pin!(fetches.buffered(WINDOW));
        self.runtime.block_on(async {
            while let Some(finished) = fetches.next().await {
                let (row, status, image) = finished?;
                waiting.fetch_sub(size(&image), Ordering::Relaxed);
                counts.add(status);
                task.advance(1);
                if let Some(image) = image {
                    push_sample(&mut tar, &row, &image)?;
                }
                table.push(row)?;
            }
            Ok::<(), Error>(())
        })?;
        let files = vec![tar.publish()?, table.publish()?];
        Ok(Marker::finish(&marker, &described, inputs, counts, files)?.counts)
    }
}

fn size(image: &Option<Vec<u8>>) -> u64 {
    image.as_ref().map_or(0, |image| image.len() as u64)
}

/// Checks, decodes and resizes what was fetched, and fills in the row.
fn finish(
    config: &Config,
    pair: &Pair,
    key: SampleKey,
    fetched_status: Status,
    fetched: Fetched,
) -> (ImageRow, Status, Option<Vec<u8>>) {
    let mut row = ImageRow::new(pair, key);
    row.attempts = fetched.attempts;
    row.http_status = fetched.http_status.map(i32::from);
    row.final_url = fetched.final_url;
    row.content_type = fetched.content_type;
    row.error_message = fetched.message;
    let Some(body) = fetched.body else {
        row.set_status(fetched_status, false);
        return (row, fetched_status, None);
    };
    row.bytes = Some(body.len() as i64);
    row.sha256 = Some(hex(&Sha256::digest(&body)));
    row.sha1 = Some(hex(&Sha1::digest(&body)));
    row.md5 = Some(hex(&Md5::digest(&body)));
    match store(config, &body, &mut row) {
        Ok(image) => {
            row.set_status(Status::Kept, false);
            (row, Status::Kept, Some(image))
        }
        Err((status, message)) => {
            row.error_message = Some(message);
            row.set_status(status, true);
            (row, status, None)
        }
    }
}

/// The stored form of a downloaded image.
fn store(config: &Config, body: &[u8], row: &mut ImageRow) -> Result<Vec<u8>, (Status, String)> {
    let failed = |(failure, message)| (Status::Failed(failure), message);
    let limits = Limits { pixels_max: config.pixels_max };
    // A page that is served in place of an image is no image, however short it is.
    if (body.len() as u64) < config.image_bytes_min && picture::is_image(body) {
        let message = format!("{} bytes, the recipe asks for {}", body.len(), config.image_bytes_min);
        return Err((Status::Dropped(Reason::ImageTooFewBytes), message));
    }
    let decoded = picture::decode(body, limits).map_err(failed)?;
    row.original_width = Some(decoded.pixels.width() as i32);
    row.original_height = Some(decoded.pixels.height() as i32);
    row.exif = Some(decoded.exif);
    let (width, height) = (decoded.pixels.width(), decoded.pixels.height());
    if let Some(reason) = config.refuses(width, height) {
        return Err((Status::Dropped(reason), format!("{width} x {height} pixels")));
    }
    row.phash = resize::perceptual_hash(&decoded.pixels);
    let stored = resize::resize(
        decoded.pixels,
        config.resize_mode,
        config.image_size,
        config.resize_only_if_bigger,
        config.pixels_max,
    );
    let stored = stored.ok_or_else(|| {
        let message = format!("{width} x {height} pixels would become more than {}", config.pixels_max);
        (Status::Failed(Failure::TooManyPixels), message)
    })?;
    (row.width, row.height) = (Some(stored.width() as i32), Some(stored.height() as i32));
    let encoded = picture::encode_jpeg(&stored, config.encode_quality);
    encoded.map_err(|error| (Status::Failed(Failure::ImageDamaged), error.to_string()))
}

/// The three files of a sample, in img2dataset's layout.
fn push_sample(tar: &mut TarWriter, row: &ImageRow, image: &[u8]) -> Result<()> {
    let json = serde_json::to_string_pretty(row).expect("a row is plain data");
    tar.push(&format!("{}.jpg", row.key), image)?;
    tar.push(&format!("{}.json", row.key), json.as_bytes())?;
    tar.push(&format!("{}.txt", row.key), row.caption.as_bytes())?;
    Ok(())
}
