//! What the catalogue says of the dataset, and the names of its files.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use super::features::Config;
use super::records::FileFormat;
use crate::files;
use crate::{Error, Result};

/// The name in the catalogue.
pub const DATASET: &str = "laion400m";
/// The version the catalogue knows.
pub const VERSION: &str = "1.0.0";
/// The only split.
pub const SPLIT: &str = "train";

/// Of the dataset.
pub(crate) const HOMEPAGE: &str = "https://laion.ai/blog/laion-400-open-dataset/";

const DESCRIPTION: &str = "The LAION-400M dataset is completely openly, freely accessible.

Check
[https://laion.ai/laion-400-open-dataset/](https://laion.ai/laion-400-open-dataset/)
for the full description of this dataset.

All images and texts in the LAION-400M dataset have been filtered with OpenAI‘s
CLIP by calculating the cosine similarity between the text and image embeddings
and dropping those with a similarity below 0.3. The threshold of 0.3 had been
determined through human evaluations and seemed to be a good heuristic for
estimating semantic image-text-content matching.

The image-text-pairs have been extracted from the Common Crawl web data dump and
are from random web pages crawled between 2014 and 2021.";

/// The paper, as BibTeX.
pub(crate) const CITATION: &str = "@article{DBLP:journals/corr/abs-2111-02114,
  author    = {Christoph Schuhmann and
               Richard Vencu and
               Romain Beaumont and
               Robert Kaczmarczyk and
               Clayton Mullis and
               Aarush Katta and
               Theo Coombes and
               Jenia Jitsev and
               Aran Komatsuzaki},
  title     = {{LAION-400M:} Open Dataset of CLIP-Filtered 400 Million Image-Text
               Pairs},
  journal   = {CoRR},
  volume    = {abs/2111.02114},
  year      = {2021},
  url       = {https://arxiv.org/abs/2111.02114},
  eprinttype = {arXiv},
  eprint    = {2111.02114},
  timestamp = {Fri, 05 Nov 2021 15:25:54 +0100},
  biburl    = {https://dblp.org/rec/journals/corr/abs-2111-02114.bib},
  bibsource = {dblp computer science bibliography, https://dblp.org}
}";

/// What readers need of `dataset_info.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The formats of the files, at least one; the first is the one to read unless another is asked for.
    pub formats: Vec<FileFormat>,
    /// Examples of every shard of the split `train`.
    pub shard_lengths: Vec<u64>,
    /// Whether examples lie in TFDS's shuffled order, and not in the one they were packed in.
    pub shuffled: bool,
}

impl Info {
    /// Reads it from a version folder. TFDS takes TFRecord for granted, and numbers as text or as numbers.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("dataset_info.json");
        let wrong = |cause: &dyn ToString| Error::format(&path, cause.to_string());
        let info: Value = serde_json::from_slice(&files::read(&path)?).map_err(|error| wrong(&error))?;
        let splits = info["splits"].as_array().into_iter().flatten();
        let split = splits.into_iter().find(|split| split["name"] == SPLIT);
        let split = split.ok_or_else(|| wrong(&format!("no split {SPLIT:?}")))?;
        let lengths = split["shardLengths"].as_array().ok_or_else(|| wrong(&"no shardLengths"))?;
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let shard_lengths: Vec<_> =
            lengths.iter().map(number).collect::<Option<_>>().ok_or_else(|| wrong(&"shardLengths"))?;
        if shard_lengths.iter().try_fold(0u64, |sum, &length| sum.checked_add(length)).is_none() {
            return Err(wrong(&"shardLengths"));
        }
        let format = |name: &Value| {
            let known = name.as_str().and_then(FileFormat::from_name);
            known.ok_or_else(|| wrong(&format!("fileFormat {name}")))
        };
        let mut formats = vec![info.get("fileFormat").map_or(Ok(FileFormat::default()), format)?];
        let others = info["alternativeFileFormats"].as_array().into_iter().flatten();
        formats.extend(others.filter_map(|name| format(name).ok()));
        let shuffled = info["disableShuffling"] != true;
        Ok(Self { formats, shard_lengths, shuffled })
    }
}

/// The version folder of a configuration below a data folder.
pub fn folder(data: &Path, config: Config) -> PathBuf {
    data.join(DATASET).join(config.name()).join(VERSION)
}

/// `laion400m-train.tfrecord-00000-of-00001`: both numbers have as many digits as the larger needs, at least five.
pub fn shard_name(format: FileFormat, shard: usize, shards: usize) -> String {
    let digits = shards.to_string().len().max(5);
    let format = format.name();
    format!("{DATASET}-{SPLIT}.{format}-{shard:0digits$}-of-{shards:0digits$}")
}

/// `dataset_info.json`. Unknown keys are an error for TFDS, so nothing of ours stands here.
pub(super) fn dataset_info(config: Config, formats: &[FileFormat], num_bytes: u64, shard_lengths: &[u64]) -> Value {
    let lengths: Vec<String> = shard_lengths.iter().map(u64::to_string).collect();
    let mut info = json!({
        "citation": CITATION,
        "configName": config.name(),
        "description": DESCRIPTION,
        "fileFormat": formats[0].name(),
        "location": {"urls": [HOMEPAGE]},
        "moduleName": "tensorflow_datasets.vision_language.laion400m.laion400m",
        "name": DATASET,
        "releaseNotes": {VERSION: "Initial release."},
        "splits": [{
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            "name": SPLIT,
            "numBytes": num_bytes.to_string(),
            "shardLengths": lengths
        }],
        "version": VERSION
    });
    if formats.len() > 1 {
        let others: Vec<_> = formats[1..].iter().map(|format| format.name()).collect();
        info["alternativeFileFormats"] = others.into();
    }
    info
}

/// JSON as Python's `json` and protobuf's `MessageToJson` write it: everything outside ASCII escaped.
pub(super) fn ascii_json(value: &Value, indent: usize) -> String {
    let spaces = " ".repeat(indent);
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter)).expect("plain data");
    let mut text = String::new();
    for letter in String::from_utf8(out).expect("JSON is UTF-8").chars() {
        if letter.is_ascii() {
            text.push(letter);
        } else {
            let mut units = [0; 2];
            letter.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text
}
