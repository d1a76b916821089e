//! Which archives.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use dataset::{Error, Result, files, spill};
use flate2::read::MultiGzDecoder;

use crate::build::expand;
use crate::remote;

/// Where Common Crawl's listings start.
pub const COMMON_CRAWL: &str = "https://data.commoncrawl.org/";
/// Longest listing; that of a crawl has 100,000 paths and below 20 MB.
const LISTING_BYTES_MAX: u64 = 64 << 20;

/// How archives are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Address or folder that the paths of listings start at.
    pub base: String,
    /// So many archives by chance, or all.
    pub sample: Option<usize>,
    /// What the chance follows from.
    pub seed: u64,
}

impl Default for Choice {
    fn default() -> Self {
        Self { base: COMMON_CRAWL.into(), sample: None, seed: 0 }
    }
}

/// The archives that some inputs mean: files, addresses (`http`, `https`, `s3`), patterns with one `*` in the last
/// component for files and `s3`, and listings as Common Crawl has them (`wat.paths.gz`, `warc.paths`, here or at an
/// address).
pub fn archives(inputs: &[PathBuf], choice: &Choice) -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    for input in inputs {
        let name = super::name(input);
        if name.ends_with(".paths") || name.ends_with(".paths.gz") {
            let slash = if choice.base.ends_with('/') { "" } else { "/" };
            found.extend(listing(input)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| {
                let absolute = files::is_remote(Path::new(line)) || line.starts_with('/');
                PathBuf::from(if absolute { line.to_owned() } else { format!("{}{slash}{line}", choice.base) })
            }));
        } else {
            found.extend(expand(input)?);
        }
    }
    let mut found: Vec<_> = found.into_iter().collect();
    if let Some(sample) = choice.sample {
        // By a hash of the path, so that an archive more or less changes nothing for the others.
        found.sort_by_key(|path| spill::uid(&path.to_string_lossy(), &choice.seed.to_string()));
        found.truncate(sample);
        found.sort();
    }
    Ok(found)
}

fn listing(path: &Path) -> Result<String> {
    let file = whole(remote::open(path)?, path)?;
    let text = if file.starts_with(&[0x1F, 0x8B]) { whole(MultiGzDecoder::new(&file[..]), path)? } else { file };
    String::from_utf8(text).map_err(|error| Error::format(path, error))
}

fn whole(source: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(LISTING_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| Error::format(path, error))?;
    if bytes.len() as u64 > LISTING_BYTES_MAX {
        return Err(Error::format(path, format!("a listing of over {LISTING_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;
    use std::io::Write;

    #[test]
    fn a_listing_is_sampled_by_its_seed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("wat.paths.gz");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        (0..50).for_each(|i| writeln!(gzip, "crawl-data/{i:05}.warc.wat.gz").expect("memory"));
        fs::write(&path, gzip.finish().expect("memory")).expect("room");
        let choose = |sample, seed| {
            let choice = Choice { sample, seed, ..Choice::default() };
            archives(std::slice::from_ref(&path), &choice).expect("a listing")
        };
        assert_eq!(choose(None, 1).len(), 50);
        assert_eq!(choose(None, 1)[3].to_str(), Some("https://data.commoncrawl.org/crawl-data/00003.warc.wat.gz"));
        let five = choose(Some(5), 1);
        assert!(five.len() == 5 && five.is_sorted());
        assert_eq!(five, choose(Some(5), 1));
        assert_ne!(five, choose(Some(5), 2));
        assert!(five.iter().all(|path| choose(Some(9), 1).contains(path)), "a larger sample has the smaller one");
        let local = Choice { base: "/data".into(), sample: Some(1), ..Choice::default() };
        assert!(archives(&[path], &local).expect("a listing")[0].starts_with("/data/crawl-data"));
        assert!(archives(&[folder.path().join("none*")], &local).is_err());
        let long = folder.path().join("long.paths.gz");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        (0..65).for_each(|_| gzip.write_all(&vec![b'a'; 1 << 20]).expect("memory"));
        fs::write(&long, gzip.finish().expect("memory")).expect("room");
        let error = archives(&[long], &local).expect_err("not cut off quietly").to_string();
        assert!(error.contains("long.paths.gz: a listing of over"), "{error}");
    }
}
