//! Embeddings and their rows: row i of the table belongs to row i of both matrices.

use std::path::{Path, PathBuf};

use half::f16;

use super::{Outcome, ReleasedRow, numbers, present};
use crate::npy::MatrixReader;
use crate::table::TableReader;
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
    /// the numbers with zeros once there are more than ten.
    pub(super) fn list(folder: &Path) -> Result<Vec<Self>> {
        let nested = folder.join("img_emb").is_dir();
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
        Ok(TableReader::<ReleasedRow>::open(&self.table)?.row_count())
    }

    /// Rows that [`EmbeddingShard::read`] gives an example of: a matrix says its length first.
    pub fn kept_count(&self) -> Result<u64> {
        let mut kept = 0;
        for row in TableReader::<ReleasedRow>::open(&self.table)? {
            kept += u64::from(row?.into_example().is_ok());
        }
        Ok(kept)
    }

    /// Calls `each` for every row in order. Tables and matrices of different lengths, or of other widths than
    /// `dimensions`, are an error: nobody can tell which row belongs to which.
    pub fn read(&self, dimensions: usize, mut each: impl FnMut(Outcome) -> Result<()>) -> Result<()> {
        let (mut images, mut texts) = (MatrixReader::open(&self.image)?, MatrixReader::open(&self.text)?);
        let rows = TableReader::<ReleasedRow>::open(&self.table)?;
        for (path, matrix) in [(&self.image, &images), (&self.text, &texts)] {
            if matrix.rows() as u64 != rows.row_count() {
                let cause = format!("{} rows, but {} has {}", matrix.rows(), self.table.display(), rows.row_count());
                return Err(Error::format(path, cause));
            }
            if matrix.columns() != dimensions {
                return Err(Error::format(path, format!("{} dimensions, not {dimensions}", matrix.columns())));
            }
        }
        for (position, row) in rows.enumerate() {
            let (row, mut image, mut text) = (row?, Vec::<f16>::new(), Vec::<f16>::new());
            if !(images.read_row(&mut image)? && texts.read_row(&mut text)?) {
                return Err(Error::format(&self.table, "more rows than its matrices"));
            }
            each(match row.into_example() {
                Ok(mut example) => {
                    example.embeddings = Some((image, text));
                    Ok((format!("{}_{position}", self.number), example))
                }
                Err(reason) => Err(Status::Dropped(reason)),
            })?;
        }
        Ok(())
    }
}
