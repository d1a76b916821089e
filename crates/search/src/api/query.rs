//! What is looked for, and how.

use axum::body::Bytes;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use dataset::Nsfw;
use dataset::indexed::Filter;
use serde_json::Value;

use super::ApiError;
use super::given::Given;
use crate::index::{COUNT_MAX, Modality, Options};
use crate::query::terms;

/// Longest text of a query, in bytes; a caption of 77 tokens is far shorter.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;
/// Results of one answer.
const PAGE_MAX: usize = 200;
/// Parts of one query.
const TERMS_MAX: usize = 16;
/// Weights of the parts of a query, and of scores.
const WEIGHT_MAX: f32 = 100.0;

/// One part of a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Term {
    Text(String),
    /// A sample of the dataset.
    Key(String),
    /// The bytes of a picture.
    Picture(Bytes),
    /// An embedding as somebody sent it, of any length but 0.
    Values(Vec<f32>),
}

/// Everything about a search but what is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) options: Options,
    /// Near-duplicates of a better result are left out.
    pub(crate) fold: bool,
    /// By this much of the similarity of picture and caption a score grows.
    pub(crate) similarity_weight: f32,
    /// By this much of a head's score a score grows.
    pub(crate) aesthetic_weight: f32,
}

impl Wanted {
    /// Takes the options that all searches have.
    pub(crate) fn take(given: &mut Given) -> Result<Self, ApiError> {
        let modality = match given.text("modality")?.as_deref() {
            None | Some("image") => Modality::Image,
            Some("text") => Modality::Text,
            Some(_) => return Err(ApiError::wrong("modality is image or text")),
        };
        let (count, offset) = (given.integer("count")?.unwrap_or(40), given.integer("offset")?.unwrap_or(0));
        if count == 0 || count > PAGE_MAX as u64 || offset > (COUNT_MAX - PAGE_MAX) as u64 {
            return Err(ApiError::wrong("count is 1 to 200, offset at most 9800"));
        }
        let exact = given.flag("exact")?.unwrap_or(false);
        Ok(Self {
            options: Options {
                modality,
                count: count as usize,
                offset: offset as usize,
                exact,
                probes: None,
                filter: filter(given)?,
            },
            fold: given.flag("fold")?.unwrap_or(false),
            similarity_weight: weight(given, "similarity_weight")?.unwrap_or(0.0),
            aesthetic_weight: weight(given, "aesthetic_weight")?.unwrap_or(0.0),
        })
    }
}

/// Takes what a row must be like.
pub(crate) fn filter(given: &mut Given) -> Result<Filter, ApiError> {
    let safe = given.flag("safe")?.unwrap_or(true);
    let tags = given.list("nsfw")?.into_iter().map(|name| {
        let tag = Nsfw::ALL.into_iter().find(|tag| tag.name().eq_ignore_ascii_case(&name));
        tag.ok_or_else(|| ApiError::wrong("nsfw is UNLIKELY, UNSURE, NSFW or UNTAGGED"))
    });
    let tags = tags.collect::<Result<Vec<_>, _>>()?;
    let side = |given: &mut Given, name: &str| {
        let side = given.integer(name)?.map(u32::try_from).transpose();
        side.map_err(|_| ApiError::wrong(format!("{name} is a number of pixels")))
    };
    let languages = given.list("language")?.into_iter().map(|code| code.to_ascii_lowercase()).collect::<Vec<_>>();
    if languages.iter().any(|code| !matches!(code.len(), 2..=3) || !code.bytes().all(|byte| byte.is_ascii_lowercase()))
    {
        return Err(ApiError::wrong("language is a code of ISO 639, such as en"));
    }
    Ok(Filter {
        nsfw: match tags.is_empty() {
            false => Some(tags),
            true => safe.then(|| vec![Nsfw::Unlikely]),
        },
        similarity_min: given.number("similarity_min")?,
        similarity_max: given.number("similarity_max")?,
        width_min: side(given, "width_min")?,
        height_min: side(given, "height_min")?,
        languages,
        licenses: given.list("license")?,
        hosts: given.list("host")?.into_iter().map(|host| host.to_ascii_lowercase()).collect(),
    })
}

fn weight(given: &mut Given, name: &str) -> Result<Option<f32>, ApiError> {
    match given.number(name)? {
        Some(weight) if weight.abs() > WEIGHT_MAX => Err(ApiError::wrong(format!("{name} is -100 to 100"))),
        weight => Ok(weight),
    }
}

/// The parts of a query in an address: `text`, which may be put together out of several, or the `key` of a sample.
pub(crate) fn of_address(given: &mut Given) -> Result<Vec<(Term, f32)>, ApiError> {
    let text = given.text("text")?.filter(|text| !text.trim().is_empty());
    match (text, given.text("key")?) {
        (Some(text), None) if text.len() <= TEXT_BYTES_MAX => {
            let terms = terms(&text).into_iter().map(|(text, weight)| (Term::Text(text), weight)).collect();
            few(terms)
        }
        (Some(_), None) => Err(too_long()),
        (None, Some(key)) => Ok(vec![(sample(&key)?, 1.0)]),
        (Some(_), Some(_)) => Err(ApiError::wrong("either text or key, not both")),
        (None, None) => {
            given.finish()?; // a name that is spelt wrong is the better cause
            Err(ApiError::wrong("neither text nor key"))
        }
    }
}

/// The parts of a query in a body: `[{"text": …}, {"key": …, "weight": -1}, {"image": …}, {"embedding": […]}]`.
pub(crate) fn of_json(given: &mut Given) -> Result<Vec<(Term, f32)>, ApiError> {
    let Some(Value::Array(terms)) = given.value("query") else {
        return Err(ApiError::wrong("query is an array of objects with text, key, image or embedding"));
    };
    let terms = terms.into_iter().take(TERMS_MAX + 1).map(|term| {
        let Value::Object(members) = term else { return Err(ApiError::wrong("a part of query is an object")) };
        let weight = match members.get("weight") {
            None | Some(Value::Null) => 1.0,
            Some(weight) => weight.as_f64().unwrap_or(f64::NAN) as f32,
        };
        if weight.is_nan() || weight.abs() > WEIGHT_MAX {
            return Err(ApiError::wrong("weight is -100 to 100"));
        }
        let mut parts = members.into_iter().filter(|(name, value)| name != "weight" && !value.is_null());
        match (parts.next(), parts.next()) {
            (Some((name, value)), None) => Ok((term_of(&name, value)?, weight)),
            _ => Err(ApiError::wrong("a part of query has one of text, key, image and embedding")),
        }
    });
    few(terms.collect::<Result<_, _>>()?)
}

fn term_of(name: &str, value: Value) -> Result<Term, ApiError> {
    match (name, value) {
        ("text", Value::String(text)) if text.trim().is_empty() => Err(ApiError::wrong("text is empty")),
        ("text", Value::String(text)) if text.len() > TEXT_BYTES_MAX => Err(too_long()),
        ("text", Value::String(text)) => Ok(Term::Text(text)),
        ("key", Value::String(key)) => sample(&key),
        ("image", Value::String(image)) => picture(&image),
        ("embedding", value) => values(value, "embedding"),
        _ => Err(ApiError::wrong("a part of query has text, key or image, which are texts, or embedding")),
    }
}

fn few(terms: Vec<(Term, f32)>) -> Result<Vec<(Term, f32)>, ApiError> {
    match terms.len() {
        0 => Err(ApiError::wrong("query is empty")),
        1..=TERMS_MAX => Ok(terms),
        _ => Err(ApiError::wrong(format!("a query has at most {TERMS_MAX} parts"))),
    }
}

fn too_long() -> ApiError {
    ApiError::wrong(format!("text is longer than {TEXT_BYTES_MAX} bytes"))
}

fn sample(key: &str) -> Result<Term, ApiError> {
    if key.len() > TEXT_BYTES_MAX { Err(ApiError::wrong("key is no key")) } else { Ok(Term::Key(key.into())) }
}

/// A picture in base64, with or without padding, and with a `data:` in front as browsers have it.
pub(crate) fn picture(text: &str) -> Result<Term, ApiError> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text = match text.strip_prefix("data:") {
        Some(rest) => rest.split_once(";base64,").map_or(rest, |(_, content)| content),
        None => text,
    };
    // Python's base64 breaks lines.
    let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let bytes = GeneralPurpose::new(&STANDARD, lenient).decode(text);
    Ok(Term::Picture(bytes.map_err(|error| ApiError::wrong(format!("image is base64: {error}")))?.into()))
}

/// The values of an embedding.
pub(crate) fn values(value: Value, name: &str) -> Result<Term, ApiError> {
    let number = |value: &Value| value.as_f64().map(|value| value as f32).filter(|value| value.is_finite());
    let values = value.as_array().and_then(|values| values.iter().map(number).collect::<Option<Vec<_>>>());
    values.map(Term::Values).ok_or_else(|| ApiError::wrong(format!("{name} is an array of numbers")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_in_every_kind_of_base64() {
        let picture = |text: &str| picture(text).ok();
        let expected = Some(Term::Picture(Bytes::from_static(b"\xFF\xD8picture")));
        for text in ["/9hwaWN0dXJl", "data:image/jpeg;base64,/9hwaWN0dXJl", "/9hw\naWN0\r\ndXJl"] {
            assert_eq!(picture(text), expected, "{text}");
        }
        assert_eq!(picture("YQ"), picture("YQ=="));
        assert_eq!(picture("no base64!"), None);
    }
}
