//! The rules of the recipe, in their order.

use dataset::texts::EmbeddedTexts;
use dataset::{Embedding, Nsfw, Reason, Result, Status};
use serde::{Deserialize, Serialize};

use super::nearest::Prompts;
use super::prompts::{self, Class};
use super::{nsfw, under_age};

/// A published set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// LAION-400M's as they were meant: all 36 prompts, and words of captions in any case.
    #[default]
    Laion400m,
    /// LAION-400M's as its workers computed them: 35 prompts, the longest explicit one on the safe side, and words of
    /// captions in lower case only.
    #[serde(rename = "laion400m-2021")]
    Laion400m2021,
}

/// Judges pictures and captions by prompts that were embedded once.
pub(super) struct Judge {
    meant: Prompts,
    written: Prompts,
    age: Prompts,
    animals: Prompts,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The tag that decides.
    pub(super) nsfw: Nsfw,
    /// By the rule as it was meant.
    pub(super) nsfw_meant: Nsfw,
    /// As the workers of 2021 computed it.
    pub(super) nsfw_2021: Nsfw,
    /// Kept, or why not.
    pub(super) status: Status,
}

impl Judge {
    pub(super) fn new(texts: &EmbeddedTexts) -> Result<Self> {
        Ok(Self {
            meant: Prompts::new(&prompts::NSFW, texts)?,
            written: Prompts::new(&prompts::nsfw_2021(), texts)?,
            age: Prompts::new(&prompts::AGE, texts)?,
            animals: Prompts::new(&prompts::ANIMALS, texts)?,
        })
    }

    /// Similarity, then the tag; UNLIKELY is kept at once. Then who is under age, by picture or caption; then animals.
    pub(super) fn verdict(&self, config: &super::Config, similarity: f32, image: &Embedding, caption: &str) -> Verdict {
        let nsfw_meant = nsfw::tag(self.meant.nearest(image));
        let nsfw_2021 = nsfw::tag(self.written.nearest(image));
        let nsfw = match config.rules {
            Rules::Laion400m => nsfw_meant,
            Rules::Laion400m2021 => nsfw_2021,
        };
        // Compared as float32, which the similarity is: 0.3 in both.
        let alike = similarity >= config.similarity_min as f32;
        let dropped = match nsfw {
            _ if !alike => Some(Reason::SimilarityTooLow),
            Nsfw::Unlikely => None,
            _ if config.tag_only => None,
            _ if under_age::looks(self.age.nearest(image)) => Some(Reason::PictureUnderAge),
            _ if under_age::is_told(caption, config.rules == Rules::Laion400m) => Some(Reason::CaptionUnderAge),
            _ if self.animals.nearest(image)[0] == Class::Animal => Some(Reason::Animal),
            _ => None,
        };
        Verdict { nsfw, nsfw_meant, nsfw_2021, status: dropped.map_or(Status::Kept, Status::Dropped) }
    }
}
