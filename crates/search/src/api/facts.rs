//! What is known of rows: nothing else of the service reads them.

use dataset::carried::{Object, RecordBatch};
use dataset::indexed::IndexedRow;
use dataset::webdataset::{read_range, tar_path};
use dataset::{Error, Result, Run, SampleKey};

use super::ApiError;
use crate::index::{Index, Modality};

/// Largest picture that is served, in bytes.
const PICTURE_BYTES_MAX: u64 = 64 << 20;

/// What is known of a row. A text that is not known is empty.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) row: usize,
    pub(crate) key: String,
    pub(crate) caption: String,
    pub(crate) url: String,
    pub(crate) page_url: String,
    pub(crate) license: String,
    pub(crate) nsfw: String,
    /// ISO 639-1.
    pub(crate) language: Option<String>,
    /// Cosine of both embeddings.
    pub(crate) similarity: Option<f64>,
    /// A head's score.
    pub(crate) aesthetic: Option<f64>,
    /// As it is stored, in pixels.
    pub(crate) width: Option<u32>,
    /// As it is stored, in pixels.
    pub(crate) height: Option<u32>,
    /// As the web had it, in pixels.
    pub(crate) original_width: Option<u32>,
    /// As the web had it, in pixels.
    pub(crate) original_height: Option<u32>,
    /// Where the bytes of the picture start in the tar of its shard, and how many they are.
    place: Option<(u64, u64)>,
}

impl Facts {
    fn new(row: usize, known: &IndexedRow) -> Self {
        let side = |pixels: Option<i64>| pixels.and_then(|pixels| u32::try_from(pixels).ok()).filter(|&side| side > 0);
        Self {
            row,
            key: known.key().into(),
            caption: known.caption().into(),
            url: known.url().into(),
            page_url: known.page_url().into(),
            license: known.license().into(),
            nsfw: known.nsfw().into(),
            language: Some(known.language()).filter(|language| !language.is_empty()).map(str::to_owned),
            similarity: known.similarity(),
            aesthetic: known.number(&["aesthetic"]),
            width: side(known.width()),
            height: side(known.height()),
            original_width: side(known.original_width()),
            original_height: side(known.original_height()),
            place: known.place(),
        }
    }
}

/// Refuses what the index has no embeddings of.
pub(crate) fn check(index: &Index, modality: Modality) -> Result<(), ApiError> {
    if index.modalities().contains(&modality) {
        return Ok(());
    }
    Err(ApiError::wrong(format!("modality: this dataset has no {} embeddings", modality.name())))
}

/// What stands for a sample that more are looked for of: its picture, or its caption where there are no pictures.
pub(crate) fn standing_for(index: &Index) -> Modality {
    index.modalities().first().copied().unwrap_or_default()
}

/// What is known of some rows, in the order asked for.
pub(crate) fn facts(index: &Index, rows: &[usize]) -> Result<Vec<Facts>> {
    Ok(index.rows(rows)?.iter().zip(rows).map(|(known, &row)| Facts::new(row, known)).collect())
}

/// All columns of some rows, in the order asked for.
pub(crate) fn columns(index: &Index, rows: &[usize]) -> Result<RecordBatch> {
    index.columns(rows)
}

/// The same as values by the names of their columns, and what is known of each.
pub(crate) fn objects(index: &Index, rows: &[usize]) -> Result<Vec<(Object, Facts)>> {
    let known = index.rows(rows)?;
    let told = |(known, &row): (&IndexedRow, &usize)| (known.columns().clone(), Facts::new(row, known));
    Ok(known.iter().zip(rows).map(told).collect())
}

/// The bytes of the picture that the run keeps of a row; `None` where it keeps none.
pub(crate) fn picture(run: &Run, facts: &Facts) -> Result<Option<Vec<u8>>> {
    let Some((offset, bytes)) = facts.place.filter(|(_, bytes)| (1..=PICTURE_BYTES_MAX).contains(bytes)) else {
        return Ok(None);
    };
    // The name of the file follows from digits alone.
    let Ok(key) = facts.key.parse::<SampleKey>() else { return Ok(None) };
    match read_range(&tar_path(&run.packages().webdataset(), key.shard), offset, bytes as usize) {
        Ok(picture) => Ok(Some(picture)),
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
