//! Builds the index of a run out of its packages.

use std::path::Path;

use dataset::npy::{MatrixReader, MatrixWriter};
use dataset::schema::KeptRow;
use dataset::table::{TableReader, TableWriter};
use dataset::{Counts, EmbeddingFiles, Error, Marker, Progress, Result, Run, Stage, Status, Summary, file_sha256};

use crate::index::{IMAGES, MARKER, METADATA, TEXTS};

/// Joins the packed embeddings of all shards (`RUN/packages/embeddings`) into one index. `model` names the weights they
/// were made with, which queries have to be made with, too. An index that is there, of the same shards, is left alone.
pub fn build(run: &Run, output: &Path, model: &str, progress: &dyn Progress) -> Result<Summary> {
    let packages = run.packages().embeddings();
    let shards = EmbeddingFiles::list(&packages)?;
    let mut inputs = Vec::new();
    let (mut rows, mut dimensions) = (0, None);
    for files in &shards {
        for path in [&files.image, &files.text, &files.metadata] {
            inputs.push(file_sha256(path)?);
        }
        let matrix = MatrixReader::open(&files.image)?;
        rows += matrix.rows();
        if *dimensions.get_or_insert(matrix.columns()) != matrix.columns() {
            return Err(Error::format(&files.image, "its embeddings have another length than those before"));
        }
    }
    let dimensions = dimensions.ok_or_else(|| Error::Invalid(format!("{}: no embeddings", packages.display())))?;
    let marker = output.join(MARKER);
    let described = serde_json::json!({"model": model, "rows": rows, "dimensions": dimensions});
    // Another model or another number of rows is another input, not another setting: the index is built again.
    let done = Marker::read(&marker)?.filter(|done| done.config == described && done.inputs == inputs);
    if let Some(done) = done.filter(|done| done.damaged(&marker).is_none()) {
        return Ok(Summary { stage: Stage::Index, counts: done.counts });
    }
    let task = progress.begin(Stage::Index, Some(rows as u64));
    let mut images = MatrixWriter::create(&output.join(IMAGES), rows, dimensions)?;
    let mut texts = MatrixWriter::create(&output.join(TEXTS), rows, dimensions)?;
    let mut metadata = TableWriter::<KeptRow>::create(&output.join(METADATA))?;
    for files in &shards {
        let count = MatrixReader::open(&files.image)?.rows();
        for (path, writer) in [(&files.image, &mut images), (&files.text, &mut texts)] {
            let mut reader = MatrixReader::open(path)?;
            if reader.rows() != count {
                return Err(Error::format(path, format!("{} rows instead of {count}", reader.rows())));
            }
            let mut row = Vec::new();
            while reader.read_row(&mut row)? {
                writer.push_f16(&row)?;
            }
        }
        let table = TableReader::<KeptRow>::open(&files.metadata)?;
        if table.row_count() != count as u64 {
            return Err(Error::format(&files.metadata, format!("{} rows instead of {count}", table.row_count())));
        }
        for row in table {
            metadata.push(row?)?;
            task.advance(1);
        }
    }
    let files = vec![images.publish()?, texts.publish()?, metadata.publish()?];
    let mut counts = Counts::default();
    counts.add_many(Status::Kept, rows as u64);
    Marker::finish(&marker, &described, inputs, counts.clone(), files)?;
    Ok(Summary { stage: Stage::Index, counts })
}
