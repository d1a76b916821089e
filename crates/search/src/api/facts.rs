//! What is known of rows: nothing else of the service reads them.

use dataset::carried::{Object, RecordBatch};
use dataset::schema::KeptRow;
use dataset::webdataset::{read_range, tar_path};
use dataset::{Error, Result, Row, Run, SampleKey};

use crate::index::Index;

/// Largest picture that is served, in bytes.
const PICTURE_BYTES_MAX: i64 = 64 << 20;

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
    place: (i64, i64),
}

impl Facts {
    fn new(row: usize, kept: KeptRow) -> Self {
        let side = |pixels: i32| u32::try_from(pixels).ok().filter(|&pixels| pixels > 0);
        Self {
            row,
            key: kept.key,
            caption: kept.caption,
            url: kept.url,
            page_url: kept.page_url,
            license: kept.license,
            nsfw: kept.nsfw,
            language: None,
            similarity: Some(kept.similarity).filter(|similarity| similarity.is_finite()),
            aesthetic: None,
            width: side(kept.width),
            height: side(kept.height),
            original_width: side(kept.original_width),
            original_height: side(kept.original_height),
            place: (kept.image_offset, kept.image_bytes),
        }
    }

    /// The host that has the picture, as the address says; `None` where there is none.
    pub(crate) fn host(&self) -> Option<&str> {
        host(&self.url)
    }
}

fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = if host.starts_with('[') { host.split_inclusive(']').next()? } else { host.split(':').next()? };
    (!host.is_empty()).then_some(host)
}

/// What is known of some rows, in the order asked for.
pub(crate) fn facts(index: &Index, rows: &[usize]) -> Result<Vec<Facts>> {
    let kept = index.rows(rows)?;
    Ok(rows.iter().zip(kept).map(|(&row, kept)| Facts::new(row, kept)).collect())
}

/// All columns of some rows, in the order asked for.
pub(crate) fn columns(index: &Index, rows: &[usize]) -> Result<RecordBatch> {
    Ok(KeptRow::to_batch(&index.rows(rows)?))
}

/// The same as values by the names of their columns, and what is known of each.
pub(crate) fn objects(index: &Index, rows: &[usize]) -> Result<Vec<(Object, Facts)>> {
    let kept = index.rows(rows)?;
    let objects = dataset::carried::objects(&KeptRow::to_batch(&kept)).map_err(Error::Invalid)?;
    let facts = rows.iter().zip(kept).map(|(&row, kept)| Facts::new(row, kept));
    Ok(objects.into_iter().zip(facts).collect())
}

/// The bytes of the picture that the run keeps of a row; `None` where it keeps none.
pub(crate) fn picture(run: &Run, facts: &Facts) -> Result<Option<Vec<u8>>> {
    let (offset, bytes) = facts.place;
    let Ok(offset) = u64::try_from(offset) else { return Ok(None) };
    if !(1..=PICTURE_BYTES_MAX).contains(&bytes) {
        return Ok(None);
    }
    // The name of the file follows from digits alone.
    let Ok(key) = facts.key.parse::<SampleKey>() else { return Ok(None) };
    match read_range(&tar_path(&run.packages().webdataset(), key.shard), offset, bytes as usize) {
        Ok(picture) => Ok(Some(picture)),
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_those_of_the_addresses() {
        assert_eq!(host("http://a.com/x"), Some("a.com"));
        assert_eq!(host("https://user@b.a.com:81?x"), Some("b.a.com"));
        assert_eq!(host("http://[::1]:80/"), Some("[::1]"));
        assert_eq!(host("no address"), None);
    }
}
