//! A sample in an answer.

use serde::Serialize;

use super::Facts;

/// A sample that was found.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    key: String,
    /// Row of the index.
    id: usize,
    /// How well it answers the query; nothing asks for it in a random sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    caption: String,
    url: String,
    page_url: String,
    license: String,
    nsfw: String,
    language: Option<String>,
    similarity: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aesthetic: Option<f64>,
    width: Option<u32>,
    height: Option<u32>,
    original_width: Option<u32>,
    original_height: Option<u32>,
    /// Where this service has the picture.
    image: String,
    /// Worse results that are nearly the same picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    folded: Option<usize>,
}

impl Found {
    pub(super) fn new(facts: Facts, score: Option<f32>, folded: Option<usize>) -> Self {
        Self {
            id: facts.row,
            score,
            caption: facts.caption,
            url: facts.url,
            page_url: facts.page_url,
            license: facts.license,
            nsfw: facts.nsfw,
            language: facts.language,
            similarity: facts.similarity,
            aesthetic: facts.aesthetic,
            width: facts.width,
            height: facts.height,
            original_width: facts.original_width,
            original_height: facts.original_height,
            image: image(&facts.key),
            folded,
            key: facts.key,
        }
    }
}

/// Where this service has the picture of a sample.
pub(super) fn image(key: &str) -> String {
    format!("/api/v1/images/{key}")
}

/// The answer to a search.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) took_ms: u64,
    pub(super) results: Vec<Found>,
}
