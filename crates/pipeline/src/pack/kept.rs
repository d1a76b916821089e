//! The kept rows of a run in one pass, as TFDS or for the Hub.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use dataset::croissant::Origin;
use dataset::files;
use dataset::hub::HubColumns;
use dataset::npy::MatrixReader;
use dataset::tfds::{Config, FileFormat};
use dataset::webdataset::read_samples;
use dataset::{Counts, Error, Packages, Progress, Result, SampleKey, Stage};
use half::f16;

use super::format::Format;
use super::package::{Ledger, Plan, Source, pack};
use super::place::{Choice, Place};
use super::sink::Names;
use super::tfds::DIMENSIONS;

/// Packs the chosen rows of a run in one pass, as TFDS, for the Hub, or both.
pub(super) fn pack_kept(
    choice: Choice<'_>,
    output: &Packages,
    formats: &[Format],
    file_formats: &[FileFormat],
    progress: &dyn Progress,
) -> Result<Counts> {
    let (mut inputs, mut rows, mut bytes) = (Vec::new(), 0, 0);
    let mut dimensions = None;
    let mut places = Vec::new();
    for id in choice.shards()? {
        let place = choice.place(output, id)?;
        dimensions = Some(MatrixReader::open(&place.matrices.image)?.columns());
        bytes += files::length(&place.tar)?;
        rows += choice.row_count(id)?;
        inputs.extend(choice.inputs(id)?);
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
        input: &choice.run.curated(),
        inputs,
        origin: Origin::Crawl,
        names: Names::for_rows(&[]),
        file_formats,
        unsorted_rows: None,
        columns: HubColumns { images: true, dimensions },
        expected_bytes: bytes,
    };
    let begin = || Ok(progress.begin(Stage::Pack, Some(rows)));
    pack(&plans, &source, begin, |ledger| places.iter().try_for_each(|place| feed(choice, place, ledger)))
}

/// Gives the samples of a shard.
fn feed(choice: Choice<'_>, place: &Place, ledger: &mut Ledger<'_>) -> Result<()> {
    let rows = choice.rows(place)?;
    ledger.begin(place.id, rows.len() as u64)?;
    let mut rows: HashMap<_, _> = rows.into_iter().map(|(position, row)| (row.key.clone(), (position, row))).collect();
    let (mut images, mut texts) = (Rows::open(&place.matrices.image)?, Rows::open(&place.matrices.text)?);
    read_samples(&place.tar, |mut sample| {
        let Some((position, row)) = rows.remove(&sample.key) else { return Ok(()) };
        let mut example = super::tfds::example(row);
        let image = sample.files.remove("jpg");
        let lacks = || Error::format(&place.tar, format!("sample {} has no jpg", sample.key));
        example.image = Some(image.ok_or_else(lacks)?);
        example.embeddings = Some((images.at(position)?, texts.at(position)?));
        let key: SampleKey = sample.key.parse()?;
        ledger.enter(Ok((format!("{}_{}", key.shard.0, key.row), example)))
    })?;
    match rows.keys().min() {
        Some(key) => Err(Error::format(&place.tar, format!("{} kept samples are missing, first {key}", rows.len()))),
        None => Ok(()),
    }
}

/// A matrix whose rows are asked for in order, some left out.
struct Rows {
    matrix: MatrixReader,
    path: PathBuf,
    read: i64,
}

impl Rows {
    fn open(path: &Path) -> Result<Self> {
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
