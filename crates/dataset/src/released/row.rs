//! A row of metadata, whoever wrote it.

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, Float64Array, RecordBatch, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;

use crate::row::FromBatch;
use crate::tfds::Example;
use crate::{Nsfw, Reason};

/// Where no size is known. TFDS's own builder writes -2147483648 (x86) or 0 (ARM) there.
const NO_SIZE: i32 = -1;
/// Where no similarity is known, as the catalogue says.
const NO_SIMILARITY: f64 = -1.0;

/// What the metadata tables of LAION-400M, img2dataset and clip-retrieval have in common. A cell may be null, and every
/// column but those of caption and URL may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReleasedRow {
    /// Of the picture in its tar.
    pub key: Option<String>,
    /// `caption`, or `TEXT` in the release.
    pub caption: Option<String>,
    /// `url`, or `URL` in the release.
    pub url: Option<String>,
    /// Any text.
    pub nsfw: Option<String>,
    /// Cosine.
    pub similarity: Option<f64>,
    /// Any text; `?` where none is known.
    pub license: Option<String>,
    /// In pixels, as the web had it.
    pub original_width: Option<i32>,
    /// In pixels, as the web had it.
    pub original_height: Option<i32>,
}

impl ReleasedRow {
    /// The example without picture or embeddings, by the value rules of the catalogue.
    pub(super) fn into_example(self) -> Result<Example, Reason> {
        Ok(Example {
            caption: self.caption.ok_or(Reason::NoCaption)?,
            image: None,
            embeddings: None,
            license: self.license.unwrap_or_default(),
            nsfw: self.nsfw.map_or(Nsfw::Untagged, |name| Nsfw::from_name(&name)),
            original_height: self.original_height.unwrap_or(NO_SIZE),
            original_width: self.original_width.unwrap_or(NO_SIZE),
            similarity: self.similarity.unwrap_or(NO_SIMILARITY),
            url: self.url.ok_or(Reason::NoUrl)?,
        })
    }

    /// The example of a row that must not be left out: an unknown caption or URL is empty.
    pub(crate) fn into_example_or_empty(mut self) -> Example {
        self.caption.get_or_insert_default();
        self.url.get_or_insert_default();
        self.into_example().expect("both are there")
    }
}

impl FromBatch for ReleasedRow {
    fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>, String> {
        let columns = Columns::new(batch)?;
        Ok((0..columns.len()).map(|row| columns.row(row)).collect())
    }
}

/// Names of all columns that are looked at.
pub(super) const COLUMNS: [&str; 14] = [
    "key",
    "caption",
    "TEXT",
    "url",
    "URL",
    "NSFW",
    "nsfw",
    "LICENSE",
    "license",
    "similarity",
    "original_width",
    "WIDTH",
    "original_height",
    "HEIGHT",
];

/// The rows of a batch, column by column, as they were read.
pub(super) struct Columns {
    rows: usize,
    keys: Option<StringArray>,
    captions: StringArray,
    urls: StringArray,
    tags: Option<StringArray>,
    licenses: Option<StringArray>,
    similarities: Option<Float64Array>,
    widths: Option<Float64Array>,
    heights: Option<Float64Array>,
}

impl Columns {
    pub(super) fn new(batch: &RecordBatch) -> Result<Self, String> {
        let required = |names: &[&str]| texts(batch, names)?.ok_or_else(|| format!("no column {:?}", names[0]));
        Ok(Self {
            rows: batch.num_rows(),
            keys: texts(batch, &["key"])?,
            captions: required(&["caption", "TEXT"])?,
            urls: required(&["url", "URL"])?,
            tags: texts(batch, &["NSFW", "nsfw"])?,
            licenses: texts(batch, &["LICENSE", "license"])?,
            similarities: numbers(batch, &["similarity"])?,
            widths: numbers(batch, &["original_width", "WIDTH"])?,
            heights: numbers(batch, &["original_height", "HEIGHT"])?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    pub(super) fn key(&self, row: usize) -> Option<&str> {
        text(self.keys.as_ref()?, row)
    }

    pub(super) fn caption(&self, row: usize) -> Option<&str> {
        text(&self.captions, row)
    }

    pub(super) fn url(&self, row: usize) -> Option<&str> {
        text(&self.urls, row)
    }

    fn row(&self, row: usize) -> ReleasedRow {
        ReleasedRow { key: self.key(row).map(str::to_owned), ..self.row_without_key(row) }
    }

    fn row_without_key(&self, row: usize) -> ReleasedRow {
        let tag = self.tags.as_ref().and_then(|tags| text(tags, row));
        let license = self.licenses.as_ref().and_then(|licenses| text(licenses, row));
        ReleasedRow {
            key: None,
            caption: self.caption(row).map(str::to_owned),
            url: self.url(row).map(str::to_owned),
            nsfw: tag.map(str::to_owned),
            similarity: number(self.similarities.as_ref(), row),
            license: license.map(str::to_owned),
            original_width: number(self.widths.as_ref(), row).and_then(size),
            original_height: number(self.heights.as_ref(), row).and_then(size),
        }
    }

    /// The example without picture or embeddings.
    pub(super) fn example(&self, row: usize) -> Result<Example, Reason> {
        self.row_without_key(row).into_example()
    }
}

fn text(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

/// A number that is one: not null, and finite.
fn number(column: Option<&Float64Array>, row: usize) -> Option<f64> {
    let column = column?;
    column.is_valid(row).then(|| column.value(row)).filter(|value| value.is_finite())
}

/// Sizes are floats where pandas met a row without one.
pub(crate) fn size(value: f64) -> Option<i32> {
    (0.0..=f64::from(i32::MAX)).contains(&value).then_some(value as i32)
}

/// The first column of these names as the type asked for; every kind of text, number and null that writers use.
fn column(batch: &RecordBatch, names: &[&str], to: &DataType) -> Result<Option<arrow_array::ArrayRef>, String> {
    let Some((name, array)) = names.iter().find_map(|name| Some((name, batch.column_by_name(name)?))) else {
        return Ok(None);
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(array, to, &options);
    cast.map(Some).map_err(|error| format!("column {name:?} holds {}: {error}", array.data_type()))
}

/// The first column of these names, as texts.
pub(crate) fn texts(batch: &RecordBatch, names: &[&str]) -> Result<Option<StringArray>, String> {
    Ok(column(batch, names, &DataType::Utf8)?.map(|array| array.as_string::<i32>().clone()))
}

/// The first column of these names, as numbers.
pub(crate) fn numbers(batch: &RecordBatch, names: &[&str]) -> Result<Option<Float64Array>, String> {
    Ok(column(batch, names, &DataType::Float64)?.map(|array| array.as_primitive::<Float64Type>().clone()))
}
