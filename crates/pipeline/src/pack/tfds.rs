//! Both TFDS configurations, out of the packages of the shards.

use dataset::croissant::{self, Kind, Origin, describe};
use dataset::files;
use dataset::npy::MatrixReader;
use dataset::schema::KeptRow;
use dataset::table::{TableReader, read_table};
use dataset::tfds::{Config, DATASET, Example, FileFormat, TfdsWriter, VERSION, folder};
use dataset::webdataset::{read_samples, tar_path};
use dataset::{
    Counts, EmbeddingFiles, Error, FileEntry, Marker, Nsfw, Packages, Progress, Result, SampleKey, ShardId, Status,
    file_sha256, list_shards,
};
use half::f16;

/// Dimensions of the embeddings the catalogue describes: ViT-B/32.
pub(super) const DIMENSIONS: usize = 512;

/// Packs the shards of `packages` as `laion400m/images` and `laion400m/embeddings`, in each of the formats. Both need all shards at once,
/// since TFDS orders examples by a hash of their keys.
pub(super) fn pack_tfds(packages: &Packages, formats: &[FileFormat], progress: &dyn Progress) -> Result<()> {
    let shards = list_shards(&packages.webdataset(), "parquet")?;
    let mut inputs = Vec::new();
    let mut counts = Counts::default();
    for &id in &shards {
        let table = packages.webdataset().join(format!("{id}.parquet"));
        inputs.push(file_sha256(&table)?);
        counts.add_many(Status::Kept, TableReader::<KeptRow>::open(&table)?.row_count());
    }
    for config in Config::ALL {
        let marker = packages.tfds().join(format!("{DATASET}-{}.json", config.name()));
        let described = serde_json::json!({"config": config.name(), "file_formats": names(formats)});
        if Marker::done(&marker, &described, &inputs)?.is_some() {
            continue;
        }
        let files = match config {
            Config::Images => pack_images(packages, formats, &shards)?,
            Config::Embeddings => match pack_embeddings(packages, formats, &shards)? {
                Some(files) => files,
                None => {
                    warn_of_dimensions(progress);
                    continue;
                }
            },
        };
        let kind = Kind::Tfds(config, formats.first().copied().unwrap_or_default());
        let description = describe(kind, Origin::Crawl, counts.kept);
        let croissant = croissant::write(&folder(&packages.tfds(), config), &description, &files)?;
        let folder = format!("{DATASET}/{}/{VERSION}", config.name());
        let files = files.into_iter().chain([croissant]).map(|file| file.below(&folder)).collect();
        Marker::finish(&marker, &described, inputs.clone(), counts.clone(), files)?;
    }
    Ok(())
}

/// Says why there is no configuration of embeddings.
pub(super) fn warn_of_dimensions(progress: &dyn Progress) {
    progress.warn(&format!("pack: no {DATASET}/embeddings: it holds {DIMENSIONS} dimensions"));
}

/// What a marker says of the formats.
pub(super) fn names(formats: &[FileFormat]) -> Vec<&'static str> {
    formats.iter().map(|format| format.name()).collect()
}

/// TFDS's key of an example: shard and row, without zeros in front.
fn key(row: &KeptRow) -> Result<String> {
    let key: SampleKey = row.key.parse()?;
    Ok(format!("{}_{}", key.shard.0, key.row))
}

pub(super) fn example(row: KeptRow) -> Example {
    Example {
        caption: row.caption,
        image: None,
        embeddings: None,
        license: row.license,
        nsfw: Nsfw::from_name(&row.nsfw),
        original_height: row.original_height,
        original_width: row.original_width,
        similarity: row.similarity,
        url: row.url,
    }
}

fn pack_images(packages: &Packages, formats: &[FileFormat], shards: &[ShardId]) -> Result<Vec<FileEntry>> {
    let mut expected_bytes = 0;
    for &id in shards {
        expected_bytes += files::length(tar_path(&packages.webdataset(), id))?;
    }
    let mut writer = TfdsWriter::create(&packages.tfds(), Config::Images, formats, expected_bytes)?;
    for &id in shards {
        let tar = tar_path(&packages.webdataset(), id);
        let mut rows = read_table::<KeptRow>(&packages.webdataset().join(format!("{id}.parquet")))?.into_iter();
        read_samples(&tar, |mut sample| {
            let row = rows.next().filter(|row| row.key == sample.key);
            let row = row.ok_or_else(|| Error::format(&tar, format!("sample {} is not in its table", sample.key)))?;
            let image = sample.files.remove("jpg");
            writer.push(&key(&row)?, &Example { image, ..example(row) })
        })?;
    }
    writer.finish()
}

fn pack_embeddings(packages: &Packages, formats: &[FileFormat], shards: &[ShardId]) -> Result<Option<Vec<FileEntry>>> {
    let mut expected_bytes = 0;
    for &id in shards {
        let matrix = MatrixReader::open(&EmbeddingFiles::of(&packages.embeddings(), id).image)?;
        if matrix.columns() != DIMENSIONS {
            return Ok(None);
        }
        expected_bytes += (matrix.rows() * DIMENSIONS * 8) as u64;
    }
    let mut writer = TfdsWriter::create(&packages.tfds(), Config::Embeddings, formats, expected_bytes)?;
    for &id in shards {
        let files = EmbeddingFiles::of(&packages.embeddings(), id);
        let (mut images, mut texts) = (MatrixReader::open(&files.image)?, MatrixReader::open(&files.text)?);
        for row in TableReader::<KeptRow>::open(&files.metadata)? {
            let (row, mut image, mut text) = (row?, Vec::<f16>::new(), Vec::<f16>::new());
            if !(images.read_row(&mut image)? && texts.read_row(&mut text)?) {
                return Err(Error::format(&files.metadata, "more rows than its matrices"));
            }
            writer.push(&key(&row)?, &Example { embeddings: Some((image, text)), ..example(row) })?;
        }
    }
    writer.finish().map(Some)
}
