//! What became of a row, and the counts of a stage.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Defines an enum whose variants have stable names: they are the statistics.
macro_rules! named {
    ($(#[$doc:meta])* $enum:ident { $($(#[$variant_doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $enum { $($(#[$variant_doc])* $variant,)* }

        impl $enum {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The value of a stable name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

named! {
    /// A rule of the recipe that a row did not meet.
    Reason {
        /// The image link has no alt text, or an empty one.
        NoCaption = "no_caption",
        /// Fewer characters than the recipe asks for.
        CaptionTooShort = "caption_too_short",
        /// More characters than the recipe allows.
        CaptionTooLong = "caption_too_long",
        /// Not in a language of the recipe.
        OtherLanguage = "other_language",
        /// Not `http` or `https`: `data:`, `javascript:`, `mailto:` and the like.
        UrlScheme = "url_scheme",
        /// Cannot be made an absolute URL.
        UrlInvalid = "url_invalid",
        /// A file type the recipe refuses by its extension: svg, gif, ico.
        FileType = "file_type",
        /// A host that is on the list of blocked ones, or not on that of allowed ones.
        Host = "host",
        /// On the list of blocked URLs.
        UrlBlocked = "url_blocked",
        /// Its bytes or its picture have a hash on the list of blocked ones.
        HashBlocked = "hash_blocked",
        /// Its bytes have another hash than its list says.
        HashMismatch = "hash_mismatch",
        /// The same URL and caption stand elsewhere.
        Duplicate = "duplicate",
        /// The same URL and caption stand in the pairs of an earlier run.
        CollectedBefore = "collected_before",
        /// `X-Robots-Tag` forbids the use.
        RobotsTag = "robots_tag",
        /// The host's robots.txt disallows it.
        RobotsTxt = "robots_txt",
        /// `TDM-Reservation` reserves the rights of text and data mining.
        TdmReservation = "tdm_reservation",
        /// The address is private, loopback, link-local or otherwise not public.
        PrivateAddress = "private_address",
        /// Fewer bytes than the recipe asks for.
        ImageTooFewBytes = "image_too_few_bytes",
        /// Its shorter side has fewer pixels than the recipe asks for.
        ImageTooSmall = "image_too_small",
        /// More pixels than the recipe allows.
        ImageTooLarge = "image_too_large",
        /// Longer for its width, or wider for its height, than the recipe allows.
        AspectRatio = "aspect_ratio",
        /// A row whose picture is not in its shard: it was never downloaded.
        NoImage = "no_image",
        /// A picture that no row of its shard belongs to.
        NoRow = "no_row",
        /// No URL.
        NoUrl = "no_url",
        /// Another row or picture of the shard has the same key, so that nobody can tell which belong together.
        DuplicateKey = "duplicate_key",
        /// The row and the JSON beside the picture speak of different pairs.
        JoinMismatch = "join_mismatch",
        /// A format that the package cannot hold.
        ImageFormat = "image_format",
        /// Caption and picture are less alike than the threshold.
        SimilarityTooLow = "similarity_too_low",
        /// Tagged UNSURE or NSFW, and its picture is like a description of somebody under age.
        PictureUnderAge = "picture_under_age",
        /// Tagged UNSURE or NSFW, and its caption has a word for somebody under age.
        CaptionUnderAge = "caption_under_age",
        /// Tagged UNSURE or NSFW, and its picture is most like the name of an animal.
        Animal = "animal",
        /// A head gives its picture a lower score than the least that is kept, or none.
        ScoreTooLow = "score_too_low",
        /// A head gives its picture a higher score than the highest that is kept, or none.
        ScoreTooHigh = "score_too_high",
        /// Another picture of its bucket is nearly the same, and stays.
        NearDuplicate = "near_duplicate",
    }
}

named! {
    /// Something that did not work; trying again may.
    Failure {
        /// A record of an archive is damaged.
        BrokenRecord = "broken_record",
        /// An archive cannot be opened at all.
        UnreadableArchive = "unreadable_archive",
        /// Not asked for: its host did not answer many requests before it, or wants to be left alone.
        HostUnavailable = "host_unavailable",
        /// The host name does not resolve.
        Dns = "dns",
        /// No connection.
        Connect = "connect",
        /// The connection broke before the answer was whole.
        ConnectionClosed = "connection_closed",
        /// The deadline passed.
        Timeout = "timeout",
        /// The answer came, but slower than the recipe allows.
        TooSlow = "too_slow",
        /// No HTTP, or headers that are too long or too many.
        HttpInvalid = "http_invalid",
        /// Status 4xx.
        HttpClientError = "http_4xx",
        /// Status 5xx.
        HttpServerError = "http_5xx",
        /// Any other status that is neither success nor redirect.
        HttpStatus = "http_status",
        /// More redirects than allowed, or one that leads nowhere.
        Redirect = "redirect",
        /// More bytes than allowed.
        TooManyBytes = "too_many_bytes",
        /// Neither JPEG, PNG nor WebP.
        NotAnImage = "not_an_image",
        /// The picture is damaged or cut off.
        ImageDamaged = "image_damaged",
        /// More pixels than allowed.
        TooManyPixels = "too_many_pixels",
        /// The tower gave no vector with a direction.
        Embedding = "embedding",
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// It goes on.
    Kept,
    /// A rule refused it.
    Dropped(Reason),
    /// It did not work.
    Failed(Failure),
}

impl Status {
    /// `kept`, or the name of the reason or failure.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Dropped(reason) => reason.name(),
            Self::Failed(failure) => failure.name(),
        }
    }

    /// The status of a stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "kept" => Some(Self::Kept),
            name => Reason::from_name(name).map(Self::Dropped).or_else(|| Failure::from_name(name).map(Self::Failed)),
        }
    }
}

/// How many rows came in and what became of them: `rows = kept + dropped + failed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that came in.
    pub rows: u64,
    /// Rows that went on.
    pub kept: u64,
    /// Rows refused, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Rows that did not work, by failure.
    pub failed: BTreeMap<String, u64>,
    /// What was gone through to find the rows: records, pages, links; none of these is a row.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub read: BTreeMap<String, u64>,
}

impl Counts {
    /// Counts one row.
    pub fn add(&mut self, status: Status) {
        self.add_many(status, 1);
    }

    /// Counts equal rows.
    pub fn add_many(&mut self, status: Status, rows: u64) {
        if rows == 0 {
            return;
        }
        self.rows += rows;
        let name = || status.name().to_owned();
        match status {
            Status::Kept => self.kept += rows,
            Status::Dropped(_) => *self.dropped.entry(name()).or_default() += rows,
            Status::Failed(_) => *self.failed.entry(name()).or_default() += rows,
        }
    }

    /// Turns rows that were kept into others: what one part kept, the whole may not.
    pub fn turn_kept(&mut self, status: Status, rows: u64) {
        self.kept -= rows;
        self.rows -= rows;
        self.add_many(status, rows);
    }

    /// Adds the counts of another part.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.kept += other.kept;
        let all =
            [(&other.dropped, &mut self.dropped), (&other.failed, &mut self.failed), (&other.read, &mut self.read)];
        for (from, into) in all {
            for (name, rows) in from {
                *into.entry(name.clone()).or_default() += rows;
            }
        }
    }

    /// Rows refused, all reasons together.
    pub fn dropped_rows(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Rows that did not work, all failures together.
    pub fn failed_rows(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Every row has exactly one end; asked before a shard is published.
    pub fn check(&self) -> Result<()> {
        let ends = self.kept + self.dropped_rows() + self.failed_rows();
        if ends == self.rows {
            Ok(())
        } else {
            Err(Error::Invalid(format!("{} rows came in, but {ends} have an end", self.rows)))
        }
    }
}

/// The stages, in the order data moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Stage {
    Collect,
    Download,
    Embed,
    Filter,
    Pack,
    Index,
}

impl Stage {
    /// The name people type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Collect => "collect",
            Self::Download => "download",
            Self::Embed => "embed",
            Self::Filter => "filter",
            Self::Pack => "pack",
            Self::Index => "index",
        }
    }
}

/// What a stage did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Which.
    pub stage: Stage,
    /// What became of its rows.
    #[serde(flatten)]
    pub counts: Counts,
}

impl Summary {
    /// Nothing done yet.
    pub fn new(stage: Stage) -> Self {
        Self { stage, counts: Counts::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        let mut seen = std::collections::HashSet::from(["kept"]);
        for name in Reason::ALL.iter().map(|r| r.name()).chain(Failure::ALL.iter().map(|f| f.name())) {
            assert!(seen.insert(name), "{name} stands twice");
            assert_eq!(Status::from_name(name).map(Status::name), Some(name));
        }
        assert_eq!(Status::from_name("no such end"), None);
    }

    #[test]
    fn a_lost_row_is_noticed() {
        let mut counts = Counts::default();
        counts.add(Status::Kept);
        counts.add(Status::Dropped(Reason::Duplicate));
        counts.add_many(Status::Failed(Failure::Timeout), 2);
        assert_eq!((counts.rows, counts.kept, counts.dropped_rows(), counts.failed_rows()), (4, 1, 1, 2));
        assert!(counts.check().is_ok());
        counts.rows += 1;
        assert!(counts.check().is_err());
    }

    #[test]
    fn a_summary_is_one_entry_of_the_report() {
        let mut summary = Summary::new(Stage::Filter);
        summary.counts.add(Status::Dropped(Reason::SimilarityTooLow));
        let json = serde_json::to_string(&summary).expect("plain data");
        assert_eq!(json, r#"{"stage":"filter","rows":1,"kept":0,"dropped":{"similarity_too_low":1},"failed":{}}"#);
    }
}
