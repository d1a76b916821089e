//! Examples in columns.

use half::f16;

use super::{Passed, ReadOptions};
use crate::Pixels;
use crate::tfds::{ExampleView, Values};

/// Values for which there is room before they are there.
const RESERVED_MAX: usize = 1 << 24;

/// Texts or files, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Where each begins in `bytes`, and where the last one ends.
    pub offsets: Vec<i64>,
    /// All of them.
    pub bytes: Vec<u8>,
}

impl Default for Column {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

impl Column {
    /// With room for so many values of this length: a column that outgrows its room is copied.
    pub(super) fn with_room(length: usize, values: usize) -> Self {
        let bytes = Vec::with_capacity(length.saturating_mul(values).min(RESERVED_MAX));
        Self { bytes, ..Self::default() }
    }

    pub(super) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.offsets.push(self.bytes.len() as i64);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.offsets.windows(2).map(|ends| &self.bytes[ends[0] as usize..ends[1] as usize])
    }

    fn keep(&mut self, kept: &[bool]) {
        let mut left = Self::default();
        self.iter().zip(kept).filter(|(_, kept)| **kept).for_each(|(value, _)| left.push(value));
        if !self.is_empty() {
            *self = left;
        }
    }
}

/// The pictures of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Pictures {
    /// They were not asked for, or the package has none.
    #[default]
    None,
    /// As they are stored.
    Encoded(Column),
    /// Each in its own size.
    Decoded(Vec<Pixels>),
    /// Squares of one size.
    Squares {
        /// In pixels.
        side: u32,
        /// `rows * side * side * 3` bytes.
        rgb: Vec<u8>,
    },
}

/// Some examples that follow one another in the order they are read. A column that was not asked for is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Examples.
    pub rows: usize,
    /// UTF-8.
    pub captions: Column,
    /// UTF-8.
    pub urls: Column,
    /// UTF-8.
    pub licenses: Column,
    /// Class: the position in [`crate::Nsfw::ALL`].
    pub nsfw: Vec<i64>,
    /// In pixels, as the web had it; -1 if unknown.
    pub original_heights: Vec<i32>,
    /// In pixels, as the web had it; -1 if unknown.
    pub original_widths: Vec<i32>,
    /// Cosine, -1 if unknown.
    pub similarities: Vec<f64>,
    /// Pictures.
    pub pictures: Pictures,
    /// Row by row, `rows * dimensions` values.
    pub image_embeddings: Vec<f16>,
    /// Row by row, `rows * dimensions` values.
    pub text_embeddings: Vec<f16>,
    /// Names of the records, if they were asked for ([`super::Record::id`]).
    pub ids: Column,
    /// Place of each example in the order.
    pub places: Vec<u64>,
    /// Places that this batch has brought behind: its own, and those of damaged and unwanted records.
    pub passed: Passed,
    /// Of these, places of damaged records.
    pub skipped: Vec<u64>,
}

impl Batch {
    /// Values of an embedding; 0 if there are none.
    pub fn dimensions(&self) -> usize {
        self.image_embeddings.len().max(self.text_embeddings.len()) / self.rows.max(1)
    }

    /// Appends an example but for its picture. The error says why it does not fit to the others.
    /// There will be `size` of them.
    pub(super) fn push(
        &mut self,
        place: u64,
        example: &ExampleView<'_>,
        options: &ReadOptions,
        size: usize,
    ) -> Result<(), String> {
        let embeddings = [
            ("image_embedding", &example.image_embedding, &mut self.image_embeddings),
            ("text_embedding", &example.text_embedding, &mut self.text_embeddings),
        ];
        let embeddings = embeddings.map(|(name, values, column)| {
            let values = values.as_ref().filter(|_| options.wants(name));
            let (length, expected) = (values.map_or(0, Values::len), column.len() / self.rows.max(1));
            let fits = self.rows == 0 || length == expected;
            if fits { Ok((values, column)) } else { Err(format!("{name} has {length} values, not {expected}")) }
        });
        let [image, text] = embeddings;
        for (values, column) in [image?, text?] {
            if self.rows == 0 {
                column.reserve_exact(values.map_or(0, Values::len).saturating_mul(size).min(RESERVED_MAX));
            }
            values.inspect(|values| values.append_to(column));
        }
        let texts = [
            ("caption", example.caption, &mut self.captions),
            ("url", example.url, &mut self.urls),
            ("license", example.license, &mut self.licenses),
        ];
        for (name, text, column) in texts {
            if options.wants(name) {
                column.push(text.as_bytes());
            }
        }
        if options.wants("nsfw") {
            self.nsfw.push(example.nsfw.class());
        }
        if options.wants("original_height") {
            self.original_heights.push(example.original_height);
        }
        if options.wants("original_width") {
            self.original_widths.push(example.original_width);
        }
        if options.wants("similarity") {
            self.similarities.push(example.similarity);
        }
        self.places.push(place);
        self.rows += 1;
        Ok(())
    }

    /// Takes examples out again, but for their pictures.
    pub(super) fn keep(&mut self, kept: &[bool]) {
        [&mut self.captions, &mut self.urls, &mut self.licenses, &mut self.ids].into_iter().for_each(|c| c.keep(kept));
        [&mut self.image_embeddings, &mut self.text_embeddings].into_iter().for_each(|c| keep(c, kept));
        [&mut self.original_heights, &mut self.original_widths].into_iter().for_each(|c| keep(c, kept));
        keep(&mut self.nsfw, kept);
        keep(&mut self.similarities, kept);
        keep(&mut self.places, kept);
        self.rows = kept.iter().filter(|kept| **kept).count();
    }
}

/// Leaves the kept rows of a column that has equally many values for each.
pub(super) fn keep<T: Copy>(values: &mut Vec<T>, kept: &[bool]) {
    let (width, mut to) = (values.len() / kept.len().max(1), 0);
    for (row, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
        values.copy_within(row * width..(row + 1) * width, to);
        to += width;
    }
    values.truncate(to);
}
