//! The images of an HTML page, which a WARC archive holds whole: more of them than a WAT lists, and more texts.
//!
//! A tokenizer goes over the page once; there is no tree of it.

use std::borrow::Cow;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, State, Tokenizer};

use super::wat::{IMAGE, Link, Page};

/// Characters of an anchor's text, as the extractor of WATs keeps them.
const ANCHOR_CHARACTERS_MAX: usize = 128;
/// Characters of a `figcaption`; one that is longer is an article.
const FIGCAPTION_CHARACTERS_MAX: usize = 2000;
/// Attributes that scripts make a `src` of when the image comes into view, most common first.
const LAZY: [&str; 5] = ["data-src", "data-original", "data-lazy-src", "data-lazy", "data-echo"];
/// The same for `srcset`.
const LAZY_SETS: [&str; 2] = ["data-srcset", "data-lazy-srcset"];

/// The page in `html`, whose links stand in document order.
pub(super) fn page(html: &str, url: &str) -> Page<'static> {
    let mut reader = Reader::default();
    {
        let mut tag = Tag::default();
        let emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| reader.event(&mut tag, &event));
        let mut tokenizer = Tokenizer::new_with_emitter(html, emitter);
        while let Some(Ok(state)) = tokenizer.next() {
            tokenizer.set_state(state);
        }
    }
    reader.finish(url)
}

/// A start tag.
#[derive(Debug, Default)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    /// Of attributes that stand twice, the first counts.
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(there, _)| there == name);
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }
}

/// An image that is waiting for what comes behind it.
#[derive(Debug, Default)]
struct Image {
    position: u32,
    /// Where it can be had, the most promising last.
    urls: Vec<(&'static str, String)>,
    /// As it is written: a WAT has it so, too.
    alt: Option<String>,
    title: Option<String>,
}

#[derive(Debug, Default)]
struct Reader {
    base: Option<String>,
    links: Vec<Link<'static>>,
    head_links: Vec<Link<'static>>,
    count: u32,
    /// The largest `<source>` of the `<picture>` that is open.
    picture: Option<Option<(String, f64)>>,
    /// Images of the `<figure>` that is open.
    figure: Option<Vec<Image>>,
    figcaption: String,
    in_figcaption: bool,
    /// The anchor that is open.
    anchor: Option<Link<'static>>,
    anchor_text: String,
    /// `og:image` and the like: URL and alt.
    shared: Vec<(&'static str, String, Option<String>)>,
}

impl Reader {
    /// Takes an event; some tags change how what follows is to be read.
    fn event(&mut self, tag: &mut Tag, event: &CallbackEvent<'_>) -> Option<State> {
        match event {
            CallbackEvent::OpenStartTag { name } => {
                tag.name = text(name).into_owned();
                tag.attributes.clear();
            }
            CallbackEvent::AttributeName { name } => tag.attributes.push((text(name).into_owned(), String::new())),
            CallbackEvent::AttributeValue { value } => {
                if let Some((_, last)) = tag.attributes.last_mut() {
                    *last = text(value).into_owned();
                }
            }
            CallbackEvent::CloseStartTag { .. } => {
                self.start(tag);
                // What is in `noscript` is for us: we run no scripts.
                return match tag.name.as_str() {
                    "textarea" | "title" => Some(State::RcData),
                    "script" => Some(State::ScriptData),
                    "style" | "iframe" | "xmp" | "noembed" | "noframes" => Some(State::RawText),
                    "plaintext" => Some(State::PlainText),
                    _ => None,
                };
            }
            CallbackEvent::EndTag { name } => self.end(name),
            CallbackEvent::String { value } => self.characters(&text(value)),
            CallbackEvent::Comment { .. } | CallbackEvent::Doctype { .. } | CallbackEvent::Error(_) => {}
        }
        None
    }

    fn start(&mut self, tag: &Tag) {
        match tag.name.as_str() {
            "base" if self.base.is_none() => self.base = tag.get("href").map(str::to_owned),
            "img" => self.image(tag),
            "picture" => self.picture = Some(None),
            "source" if self.picture.is_some() => {
                let set = tag.get("srcset").or_else(|| LAZY_SETS.iter().find_map(|name| tag.get(name)));
                if let (Some(best), Some((url, size))) = (&mut self.picture, set.and_then(largest))
                    && best.as_ref().is_none_or(|(_, before)| size > *before)
                {
                    *best = Some((url.to_owned(), size));
                }
            }
            "source" => self.media("SOURCE@/src", tag),
            "audio" => self.media("AUDIO@/src", tag),
            "video" => self.media("VIDEO@/src", tag),
            "embed" => self.media("EMBED@/src", tag),
            "figure" => {
                self.end_figure();
                self.figure = Some(Vec::new());
            }
            // Where there is no figure it belongs to nothing that can be told.
            "figcaption" => self.in_figcaption = self.figure.is_some(),
            "a" => {
                self.end_anchor();
                if let Some(href) = tag.get("href") {
                    let mut link = self.link("A@/href", href);
                    link.rel = tag.get("rel").map(|rel| rel.to_owned().into());
                    self.anchor = Some(link);
                }
            }
            "link" => {
                if let Some(href) = tag.get("href") {
                    let rel = tag.get("rel").map(|rel| rel.to_owned().into());
                    self.head_links.push(Link { url: Some(href.to_owned().into()), rel, ..Link::default() });
                }
            }
            "meta" => self.meta(tag),
            _ => {}
        }
    }

    fn end(&mut self, name: &[u8]) {
        match name {
            b"picture" => self.picture = None,
            b"figcaption" => self.in_figcaption = false,
            b"figure" => self.end_figure(),
            b"a" => self.end_anchor(),
            _ => {}
        }
    }

    fn characters(&mut self, characters: &str) {
        if self.anchor.is_some() && self.anchor_text.len() < ANCHOR_CHARACTERS_MAX * 4 {
            self.anchor_text.push_str(characters);
        }
        if self.in_figcaption && self.figcaption.len() < FIGCAPTION_CHARACTERS_MAX * 4 {
            self.figcaption.push_str(characters);
        }
    }

    /// The next link.
    fn link(&mut self, path: &'static str, url: &str) -> Link<'static> {
        let position = self.count;
        self.count += 1;
        Link { position, path: Some(path.into()), url: Some(url.to_owned().into()), ..Link::default() }
    }

    fn media(&mut self, path: &'static str, tag: &Tag) {
        if let Some(src) = tag.get("src") {
            let link = self.link(path, src);
            self.links.push(link);
        }
    }

    fn image(&mut self, tag: &Tag) {
        let mut urls: Vec<(&'static str, String)> = Vec::new();
        let mut add = |path: &'static str, url: Option<&str>| {
            if let Some(url) = url
                && !urls.iter().any(|(_, there)| there == url)
            {
                urls.push((path, url.to_owned()));
            }
        };
        let raw = |name: &str| tag.attributes.iter().find(|(there, _)| there == name).map(|(_, value)| value.clone());
        add(IMAGE, raw("src").as_deref());
        // A script may be told more than an address there, as JSON.
        let lazy = |name: &&str| tag.get(name).filter(|value| !value.starts_with(['{', '[']));
        add("IMG@/data-src", LAZY.iter().find_map(lazy));
        let set = |name: &str| tag.get(name).and_then(largest).map(|(url, _)| url);
        add("IMG@/srcset", set("srcset"));
        add("IMG@/srcset", LAZY_SETS.iter().find_map(|name| set(name)));
        add("SOURCE@/srcset", self.picture.iter().flatten().next().map(|(url, _)| url.as_str()));
        let image = Image { position: self.count, urls, alt: raw("alt"), title: raw("title") };
        self.count += 1;
        match &mut self.figure {
            // In the caption itself stand portraits of authors and the like.
            Some(images) if !self.in_figcaption => images.push(image),
            _ => self.push_image(image, None),
        }
    }

    /// Every place with the alt, since who knows which one a WAT has; the other texts with the most promising place.
    fn push_image(&mut self, image: Image, figcaption: Option<&str>) {
        let Image { position, urls, alt, title } = image;
        let Some((best_path, best)) = urls.iter().rev().find(|(_, url)| !url.starts_with("data:")).or(urls.first())
        else {
            return;
        };
        let link = |path: &'static str, url: &str, text: &str, source| Link {
            position,
            path: Some(path.into()),
            url: Some(url.to_owned().into()),
            alt: Some(text.to_owned().into()),
            source,
            ..Link::default()
        };
        let written = alt.as_deref().unwrap_or_default();
        self.links.extend(urls.iter().map(|(path, url)| link(path, url, written, "alt")));
        for (text, source) in [(title.as_deref(), "title"), (figcaption, "figcaption")] {
            if let Some(text) = text
                && !text.trim().is_empty()
                && text.trim() != written.trim()
            {
                self.links.push(link(best_path, best, text, source));
            }
        }
    }

    fn end_figure(&mut self) {
        let Some(images) = self.figure.take() else { return };
        self.in_figcaption = false;
        let caption = std::mem::take(&mut self.figcaption);
        let caption: String = caption.chars().take(FIGCAPTION_CHARACTERS_MAX).collect();
        images.into_iter().for_each(|image| self.push_image(image, Some(&caption)));
    }

    fn end_anchor(&mut self) {
        let Some(mut link) = self.anchor.take() else { return };
        let text = std::mem::take(&mut self.anchor_text);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        link.text = Some(text.chars().take(ANCHOR_CHARACTERS_MAX).collect::<String>().into());
        self.links.push(link);
    }

    /// Images that a page names for those who share it.
    fn meta(&mut self, tag: &Tag) {
        let Some(content) = tag.get("content") else { return };
        let name = tag.get("property").or_else(|| tag.get("name")).unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            "og:image" | "og:image:url" => self.shared.push(("META@/og:image", content.to_owned(), None)),
            "twitter:image" | "twitter:image:src" => {
                self.shared.push(("META@/twitter:image", content.to_owned(), None))
            }
            "og:image:alt" | "twitter:image:alt" => {
                let kind = if name.starts_with("og") { "META@/og:image" } else { "META@/twitter:image" };
                if let Some((.., alt)) = self.shared.iter_mut().rev().find(|(path, ..)| *path == kind) {
                    alt.get_or_insert_with(|| content.to_owned());
                }
            }
            _ => {}
        }
    }

    fn finish(mut self, url: &str) -> Page<'static> {
        self.end_figure();
        self.end_anchor();
        for (path, url, alt) in std::mem::take(&mut self.shared) {
            let mut link = self.link(path, &url);
            if let Some(alt) = alt {
                (link.alt, link.source) = (Some(alt.into()), "og");
                self.links.push(link);
            }
        }
        self.links.sort_by_key(|link| link.position);
        Page {
            url: Some(url.to_owned().into()),
            base: self.base.map(Into::into),
            head_links: self.head_links,
            links: self.links,
            link_count: self.count,
        }
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The largest image of a `srcset`, and how large it is among others: its width in pixels, or a thousandth of its density.
/// Source: the HTML standard, 4.8.4.4 "parse a srcset attribute".
fn largest(set: &str) -> Option<(&str, f64)> {
    let mut rest = set;
    let mut best: Option<(&str, f64)> = None;
    loop {
        rest = rest.trim_start_matches(|letter: char| letter.is_ascii_whitespace() || letter == ',');
        if rest.is_empty() {
            return best;
        }
        let end = rest.find(|letter: char| letter.is_ascii_whitespace()).unwrap_or(rest.len());
        let (mut url, mut descriptor) = (&rest[..end], "");
        rest = &rest[end..];
        if url.ends_with(',') {
            url = url.trim_end_matches(',');
        } else {
            (descriptor, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let size = |word: &str| match word.split_at_checked(word.len().wrapping_sub(1)) {
            Some((number, "w")) => number.parse::<f64>().ok(),
            Some((number, "x")) => number.parse::<f64>().ok().map(|density| density / 1000.0),
            _ => None,
        };
        let size = descriptor.split_ascii_whitespace().find_map(size).filter(|size| size.is_finite()).unwrap_or(0.001);
        if !url.is_empty() && best.is_none_or(|(_, before)| size > before) {
            best = Some((url, size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Path, URL, text and source of each image of a page.
    fn images(html: &str) -> Vec<String> {
        let links = page(html, "http://a.com/").links;
        let images = links.iter().filter(|link| !link.source.is_empty());
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or("-").to_owned();
        images
            .map(|link| format!("{} {} {:?} {}", text(&link.path), text(&link.url), text(&link.alt), link.source))
            .collect()
    }

    #[test]
    fn every_place_of_an_image_is_found() {
        let html = r#"<img src=a.jpg alt="one &amp; two" srcset="a-small.jpg 100w, a,large.jpg 300w , a-mid.jpg 200w">
            <picture><source srcset="b.webp 1x,b2.webp 2x"><source srcset=b3.webp><img src='b.jpg' alt=b></picture>
            <IMG SRC="data:image/gif;base64,AA" DATA-SRC=c.jpg ALT=c TITLE="a c">
            <noscript><img src=d.jpg alt=d></noscript>
            <script>var x = "<img src=no.jpg alt=no>";</script><!-- <img src=no.jpg alt=no> -->
            <img src=e.jpg>
            <img data-src='{"default": "//x.com/f.jpg?h=75"}' data-original=f-large.jpg src=f.jpg alt=f>"#;
        let expected = [
            "IMG@/src a.jpg \"one & two\" alt",
            "IMG@/srcset a,large.jpg \"one & two\" alt",
            "IMG@/src b.jpg \"b\" alt",
            "SOURCE@/srcset b2.webp \"b\" alt",
            "IMG@/src data:image/gif;base64,AA \"c\" alt",
            "IMG@/data-src c.jpg \"c\" alt",
            "IMG@/data-src c.jpg \"a c\" title",
            "IMG@/src d.jpg \"d\" alt",
            "IMG@/src e.jpg \"\" alt",
            "IMG@/src f.jpg \"f\" alt",
            "IMG@/data-src f-large.jpg \"f\" alt",
        ];
        assert_eq!(images(html), expected);
    }

    #[test]
    fn texts_around_an_image_are_found() {
        let html = r#"<head><base href=/b/><meta property="og:image" content="o.jpg"><meta property=og:image:alt content="an o">
            <meta name=twitter:image content=t.jpg><link rel=license href=l></head>
            <figure><a href=x>before <img src=f.jpg alt=""></a><figcaption>A <b>fine</b> day</figcaption></figure>
            <figure><img src=g.jpg alt="the same"><figcaption> the same </figcaption></figure>
            <figcaption>of nothing</figcaption>
            <figure><img src=h.jpg><figcaption>Written by <img src=author.jpg alt=me></figcaption></figure>"#;
        let expected = [
            "IMG@/src f.jpg \"\" alt",
            "IMG@/src f.jpg \"A fine day\" figcaption",
            "IMG@/src g.jpg \"the same\" alt",
            "IMG@/src h.jpg \"\" alt",
            "IMG@/src h.jpg \"Written by \" figcaption",
            "IMG@/src author.jpg \"me\" alt",
            "META@/og:image o.jpg \"an o\" og",
        ];
        assert_eq!(images(html), expected);
        let page = page(html, "http://a.com/");
        assert_eq!((page.base.as_deref(), page.head_links.len(), page.link_count), (Some("/b/"), 1, 7));
        let anchor = page.links.iter().find(|link| link.path.as_deref() == Some("A@/href")).expect("the anchor");
        assert_eq!(anchor.text.as_deref(), Some("before"));
    }

    #[test]
    fn the_largest_of_a_set_is_told_as_browsers_tell_it() {
        for (set, expected) in [
            ("a 1x, b 2x", Some("b")),
            ("a, b 2x", Some("b")),
            ("a.jpg", Some("a.jpg")),
            ("http://x.com/i,w_100,h_5/a.jpg 100w,http://x.com/b.jpg 50w", Some("http://x.com/i,w_100,h_5/a.jpg")),
            (" , ,", None),
            ("a 2x,, b 3x,", Some("b")),
            ("a NaNw, b 1w", Some("b")),
            ("", None),
        ] {
            assert_eq!(largest(set).map(|(url, _)| url), expected, "{set}");
        }
    }

    proptest! {
        #[test]
        fn no_page_makes_it_panic(
            parts in prop::collection::vec("(<(/)?(img|picture|source|figure|figcaption|a|meta|title|script|base))?( (src|srcset|alt|data-src|content|property|href)=?['\"]?\\PC{0,9}['\"]?)?>?\\PC{0,5}", 0..12),
        ) {
            let html = parts.concat();
            let found = page(&html, "http://a.com/");
            prop_assert!(found.links.is_sorted_by_key(|link| link.position));
            let _ = largest(&html);
        }
    }
}
