//! Lists of URLs to shards of pairs.

use std::path::{Path, PathBuf};

use dataset::carried::{self, Fields, Object};
use dataset::files;
use dataset::list::{ListColumns, ListReader, ListRow, MoreFields, is_list};
use dataset::schema::{ImageRow, Pair, uid};
use dataset::table::TableWriter;
use dataset::{Counts, Error, Marker, Result, Row, SHARD_ROWS, ShardId, Status, file_sha256, remove_shards};
use serde_json::Value;

use crate::remote;

/// Writes the rows of lists as shards of pairs into a folder, from which they can be downloaded. Every list starts a shard of
/// its own, as in img2dataset, so that rows have the same keys. Further columns stand in the shards, too; a list's own `uid`,
/// `page_url`, `license` and `language` are those of the pair. A row without URL is a pair without one.
///
/// A list is a file or an address (`http`, `https`, `s3`; no `parquet`). What is done is not done again.
pub fn pairs(lists: &[PathBuf], columns: &ListColumns, output: &Path) -> Result<()> {
    let marker = output.join("pairs.json");
    let settings =
        serde_json::json!({"url_column": columns.url, "caption_column": columns.caption, "columns": columns.more});
    // By its content: people edit lists.
    let input = |list: &PathBuf| if files::is_remote(list) { Ok(remote::name(list)) } else { file_sha256(list) };
    let inputs = lists.iter().map(input).collect::<Result<Vec<_>>>()?;
    if Marker::done(&marker, &settings, &inputs)?.is_some() {
        return Ok(());
    }
    if let Some(name) = columns.more.iter().find(|name| OURS.contains(&name.as_str())) {
        return Err(Error::Invalid(format!("download: a pair has a column {name:?} of its own")));
    }
    let (mut counts, mut files, mut shard) = (Counts::default(), Vec::new(), 0);
    let mut fields = None;
    for list in lists {
        let archive = list.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut rows = ListReader::open(list, columns, remote::open)?;
        for start in (0..).step_by(SHARD_ROWS as usize) {
            let part = rows.by_ref().take(SHARD_ROWS as usize).collect::<Result<Vec<_>>>()?;
            if part.is_empty() {
                break;
            }
            counts.add_many(Status::Kept, part.len() as u64);
            let mut more = Vec::with_capacity(part.len());
            let mut pairs = Vec::with_capacity(part.len());
            for (row, number) in part.into_iter().zip(start..) {
                let (pair, rest) = pair(row, &archive, number);
                pairs.push(pair);
                more.push(rest);
            }
            let kept: Vec<String> =
                columns.more.iter().filter(|name| !PAIRS.contains(&name.as_str())).cloned().collect();
            // All lists of a call have columns of the same kind: those of the first rows of the first one.
            let fields = match &mut fields {
                Some(fields) => fields,
                none => none.insert(fields_of(rows.more(), &kept, &more).map_err(|cause| Error::format(list, cause))?),
            };
            let more = carried::columns(fields, &more).map_err(|(row, cause)| {
                let hint = format!("in the first {TYPES_FROM} rows all values of a column were of one kind");
                Error::format(list, format!("row {}: {cause}; {hint}", start + row as i64 + 1))
            })?;
            let path = output.join(format!("{}.parquet", ShardId(shard)));
            let mut table = TableWriter::<Pair>::create_beside(&path, more)?;
            pairs.into_iter().try_for_each(|pair| table.push(pair))?;
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

/// Columns of a pair that a list may have, too, and those that say where it comes from.
const PAIRS: [&str; 4] = ["uid", "page_url", "license", "language"];
/// Columns of a pair that say where it comes from, which is known.
const OURS: [&str; 7] = ["url", "caption", "license_evidence", "archive", "record_offset", "link_path", "source"];
/// Rows that tell what the columns of a list hold.
const TYPES_FROM: usize = 1000;

/// Whether the columns of these names can be saved: of two of one name none could be told.
pub fn may_be_saved(names: &[String]) -> Result<()> {
    let schema = ImageRow::schema();
    let taken = |name: &&String| schema.field_with_name(name).is_ok() && !PAIRS.contains(&name.as_str());
    match names.iter().find(taken) {
        None => Ok(()),
        Some(name) => Err(Error::Invalid(format!("download: the shards have a column {name:?} of their own"))),
    }
}

/// What the further columns hold.
fn fields_of(told: &MoreFields, names: &[String], rows: &[Object]) -> Result<Fields, String> {
    let first = &rows[..rows.len().min(TYPES_FROM)];
    match told {
        MoreFields::Told(fields) => Ok(fields.iter().filter(|field| names.contains(field.name())).cloned().collect()),
        MoreFields::InValues => carried::fields(names, first, false),
        MoreFields::Texts => carried::fields(names, first, true),
    }
}

/// The pair of a row, and what the list says further.
fn pair(row: ListRow, archive: &str, number: i64) -> (Pair, Object) {
    let (url, caption, mut more) = (row.url.unwrap_or_default(), row.caption.unwrap_or_default(), row.more);
    let mut told = |name: &str| match more.remove(name)? {
        Value::String(text) => Some(text).filter(|text| !text.is_empty()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    let pair = Pair {
        uid: told("uid").unwrap_or_else(|| uid(&caption, &url)),
        url,
        caption,
        page_url: told("page_url").unwrap_or_default(),
        license: told("license"),
        language: told("language").unwrap_or_default(),
        archive: archive.to_owned(),
        record_offset: number,
        source: "list".into(),
        ..Pair::default()
    };
    (pair, more)
}

/// The lists that some inputs mean: files, addresses, patterns with one `*`, and all lists of a folder, in order.
pub fn lists(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut lists = Vec::new();
    for input in inputs {
        if files::is_dir(input)? {
            let mut found: Vec<_> = files::list(input)?.into_iter().map(|entry| entry.path).collect();
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
    use dataset::list_shards;
    use dataset::table::{further_columns, read_table};
    use fs_err as fs;

    #[test]
    fn every_list_starts_a_shard() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (a, b) = (folder.path().join("a.csv"), folder.path().join("b.csv"));
        let many: String = (0..10_001).map(|i| format!("http://a.com/{i},picture {i}\n")).collect();
        fs::write(&a, format!("link,text\n{many}")).expect("room");
        fs::write(&b, "text,link\nno address,\n").expect("room");
        let columns = ListColumns { url: "link".into(), caption: Some("text".into()), more: Vec::new() };
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

        let other = ListColumns { url: "text".into(), caption: None, more: Vec::new() };
        assert!(pairs(&[a], &other, &output).is_err(), "another list in the same folder");
    }

    #[test]
    fn further_columns_have_a_kind_and_those_of_a_pair_are_the_pairs() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (list, output) = (folder.path().join("a.csv"), folder.path().join("pairs"));
        fs::write(&list, "url,uid,score\nhttp://a.com/1,mine,0.5\nhttp://a.com/2,,\n").expect("room");
        let columns =
            |more: &str| ListColumns { url: "url".into(), caption: None, more: vec!["uid".into(), more.into()] };
        pairs(std::slice::from_ref(&list), &columns("score"), &output).expect("a list");
        let path = output.join("00000.parquet");
        let rows = read_table::<Pair>(&path).expect("sound");
        assert_eq!([&rows[0].uid, &rows[1].uid], ["mine", &uid("", "http://a.com/2")]);
        let numbered = serde_json::from_str::<Object>(r#"{"uid":7,"license":null}"#).expect("an object");
        let (numbered, rest) = pair(ListRow { more: numbered, ..ListRow::default() }, "a.jsonl", 0);
        assert_eq!((&*numbered.uid, numbered.license, rest.len()), ("7", None, 0));
        let more = carried::objects(&further_columns::<Pair>(&path).expect("sound")).expect("rows");
        assert_eq!(serde_json::json!(more), serde_json::json!([{"score": 0.5}, {"score": null}]));

        let error = pairs(std::slice::from_ref(&list), &columns("archive"), &folder.path().join("b"));
        assert!(error.expect_err("ours").to_string().contains("\"archive\""));
        assert!(may_be_saved(&["uid".into(), "score".into()]).is_ok());
        assert!(may_be_saved(&["width".into()]).is_err());
        let many: String = (0..1200)
            .map(|i| format!("http://a.com/{i},,{}\n", if i == 1100 { "x".into() } else { i.to_string() }))
            .collect();
        fs::write(&list, format!("url,uid,score\n{many}")).expect("room");
        let error =
            pairs(&[list], &columns("score"), &folder.path().join("c")).expect_err("x is no number").to_string();
        assert!(error.contains("a.csv: row 1101: "), "{error}");
    }
}
