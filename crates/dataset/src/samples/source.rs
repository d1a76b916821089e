//! Where pictures lie, and what lies beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_cast::cast;
use arrow_schema::DataType;
use fs_err as fs;
use sha2::{Digest, Sha256};

use super::{ENDINGS, HashMap, hex};
use crate::files;
use crate::proto::{self, Feature};
use crate::table::Batches;
use crate::tfrecord::RecordReader;
use crate::webdataset::TarSample;
use crate::{Error, Result, SHARD_ROWS};

/// Pictures of a plain folder whose names are held in memory: a gigabyte of names. Tars have no such limit.
const FILES_MAX: usize = 10_000_000;
/// Longest file of a folder that is read, as of a tar.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Pictures of a column in memory at a time.
const BATCH_ROWS: usize = 64;

/// The files of a sample.
pub(super) struct Parts {
    pub(super) key: String,
    pub(super) image_path: String,
    /// Content by lower-case ending.
    pub(super) files: HashMap<String, Vec<u8>>,
}

impl From<TarSample> for Parts {
    fn from(TarSample { key, files }: TarSample) -> Self {
        Self { image_path: key.clone(), key, files }
    }
}

impl Parts {
    /// The caption beside the picture.
    pub(super) fn text(&mut self) -> Option<String> {
        let text = self.files.remove("txt")?;
        Some(String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    pub(super) fn picture(&mut self) -> Option<Vec<u8>> {
        ENDINGS.iter().find_map(|ending| self.files.remove(*ending))
    }
}

/// Files of a folder that are samples, in the order of their keys.
#[derive(Clone, Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// What the names of a sample's files have in common, and their endings as they stand there.
    names: Vec<(String, Vec<String>)>,
}

impl Files {
    /// Those of one shard of img2dataset.
    pub(super) fn of_shard(folder: &Path) -> Result<Self> {
        let root = folder.parent().unwrap_or(Path::new(".")).to_owned();
        let mut names = BTreeMap::new();
        list(&root, folder, &mut names)?;
        Ok(Self { root, names: names.into_iter().collect() })
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    fn paths<'a>(&'a self, (key, endings): &'a (String, Vec<String>)) -> impl Iterator<Item = (&'a str, PathBuf)> {
        endings.iter().map(move |ending| (ending.as_str(), self.root.join(format!("{key}.{ending}"))))
    }

    /// Names and lengths, as one hash.
    pub(super) fn described(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for sample in &self.names {
            for (ending, path) in self.paths(sample) {
                hash.update(format!("{}.{ending}: {} bytes\n", sample.0, files::length(&path)?));
            }
        }
        Ok(format!("{} samples, {}", self.names.len(), hex(&hash.finalize())))
    }

    pub(super) fn read(&self, mut each: impl FnMut(Parts) -> Result<()>) -> Result<()> {
        for sample in &self.names {
            let mut files = HashMap::new();
            for (ending, path) in self.paths(sample) {
                let bytes = files::length(&path)?;
                if bytes > FILE_BYTES_MAX {
                    return Err(Error::format(&path, format!("{bytes} bytes, over the limit of {FILE_BYTES_MAX}")));
                }
                files.insert(ending.to_ascii_lowercase(), files::read(path)?);
            }
            let key = &sample.0;
            let picture = |wanted: &&str| sample.1.iter().find(|ending| ending.eq_ignore_ascii_case(wanted));
            let ending = ENDINGS.iter().find_map(picture).map_or("", String::as_str);
            each(Parts { image_path: format!("{key}.{ending}"), key: key.clone(), files })?;
        }
        Ok(())
    }
}

/// The pictures of a folder, at any depth, 10,000 to a shard.
pub(super) fn loose(root: &Path) -> Result<Vec<Files>> {
    let mut names = BTreeMap::new();
    list(root, root, &mut names)?;
    names.retain(|_, endings: &mut Vec<String>| endings.iter().any(|ending| is_picture(ending)));
    if names.is_empty() {
        let cause = "neither NNNNN.tar, nor NNNNN.parquet, nor pictures (jpg, png, webp)";
        return Err(Error::Invalid(format!("{}: {cause}", root.display())));
    }
    let names: Vec<_> = names.into_iter().collect();
    let shard = |names: &[_]| Files { root: root.into(), names: names.to_vec() };
    Ok(names.chunks(SHARD_ROWS as usize).map(shard).collect())
}

fn is_picture(ending: &str) -> bool {
    ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending))
}

/// Adds the files below `folder` that belong to samples, by their paths from `root`; links to folders are not followed.
fn list(root: &Path, folder: &Path, names: &mut BTreeMap<String, Vec<String>>) -> Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in files::list(&folder)? {
            let path = &entry.path;
            let below = path.strip_prefix(root).unwrap_or(path);
            let Some(name) = below.to_str() else {
                return Err(Error::Invalid(format!("read {}: the name is not text", path.display())));
            };
            if path.file_name().unwrap_or_default().to_string_lossy().starts_with('.') {
                continue;
            }
            if entry.is_dir {
                folders.push(entry.path);
            } else if let Some((key, ending)) = name.rsplit_once('.')
                && (is_picture(ending) || ["txt", "json"].iter().any(|known| known.eq_ignore_ascii_case(ending)))
                && (files::is_remote(path) || fs::metadata(path)?.is_file())
            {
                names.entry(key.into()).or_default().push(ending.into());
            }
        }
        if names.len() > FILES_MAX {
            let cause = format!("more than {FILES_MAX} pictures: put them into tars");
            return Err(Error::Invalid(format!("{}: {cause}", root.display())));
        }
    }
    names.values_mut().for_each(|endings| endings.sort_unstable());
    Ok(())
}

/// The Examples of img2dataset's records.
pub(super) fn records(path: &Path, mut each: impl FnMut(Parts) -> Result<()>) -> Result<()> {
    for record in RecordReader::open(path)? {
        let record = record?;
        let (mut key, mut files) = (None, HashMap::new());
        let sound = proto::decode(&record, |name, feature| {
            let (Ok(name), Feature::Bytes(bytes)) = (std::str::from_utf8(name), feature) else { return };
            if name == "key" {
                key = Some(String::from_utf8_lossy(bytes).into_owned());
            } else if name == "txt" || is_picture(name) {
                files.insert(name.to_owned(), bytes.to_vec());
            }
        });
        let Some((key, ())) = key.zip(sound) else {
            return Err(Error::format(path, "a record that is no Example with a key"));
        };
        each(Parts { image_path: key.clone(), key, files })?;
    }
    Ok(())
}

/// The column with pictures of a table, if it has one.
pub(super) fn picture_column(table: &Path) -> Result<Option<String>> {
    let schema = crate::table::schema(table)?;
    let is_bytes = |name: &&str| {
        let field = schema.field_with_name(name);
        field.is_ok_and(|field| {
            matches!(field.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
        })
    };
    Ok(ENDINGS.into_iter().find(is_bytes).map(str::to_owned))
}

/// The pictures of a column with the numbers of their rows.
pub(super) fn column(
    path: &Path,
    name: &str,
    mut each: impl FnMut(usize, Option<Vec<u8>>) -> Result<()>,
) -> Result<()> {
    let mut number = 0;
    for batch in Batches::open(path, BATCH_ROWS, Some(&[name]))? {
        let bytes: ArrayRef =
            cast(batch?.column(0), &DataType::LargeBinary).map_err(|error| Error::format(path, error))?;
        let bytes = bytes.as_binary::<i64>();
        for row in 0..bytes.len() {
            each(number, bytes.is_valid(row).then(|| bytes.value(row).to_vec()))?;
            number += 1;
        }
    }
    Ok(())
}
