//! The rows and pictures of a shard that has been written.

use std::path::{Path, PathBuf};

use arrow_array::Array;
use arrow_array::cast::AsArray;

use super::Layout;
use crate::files;
use crate::members::Members;
use crate::proto::{self, Feature};
use crate::row::FromBatch;
use crate::schema::ImageRow;
use crate::table::Batches;
use crate::tfrecord::RecordReader;
use crate::webdataset::tar_path;
use crate::{Error, Result, ShardId};

/// Rows in memory at a time; with the pictures of the layout [`Layout::Parquet`], 20 KB each.
const BATCH_ROWS: usize = 256;

/// Reads one shard, a row after the other, each with its picture if it has one.
#[derive(Debug)]
pub struct ShardReader {
    ending: &'static str,
    table: Batches,
    path: PathBuf,
    rows: std::vec::IntoIter<(ImageRow, Option<Vec<u8>>)>,
    pictures: Pictures,
}

#[derive(Debug)]
enum Pictures {
    Tar(Members, PathBuf),
    Files(PathBuf),
    Column,
    Records(RecordReader, PathBuf),
}

impl ShardReader {
    /// Opens shard `id` of `folder`.
    pub fn open(folder: &Path, id: ShardId, layout: Layout, ending: &'static str) -> Result<Self> {
        let path = folder.join(format!("{id}.parquet"));
        let (tar, records) = (tar_path(folder, id), folder.join(format!("{id}.tfrecord")));
        let pictures = match layout {
            Layout::Webdataset => Pictures::Tar(Members::open(&tar)?, tar),
            Layout::Files => Pictures::Files(folder.join(id.to_string())),
            Layout::Parquet => Pictures::Column,
            Layout::Tfrecord => Pictures::Records(RecordReader::open(&records)?, records),
            Layout::Dummy => {
                return Err(Error::Invalid(format!("{}: no pictures and no rows were kept", folder.display())));
            }
        };
        let table = Batches::open(&path, BATCH_ROWS, None)?;
        Ok(Self { ending, table, path, rows: Vec::new().into_iter(), pictures })
    }

    fn read(&mut self) -> Result<Option<(ImageRow, Option<Vec<u8>>)>> {
        let (row, picture) = loop {
            if let Some(next) = self.rows.next() {
                break next;
            }
            let Some(batch) = self.table.next().transpose()? else { return Ok(None) };
            let rows = ImageRow::from_batch(&batch).map_err(|cause| Error::format(&self.path, cause))?;
            let column = batch.column_by_name(self.ending).and_then(|column| column.as_binary_opt::<i32>());
            let picture = |row| column.filter(|c| !c.is_null(row)).map(|column| column.value(row).to_vec());
            let rows: Vec<_> = rows.into_iter().enumerate().map(|(at, row)| (row, picture(at))).collect();
            self.rows = rows.into_iter();
        };
        if !row.is_success() {
            return Ok(Some((row, None)));
        }
        let name = format!("{}.{}", row.key, self.ending);
        let (found, place) = match &mut self.pictures {
            Pictures::Column => (picture, &self.path),
            Pictures::Files(folder) => (Some(files::read(folder.join(&name))?), &*folder),
            Pictures::Tar(members, path) => {
                let mut found = None;
                while let (None, Some(member)) = (&found, members.next()?) {
                    if member.name == name {
                        found = Some(members.part(&member, 0, member.bytes as usize)?.to_vec());
                    }
                }
                (found, &*path)
            }
            Pictures::Records(records, path) => {
                let record = records.next().transpose()?.unwrap_or_default();
                let (mut key, mut picture) = (None, None);
                proto::decode(&record, |name, feature| match feature {
                    Feature::Bytes(bytes) if name == b"key" => key = Some(bytes),
                    Feature::Bytes(bytes) if name == self.ending.as_bytes() => picture = Some(bytes.to_vec()),
                    _ => {}
                });
                (picture.filter(|_| key == Some(row.key.as_bytes())), &*path)
            }
        };
        let missing = || Error::format(place, format!("{name} is missing, or not in the order of the table"));
        found.map(|picture| Some((row, Some(picture)))).ok_or_else(missing)
    }
}

impl Iterator for ShardReader {
    type Item = Result<(ImageRow, Option<Vec<u8>>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}
