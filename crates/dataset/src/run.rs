//! Where everything is in a run folder.

use std::path::{Path, PathBuf};

use crate::files;
use crate::npy::MatrixReader;
use crate::{Error, Result, ShardId};

/// The folder `build` writes. Stages that run alone take and give the same folders one by one.
///
/// ```text
/// recipe.toml  pairs/  images/  embeddings/  curated/  packages/  index/  report.json  report.html
/// ```
#[derive(Clone, Debug)]
pub struct Run {
    folder: PathBuf,
}

impl Run {
    /// The run in `folder`, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The settings everything was made with.
    pub fn recipe(&self) -> PathBuf {
        self.folder.join("recipe.toml")
    }

    /// Pairs of the crawl.
    pub fn pairs(&self) -> PathBuf {
        self.folder.join("pairs")
    }

    /// WebDataset shards with every image that was downloaded.
    pub fn images(&self) -> PathBuf {
        self.folder.join("images")
    }

    /// Embeddings of those images.
    pub fn embeddings(&self) -> PathBuf {
        self.folder.join("embeddings")
    }

    /// Verdicts.
    pub fn curated(&self) -> PathBuf {
        self.folder.join("curated")
    }

    /// What the run is for.
    pub fn packages(&self) -> Packages {
        Packages::new(self.folder.join("packages"))
    }

    /// The kNN index of the kept rows.
    pub fn index(&self) -> PathBuf {
        self.folder.join("index")
    }

    /// The funnel, for machines.
    pub fn report(&self) -> PathBuf {
        self.folder.join("report.json")
    }
}

/// The kept rows in every form.
#[derive(Clone, Debug)]
pub struct Packages {
    folder: PathBuf,
}

impl Packages {
    /// The packages in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder itself, which holds the markers of the shards.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Tars, a table beside each.
    pub fn webdataset(&self) -> PathBuf {
        self.folder.join("webdataset")
    }

    /// Matrices and metadata, in clip-retrieval's layout.
    pub fn embeddings(&self) -> PathBuf {
        self.folder.join("embeddings")
    }

    /// Tables with the columns of the release.
    pub fn metadata(&self) -> PathBuf {
        self.folder.join("metadata")
    }

    /// A TFDS data folder.
    pub fn tfds(&self) -> PathBuf {
        self.folder.join("tfds")
    }
}

/// The three files of a shard of embeddings, as clip-retrieval names them (`clip_inference/writer.py`).
#[derive(Clone, Debug)]
pub struct EmbeddingFiles {
    /// The number in their names.
    pub id: ShardId,
    /// Image embeddings.
    pub image: PathBuf,
    /// Text embeddings.
    pub text: PathBuf,
    /// Row i belongs to row i of both.
    pub metadata: PathBuf,
}

impl EmbeddingFiles {
    /// The files of a shard.
    pub fn of(folder: &Path, id: ShardId) -> Self {
        Self::named(folder, id, &id.0.to_string())
    }

    fn named(folder: &Path, id: ShardId, digits: &str) -> Self {
        Self {
            id,
            image: folder.join(format!("img_emb/img_emb_{digits}.npy")),
            text: folder.join(format!("text_emb/text_emb_{digits}.npy")),
            metadata: folder.join(format!("metadata/metadata_{digits}.parquet")),
        }
    }

    /// Whether a folder looks like one of embeddings.
    pub fn are_in(folder: &Path) -> Result<bool> {
        Ok(files::is_dir(folder.join("metadata"))?
            && (files::is_dir(folder.join("img_emb"))? || files::is_dir(folder.join("text_emb"))?))
    }

    /// Texts that stages compare the embeddings with, embedded by the same model; see [`crate::texts`].
    pub fn prompts(folder: &Path) -> PathBuf {
        folder.join("prompts.safetensors")
    }

    /// The shards that are there, in order. Our numbers are those of the tars, of which some may be missing;
    /// clip-retrieval counts its parts from 0 and, from ten parts on, pads the numbers with zeros to one length: there, a
    /// number that is missing is an error.
    pub fn list(folder: &Path) -> Result<Vec<Self>> {
        let tables = folder.join("metadata");
        let parts = numbers(&tables, "metadata_", ".parquet")?;
        if parts.iter().any(|(_, digits)| is_padded(digits)) {
            let missing = parts.iter().zip(0..).find(|((number, _), place)| number != place);
            if let Some(((_, digits), place)) = missing {
                let (width, tables) = (digits.len(), tables.display());
                let cause = format!("{tables}: part {place:0width$} is missing, but there is part {digits}");
                return Err(Error::Invalid(cause));
            }
        }
        Ok(parts.into_iter().map(|(number, digits)| Self::named(folder, ShardId(number), &digits)).collect())
    }

    /// Both matrices of a table of so many rows. Other lengths are an error: nobody can tell which row belongs to which.
    pub fn matrices(&self, rows: u64) -> Result<(MatrixReader, MatrixReader)> {
        matrices(&self.image, &self.text, &self.metadata, rows)
    }
}

/// Numbers in the names of `folder` that are `prefix`, a number, `suffix`, as they are written there; in order. Some padded
/// with zeros to one length and some to another, or to none, are an error: they are of two sets of files.
pub(crate) fn numbers(folder: &Path, prefix: &str, suffix: &str) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in files::list(folder)? {
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        found.extend(digits.and_then(|digits| Some((digits.parse().ok()?, digits.to_owned()))));
    }
    found.sort_unstable();
    let padded = found.iter().find(|(_, digits)| is_padded(digits));
    if let Some((_, padded)) = padded
        && let Some((_, other)) = found.iter().find(|(_, digits)| digits.len() != padded.len())
    {
        let (folder, name) = (folder.display(), |digits: &str| format!("{prefix}{digits}{suffix}"));
        let cause = "numbers of different lengths, so these are parts of two sets";
        return Err(Error::Invalid(format!("{folder}: {} beside {}: {cause}", name(padded), name(other))));
    }
    Ok(found)
}

fn is_padded(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}

/// The matrices of a table of so many rows, whose own lengths must be the same.
pub(crate) fn matrices(image: &Path, text: &Path, table: &Path, rows: u64) -> Result<(MatrixReader, MatrixReader)> {
    let (images, texts) = (MatrixReader::open(image)?, MatrixReader::open(text)?);
    for (path, matrix) in [(image, &images), (text, &texts)] {
        if matrix.rows() as u64 != rows {
            let cause = format!("{} rows, but {} has {rows}", matrix.rows(), table.display());
            return Err(Error::format(path, cause));
        }
    }
    Ok((images, texts))
}
