//! Version 1 of the API: what it is asked and what it answers, as JSON. `openapi.json` describes it.

mod answer;
mod export;
mod facts;
mod fold;
mod given;
mod query;
mod random;
mod samples;
mod search;
mod statistics;

use axum::Json;
use axum::body::{Bytes, HttpBody};
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use dataset::Error;
use tokio::sync::OwnedSemaphorePermit;

use crate::server::Service;

pub(crate) use facts::{Facts, check, columns, facts, objects, picture, standing_for};
pub(crate) use fold::groups;
pub(crate) use given::object;
pub(crate) use query::{TEXT_BYTES_MAX, Term, picture as picture_in_base64, values};
pub(crate) use search::embed;
pub(crate) use statistics::Statistics;

/// The routes; `body_bytes_max` is the longest body that they read.
pub(crate) fn routes(body_bytes_max: usize) -> axum::Router<Service> {
    let description = include_str!("openapi.json");
    axum::Router::new()
        .route("/api/v1/info", get(statistics::info))
        .route("/api/v1/report", get(statistics::report))
        .route("/api/v1/statistics", get(statistics::statistics))
        .route("/api/v1/search", get(search::by_address).post(search::by_json))
        .route("/api/v1/search/image", post(search::by_picture))
        .route("/api/v1/random", get(random::random))
        .route("/api/v1/samples/{key}", get(samples::sample))
        .route("/api/v1/images/{key}", get(samples::image))
        .route("/api/v1/export", post(export::export))
        .route("/api/v1/openapi.json", get(move || async move { ([(CONTENT_TYPE, "application/json")], description) }))
        .layer(DefaultBodyLimit::max(body_bytes_max))
}

/// Why a request gets no answer. The asker's mistake is told; ours is logged and not shown.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    cause: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, cause: impl Into<String>) -> Self {
        Self { status, cause: cause.into() }
    }

    /// 400.
    pub(crate) fn wrong(cause: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, cause)
    }

    /// 404.
    pub(crate) fn not_found(cause: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, cause)
    }

    /// 503: the same request may get an answer later.
    pub(crate) fn busy(cause: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, cause)
    }

    /// 500.
    pub(crate) fn internal(cause: impl ToString) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, cause.to_string())
    }

    /// The answer, with the cause as the member of this name.
    pub(crate) fn answer(self, member: &str) -> Response {
        let cause = if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(cause = self.cause, "a request failed");
            "something went wrong here".to_owned()
        } else {
            self.cause
        };
        let mut response = (self.status, Json(serde_json::json!({ member: cause }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.answer("error")
    }
}

/// The whole body of a request, bounded in bytes and in time; and the room that it takes, until that is dropped.
pub(crate) async fn body(
    service: &Service,
    request: Request,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
    let limits = service.limits();
    let too_long = || {
        let cause = format!("a body has at most {} bytes", limits.body_bytes_max);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, cause)
    };
    let size = request.body().size_hint();
    if size.lower() > limits.body_bytes_max as u64 {
        return Err(too_long());
    }
    let read = async {
        let room = service.room_for(size.upper()).await?;
        let bytes = Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => too_long(),
            _ => ApiError::wrong("the body broke off"),
        })?;
        Ok((bytes, room))
    };
    let late = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
    tokio::time::timeout(limits.body_time, read).await.map_err(late)?
}
