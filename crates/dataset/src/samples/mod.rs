//! Pictures with captions, in whatever layout people have them.
//!
//! ```text
//! 00000.tar 00000.parquet                   img2dataset's WebDataset, LAION's, and ours
//! anything.tar                              a tar alone: its .txt and .json say what a table would
//! 00000/KEY.jpg KEY.txt … 00000.parquet     img2dataset's `files`
//! 00000.parquet                             img2dataset's `parquet`: pictures in a column named by their ending
//! 00000.tfrecord 00000.parquet              img2dataset's `tfrecord`
//! any/depth/name.jpg name.txt name.json     a folder of pictures; captions and JSON where there are any
//! ```
//! A caption is the `.txt` of its sample, which is what clip-retrieval and the loaders see, then the table's, then the
//! JSON's. All else comes from the table, or without one from the JSON. Of columns none but the key has to be there.

mod further;
mod source;
mod table;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::carried::Object;
use crate::files;
use crate::schema::{EmbeddingRow, hex, uid};
use crate::table::Batches;
use crate::webdataset::read_samples;
use crate::{Reason, Result, ShardId, Status, file_sha256};

pub use further::Further;
use source::{Files, Parts};
use table::{ShardTable, Slot, Told};

/// Endings of pictures, the first choice first. What such a file really is, its bytes tell.
const ENDINGS: [&str; 10] = ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "jfif", "avif"];

/// A shard of them.
#[derive(Clone, Debug)]
pub struct SampleShard {
    /// The number that its embeddings get: that of its name, or its place among the names in order.
    pub id: ShardId,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    /// What the names of its files have in common.
    Stem(PathBuf),
    /// Some pictures of a folder.
    Loose(Files),
}

/// How the pictures of a shard lie.
enum Form {
    Tar(PathBuf),
    Files(PathBuf),
    Records(PathBuf),
    /// The name of the column.
    Column(String),
}

/// A picture and what is known of it.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Sizes that nobody tells are 0, and an unknown caption, URL or page is empty.
    pub row: EmbeddingRow,
    /// Its row of [`Further`].
    pub number: usize,
    /// Encoded.
    pub picture: Vec<u8>,
}

/// What a shard gives, one after the other.
#[derive(Clone, Debug)]
pub enum Found {
    /// A picture.
    Sample(Box<Sample>),
    /// So many rows that have none, or none that is surely theirs, or pictures without a row.
    Lost(Status, u64),
    /// So many rows of the table that were never downloaded, as it says: nobody expects a picture of them.
    Absent(u64),
}

impl SampleShard {
    /// The shards of a folder, or the one that a tar or table is.
    pub fn list(input: &Path) -> Result<Vec<Self>> {
        if files::is_file(input)? {
            let stem = input.with_extension("");
            let number = stem.file_name().and_then(|name| name.to_str()).and_then(number).unwrap_or_default();
            return Ok(vec![Self { id: ShardId(number), place: Place::Stem(stem) }]);
        }
        let (tars, tables) = (stems(input, "tar")?, stems(input, "parquet")?);
        // A table without a tar is a shard that lacks one, unless its name is that of something else.
        let numbered = |name: &String| name.len() >= 5 && number(name).is_some();
        let of_tables = tables.iter().any(numbered) || !tars.is_empty();
        let mut names = tars;
        names.extend(tables.into_iter().filter(|name| !of_tables || numbered(name)));
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            let shards = source::loose(input)?.into_iter().zip(0..);
            return Ok(shards.map(|(files, id)| Self { id: ShardId(id), place: Place::Loose(files) }).collect());
        }
        let mut ids: Vec<Option<u32>> = names.iter().map(|name| number(name)).collect();
        ids.sort_unstable();
        ids.dedup();
        let by_number = ids.len() == names.len() && ids[0].is_some();
        let id = |name: &str, place: u32| number(name).filter(|_| by_number).unwrap_or(place);
        let mut shards: Vec<_> = names
            .iter()
            .zip(0..)
            .map(|(name, place)| Self { id: ShardId(id(name, place)), place: Place::Stem(input.join(name)) })
            .collect();
        shards.sort_by_key(|shard| shard.id);
        Ok(shards)
    }

    /// The shard of this number, named as img2dataset and this program do.
    pub fn at(folder: &Path, id: ShardId) -> Self {
        Self { id, place: Place::Stem(folder.join(id.to_string())) }
    }

    /// The table, if there is one.
    fn table(&self) -> Result<Option<PathBuf>> {
        let Place::Stem(stem) = &self.place else { return Ok(None) };
        let table = beside(stem, "parquet");
        Ok(files::exists(&table)?.then_some(table))
    }

    /// What results of this shard depend on: the content of the table; names and lengths where there is none, since to hash
    /// all pictures takes as long as to read them.
    pub fn inputs(&self) -> Result<Vec<String>> {
        if let Some(table) = self.table()? {
            return Ok(vec![file_sha256(&table)?]);
        }
        match &self.place {
            Place::Stem(stem) => {
                let tar = beside(stem, "tar");
                let name = tar.file_name().unwrap_or_default().to_string_lossy();
                Ok(vec![format!("{name}: {} bytes", files::length(&tar)?)])
            }
            Place::Loose(files) => files.described().map(|described| vec![described]),
        }
    }

    /// How many rows there are, if that is known without reading all.
    pub fn row_count(&self) -> Result<Option<u64>> {
        match (&self.place, self.table()?) {
            (_, Some(table)) => Ok(Some(Batches::open(&table, 1, Some(&[]))?.row_count())),
            (Place::Loose(files), None) => Ok(Some(files.len() as u64)),
            (Place::Stem(_), None) => Ok(None),
        }
    }

    /// Calls `each` for all that the shard has, in the order of its pictures. A file that is damaged, or lacks a picture
    /// which its table says was downloaded, is an error.
    pub fn read(&self, mut each: impl FnMut(Found) -> Result<()>) -> Result<Further> {
        let stem = match &self.place {
            Place::Stem(stem) => stem,
            Place::Loose(files) => {
                let mut alone = Alone::default();
                files.read(|parts| alone.push(parts).map_or(Ok(()), &mut each))?;
                return Ok(Further::Objects(alone.objects));
            }
        };
        let (form, table) = (form(stem)?, self.table()?);
        let Some(path) = table else {
            let mut alone = Alone::default();
            if let Form::Tar(tar) = form {
                read_samples(&tar, |sample| alone.push(sample.into()).map_or(Ok(()), &mut each))?;
            }
            return Ok(Further::Objects(alone.objects));
        };
        if let Form::Column(name) = form {
            let table = ShardTable::read(&path, Some(&name))?;
            if table.absent > 0 {
                each(Found::Absent(table.absent))?;
            }
            source::column(&path, &name, |number, picture| match picture {
                _ if !table.is_wanted(number) => Ok(()),
                None => each(Found::Lost(Status::Dropped(Reason::NoImage), 1)),
                Some(picture) => {
                    let key = table.key(number).unwrap_or_else(|| format!("{}{number:04}", self.id));
                    each(found(table.told(number), key.clone(), key, number, picture))
                }
            })?;
            return Ok(table.into_further());
        }
        let mut table = ShardTable::read(&path, None)?;
        if table.absent > 0 {
            each(Found::Absent(table.absent))?;
        }
        let mut take = |parts: Parts| joined(&mut table, parts).map_or(Ok(()), &mut each);
        let pictures = match &form {
            Form::Files(folder) => {
                Files::of_shard(folder)?.read(&mut take)?;
                folder
            }
            Form::Records(records) => {
                source::records(records, &mut take)?;
                records
            }
            Form::Tar(tar) => {
                read_samples(tar, |sample| take(sample.into()))?;
                tar
            }
            Form::Column(_) => unreachable!("read above"),
        };
        for (status, rows) in table.left(pictures)? {
            each(Found::Lost(status, rows))?;
        }
        Ok(table.into_further())
    }
}

/// A picture without a table.
#[derive(Default)]
struct Alone {
    objects: Vec<Object>,
}

impl Alone {
    fn push(&mut self, mut parts: Parts) -> Option<Found> {
        let json = parts.files.remove("json").unwrap_or_default();
        let object = further::flattened(&json);
        let mut told = Told::of_object(&object);
        told.caption = parts.text().or(told.caption);
        let Some(picture) = parts.picture() else { return Some(Found::Lost(Status::Dropped(Reason::NoImage), 1)) };
        let number = self.objects.len();
        self.objects.push(object);
        let key = told.key.clone().unwrap_or_else(|| parts.key.clone());
        Some(found(told, parts.image_path, key, number, picture))
    }
}

/// A picture and its row.
fn joined(table: &mut ShardTable, mut parts: Parts) -> Option<Found> {
    let (text, picture) = (parts.text(), parts.picture());
    match (table.take(&parts.key), picture) {
        (Slot::Row(number), Some(picture)) => {
            let mut told = table.told(number);
            told.caption = text.or(told.caption);
            let key = table.key(number).unwrap_or(parts.key);
            Some(found(told, parts.image_path, key, number, picture))
        }
        (Slot::Row(_), None) => Some(Found::Lost(Status::Dropped(Reason::NoImage), 1)),
        (Slot::Ambiguous(rows), _) => Some(Found::Lost(Status::Dropped(Reason::DuplicateKey), rows)),
        (Slot::Taken, Some(_)) => Some(Found::Lost(Status::Dropped(Reason::DuplicateKey), 1)),
        (Slot::None, Some(_)) => Some(Found::Lost(Status::Dropped(Reason::NoRow), 1)),
        (Slot::Taken | Slot::None, None) => None, // a file that is no sample, or more of one that was told
    }
}

fn found(told: Told, image_path: String, key: String, number: usize, picture: Vec<u8>) -> Found {
    let (caption, url) = (told.caption.unwrap_or_default(), told.url.unwrap_or_default());
    let row = EmbeddingRow {
        image_path,
        uid: told.uid.filter(|uid| !uid.is_empty()).unwrap_or_else(|| uid(&caption, &url)),
        caption,
        url,
        key,
        page_url: told.page_url.unwrap_or_default(),
        // LAION writes a question mark where it knows none.
        license: told.license.filter(|license| !license.is_empty() && license != "?"),
        language: told.language.filter(|language| !language.is_empty()),
        width: told.size.0.unwrap_or_default(),
        height: told.size.1.unwrap_or_default(),
        original_width: told.original_size.0.unwrap_or_default(),
        original_height: told.original_size.1.unwrap_or_default(),
        ..EmbeddingRow::default()
    };
    Found::Sample(Box::new(Sample {
        row: EmbeddingRow { sha256: told.sha256.unwrap_or_default(), ..row },
        number,
        picture,
    }))
}

/// How the pictures lie of a shard whose files start so.
fn form(stem: &Path) -> Result<Form> {
    let (tar, records, table) = (beside(stem, "tar"), beside(stem, "tfrecord"), beside(stem, "parquet"));
    if files::exists(&tar)? {
        return Ok(Form::Tar(tar));
    }
    if files::is_dir(stem)? {
        return Ok(Form::Files(stem.into()));
    }
    if files::exists(&records)? {
        return Ok(Form::Records(records));
    }
    if files::exists(&table)?
        && let Some(name) = source::picture_column(&table)?
    {
        return Ok(Form::Column(name));
    }
    let _ = files::length(&tar)?; // whose error says what is missing
    Ok(Form::Tar(tar))
}

/// The file of a shard with this ending. Dots in the name are its own.
fn beside(stem: &Path, ending: &str) -> PathBuf {
    let mut path = stem.as_os_str().to_owned();
    path.push(format!(".{ending}"));
    path.into()
}

/// Names of the files with this ending, without it.
fn stems(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in files::list(folder)? {
        let name = entry.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = name.strip_suffix(ending).and_then(|name| name.strip_suffix('.'));
        found.extend(
            stem.filter(|stem| !stem.is_empty() && !stem.starts_with('.') && entry.is_file()).map(str::to_owned),
        );
    }
    Ok(found)
}

/// The number that a name of digits is.
fn number(name: &str) -> Option<u32> {
    name.bytes().all(|byte| byte.is_ascii_digit()).then(|| name.parse().ok())?
}
