//! Pictures and addresses that nobody may keep: lists of hashes and of URLs.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;

use dataset::files;
use dataset::schema::{ImageRow, hex};
use dataset::{Error, Reason, Result, Status, file_sha256};
use sha2::{Digest, Sha256};

use super::{Config, client};

/// Longest line of a list.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// What the lists say, in memory: about 50 bytes a line.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    /// MD5, SHA-1 and SHA-256, with zeros behind them.
    hashes: HashSet<[u8; 32]>,
    perceptual: Vec<u64>,
    /// Bits in which a perceptual hash may differ from one of the list.
    distance: u32,
    /// SHA-256 of URLs.
    urls: HashSet<[u8; 32]>,
    /// The SHA-256 of the lists: a shard that was made with others is looked through again.
    pub(super) fingerprint: Vec<String>,
}

impl Blocked {
    /// Reads the lists of the settings.
    pub(super) fn read(config: &Config) -> Result<Self> {
        let mut blocked = Self { distance: config.block_distance, ..Self::default() };
        if let Some(path) = &config.block_hashes {
            each_line(path, |line| {
                match (line.len(), unhex(line)) {
                    (16, Some(_)) => blocked.perceptual.extend(u64::from_str_radix(line, 16)),
                    (32 | 40 | 64, Some(hash)) => drop(blocked.hashes.insert(hash)),
                    _ => return Err("no MD5, SHA-1, SHA-256 or perceptual hash in hexadecimal".into()),
                }
                Ok(())
            })?;
            blocked.fingerprint.push(file_sha256(path)?);
        }
        if config.disable_all_reencoding && !blocked.perceptual.is_empty() {
            let cause =
                "download: block_hashes has perceptual hashes, which unseen bytes (disable_all_reencoding) have not";
            return Err(Error::Invalid(cause.into()));
        }
        if let Some(path) = &config.block_urls {
            each_line(path, |line| {
                let url = client::parse(line).map_err(|(_, cause)| cause)?;
                blocked.urls.insert(Sha256::digest(url.as_str()).into());
                Ok(())
            })?;
            blocked.fingerprint.push(file_sha256(path)?);
        }
        Ok(blocked)
    }

    /// Whether nothing is blocked.
    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty() && self.perceptual.is_empty() && self.urls.is_empty()
    }

    /// Whether a URL is on the list, however it is written.
    pub(super) fn url(&self, url: &str) -> bool {
        let listed = |url: url::Url| self.urls.contains(<[u8; 32]>::from(Sha256::digest(url.as_str())).as_slice());
        !self.urls.is_empty() && client::parse(url).is_ok_and(listed)
    }

    /// Why a row may not be kept, if its URLs or the hashes that it has are on a list.
    pub(super) fn row(&self, row: &ImageRow) -> Option<Status> {
        let listed = |hash: &Option<String>| {
            let hash = hash.as_deref().and_then(unhex);
            hash.is_some_and(|hash| self.hashes.contains(&hash))
        };
        let alike = |hash: u64| self.perceptual.iter().any(|listed| (listed ^ hash).count_ones() <= self.distance);
        let phash = row.phash.as_deref().and_then(|hash| u64::from_str_radix(hash, 16).ok());
        if self.url(&row.url) || row.final_url.as_deref().is_some_and(|url| self.url(url)) {
            Some(Status::Dropped(Reason::UrlBlocked))
        } else if [&row.md5, &row.sha1, &row.sha256].into_iter().any(listed) || phash.is_some_and(alike) {
            Some(Status::Dropped(Reason::HashBlocked))
        } else {
            None
        }
    }
}

/// Takes everything out of a row that leads to its picture. What stays are hashes: of the picture, if there was one, and of
/// the URL.
pub(super) fn conceal(row: &mut ImageRow, status: Status) {
    let mut bare = ImageRow {
        key: std::mem::take(&mut row.key),
        error_message: Some(format!("SHA-256 of the URL: {}", hex(&Sha256::digest(&row.url)))),
        sha256: row.sha256.take(),
        sha1: row.sha1.take(),
        md5: row.md5.take(),
        phash: row.phash.take(),
        http_status: row.http_status,
        bytes: row.bytes,
        attempts: row.attempts,
        ..ImageRow::default()
    };
    bare.set_status(status, false);
    *row = bare;
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() > 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Some(bytes)
}

/// Lines without white space around them, but for empty ones and those that start with `#`.
fn each_line(path: &Path, mut each: impl FnMut(&str) -> Result<(), String>) -> Result<()> {
    use std::io::Read;
    let mut lines = BufReader::new(files::File::open(path)?);
    for number in 1u64.. {
        let mut line = Vec::new();
        if lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let wrong = |cause: String| Error::format(path, format!("line {number}: {cause}"));
        if line.len() as u64 == LINE_BYTES_MAX {
            return Err(wrong(format!("over {LINE_BYTES_MAX} bytes")));
        }
        let line = std::str::from_utf8(&line).map_err(|error| wrong(error.to_string()))?.trim();
        if !line.is_empty() && !line.starts_with('#') {
            each(line).map_err(wrong)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;

    fn blocked(hashes: &str, urls: &str, distance: u32) -> Result<Blocked> {
        read(hashes, urls, distance, false)
    }

    fn read(hashes: &str, urls: &str, distance: u32, unseen: bool) -> Result<Blocked> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (a, b) = (folder.path().join("hashes.txt"), folder.path().join("urls.txt"));
        fs::write(&a, hashes).expect("room");
        fs::write(&b, urls).expect("room");
        let config = Config {
            block_hashes: Some(a),
            block_urls: Some(b),
            block_distance: distance,
            disable_all_reencoding: unseen,
            ..Config::laion400m()
        };
        Blocked::read(&config)
    }

    fn row() -> ImageRow {
        ImageRow {
            url: "http://a.com/1.jpg".into(),
            key: "000000000".into(),
            caption: "somebody".into(),
            md5: Some("d41d8cd98f00b204e9800998ecf8427e".into()),
            sha256: Some("e3".repeat(32)),
            phash: Some("00000000000000ff".into()),
            ..ImageRow::default()
        }
    }

    #[test]
    fn hashes_of_every_kind_and_urls_however_written_are_found() {
        let hash = Some(Status::Dropped(Reason::HashBlocked));
        let cases = [
            ("# none\n\n", "", 0, None),
            ("D41D8CD98F00B204E9800998ECF8427E\n", "", 0, hash),
            (&*"e3".repeat(32), "", 0, hash),
            ("00000000000000ff", "", 0, hash),
            ("00000000000000f0", "", 3, None),
            ("00000000000000f0", "", 4, hash),
            ("", "HTTP://A.com:80/x/../1.jpg\n", 0, Some(Status::Dropped(Reason::UrlBlocked))),
            ("", "http://a.com/2.jpg", 0, None),
        ];
        for (hashes, urls, distance, expected) in cases {
            let blocked = blocked(hashes, urls, distance).expect("lists");
            assert_eq!(blocked.row(&row()), expected, "{hashes:?} {urls:?}");
        }
    }

    #[test]
    fn a_blocked_row_is_known_by_hashes_alone() {
        let mut row = row();
        conceal(&mut row, Status::Dropped(Reason::HashBlocked));
        let json = serde_json::to_string(&row).expect("plain data");
        assert!(!json.contains("a.com") && !json.contains("somebody"), "{json}");
        assert_eq!((&*row.key, &*row.error_code, &*row.status), ("000000000", "hash_blocked", "failed_to_download"));
        assert_eq!(row.sha256, Some("e3".repeat(32)));
    }

    #[test]
    fn a_list_that_could_not_be_followed_is_an_error() {
        assert!(read("00000000000000ff", "", 0, true).is_err(), "bytes that nobody looks at have no such hash");
        assert!(read(&"e3".repeat(32), "", 0, true).is_ok());
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = blocked("d41d8cd98f00b204e9800998ecf8427e\nd41d8c\n", "", 0).expect_err("no hash").to_string();
        assert!(error.contains("hashes.txt: line 2: "), "{error}");
        let error = blocked("", "no url", 0).expect_err("no URL").to_string();
        assert!(error.contains("urls.txt: line 1: "), "{error}");
    }
}
