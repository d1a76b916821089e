//! The head of a record.

use std::borrow::Cow;
use std::ops::Range;

/// Longest head of a record.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Where the parts of a record lie.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// `WARC-Type`.
    pub(super) kind: Range<usize>,
    /// `WARC-Target-URI`.
    pub(super) target: Range<usize>,
    /// `WARC-Date`.
    pub(super) date: Range<usize>,
    pub(super) body: Range<usize>,
}

/// What lies at the front of some bytes.
#[derive(Debug)]
pub(super) enum Front {
    /// Nothing but ends of lines.
    Nothing,
    /// A record whose body may reach beyond the bytes.
    Record(Parts),
    /// The start of a head.
    Begun,
    /// No record.
    Wrong(&'static str),
}

/// Looks at the bytes from `start` on.
pub(super) fn look(bytes: &[u8], start: usize) -> Front {
    let Some(skipped) = bytes[start..].iter().position(|byte| !byte.is_ascii_whitespace()) else {
        return Front::Nothing;
    };
    let start = start + skipped;
    const VERSION: &[u8] = b"WARC/1.";
    let begun = &bytes[start..];
    if !begun.starts_with(VERSION) {
        return if VERSION.starts_with(begun) { Front::Begun } else { Front::Wrong("not a WARC record") };
    }
    let (mut parts, mut length, mut at) = (Parts::default(), None, start);
    loop {
        let Some(end) = memchr::memchr(b'\n', &bytes[at..]).map(|end| at + end) else {
            return if bytes.len() - start > HEAD_BYTES_MAX { TOO_LONG } else { Front::Begun };
        };
        if end - start > HEAD_BYTES_MAX {
            return TOO_LONG;
        }
        let line = trim(bytes, at..end);
        at = end + 1;
        if line.is_empty() {
            break;
        }
        let Some(colon) = memchr::memchr(b':', &bytes[line.clone()]).map(|colon| line.start + colon) else { continue };
        let (name, value) = (&bytes[trim(bytes, line.start..colon)], trim(bytes, colon + 1..line.end));
        match name.len() {
            9 if name.eq_ignore_ascii_case(b"warc-type") => parts.kind = value,
            9 if name.eq_ignore_ascii_case(b"warc-date") => parts.date = value,
            15 if name.eq_ignore_ascii_case(b"warc-target-uri") => {
                let brackets = bytes[value.clone()].starts_with(b"<") && bytes[value.clone()].ends_with(b">");
                parts.target = if brackets { value.start + 1..value.end - 1 } else { value };
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                length = std::str::from_utf8(&bytes[value]).ok().and_then(|digits| digits.parse::<usize>().ok());
            }
            _ => {}
        }
    }
    match length.and_then(|length| at.checked_add(length)) {
        Some(end) => {
            parts.body = at..end;
            Front::Record(parts)
        }
        None => Front::Wrong("a WARC record without Content-Length"),
    }
}

const TOO_LONG: Front = Front::Wrong("a WARC record whose head is over 64 KiB");

fn trim(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let text = &bytes[range.clone()];
    let start = range.start + (text.len() - text.trim_ascii_start().len());
    start..start + text.trim_ascii().len()
}

/// A value of a head as text.
pub(super) fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
