//! The pages of the world, what their links lead to, and the truth about each.

use std::collections::HashMap;

use url::Url;

use crate::fate::Fate;
use crate::language::foreign_caption;
use crate::picture::Picture;
use crate::random::Random;
use crate::scene::Scene;
use crate::truth::Truth;

/// What a world follows from: equal settings give equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of everything random.
    pub seed: u64,
    /// Image links on all pages together.
    pub pictures: usize,
    /// The loopback port all hosts are served on; it stands in every URL.
    pub port: u16,
}

impl Settings {
    /// The world of the demo.
    pub const DEMO: Self = Self { seed: 400, pictures: 3000, port: 18400 };
}

/// Image links of a page, at most.
const PAGE_LINKS: usize = 12;
/// Archives the crawl is split into.
pub const ARCHIVES: usize = 4;

const HOSTS: [&str; 24] = [
    "garden",
    "harbor",
    "library",
    "market",
    "museum",
    "orchard",
    "studio",
    "village",
    "bakery",
    "bridge",
    "castle",
    "cinema",
    "forest",
    "gallery",
    "island",
    "kitchen",
    "lantern",
    "meadow",
    "mill",
    "observatory",
    "pottery",
    "quarry",
    "theatre",
    "workshop",
];

/// What a URL answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Picture(Picture),
    /// With an `X-Robots-Tag`.
    Tagged(Picture, &'static str),
    /// Redirects to a path of the same host (relative) or an absolute URL.
    Redirect(u16, String),
    Status(u16),
    /// Accepts and never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
    /// A page with the content type given.
    Html(&'static str),
    /// Says it has all bytes and sends half.
    HalfBody(Picture),
    /// Sends half of the file and calls it whole.
    HalfFile(Picture),
}

/// An element of a page, in document order.
#[derive(Clone, Debug)]
pub(crate) enum Element {
    Image { src: String, alt: Option<String>, title: Option<String> },
    Anchor { href: String, text: String, rel: Option<&'static str> },
    Paragraph(String),
}

/// A page.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) host: &'static str,
    pub(crate) path: String,
    pub(crate) title: String,
    pub(crate) base: Option<String>,
    /// `<link rel=license>` in the head.
    pub(crate) head_license: Option<&'static str>,
    pub(crate) elements: Vec<Element>,
    pub(crate) archive: usize,
}

/// A web that fits in memory: pages and what every address answers. Pictures are drawn when they are asked for.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    pub(crate) pages: Vec<Page>,
    pub(crate) answers: HashMap<(String, String), Answer>,
    truth: Vec<Truth>,
}

impl World {
    /// Makes the world.
    pub fn new(settings: Settings) -> Self {
        Builder { settings, random: Random::new(settings.seed), answers: HashMap::new(), truth: Vec::new() }.build()
    }

    /// What it was made from.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The truth about every image link, in the order of the crawl.
    pub fn truth(&self) -> &[Truth] {
        &self.truth
    }

    /// Pages of all hosts.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    pub(crate) fn page_url(&self, page: &Page) -> String {
        format!("{}{}", origin(self.settings, page.host), page.path)
    }
}

fn origin(settings: Settings, host: &str) -> String {
    format!("http://{host}.localhost:{}", settings.port)
}

struct Builder {
    settings: Settings,
    random: Random,
    answers: HashMap<(String, String), Answer>,
    truth: Vec<Truth>,
}

impl Builder {
    fn build(mut self) -> World {
        let mut fates = self.fates().into_iter().enumerate();
        let page_count = self.settings.pictures.div_ceil(PAGE_LINKS * 3 / 4).max(1);
        let mut pages = Vec::new();
        while fates.len() > 0 {
            let archive = (pages.len() * ARCHIVES / page_count).min(ARCHIVES - 1);
            let count = PAGE_LINKS / 2 + self.random.below(PAGE_LINKS / 2 + 1);
            let links: Vec<_> = fates.by_ref().take(count).collect();
            let page = self.page(pages.len(), archive, &links);
            pages.push(page);
        }
        World { settings: self.settings, pages, answers: self.answers, truth: self.truth }
    }

    /// A fate per image link: each one once, then by share. The first link is good, so that others can repeat it.
    fn fates(&mut self) -> Vec<Fate> {
        let each = std::iter::once(Fate::Good).chain(Fate::SHARES.map(|(fate, _)| fate));
        let mut fates: Vec<_> = each.take(self.settings.pictures).collect();
        while fates.len() < self.settings.pictures {
            let mut draw = self.random.below(1000) as u32;
            let found = Fate::SHARES.iter().find(|(_, share)| {
                let hit = draw < *share;
                draw = draw.saturating_sub(*share);
                hit
            });
            fates.push(found.map_or(Fate::Good, |&(fate, _)| fate));
        }
        fates
    }

    fn page(&mut self, number: usize, archive: usize, links: &[(usize, Fate)]) -> Page {
        const LICENSES: [&str; 4] = [
            "https://creativecommons.org/licenses/by-nc-sa/4.0/",
            "http://creativecommons.org/licenses/by/2.0/",
            "//creativecommons.org/publicdomain/zero/1.0/",
            "https://creativecommons.org/licenses/by-sa/3.0/deed.de",
        ];
        let host = self.random.pick(&HOSTS);
        let path = match self.random.below(3) {
            0 => format!("/{number}.html"),
            1 => format!("/pages/{number}/"),
            _ => format!("/pages/{number}/index.html?from=crawl"),
        };
        // Links are relative to this folder.
        let base = self.random.chance(0.15).then(|| format!("/shared/{number}/"));
        let license = self.random.chance(0.25).then(|| self.random.pick(&LICENSES));
        let license_place = self.random.below(3);
        let head_license = license.filter(|_| license_place == 0);
        let license_link = |place| {
            license.filter(|_| license_place == place).map(|license| Element::Anchor {
                href: license.to_owned(),
                text: "Some rights reserved".into(),
                rel: number.is_multiple_of(2).then_some("license"),
            })
        };
        let page_url = format!("{}{path}", origin(self.settings, host));
        let mut elements = vec![Element::Paragraph(format!("Pictures of the {host}, page {number}."))];
        elements.extend(license_link(1));
        let mut page = Page {
            host,
            path,
            title: format!("The {host}, page {number}"),
            base,
            head_license,
            elements: Vec::new(),
            archive,
        };
        let license =
            license.map(|license| if license.starts_with("//") { format!("https:{license}") } else { license.into() });
        for &(index, fate) in links {
            let (image, truth) = self.image(&page, &page_url, index, fate);
            self.truth.push(Truth { archive, page_url: page_url.clone(), license: license.clone(), ..truth });
            elements.push(image);
            if self.random.chance(0.3) {
                let words = self.random.pick(&["more", "next page", "back to the start", "write to us"]);
                let href = self.random.pick(&["/", "more.html", "https://example.org/", "mailto:someone@example.org"]);
                elements.push(Element::Anchor { href: href.into(), text: words.into(), rel: None });
            }
        }
        elements.extend(license_link(2));
        page.elements = elements;
        page
    }

    /// One image element with everything it leads to.
    fn image(&mut self, page: &Page, page_url: &str, index: usize, fate: Fate) -> (Element, Truth) {
        let mut random = Random::of(self.settings.seed ^ 0x11_4B, index as u64);
        let scene = Scene::new(self.settings.seed, index as u64);
        let picture = Picture::new(scene, fate == Fate::TinyImage, &mut random);
        let alt = self.alt(fate, &picture.scene, index, &mut random);
        if fate == Fate::Duplicate {
            let known: Vec<_> = self.truth.iter().filter(|truth| truth.good).collect();
            let first = known[random.below(known.len())];
            let (url, caption) = (first.url.clone(), first.caption.clone());
            let image = Element::Image { src: url.clone(), alt: Some(caption.clone()), title: None };
            return (image, Truth::new(url, caption, fate));
        }
        let src = self.address(page, &picture, index, fate, &mut random);
        let base = page.base.as_deref().unwrap_or_default();
        let resolve = |src: &str| Url::parse(page_url)?.join(base)?.join(src);
        let url = resolve(&src);
        if let Ok(url) = &url
            && url.scheme() == "http"
        {
            self.answer(url, fate, picture, &mut random);
        }
        let caption = alt.as_deref().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let truth = Truth::new(url.map_or_else(|_| src.clone(), String::from), caption, fate);
        let title = random.chance(0.2).then(|| format!("picture {index}"));
        (Element::Image { src, alt, title }, truth)
    }

    fn alt(&self, fate: Fate, scene: &Scene, index: usize, random: &mut Random) -> Option<String> {
        let caption = scene.caption(random);
        match fate {
            Fate::NoCaption => random.chance(0.5).then(String::new),
            Fate::ShortCaption => Some(random.pick(&["img", "pic", "1234", " a ", "logo"]).into()),
            Fate::OtherLanguage => Some(foreign_caption(scene, random)),
            Fate::Mismatched => {
                let other = (index + 1 + random.below(self.settings.pictures.max(2) - 1)) as u64;
                Some(Scene::new(self.settings.seed ^ 0x0FF, other).caption(random))
            }
            Fate::GoodMarkup => {
                let markup =
                    ["<script>alert(1)</script>", "\"quoted\" & <b>bold</b>", "'\"><img src=x onerror=alert(2)>"];
                Some(format!("{caption} {}", random.pick(&markup)))
            }
            _ if random.chance(0.05) => Some(format!("  {}\n", caption.replacen(' ', "  \t", 2))),
            _ => Some(caption),
        }
    }

    /// The address as the page writes it.
    fn address(&self, page: &Page, picture: &Picture, index: usize, fate: Fate, random: &mut Random) -> String {
        match fate {
            Fate::FileType => {
                let ending = random.pick(&["svg", "gif", "ico", "SVG"]);
                return format!("/drawings/{index}.{ending}?v=2");
            }
            Fate::NoWebUrl => {
                let urls = [
                    "data:image/png;base64,iVBORw0KGgo=",
                    "javascript:void(0)",
                    "mailto:someone@example.org",
                    "ftp://example.org/a.jpg",
                ];
                return random.pick(&urls).into();
            }
            _ => {}
        }
        let word = random.pick(&["photo", "image", "größe", "scene one", "upload", "DSC", "bild%C3%BC", "p"]);
        let ending = match random.below(10) {
            0 => String::new(),
            1 => format!(".{}", picture.format.extension().to_uppercase()),
            _ => format!(".{}", picture.format.extension()),
        };
        let query = match random.below(6) {
            0 => format!("?id={index}&size=large"),
            1 => "?v=1#top".to_owned(),
            _ => String::new(),
        };
        let name = format!("{word}-{index}{ending}{query}");
        let host = origin(self.settings, page.host);
        match random.below(6) {
            0 => format!("{host}/media/{name}"),
            1 => format!("{}/media/{name}", &host["http:".len()..]),
            2 => format!("/static/img/{name}"),
            3 => format!("../up/{name}"),
            4 => format!("./{name}"),
            _ => name,
        }
    }

    fn answer(&mut self, url: &Url, fate: Fate, picture: Picture, random: &mut Random) {
        let host = url.host_str().unwrap_or_default().to_owned();
        let path = url.path().to_owned();
        let mut moved = |to: &str, answer: Answer| {
            self.answers.insert((host.clone(), to.to_owned()), answer);
        };
        let answer = match fate {
            Fate::GoodRedirect => {
                let (middle, end) = (format!("{path}.1"), format!("{path}.2"));
                moved(&end, Answer::Picture(picture));
                moved(&middle, Answer::Redirect(307, end));
                let absolute = format!("{}://{}{middle}", url.scheme(), url.authority());
                Answer::Redirect(random.pick(&[301, 302, 303, 308]), absolute)
            }
            Fate::RedirectLoop => {
                let other = format!("{path}.1");
                moved(&other, Answer::Redirect(302, path.clone()));
                Answer::Redirect(302, other)
            }
            Fate::RedirectNowhere => Answer::Redirect(302, format!("{path}.gone")),
            Fate::GoodOtherBot => Answer::Tagged(picture, "otherbot: noai"),
            Fate::NoAi => Answer::Tagged(picture, random.pick(&["noai", "noindex, noimageai", "NoAI"])),
            Fate::NotFound => Answer::Status(404),
            Fate::Forbidden => Answer::Status(403),
            Fate::ServerError => Answer::Status(random.pick(&[500, 502, 503])),
            Fate::Closed => Answer::Close,
            Fate::Timeout => Answer::Hang,
            Fate::HtmlAsImage => Answer::Html(random.pick(&["text/html", "image/jpeg"])),
            Fate::TruncatedBody => Answer::HalfBody(picture),
            Fate::TruncatedFile => Answer::HalfFile(picture),
            _ => Answer::Picture(picture),
        };
        self.answers.insert((host, path), answer);
    }
}
