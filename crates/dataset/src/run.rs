//! Where everything is in a run folder.

use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::{Result, ShardId};

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
        let number = id.0;
        Self {
            image: folder.join(format!("img_emb/img_emb_{number}.npy")),
            text: folder.join(format!("text_emb/text_emb_{number}.npy")),
            metadata: folder.join(format!("metadata/metadata_{number}.parquet")),
        }
    }

    /// Texts that stages compare the embeddings with, embedded by the same model; see [`crate::texts`].
    pub fn prompts(folder: &Path) -> PathBuf {
        folder.join("prompts.safetensors")
    }

    /// The shards that are there, in order.
    pub fn list(folder: &Path) -> Result<Vec<ShardId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(folder.join("metadata"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix("metadata_").and_then(|rest| rest.strip_suffix(".parquet"));
            ids.extend(number.and_then(|number| number.parse().ok()).map(ShardId));
        }
        ids.sort_unstable();
        Ok(ids)
    }
}
