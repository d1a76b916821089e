//! Pictures and their rows, joined by key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use memchr::memmem;
use serde::Deserialize;

use super::row::{COLUMNS, Columns};
use super::{Found, Outcome, present};
use crate::members::{Member, Members};
use crate::table::Batches;
use crate::tfds::Content;
use crate::webdataset::{read_range, split_name};
use crate::{Error, Failure, Reason, Result, Status};

/// Rows of a shard that are held in memory; img2dataset's default is 10,000.
const SHARD_ROWS_MAX: u64 = 1 << 20;
/// Digits of the shard in img2dataset's keys since 1.9.3.
const SHARD_DIGITS: usize = 5;
/// Endings of the pictures that TFDS can read back, the first choice first.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "jpe"];
/// Endings of pictures that TFDS stores and cannot read back: it decodes them to four dimensions, or not at all.
const OTHER_ENDINGS: [&str; 6] = ["webp", "gif", "avif", "jxl", "tif", "tiff"];
/// A JPEG or PNG that is whole nearly always has its end mark within so many bytes of its end.
const END_BYTES: usize = 64;

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
        Ok(Batches::open(&self.table, 1, Some(&[]))?.row_count())
    }

    /// Calls `each` for every row and for every picture without one: pictures in their order, then the rows without.
    pub fn read(&self, join: Join, mut each: impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        self.scan(join, true, |found| {
            each(match found {
                Ok((key, mut example, content)) => {
                    example.image = Some(match content {
                        Content::PictureAt { path, offset, bytes } => read_range(path, offset, bytes)?,
                        Content::Picture(picture) => picture.to_vec(),
                        Content::Embeddings { .. } => Vec::new(),
                    });
                    Ok((key, example))
                }
                Err(status) => Err(status),
            })
        })
    }

    /// The same without the pictures. Those of a tar that is not compressed are not even read, but for both ends,
    /// unless `whole` asks for it: then they come along as bytes.
    pub fn scan(&self, join: Join, whole: bool, mut each: impl FnMut(Found<'_>) -> Result<()>) -> Result<()> {
        let mut rows = Rows::read(&self.table, join, self.number)?;
        let mut members = Members::open(&self.tar)?;
        let whole = whole || !members.is_plain();
        let mut sample = Sample::default();
        loop {
            let member = members.next()?;
            let parts = member.as_ref().map(|member| (member, split_name(&member.name)));
            let Some((member, Some((key, ending)))) = parts else {
                match parts {
                    Some(_) => continue,
                    None => break,
                }
            };
            if sample.key != key {
                self.enter(&sample, join, &mut rows, &mut each)?;
                sample.start(key);
            }
            sample.add(ending, member, &mut members, whole, join == Join::Key)?;
        }
        self.enter(&sample, join, &mut rows, &mut each)?;
        for slot in rows.by_key.into_values() {
            match slot {
                Slot::Row(..) => each(Err(Status::Dropped(Reason::NoImage)))?,
                Slot::Ambiguous(times) => {
                    (0..times).try_for_each(|_| each(Err(Status::Dropped(Reason::DuplicateKey))))?;
                }
                Slot::Taken => {}
            }
        }
        Ok(())
    }

    /// Gives a sample its row.
    fn enter(
        &self,
        sample: &Sample,
        join: Join,
        rows: &mut Rows,
        each: &mut impl FnMut(Found<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(picture) = sample.picture() else { return Ok(()) };
        let key = Key::new(sample.key.rsplit('/').next().unwrap_or_default());
        let (batch, row) = match rows.by_key.entry(key.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(Slot::Taken);
                return each(Err(Status::Dropped(Reason::NoRow)));
            }
            Entry::Occupied(mut entry) => match entry.insert(Slot::Taken) {
                Slot::Row(batch, row) => (&rows.batches[batch as usize], row as usize),
                Slot::Ambiguous(times) => {
                    return (0..times).try_for_each(|_| each(Err(Status::Dropped(Reason::DuplicateKey))));
                }
                Slot::Taken => return each(Err(Status::Dropped(Reason::DuplicateKey))),
            },
        };
        let (offset, bytes) = match picture {
            Ok(place) => place,
            Err(status) => return each(Err(status)),
        };
        if join == Join::Key && sample.contradicts(batch.url(row), batch.caption(row)) {
            return each(Err(Status::Dropped(Reason::JoinMismatch)));
        }
        let example = match batch.example(row) {
            Ok(example) => example,
            Err(reason) => return each(Err(Status::Dropped(reason))),
        };
        let place = match key {
            Key::Number(number) => format!("{}_{}", self.number, number % rows.modulus),
            Key::Text(text) => format!("{}_{text}", self.number),
        };
        each(Ok((
            place,
            example,
            match &sample.content {
                Some(picture) => Content::Picture(picture),
                None => Content::PictureAt { path: &self.tar, offset, bytes },
            },
        )))
    }
}

/// Keys are compared as numbers where they are numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Number(u64),
    Text(String),
}

impl Key {
    pub(crate) fn new(key: &str) -> Self {
        let digits = key.trim_start_matches('0');
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::Text(key.to_owned());
        }
        match digits.parse() {
            _ if digits.is_empty() => Self::Number(0),
            Ok(number) => Self::Number(number),
            Err(_) => Self::Text(digits.to_owned()),
        }
    }
}

/// The rows of a shard.
#[derive(Default)]
struct Rows {
    batches: Vec<Columns>,
    by_key: HashMap<Key, Slot>,
    /// What a key is modulo this is its row.
    modulus: u64,
}

/// What stands under a key.
enum Slot {
    /// Batch and row in it.
    Row(u32, u32),
    /// So many rows: any of them may be the wrong one.
    Ambiguous(u64),
    /// A picture had it.
    Taken,
}

impl Rows {
    fn read(table: &Path, join: Join, shard: u32) -> Result<Self> {
        let reader = Batches::open(table, super::BATCH_ROWS, Some(&COLUMNS))?;
        if reader.row_count() > SHARD_ROWS_MAX {
            let cause = format!("{} rows, at most {SHARD_ROWS_MAX} are joined", reader.row_count());
            return Err(Error::format(table, cause));
        }
        let mut rows = Self::default();
        let mut shard_and_row = join == Join::Key;
        let mut position = 0;
        for batch in reader {
            let columns = Columns::new(&batch?).map_err(|cause| Error::format(table, cause))?;
            for row in 0..columns.len() {
                let key = match (join, columns.key(row)) {
                    (Join::Position, _) => Key::Number(position),
                    (Join::Key, Some(key)) => {
                        let digits = key.get(..SHARD_DIGITS).and_then(|digits| digits.parse().ok());
                        let modulus = 10u64.saturating_pow(key.len().saturating_sub(SHARD_DIGITS) as u32);
                        // All of them, and of one length: else two keys could be the same row.
                        shard_and_row &=
                            modulus > 1 && digits == Some(shard) && (position == 0 || rows.modulus == modulus);
                        rows.modulus = modulus;
                        Key::new(key)
                    }
                    (Join::Key, None) => {
                        return Err(Error::format(table, format!("row {position} has no key to join it by")));
                    }
                };
                rows.by_key
                    .entry(key)
                    .and_modify(|slot| {
                        *slot = Slot::Ambiguous(if let Slot::Ambiguous(times) = slot { *times + 1 } else { 2 });
                    })
                    .or_insert(Slot::Row(rows.batches.len() as u32, row as u32));
                position += 1;
            }
            rows.batches.push(columns);
        }
        if !shard_and_row {
            rows.modulus = u64::MAX; // keys are rows, as before img2dataset 1.9.3
        }
        Ok(rows)
    }
}

/// Offset and length of a picture, or why it cannot be packed.
type Place = Result<(u64, usize), Status>;

/// What is known of a sample: of its files no more than packing needs.
#[derive(Default)]
struct Sample {
    key: String,
    /// Place among the endings, and where the picture lies or why it cannot be packed.
    picture: Option<(usize, Place)>,
    /// The picture, if it comes along.
    content: Option<Vec<u8>>,
    /// Whether there is a picture of a format that cannot be packed.
    other: bool,
    /// The JSON beside the picture, if there is any.
    json: Vec<u8>,
}

impl Sample {
    fn start(&mut self, key: &str) {
        self.key.clear();
        self.key.push_str(key);
        (self.picture, self.content, self.other) = (None, None, false);
        self.json.clear();
    }

    fn add(
        &mut self,
        ending: &str,
        member: &Member,
        members: &mut Members,
        whole: bool,
        needs_json: bool,
    ) -> Result<()> {
        let is = |known: &&str| known.eq_ignore_ascii_case(ending);
        if let Some(rank) = ENDINGS.iter().position(is) {
            if self.picture.as_ref().is_none_or(|&(earlier, _)| rank <= earlier) {
                let checked = check(member, members, whole)?;
                self.content = match checked {
                    Ok(()) if whole => Some(members.part(member, 0, member.bytes as usize)?.to_vec()),
                    _ => None,
                };
                self.picture = Some((rank, checked.map(|()| (member.offset, member.bytes as usize))));
            }
        } else if needs_json && ending.eq_ignore_ascii_case("json") {
            self.json.clear();
            self.json.extend_from_slice(members.part(member, 0, member.bytes as usize)?);
        } else {
            self.other |= OTHER_ENDINGS.iter().any(is);
        }
        Ok(())
    }

    /// The picture, or why it cannot be packed; `None` if the sample has no picture at all.
    fn picture(&self) -> Option<Place> {
        let other = self.other.then_some(Err(Status::Dropped(Reason::ImageFormat)));
        self.picture.as_ref().map(|&(_, picture)| picture).or(other)
    }

    /// Whether the JSON has the value letter by letter after the name, as img2dataset writes it: that takes a fraction of
    /// the time of parsing it all. A value with escapes is not looked for.
    fn says(&self, start: &str, value: Option<&str>) -> bool {
        let there = |at: usize, value: &str| {
            self.json[at + start.len()..].strip_prefix(value.as_bytes()).is_some_and(|rest| rest.starts_with(b"\""))
        };
        value.is_none_or(|value| {
            let plain = !value.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..0x20));
            plain && memmem::find_iter(&self.json, start).any(|at| there(at, value))
        })
    }

    /// Whether the JSON beside the picture speaks of another pair. One that cannot be read says nothing.
    fn contradicts(&self, url: Option<&str>, caption: Option<&str>) -> bool {
        if self.says("\"url\": \"", url) && self.says("\"caption\": \"", caption) {
            return false;
        }
        let Ok(json) = serde_json::from_slice::<Beside<'_>>(&self.json) else { return false };
        let differs = |there: Option<Cow<'_, str>>, here: Option<&str>| matches!((there, here), (Some(there), Some(here)) if there != here);
        differs(json.url, url) || differs(json.caption, caption)
    }
}

/// What the JSON beside a picture says of its pair.
#[derive(Deserialize)]
struct Beside<'a> {
    #[serde(borrow)]
    url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    caption: Option<Cow<'a, str>>,
}

/// Looks at both ends of a picture: what it is, and whether it was cut off.
fn check(member: &Member, members: &mut Members, whole: bool) -> Result<Result<(), Status>> {
    let bytes = member.bytes as usize;
    let looked_at = if whole { bytes } else { bytes.min(END_BYTES) };
    let head = members.part(member, 0, looked_at)?;
    let end: &[u8] = if head.starts_with(&[0xFF, 0xD8, 0xFF]) {
        &[0xFF, 0xD9]
    } else if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        b"IEND\xAE\x42\x60\x82"
    } else if head.starts_with(b"BM") {
        let length = head.get(2..6).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
        let is_whole = length.is_some_and(|length| length as usize <= bytes);
        return Ok(if is_whole { Ok(()) } else { Err(Status::Failed(Failure::ImageDamaged)) });
    } else if head.starts_with(b"GIF8") || (head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP")) {
        return Ok(Err(Status::Dropped(Reason::ImageFormat)));
    } else {
        return Ok(Err(Status::Failed(Failure::NotAnImage)));
    };
    let ends = |part: &[u8]| part.windows(end.len()).rev().any(|window| window == end);
    let found = ends(head)
        || (!whole && ends(members.part(member, (bytes - looked_at) as u64, looked_at)?))
        || (!whole && ends(members.part(member, 0, bytes)?));
    Ok(if found { Ok(()) } else { Err(Status::Failed(Failure::ImageDamaged)) })
}
