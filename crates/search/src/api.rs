//! Version 1 of the API: what it is asked and what it answers, as JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use dataset::indexed::IndexedRow;
use dataset::Error;
use serde::{Deserialize, Serialize};

use crate::hits::Hit;
use crate::index::{COUNT_MAX, Modality, Options};
use dataset::indexed::Filter;

/// Longest text of a query, in bytes; a caption of 77 tokens is far shorter.
const TEXT_BYTES_MAX: usize = 4096;
/// Results of one answer.
const PAGE_MAX: usize = 200;

/// `GET /api/v1/search?…`: `text`, or the `key` of a sample to find more like it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SearchQuery {
    text: Option<String>,
    key: Option<String>,
    count: Option<usize>,
    offset: Option<usize>,
    modality: Option<String>,
    safe: Option<bool>,
    similarity_min: Option<f32>,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Text(String),
    Like(String),
}

impl SearchQuery {
    pub(crate) fn parse(self) -> Result<(Subject, Options), ApiError> {
        let wrong = |cause: &str| Err(ApiError::Request(cause.to_owned()));
        let text = self.text.filter(|text| !text.trim().is_empty());
        let subject = match (text, self.key) {
            (Some(text), None) if text.len() <= TEXT_BYTES_MAX => Subject::Text(text),
            (Some(_), None) => return wrong("text is longer than 4096 bytes"),
            (None, Some(key)) => Subject::Like(key),
            (Some(_), Some(_)) => return wrong("either text or key, not both"),
            (None, None) => return wrong("neither text nor key"),
        };
        let modality = match self.modality.as_deref() {
            None | Some("image") => Modality::Image,
            Some("text") => Modality::Text,
            Some(_) => return wrong("modality is image or text"),
        };
        let (count, offset) = (self.count.unwrap_or(40), self.offset.unwrap_or(0));
        if count == 0 || count > PAGE_MAX || offset > COUNT_MAX - PAGE_MAX {
            return wrong("count is 1 to 200, offset at most 9800");
        }
        if self.similarity_min.is_some_and(|least| !least.is_finite()) {
            return wrong("similarity_min is a number");
        }
        let filter = if self.safe.unwrap_or(true) { Filter::safe() } else { Filter::default() };
        let filter = Filter { similarity_min: self.similarity_min, ..filter };
        Ok((subject, Options { modality, count, offset, exact: false, probes: None, filter }))
    }
}

/// The answer to a search.
#[derive(Debug, Serialize)]
pub(crate) struct SearchAnswer {
    pub(crate) took_ms: u64,
    pub(crate) results: Vec<Found>,
}

/// A sample that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    key: String,
    score: f32,
    caption: String,
    url: String,
    page_url: String,
    license: String,
    nsfw: String,
    similarity: Option<f64>,
    width: Option<i64>,
    height: Option<i64>,
    original_width: Option<i64>,
    original_height: Option<i64>,
    /// Where this service has the picture.
    image: String,
}

impl Found {
    pub(crate) fn new(hit: Hit, row: &IndexedRow) -> Self {
        Self {
            image: format!("/api/v1/images/{}", row.key()),
            key: row.key().into(),
            score: hit.score,
            caption: row.caption().into(),
            url: row.url().into(),
            page_url: row.page_url().into(),
            license: row.license().into(),
            nsfw: row.nsfw().into(),
            similarity: row.similarity(),
            width: row.width(),
            height: row.height(),
            original_width: row.original_width(),
            original_height: row.original_height(),
        }
    }
}

/// What went wrong: the asker's mistake is answered, ours is logged and not shown.
#[derive(Debug)]
pub(crate) enum ApiError {
    Request(String),
    NotFound(String),
    Internal(String),
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::Internal(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Request(message) => (StatusCode::BAD_REQUEST, message),
            Self::NotFound(message) => (StatusCode::NOT_FOUND, message),
            Self::Internal(message) => {
                tracing::error!(message, "a request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "something went wrong here".to_owned())
            }
        };
        (status, Json(serde_json::json!({ "error": message }))).into_response()
    }
}
