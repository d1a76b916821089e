//! The kept rows of a run with everything that belongs to them: from its packages where they are, for a run that keeps
//! no pictures has them nowhere else; otherwise from the folders of its stages.

use std::collections::HashMap;
use std::path::PathBuf;

use dataset::croissant::Origin;
use dataset::hub::HubColumns;
use dataset::npy::MatrixReader;
use dataset::schema::{CuratedRow, KeptRow};
use dataset::table::{TableReader, read_table};
use dataset::tfds::{Config, Example, FileFormat};
use dataset::webdataset::{read_samples, tar_path};
use dataset::{
    Counts, EmbeddingFiles, Error, Marker, Nsfw, Packages, Progress, Result, Run, SampleKey, ShardId, Stage,
    file_sha256,
};
use half::f16;

use super::format::Format;
use super::package::{Ledger, Plan, Source, pack};
use super::sink::Names;
use super::tfds::DIMENSIONS;

/// Packs the kept rows of a run in one pass, as TFDS, for the Hub, or both.
pub(super) fn pack_kept(
    run: &Run,
    output: &Packages,
    formats: &[Format],
    file_formats: &[FileFormat],
    shards: &[ShardId],
    progress: &dyn Progress,
) -> Result<Counts> {
    let (mut inputs, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut dimensions = None;
    let mut places = Vec::new();
    for &id in shards {
        let curated = run.curated().join(format!("{id}.parquet"));
        let hash = file_sha256(&curated)?;
        let place = Place::find(run, output, id, &hash)?;
        dimensions = Some(MatrixReader::open(&place.matrices.image)?.columns());
        bytes += fs_err::metadata(&place.tar)?.len();
        rows.push(TableReader::<CuratedRow>::open(&curated)?.row_count());
        inputs.push(hash);
        places.push(place);
    }
    let mut plans = Vec::new();
    if formats.contains(&Format::Hf) {
        plans.push(Plan::new(output.folder(), Format::Hf));
    }
    if formats.contains(&Format::Tfds) {
        plans.push(Plan::tfds(&output.tfds(), Config::Images, file_formats));
        if dimensions == Some(DIMENSIONS) {
            plans.push(Plan::tfds(&output.tfds(), Config::Embeddings, file_formats));
        } else {
            super::tfds::warn_of_dimensions(progress);
        }
    }
    let source = Source {
        input: &run.curated(),
        inputs,
        origin: Origin::Crawl,
        names: Names::for_rows(&[]),
        file_formats,
        unsorted_rows: None,
        columns: HubColumns { images: true, dimensions },
        expected_bytes: bytes,
    };
    let begin = || Ok(progress.begin(Stage::Pack, Some(rows.iter().sum())));
    pack(&plans, &source, begin, |ledger| places.iter().try_for_each(|place| place.feed(ledger)))
}

/// Whether all shards are among the packages, as WebDataset and as matrices.
pub(super) fn are_packed(run: &Run, packages: &Packages, shards: &[ShardId]) -> Result<bool> {
    for &id in shards {
        if !is_packed(packages, id, &file_sha256(&run.curated().join(format!("{id}.parquet")))?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_packed(packages: &Packages, id: ShardId, curated_hash: &str) -> Result<bool> {
    let path = Marker::of_shard(packages.folder(), id);
    let Some(marker) = Marker::read(&path)? else { return Ok(false) };
    let has = |folder: &str| marker.files.iter().any(|file| file.name.starts_with(folder));
    let sound = marker.inputs == [curated_hash] && marker.damaged(&path).is_none();
    Ok(sound && has("webdataset/") && has("embeddings/"))
}

/// Where the pictures, rows and embeddings of a shard are.
struct Place {
    id: ShardId,
    tar: PathBuf,
    matrices: EmbeddingFiles,
    table: Table,
}

enum Table {
    Packed(PathBuf),
    Curated(PathBuf),
}

impl Place {
    fn find(run: &Run, output: &Packages, id: ShardId, curated_hash: &str) -> Result<Self> {
        for packages in [output, &run.packages()] {
            if is_packed(packages, id, curated_hash)? {
                return Ok(Self {
                    id,
                    tar: tar_path(&packages.webdataset(), id),
                    matrices: EmbeddingFiles::of(&packages.embeddings(), id),
                    table: Table::Packed(packages.webdataset().join(format!("{id}.parquet"))),
                });
            }
        }
        Ok(Self {
            id,
            tar: tar_path(&run.images(), id),
            matrices: EmbeddingFiles::of(&run.embeddings(), id),
            table: Table::Curated(run.curated().join(format!("{id}.parquet"))),
        })
    }

    /// Kept rows by key, with the row of the matrices they belong to.
    fn rows(&self) -> Result<HashMap<String, (i64, Example)>> {
        let rows = match &self.table {
            Table::Packed(path) => {
                let rows = read_table::<KeptRow>(path)?.into_iter().zip(0..);
                rows.map(|(row, place)| (row.key.clone(), (place, super::tfds::example(row)))).collect()
            }
            Table::Curated(path) => {
                let kept = read_table::<CuratedRow>(path)?.into_iter().filter(CuratedRow::is_kept);
                kept.map(|row| (row.key.clone(), (row.embedding_row, curated_example(row)))).collect()
            }
        };
        Ok(rows)
    }

    fn feed(&self, ledger: &mut Ledger<'_>) -> Result<()> {
        let mut rows = self.rows()?;
        ledger.begin(self.id, rows.len() as u64)?;
        let (mut images, mut texts) = (Rows::open(&self.matrices.image)?, Rows::open(&self.matrices.text)?);
        read_samples(&self.tar, |mut sample| {
            let Some((row, mut example)) = rows.remove(&sample.key) else { return Ok(()) };
            let image = sample.files.remove("jpg");
            let lacks = || Error::format(&self.tar, format!("sample {} has no jpg", sample.key));
            example.image = Some(image.ok_or_else(lacks)?);
            example.embeddings = Some((images.at(row)?, texts.at(row)?));
            let key: SampleKey = sample.key.parse()?;
            ledger.enter(Ok((format!("{}_{}", key.shard.0, key.row), example)))
        })?;
        match rows.keys().min() {
            Some(key) => Err(Error::format(&self.tar, format!("{} kept samples are missing, first {key}", rows.len()))),
            None => Ok(()),
        }
    }
}

/// A matrix whose rows are asked for in order, some left out.
struct Rows {
    matrix: MatrixReader,
    path: PathBuf,
    read: i64,
}

impl Rows {
    fn open(path: &std::path::Path) -> Result<Self> {
        Ok(Self { matrix: MatrixReader::open(path)?, path: path.into(), read: 0 })
    }

    fn at(&mut self, row: i64) -> Result<Vec<f16>> {
        let mut values = Vec::new();
        if row < self.read {
            return Err(Error::format(&self.path, format!("row {row} comes after row {}", self.read - 1)));
        }
        while self.read <= row {
            if !self.matrix.read_row(&mut values)? {
                return Err(Error::format(&self.path, format!("no row {row}")));
            }
            self.read += 1;
        }
        Ok(values)
    }
}

fn curated_example(row: CuratedRow) -> Example {
    Example {
        caption: row.caption,
        image: None,
        embeddings: None,
        license: row.license.unwrap_or_else(|| "?".into()),
        nsfw: Nsfw::from_name(&row.nsfw),
        original_height: row.original_height,
        original_width: row.original_width,
        similarity: row.similarity,
        url: row.url,
    }
}
