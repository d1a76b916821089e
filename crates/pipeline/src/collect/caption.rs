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

/// The ISO 639-3 code of the most likely language, or nothing where there is too little text to tell.
pub(super) fn language(caption: &str) -> Option<&'static str> {
    whatlang::detect_lang(caption).map(|language| language.code())
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
    }
}
