//! Pairs to images: fetched, checked, resized, and kept in shards beside a row for every pair.

mod blocked;
mod blur;
mod client;
mod dns;
mod guard;
mod hosts;
mod list;
mod resize;
mod robots;
mod room;
mod single;
mod store;
mod window;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::SystemTime;

use dataset::carried::{self, Object};
use dataset::picture::{Limits, StoredFormat};
use dataset::schema::{ImageRow, Pair};
use dataset::shard::{Layout, ShardReader, ShardWriter, Stats};
use dataset::table::{TableReader, further_columns};
use dataset::{
    Counts, Error, Marker, Progress, Reason, Result, SampleKey, ShardId, Stage, Status, Summary, Task, file_sha256,
    list_shards,
};
use futures::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use blocked::Blocked;
use client::Fetcher;
use store::{Finished, finish};
use window::Window;

pub use list::{lists, may_be_saved, pairs};
pub(crate) use resize::Form;
pub use resize::ResizeMode;
pub use single::Single;

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
    /// How shards are kept.
    pub output_format: Layout,
    /// Format of the stored image.
    pub encode_format: StoredFormat,
    /// Whether an image that is stored as it is, in the format it came in, is not encoded again.
    pub skip_reencode: bool,
    /// Quality of the stored image: JPEG 1 to 100, WebP 1 to 100 and lossless above, PNG the effort of 0 to 9; img2dataset: 95.
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
    /// Whether the bytes are kept as they come, unseen: neither decoded nor resized.
    pub disable_all_reencoding: bool,
    /// Column of hashes (MD5, SHA-1, SHA-256 or SHA-512); an image whose bytes have another one is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_hash: Option<String>,
    /// Column of boxes, `[left, top, right, bottom]` in parts of the sides, that are blurred: faces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bbox_col: Option<String>,
    /// A file of hashes, one a line: MD5, SHA-1, SHA-256, or perceptual. An image with one of them is not kept.
    pub block_hashes: Option<PathBuf>,
    /// Bits in which a perceptual hash may differ from a blocked one.
    pub block_distance: u32,
    /// A file of URLs, one a line, that are not asked for.
    pub block_urls: Option<PathBuf>,
    /// Whether private, loopback and link-local addresses may be asked: only for a web of one's own.
    pub allow_private: bool,
}

impl Config {
    /// LAION-400M as it was downloaded with img2dataset, with deadlines and limits that both lack.
    pub fn laion400m() -> Self {
        Self {
            output_format: Layout::Webdataset,
            image_size: 256,
            resize_mode: ResizeMode::Border,
            resize_only_if_bigger: false,
            encode_format: StoredFormat::Jpg,
            skip_reencode: false,
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
            disable_all_reencoding: false,
            verify_hash: None,
            bbox_col: None,
            block_hashes: None,
            block_distance: 0,
            block_urls: None,
            allow_private: false,
        }
    }

    /// The settings that show in a shard. How fast hosts are asked and how often may differ between two calls; block lists
    /// are known by their content.
    fn described(&self) -> serde_json::Value {
        let mut all = serde_json::json!(self);
        if let Some(all) = all.as_object_mut() {
            all.retain(|name, _| !SCHEDULE.contains(&name.as_str()));
        }
        all
    }

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

/// Settings that say how the web is asked, and not what is kept of its answers.
const SCHEDULE: [&str; 11] = [
    "timeout_ms",
    "bytes_per_second_min",
    "retries",
    "concurrency",
    "host_concurrency",
    "host_requests_per_second",
    "dns_servers",
    "user_agent",
    "contact",
    "block_hashes",
    "block_urls",
];

/// Rows of a shard that are under way. Rows are written in order, so a host that does not answer must not hold up the others:
/// at 500 rows a second that is half a minute, more than such a host is waited for.
const WINDOW: usize = 16_384;
/// Rows that are read at once.
const BATCH: usize = 2048;

/// Shards under way at once, over the same connections.
const SHARDS_AT_ONCE: usize = 2;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("no thread panics with the lock")
}

/// Downloads every shard of `pairs` into `output`.
pub fn run(config: &Config, pairs: &Path, output: &Path, progress: &dyn Progress) -> Result<Summary> {
    all(&Downloader::new(config)?, pairs, output, progress)
}

/// The same, and rows of shards that are done are asked for again if they failed, and only those.
pub fn retry_failed(config: &Config, pairs: &Path, output: &Path, progress: &dyn Progress) -> Result<Summary> {
    all(&Downloader { retry_failed: true, ..Downloader::new(config)? }, pairs, output, progress)
}

fn all(downloader: &Downloader, pairs: &Path, output: &Path, progress: &dyn Progress) -> Result<Summary> {
    let mut summary = Summary::new(Stage::Download);
    let shards = list_shards(pairs, "parquet")?;
    let mut rows = 0;
    for &id in &shards {
        rows += TableReader::<Pair>::open(&pairs.join(format!("{id}.parquet")))?.row_count();
    }
    let task = &*progress.begin(Stage::Download, Some(rows));
    // The last rows of a shard wait for slow hosts; meanwhile the next shards have the connections.
    let (shards, counts) = (Mutex::new(shards.into_iter()), Mutex::new(&mut summary.counts));
    let work = || {
        loop {
            let Some(id) = lock(&shards).next() else { return Ok(()) };
            match downloader.shard(pairs, output, id, task) {
                Ok(done) => lock(&counts).merge(&done),
                Err(error) => {
                    lock(&shards).by_ref().for_each(drop); // nobody begins another one
                    return Err(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers = [(); SHARDS_AT_ONCE].map(|()| scope.spawn(work));
        let ends = workers.map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ends.into_iter().collect::<Result<()>>()
    })?;
    Ok(summary)
}

/// Downloads shards over one pool of connections.
#[derive(Debug)]
pub struct Downloader {
    config: Arc<Config>,
    blocked: Arc<Blocked>,
    fetcher: Fetcher,
    runtime: tokio::runtime::Runtime,
    /// Pictures that are decoded at once: hardly more than there are processors, since each may be large.
    workers: Arc<Semaphore>,
    /// Whether rows of shards that are done are asked for again if they failed.
    retry_failed: bool,
}

impl Downloader {
    /// Sets up the client.
    pub fn new(config: &Config) -> Result<Self> {
        if !(1..=16_384).contains(&config.image_size) {
            return Err(Error::Invalid("download: image_size is 1 to 16384".into()));
        }
        let (format, qualities) = (config.encode_format.name(), config.encode_format.qualities());
        if !qualities.contains(&config.encode_quality) {
            let (least, most) = qualities.into_inner();
            return Err(Error::Invalid(format!("download: encode_quality of {format} is {least} to {most}")));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let guard = runtime.enter();
        let fetcher = Fetcher::new(config)?;
        drop(guard);
        let blocked = Arc::new(Blocked::read(config)?);
        // One more than there are processors: until the next row takes the turn of one that has ended, another has work.
        let workers = Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get) + 1));
        Ok(Self { config: Arc::new(config.clone()), blocked, fetcher, runtime, workers, retry_failed: false })
    }

    /// Downloads one shard; one that is done is not done again, unless it has failures that are to be tried again, or was made
    /// with other block lists. Then its other rows stay as they are, but for those that are blocked by now.
    pub fn shard(&self, pairs: &Path, output: &Path, id: ShardId, task: &dyn Task) -> Result<Counts> {
        let input = pairs.join(format!("{id}.parquet"));
        let marker = Marker::of_shard(output, id);
        let (described, pairs_hash) = (self.config.described(), file_sha256(&input)?);
        let inputs = [vec![pairs_hash], self.blocked.fingerprint.clone()].concat();
        let mut before = None;
        if let Some(done) = Marker::done_with(&marker, &described, |made_of| made_of.first() == inputs.first())? {
            if done.inputs == inputs && !(self.retry_failed && done.counts.failed_rows() > 0) {
                task.advance(done.counts.rows);
                return Ok(done.counts);
            }
            before = Some(ShardReader::open(output, id, self.config.output_format, self.ending())?);
        }
        let started = SystemTime::now();
        let further = further_columns::<Pair>(&input)?;
        let objects = carried::objects(&further).map_err(|cause| Error::format(&input, cause))?;
        let carried = carried::unlike::<ImageRow>(&further).map_err(|cause| Error::format(&input, cause))?;
        let mut writer = ShardWriter::create(output, id, self.config.output_format, self.ending(), carried)?;
        let mut counts = Counts::default();
        let mut failed_to_resize = 0;
        let rows = TableReader::<Pair>::open_batched(&input, BATCH)?;
        let window = &Window::default();
        // Nobody has to be woken: every row that is taken out below asks for new ones.
        let room = |_: &mut Context<'_>| if window.is_open() { Poll::Ready(()) } else { Poll::Pending };
        let rows = futures::stream::iter(rows.zip(0..).zip(objects)).then(|row| poll_fn(room).map(|()| row));
        let fetches = rows.map(|((pair, row), further)| {
            let key = SampleKey { shard: id, row };
            let known = before.as_mut().map(|before| before.next().ok_or_else(|| gone(output, key))?).transpose();
            let known = known.map(|known| known.and_then(|(row, picture)| self.known_end(row, picture)));
            if let Ok(Some(finished)) = &known {
                window.finished(size(finished));
            }
            async move {
                let (pair, known) = (pair?, known?);
                if let Some(finished) = known {
                    return Ok::<_, Error>(finished);
                }
                let finished = self.row(pair, further, key, window).await?;
                window.finished(size(&finished));
                Ok(finished)
            }
        });
        let mut fetches = std::pin::pin!(fetches.buffered(WINDOW));
        self.runtime.block_on(async {
            while let Some(finished) = fetches.next().await {
                let finished = finished?;
                window.written(size(&finished));
                counts.add(finished.status);
                failed_to_resize += u64::from(finished.row.status == "failed_to_resize");
                task.row(finished.status, finished.row.bytes.unwrap_or_default() as u64);
                if finished.is_blocked() {
                    writer.push_concealed(finished.row)?;
                } else {
                    writer.push(finished.row, finished.picture)?;
                }
            }
            Ok::<(), Error>(())
        })?;
        let files = writer.publish()?;
        Stats::new(&counts, failed_to_resize, started, SystemTime::now()).publish(output, id)?;
        Ok(Marker::finish(&marker, &described, inputs, counts, files)?.counts)
    }

    /// The end of a row that nothing is known of.
    async fn row(&self, pair: Pair, further: Object, key: SampleKey, window: &Window) -> Result<Finished> {
        if self.blocked.url(&pair.url) {
            return Ok(Finished::blocked(ImageRow::new(&pair, key), Status::Dropped(Reason::UrlBlocked)));
        }
        let (status, fetched) = self.fetcher.fetch(&pair.url, u64::from(key.row), window).await;
        let (config, blocked) = (self.config.clone(), self.blocked.clone());
        let turn = self.workers.clone().acquire_owned().await.expect("the semaphore is never closed");
        let work = move || {
            // Given back here: the thread that writes the shard may be busy.
            let _turn = turn;
            finish(&config, &blocked, &pair, &further, key, status, fetched)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Invalid(format!("image {key}: {error}")))
    }

    /// The end that a row had before, if it stays so.
    fn known_end(&self, row: ImageRow, picture: Option<Vec<u8>>) -> Option<Finished> {
        let status = Status::from_name(&row.error_code)?;
        if self.retry_failed && matches!(status, Status::Failed(_)) {
            return None;
        }
        match self.blocked.row(&row) {
            Some(status) => Some(Finished::blocked(row, status)),
            None => Some(Finished { row, status, picture }),
        }
    }

    fn ending(&self) -> &'static str {
        self.config.encode_format.name()
    }
}

fn size(finished: &Finished) -> u64 {
    finished.picture.as_ref().map_or(0, |picture| picture.len() as u64)
}

fn gone(output: &Path, key: SampleKey) -> Error {
    Error::format(output, format!("the shard has no row {key}"))
}
