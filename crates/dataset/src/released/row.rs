//! A row of metadata, whoever wrote it.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
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
}

impl ReleasedRow {
    /// The example of a row that must not be left out: an unknown caption or URL is empty.
    pub(crate) fn into_example_or_empty(mut self) -> Example {
        self.caption.get_or_insert_default();
        self.url.get_or_insert_default();
        self.into_example().expect("both are there")
    }
}

impl FromBatch for ReleasedRow {
    fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>, String> {
        let required = |names: &[&str]| texts(batch, names)?.ok_or_else(|| format!("no column {:?}", names[0]));
        let mut captions = required(&["caption", "TEXT"])?.into_iter();
        let mut urls = required(&["url", "URL"])?.into_iter();
        let optional = |names: &[&str]| Ok::<_, String>(texts(batch, names)?.unwrap_or_default().into_iter());
        let (mut keys, mut tags) = (optional(&["key"])?, optional(&["NSFW", "nsfw"])?);
        let mut licenses = optional(&["LICENSE", "license"])?;
        let numbers = |names: &[&str]| Ok::<_, String>(numbers(batch, names)?.unwrap_or_default().into_iter());
        let mut similarities = numbers(&["similarity"])?;
        let mut widths = numbers(&["original_width", "WIDTH"])?;
        let mut heights = numbers(&["original_height", "HEIGHT"])?;
        let row = |_| Self {
            key: keys.next().flatten(),
            caption: captions.next().flatten(),
            url: urls.next().flatten(),
            nsfw: tags.next().flatten(),
            similarity: similarities.next().flatten(),
            license: licenses.next().flatten(),
            original_width: widths.next().flatten().and_then(size),
            original_height: heights.next().flatten().and_then(size),
        };
        Ok((0..batch.num_rows()).map(row).collect())
    }
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

fn texts(batch: &RecordBatch, names: &[&str]) -> Result<Option<Vec<Option<String>>>, String> {
    let values = column(batch, names, &DataType::Utf8)?;
    Ok(values.map(|array| array.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect()))
}

fn numbers(batch: &RecordBatch, names: &[&str]) -> Result<Option<Vec<Option<f64>>>, String> {
    let values = column(batch, names, &DataType::Float64)?;
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    Ok(values.map(|array| array.as_primitive::<Float64Type>().iter().map(finite).collect()))
}
