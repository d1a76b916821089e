//! The service: the API, the pictures of the run, and the page.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use dataset::webdataset::{read_range, tar_path};
use dataset::{Embedder, Run, SampleKey};
use tokio::sync::Semaphore;

use crate::api::{ApiError, Found, SearchAnswer, SearchQuery, Subject};
use crate::index::{Index, Live, Modality};

/// Searches and pictures that are worked on at once; further ones wait.
const AT_WORK: usize = 8;
/// Largest picture that is served.
const IMAGE_BYTES_MAX: u64 = 64 << 20;

/// What the service answers from.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    index: Live,
    run: Run,
    embedder: Arc<dyn Embedder>,
    at_work: Semaphore,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("run", &self.inner.run).finish_non_exhaustive()
    }
}

impl Service {
    /// A service over the run that `index` belongs to. The embedder must be the one the index was made with.
    pub fn new(index: Index, run: Run, embedder: Arc<dyn Embedder>) -> dataset::Result<Self> {
        if index.model() != embedder.fingerprint() {
            let (index, query) = (index.model(), embedder.fingerprint());
            let cause = format!("the index was made with the weights {index}, queries would be with {query}");
            return Err(dataset::Error::Invalid(cause));
        }
        Ok(Self { inner: Arc::new(Inner { index: Live::new(index), run, embedder, at_work: Semaphore::new(AT_WORK) }) })
    }

    /// Does work that keeps a processor busy, apart from the threads that answer.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let _permit = self.inner.at_work.acquire().await.map_err(|error| ApiError::Internal(error.to_string()))?;
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|error| ApiError::Internal(error.to_string()))?
    }
}

/// Serves until `shutdown` comes.
pub async fn serve(
    service: Service,
    listener: tokio::net::TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    axum::serve(listener, router(service, address)).with_graceful_shutdown(shutdown).await
}

fn router(service: Service, address: SocketAddr) -> Router {
    let file =
        |kind: &'static str, content: &'static str| get(move || async move { ([(CONTENT_TYPE, kind)], content) });
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("../web/index.html")))
        .route("/app.js", file("text/javascript; charset=utf-8", include_str!("../web/app.js")))
        .route("/style.css", file("text/css; charset=utf-8", include_str!("../web/style.css")))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/api/v1/info", get(info))
        .route("/api/v1/report", get(report))
        .route("/api/v1/search", get(search))
        .route("/api/v1/images/{key}", get(image))
        .fallback(|| async { ApiError::NotFound("no such address".into()) })
        .layer(middleware::from_fn(move |request, next| guard(address, request, next)))
        .with_state(service)
}

/// Refuses requests that a foreign page makes by DNS rebinding, and tells browsers to trust nothing but our own files.
async fn guard(address: SocketAddr, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut response = if address.ip().is_loopback() && !is_local(host) {
        let cause = "this service answers to localhost only";
        (StatusCode::MISDIRECTED_REQUEST, Json(serde_json::json!({ "error": cause }))).into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn info(State(service): State<Service>) -> Json<serde_json::Value> {
    let index = service.inner.index.index();
    Json(serde_json::json!({"rows": index.len(), "dimensions": index.dimensions(), "model": index.model()}))
}

async fn report(State(service): State<Service>) -> Result<Response, ApiError> {
    let json = service.work(|inner| match fs_err::read(inner.run.report()) {
        Ok(json) => Ok(json),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ApiError::NotFound("this run has no report".into()))
        }
        Err(error) => Err(ApiError::Internal(error.to_string())),
    });
    Ok(([(CONTENT_TYPE, "application/json")], json.await?).into_response())
}

async fn search(
    State(service): State<Service>,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Json<SearchAnswer>, ApiError> {
    let started = Instant::now();
    let Query(query) = query.map_err(|error| ApiError::Request(error.body_text()))?;
    let (subject, options) = query.parse()?;
    let results = service.work(move |inner| {
        let index = inner.index.index();
        let query = match subject {
            Subject::Text(text) => inner.embedder.texts(&[&text])?.remove(0),
            Subject::Like(key) => index.embedding(find(&index, &key)?, Modality::Image)?,
        };
        let hits = index.search(&query, &options)?;
        let rows = index.rows(&hits.iter().map(|hit| hit.row).collect::<Vec<_>>())?;
        Ok(hits.into_iter().zip(&rows).map(|(hit, row)| Found::new(hit, row)).collect())
    });
    let results = results.await?;
    Ok(Json(SearchAnswer { took_ms: started.elapsed().as_millis() as u64, results }))
}

fn find(index: &Index, key: &str) -> Result<usize, ApiError> {
    let row = index.row_of(key)?.filter(|&row| !index.is_deleted(row));
    row.ok_or_else(|| ApiError::NotFound(format!("no sample {key}")))
}

async fn image(State(service): State<Service>, Path(key): Path<String>) -> Result<Response, ApiError> {
    let bytes = service.work(move |inner| {
        let index = inner.index.index();
        let row = index.rows(&[find(&index, &key)?])?.remove(0);
        let none = || ApiError::NotFound(format!("no picture of {key} here"));
        let key: SampleKey = key.parse().map_err(|_| none())?;
        let tar = tar_path(&inner.run.packages().webdataset(), key.shard);
        let (start, bytes) = row.place().ok_or_else(none)?;
        if bytes > IMAGE_BYTES_MAX {
            return Err(ApiError::Internal(format!("sample {key}: {bytes} bytes")));
        }
        Ok(read_range(&tar, start, bytes as usize)?)
    });
    let bytes = bytes.await?;
    let kind = match &bytes[..] {
        [0xFF, 0xD8, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'R', b'I', b'F', b'F', ..] => "image/webp",
        _ => "application/octet-stream",
    };
    // A key never gets another picture in the same run, but another run may be served at the same address.
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "private, max-age=300")], bytes).into_response())
}
