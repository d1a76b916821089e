//! Tags of a row.

/// LAION-400M's NSFW tag, in the order of the TFDS class labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Nsfw {
    Unlikely,
    Unsure,
    Nsfw,
    Untagged,
}

impl Nsfw {
    /// Every tag: a tag's place here is its TFDS class.
    pub const ALL: [Self; 4] = [Self::Unlikely, Self::Unsure, Self::Nsfw, Self::Untagged];

    /// The name in the release.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unlikely => "UNLIKELY",
            Self::Unsure => "UNSURE",
            Self::Nsfw => "NSFW",
            Self::Untagged => "UNTAGGED",
        }
    }

    /// What TFDS makes of a tag: everything unknown is `UNTAGGED`.
    pub fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|tag| tag.name() == name).unwrap_or(Self::Untagged)
    }

    /// The TFDS class, 0 to 3.
    pub fn class(self) -> i64 {
        self as i64
    }
}
