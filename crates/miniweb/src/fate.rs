//! What is wrong with an image link, and how often.

use serde::{Deserialize, Serialize};

/// What becomes of an image link in the hands of a perfect program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Fate {
    // Good links.
    Good,
    GoodRedirect,
    GoodMarkup,
    GoodOtherBot,
    // Links whose text is no use.
    Mismatched,
    ShortCaption,
    NoCaption,
    OtherLanguage,
    // Links that lead to no picture.
    FileType,
    NoWebUrl,
    NotFound,
    Forbidden,
    ServerError,
    Closed,
    Timeout,
    RedirectLoop,
    RedirectNowhere,
    HtmlAsImage,
    TruncatedBody,
    TruncatedFile,
    TinyImage,
    // Links that must not be taken.
    NoAi,
    // A pair that stands elsewhere, too.
    Duplicate,
}

impl Fate {
    /// Every fate with its share of the image links in per mille; the rest, about six in ten, is [`Fate::Good`].
    ///
    /// The real web is worse: in 2021 two thirds of all pairs fell to the similarity threshold alone. Here every
    /// fault is frequent enough to be seen in a few thousand links.
    pub const SHARES: [(Self, u32); 22] = [
        (Self::GoodRedirect, 20),
        (Self::GoodMarkup, 10),
        (Self::GoodOtherBot, 10),
        (Self::Mismatched, 100),
        (Self::ShortCaption, 30),
        (Self::NoCaption, 30),
        (Self::OtherLanguage, 50),
        (Self::FileType, 20),
        (Self::NoWebUrl, 10),
        (Self::NotFound, 30),
        (Self::Forbidden, 5),
        (Self::ServerError, 5),
        (Self::Closed, 3),
        (Self::Timeout, 2),
        (Self::RedirectLoop, 3),
        (Self::RedirectNowhere, 3),
        (Self::HtmlAsImage, 15),
        (Self::TruncatedBody, 5),
        (Self::TruncatedFile, 10),
        (Self::TinyImage, 30),
        (Self::NoAi, 15),
        (Self::Duplicate, 50),
    ];

    /// Whether a perfect program keeps the pair.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Good | Self::GoodRedirect | Self::GoodMarkup | Self::GoodOtherBot)
    }
}
