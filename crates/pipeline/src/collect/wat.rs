//! The part of a WAT record that matters: the links of a page, as Common Crawl's extractor (`ia-web-commons`) lists them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The page of a WAT record.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Page {
    /// The address it was crawled at.
    pub(super) url: Option<String>,
    /// `<base href>`.
    pub(super) base: Option<String>,
    /// `<link>` elements of the head.
    pub(super) head_links: Vec<Link>,
    /// All links of the body, in document order.
    pub(super) links: Vec<Link>,
}

/// A link: where it stands, where it leads, and what is written about it. Values that are no text count as absent.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Link {
    /// `TAG@/attribute`.
    #[serde(deserialize_with = "text")]
    pub(super) path: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) url: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) alt: Option<String>,
    #[serde(deserialize_with = "text")]
    pub(super) rel: Option<String>,
}

/// Reads a record. `Ok(None)` where it is sound but no HTML page (a request, a crawler's note).
pub(super) fn parse(json: &str) -> Result<Option<Page>, String> {
    let record: Record = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let envelope = record.envelope.ok_or("no Envelope")?;
    let html = envelope.payload.and_then(|payload| payload.response).and_then(|response| response.html);
    let Some(html) = html else { return Ok(None) };
    let head = html.head.unwrap_or_default();
    Ok(Some(Page {
        url: envelope.header.and_then(|header| header.target),
        base: head.base,
        head_links: head.links,
        links: html.links,
    }))
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "Envelope")]
    envelope: Option<Envelope>,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "WARC-Header-Metadata")]
    header: Option<Header>,
    #[serde(rename = "Payload-Metadata")]
    payload: Option<Payload>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "WARC-Target-URI")]
    target: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "HTTP-Response-Metadata")]
    response: Option<Response>,
}

#[derive(Deserialize)]
struct Response {
    #[serde(rename = "HTML-Metadata")]
    html: Option<Html>,
}

#[derive(Deserialize)]
struct Html {
    #[serde(rename = "Head", default)]
    head: Option<Head>,
    #[serde(rename = "Links", default, deserialize_with = "links")]
    links: Vec<Link>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    #[serde(rename = "Base", deserialize_with = "text")]
    base: Option<String>,
    #[serde(rename = "Link", deserialize_with = "links")]
    links: Vec<Link>,
}

/// A text, or nothing where the value is of another kind: one odd value must not cost the record.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Text;
    impl<'de> Visitor<'de> for Text {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }
        fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
            Ok(Some(value.to_owned()))
        }
        fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
            Ok(Some(value))
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
fn links<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Link>, D::Error> {
    Option::<Vec<Link>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(links: &str) -> Result<Option<Page>, String> {
        parse(&format!(
            r#"{{"Container":{{}},"Envelope":{{"WARC-Header-Metadata":{{"WARC-Target-URI":"http://a.com/"}},
            "Payload-Metadata":{{"HTTP-Response-Metadata":{{"HTML-Metadata":{{"Head":{{"Base":"/b/"}},"Links":{links}}}}}}}}}}}"#
        ))
    }

    #[test]
    fn links_keep_their_order_and_odd_values_cost_nothing_else() {
        let links = r##"[{"path":"IMG@/src","url":"i.jpg","alt":"a cat"},{"path":"STYLE/#text","href":"x.css"},
            {"path":"IMG@/src","url":"j.jpg","alt":null},{"path":"IMG@/src","url":7,"alt":["a",{"b":1}]}]"##;
        let page = page(links).expect("sound").expect("a page");
        assert_eq!((page.url.as_deref(), page.base.as_deref()), (Some("http://a.com/"), Some("/b/")));
        let alts: Vec<_> = page.links.iter().map(|link| (link.url.as_deref(), link.alt.as_deref())).collect();
        assert_eq!(alts, [(Some("i.jpg"), Some("a cat")), (None, None), (Some("j.jpg"), None), (None, None)]);
    }

    #[test]
    fn a_record_without_page_is_no_flaw_and_one_without_envelope_is() {
        assert_eq!(parse(r#"{"Envelope":{"Payload-Metadata":{"HTTP-Request-Metadata":{}}}}"#), Ok(None));
        assert!(parse(r#"{"Container":{}}"#).is_err());
        assert!(parse("{\"Envelope\":").is_err());
        assert!(page("null").expect("sound").expect("a page").links.is_empty());
    }
}
