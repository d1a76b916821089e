//! Packages with a file for every shard: tars, tables, matrices.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dataset::croissant::{Kind, Origin};
use dataset::encoded::{dimensions, ending};
use dataset::npy::MatrixWriter;
use dataset::schema::{PackedRow, PublishedRow};
use dataset::table::TableWriter;
use dataset::webdataset::{TarWriter, tar_path};
use dataset::{Counts, EmbeddingFiles, FileEntry, Result, ShardId, publish};

use super::sink::{Sample, Sink};

/// The file in which open_clip looks for the number of samples of each tar.
const SIZES: &str = "sizes.json";

/// Publishes it.
pub(super) fn publish_sizes(folder: &Path, sizes: &BTreeMap<String, u64>) -> Result<FileEntry> {
    let text = serde_json::to_string_pretty(sizes).expect("plain data");
    publish(&folder.join(SIZES), text.as_bytes())
}

fn packed_row(sample: &Sample, stored: Option<(i32, i32)>) -> PackedRow {
    let example = &sample.example;
    let (original_width, original_height) = example.known_size();
    PackedRow {
        image_path: sample.key.clone(),
        caption: example.caption.clone(),
        url: example.url.clone(),
        key: sample.key.clone(),
        status: "success".into(),
        error_message: None,
        license: license(&example.license),
        nsfw: example.nsfw.name().into(),
        similarity: example.known_similarity(),
        width: stored.map(|(width, _)| width),
        height: stored.map(|(_, height)| height),
        original_width,
        original_height,
    }
}

fn license(name: &str) -> String {
    if name.is_empty() { "?".into() } else { name.into() }
}

/// `NNNNN.tar`, `NNNNN.parquet`, and the sizes of all.
pub(super) struct WebdatasetSink {
    folder: PathBuf,
    open: Option<(ShardId, TarWriter, TableWriter<PackedRow>, u64)>,
    sizes: BTreeMap<String, u64>,
    files: Vec<FileEntry>,
}

impl WebdatasetSink {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), open: None, sizes: BTreeMap::new(), files: Vec::new() }
    }

    fn close(&mut self) -> Result<()> {
        if let Some((shard, tar, table, samples)) = self.open.take() {
            self.files.push(tar.publish()?);
            self.files.push(table.publish()?);
            self.sizes.insert(format!("{shard}.tar"), samples);
        }
        Ok(())
    }
}

impl Sink for WebdatasetSink {
    fn begin(&mut self, _: ShardId, _: u64) -> Result<()> {
        self.close()
    }

    fn push(&mut self, sample: &mut Sample<'_>) -> Result<()> {
        let (_, tar, table, samples) = match &mut self.open {
            Some(open) => open,
            none => {
                let shard = sample.shard;
                let tar = TarWriter::create(&tar_path(&self.folder, shard))?;
                let table = TableWriter::create(&self.folder.join(format!("{shard}.parquet")))?;
                none.insert((shard, tar, table, 0))
            }
        };
        let image = sample.example.image.as_deref().unwrap_or_default();
        let row = packed_row(sample, dimensions(image));
        let json = serde_json::json!({
            "caption": row.caption, "url": row.url, "key": row.key, "status": row.status, "error_message": null,
            "LICENSE": row.license, "NSFW": row.nsfw, "similarity": row.similarity,
            "width": row.width, "height": row.height,
            "original_width": row.original_width, "original_height": row.original_height,
        });
        let json = serde_json::to_string_pretty(&json).expect("plain data");
        tar.push(&format!("{}.{}", row.key, ending(image)), image)?;
        tar.push(&format!("{}.json", row.key), json.as_bytes())?;
        tar.push(&format!("{}.txt", row.key), row.caption.as_bytes())?;
        table.push(row)?;
        *samples += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>, _: Origin, _: &Counts) -> Result<Vec<FileEntry>> {
        self.close()?;
        self.files.push(publish_sizes(&self.folder, &self.sizes)?);
        Ok(self.files)
    }

    fn kind(&self) -> Kind {
        Kind::Webdataset
    }
}

/// `part-NNNNN.snappy.parquet`.
pub(super) struct ReleaseSink {
    folder: PathBuf,
    open: Option<TableWriter<PublishedRow>>,
    files: Vec<FileEntry>,
}

impl ReleaseSink {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), open: None, files: Vec::new() }
    }
}

impl Sink for ReleaseSink {
    fn begin(&mut self, shard: ShardId, _: u64) -> Result<()> {
        let next = TableWriter::create(&self.folder.join(format!("part-{shard}.snappy.parquet")))?;
        if let Some(table) = self.open.replace(next) {
            self.files.push(table.publish()?);
        }
        Ok(())
    }

    fn push(&mut self, sample: &mut Sample<'_>) -> Result<()> {
        let example = &sample.example;
        let (width, height) = example.known_size();
        let row = PublishedRow {
            sample_id: sample.id,
            url: example.url.clone(),
            text: example.caption.clone(),
            height,
            width,
            license: license(&example.license),
            nsfw: example.nsfw.name().into(),
            similarity: example.known_similarity(),
        };
        self.open.as_mut().expect("a shard has begun").push(row)
    }

    fn finish(mut self: Box<Self>, _: Origin, _: &Counts) -> Result<Vec<FileEntry>> {
        if let Some(table) = self.open.take() {
            self.files.push(table.publish()?);
        }
        Ok(self.files)
    }

    fn kind(&self) -> Kind {
        Kind::Release
    }
}

/// `img_emb/img_emb_N.npy`, `text_emb/text_emb_N.npy`, `metadata/metadata_N.parquet`.
pub(super) struct NpySink {
    folder: PathBuf,
    rows: u64,
    open: Option<(MatrixWriter, MatrixWriter, TableWriter<PackedRow>)>,
    files: Vec<FileEntry>,
}

impl NpySink {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), rows: 0, open: None, files: Vec::new() }
    }

    fn close(&mut self) -> Result<()> {
        if let Some((image, text, table)) = self.open.take() {
            self.files.push(image.publish()?.below("img_emb"));
            self.files.push(text.publish()?.below("text_emb"));
            self.files.push(table.publish()?.below("metadata"));
        }
        Ok(())
    }
}

impl Sink for NpySink {
    fn begin(&mut self, _: ShardId, rows: u64) -> Result<()> {
        self.rows = rows;
        self.close()
    }

    fn push(&mut self, sample: &mut Sample<'_>) -> Result<()> {
        let (image, text) = sample.example.embeddings.as_ref().expect("the input holds embeddings");
        let (images, texts, table) = match &mut self.open {
            Some(open) => open,
            none => {
                let paths = EmbeddingFiles::of(&self.folder, sample.shard);
                let matrix = |path, row: &[_]| MatrixWriter::create(path, self.rows as usize, row.len());
                let table = TableWriter::create(&paths.metadata)?;
                none.insert((matrix(&paths.image, image)?, matrix(&paths.text, text)?, table))
            }
        };
        images.push_f16(image)?;
        texts.push_f16(text)?;
        table.push(packed_row(sample, None))
    }

    fn finish(mut self: Box<Self>, _: Origin, _: &Counts) -> Result<Vec<FileEntry>> {
        self.close()?;
        Ok(self.files)
    }

    fn kind(&self) -> Kind {
        Kind::Embeddings
    }
}
