//! The HTML of a WARC record.

use std::borrow::Cow;
use std::io::Read;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use flate2::read::{GzDecoder, ZlibDecoder};

/// Longest page, inflated.
const PAGE_BYTES_MAX: u64 = 32 << 20;
/// Bytes among which a page says how it is encoded. Source: the HTML standard, 13.2.3.2.
const PRESCAN_BYTES: usize = 1024;

/// The page of a `response` record, as text; `None` if it is no HTML. The error says why it cannot be read.
pub(super) fn html(record: &[u8]) -> Result<Option<Cow<'_, str>>, String> {
    let Some(end) = memchr::memmem::find(record, b"\r\n\r\n") else {
        return if record.starts_with(b"HTTP/") { Err("an HTTP answer without a body".into()) } else { Ok(None) };
    };
    let (head, body) = (String::from_utf8_lossy(&record[..end]), &record[end + 4..]);
    let header = |name: &str| {
        let mut lines = head.lines().rev().filter_map(|line| line.split_once(':'));
        lines.find(|(there, _)| there.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let kind = header("content-type").unwrap_or_default().to_ascii_lowercase();
    if !(kind.is_empty() && looks_like_html(body) || kind.contains("html")) {
        return Ok(None);
    }
    let chunked = header("transfer-encoding").is_some_and(|coding| coding.to_ascii_lowercase().contains("chunked"));
    // Crawlers that keep the headers often keep the body without what they say.
    let body = if chunked { unchunked(body).map_or(Cow::Borrowed(body), Cow::Owned) } else { body.into() };
    let body = match header("content-encoding").unwrap_or_default().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" if body.starts_with(&[0x1F, 0x8B]) => inflated(GzDecoder::new(&*body))?.into(),
        "deflate" if body.first() == Some(&0x78) => inflated(ZlibDecoder::new(&*body))?.into(),
        "br" | "zstd" if !looks_like_html(&body) => return Err("a page compressed with brotli or zstd".into()),
        _ => body,
    };
    let declared = kind.split_once("charset=").map(|(_, label)| label.split(';').next().unwrap_or_default());
    let declared = declared.map(|label| label.trim_matches(['"', '\'', ' ']).as_bytes());
    let encoding = declared.and_then(Encoding::for_label).or_else(|| named_in(&body));
    // A page that says nothing: text that is UTF-8 by chance is very unlikely.
    let fallback = if std::str::from_utf8(&body).is_ok() { UTF_8 } else { WINDOWS_1252 };
    let encoding = encoding.unwrap_or(fallback);
    Ok(Some(match body {
        Cow::Borrowed(body) => encoding.decode(body).0,
        Cow::Owned(body) => encoding.decode(&body).0.into_owned().into(),
    }))
}

fn looks_like_html(body: &[u8]) -> bool {
    let start = body.trim_ascii_start();
    let starts = |with: &[u8]| start.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    starts(b"<!doctype html") || starts(b"<html")
}

/// The encoding that a `<meta>` at the start of a page names.
fn named_in(body: &[u8]) -> Option<&'static Encoding> {
    let start = body[..body.len().min(PRESCAN_BYTES)].to_ascii_lowercase();
    let at = memchr::memmem::find(&start, b"charset=")? + "charset=".len();
    let label = start[at..].trim_ascii_start();
    let label = label.strip_prefix(b"\"").or_else(|| label.strip_prefix(b"'")).unwrap_or(label);
    let end = label.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"-_:.".contains(byte)));
    let encoding = Encoding::for_label(&label[..end.unwrap_or(label.len())])?;
    // Whoever could write that in UTF-16 did not.
    Some(if encoding.is_ascii_compatible() { encoding } else { UTF_8 })
}

fn inflated(decoder: impl Read) -> Result<Vec<u8>, String> {
    let mut page = Vec::new();
    match decoder.take(PAGE_BYTES_MAX + 1).read_to_end(&mut page) {
        _ if page.len() as u64 > PAGE_BYTES_MAX => Err(format!("a page of over {PAGE_BYTES_MAX} bytes")),
        // Crawlers cut pages off.
        Err(error) if page.is_empty() => Err(format!("a compressed page: {error}")),
        _ => Ok(page),
    }
}

/// The body without the lengths of its chunks; `None` if it has none.
fn unchunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::with_capacity(body.len());
    loop {
        let end = memchr::memchr(b'\n', body)?;
        let length = std::str::from_utf8(&body[..end]).ok()?.trim().split(';').next()?.trim();
        let length = usize::from_str_radix(length, 16).ok()?;
        body = &body[end + 1..];
        if length == 0 {
            return Some(whole);
        }
        let there = length.min(body.len());
        whole.extend_from_slice(&body[..there]);
        body = body[there..].strip_prefix(b"\r\n").unwrap_or_default();
        if body.is_empty() {
            return Some(whole); // cut off
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use proptest::prelude::*;
    use std::io::Write;

    fn read(head: &str, body: &[u8]) -> Result<Option<String>, String> {
        let record = [format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), body].concat();
        html(&record).map(|page| page.map(Cow::into_owned))
    }

    #[test]
    fn a_page_is_text_whatever_it_came_in() {
        let page = "<html>größe";
        let some = |text: &str| Ok(Some(text.to_owned()));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(page.as_bytes()).expect("memory");
        let gzip = gzip.finish().expect("memory");
        let latin1 = b"<html>gr\xF6\xDFe";
        let html = "Content-Type: text/html";
        assert_eq!(read(html, page.as_bytes()), some(page));
        assert_eq!(read(html, latin1), some(page));
        assert_eq!(read("content-type: text/html; charset=\"ISO-8859-1\"", latin1), some(page));
        assert_eq!(read("Server: x", page.as_bytes()), some(page));
        assert_eq!(read(&format!("{html}\r\nContent-Encoding: gzip"), &gzip), some(page));
        assert_eq!(read(&format!("{html}\r\nContent-Encoding: gzip"), page.as_bytes()), some(page), "already inflated");
        let chunked = format!("{html}\r\nTransfer-Encoding: chunked");
        assert_eq!(read(&chunked, b"3;x=1\r\n<ht\r\n4\r\nml>!\r\n0\r\n\r\n"), some("<html>!"));
        assert_eq!(read(&chunked, page.as_bytes()), some(page), "already in one piece");
        let cyrillic = b"<html><meta charset='windows-1251'>\xEC\xE8\xF0";
        assert_eq!(read(html, cyrillic), some("<html><meta charset='windows-1251'>мир"));
    }

    #[test]
    fn other_things_are_no_pages_and_what_cannot_be_read_is_told() {
        assert_eq!(read("Content-Type: image/png", b"<html>"), Ok(None));
        assert_eq!(read("Server: x", b"\x89PNG"), Ok(None));
        assert_eq!(html(b"dns:example.com"), Ok(None));
        assert!(html(b"HTTP/1.1 200 OK").is_err());
        assert!(read("Content-Type: text/html\r\nContent-Encoding: br", b"\x8b\x02\x80").is_err());
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        (0..33).for_each(|_| bomb.write_all(&vec![b' '; 1 << 20]).expect("memory"));
        let error = read("Content-Type: text/html\r\nContent-Encoding: gzip", &bomb.finish().expect("memory"));
        assert!(error.expect_err("too long").contains("over"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            head in "(content-(type|encoding): ?(text/html|gzip|deflate|br)(; charset=\\PC{0,6})?\r\n|transfer-encoding: chunked\r\n){0,4}",
            body in prop::collection::vec(any::<u8>(), 0..99),
        ) {
            let _ = read(&head, &body);
            let _ = read(&head, &[b"<html>", &body[..]].concat());
            let _ = unchunked(&body);
        }
    }
}
