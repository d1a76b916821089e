//! Pictures and their rows, joined by key.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Outcome, ReleasedRow, present};
use crate::table::TableReader;
use crate::webdataset::{TarSample, read_samples};
use crate::{Error, Failure, Reason, Result, Status};

/// Rows of a shard that are held in memory; img2dataset's default is 10,000.
const SHARD_ROWS_MAX: u64 = 1 << 20;
/// Digits of the shard in img2dataset's keys since 1.9.3.
const SHARD_DIGITS: usize = 5;
/// Endings of the pictures that TFDS can read back, the first choice first.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "jpe"];
/// Endings of pictures that TFDS stores and cannot read back: it decodes them to four dimensions, or not at all.
const OTHER_ENDINGS: [&str; 6] = ["webp", "gif", "avif", "jxl", "tif", "tiff"];

/// How a picture finds its row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// By the column `key`, and the JSON beside the picture must agree.
    #[default]
    Key,
    /// By position, the picture's number being its row, as the builder of TFDS 4.9.10 does. img2dataset writes rows in
    /// the order in which downloads end, so most pictures get the row of another one.
    Position,
}

/// The files of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageShard {
    /// The number in the names.
    pub number: u32,
    /// Pictures.
    pub tar: PathBuf,
    /// Metadata.
    pub table: PathBuf,
}

/// The rows of a shard.
struct Rows {
    by_key: HashMap<String, ReleasedRow>,
    /// Keys that stand in the table more than once: any of their rows may be the wrong one.
    ambiguous: HashMap<String, u64>,
    /// What a key is modulo this is its row.
    modulus: u64,
}

impl ImageShard {
    pub(super) fn list(folder: &Path) -> Result<Vec<Self>> {
        let mut shards = Vec::new();
        for id in crate::list_shards(folder, "tar")? {
            shards.push(Self {
                number: id.0,
                tar: folder.join(format!("{id}.tar")),
                table: present(folder.join(format!("{id}.parquet")))?,
            });
        }
        for id in crate::list_shards(folder, "parquet")? {
            if !shards.is_empty() && shards.binary_search_by_key(&id.0, |shard| shard.number).is_err() {
                present(folder.join(format!("{id}.tar")))?;
            }
        }
        Ok(shards)
    }

    /// Both files.
    pub fn files(&self) -> Vec<&Path> {
        vec![&self.tar, &self.table]
    }

    /// Rows of the table.
    pub fn row_count(&self) -> Result<u64> {
        Ok(TableReader::<ReleasedRow>::open(&self.table)?.row_count())
    }

    /// Calls `each` for every row and for every picture without one: pictures in their order, then the rows without.
    pub fn read(&self, join: Join, mut each: impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        let mut rows = self.rows(join)?;
        let mut seen = HashSet::new();
        read_samples(&self.tar, |mut sample| {
            let name = sample.key.rsplit('/').next().unwrap_or_default().to_owned();
            let Some(picture) = picture(&mut sample) else { return Ok(()) };
            let key = normal(&name);
            if !seen.insert(key.clone()) {
                return each(Err(Status::Dropped(Reason::DuplicateKey)));
            }
            if let Some(times) = rows.ambiguous.remove(&key) {
                return (0..times).try_for_each(|_| each(Err(Status::Dropped(Reason::DuplicateKey))));
            }
            let Some(row) = rows.by_key.remove(&key) else { return each(Err(Status::Dropped(Reason::NoRow))) };
            each(self.example(&key, row, &sample, picture, join, rows.modulus))
        })?;
        for times in rows.ambiguous.into_values() {
            (0..times).try_for_each(|_| each(Err(Status::Dropped(Reason::DuplicateKey))))?;
        }
        (0..rows.by_key.len()).try_for_each(|_| each(Err(Status::Dropped(Reason::NoImage))))
    }

    fn example(
        &self,
        key: &str,
        row: ReleasedRow,
        sample: &TarSample,
        picture: Result<Vec<u8>, Status>,
        join: Join,
        modulus: u64,
    ) -> Outcome {
        let picture = picture?;
        if join == Join::Key && contradicts(sample, &row) {
            return Err(Status::Dropped(Reason::JoinMismatch));
        }
        let mut example = row.into_example().map_err(Status::Dropped)?;
        example.image = Some(picture);
        let place = key.parse::<u64>().map_or_else(|_| key.to_owned(), |number| (number % modulus).to_string());
        Ok((format!("{}_{place}", self.number), example))
    }

    fn rows(&self, join: Join) -> Result<Rows> {
        let reader = TableReader::<ReleasedRow>::open(&self.table)?;
        if reader.row_count() > SHARD_ROWS_MAX {
            let cause = format!("{} rows, at most {SHARD_ROWS_MAX} are joined", reader.row_count());
            return Err(Error::format(&self.table, cause));
        }
        let mut rows = Rows { by_key: HashMap::new(), ambiguous: HashMap::new(), modulus: u64::MAX };
        let mut shard_and_row = join == Join::Key;
        for (position, row) in reader.enumerate() {
            let row = row?;
            let key = match (join, &row.key) {
                (Join::Position, _) => position.to_string(),
                (Join::Key, Some(key)) => {
                    let shard = key.get(..SHARD_DIGITS).and_then(|digits| digits.parse().ok());
                    let modulus = 10u64.saturating_pow(key.len().saturating_sub(SHARD_DIGITS) as u32);
                    // All of them, and of one length: else two keys could be the same row.
                    shard_and_row &=
                        modulus > 1 && shard == Some(self.number) && (position == 0 || rows.modulus == modulus);
                    rows.modulus = modulus;
                    normal(key)
                }
                (Join::Key, None) => {
                    return Err(Error::format(&self.table, format!("row {position} has no key to join it by")));
                }
            };
            if let Some(times) = rows.ambiguous.get_mut(&key) {
                *times += 1;
            } else if rows.by_key.insert(key.clone(), row).is_some() {
                rows.by_key.remove(&key);
                rows.ambiguous.insert(key, 2);
            }
        }
        if !shard_and_row {
            rows.modulus = u64::MAX; // keys are rows, as before img2dataset 1.9.3
        }
        Ok(rows)
    }
}

/// Keys are compared as numbers where they are numbers.
fn normal(key: &str) -> String {
    match key.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.to_owned(),
        _ => key.to_owned(),
    }
}

/// The picture of a sample, or why it cannot be packed; `None` if the sample has no picture at all.
fn picture(sample: &mut TarSample) -> Option<Result<Vec<u8>, Status>> {
    if let Some(bytes) = ENDINGS.iter().find_map(|ending| sample.files.remove(*ending)) {
        return Some(check(bytes));
    }
    let other = OTHER_ENDINGS.iter().any(|ending| sample.files.contains_key(*ending));
    other.then_some(Err(Status::Dropped(Reason::ImageFormat)))
}

/// Looks at both ends of a file: what it is, and whether it was cut off.
fn check(bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
    let ends_with = |end: &[u8]| bytes.windows(end.len()).rev().any(|window| window == end);
    let whole = if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        ends_with(&[0xFF, 0xD9])
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        ends_with(b"IEND\xAE\x42\x60\x82")
    } else if bytes.starts_with(b"BM") {
        let length = bytes.get(2..6).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
        length.is_some_and(|length| length as usize <= bytes.len())
    } else if bytes.starts_with(b"GIF8") || (bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP")) {
        return Err(Status::Dropped(Reason::ImageFormat));
    } else {
        return Err(Status::Failed(Failure::NotAnImage));
    };
    if whole { Ok(bytes) } else { Err(Status::Failed(Failure::ImageDamaged)) }
}

/// What the JSON beside a picture says of its pair.
#[derive(Deserialize)]
struct Beside<'a> {
    #[serde(borrow)]
    url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    caption: Option<Cow<'a, str>>,
}

/// Whether the JSON beside the picture speaks of another pair. One that cannot be read says nothing.
fn contradicts(sample: &TarSample, row: &ReleasedRow) -> bool {
    let json = sample.files.get("json").and_then(|text| serde_json::from_slice::<Beside<'_>>(text).ok());
    let Some(json) = json else { return false };
    let differs = |there: Option<Cow<'_, str>>, here: &Option<String>| matches!((there, here), (Some(there), Some(here)) if there != *here);
    differs(json.url, &row.url) || differs(json.caption, &row.caption)
}
