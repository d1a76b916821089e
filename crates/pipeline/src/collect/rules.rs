//! Which links become pairs.

use dataset::schema::{Pair, uid};
use dataset::{Reason, Status};
use serde::{Deserialize, Serialize};
use url::Url;

use super::wat::{Link, Page};
use super::{Config, caption, license, resolve};

/// A published set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rules {
    /// LAION-400M as published, its mistakes mended (`docs/recipe.md`).
    #[default]
    Laion400m,
    /// cc2dataset 1.5.0, document type image: the same rows with the same uid.
    Cc2dataset,
}

/// File types that are refused, told by the path of the parsed URL: drawings, animations and icons.
const REFUSED: [&str; 5] = ["gif", "ico", "svg", "svgz", "cur"];

/// Where a record stands.
pub(super) struct Place<'a> {
    pub(super) archive: &'a str,
    pub(super) offset: u64,
}

/// Judges every image link of a page: `each` gets its status, and the pair of those that are kept.
pub(super) fn judge(
    page: &Page,
    target: Option<&str>,
    place: &Place<'_>,
    config: &Config,
    each: &mut impl FnMut(Status, Option<Pair>),
) {
    let page_url = page.url.as_deref().or(target).unwrap_or_default();
    let parsed = Url::parse(page_url).ok();
    let license = match config.rules {
        Rules::Laion400m => license::of_page(page),
        Rules::Cc2dataset => None,
    };
    for (position, link) in page.links.iter().enumerate() {
        if link.path.as_deref() != Some("IMG@/src") {
            continue;
        }
        let found = match config.rules {
            Rules::Laion400m => laion400m(link, page.base.as_deref(), parsed.as_ref(), config),
            Rules::Cc2dataset => cc2dataset(link, page.base.as_deref(), page_url),
        };
        match found {
            Err(reason) => each(Status::Dropped(reason), None),
            Ok(Found { url, caption, language }) => {
                let pair = Pair {
                    uid: uid(&caption, &url),
                    url,
                    caption,
                    page_url: page_url.to_owned(),
                    license: license.as_ref().map(|license| license.url.clone()),
                    license_evidence: license.as_ref().map(|license| license.evidence.clone()),
                    language: language.to_owned(),
                    archive: place.archive.to_owned(),
                    record_offset: place.offset as i64,
                    link_path: format!("{position} IMG@/src"),
                    source: "alt".into(),
                };
                each(Status::Kept, Some(pair));
            }
        }
    }
}

struct Found {
    url: String,
    caption: String,
    language: &'static str,
}

fn laion400m(link: &Link, base: Option<&str>, page: Option<&Url>, config: &Config) -> Result<Found, Reason> {
    let caption = caption::repair(link.alt.as_deref().unwrap_or_default());
    if caption.is_empty() {
        return Err(Reason::NoCaption);
    }
    if caption.chars().count() < config.caption_characters_min {
        return Err(Reason::CaptionTooShort);
    }
    let page = page.ok_or(Reason::UrlInvalid)?;
    let url = resolve::browser(page, base, link.url.as_deref().unwrap_or_default())?;
    if is_refused(&url) {
        return Err(Reason::FileType);
    }
    let language = caption::language(&caption).unwrap_or_default();
    if !config.languages.is_empty() && !config.languages.iter().any(|wanted| wanted == language) {
        return Err(Reason::OtherLanguage);
    }
    Ok(Found { url: url.into(), caption, language })
}

fn is_refused(url: &Url) -> bool {
    let name = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
    name.rsplit_once('.')
        .is_some_and(|(_, extension)| REFUSED.iter().any(|refused| extension.eq_ignore_ascii_case(refused)))
}

/// cc2dataset's `extract_image_from_links`: a non-empty alt as it is, `urljoin`, and nothing but http and https.
fn cc2dataset(link: &Link, base: Option<&str>, page_url: &str) -> Result<Found, Reason> {
    let caption = link.alt.as_deref().filter(|alt| !alt.is_empty()).ok_or(Reason::NoCaption)?;
    let url = link.url.as_deref().ok_or(Reason::UrlInvalid)?;
    let absolute = |url: &str| url.starts_with("http://") || url.starts_with("https://");
    let url = if absolute(url) {
        url.to_owned()
    } else {
        let base = base.map_or_else(|| page_url.to_owned(), |base| resolve::python(page_url, base));
        resolve::python(&base, url)
    };
    if absolute(&url) { Ok(Found { url, caption: caption.to_owned(), language: "" }) } else { Err(Reason::UrlScheme) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(link: Link, rules: Rules) -> (Status, Option<Pair>) {
        let page = Page { url: Some("http://a.com/x/page.html".into()), links: vec![link], ..Page::default() };
        let mut all = Vec::new();
        let config = Config { rules, ..Config::laion400m() };
        let place = Place { archive: "a.warc.wat.gz", offset: 7 };
        judge(&page, None, &place, &config, &mut |status, pair| all.push((status, pair)));
        all.remove(0)
    }

    fn image(url: &str, alt: &str) -> Link {
        Link { path: Some("IMG@/src".into()), url: Some(url.into()), alt: Some(alt.into()), rel: None }
    }

    #[test]
    fn every_refusal_has_its_reason() {
        let english = "a large red circle on a white background";
        let cases = [
            ("i.jpg", "", Status::Dropped(Reason::NoCaption)),
            ("i.jpg", " \n\u{0} ", Status::Dropped(Reason::NoCaption)),
            ("i.jpg", "cat ", Status::Dropped(Reason::CaptionTooShort)),
            ("data:image/png;base64,AA", english, Status::Dropped(Reason::UrlScheme)),
            ("/i.SVG?size=2", english, Status::Dropped(Reason::FileType)),
            ("http://a.gift/i.jpg", english, Status::Kept),
            ("i.jpg?from=a.svg", english, Status::Kept),
            (
                "i.jpg",
                "ein großer roter Kreis über zwei kleinen gelben Sternen",
                Status::Dropped(Reason::OtherLanguage),
            ),
        ];
        for (url, alt, expected) in cases {
            assert_eq!(judged(image(url, alt), Rules::Laion400m).0, expected, "{url} {alt}");
        }
    }

    #[test]
    fn cc2dataset_takes_any_alt_as_it_is() {
        let (status, pair) = judged(image("i.svg", "  x "), Rules::Cc2dataset);
        let pair = pair.expect("a pair");
        assert_eq!((status, pair.url.as_str(), pair.caption.as_str()), (Status::Kept, "http://a.com/x/i.svg", "  x "));
        assert_eq!(pair.uid, uid("  x ", "http://a.com/x/i.svg"));
    }
}
