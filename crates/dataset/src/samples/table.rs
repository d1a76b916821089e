//! The table of a shard: what it says of its rows, and which row a picture has.

use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use arrow_array::{Array, Float64Array, RecordBatch, StringArray};
use serde_json::Value;

use super::{Further, HashMap};
use crate::carried::Object;
use crate::released::{Key, number_column, size, text_column};
use crate::table::{columns, read_batch};
use crate::{Error, Reason, Result, Status};

/// Rows of a shard that are held in memory; img2dataset's default is 10,000.
const SHARD_ROWS_MAX: usize = 1 << 20;

/// Names of columns, the first choice first: img2dataset's and LAION's.
const KEY: &[&str] = &["key", "KEY"];
const CAPTION: &[&str] = &["caption", "CAPTION", "TEXT", "text"];
const URL: &[&str] = &["url", "URL"];
const STATUS: &[&str] = &["status", "STATUS"];
const UID: &[&str] = &["uid", "UID"];
const PAGE_URL: &[&str] = &["page_url", "PAGE_URL"];
const LICENSE: &[&str] = &["license", "LICENSE"];
const LANGUAGE: &[&str] = &["language", "LANGUAGE"];
const SHA256: &[&str] = &["sha256", "SHA256"];
/// In capitals they are the size that the web had.
const WIDTH: &[&str] = &["width"];
const HEIGHT: &[&str] = &["height"];
const ORIGINAL_WIDTH: &[&str] = &["original_width", "ORIGINAL_WIDTH", "WIDTH"];
const ORIGINAL_HEIGHT: &[&str] = &["original_height", "ORIGINAL_HEIGHT", "HEIGHT"];

/// What is said of a sample.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) key: Option<String>,
    pub(super) caption: Option<String>,
    pub(super) url: Option<String>,
    pub(super) uid: Option<String>,
    pub(super) page_url: Option<String>,
    pub(super) license: Option<String>,
    pub(super) language: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) size: (Option<i32>, Option<i32>),
    pub(super) original_size: (Option<i32>, Option<i32>),
}

impl Told {
    fn new(text: impl Fn(&[&str]) -> Option<String>, number: impl Fn(&[&str]) -> Option<f64>) -> Self {
        let sized = |names: &[&str]| number(names).and_then(size);
        Self {
            key: text(KEY),
            caption: text(CAPTION),
            url: text(URL),
            uid: text(UID),
            page_url: text(PAGE_URL),
            license: text(LICENSE),
            language: text(LANGUAGE),
            sha256: text(SHA256),
            size: (sized(WIDTH), sized(HEIGHT)),
            original_size: (sized(ORIGINAL_WIDTH), sized(ORIGINAL_HEIGHT)),
        }
    }

    /// What the JSON beside a picture says.
    pub(super) fn of_object(object: &Object) -> Self {
        let value = |names: &[&str]| names.iter().find_map(|name| object.get(*name));
        let text = |names: &[&str]| match value(names)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        Self::new(text, |names| value(names)?.as_f64())
    }
}

/// What became of the row of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// It waits for its picture.
    Row(usize),
    /// So many rows have the key: any of them may be the wrong one.
    Ambiguous(u64),
    /// A picture had it.
    Taken,
    /// There is none.
    None,
}

pub(super) struct ShardTable {
    path: PathBuf,
    all: RecordBatch,
    texts: HashMap<&'static str, StringArray>,
    numbers: HashMap<&'static str, Float64Array>,
    slots: HashMap<Key, Slot>,
    /// Rows that were not downloaded.
    pub(super) absent: u64,
}

impl ShardTable {
    /// Reads all columns but that of the pictures, which may do without keys.
    pub(super) fn read(path: &Path, pictures: Option<&str>) -> Result<Self> {
        let names = columns(path)?;
        let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| Some(*name) != pictures).collect();
        let all = read_batch(path, &names, SHARD_ROWS_MAX)?;
        let wrong = |cause| Error::format(path, cause);
        let (mut found, mut sizes) = (HashMap::new(), HashMap::new());
        for names in [KEY, CAPTION, URL, STATUS, UID, PAGE_URL, LICENSE, LANGUAGE, SHA256] {
            found.extend(text_column(&all, names).map_err(wrong)?.map(|column| (names[0], column)));
        }
        for names in [WIDTH, HEIGHT, ORIGINAL_WIDTH, ORIGINAL_HEIGHT] {
            sizes.extend(number_column(&all, names).map_err(wrong)?.map(|column| (names[0], column)));
        }
        let mut table = Self { path: path.into(), all, texts: found, numbers: sizes, slots: HashMap::new(), absent: 0 };
        for row in 0..table.all.num_rows() {
            if !table.is_wanted(row) {
                table.absent += 1;
            } else if pictures.is_none() {
                let Some(key) = table.key(row) else {
                    return Err(Error::format(
                        path,
                        format!("row {row} has no key, by which pictures find their rows"),
                    ));
                };
                table
                    .slots
                    .entry(Key::new(&key))
                    .and_modify(|slot| {
                        *slot = Slot::Ambiguous(if let Slot::Ambiguous(rows) = slot { *rows + 1 } else { 2 });
                    })
                    .or_insert(Slot::Row(row));
            }
        }
        Ok(table)
    }

    fn text(&self, names: &[&str], row: usize) -> Option<String> {
        let column = self.texts.get(names[0])?;
        column.is_valid(row).then(|| column.value(row).to_owned())
    }

    pub(super) fn key(&self, row: usize) -> Option<String> {
        self.text(KEY, row)
    }

    /// Whether the row has a picture, as far as it knows.
    pub(super) fn is_wanted(&self, row: usize) -> bool {
        let status = self.texts.get(STATUS[0]);
        status.is_none_or(|status| status.is_valid(row) && status.value(row) == "success")
    }

    pub(super) fn told(&self, row: usize) -> Told {
        let number = |names: &[&str]| {
            let column = self.numbers.get(names[0])?;
            column.is_valid(row).then(|| column.value(row))
        };
        Told::new(|names| self.text(names, row), number)
    }

    /// The row of a key, which is that of no other picture then. Keys are compared without the folders before them.
    pub(super) fn take(&mut self, key: &str) -> Slot {
        let key = Key::new(key.rsplit('/').next().unwrap_or_default());
        match self.slots.entry(key) {
            Entry::Occupied(mut entry) => entry.insert(Slot::Taken),
            Entry::Vacant(_) => Slot::None,
        }
    }

    /// What becomes of the rows without a picture. A table that says it was downloaded is an error of `pictures`.
    pub(super) fn left(&self, pictures: &Path) -> Result<Vec<(Status, u64)>> {
        let (mut waiting, mut ambiguous) = (Vec::new(), 0);
        for slot in self.slots.values() {
            match slot {
                Slot::Row(row) => waiting.push(*row),
                Slot::Ambiguous(rows) => ambiguous += rows,
                Slot::Taken | Slot::None => {}
            }
        }
        if let (Some(&row), true) = (waiting.iter().min(), self.texts.contains_key(STATUS[0])) {
            let first = self.key(row).unwrap_or_default();
            let table = self.path.file_name().unwrap_or_default().to_string_lossy();
            let cause = format!("{} images of {table} are missing, the first is {first}", waiting.len());
            return Err(Error::format(pictures, cause));
        }
        let missing = (Status::Dropped(Reason::NoImage), waiting.len() as u64);
        let doubtful = (Status::Dropped(Reason::DuplicateKey), ambiguous);
        Ok([missing, doubtful].into_iter().filter(|(_, rows)| *rows > 0).collect())
    }

    pub(super) fn into_further(self) -> Further {
        Further::Table(self.all)
    }
}
