//! The part of a WAT record that matters: the links of a page, as Common Crawl's extractor (`ia-web-commons`) lists them.
//!
//! A record is one JSON object on one line, four fifths of it links that nobody wants. What the extractor writes always
//! looks the same, so the wanted links are found by their first bytes and the rest is never parsed; a record that looks
//! otherwise in any way is parsed whole.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The page of a WAT record.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page<'a> {
    /// The address it was crawled at.
    pub(super) url: Option<Cow<'a, str>>,
    /// `<base href>`.
    pub(super) base: Option<Cow<'a, str>>,
    /// `<link>` elements of the head; only those of a record that was parsed whole.
    pub(super) head_links: Vec<Link<'a>>,
    /// The wanted links, in document order.
    pub(super) links: Vec<Link<'a>>,
    /// How many there are, wanted or not.
    pub(super) link_count: u32,
}

/// A link: where it stands, where it leads, and what is written about it. Values that are no text count as absent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Link<'a> {
    /// Its number among the links of the page.
    #[serde(skip)]
    pub(super) position: u32,
    /// `TAG@/attribute`.
    #[serde(borrow, deserialize_with = "text")]
    pub(super) path: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) url: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) alt: Option<Cow<'a, str>>,
    /// Of an anchor, at most 128 characters.
    #[serde(borrow, deserialize_with = "text")]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) rel: Option<Cow<'a, str>>,
    /// What the text of an image was, where it is known to be one: a page has several kinds.
    #[serde(skip)]
    pub(super) source: &'static str,
}

/// What is wanted of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Links to images, and no others.
    pub(super) images_only: bool,
    /// Every link of pages that speak of Creative Commons.
    pub(super) licenses: bool,
    /// Lone surrogates become the replacement character; else the record is broken, as it is for simdjson.
    pub(super) repair: bool,
}

/// Where images stand.
pub(super) const IMAGE: &str = "IMG@/src";

/// Reads a record and gives its page to `each`: `Ok(None)` where it is sound but no HTML page (a request, a crawler's
/// note), an error where it is broken.
pub(super) fn parse<T>(json: &[u8], wanted: Wanted, each: impl FnOnce(Result<Option<Page<'_>>, String>) -> T) -> T {
    if let Some(page) = quick(json, wanted) {
        return each(Ok(page));
    }
    let text = String::from_utf8_lossy(json);
    let text = if wanted.repair { without_lone_surrogates(&text) } else { text };
    each(whole(&text))
}

/// Names that records are looked through for.
struct Names([Finder<'static>; 7]);

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    Names(
        ["\"Envelope\":{", "\"HTML-Metadata\":", "creativecommons.org", "\"Base\":", "\"Links\":[", "\"Links\"", "}]"]
            .map(Finder::new),
    )
});

/// Reads what the extractor writes; `None` where anything looks otherwise.
fn quick(json: &[u8], wanted: Wanted) -> Option<Option<Page<'_>>> {
    let Names([envelope, html, creative_commons, base, links, links_of_any_kind, end]) = &*NAMES;
    let json = json.trim_ascii();
    if !json.starts_with(b"{") || !json.ends_with(b"}") || envelope.find(json).is_none() {
        return None;
    }
    let Some(html) = html.find(json) else { return Some(None) };
    if wanted.licenses && creative_commons.find(json).is_some() {
        return None;
    }
    const TARGET: &[u8] = b"\"WARC-Target-URI\":";
    let target = memmem::rfind(json, TARGET)? + TARGET.len();
    let mut page = Page { url: Some(value(&json[target..])?), ..Page::default() };
    let html = &json[html..];
    let Some(start) = links.find(html) else {
        let none = links_of_any_kind.find(html).is_none() && base.find(html).is_none();
        return none.then_some(Some(page));
    };
    if base.find(&html[..start]).is_some() {
        page.base = value::<Head<'_>>(html.strip_prefix(b"\"HTML-Metadata\":{\"Head\":")?)?.base;
    }
    let links = &html[start + links.needle().len()..];
    // Most links are to other pages, and shorter.
    page.links.reserve(if wanted.images_only { links.len() / 512 } else { links.len() / 128 });
    let mut last = 0;
    for place in memchr::memchr_iter(b'{', links) {
        let (before, object) = (&links[..place], &links[place..]);
        // Within a text a quote has a backslash before it: this is an object, or a text that ends with a brace.
        match object.get(1) {
            Some(b'"') => {}
            Some(b'}' | b' ' | b'\t' | b'\r' | b'\n') | None => return None,
            Some(_) => continue, // within a text
        }
        if !(place == 0 || before.ends_with(b"},")) || !object.starts_with(b"{\"path\":\"") {
            // Another list or object after the end of this one?
            if end.find(&links[last..place]).is_some() || links.starts_with(b"]") {
                break;
            }
            return None;
        }
        if !wanted.images_only || object[9..].starts_with(b"IMG@/src\"") {
            let mut link = match flat(object) {
                Some(link) => link,
                None => value(object)?,
            };
            link.position = page.link_count;
            page.links.push(link);
        }
        page.link_count += 1;
        last = place;
    }
    // The head stands before the links; what stands behind them has to be looked at closely.
    base.find(&links[last..]).is_none().then_some(Some(page))
}

/// The link at the front, if all its values are texts without a backslash.
fn flat(json: &[u8]) -> Option<Link<'_>> {
    let (mut places, mut rest) = ([const { None }; 5], &json[1..]);
    loop {
        let name = plain_text(&mut rest)?;
        rest = rest.strip_prefix(b":")?;
        let value = plain_text(&mut rest)?;
        let end = json.len() - rest.len() - 1;
        let known = match name {
            b"path" => Some(0),
            b"url" => Some(1),
            b"alt" => Some(2),
            b"text" => Some(3),
            b"rel" => Some(4),
            _ => None,
        };
        if let Some(known) = known
            && places[known].replace(end - value.len()..end).is_some()
        {
            return None; // twice
        }
        match rest.split_first()? {
            (b',', after) => rest = after,
            (b'}', after) => {
                // Once for all: most values are short.
                let json = simdutf8::basic::from_utf8(&json[..json.len() - after.len()]).ok()?;
                let mut value = |known: usize| places[known].take().map(|place| json[place].into());
                let (path, url, alt, text, rel) = (value(0), value(1), value(2), value(3), value(4));
                return Some(Link { path, url, alt, text, rel, ..Link::default() });
            }
            _ => return None,
        }
    }
}

/// Takes a text without backslashes and control characters off the front.
fn plain_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let content = rest.strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', content)?;
    let (text, after) = content.split_at(end);
    // A control character is an error in JSON.
    if after[0] == b'\\' || text.iter().any(|&byte| byte < 0x20) {
        return None;
    }
    *rest = &after[1..];
    Some(text)
}

/// The JSON value at the front.
fn value<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    serde_json::Deserializer::from_slice(json).into_iter().next()?.ok()
}

/// Reads any record.
fn whole(json: &str) -> Result<Option<Page<'_>>, String> {
    let record: Record<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let envelope = record.envelope.ok_or("no Envelope")?;
    let html = envelope.payload.and_then(|payload| payload.response).and_then(|response| response.html);
    let Some(mut html) = html else { return Ok(None) };
    let head = html.head.unwrap_or_default();
    (0..).zip(&mut html.links).for_each(|(position, link)| link.position = position);
    Ok(Some(Page {
        url: envelope.header.and_then(|header| header.target),
        base: head.base,
        head_links: head.links,
        link_count: html.links.len() as u32,
        links: html.links,
    }))
}

/// Half of a pair of surrogates stands for no character: it becomes U+FFFD, so that it does not cost the page.
fn without_lone_surrogates<'a>(json: &Cow<'a, str>) -> Cow<'a, str> {
    let unit = |place: usize| {
        let digits = json.get(place..place + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let (mut repaired, mut from, mut place) = (String::new(), 0, 0);
    while let Some(found) = memchr::memchr(b'\\', &json.as_bytes()[place..]) {
        place += found;
        let length = match (unit(place), unit(place + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                repaired.push_str(&json[from..place]);
                repaired.push_str("\\ufffd");
                from = place + 6;
                6
            }
            (Some(_), _) => 6,
            (None, _) => 2,
        };
        place = (place + length).min(json.len());
    }
    if from == 0 {
        return json.clone();
    }
    repaired.push_str(&json[from..]);
    repaired.into()
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, rename = "Envelope")]
    envelope: Option<Envelope<'a>>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "WARC-Header-Metadata")]
    header: Option<Header<'a>>,
    #[serde(borrow, rename = "Payload-Metadata")]
    payload: Option<Payload<'a>>,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow, default, rename = "WARC-Target-URI", deserialize_with = "text")]
    target: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow, rename = "HTTP-Response-Metadata")]
    response: Option<Response<'a>>,
}

#[derive(Deserialize)]
struct Response<'a> {
    #[serde(borrow, rename = "HTML-Metadata")]
    html: Option<Html<'a>>,
}

#[derive(Deserialize)]
struct Html<'a> {
    #[serde(borrow, rename = "Head", default)]
    head: Option<Head<'a>>,
    #[serde(borrow, rename = "Links", default, deserialize_with = "links")]
    links: Vec<Link<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head<'a> {
    #[serde(borrow, rename = "Base", deserialize_with = "text")]
    base: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "Link", deserialize_with = "links")]
    links: Vec<Link<'a>>,
}

/// A text, or nothing where the value is of another kind: one odd value must not cost the record.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    struct Text;
    impl<'de> Visitor<'de> for Text {
        type Value = Option<Cow<'de, str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }
        fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
            Ok(Some(Cow::Borrowed(value)))
        }
        fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
            Ok(Some(Cow::Owned(value.to_owned())))
        }
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(None)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
            while sequence.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
        }
    }
    deserializer.deserialize_any(Text)
}

/// A list of links, or none where `null` stands.
fn links<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Link<'de>>, D::Error> {
    Option::<Vec<Link<'de>>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const WANTED: Wanted = Wanted { images_only: true, licenses: false, repair: true };

    fn record(html: &str) -> String {
        format!(
            r#"{{"Container":{{}},"Envelope":{{"Payload-Metadata":{{"HTTP-Response-Metadata":{{"HTML-Metadata":{html}}}}},"WARC-Header-Metadata":{{"WARC-Target-URI":"http://a.com/"}}}}}}"#
        )
    }

    /// Number, URL and alt.
    type Image = (u32, Option<String>, Option<String>);

    /// The images of a page, by both ways if both can.
    fn images(json: &[u8]) -> Result<Option<Vec<Image>>, String> {
        let owned = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
        let all = |page: Page<'_>| {
            let links = page.links.iter().filter(|link| link.path.as_deref() == Some(IMAGE));
            links.map(|link| (link.position, owned(&link.url), owned(&link.alt))).collect::<Vec<_>>()
        };
        let found = parse(json, WANTED, |page| page.map(|page| page.map(all)));
        if let (Some(page), Ok(text)) = (quick(json, WANTED), std::str::from_utf8(json))
            && let Ok(whole) = whole(text)
        {
            assert_eq!(page.as_ref().map(|page| page.link_count), whole.as_ref().map(|page| page.link_count));
            assert_eq!(page.map(all), whole.map(all), "both ways give the same");
        }
        found
    }

    #[test]
    fn links_keep_their_order_and_odd_values_cost_nothing_else() {
        let odd = r##"{"Head":{"Base":"/b/"},"Links":[{"path":"IMG@/src","url":"i.jpg","alt":"a cat"},
            {"path":"STYLE/#text","href":"x.css"},{"path":"IMG@/src","url":"j.jpg","alt":null},
            {"url":7,"alt":["a",{"b":1}],"path":"IMG@/src"}]}"##;
        let text = |text: &str| Some(text.to_owned());
        let expected = vec![(0, text("i.jpg"), text("a cat")), (2, text("j.jpg"), None), (3, None, None)];
        assert_eq!(images(record(odd).as_bytes()), Ok(Some(expected)));
        parse(record(odd).as_bytes(), WANTED, |page| {
            let page = page.expect("sound").expect("a page");
            assert_eq!((page.url.as_deref(), page.base.as_deref()), (Some("http://a.com/"), Some("/b/")));
        });
    }

    #[test]
    fn texts_that_look_like_links_are_texts() {
        let links = json!({"Links": [
            {"path": "A@/href", "url": "x", "text": "path", "title": "{\"path\":\"IMG@/src\",\"url\":\"no\"}"},
            {"path": "IMG@/src", "url": "\"Links\":[", "alt": "path"},
        ], "Other": [{"path": "IMG@/src", "url": "no"}, {"path": "IMG@/src", "url": "no"}]});
        let found = images(record(&links.to_string()).as_bytes()).expect("sound").expect("a page");
        assert_eq!(found, [(1, Some("\"Links\":[".to_owned()), Some("path".to_owned()))]);
    }

    #[test]
    fn a_record_without_page_is_no_flaw_and_one_without_envelope_is() {
        assert_eq!(images(br#"{"Envelope":{"Payload-Metadata":{"HTTP-Request-Metadata":{}}}}"#), Ok(None));
        assert!(images(br#"{"Container":{}}"#).is_err());
        assert!(images(b"{\"Envelope\":").is_err());
        assert_eq!(images(record(r#"{"Links":null}"#).as_bytes()), Ok(Some(Vec::new())));
        assert_eq!(images(record(r#"{"Head":{}}"#).as_bytes()), Ok(Some(Vec::new())));
    }

    #[test]
    fn a_letter_that_is_none_does_not_cost_the_page() {
        let mut json = record(r#"{"Links":[{"path":"IMG@/src","url":"i","alt":"a \ud83d b \\ud83d \ud83d\ude00"}]}"#);
        let alt = |json: &[u8]| images(json).map(|found| found.expect("a page")[0].2.clone().expect("an alt"));
        assert_eq!(alt(json.as_bytes()), Ok("a \u{FFFD} b \\ud83d \u{1F600}".to_owned()));
        let strict = Wanted { repair: false, ..WANTED };
        assert!(parse(json.as_bytes(), strict, |page| page.is_err()), "simdjson refuses it");
        json = json.replace(r"\ud83d b", "\u{1} b");
        let bytes: Vec<u8> = json.bytes().map(|byte| if byte == 1 { 0xFF } else { byte }).collect();
        assert_eq!(alt(&bytes), Ok("a \u{FFFD} b \\ud83d \u{1F600}".to_owned()));
    }

    proptest! {
        #[test]
        fn both_ways_agree_on_any_links(
            links in prop::collection::vec(prop::collection::vec((0..6usize, "[a\"\\\\{}:,\u{e9}]{0,6}|path|IMG@/src"), 0..5), 0..6),
            cut in 0..400usize,
        ) {
            let object = |fields: &Vec<(usize, String)>| {
                let names = ["path", "path", "url", "alt", "text", "href"];
                let field = |(name, value): &(usize, String)| format!("{}:{}", json!(names[*name]), json!(value));
                // A name stands twice in no object of the extractor.
                let mut fields = fields.clone();
                fields.dedup_by_key(|field| names[field.0]);
                let unique: std::collections::HashSet<_> = fields.iter().map(|field| names[field.0]).collect();
                if unique.len() < fields.len() { fields.truncate(1) }
                format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
            };
            let json = record(&format!("{{\"Links\":[{}]}}", links.iter().map(object).collect::<Vec<_>>().join(",")));
            let _ = images(json.as_bytes());
            let _ = images(&json.as_bytes()[..json.len() - cut.min(json.len())]);
        }
    }
}
