//! Lists of URLs with or without captions, as img2dataset takes them: `txt`, `csv`, `tsv`, `json` and `jsonl`, each also with
//! gzip, and `parquet`.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_cast::cast;
use arrow_schema::{DataType, Fields};
use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::carried::{self, Object};
use crate::table::Batches;
use crate::{Error, Result};

/// Longest row: a quote that nobody closes must not take all of a list into memory.
const ROW_BYTES_MAX: u64 = 16 << 20;
/// Rows of a Parquet list that are in memory.
const BATCH_ROWS: usize = 1024;

/// A row of a list. Values that are missing, null or no text are absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListRow {
    /// As it stands there.
    pub url: Option<String>,
    /// As it stands there.
    pub caption: Option<String>,
    /// The further columns that are wanted; of CSV and TSV texts.
    pub more: Object,
}

/// Which columns are what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListColumns {
    /// Column of URLs; a `txt` has no other.
    pub url: String,
    /// Column of captions, if there is one.
    pub caption: Option<String>,
    /// Further columns that are wanted.
    pub more: Vec<String>,
}

impl ListColumns {
    fn all(&self) -> impl Iterator<Item = &String> {
        [Some(&self.url), self.caption.as_ref()].into_iter().flatten().chain(&self.more)
    }
}

/// What is known of the further columns before a row is read.
#[derive(Clone, Debug)]
pub enum MoreFields {
    /// The file says what they hold.
    Told(Fields),
    /// The values say it.
    InValues,
    /// All are texts, whatever they mean.
    Texts,
}

/// The kinds of lists, by their extension.
const EXTENSIONS: [&str; 6] = ["txt", "csv", "tsv", "json", "jsonl", "parquet"];

/// Whether the name is that of a list.
pub fn is_list(path: &Path) -> bool {
    kind(path).is_ok()
}

/// The extension, and whether `.gz` follows.
fn kind(path: &Path) -> Result<(&'static str, bool)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let (plain, gzip) = name.strip_suffix(".gz").map_or((name.as_str(), false), |plain| (plain, true));
    let extension = plain.rsplit_once('.').map_or("", |(_, extension)| extension);
    let known = EXTENSIONS.into_iter().find(|known| *known == extension && !(gzip && extension == "parquet"));
    let kinds = "a list is a txt, csv, tsv, json, jsonl (each also .gz) or parquet";
    known.map(|known| (known, gzip)).ok_or_else(|| Error::format(path, kinds))
}

/// Reads a list row by row. All but `parquet` come out of `open`, which opens the path.
pub struct ListReader {
    rows: Rows,
    more: MoreFields,
}

type Rows = Box<dyn Iterator<Item = Result<ListRow>>>;

impl std::fmt::Debug for ListReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ListReader")
    }
}

impl ListReader {
    /// Opens a list; an error if it has no column of that name for URLs or captions.
    pub fn open(
        path: &Path,
        columns: &ListColumns,
        open: impl FnOnce(&Path) -> Result<Box<dyn Read + Send>>,
    ) -> Result<Self> {
        let (kind, gzip) = kind(path)?;
        if kind == "parquet" {
            let (rows, fields) = table(path, columns)?;
            return Ok(Self { rows, more: MoreFields::Told(fields) });
        }
        if kind == "txt" && !columns.more.is_empty() {
            return Err(missing(path, &columns.more[0], &[]));
        }
        let source = open(path)?;
        let source = if gzip { Box::new(MultiGzDecoder::new(source)) } else { source };
        let room = Arc::new(AtomicU64::new(ROW_BYTES_MAX));
        let source = BufReader::with_capacity(1 << 16, Bounded { source, room: room.clone() });
        let rows = match kind {
            "txt" => Box::new(
                lines(source, path)
                    .map(|line| line.map(|(_, line)| ListRow { url: text(line.trim_ascii()), ..ListRow::default() })),
            ),
            "jsonl" => json_lines(source, path, columns),
            "json" => json(source, path, columns)?,
            _ => separated(source, path, columns, if kind == "csv" { b',' } else { b'\t' })?,
        };
        let more = if kind.starts_with("json") { MoreFields::InValues } else { MoreFields::Texts };
        Ok(Self { rows: Box::new(rows.inspect(move |_| room.store(ROW_BYTES_MAX, Ordering::Relaxed))), more })
    }

    /// What the further columns hold, as far as it is known by now.
    pub fn more(&self) -> &MoreFields {
        &self.more
    }
}

impl Iterator for ListReader {
    type Item = Result<ListRow>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

/// Gives no more than a row may have, until there is room again.
struct Bounded<R> {
    source: R,
    room: Arc<AtomicU64>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(out)?;
        let room = self.room.load(Ordering::Relaxed);
        self.room.store(room.saturating_sub(read as u64), Ordering::Relaxed);
        if room == 0 && read > 0 {
            return Err(io::Error::other(format!("a row of over {ROW_BYTES_MAX} bytes")));
        }
        Ok(read)
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Lines with their numbers, but for empty ones. An error is the last.
fn lines<S: BufRead>(mut source: S, path: &Path) -> impl Iterator<Item = Result<(u64, Vec<u8>)>> + use<S> {
    let (path, mut number, mut ended) = (path.to_owned(), 0u64, false);
    std::iter::from_fn(move || {
        while !ended {
            let mut line = Vec::new();
            number += 1;
            match source.read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => return Some(Ok((number, line))),
                Err(error) => {
                    ended = true;
                    return Some(Err(Error::format(&path, format!("line {number}: {error}"))));
                }
            }
        }
        None
    })
}

fn json_lines(source: impl BufRead + 'static, path: &Path, columns: &ListColumns) -> Rows {
    let (columns, file) = (columns.clone(), path.to_owned());
    Box::new(lines(source, path).map(move |line| {
        let (number, line) = line?;
        let object = serde_json::from_slice(&line).map_err(|error| error.to_string());
        object
            .and_then(|object| from_json(object, &columns))
            .map_err(|cause| Error::format(&file, format!("line {number}: {cause}")))
    }))
}

fn from_json(object: Value, columns: &ListColumns) -> Result<ListRow, String> {
    let Value::Object(mut object) = object else { return Err("a row is an object with names".into()) };
    let text = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
    let (url, caption) = (text(&columns.url), columns.caption.as_deref().and_then(text));
    object.retain(|name, _| columns.more.contains(name));
    Ok(ListRow { url, caption, more: object })
}

/// An array of objects, one after the other.
fn json(mut source: impl BufRead + 'static, path: &Path, columns: &ListColumns) -> Result<Rows> {
    let (columns, path) = (columns.clone(), path.to_owned());
    let error =
        |error: &dyn std::fmt::Display, row: u64, path: &Path| Error::format(path, format!("row {row}: {error}"));
    match significant(&mut source).map_err(|cause| Error::format(&path, cause))? {
        Some(b'[') => source.consume(1),
        _ => return Err(Error::format(&path, "a JSON list is an array of objects")),
    }
    let (mut row, mut ended) = (0, false);
    Ok(Box::new(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        row += 1;
        let next = (|| {
            let mut first = significant(&mut source).map_err(|cause| error(&cause, row, &path))?;
            if first == Some(b',') && row > 1 {
                source.consume(1);
                first = significant(&mut source).map_err(|cause| error(&cause, row, &path))?;
            } else if first == Some(b']') {
                return Ok(None);
            } else if row > 1 {
                return Err(error(&"neither a comma nor the end follows", row - 1, &path));
            }
            if first != Some(b'{') {
                return Err(error(&"no object", row, &path));
            }
            let mut objects = serde_json::Deserializer::from_reader(&mut source).into_iter();
            let object = objects.next().unwrap_or(Ok(Value::Null)).map_err(|cause| error(&cause, row, &path))?;
            from_json(object, &columns).map(Some).map_err(|cause| error(&cause, row, &path))
        })();
        ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    })))
}

/// The next byte that is no white space, which is not consumed.
fn significant(source: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let Some(&byte) = source.fill_buf()?.first() else { return Ok(None) };
        if !byte.is_ascii_whitespace() {
            return Ok(Some(byte));
        }
        source.consume(1);
    }
}

/// Values with commas or tabs between, with a head.
fn separated(source: impl Read + 'static, path: &Path, columns: &ListColumns, delimiter: u8) -> Result<Rows> {
    let path = path.to_owned();
    let mut rows = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(source);
    let head = rows.byte_headers().map_err(|error| Error::format(&path, error))?;
    let names: Vec<_> =
        head.iter().map(|name| String::from_utf8_lossy(name).trim_start_matches('\u{FEFF}').to_owned()).collect();
    let place =
        |name: &String| names.iter().position(|known| known == name).ok_or_else(|| missing(&path, name, &names));
    let (url, caption) = (place(&columns.url)?, columns.caption.as_ref().map(place).transpose()?);
    let more = columns.more.iter().map(|name| Ok((name.clone(), place(name)?))).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(rows.into_byte_records().map(move |row| {
        let row = row.map_err(|error| Error::format(&path, error))?;
        let value = |place: usize| row.get(place).and_then(text);
        let more = more.iter().map(|(name, place)| (name.clone(), value(*place).into())).collect();
        Ok(ListRow { url: value(url), caption: caption.and_then(value), more })
    })))
}

fn missing(path: &Path, name: &str, names: &[String]) -> Error {
    let there = if names.is_empty() { "nothing but URLs".into() } else { names.join(", ") };
    Error::format(path, format!("no column {name:?}; there are {there}"))
}

fn table(path: &Path, columns: &ListColumns) -> Result<(Rows, Fields)> {
    let wanted: Vec<&str> = columns.all().map(String::as_str).collect();
    let schema = crate::table::schema(path)?;
    for name in &wanted {
        if schema.field_with_name(name).is_err() {
            let names: Vec<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
            return Err(missing(path, name, &names));
        }
    }
    let field = |name: &String| schema.fields().find(name).map(|(_, field)| field.clone());
    let fields = columns.more.iter().filter_map(field).collect();
    let (columns, path): (_, PathBuf) = (columns.clone(), path.into());
    let rows = Batches::open(&path, BATCH_ROWS, Some(&wanted))?.flat_map(move |batch| {
        match batch.and_then(|batch| rows(&batch, &columns, &path)) {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }
    });
    Ok((Box::new(rows), fields))
}

fn rows(batch: &RecordBatch, columns: &ListColumns, path: &Path) -> Result<Vec<ListRow>> {
    let texts = |name: &str| -> Result<StringArray> {
        let column = batch.column_by_name(name).ok_or_else(|| Error::format(path, format!("no column {name:?}")))?;
        let texts = cast(column, &DataType::Utf8);
        let texts = texts.map_err(|error| Error::format(path, format!("column {name:?}: {error}")))?;
        Ok(texts.as_string::<i32>().clone())
    };
    let (urls, captions) = (texts(&columns.url)?, columns.caption.as_deref().map(texts).transpose()?);
    let places: Vec<_> = columns.more.iter().filter_map(|name| batch.schema().index_of(name).ok()).collect();
    let more = batch.project(&places).map_err(|error| error.to_string()).and_then(|more| carried::objects(&more));
    let mut more = more.map_err(|cause| Error::format(path, cause))?.into_iter();
    let value = |texts: &StringArray, row: usize| (!texts.is_null(row)).then(|| texts.value(row).to_owned());
    let row = |row| ListRow {
        url: value(&urls, row),
        caption: captions.as_ref().and_then(|texts| value(texts, row)),
        more: more.next().unwrap_or_default(),
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(name: &str, content: &[u8], caption: bool) -> Result<Vec<ListRow>> {
        let columns = ListColumns { url: "url".into(), caption: caption.then(|| "text".into()), more: Vec::new() };
        let content = content.to_vec();
        ListReader::open(Path::new(name), &columns, |_| Ok(Box::new(io::Cursor::new(content))))?.collect()
    }

    fn row(url: &str, caption: &str) -> ListRow {
        let value = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ListRow { url: value(url), caption: value(caption), more: Object::new() }
    }

    #[test]
    fn every_kind_gives_its_rows() {
        let both = vec![row("http://a.com/1", "a \"red\", car"), row("", "no address"), row("http://a.com/2", "")];
        let lists: [(&str, &[u8]); 4] = [
            (
                "a.csv",
                b"\xEF\xBB\xBFid,url,text\n1,http://a.com/1,\"a \"\"red\"\", car\"\n2,,no address\n3,http://a.com/2\n",
            ),
            ("a.tsv", b"text\turl\r\n\"a \"\"red\"\", car\"\thttp://a.com/1\r\nno address\t\r\n\thttp://a.com/2\r\n"),
            (
                "a.jsonl",
                br#"{"url":"http://a.com/1","text":"a \"red\", car"}

{"text":"no address","url":null}
{"url":"http://a.com/2","text":7}"#,
            ),
            (
                "a.json",
                br#" [ {"url":"http://a.com/1","text":"a \"red\", car","more":[{}]} ,
                {"text":"no address"},{"url":"http://a.com/2"}]"#,
            ),
        ];
        for (name, content) in lists {
            assert_eq!(read(name, content, true).expect(name), both, "{name}");
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(content).expect("memory");
            assert_eq!(
                read(&format!("{name}.gz"), &gzip.finish().expect("memory"), true).expect(name),
                both,
                "{name}.gz"
            );
        }
        let urls = read("a.txt", b"http://a.com/1\n\n  http://a.com/2 \r\nhttp://a.com/\xFF", false).expect("a list");
        assert_eq!(urls, [row("http://a.com/1", ""), row("http://a.com/2", ""), row("http://a.com/\u{FFFD}", "")]);
        assert!(read("a.json", b"[]", false).expect("empty").is_empty());
    }

    #[test]
    fn further_columns_come_along() {
        let columns = ListColumns { url: "url".into(), caption: None, more: vec!["n".into(), "box".into()] };
        let read = |name: &str, content: &'static [u8]| {
            let reader = ListReader::open(Path::new(name), &columns, |_| Ok(Box::new(content)));
            reader.and_then(Iterator::collect::<Result<Vec<_>>>)
        };
        let rows = read("a.jsonl", br#"{"url":"x","n":7,"box":[0.5],"other":1}"#).expect("a list");
        assert_eq!(serde_json::to_string(&rows[0].more).expect("plain data"), r#"{"box":[0.5],"n":7}"#);
        let rows = read("a.csv", b"n,url,box,other\n7,x,[0.5],1\n").expect("a list");
        assert_eq!(serde_json::to_string(&rows[0].more).expect("plain data"), r#"{"box":"[0.5]","n":"7"}"#);
        let error = read("a.csv", b"n,url\n").expect_err("no box").to_string();
        assert!(error.contains("no column \"box\"; there are n, url"), "{error}");
        let error = read("a.txt", b"x\n").expect_err("no columns").to_string();
        assert!(error.contains("a.txt: no column \"n\""), "{error}");
    }

    #[test]
    fn errors_name_the_place() {
        let cases: [(&str, &[u8], &str); 9] = [
            ("a.xlsx", b"", "a.xlsx: a list is a txt, csv"),
            ("a.parquet.gz", b"", "a list is a txt, csv"),
            ("a.csv", b"id,link\n", "no column \"url\"; there are id, link"),
            ("a.jsonl", b"{\"url\":\"x\"}\n{\"url\":", "a.jsonl: line 2: "),
            ("a.jsonl", b"[1]", "line 1: a row is an object"),
            ("a.json", b"{\"url\":\"x\"}", "an array of objects"),
            ("a.json", b"[{\"url\":\"x\"} {\"url\":\"y\"}]", "row 1: neither a comma"),
            ("a.json", b"[{\"url\":\"x\"},7]", "row 2: no object"),
            ("a.json", b"[{\"url\":\"x\"},{\"url\":\"y\"}", "neither a comma nor the end"),
        ];
        for (name, content, expected) in cases {
            let error = read(name, content, false).expect_err(name).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_row_without_end_is_an_error_and_takes_little_memory() {
        let endless = |start: &'static [u8]| {
            let source = start.chain(io::repeat(b'a').take(64 << 20));
            let columns = ListColumns { url: "url".into(), caption: None, more: Vec::new() };
            let name = if start.starts_with(b"url") {
                "a.csv"
            } else if start.starts_with(b"[") {
                "a.json"
            } else {
                "a.txt"
            };
            let rows = ListReader::open(Path::new(name), &columns, |_| Ok(Box::new(source))).expect("a list");
            rows.collect::<Result<Vec<_>>>().expect_err(name).to_string()
        };
        for start in [b"url\n\"".as_slice(), b"[{\"url\":\"", b"http://a.com/"] {
            let error = endless(start);
            assert!(error.contains("a row of over"), "{error}");
        }
        let many = "http://a.com/1234567890\n".repeat(1_000_000);
        assert_eq!(read("a.txt", many.as_bytes(), false).expect("short rows").len(), 1_000_000);
    }
}
