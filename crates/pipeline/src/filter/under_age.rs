//! Pictures and captions of somebody under age, where a picture may be explicit.

use super::prompts::{Class, UNDER_AGE_WORDS};

/// Whether one of the two nearest prompts is of somebody under age.
pub(super) fn looks(nearest: [Class; 2]) -> bool {
    nearest.contains(&Class::UnderAge)
}

/// Whether a caption holds one of the words. They are found inside others, too (`kidney`, `babysitter`), as the rule has
/// it: what it is for is worth more than a few pictures.
pub(super) fn is_told(caption: &str, any_case: bool) -> bool {
    let lower = if any_case { caption.to_lowercase() } else { caption.to_owned() };
    UNDER_AGE_WORDS.iter().any(|word| lower.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_captions() {
        for (caption, any_case, as_written) in [
            ("a teen at the beach", true, true),
            ("two Kids", true, false),
            ("CHILD", true, false),
            ("kidney beans", true, true),
            ("a grown man", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_told(caption, true), is_told(caption, false)), (any_case, as_written), "{caption}");
        }
    }

    #[test]
    fn one_of_two_is_enough() {
        assert!(looks([Class::UnderAge, Class::Adult]) && looks([Class::Adult, Class::UnderAge]));
        assert!(!looks([Class::Adult, Class::Adult]));
    }
}
