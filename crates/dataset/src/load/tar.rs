//! Samples of a WebDataset shard by their number: those with a picture, in the order of the tar.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::files;
use crate::members::Members;
use crate::released::ReleasedRow;
use crate::tfds::Example;
use crate::webdataset::split_name;
use crate::{Error, Result};

/// Endings of the pictures that can be decoded.
const PICTURES: [&str; 6] = ["jpg", "jpeg", "jpe", "png", "webp", "bmp"];

/// A shard whose members' places are known.
#[derive(Debug)]
pub(super) struct TarShard {
    file: files::File,
    samples: Vec<Sample>,
}

/// Where the files of a sample are.
#[derive(Debug, Default)]
struct Sample {
    key: Box<str>,
    picture: Option<Member>,
    json: Option<Member>,
    text: Option<Member>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    offset: u64,
    bytes: u64,
}

impl TarShard {
    /// Reads the headers of a tar, and nothing else of it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut members = Members::open(path)?;
        if !members.is_plain() {
            return Err(Error::format(path, "a compressed tar, whose samples cannot be found: decompress it first"));
        }
        let (mut samples, mut sample) = (Vec::new(), Sample::default());
        while let Some(found) = members.next()? {
            let member = Member { offset: found.offset, bytes: found.bytes };
            let Some((key, ending)) = split_name(&found.name) else { continue };
            if *sample.key != *key {
                let next = Sample { key: key.into(), ..Sample::default() };
                samples.extend(Some(std::mem::replace(&mut sample, next)).filter(|done| done.picture.is_some()));
            }
            match ending.to_ascii_lowercase().as_str() {
                "json" => sample.json = Some(member),
                "txt" => sample.text = Some(member),
                ending if PICTURES.contains(&ending) => sample.picture = Some(member),
                _ => {}
            }
        }
        samples.extend(Some(sample).filter(|done| done.picture.is_some()));
        Ok(Self { file: files::File::open(path)?, samples })
    }

    /// Samples with a picture.
    pub(super) fn len(&self) -> u64 {
        self.samples.len() as u64
    }

    /// The sample with this number, without its picture if it is not wanted, and its key. The error says what is wrong
    /// with it.
    pub(super) fn read(&self, number: u64, picture: bool) -> Result<(String, Example), String> {
        let sample = usize::try_from(number).ok().and_then(|number| self.samples.get(number));
        let sample = sample.ok_or_else(|| format!("it holds {}", self.samples.len()))?;
        let read = |member: Member| {
            let mut content = vec![0; member.bytes as usize];
            let read = self.file.read_exact_at(&mut content, member.offset);
            read.map(|()| content).map_err(|error| format!("byte {}: {error}", member.offset))
        };
        let json = sample.json.map(read).transpose()?;
        let mut row = json.map_or_else(|| Ok(ReleasedRow::default()), |json| beside(&json))?;
        if row.caption.is_none()
            && let Some(text) = sample.text.map(read).transpose()?
        {
            row.caption = Some(String::from_utf8(text).map_err(|_| "its text is not UTF-8".to_owned())?);
        }
        let mut example = row.into_example_or_empty();
        example.image = sample.picture.filter(|_| picture).map(read).transpose()?;
        // Folders in a tar are no part of a key: img2dataset writes none.
        let key = sample.key.rsplit('/').next().unwrap_or_default();
        Ok((key.to_owned(), example))
    }
}

/// Samples of each tar of a folder: as `sizes.json` says, which open_clip reads, too, or else by their headers.
pub(super) fn lengths(folder: &Path, tars: &[PathBuf]) -> Result<Vec<u64>> {
    let path = folder.join("sizes.json");
    let known: HashMap<String, u64> = match files::read(&path) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| Error::format(&path, error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => HashMap::new(),
        Err(error) => return Err(error.into()),
    };
    let length = |tar: &PathBuf| {
        let known = tar.file_name().and_then(|name| known.get(name.to_str()?));
        known.map_or_else(|| Ok(TarShard::open(tar)?.len()), |&length| Ok(length))
    };
    let lengths: Vec<u64> = tars.iter().map(length).collect::<Result<_>>()?;
    let total = lengths.iter().try_fold(0u64, |sum, &length| sum.checked_add(length));
    total.map(|_| lengths).ok_or_else(|| Error::format(&path, "more samples than can be counted"))
}

/// What img2dataset's JSON says of its picture, the columns that LAION carried along among it.
#[derive(Deserialize)]
struct Beside {
    url: Option<String>,
    caption: Option<String>,
    #[serde(rename = "LICENSE")]
    license_carried: Option<String>,
    license: Option<String>,
    #[serde(rename = "NSFW")]
    nsfw_carried: Option<String>,
    nsfw: Option<String>,
    similarity: Option<f64>,
    original_width: Option<f64>,
    original_height: Option<f64>,
}

fn beside(json: &[u8]) -> Result<ReleasedRow, String> {
    let parsed = serde_json::from_slice(json).or_else(|error| {
        // Python writes NaN for a number that pandas lacks.
        let text = String::from_utf8_lossy(json).replace(": NaN", ": null");
        serde_json::from_str(&text).map_err(|_| format!("its JSON: {error}"))
    });
    let row: Beside = parsed?;
    Ok(ReleasedRow {
        key: None,
        caption: row.caption,
        url: row.url,
        nsfw: row.nsfw_carried.or(row.nsfw),
        similarity: row.similarity,
        license: row.license_carried.or(row.license),
        original_width: row.original_width.and_then(crate::released::size),
        original_height: row.original_height.and_then(crate::released::size),
    })
}
