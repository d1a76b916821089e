//! `croissant.json`: what a package is, which files it has and which fields its records, for machines. MLCommons
//! Croissant 1.0, a JSON-LD document.
//!
//! Every file is a `FileObject` with its SHA-256, so a package that was copied can be checked without its marker; but for
//! TFRecord and ArrayRecord files, which have a checksum in every record, and whose hashes would take longer than packing
//! them does. Records
//! are read from a `FileSet`, a pattern relative to the document. Its `containedIn` stays empty: where it lists the
//! files, mlcroissant 1.1 finds no records. Source: docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html

mod packages;

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::files;
use crate::publish::{FileEntry, file_sha256, publish};
use crate::tfds::{CITATION, HOMEPAGE};
use crate::{Error, Result};

pub use packages::{Kind, describe};

/// The name of the document in its package.
pub const CROISSANT: &str = "croissant.json";
/// The largest document that is read: LAION-400M has 83,000 files, a third of a KiB each.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
/// Of the packages; that of the dataset in the TFDS catalogue.
const VERSION: &str = "1.0.0";

const TFRECORD: &str = "application/x-tfrecord";
const ARRAY_RECORD: &str = "application/x-array-record";

/// Where the pairs come from, which decides under what terms they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Files that LAION released, or that were downloaded from its list.
    Laion400m,
    /// A crawl of one's own.
    Crawl,
}

impl Origin {
    /// LAION publishes its metadata as CC BY 4.0. Nobody but its owner can say it of a crawl.
    pub fn license(self) -> &'static str {
        match self {
            Self::Laion400m => "https://creativecommons.org/licenses/by/4.0/",
            Self::Crawl => "unknown",
        }
    }
}

/// What a package is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// In the name of the dataset.
    pub name: String,
    /// A sentence or two, with counts.
    pub text: String,
    /// Decides the licence.
    pub origin: Origin,
    /// Files of a kind.
    pub sets: Vec<FileSet>,
    /// Of a record.
    pub fields: Vec<Field>,
}

/// Files of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSet {
    /// What fields call it.
    pub id: &'static str,
    /// A pattern below the package.
    pub includes: &'static str,
    /// Media type.
    pub encoding: &'static str,
    /// For people.
    pub text: &'static str,
}

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its column.
    pub name: &'static str,
    /// Whose column it is.
    pub set: &'static str,
    /// What it holds.
    pub kind: FieldKind,
    /// For people.
    pub text: &'static str,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Words.
    Text,
    /// An address.
    Url,
    /// A number.
    Integer,
    /// A number with a fraction.
    Float,
    /// A vector.
    Floats,
    /// An encoded picture.
    Image,
    /// An encoded picture in the field `bytes` of a structure.
    ImageBytes,
}

/// A file of the package.
#[derive(Debug, Serialize)]
struct FileObject<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "@id")]
    id: &'a str,
    name: &'a str,
    #[serde(rename = "contentUrl")]
    content_url: &'a str,
    #[serde(rename = "contentSize")]
    content_size: String,
    #[serde(rename = "encodingFormat")]
    encoding_format: &'static str,
    sha256: String,
}

/// An entry of `distribution`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Distributed<'a> {
    File(FileObject<'a>),
    Set(Value),
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(rename = "@context")]
    context: Value,
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(rename = "conformsTo")]
    conforms_to: &'static str,
    name: &'a str,
    description: &'a str,
    license: &'static str,
    url: &'static str,
    version: &'static str,
    #[serde(rename = "datePublished", skip_serializing_if = "Option::is_none")]
    date_published: Option<&'static str>,
    #[serde(rename = "citeAs")]
    cite_as: &'static str,
    distribution: Vec<Distributed<'a>>,
    #[serde(rename = "recordSet")]
    record_set: Vec<Value>,
}

/// Publishes the document of the package in `folder`, whose files are all there, named relative to it.
pub fn write(folder: &Path, description: &Description, files: &[FileEntry]) -> Result<FileEntry> {
    let files: Vec<_> = files.iter().filter(|file| !checks_itself(&file.name)).collect();
    let objects = files.iter().zip(hashes(folder, &files)?).map(|(file, sha256)| {
        Distributed::File(FileObject {
            kind: "cr:FileObject",
            id: &file.name,
            name: &file.name,
            content_url: &file.name,
            content_size: format!("{} B", file.bytes),
            encoding_format: encoding(&file.name),
            sha256,
        })
    });
    let sets = description.sets.iter().map(|set| {
        Distributed::Set(json!({
            "@type": "cr:FileSet", "@id": set.id, "name": set.id, "description": set.text,
            "encodingFormat": set.encoding, "includes": set.includes,
        }))
    });
    let document = Document {
        context: context(),
        kind: "sc:Dataset",
        conforms_to: "http://mlcommons.org/croissant/1.0",
        name: &description.name,
        description: &description.text,
        license: description.origin.license(),
        url: HOMEPAGE,
        version: VERSION,
        date_published: (description.origin == Origin::Laion400m).then_some("2021-08-20"),
        cite_as: CITATION,
        distribution: objects.chain(sets).collect(),
        record_set: vec![json!({
            "@type": "cr:RecordSet", "@id": "pairs", "name": "pairs", "description": "An image-text pair each.",
            "field": description.fields.iter().map(Field::json).collect::<Vec<_>>(),
        })],
    };
    let text = serde_json::to_string_pretty(&document).expect("plain data");
    publish(&folder.join(CROISSANT), text.as_bytes())
}

impl Field {
    fn json(&self) -> Value {
        let (kind, id) = (self.kind, format!("pairs/{}", self.name));
        let mut source = json!({"fileSet": {"@id": self.set}, "extract": {"column": self.name}});
        if kind == FieldKind::ImageBytes {
            source["transform"] = json!({"jsonPath": "bytes"});
        }
        let mut field = json!({"@type": "cr:Field", "@id": id, "name": id, "description": self.text, "source": source});
        field["dataType"] = match kind {
            FieldKind::Text => "sc:Text",
            FieldKind::Url => "sc:URL",
            FieldKind::Integer => "sc:Integer",
            FieldKind::Float | FieldKind::Floats => "sc:Float",
            FieldKind::Image | FieldKind::ImageBytes => "sc:ImageObject",
        }
        .into();
        if kind == FieldKind::Floats {
            field["repeated"] = true.into();
        }
        field
    }
}

/// Whether a file is of records that have checksums.
fn checks_itself(name: &str) -> bool {
    matches!(encoding(name), TFRECORD | ARRAY_RECORD)
}

/// SHA-256 of each file, on all cores: it is the dearest part of a package that is only copied.
fn hashes(folder: &Path, files: &[&FileEntry]) -> Result<Vec<String>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(files.len().max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, String)>> {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(file) = files.get(number) else { return Ok(done) };
            done.push((number, file_sha256(&folder.join(&file.name))?));
        }
    };
    let mut found = std::thread::scope(|scope| -> Result<Vec<_>> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut found = Vec::with_capacity(files.len());
        for worker in workers {
            found.extend(worker.join().expect("no hash panics")?);
        }
        Ok(found)
    })?;
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, hash)| hash).collect())
}

/// The media type of a file, by its name.
fn encoding(name: &str) -> &'static str {
    let base = name.rsplit('/').next().unwrap_or_default();
    match base.rsplit('.').next().unwrap_or_default() {
        "parquet" => "application/x-parquet",
        "tar" => "application/x-tar",
        "json" => "application/json",
        "npy" => "application/x-npy",
        "md" => "text/markdown",
        "txt" => "text/plain",
        _ if base.contains(".parquet-") => "application/x-parquet",
        _ if base.contains(".tfrecord-") => TFRECORD,
        _ if base.contains(".array_record-") => ARRAY_RECORD,
        _ => "application/octet-stream",
    }
}

/// The vocabulary, as the specification's appendix has it.
fn context() -> Value {
    let mut context = json!({
        "@language": "en", "@vocab": "https://schema.org/",
        "conformsTo": "dct:conformsTo",
        "cr": "http://mlcommons.org/croissant/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "dct": "http://purl.org/dc/terms/",
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "rai": "http://mlcommons.org/croissant/RAI/",
        "sc": "https://schema.org/",
    });
    let words = "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes \
                 isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace \
                 samplingRate separator source subField transform";
    for word in words.split_whitespace() {
        context[word] = format!("cr:{word}").into();
    }
    context
}

/// What a reader needs of a document to check files.
#[derive(Deserialize)]
struct Listed {
    distribution: Vec<ListedFile>,
}

#[derive(Deserialize)]
struct ListedFile {
    #[serde(rename = "contentUrl")]
    content_url: Option<String>,
    sha256: Option<String>,
}

/// The files that the document in `folder` names, with their SHA-256 as it says. Only paths below `folder` are given.
pub fn read(folder: &Path) -> Result<Vec<(String, String)>> {
    let path = folder.join(CROISSANT);
    let bytes = files::length(&path)?;
    if bytes > DOCUMENT_BYTES_MAX {
        return Err(Error::format(&path, format!("{bytes} bytes, at most {DOCUMENT_BYTES_MAX} are read")));
    }
    let listed: Listed = serde_json::from_slice(&files::read(&path)?).map_err(|error| Error::format(&path, error))?;
    let mut files = Vec::new();
    for file in listed.distribution {
        let (Some(name), Some(sha256)) = (file.content_url, file.sha256) else { continue };
        if !Path::new(&name).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::format(&path, format!("{name:?} is not a file of the package")));
        }
        files.push((name, sha256));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    #[test]
    fn a_document_names_every_file_with_its_hash() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let one = publish(&folder.path().join("data/a.parquet"), b"abc").expect("room").below("data");
        let description = describe(Kind::Release, Origin::Crawl, 3);
        write(folder.path(), &description, &[one]).expect("room");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let files = read(folder.path()).expect("readable");
        assert_eq!(files, [("data/a.parquet".to_owned(), sha256.to_owned())]);
    }

    #[test]
    fn a_document_names_no_file_outside_its_package() {
        for name in ["../a", "/etc/passwd", "a/../../b"] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let text = json!({"distribution": [{"contentUrl": name, "sha256": ""}]}).to_string();
            fs::write(folder.path().join(CROISSANT), text).expect("room");
            assert!(read(folder.path()).expect_err("outside").to_string().contains("not a file of the package"));
        }
    }
}
