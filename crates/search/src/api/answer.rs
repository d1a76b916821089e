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
    let mut address = "/api/v1/images/".to_owned();
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => address.push(byte.into()),
            byte => address.push_str(&format!("%{byte:02X}")),
        }
    }
    address
}

/// The answer to a search.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) took_ms: u64,
    pub(super) results: Vec<Found>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_kind_have_an_address() {
        assert_eq!(image("000420017"), "/api/v1/images/000420017");
        assert_eq!(image("../a b/ü?"), "/api/v1/images/..%2Fa%20b%2F%C3%BC%3F");
    }
}
