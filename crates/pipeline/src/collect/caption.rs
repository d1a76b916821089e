//! Repair and language of captions.

use std::borrow::Cow;

/// White space collapsed to single spaces, control and invisible format characters removed, trimmed.
pub(super) fn repair(alt: &str) -> Cow<'_, str> {
    // Most are clean: nothing but printable ASCII, one space at a time, none at the ends.
    let bytes = alt.as_bytes();
    let clean = bytes.iter().all(|byte| matches!(byte, 0x20..=0x7E)) && memchr::memmem::find(bytes, b"  ").is_none();
    if clean {
        return alt.trim_ascii().into();
    }
    let mut caption = String::with_capacity(alt.len());
    for letter in alt.chars() {
        if letter.is_whitespace() {
            if !caption.is_empty() && !caption.ends_with(' ') {
                caption.push(' ');
            }
        } else if !is_invisible(letter) {
            caption.push(letter);
        }
    }
    caption.truncate(caption.trim_end().len());
    caption.into()
}

/// Control characters, and those that hide or reorder text: zero width space, directional marks, byte order mark.
/// The zero width joiner stays, as emoji and some scripts need it.
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' | '\u{FFFD}')
}

/// ISO 639-3 codes of the languages that are told apart; a caption in another one is taken for the nearest.
pub(super) const LANGUAGES: [&str; 16] =
    ["ara", "cmn", "deu", "eng", "fra", "hin", "ita", "jpn", "kor", "nld", "por", "rus", "spa", "swe", "tur", "vie"];

/// Letters that say something about the language, at least.
const LETTERS_MIN: usize = 3;

/// The most likely language, or nothing where there is too little text to tell.
pub(super) fn language(caption: &str) -> Option<&'static str> {
    let (mut letters, mut foreign) = (0, 0);
    for letter in caption.chars().filter(|letter| letter.is_alphabetic()) {
        letters += 1;
        foreign += usize::from(letter > '\u{FF}');
    }
    if letters < LETTERS_MIN {
        return None;
    }
    let language = whichlang::detect_language(caption).three_letter_code();
    // A language that it does not know is often taken for English, which has no letters beyond Latin-1 but in names.
    if language == "eng" && foreign > 1 { None } else { Some(language) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_is_one_clean_line() {
        assert_eq!(repair("  a \n\t red\u{0}\u{200B}  car\u{FEFF} "), "a red car");
        assert_eq!(repair("\u{1F469}\u{200D}\u{1F680}"), "\u{1F469}\u{200D}\u{1F680}");
        assert_eq!(repair(" \u{202E}\n"), "");
    }

    #[test]
    fn plain_sentences_are_told_apart() {
        assert_eq!(language("a large red circle above two small yellow stars on a blue background"), Some("eng"));
        assert_eq!(language("ein großer roter Kreis über zwei kleinen gelben Sternen"), Some("deu"));
        assert_eq!(language("большой красный круг на белом фоне"), Some("rus"));
        assert_eq!(language("12345"), None);
        assert_eq!(language("nowa szkoła, biały stół kuchenny przed domem"), None, "Polish, which it does not know");
        assert_eq!(language("Dvo\u{159}\u{E1}k's house in the old town"), Some("eng"));
    }
}
