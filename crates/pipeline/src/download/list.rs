//! Lists of URLs to shards of pairs.

use std::path::{Path, PathBuf};

use dataset::list::{ListColumns, ListReader, is_list};
use dataset::schema::{Pair, uid};
use dataset::table::TableWriter;
use dataset::{Counts, Error, Marker, Result, SHARD_ROWS, ShardId, Status, file_sha256, remove_shards};
use fs_err as fs;

use crate::remote;

/// Writes the rows of lists as shards of pairs into a folder, from which they can be downloaded. Every list starts a shard of
/// its own, as in img2dataset, so that rows have the same keys. A row without URL is a pair without one.
///
/// A list is a file or an address (`http`, `https`, `s3`; no `parquet`). What is done is not done again.
pub fn pairs(lists: &[PathBuf], columns: &ListColumns, output: &Path) -> Result<()> {
    let marker = output.join("pairs.json");
    let settings = serde_json::json!({"url_column": columns.url, "caption_column": columns.caption});
    // By its content: people edit lists.
    let input = |list: &PathBuf| if remote::is_remote(list) { Ok(remote::name(list)) } else { file_sha256(list) };
    let inputs = lists.iter().map(input).collect::<Result<Vec<_>>>()?;
    if Marker::done(&marker, &settings, &inputs)?.is_some() {
        return Ok(());
    }
    let (mut counts, mut files, mut shard) = (Counts::default(), Vec::new(), 0);
    for list in lists {
        let archive = list.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut rows = ListReader::open(list, columns, remote::open)?.zip(0i64..).peekable();
        while rows.peek().is_some() {
            let mut table = TableWriter::<Pair>::create(&output.join(format!("{}.parquet", ShardId(shard))))?;
            for (row, number) in rows.by_ref().take(SHARD_ROWS as usize) {
                let row = row?;
                let (url, caption) = (row.url.unwrap_or_default(), row.caption.unwrap_or_default());
                counts.add(Status::Kept);
                table.push(Pair {
                    uid: uid(&caption, &url),
                    url,
                    caption,
                    page_url: String::new(),
                    license: None,
                    license_evidence: None,
                    language: String::new(),
                    archive: archive.clone(),
                    record_offset: number,
                    link_path: String::new(),
                    source: "list".into(),
                })?;
            }
            files.push(table.publish()?);
            shard += 1;
        }
    }
    if counts.rows == 0 {
        return Err(Error::Invalid("download: the lists have no rows".into()));
    }
    // Shards of a call that had other lists would look like more of these.
    remove_shards(output, "parquet", ShardId(shard))?;
    Marker::finish(&marker, &settings, inputs, counts, files)?;
    Ok(())
}

/// The lists that some inputs mean: files, addresses, patterns with one `*`, and all lists of a folder, in order.
pub fn lists(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut lists = Vec::new();
    for input in inputs {
        if remote::is_remote(input) {
            lists.extend(remote::expand(input)?);
        } else if input.is_dir() {
            let mut found = Vec::new();
            for entry in fs::read_dir(input)? {
                found.push(entry?.path());
            }
            found.retain(|path| is_list(path));
            found.sort();
            lists.append(&mut found);
        } else {
            lists.extend(crate::build::expand(input)?);
        }
    }
    if lists.is_empty() { Err(Error::Invalid("download: no lists".into())) } else { Ok(lists) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataset::{list_shards, table::read_table};

    #[test]
    fn every_list_starts_a_shard() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (a, b) = (folder.path().join("a.csv"), folder.path().join("b.csv"));
        let many: String = (0..10_001).map(|i| format!("http://a.com/{i},picture {i}\n")).collect();
        fs::write(&a, format!("link,text\n{many}")).expect("room");
        fs::write(&b, "text,link\nno address,\n").expect("room");
        let columns = ListColumns { url: "link".into(), caption: Some("text".into()) };
        let output = folder.path().join("pairs");
        pairs(&[a.clone(), b], &columns, &output).expect("lists");
        let shards = list_shards(&output, "parquet").expect("written");
        let rows = shards.iter().map(|id| read_table::<Pair>(&output.join(format!("{id}.parquet"))).expect("sound"));
        let rows: Vec<_> = rows.collect();
        assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [10_000, 1, 1]);
        let last = &rows[1][0];
        assert_eq!((last.url.as_str(), last.caption.as_str()), ("http://a.com/10000", "picture 10000"));
        assert_eq!((last.archive.as_str(), last.record_offset, last.source.as_str()), ("a.csv", 10_000, "list"));
        assert_eq!((rows[2][0].url.as_str(), rows[2][0].caption.as_str()), ("", "no address"));

        let edited = fs::read_to_string(&a).expect("a list").replace("a.com/10000", "b.com/10000");
        fs::write(&a, edited).expect("room");
        pairs(std::slice::from_ref(&a), &columns, &output).expect("a list");
        let last = read_table::<Pair>(&output.join("00001.parquet")).expect("sound").remove(0);
        assert_eq!(last.url, "http://b.com/10000", "a list that was edited is read again");
        assert!(!output.join("00002.parquet").exists(), "the other list is not among them any more");

        let other = ListColumns { url: "text".into(), caption: None };
        assert!(pairs(&[a], &other, &output).is_err(), "another list in the same folder");
    }
}
