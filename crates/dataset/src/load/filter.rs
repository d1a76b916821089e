//! Which examples are wanted, told by their metadata: `similarity > 0.32 and nsfw == UNLIKELY`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::tfds::ExampleView;
use crate::{Error, Nsfw};

/// Conditions that must all hold. An unknown size or similarity is -1, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter {
    text: String,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Number(Number, Comparison, f64),
    Nsfw { equal: bool, tag: Nsfw },
    License { equal: bool, license: String },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Height,
    Width,
    Similarity,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    Other,
}

/// Longer ones first: `<` is the start of `<=`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("!=", Comparison::Other),
    ("<", Comparison::Less),
    (">", Comparison::More),
];

impl Filter {
    /// Whether the example is wanted.
    pub fn accepts(&self, example: &ExampleView<'_>) -> bool {
        self.conditions.iter().all(|condition| match condition {
            Condition::Number(number, comparison, bound) => {
                let value = match number {
                    Number::Height => example.original_height.into(),
                    Number::Width => example.original_width.into(),
                    Number::Similarity => example.similarity,
                };
                match comparison {
                    Comparison::Less => value < *bound,
                    Comparison::AtMost => value <= *bound,
                    Comparison::More => value > *bound,
                    Comparison::AtLeast => value >= *bound,
                    Comparison::Equal => value == *bound,
                    Comparison::Other => value != *bound,
                }
            }
            Condition::Nsfw { equal, tag } => (example.nsfw == *tag) == *equal,
            Condition::License { equal, license } => (example.license == license) == *equal,
        })
    }
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let conditions = text.split(" and ").map(condition).collect::<Result<_, _>>();
        let conditions = conditions.map_err(|cause| Error::Invalid(format!("filter {text:?}: {cause}")))?;
        Ok(Self { text: text.into(), conditions })
    }
}

impl TryFrom<String> for Filter {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.text
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    let place = COMPARISONS.iter().filter_map(|&(sign, comparison)| Some((text.find(sign)?, sign, comparison)));
    let (at, sign, comparison) = place
        .min_by_key(|&(at, sign, _)| (at, std::cmp::Reverse(sign.len())))
        .ok_or_else(|| format!("{text:?} compares nothing: it needs one of < <= > >= == !="))?;
    let (field, value) = (text[..at].trim(), text[at + sign.len()..].trim());
    let unquoted = value.trim_matches(['\'', '"']);
    let number = |number| {
        let bound = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
        Ok(Condition::Number(number, comparison, bound))
    };
    let equal = || match comparison {
        Comparison::Equal => Ok(true),
        Comparison::Other => Ok(false),
        _ => Err(format!("{field} can be == or != and nothing else")),
    };
    match field {
        "original_height" => number(Number::Height),
        "original_width" => number(Number::Width),
        "similarity" => number(Number::Similarity),
        "nsfw" => {
            let tag = Nsfw::ALL.into_iter().find(|tag| tag.name() == unquoted);
            let tag = tag.ok_or_else(|| format!("{value:?} is none of UNLIKELY, UNSURE, NSFW and UNTAGGED"))?;
            Ok(Condition::Nsfw { equal: equal()?, tag })
        }
        "license" => Ok(Condition::License { equal: equal()?, license: unquoted.into() }),
        other => Err(format!("no {other:?} to compare: similarity, nsfw, license, original_width, original_height")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(filter: &str) -> bool {
        let example = ExampleView {
            caption: "a caption",
            image: None,
            image_embedding: None,
            text_embedding: None,
            license: "?",
            nsfw: Nsfw::Unlikely,
            original_height: 300,
            original_width: 400,
            similarity: 0.33,
            url: "",
        };
        filter.parse::<Filter>().expect("a filter").accepts(&example)
    }

    #[test]
    fn all_conditions_must_hold() {
        for wanted in [
            "similarity > 0.32",
            "similarity>=0.33 and nsfw == UNLIKELY",
            "original_width >= 400 and original_height < 301 and license == '?'",
            "nsfw != \"NSFW\" and original_height<=300",
        ] {
            assert!(accepts(wanted), "{wanted}");
        }
        for unwanted in ["similarity > 0.33", "similarity > 0.1 and nsfw != UNLIKELY", "original_width == 401"] {
            assert!(!accepts(unwanted), "{unwanted}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_told() {
        for (text, part) in [
            ("", "compares nothing"),
            ("similarity > big", "\"big\" is not a number"),
            ("nsfw == SAFE", "none of UNLIKELY"),
            ("nsfw > NSFW", "== or !="),
            ("caption == cat", "no \"caption\""),
            ("similarity > 0.3 and", "\"0.3 and\" is not a number"),
        ] {
            let error = text.parse::<Filter>().expect_err("no filter").to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
