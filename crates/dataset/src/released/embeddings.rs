//! Embeddings and their rows: row i of the table belongs to row i of both matrices.

use std::path::{Path, PathBuf};

use half::f16;

use super::row::{COLUMNS, Columns};
use super::{Found, Outcome, present};
use crate::files;
use crate::npy::MatrixReader;
use crate::run::{matrices, numbers};
use crate::table::Batches;
use crate::tfds::Content;
use crate::{Error, Result, Status};

/// The files of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingShard {
    /// The number in the names.
    pub number: u32,
    /// Image embeddings, float16.
    pub image: PathBuf,
    /// Text embeddings, float16.
    pub text: PathBuf,
    /// Metadata.
    pub table: PathBuf,
}

impl EmbeddingShard {
    /// Shards whose files lie in `folder`, or in its folders `img_emb`, `text_emb` and `metadata`. clip-retrieval pads
    /// the numbers with zeros once there are ten.
    pub(crate) fn list(folder: &Path) -> Result<Vec<Self>> {
        let nested = files::is_dir(folder.join("img_emb"))?;
        let place = |kind: &str| if nested { folder.join(kind) } else { folder.to_owned() };
        let shard = |(number, digits): (u32, String)| {
            let file = |kind: &str, ending| present(place(kind).join(format!("{kind}_{digits}.{ending}")));
            Ok(Self {
                number,
                image: file("img_emb", "npy")?,
                text: file("text_emb", "npy")?,
                table: file("metadata", "parquet")?,
            })
        };
        numbers(&place("img_emb"), "img_emb_", ".npy")?.into_iter().map(shard).collect()
    }

    /// The three files.
    pub fn files(&self) -> Vec<&Path> {
        vec![&self.image, &self.text, &self.table]
    }

    /// Rows of the table.
    pub fn row_count(&self) -> Result<u64> {
        Ok(Batches::open(&self.table, 1, Some(&[]))?.row_count())
    }

    /// Both matrices of a table of so many rows.
    pub(crate) fn matrices(&self, rows: u64) -> Result<(MatrixReader, MatrixReader)> {
        matrices(&self.image, &self.text, &self.table, rows)
    }

    /// Rows that [`EmbeddingShard::read`] gives an example of: a matrix says its length first.
    pub fn kept_count(&self) -> Result<u64> {
        let mut kept = 0;
        for batch in Batches::open(&self.table, super::BATCH_ROWS, Some(&COLUMNS))? {
            let columns = Columns::new(&batch?).map_err(|cause| Error::format(&self.table, cause))?;
            kept += (0..columns.len()).filter(|&row| columns.example(row).is_ok()).count() as u64;
        }
        Ok(kept)
    }

    /// Calls `each` for every row in order. Tables and matrices of different lengths, or of other widths than
    /// `dimensions`, are an error.
    pub fn read(&self, dimensions: usize, mut each: impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        let halves = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&half| f16::from_le_bytes(half)).collect();
        self.scan(dimensions, |found| {
            each(found.map(|(key, mut example, content)| {
                if let Content::Embeddings { image, text } = content {
                    example.embeddings = Some((halves(image), halves(text)));
                }
                (key, example)
            }))
        })
    }

    /// The same, the embeddings as they lie in their matrices.
    pub fn scan(&self, dimensions: usize, mut each: impl FnMut(Found<'_>) -> Result<()>) -> Result<()> {
        let batches = Batches::open(&self.table, super::BATCH_ROWS, Some(&COLUMNS))?;
        let (mut images, mut texts) = self.matrices(batches.row_count())?;
        for (path, matrix) in [(&self.image, &images), (&self.text, &texts)] {
            if matrix.columns() != dimensions {
                return Err(Error::format(path, format!("{} dimensions, not {dimensions}", matrix.columns())));
            }
        }
        let mut position = 0u64;
        for batch in batches {
            let columns = Columns::new(&batch?).map_err(|cause| Error::format(&self.table, cause))?;
            for row in 0..columns.len() {
                let (Some(image), Some(text)) = (images.next_row()?, texts.next_row()?) else {
                    return Err(Error::format(&self.table, "more rows than its matrices"));
                };
                let key = format!("{}_{position}", self.number);
                let content = Content::Embeddings { image, text };
                let example = columns.example(row).map_err(Status::Dropped);
                each(example.map(|example| (key, example, content)))?;
                position += 1;
            }
        }
        Ok(())
    }
}
