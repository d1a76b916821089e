//! Shards of images in the layouts of img2dataset, whose names, keys, members and columns they have.

mod reader;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use fs_err as fs;
use parquet::arrow::ArrowWriter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::carried::{self, Object};
use crate::files;
use crate::proto::{self, Feature};
use crate::publish::{Draft, publish, temporary};
use crate::row::Row;
use crate::schema::ImageRow;
use crate::table::{TableWriter, beside, joined, snappy, write_error};
use crate::tfrecord::write_record;
use crate::webdataset::{TarWriter, tar_path};
use crate::{Counts, Error, FileEntry, Result, ShardId};

pub use reader::ShardReader;

/// How the images of a shard are kept, by img2dataset's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `NNNNN.tar` with a picture, a JSON and a caption for each sample, and `NNNNN.parquet`.
    #[default]
    Webdataset,
    /// The same as files in a folder `NNNNN/`, and `NNNNN.parquet`.
    Files,
    /// `NNNNN.parquet` alone, whose last column holds the pictures.
    Parquet,
    /// `NNNNN.tfrecord` with an Example for each sample, and `NNNNN.parquet`.
    Tfrecord,
    /// Nothing but the counts: to measure a network.
    Dummy,
}

/// Bytes of pictures that wait for a row group of the layout [`Layout::Parquet`], and its rows.
const GROUP_BYTES: usize = 16 << 20;
const GROUP_ROWS: usize = 1024;

/// Writes one shard: a row for every pair, and a picture where there is one.
#[derive(Debug)]
pub struct ShardWriter {
    /// Ending of the pictures' names, and the name of their column.
    ending: &'static str,
    further: Vec<Object>,
    rows: usize,
    pictures: Pictures,
    table: Option<TableWriter<ImageRow>>,
}

#[derive(Debug)]
enum Pictures {
    Tar(TarWriter),
    Files(Folder),
    Column(Box<Column>),
    Records(Draft),
    None,
}

/// A sample's JSON: the list's own columns, then ours.
#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    further: &'a Object,
    #[serde(flatten)]
    row: &'a ImageRow,
}

impl ShardWriter {
    /// Starts shard `id` in `folder`. Row i of `further` belongs to row i; its columns come first.
    pub fn create(
        folder: &Path,
        id: ShardId,
        layout: Layout,
        ending: &'static str,
        further: RecordBatch,
    ) -> Result<Self> {
        let path = folder.join(format!("{id}.parquet"));
        let objects = carried::objects(&further).map_err(|cause| Error::Write { path: path.clone(), cause })?;
        let table = |further| TableWriter::create_beside(&path, further).map(Some);
        let (pictures, table) = match layout {
            Layout::Webdataset => (Pictures::Tar(TarWriter::create(&tar_path(folder, id))?), table(further)?),
            Layout::Files => (Pictures::Files(Folder::create(folder, id)?), table(further)?),
            Layout::Parquet => (Pictures::Column(Box::new(Column::create(&path, ending, further)?)), None),
            Layout::Tfrecord => {
                (Pictures::Records(Draft::create(&folder.join(format!("{id}.tfrecord")))?), table(further)?)
            }
            Layout::Dummy => (Pictures::None, None),
        };
        Ok(Self { ending, further: objects, rows: 0, pictures, table })
    }

    /// Appends the next row without anything that the list says of it.
    pub fn push_concealed(&mut self, row: ImageRow) -> Result<()> {
        if let Some(table) = &mut self.table {
            table.conceal()?;
        }
        if let Pictures::Column(column) = &mut self.pictures {
            let at = column.written + column.rows.len();
            column.further =
                carried::concealed(&column.further, at).map_err(|error| write_error(&column.path, error))?;
        }
        self.push(row, None)
    }

    /// Appends the next row, with its picture if there is one.
    pub fn push(&mut self, row: ImageRow, picture: Option<Vec<u8>>) -> Result<()> {
        let further = self.further.get(self.rows);
        let further = further.ok_or_else(|| Error::Invalid(format!("shard: {} has no pair", row.key)))?;
        self.rows += 1;
        let described = Described { further, row: &row };
        match (&mut self.pictures, picture) {
            (Pictures::Tar(tar), Some(picture)) => {
                for (name, content) in members(&described, self.ending, &picture) {
                    tar.push(&name, &content)?;
                }
            }
            (Pictures::Files(folder), Some(picture)) => {
                for (name, content) in members(&described, self.ending, &picture) {
                    folder.push(name, &content)?;
                }
            }
            (Pictures::Records(records), Some(picture)) => {
                write_record(records, &example(&described, self.ending, &picture))?;
            }
            (Pictures::Column(column), picture) => return column.push(row, picture),
            (_, None) | (Pictures::None, _) => {}
        }
        self.table.as_mut().map_or(Ok(()), |table| table.push(row))
    }

    /// Gives all files their final names.
    pub fn publish(self) -> Result<Vec<FileEntry>> {
        let mut files = match self.pictures {
            Pictures::Tar(tar) => vec![tar.publish()?],
            Pictures::Files(folder) => folder.publish()?,
            Pictures::Column(column) => vec![column.publish()?],
            Pictures::Records(records) => vec![records.publish()?],
            Pictures::None => Vec::new(),
        };
        files.extend(self.table.map(TableWriter::publish).transpose()?);
        Ok(files)
    }
}

/// The files of a sample in the order of their names. Where there is no caption, there is no file of it: loaders drop samples
/// without one, but would train on an empty one.
fn members<'a>(described: &Described<'_>, ending: &str, picture: &'a [u8]) -> Vec<(String, Cow<'a, [u8]>)> {
    let row = described.row;
    let json = serde_json::to_string_pretty(described).expect("a row is plain data");
    let mut members = vec![
        (format!("{}.{ending}", row.key), picture.into()),
        (format!("{}.json", row.key), json.into_bytes().into()),
    ];
    if !row.caption.is_empty() {
        members.push((format!("{}.txt", row.key), row.caption.clone().into_bytes().into()));
    }
    members.sort_by(|(a, _), (b, _)| a.cmp(b));
    members
}

/// img2dataset's Example: the picture under its ending, `txt`, and every column; nothing is an empty text.
fn example(described: &Described<'_>, ending: &str, picture: &[u8]) -> Vec<u8> {
    let value = serde_json::to_value(described).expect("a row is plain data");
    let columns: BTreeMap<String, Value> = value.as_object().cloned().unwrap_or_default().into_iter().collect();
    let texts: BTreeMap<&str, String> = columns
        .iter()
        .filter(|(_, value)| value.is_array() || value.is_object())
        .map(|(name, value)| (name.as_str(), value.to_string()))
        .collect();
    let mut features = vec![(ending, Feature::Bytes(picture))];
    if !described.row.caption.is_empty() {
        features.push(("txt", Feature::Bytes(described.row.caption.as_bytes())));
    }
    for (name, value) in &columns {
        let feature = match value {
            Value::Null => Feature::Bytes(b""),
            Value::Bool(value) => Feature::Int((*value).into()),
            Value::String(text) => Feature::Bytes(text.as_bytes()),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Feature::Int(number),
                None => {
                    let number = number.as_f64().unwrap_or(f64::NAN) as f32;
                    Feature::Floats(number.to_le_bytes().to_vec().into())
                }
            },
            Value::Array(_) | Value::Object(_) => Feature::Bytes(texts[name.as_str()].as_bytes()),
        };
        features.push((name, feature));
    }
    let mut out = Vec::new();
    proto::encode(&features, &mut out);
    out
}

/// A folder that appears whole; in a store, file by file. Its files are there when their lengths are as the marker says.
#[derive(Debug)]
struct Folder {
    temporary: PathBuf,
    path: PathBuf,
    files: Vec<FileEntry>,
    /// Keeps others out of it.
    _lock: Option<fs::File>,
}

impl Folder {
    fn create(folder: &Path, id: ShardId) -> Result<Self> {
        let path = folder.join(id.to_string());
        if files::is_remote(folder) {
            if files::exists(&path)? {
                files::remove_dir_all(&path)?;
            }
            return Ok(Self { temporary: path.clone(), path, files: Vec::new(), _lock: None });
        }
        let (lock, temporary) = temporary(folder, &id.to_string(), |path| {
            fs::create_dir_all(path)?;
            fs::File::open(path)
        })?;
        for left in fs::read_dir(&temporary)? {
            fs::remove_file(left?.path())?;
        }
        Ok(Self { temporary, path, files: Vec::new(), _lock: Some(lock) })
    }

    fn push(&mut self, name: String, content: &[u8]) -> Result<()> {
        let path = self.temporary.join(name);
        self.files.push(FileEntry::of(&path, content));
        if files::is_remote(&path) { publish(&path, content).map(drop) } else { Ok(fs::write(path, content)?) }
    }

    fn publish(self) -> Result<Vec<FileEntry>> {
        if self.temporary != self.path {
            loop {
                match fs::remove_dir_all(&self.path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed?,
                }
                match fs::rename(&self.temporary, &self.path) {
                    // Another process has published it in between.
                    Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                    renamed => break renamed?,
                }
            }
        }
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        Ok(self.files.into_iter().map(|file| file.below(&name)).collect())
    }
}

/// A table with pictures in it.
#[derive(Debug)]
struct Column {
    writer: ArrowWriter<Draft>,
    path: PathBuf,
    further: RecordBatch,
    picture: Field,
    written: usize,
    rows: Vec<ImageRow>,
    pictures: Vec<Option<Vec<u8>>>,
}

impl Column {
    fn create(path: &Path, ending: &str, further: RecordBatch) -> Result<Self> {
        let picture = Field::new(ending, DataType::Binary, true);
        let schema = joined(&further, ImageRow::schema());
        let schema = Schema::new([schema.fields().to_vec(), vec![Arc::new(picture.clone())]].concat());
        let writer = ArrowWriter::try_new(Draft::create(path)?, Arc::new(schema), Some(snappy().build()))
            .map_err(|error| write_error(path, error))?;
        let (rows, pictures) = (Vec::new(), Vec::new());
        Ok(Self { writer, path: path.into(), further, picture, written: 0, rows, pictures })
    }

    fn push(&mut self, row: ImageRow, picture: Option<Vec<u8>>) -> Result<()> {
        self.rows.push(row);
        self.pictures.push(picture);
        let bytes: usize = self.pictures.iter().flatten().map(Vec::len).sum();
        if bytes >= GROUP_BYTES || self.rows.len() == GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let pictures: ArrayRef = Arc::new(BinaryArray::from_iter(self.pictures.drain(..)));
        let written = beside(&self.further, self.written, ImageRow::to_batch(&self.rows)).and_then(|rows| {
            let fields = [rows.schema().fields().to_vec(), vec![Arc::new(self.picture.clone())]].concat();
            RecordBatch::try_new(Arc::new(Schema::new(fields)), [rows.columns(), &[pictures]].concat())
        });
        let batch = written.map_err(|error| write_error(&self.path, error))?;
        self.writer.write(&batch).and_then(|()| self.writer.flush()).map_err(|error| write_error(&self.path, error))?;
        self.written += self.rows.len();
        self.rows.clear();
        Ok(())
    }

    fn publish(mut self) -> Result<FileEntry> {
        if !self.rows.is_empty() {
            self.flush()?;
        }
        self.writer.into_inner().map_err(|error| write_error(&self.path, error))?.publish()
    }
}

/// What img2dataset says of a shard in `NNNNN_stats.json`, which its tools count and draw. It holds times, so it is no part of
/// what two runs have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // its names
pub struct Stats {
    pub count: u64,
    pub successes: u64,
    pub failed_to_download: u64,
    pub failed_to_resize: u64,
    /// Seconds.
    pub duration: f64,
    /// Seconds since 1970.
    pub start_time: f64,
    /// Seconds since 1970.
    pub end_time: f64,
    /// Rows by what became of them: `success`, or the name of a reason or failure.
    pub status_dict: BTreeMap<String, u64>,
}

impl Stats {
    /// The counts of a shard; so many of its rows failed after they were downloaded.
    pub fn new(counts: &Counts, failed_to_resize: u64, started: SystemTime, ended: SystemTime) -> Self {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (start_time, end_time) = (seconds(started), seconds(ended));
        let mut status_dict: BTreeMap<_, _> = counts.dropped.iter().chain(&counts.failed).collect();
        let success = "success".to_owned();
        if counts.kept > 0 {
            status_dict.insert(&success, &counts.kept);
        }
        Self {
            count: counts.rows,
            successes: counts.kept,
            failed_to_download: counts.rows - counts.kept - failed_to_resize,
            failed_to_resize,
            duration: end_time - start_time,
            start_time,
            end_time,
            status_dict: status_dict.into_iter().map(|(name, rows)| (name.clone(), *rows)).collect(),
        }
    }

    /// Publishes them beside the shard.
    pub fn publish(&self, folder: &Path, id: ShardId) -> Result<()> {
        let mut draft = Draft::create(&folder.join(format!("{id}_stats.json")))?;
        draft.write_all(serde_json::to_string_pretty(self).expect("plain data").as_bytes())?;
        draft.publish().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Pair;
    use crate::table::further_columns;
    use crate::{Failure, Reason, SampleKey, Status, file_crc32c};
    use fs_err as fs;

    fn row(number: u32, caption: &str, status: Status) -> ImageRow {
        let url = format!("http://a.com/{number}");
        let pair = Pair { uid: "u".into(), url, caption: caption.into(), ..Pair::default() };
        let mut row = ImageRow::new(&pair, SampleKey { shard: ShardId(3), row: number });
        row.set_status(status, false);
        row
    }

    type Rows = Vec<(ImageRow, Option<Vec<u8>>)>;

    fn written(folder: &Path, layout: Layout) -> (Rows, Vec<FileEntry>) {
        let objects: Vec<Object> =
            serde_json::from_str(r#"[{"n":1,"box":[0.5]},{"n":2,"box":[]},{"n":null,"box":null}]"#).expect("objects");
        let fields = carried::fields(&["n".into(), "box".into()], &objects, false).expect("kinds");
        let further = carried::columns(&fields, &objects).expect("columns");
        let rows = vec![
            (row(0, "a \u{e9}", Status::Kept), Some(b"first".to_vec())),
            (row(1, "gone", Status::Failed(Failure::Timeout)), None),
            (row(2, "", Status::Kept), Some(b"second".to_vec())),
        ];
        let mut writer = ShardWriter::create(folder, ShardId(3), layout, "png", further).expect("a new shard");
        for (row, picture) in &rows {
            let pushed = match picture {
                None => writer.push_concealed(row.clone()),
                picture => writer.push(row.clone(), picture.clone()),
            };
            pushed.expect("room");
        }
        (rows, writer.publish().expect("room"))
    }

    #[test]
    fn what_is_written_comes_back_from_every_layout() {
        for layout in [Layout::Webdataset, Layout::Files, Layout::Parquet, Layout::Tfrecord] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (rows, files) = written(folder.path(), layout);
            let reader = ShardReader::open(folder.path(), ShardId(3), layout, "png").expect("a shard");
            assert_eq!(reader.collect::<Result<Vec<_>>>().expect("sound"), rows, "{layout:?}");
            for file in &files {
                let crc = file_crc32c(&folder.path().join(&file.name)).expect("readable");
                assert_eq!(crc, file.crc32c, "{layout:?}: {}", file.name);
            }
            let further = further_columns::<ImageRow>(&folder.path().join("00003.parquet")).expect("a table");
            let told: Vec<_> = carried::objects(&further).expect("rows").iter().map(|row| row["n"].clone()).collect();
            assert_eq!(told, [Value::from(1), Value::Null, Value::Null], "{layout:?}: the second is concealed");
            let columns = crate::table::columns(&folder.path().join("00003.parquet")).expect("a table");
            assert_eq!(columns[..2], ["n", "box"], "{layout:?}");
            assert_eq!(columns.iter().any(|name| name == "png"), layout == Layout::Parquet);
            let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
            let expected: &[&str] = match layout {
                Layout::Webdataset => &["00003.tar", "00003.parquet"],
                Layout::Tfrecord => &["00003.tfrecord", "00003.parquet"],
                Layout::Files => &[
                    "00003/000030000.json",
                    "00003/000030000.png",
                    "00003/000030000.txt",
                    "00003/000030002.json",
                    "00003/000030002.png",
                    "00003.parquet",
                ],
                _ => &["00003.parquet"],
            };
            assert_eq!(names, expected, "{layout:?}");
        }
    }

    #[test]
    fn the_json_of_a_sample_has_the_columns_of_the_list() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        written(folder.path(), Layout::Files);
        let read = |name: &str| fs::read_to_string(folder.path().join("00003").join(name)).expect("a file");
        let json: Value = serde_json::from_str(&read("000030000.json")).expect("JSON");
        assert_eq!((&json["n"], &json["box"], &json["caption"]), (&1.into(), &vec![0.5].into(), &"a \u{e9}".into()));
        assert_eq!(read("000030000.txt"), "a \u{e9}");
    }

    #[test]
    fn a_folder_of_a_killed_call_is_no_part_of_the_next() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for left in [".00003.tmp", "00003"] {
            fs::create_dir(folder.path().join(left)).expect("room");
            fs::write(folder.path().join(left).join("000030001.png"), b"old").expect("room");
        }
        written(folder.path(), Layout::Files);
        assert!(!folder.path().join("00003/000030001.png").exists());
    }

    #[test]
    fn a_folder_that_is_written_twice_at_once_is_that_of_the_last() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let both = ["first", "second"].map(|content| {
            let mut made = Folder::create(folder.path(), ShardId(3)).expect("a new folder");
            made.push(format!("{content}.txt"), content.as_bytes()).expect("room");
            made
        });
        for (made, content) in both.into_iter().zip(["first", "second"]) {
            assert_eq!(made.publish().expect("published").len(), 1);
            let names =
                fs::read_dir(folder.path().join("00003")).expect("whole").map(|entry| entry.expect("read").file_name());
            assert_eq!(names.collect::<Vec<_>>(), [format!("{content}.txt").as_str()]);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        // What was taken away meanwhile is no folder that was published.
        let made = Folder::create(folder.path(), ShardId(4)).expect("a new folder");
        fs::remove_dir_all(&made.temporary).expect("there");
        made.publish().expect_err("nothing there");
    }

    #[test]
    fn the_dummy_keeps_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(written(folder.path(), Layout::Dummy).1, []);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn the_stats_add_up() {
        let mut counts = Counts::default();
        counts.add_many(Status::Kept, 5);
        counts.add_many(Status::Dropped(Reason::RobotsTxt), 2);
        counts.add_many(Status::Failed(Failure::ImageDamaged), 3);
        let time = |millis| UNIX_EPOCH + std::time::Duration::from_millis(millis);
        let stats = Stats::new(&counts, 3, time(10_000), time(12_500));
        let parts = (stats.count, stats.successes, stats.failed_to_download, stats.failed_to_resize, stats.duration);
        assert_eq!(parts, (10, 5, 2, 3, 2.5));
        let dict = serde_json::to_string(&stats.status_dict).expect("plain data");
        assert_eq!(dict, r#"{"image_damaged":3,"robots_txt":2,"success":5}"#);
    }
}
