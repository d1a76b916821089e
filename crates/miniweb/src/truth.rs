//! What a perfect program makes of an image link.

use serde::{Deserialize, Serialize};

use crate::fate::Fate;

/// The truth about one image link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Number of the archive.
    pub archive: usize,
    /// The page it stands on.
    pub page_url: String,
    /// Absolute, as a browser resolves and escapes it; as written where it cannot be resolved.
    pub url: String,
    /// White space collapsed and trimmed.
    pub caption: String,
    /// What is wrong with it, if anything.
    pub fate: Fate,
    /// Whether a perfect program keeps the pair: `url` and `caption` of all good rows differ.
    pub good: bool,
    /// The Creative Commons licence of the page.
    pub license: Option<String>,
}

impl Truth {
    pub(crate) fn new(url: String, caption: String, fate: Fate) -> Self {
        Self { archive: 0, page_url: String::new(), url, caption, fate, good: fate.is_good(), license: None }
    }
}

/// How kept pairs compare with the truth: precision and recall, each 0.0 to 1.0. Nothing kept is precise, and nothing
/// to keep is recalled.
pub fn measure<'a>(truth: &[Truth], kept: impl IntoIterator<Item = (&'a str, &'a str)>) -> (f64, f64) {
    let good: std::collections::HashSet<(&str, &str)> =
        truth.iter().filter(|row| row.good).map(|row| (row.url.as_str(), row.caption.as_str())).collect();
    let (mut all, mut right) = (0usize, std::collections::HashSet::new());
    for pair in kept {
        all += 1;
        if good.contains(&pair) {
            right.insert(pair);
        }
    }
    let share = |part: usize, whole: usize| if whole == 0 { 1.0 } else { part as f64 / whole as f64 };
    (share(right.len(), all), share(right.len(), good.len()))
}
