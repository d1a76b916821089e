//! Addresses that strangers wrote.

use url::{ParseError, Url};

/// What every `file:` is taken for: nobody follows one, and `url` 2.5.8 trips over drive letters in some (a debug assertion, on
/// `file:/p:/e` with a link of dots).
const FILE: &str = "file:///";

/// An absolute URL, as browsers read it.
pub(crate) fn parse(text: &str) -> Result<Url, ParseError> {
    Url::parse(if is_file(text) { FILE } else { text })
}

/// Where a link leads from a page, as in browsers.
pub(crate) fn join(page: &Url, link: &str) -> Result<Url, ParseError> {
    if is_file(link) {
        return Url::parse(FILE);
    }
    if page.scheme() != "file" {
        return page.join(link);
    }
    match Url::parse(link) {
        Err(ParseError::RelativeUrlWithoutBase) => Url::parse(FILE),
        absolute => absolute,
    }
}

/// Whether the scheme is `file`; what stands before it, and line ends and tabs within it, are passed over.
fn is_file(text: &str) -> bool {
    let letters = text.trim_start_matches(|letter: char| letter <= ' ').chars();
    let mut letters = letters.filter(|letter| !matches!(letter, '\t' | '\n' | '\r'));
    "file:".chars().all(|wanted| letters.next().is_some_and(|letter| letter.eq_ignore_ascii_case(&wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drive_letters_of_strangers_are_no_panic() {
        let page = parse("http://a.com/x/").expect("absolute");
        let hostile = ["file:/p:/e/../..", " \u{1}fi\nle:/p:/e", "FILE:/tx://a.1", "/p:/../..", "..", "p:/../../"];
        for base in hostile {
            let Ok(base) = join(&page, base) else { continue };
            for link in hostile {
                let _ = join(&base, link);
            }
        }
        let file = parse("file:/p:/e\u{13}le:/tx").expect("a file");
        assert_eq!(join(&file, "..//g").expect("a file").scheme(), "file");
        assert_eq!(join(&file, "http://a.com/i.jpg").expect("absolute").as_str(), "http://a.com/i.jpg");
        assert_eq!(join(&page, "fil/e:x").expect("relative").as_str(), "http://a.com/x/fil/e:x");
    }
}
