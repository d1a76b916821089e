//! What filters look at, in a form that a search can afford to look at: 16 bytes a row. And where each key is.
//!
//! ```text
//! "L4FACTS1"  u32le bytes of the JSON  u32le 0  JSON {rows, languages, licenses, hosts}, with blanks to a multiple of 16
//! rows x (f32 similarity, u16 width, u16 height, u32 host, u16 license, u8 language, u8 tag)     all little-endian
//! rows x (u64 hash of the key, u32 row)                                                          by hash
//! ```
//! Numbers of hosts, licences and languages are places in the lists of the JSON. A similarity that is not known is NaN, a
//! size 0. Pictures wider or higher than 65,535 pixels count as 65,535.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use arrow_array::{Array, Float64Array, RecordBatch, StringArray};
use highway::HighwayHash;
use serde::{Deserialize, Serialize};

use super::row::{HEIGHTS, KEYS, LANGUAGES, LICENSES, SIMILARITIES, TAGS, URLS, WIDTHS};
use crate::publish::{Draft, FileEntry};
use crate::released::{number_column, text_column};
use crate::{Error, Nsfw, Result};

const MAGIC: &[u8; 8] = b"L4FACTS1";
const FACT_BYTES: usize = 16;
const KEY_BYTES: usize = 12;
/// Longest list of hosts, languages and licences that is read, as JSON: a hundred million hosts.
const HEADER_BYTES_MAX: usize = 1 << 31;

#[derive(Debug, Default, Deserialize, Serialize)]
struct Header {
    rows: u64,
    languages: Vec<String>,
    licenses: Vec<String>,
    hosts: Vec<String>,
}

/// Gives texts numbers as they come.
#[derive(Debug)]
struct Names {
    numbers: HashMap<String, usize>,
    names: Vec<String>,
    most: usize,
}

impl Names {
    /// The first is that of no text; texts beyond `most` share it.
    fn new(most: usize) -> Self {
        Self { numbers: HashMap::from([(String::new(), 0)]), names: vec![String::new()], most }
    }

    fn number(&mut self, name: &str) -> usize {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        if self.names.len() == self.most {
            return 0;
        }
        self.numbers.insert(name.to_owned(), self.names.len());
        self.names.push(name.to_owned());
        self.names.len() - 1
    }
}

/// Collects facts of rows and writes them: 28 bytes a row in memory, and the names of hosts.
#[derive(Debug)]
pub struct FactsWriter {
    path: PathBuf,
    facts: Vec<u8>,
    keys: Vec<(u64, u32)>,
    hosts: Names,
    licenses: Names,
    languages: Names,
}

impl FactsWriter {
    /// For the file that will be `path`.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            facts: Vec::new(),
            keys: Vec::new(),
            hosts: Names::new(u32::MAX as usize),
            licenses: Names::new(u16::MAX as usize),
            languages: Names::new(u8::MAX as usize),
        }
    }

    /// Appends rows; an error says what is wrong with a column.
    pub(super) fn push(&mut self, rows: &RecordBatch) -> Result<(), String> {
        let texts = |names: &[&str]| text_column(rows, names);
        let (keys, urls, tags) = (texts(KEYS)?, texts(URLS)?, texts(TAGS)?);
        let (licenses, languages) = (texts(LICENSES)?, texts(LANGUAGES)?);
        let numbers = |names: &[&str]| number_column(rows, names);
        let (similarities, widths, heights) = (numbers(SIMILARITIES)?, numbers(WIDTHS)?, numbers(HEIGHTS)?);
        for row in 0..rows.num_rows() {
            let number = self.keys.len();
            let key = text(&keys, row).map_or_else(|| number.to_string(), str::to_owned);
            self.keys.push((hash(&key), u32::try_from(number).map_err(|_| "more than 4,294,967,295 rows")?));
            let similarity = value(&similarities, row).map_or(f32::NAN, |value| value as f32);
            let size = |column| value(column, row).map_or(0, |value: f64| value.clamp(0.0, f64::from(u16::MAX)) as u16);
            let tag = text(&tags, row).map_or(Nsfw::Untagged, Nsfw::from_name);
            self.facts.extend(similarity.to_le_bytes());
            self.facts.extend(size(&widths).to_le_bytes());
            self.facts.extend(size(&heights).to_le_bytes());
            let host = self.hosts.number(&host_of(text(&urls, row).unwrap_or_default()));
            self.facts.extend((host as u32).to_le_bytes());
            let license = self.licenses.number(text(&licenses, row).unwrap_or_default());
            self.facts.extend((license as u16).to_le_bytes());
            self.facts.push(self.languages.number(text(&languages, row).unwrap_or_default()) as u8);
            self.facts.push(tag as u8);
        }
        Ok(())
    }

    /// Writes the file.
    pub(super) fn publish(mut self) -> Result<FileEntry> {
        self.keys.sort_unstable();
        let header = Header {
            rows: self.keys.len() as u64,
            languages: self.languages.names,
            licenses: self.licenses.names,
            hosts: self.hosts.names,
        };
        let mut header = serde_json::to_vec(&header).map_err(|error| Error::format(&self.path, error))?;
        header.resize(header.len().next_multiple_of(FACT_BYTES), b' ');
        let mut draft = Draft::create(&self.path)?;
        draft.write_all(MAGIC)?;
        draft.write_all(&(header.len() as u32).to_le_bytes())?;
        draft.write_all(&[0; 4])?;
        draft.write_all(&header)?;
        draft.write_all(&self.facts)?;
        for keys in self.keys.chunks(4096) {
            let bytes = keys.iter().flat_map(|(hash, row)| hash.to_le_bytes().into_iter().chain(row.to_le_bytes()));
            draft.write_all(&bytes.collect::<Vec<u8>>())?;
        }
        draft.publish()
    }
}

fn text(column: &Option<StringArray>, row: usize) -> Option<&str> {
    column.as_ref().filter(|column| column.is_valid(row)).map(|column| column.value(row))
}

fn value(column: &Option<Float64Array>, row: usize) -> Option<f64> {
    let column = column.as_ref().filter(|column| column.is_valid(row))?;
    Some(column.value(row)).filter(|value| value.is_finite())
}

/// The same on every machine, which Rust's own hashes do not promise.
fn hash(key: &str) -> u64 {
    highway::HighwayHasher::new(highway::Key([0x4C41_494F, 400, 0, 0])).hash64(key.as_bytes())
}

/// The host of an address, in small letters; empty where there is none.
fn host_of(url: &str) -> String {
    let Some((_, rest)) = url.split_once("://") else { return String::new() };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = if host.starts_with('[') { host } else { host.split(':').next().unwrap_or_default() };
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// What a row must be like to be found; the default lets every row through. What is not known of a row is not as wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// One of these tags; none given: any.
    pub nsfw: Option<Vec<Nsfw>>,
    /// Picture and caption are at least so alike.
    pub similarity_min: Option<f32>,
    /// Picture and caption are at most so alike.
    pub similarity_max: Option<f32>,
    /// The picture was at least so wide where it came from, in pixels.
    pub width_min: Option<u32>,
    /// The picture was at least so high where it came from, in pixels.
    pub height_min: Option<u32>,
    /// The caption is in one of these languages (ISO 639-1); none given: any.
    pub languages: Vec<String>,
    /// One of these licences: a code of Creative Commons (`by-sa`), `any` for any that is known, or a URL; none given: all.
    pub licenses: Vec<String>,
    /// The picture is of one of these hosts or of a subdomain; none given: any.
    pub hosts: Vec<String>,
}

impl Filter {
    /// Only rows that are tagged UNLIKELY.
    pub fn safe() -> Self {
        Self { nsfw: Some(vec![Nsfw::Unlikely]), ..Self::default() }
    }
}

/// What filters look at, of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fact<'a> {
    /// Cosine of picture and caption.
    pub similarity: Option<f32>,
    /// Before resizing, in pixels; 0 where it is not known.
    pub width: u16,
    /// Before resizing, in pixels; 0 where it is not known.
    pub height: u16,
    /// In small letters; empty where there is none.
    pub host: &'a str,
    /// `?` or empty where none is known.
    pub license: &'a str,
    /// ISO 639-1; empty where it is not known.
    pub language: &'a str,
    /// The NSFW tag.
    pub nsfw: Nsfw,
}

/// A [`Filter`] in the numbers of one file.
#[derive(Debug)]
pub struct Test {
    /// Nothing is asked of rows.
    all: bool,
    tags: [bool; Nsfw::ALL.len()],
    similarity: Option<(f32, f32)>,
    width_min: u16,
    height_min: u16,
    languages: Option<Vec<bool>>,
    licenses: Option<Vec<bool>>,
    /// Numbers of hosts, ascending.
    hosts: Option<Vec<u32>>,
}

/// Facts of rows, in a file that `B` holds in memory or maps into it.
#[derive(Debug)]
pub struct Facts<B> {
    bytes: B,
    header: Header,
    facts: usize,
    keys: usize,
}

impl<B: AsRef<[u8]>> Facts<B> {
    /// Checks the parts of the file; `path` is for errors alone.
    pub fn parse(path: &Path, bytes: B) -> Result<Self> {
        let wrong = |cause: &str| Error::format(path, cause);
        let whole = bytes.as_ref();
        let start = whole.get(..16).ok_or_else(|| wrong("cut off"))?;
        if &start[..8] != MAGIC {
            return Err(wrong("not a file of facts"));
        }
        let length = u32::from_le_bytes([start[8], start[9], start[10], start[11]]) as usize;
        let header = whole.get(16..16 + length).filter(|_| length <= HEADER_BYTES_MAX);
        let header: Header = serde_json::from_slice(header.ok_or_else(|| wrong("cut off in its header"))?)
            .map_err(|error| Error::format(path, error))?;
        let (facts, rows) = (16 + length, usize::try_from(header.rows).map_err(|_| wrong("too many rows"))?);
        let bytes_of = |each: usize| rows.checked_mul(each).ok_or_else(|| wrong("too many rows"));
        let keys = facts.checked_add(bytes_of(FACT_BYTES)?).ok_or_else(|| wrong("too many rows"))?;
        if keys.checked_add(bytes_of(KEY_BYTES)?) != Some(whole.len()) {
            return Err(wrong(&format!("{rows} rows do not fill {} bytes", whole.len())));
        }
        Ok(Self { bytes, header, facts, keys })
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.header.rows as usize
    }

    /// Languages of the captions.
    pub fn languages(&self) -> &[String] {
        &self.header.languages
    }

    /// Licences of the pictures.
    pub fn licenses(&self) -> &[String] {
        &self.header.licenses
    }

    /// The rows that may have this key; two keys can have the same hash.
    pub fn rows_of(&self, key: &str) -> impl Iterator<Item = usize> {
        let (wanted, keys) = (hash(key), self.keys().0);
        let first = keys.partition_point(|entry| hash_in(entry) < wanted);
        let same = keys[first..].iter().take_while(move |entry| hash_in(entry) == wanted);
        same.map(|entry| u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]]) as usize)
    }

    fn keys(&self) -> (&[[u8; KEY_BYTES]], &[u8]) {
        self.bytes.as_ref()[self.keys..].as_chunks()
    }

    /// A filter in the numbers of this file.
    pub fn test(&self, filter: &Filter) -> Test {
        let places = |names: &[String], wanted: &[String], is: &dyn Fn(&str, &str) -> bool| {
            let one = |name: &String| !name.is_empty() && wanted.iter().any(|wanted| is(name, wanted));
            (!wanted.is_empty()).then(|| names.iter().map(one).collect::<Vec<bool>>())
        };
        let hosts = places(&self.header.hosts, &filter.hosts, &is_host);
        let hosts = hosts.map(|hosts| (0..).zip(hosts).filter_map(|(number, is)| is.then_some(number)).collect());
        let range =
            (filter.similarity_min.unwrap_or(f32::NEG_INFINITY), filter.similarity_max.unwrap_or(f32::INFINITY));
        let size = |least: Option<u32>| least.unwrap_or(0).min(u32::from(u16::MAX)) as u16;
        Test {
            all: *filter == Filter::default(),
            tags: Nsfw::ALL.map(|tag| filter.nsfw.as_ref().is_none_or(|tags| tags.contains(&tag))),
            similarity: (filter.similarity_min.is_some() || filter.similarity_max.is_some()).then_some(range),
            width_min: size(filter.width_min),
            height_min: size(filter.height_min),
            languages: places(&self.header.languages, &filter.languages, &|name, wanted| {
                name.eq_ignore_ascii_case(wanted)
            }),
            licenses: places(&self.header.licenses, &filter.licenses, &is_license),
            hosts,
        }
    }

    /// What is known of a row.
    pub fn row(&self, row: usize) -> Fact<'_> {
        fn name(names: &[String], number: usize) -> &str {
            names.get(number).map_or("", String::as_str)
        }
        let fact = self.fact(row);
        let short = |at: usize| u16::from_le_bytes([fact[at], fact[at + 1]]);
        let long = |at: usize| [fact[at], fact[at + 1], fact[at + 2], fact[at + 3]];
        Fact {
            similarity: Some(f32::from_le_bytes(long(0))).filter(|similarity| similarity.is_finite()),
            width: short(4),
            height: short(6),
            host: name(&self.header.hosts, u32::from_le_bytes(long(8)) as usize),
            license: name(&self.header.licenses, usize::from(short(12))),
            language: name(&self.header.languages, usize::from(fact[14])),
            nsfw: Nsfw::ALL.get(usize::from(fact[15])).copied().unwrap_or(Nsfw::Untagged),
        }
    }

    fn fact(&self, row: usize) -> &[u8] {
        &self.bytes.as_ref()[self.facts + row * FACT_BYTES..][..FACT_BYTES]
    }

    /// Whether a row is as wanted.
    pub fn passes(&self, test: &Test, row: usize) -> bool {
        if test.all {
            return true;
        }
        let fact = self.fact(row);
        let short = |at: usize| u16::from_le_bytes([fact[at], fact[at + 1]]);
        let long = |at: usize| [fact[at], fact[at + 1], fact[at + 2], fact[at + 3]];
        let among = |places: &Option<Vec<bool>>, number: usize| {
            places.as_ref().is_none_or(|places| places.get(number) == Some(&true))
        };
        let similarity = f32::from_le_bytes(long(0));
        test.tags.get(usize::from(fact[15])) == Some(&true)
            && test.similarity.is_none_or(|(least, most)| similarity >= least && similarity <= most)
            && short(4) >= test.width_min
            && short(6) >= test.height_min
            && among(&test.licenses, usize::from(short(12)))
            && among(&test.languages, usize::from(fact[14]))
            && test.hosts.as_ref().is_none_or(|hosts| hosts.binary_search(&u32::from_le_bytes(long(8))).is_ok())
    }
}

fn hash_in(entry: &[u8; KEY_BYTES]) -> u64 {
    u64::from_le_bytes([entry[0], entry[1], entry[2], entry[3], entry[4], entry[5], entry[6], entry[7]])
}

fn is_host(host: &str, wanted: &str) -> bool {
    let wanted = wanted.trim_matches('.').to_ascii_lowercase();
    host == wanted || host.strip_suffix(&wanted).is_some_and(|rest| rest.ends_with('.') && !wanted.is_empty())
}

/// Licences are URLs of Creative Commons, `?` where none is known.
fn is_license(license: &str, wanted: &str) -> bool {
    if wanted == "any" {
        return license != "?";
    }
    let code = license.split_once("creativecommons.org/").and_then(|(_, path)| path.split('/').nth(1));
    license == wanted || code.is_some_and(|code| code.eq_ignore_ascii_case(wanted))
}
