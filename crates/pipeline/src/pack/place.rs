//! Where the kept rows of a run are, with everything that belongs to them: in its packages, for a run that keeps no
//! pictures has them nowhere else, or in the folders of its stages.

use std::path::PathBuf;

use dataset::carried::RecordBatch;
use dataset::schema::{CuratedRow, KeptRow};
use dataset::table::{TableReader, further_columns_of, read_table};
use dataset::webdataset::tar_path;
use dataset::{EmbeddingFiles, Marker, Packages, Result, Run, ShardId, file_sha256, list_shards};

use super::keys::Keys;

/// Which rows of a run are packed: the kept ones, or those of them that are listed.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    pub(super) run: &'a Run,
    pub(super) keys: Option<&'a Keys>,
}

impl Choice<'_> {
    /// The shards that have such rows.
    pub(super) fn shards(&self) -> Result<Vec<ShardId>> {
        let mut shards = list_shards(&self.run.curated(), "parquet")?;
        shards.retain(|&id| self.keys.is_none_or(|keys| keys.has_shard(id)));
        Ok(shards)
    }

    /// The verdicts on a shard.
    pub(super) fn curated(&self, id: ShardId) -> PathBuf {
        self.run.curated().join(format!("{id}.parquet"))
    }

    /// How many rows of a shard are gone through.
    pub(super) fn row_count(&self, id: ShardId) -> Result<u64> {
        match self.keys {
            Some(keys) => Ok(keys.count(id)),
            None => Ok(TableReader::<CuratedRow>::open(&self.curated(id))?.row_count()),
        }
    }

    /// What a marker says of the rows of a shard.
    pub(super) fn inputs(&self, id: ShardId) -> Result<Vec<String>> {
        let mut inputs = vec![file_sha256(&self.curated(id))?];
        inputs.extend(self.keys.map(|keys| keys.input(id)));
        Ok(inputs)
    }

    /// Whether all shards are among the packages, as WebDataset and as matrices.
    pub(super) fn are_packed(&self, packages: &Packages) -> Result<bool> {
        for id in self.shards()? {
            if !is_packed(packages, id, &self.inputs(id)?)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where a shard is: among the packages of the output, of the run, or else in the folders of the stages.
    pub(super) fn place(&self, output: &Packages, id: ShardId) -> Result<Place> {
        if is_packed(output, id, &self.inputs(id)?)? {
            return Ok(Place::packed(output, id));
        }
        self.place_in_run(id)
    }

    /// The same without the output.
    pub(super) fn place_in_run(&self, id: ShardId) -> Result<Place> {
        let packages = self.run.packages();
        if is_packed(&packages, id, &[file_sha256(&self.curated(id))?])? {
            return Ok(Place::packed(&packages, id));
        }
        Ok(Place::staged(self.run, id))
    }

    /// The chosen rows of a shard in the order of their keys, each with the row of the matrices it belongs to. Where its
    /// picture is in a tar is not told.
    pub(super) fn rows(&self, place: &Place) -> Result<Vec<(i64, KeptRow)>> {
        let mut rows: Vec<_> = match &place.table {
            Table::Packed(path) => (0..).zip(read_table::<KeptRow>(path)?).collect(),
            Table::Curated(path) => {
                let mut kept = Vec::new();
                for row in TableReader::<CuratedRow>::open(path)? {
                    let row = row?;
                    if row.is_kept() {
                        kept.push((row.embedding_row, kept_row(row)));
                    }
                }
                kept
            }
        };
        if let Some(keys) = self.keys {
            rows.retain(|(_, row)| keys.has(&row.key));
        }
        for (_, row) in &mut rows {
            (row.image_offset, row.image_bytes) = (0, 0);
        }
        rows.sort_by(|(_, a), (_, b)| a.key.cmp(&b.key));
        Ok(rows)
    }

    /// What heads made of these rows: a column for each head, in the order of the rows.
    pub(super) fn scores(&self, place: &Place, rows: &[(i64, KeptRow)]) -> Result<RecordBatch> {
        let keys = rows.iter().map(|(_, row)| row.key.as_str());
        match &place.table {
            Table::Packed(path) => further_columns_of::<KeptRow>(path, keys),
            Table::Curated(path) => further_columns_of::<CuratedRow>(path, keys),
        }
    }
}

fn is_packed(packages: &Packages, id: ShardId, inputs: &[String]) -> Result<bool> {
    let path = Marker::of_shard(packages.folder(), id);
    let Some(marker) = Marker::read(&path)? else { return Ok(false) };
    let has = |folder: &str| marker.files.iter().any(|file| file.name.starts_with(folder));
    let sound = marker.inputs == inputs && marker.is_whole(&path)?;
    Ok(sound && has("webdataset/") && has("embeddings/"))
}

/// Where the pictures, rows and embeddings of a shard are.
pub(super) struct Place {
    pub(super) id: ShardId,
    pub(super) tar: PathBuf,
    pub(super) matrices: EmbeddingFiles,
    table: Table,
}

enum Table {
    Packed(PathBuf),
    Curated(PathBuf),
}

impl Place {
    /// Among packages.
    fn packed(packages: &Packages, id: ShardId) -> Self {
        Self {
            id,
            tar: tar_path(&packages.webdataset(), id),
            matrices: EmbeddingFiles::of(&packages.embeddings(), id),
            table: Table::Packed(packages.webdataset().join(format!("{id}.parquet"))),
        }
    }

    /// In the folders of the stages.
    pub(super) fn staged(run: &Run, id: ShardId) -> Self {
        Self {
            id,
            tar: tar_path(&run.images(), id),
            matrices: EmbeddingFiles::of(&run.embeddings(), id),
            table: Table::Curated(run.curated().join(format!("{id}.parquet"))),
        }
    }
}

fn kept_row(row: CuratedRow) -> KeptRow {
    KeptRow {
        image_path: row.key.clone(),
        caption: row.caption,
        url: row.url,
        key: row.key,
        page_url: row.page_url,
        license: row.license.unwrap_or_else(|| "?".into()),
        language: row.language,
        nsfw: row.nsfw,
        similarity: row.similarity,
        width: row.width,
        height: row.height,
        original_width: row.original_width,
        original_height: row.original_height,
        image_offset: 0,
        image_bytes: 0,
    }
}
