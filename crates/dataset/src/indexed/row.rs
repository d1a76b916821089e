//! A row of an index as people ask for it.

use arrow_array::RecordBatch;

use crate::carried::{Object, objects};

/// The names under which tables have the same thing, the first that is there is taken: ours, clip-retrieval's, the release's.
pub(super) const KEYS: &[&str] = &["key", "image_path"];
pub(super) const CAPTIONS: &[&str] = &["caption", "TEXT"];
pub(super) const URLS: &[&str] = &["url", "URL"];
pub(super) const TAGS: &[&str] = &["NSFW", "nsfw"];
pub(super) const LICENSES: &[&str] = &["LICENSE", "license"];
pub(super) const LANGUAGES: &[&str] = &["language", "LANGUAGE"];
pub(super) const SIMILARITIES: &[&str] = &["similarity"];
pub(super) const WIDTHS: &[&str] = &["original_width", "WIDTH"];
pub(super) const HEIGHTS: &[&str] = &["original_height", "HEIGHT"];

/// A row of an index with all its columns, whoever wrote its table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IndexedRow {
    columns: Object,
}

impl IndexedRow {
    /// The rows of a batch; an error says what cannot be told of them.
    pub fn of(rows: &RecordBatch) -> Result<Vec<Self>, String> {
        Ok(objects(rows)?.into_iter().map(|columns| Self { columns }).collect())
    }

    /// All columns, by the names their table has for them.
    pub fn columns(&self) -> &Object {
        &self.columns
    }

    /// The key of the sample; empty where the table has none.
    pub fn key(&self) -> &str {
        self.text(KEYS)
    }

    /// The text found with the image.
    pub fn caption(&self) -> &str {
        self.text(CAPTIONS)
    }

    /// Where the image was.
    pub fn url(&self) -> &str {
        self.text(URLS)
    }

    /// The page that shows the image.
    pub fn page_url(&self) -> &str {
        self.text(&["page_url"])
    }

    /// Creative Commons licence, or `?`.
    pub fn license(&self) -> &str {
        self.text(LICENSES)
    }

    /// Name of the [`crate::Nsfw`] tag.
    pub fn nsfw(&self) -> &str {
        self.text(TAGS)
    }

    /// Language of the caption, ISO 639-1.
    pub fn language(&self) -> &str {
        self.text(LANGUAGES)
    }

    /// Cosine of picture and caption.
    pub fn similarity(&self) -> Option<f64> {
        self.number(SIMILARITIES)
    }

    /// Width before resizing, in pixels.
    pub fn original_width(&self) -> Option<i64> {
        self.number(WIDTHS).map(|width| width as i64)
    }

    /// Height before resizing, in pixels.
    pub fn original_height(&self) -> Option<i64> {
        self.number(HEIGHTS).map(|height| height as i64)
    }

    /// Stored width, in pixels.
    pub fn width(&self) -> Option<i64> {
        self.number(&["width"]).map(|width| width as i64)
    }

    /// Stored height, in pixels.
    pub fn height(&self) -> Option<i64> {
        self.number(&["height"]).map(|height| height as i64)
    }

    /// Where the picture is in the tar of its shard, and its length, in bytes.
    pub fn place(&self) -> Option<(u64, u64)> {
        let number = |name: &str| self.columns.get(name)?.as_u64();
        Some((number("image_offset")?, number("image_bytes")?))
    }

    /// The number in a column, if there is one.
    pub fn number(&self, names: &[&str]) -> Option<f64> {
        names.iter().find_map(|name| self.columns.get(*name))?.as_f64()
    }

    fn text(&self, names: &[&str]) -> &str {
        names.iter().find_map(|name| self.columns.get(*name)?.as_str()).unwrap_or_default()
    }
}
