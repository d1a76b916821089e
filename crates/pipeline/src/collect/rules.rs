//! Which links become pairs.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use dataset::files;
use dataset::spill::{PairView, uid};
use dataset::{Error, Reason, Result, Status};
use serde::{Deserialize, Serialize};
use url::Url;

use super::wat::{IMAGE, Link, Page, Wanted};
use super::{Config, caption, license, resolve};
use crate::address;

/// A published set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rules {
    /// LAION-400M as published, its mistakes mended (`docs/recipe.md`).
    #[default]
    Laion400m,
    /// cc2dataset 1.5.0: the same rows with the same uid.
    Cc2dataset,
}

/// What is collected, as cc2dataset calls it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Documents {
    /// Images with an alt text.
    #[default]
    Image,
    /// Images, with or without an alt text.
    ImageOnly,
    /// Links to sounds, with the text of the link.
    Audio,
    /// Links to films, with the text of the link.
    Video,
    /// Links to documents, with the text of the link.
    Text,
}

impl Documents {
    /// Endings of the files that links lead to; images are told by where they stand. Source: `cc2dataset/main.py`.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Image | Self::ImageOnly => &[],
            Self::Audio => &["ogg", "wav", "mp3", "flac", "m4a"],
            Self::Video => &["avi", "mp4", "mkv", "webm", "mov", "mpg", "mpeg", "m4v"],
            Self::Text => &[
                "pdf", "epub", "djvu", "mobi", "doc", "docx", "rtf", "txt", "odt", "ppt", "pptx", "pages", "keynote",
                "wps", "md",
            ],
        }
    }

    fn are_images(self) -> bool {
        matches!(self, Self::Image | Self::ImageOnly)
    }
}

/// Lists that the settings name, read.
#[derive(Debug, Default)]
pub(super) struct Lists {
    hosts_allowed: Option<HashSet<String>>,
    hosts_blocked: HashSet<String>,
    urls_blocked: HashSet<String>,
}

impl Lists {
    pub(super) fn read(config: &Config) -> Result<Self> {
        let hosts = |path: &Path| lines(path).map(|hosts| hosts.map(|host| host.to_ascii_lowercase()).collect());
        Ok(Self {
            hosts_allowed: config.hosts_allowed.as_deref().map(hosts).transpose()?,
            hosts_blocked: config.hosts_blocked.as_deref().map_or(Ok(HashSet::new()), hosts)?,
            urls_blocked: match &config.urls_blocked {
                Some(path) => lines(path)?.collect(),
                None => HashSet::new(),
            },
        })
    }
}

/// The lines of a file but for empty ones and those that start with `#`.
fn lines(path: &Path) -> Result<impl Iterator<Item = String>> {
    let text = String::from_utf8(files::read(path)?).map_err(|error| Error::format(path, error))?;
    let lines: Vec<_> = text.lines().map(str::trim).map(str::to_owned).collect();
    Ok(lines.into_iter().filter(|line| !line.is_empty() && !line.starts_with('#')))
}

/// Whether the host or a domain above it is in the list.
fn lists_host(hosts: &HashSet<String>, host: &str) -> bool {
    let mut domains = std::iter::successors(Some(host), |host| host.split_once('.').map(|(_, domain)| domain));
    !hosts.is_empty() && domains.any(|domain| hosts.contains(domain))
}

/// Judges the links of pages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge<'a> {
    pub(super) config: &'a Config,
    pub(super) lists: &'a Lists,
}

impl Judge<'_> {
    /// What it has to know of a record.
    pub(super) fn wanted(&self) -> Wanted {
        let laion400m = self.config.rules == Rules::Laion400m;
        Wanted { images_only: self.config.documents.are_images(), licenses: laion400m, repair: laion400m }
    }

    /// Gives the status of every candidate of a page, and the pair of those that are kept.
    pub(super) fn page(
        &self,
        page: &Page<'_>,
        target: &str,
        record_offset: u64,
        each: &mut impl FnMut(Status, Option<(u128, PairView<'_>)>),
    ) {
        let page_url = page.url.as_deref().unwrap_or(target);
        let (parsed, license) = match self.config.rules {
            Rules::Laion400m => (address::parse(page_url).ok(), license::of_page(page)),
            Rules::Cc2dataset => (None, None),
        };
        for link in page.links.iter().filter(|link| self.is_candidate(link)) {
            let found = match self.config.rules {
                Rules::Laion400m => self.laion400m(link, page.base.as_deref(), parsed.as_ref()),
                Rules::Cc2dataset => self.cc2dataset(link, page.base.as_deref(), page_url),
            };
            match found {
                Err(reason) => each(Status::Dropped(reason), None),
                Ok(found) => {
                    let pair = PairView {
                        url: &found.url,
                        caption: &found.caption,
                        page_url,
                        license: license.as_ref().map(|license| license.url.as_str()),
                        license_evidence: license.as_ref().map(|license| license.evidence.as_str()),
                        language: found.language,
                        record_offset,
                        link: link.position,
                        path: link.path.as_deref().unwrap_or_default(),
                        source: match link.source {
                            "" if self.config.documents.are_images() => "alt",
                            "" => "text",
                            source => source,
                        },
                    };
                    each(Status::Kept, Some((uid(pair.caption, pair.url), pair)));
                }
            }
        }
    }

    fn is_candidate(&self, link: &Link<'_>) -> bool {
        let endings = self.config.documents.endings();
        match self.config.rules {
            Rules::Laion400m if endings.is_empty() => !link.source.is_empty() || link.path.as_deref() == Some(IMAGE),
            _ if endings.is_empty() => link.path.as_deref() == Some(IMAGE) && matches!(link.source, "" | "alt"),
            Rules::Cc2dataset => {
                let ending = link.url.as_deref().and_then(|url| url.rsplit_once('.')).map(|(_, ending)| ending);
                ending.is_some_and(|ending| endings.contains(&ending))
            }
            Rules::Laion400m => {
                // Without query and fragment; where the link really leads, is looked at later.
                let url = link.url.as_deref().unwrap_or_default();
                let path = url.split(['?', '#']).next().unwrap_or_default();
                let ending = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
                let is = |known: &&str| ending.is_some_and(|ending| ending.eq_ignore_ascii_case(known));
                endings.iter().any(is)
            }
        }
    }

    fn written<'a>(&self, link: &'a Link<'_>) -> &'a str {
        let written = if self.config.documents.are_images() { &link.alt } else { &link.text };
        written.as_deref().unwrap_or_default()
    }

    fn laion400m<'a>(&self, link: &'a Link<'_>, base: Option<&str>, page: Option<&Url>) -> Result<Found<'a>, Reason> {
        let config = self.config;
        let caption = caption::repair(self.written(link));
        if config.documents == Documents::Image {
            if caption.is_empty() {
                return Err(Reason::NoCaption);
            }
            // Counting characters is for texts that may be too long or too short.
            let characters = caption.chars().count();
            if characters < config.caption_characters_min {
                return Err(Reason::CaptionTooShort);
            }
            if config.caption_characters_max.is_some_and(|most| characters > most) {
                return Err(Reason::CaptionTooLong);
            }
        }
        let page = page.ok_or(Reason::UrlInvalid)?;
        // An empty one leads to the page itself.
        let url = link.url.as_deref().filter(|url| !url.trim().is_empty()).ok_or(Reason::NoUrl)?;
        let url = resolve::browser(page, base, url)?;
        if self.is_refused(&url) {
            return Err(Reason::FileType);
        }
        let host = url.host_str().unwrap_or_default();
        let Lists { hosts_allowed, hosts_blocked, urls_blocked } = self.lists;
        if hosts_allowed.as_ref().is_some_and(|allowed| !lists_host(allowed, host)) || lists_host(hosts_blocked, host) {
            return Err(Reason::Host);
        }
        if !urls_blocked.is_empty() && urls_blocked.contains(url.as_str()) {
            return Err(Reason::UrlBlocked);
        }
        let language = caption::language(&caption).unwrap_or_default();
        let any = config.languages.is_empty() || config.documents != Documents::Image;
        if !any && !config.languages.iter().any(|wanted| wanted == language) {
            return Err(Reason::OtherLanguage);
        }
        Ok(Found { url: String::from(url).into(), caption, language })
    }

    /// Told by the last segment of the path.
    fn is_refused(&self, url: &Url) -> bool {
        let name = url.path_segments().and_then(|mut segments| segments.next_back()).unwrap_or_default();
        let refused = &self.config.extensions_refused;
        name.rsplit_once('.').is_some_and(|(_, extension)| refused.iter().any(|r| extension.eq_ignore_ascii_case(r)))
    }

    /// cc2dataset's `extract_documents_from_links` and `make_links_absolute`: a text as it is, `urljoin`, and nothing but
    /// http and https.
    fn cc2dataset<'a>(&self, link: &'a Link<'_>, base: Option<&str>, page_url: &str) -> Result<Found<'a>, Reason> {
        let caption = self.written(link);
        if caption.is_empty() && self.config.documents == Documents::Image {
            return Err(Reason::NoCaption);
        }
        let url = link.url.as_deref().ok_or(Reason::NoUrl)?;
        let absolute = |url: &str| url.starts_with("http://") || url.starts_with("https://");
        let url = if absolute(url) || url.starts_with("data:") {
            Cow::Borrowed(url)
        } else {
            let base = base.map(|base| resolve::python(page_url, base));
            resolve::python(base.as_deref().unwrap_or(page_url), url).into()
        };
        if absolute(&url) { Ok(Found { url, caption: caption.into(), language: "" }) } else { Err(Reason::UrlScheme) }
    }
}

struct Found<'a> {
    url: Cow<'a, str>,
    caption: Cow<'a, str>,
    language: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(link: Link<'_>, config: &Config, lists: &Lists) -> (Status, Option<(String, String)>) {
        let page = Page { url: Some("http://a.com/x/page.html".into()), links: vec![link], ..Page::default() };
        let mut all = Vec::new();
        Judge { config, lists }.page(&page, "", 7, &mut |status, pair| {
            let texts = pair.map(|(id, pair)| {
                assert_eq!((id, pair.record_offset), (uid(pair.caption, pair.url), 7));
                (pair.url.to_owned(), pair.caption.to_owned())
            });
            all.push((status, texts));
        });
        all.remove(0)
    }

    fn image<'a>(url: &'a str, alt: &'a str) -> Link<'a> {
        Link { path: Some("IMG@/src".into()), url: Some(url.into()), alt: Some(alt.into()), ..Link::default() }
    }

    const ENGLISH: &str = "a large red circle on a white background";

    #[test]
    fn every_refusal_has_its_reason() {
        let cases = [
            ("i.jpg", "", Status::Dropped(Reason::NoCaption)),
            ("i.jpg", " \n\u{0} ", Status::Dropped(Reason::NoCaption)),
            ("i.jpg", "cat ", Status::Dropped(Reason::CaptionTooShort)),
            ("i.jpg", &ENGLISH.repeat(9), Status::Dropped(Reason::CaptionTooLong)),
            (" ", ENGLISH, Status::Dropped(Reason::NoUrl)),
            ("data:image/png;base64,AA", ENGLISH, Status::Dropped(Reason::UrlScheme)),
            ("/i.SVG?size=2", ENGLISH, Status::Dropped(Reason::FileType)),
            ("http://a.gift/i.jpg", ENGLISH, Status::Kept),
            ("i.jpg?from=a.svg", ENGLISH, Status::Kept),
            ("http://cdn.bad.com/i.jpg", ENGLISH, Status::Dropped(Reason::Host)),
            ("http://verybad.com/i.jpg", ENGLISH, Status::Kept),
            ("//a.com/blocked.jpg", ENGLISH, Status::Dropped(Reason::UrlBlocked)),
            (
                "i.jpg",
                "ein großer roter Kreis über zwei kleinen gelben Sternen",
                Status::Dropped(Reason::OtherLanguage),
            ),
        ];
        let lists = Lists {
            hosts_blocked: ["bad.com".to_owned()].into(),
            urls_blocked: ["http://a.com/blocked.jpg".to_owned()].into(),
            hosts_allowed: None,
        };
        let config = Config { caption_characters_max: Some(100), ..Config::laion400m() };
        for (url, alt, expected) in cases {
            assert_eq!(judged(image(url, alt), &config, &lists).0, expected, "{url} {alt}");
        }
        let lists = Lists { hosts_allowed: Some(["a.com".to_owned()].into()), ..Lists::default() };
        assert_eq!(judged(image("http://b.com/i.jpg", ENGLISH), &config, &lists).0, Status::Dropped(Reason::Host));
        assert_eq!(judged(image("http://b.a.com/i.jpg", ENGLISH), &config, &lists).0, Status::Kept);
    }

    #[test]
    fn cc2dataset_takes_any_alt_as_it_is() {
        let config = Config { rules: Rules::Cc2dataset, ..Config::laion400m() };
        let expected = Some(("http://a.com/x/i.svg".to_owned(), "  x ".to_owned()));
        assert_eq!(judged(image("i.svg", "  x "), &config, &Lists::default()), (Status::Kept, expected));
    }

    #[test]
    fn other_documents_are_told_by_their_ending() {
        let link = |url: &'static str| Link {
            path: Some("A@/href".into()),
            url: Some(url.into()),
            text: Some("a song".into()),
            ..Link::default()
        };
        let config = |rules| Config { rules, documents: Documents::Audio, ..Config::laion400m() };
        let candidates = |rules| {
            let (config, lists) = (config(rules), Lists::default());
            let judge = Judge { config: &config, lists: &lists };
            ["a.mp3", "/a.MP3?x=1", "a.mp3?x=1", "a.jpg", "mp3", "http://a.mp3/"]
                .map(|url| judge.is_candidate(&link(url)))
        };
        assert_eq!(candidates(Rules::Cc2dataset), [true, false, false, false, false, false]);
        assert_eq!(candidates(Rules::Laion400m), [true, true, true, false, false, false]);
        let (status, pair) = judged(link("a.mp3"), &config(Rules::Laion400m), &Lists::default());
        assert_eq!((status, pair.expect("kept").1.as_str()), (Status::Kept, "a song"));
    }
}
