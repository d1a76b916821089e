//! The service: the API, clip-retrieval's beside it, the pictures of the run, and the page.

mod batches;
mod collection;
mod connections;
mod guard;
mod metrics;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dataset::files;
use dataset::{Embedder, Embedding, Pixels, Run, encoded};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;

use crate::api::{self, ApiError};
use crate::clip_retrieval;
use crate::index::Index;
use crate::page;
use crate::query::{self, MEGAPIXELS_MAX};
use batches::Batches;
pub(crate) use collection::Collection;
pub(crate) use metrics::{Metrics, Step};

/// Texts that are embedded together.
const TEXTS: usize = 64;
/// Pictures that are embedded together.
const PICTURES: usize = 16;
/// Longest body, in bytes, of which there may be any number.
const SMALL_BODY: u64 = 64 << 10;
/// Requests at once whose bodies are not small.
const BODIES: usize = 16;
/// Megapixels of all pictures that are decoded and wait for the model.
const MEGAPIXELS: u32 = 2 * MEGAPIXELS_MAX;

/// Whoever fetches a picture that somebody names. It is asked only where a service was told to fetch.
pub trait Fetch: Send + Sync {
    /// The bytes of the picture; or why there are none, for whoever named it. How many there can be is bounded.
    fn fetch(&self, url: String) -> Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + '_>>;
}

/// What a service does beyond answering from its index.
#[derive(Clone, Default)]
pub struct Settings {
    /// Pages of these origins (`https://example.com`) may ask, too.
    pub allow_origins: Vec<String>,
    /// Fetches the pictures that clients name by their address; without it they are refused.
    pub fetch: Option<Arc<dyn Fetch>>,
    /// One event a request, with its path but without its query.
    pub log_requests: bool,
    /// What clients may cost.
    pub limits: Limits,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fetches = self.fetch.is_some();
        f.debug_struct("Settings").field("limits", &self.limits).field("fetches", &fetches).finish_non_exhaustive()
    }
}

/// What clients may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// Connections at once; further ones wait until one ends.
    pub connections_max: usize,
    /// Requests at once; further ones are answered with 503.
    pub requests_max: usize,
    /// Until the head of a request is there; a connection that nobody uses ends after it, too.
    pub head_time: Duration,
    /// Until the body of a request is there.
    pub body_time: Duration,
    /// Until a request is answered.
    pub request_time: Duration,
    /// Until the other end takes the next part of an answer.
    pub write_time: Duration,
    /// For requests that are under way when the service ends.
    pub shutdown_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 10 << 20,
            connections_max: 1024,
            requests_max: 512,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            request_time: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            shutdown_time: Duration::from_secs(10),
        }
    }
}

/// What the service answers from.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    collections: Vec<Arc<Collection>>,
    pub(crate) metrics: Arc<Metrics>,
    settings: Settings,
    texts: Batches<String>,
    pictures: Batches<Pixels>,
    /// Work that keeps a processor busy.
    at_work: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    megapixels: Arc<Semaphore>,
    local_only: std::sync::OnceLock<bool>,
}

impl Inner {
    /// The collection that is asked where none is named.
    pub(crate) fn first(&self) -> &Arc<Collection> {
        &self.collections[0]
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.inner.collections.iter().map(|collection| collection.name()).collect();
        f.debug_struct("Service").field("collections", &names).finish_non_exhaustive()
    }
}

impl Service {
    /// A service over the run that `index` belongs to. The embedder must be the one the index was made with.
    pub fn new(index: Index, run: Run, embedder: Arc<dyn Embedder>) -> dataset::Result<Self> {
        Self::with(vec![(index, run)], embedder, Settings::default())
    }

    /// A service over several runs, each called by the name of its folder; the first is asked where none is named. The
    /// embedder must be the one that all indices were made with.
    pub fn with(indices: Vec<(Index, Run)>, embedder: Arc<dyn Embedder>, settings: Settings) -> dataset::Result<Self> {
        let fingerprint = embedder.fingerprint();
        let mut collections: Vec<Arc<Collection>> = Vec::new();
        for (index, run) in indices {
            if !dataset::same_weights(index.model(), &fingerprint) {
                let index = index.model();
                let cause = format!("the index was made with the weights {index}, queries would be with {fingerprint}");
                return Err(dataset::Error::Invalid(cause));
            }
            let folder = files::canonical(run.folder())?;
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if collections.iter().any(|collection| collection.name() == name) {
                return Err(dataset::Error::Invalid(format!("two runs are called {name}")));
            }
            collections.push(Arc::new(Collection::new(name, run, index)));
        }
        if collections.is_empty() {
            return Err(dataset::Error::Invalid("no index to serve".into()));
        }
        let metrics = Arc::new(Metrics::default());
        let (for_texts, for_pictures) = (embedder.clone(), embedder);
        let texts = timed(metrics.clone(), Step::EmbedText, move |texts: &[String]| {
            for_texts.texts(&texts.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let pictures = move |pictures: &[Pixels]| for_pictures.images(pictures);
        let pictures = timed(metrics.clone(), Step::EmbedPicture, pictures);
        let texts = Batches::new("texts", TEXTS, metrics.clone(), texts)?;
        let pictures = Batches::new("pictures", PICTURES, metrics.clone(), pictures)?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let inner = Inner {
            collections,
            metrics,
            settings,
            texts,
            pictures,
            at_work: Arc::new(Semaphore::new(2 * threads)),
            bodies: Arc::new(Semaphore::new(BODIES)),
            megapixels: Arc::new(Semaphore::new(MEGAPIXELS as usize)),
            local_only: std::sync::OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn first(&self) -> Arc<Collection> {
        self.inner.first().clone()
    }

    /// The collection of this name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Collection>> {
        self.inner.collections.iter().find(|collection| collection.name() == name).cloned()
    }

    pub(crate) fn collections(&self) -> &[Arc<Collection>] {
        &self.inner.collections
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.settings.limits
    }

    /// Whether only this machine may ask.
    fn local_only(&self) -> bool {
        self.inner.local_only.get().copied().unwrap_or(true)
    }

    /// Does work that keeps a processor busy, apart from the threads that answer.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        // The work keeps its turn to its end, even if whoever asked for it has gone away.
        let turn = self.inner.at_work.clone().acquire_owned().await.map_err(ApiError::internal)?;
        let inner = self.inner.clone();
        let work = move || {
            let _turn = turn;
            work(&inner)
        };
        tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
    }

    /// Waits until a body of at most so many bytes may be read: long ones come a few at a time, so that memory is bounded.
    pub(crate) async fn room_for(&self, bytes: Option<u64>) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        match bytes {
            Some(..=SMALL_BODY) => Ok(None),
            _ => self.inner.bodies.clone().acquire_owned().await.map(Some).map_err(ApiError::internal),
        }
    }

    /// Embeds a text, together with those of other requests. It is handed over at once.
    pub(crate) fn embed_text(&self, text: String) -> impl Future<Output = Result<Embedding, ApiError>> + Send + use<> {
        self.inner.texts.embed(text, None)
    }

    /// Decodes and embeds the bytes of a picture.
    pub(crate) async fn embed_picture(&self, picture: Bytes) -> Result<Embedding, ApiError> {
        // How large it is stands at its beginning; where it does not, nothing is known.
        let pixels = encoded::dimensions(&picture)
            .map_or(u64::from(MEGAPIXELS_MAX) << 20, |(width, height)| width as u64 * height as u64);
        let megapixels = (pixels >> 20).min(u64::from(MEGAPIXELS_MAX) - 1) as u32 + 1;
        let room = self.inner.megapixels.clone().acquire_many_owned(megapixels).await.map_err(ApiError::internal)?;
        let decode = move |inner: &Inner| {
            let decoded = inner.metrics.step(Step::Decode, || query::picture(&picture));
            Ok((decoded.map_err(|error| ApiError::wrong(error.to_string()))?, room))
        };
        let (pixels, room) = self.work(decode).await?;
        self.inner.pictures.embed(pixels, Some(room)).await
    }
}

/// What embeds, with its time noted.
fn timed<T, F: Fn(&[T]) -> dataset::Result<Vec<Embedding>>>(
    metrics: Arc<Metrics>,
    step: Step,
    embed: F,
) -> impl Fn(&[T]) -> dataset::Result<Vec<Embedding>> {
    move |items: &[T]| metrics.step(step, || embed(items))
}

/// Serves until `shutdown` comes; then it answers what is under way, and ends.
pub async fn serve(
    service: Service,
    listener: tokio::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let limits = *service.limits();
    let routes = router(service, listener.local_addr()?);
    connections::serve(listener, routes, &limits, shutdown).await
}

fn router(service: Service, address: SocketAddr) -> Router {
    let local_only = address.ip().is_loopback();
    service.inner.local_only.get_or_init(|| local_only);
    let mut router = Router::new()
        .route("/", get(start))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(prometheus))
        .route("/metrics-summary", get(|State(service): State<Service>| async move { service.metrics().summary() }))
        .merge(page::routes())
        .merge(api::routes(service.limits().body_bytes_max))
        .merge(clip_retrieval::routes(service.limits().body_bytes_max))
        .fallback(|| async { ApiError::not_found("no such address") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this address knows other methods")
        });
    if !service.settings().allow_origins.is_empty() {
        router = router.layer(cors(&service.settings().allow_origins));
    }
    router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(service.clone(), guard::guard))
        .with_state(service)
}

/// The answer to a request that found a bug.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    ApiError::internal("a request panicked").into_response()
}

/// Lets pages of these origins ask and read what comes.
fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(origins.collect::<Vec<_>>())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([CONTENT_TYPE])
}

/// The page for browsers; clip-retrieval's word for everybody else.
async fn start(headers: HeaderMap) -> Response {
    let wanted = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if wanted.contains("text/html") {
        page::page()
    } else {
        ([(CONTENT_TYPE, "application/json")], "\"ok\"\n").into_response()
    }
}

async fn prometheus(State(service): State<Service>) -> Response {
    let rows = service.collections().iter().map(|collection| {
        let index = collection.index();
        (collection.name().to_owned(), index.len() - index.deleted())
    });
    let text = service.metrics().prometheus(&rows.collect::<Vec<_>>());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
