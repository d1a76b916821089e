//! What rows can be packed as.

/// A form of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// The configurations of TensorFlow Datasets.
    Tfds,
    /// Tars with a table beside each.
    Webdataset,
    /// The metadata columns of the release.
    Parquet,
    /// Matrices of embeddings with a table to each two.
    Npy,
    /// Parquet and a card, as the Hugging Face Hub has them.
    Hf,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tfds, Self::Webdataset, Self::Parquet, Self::Npy, Self::Hf];
    /// What a run is packed as unless something else is asked for.
    pub const OF_RUN: [Self; 4] = [Self::Webdataset, Self::Npy, Self::Parquet, Self::Tfds];
    /// Those that are packed shard by shard.
    pub(super) const BY_SHARD: [Self; 3] = [Self::Webdataset, Self::Npy, Self::Parquet];

    /// The name people type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tfds => "tfds",
            Self::Webdataset => "webdataset",
            Self::Parquet => "parquet",
            Self::Npy => "npy",
            Self::Hf => "hf",
        }
    }

    /// Where it lies among packages, as [`dataset::Packages`] has it.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Tfds => "tfds",
            Self::Webdataset => "webdataset",
            Self::Parquet => "metadata",
            Self::Npy => "embeddings",
            Self::Hf => "hf",
        }
    }
}

/// `tfds, webdataset or hf`.
pub(super) fn names(formats: &[Format]) -> String {
    let names: Vec<_> = formats.iter().map(|format| format.name()).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
