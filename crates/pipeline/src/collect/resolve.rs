//! Relative links to absolute URLs, as browsers do it and as cc2dataset's Python does it.

use dataset::Reason;
use url::Url;

use crate::address;

/// The URL a browser would ask for: RFC 3986 against `<base>` and the page, non-ASCII and spaces escaped.
pub(super) fn browser(page: &Url, base: Option<&str>, link: &str) -> Result<Url, Reason> {
    let base = base.and_then(|base| address::join(page, base).ok());
    let base = base.as_ref().filter(|base| !base.cannot_be_a_base()).unwrap_or(page);
    let url = address::join(base, link).map_err(|_| Reason::UrlInvalid)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Reason::UrlScheme);
    }
    if url.host_str().is_none_or(str::is_empty) { Err(Reason::UrlInvalid) } else { Ok(url) }
}

/// What Python's `urllib.parse.urljoin` gives (CPython 3.11), which decides the identity of cc2dataset's rows: nothing
/// is escaped, no host is checked, and many dots stay.
pub(super) fn python(base: &str, url: &str) -> String {
    plain(base, url).unwrap_or_else(|| urljoin(base, url))
}

/// The same where nothing has to be thought about: all in plain letters, no dots or empty segments to take out.
fn plain(base: &str, url: &str) -> Option<String> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'%' | b'~');
    if url.is_empty() || url.starts_with('.') || !url.bytes().all(letters) || url.contains("/.") {
        return None;
    }
    let (scheme, rest) = base.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if host.is_empty() || !host.bytes().all(letters) {
        return None;
    }
    let parts = match url.as_bytes() {
        [b'/', b'/', b'/', ..] | [b'/', b'/'] => return None,
        [b'/', b'/', ..] => [scheme, ":", url, "", ""],
        [b'/', ..] => [scheme, "://", host, url, ""],
        _ => {
            let folder = &path[..path.rfind('/')? + 1];
            if !path.bytes().all(letters) || path.contains("/.") || path.contains("//") || url.contains("//") {
                return None;
            }
            [scheme, "://", host, folder, url]
        }
    };
    Some(parts.concat())
}

fn urljoin(base: &str, url: &str) -> String {
    if base.is_empty() || url.is_empty() {
        return if base.is_empty() { url } else { base }.to_owned();
    }
    let Some(base_parts) = Parts::split(base, "") else { return url.to_owned() };
    let Some(parts) = Parts::split(url, base_parts.scheme.as_str()) else { return url.to_owned() };
    if parts.scheme != base_parts.scheme || !RELATIVE.contains(&parts.scheme.as_str()) {
        return url.to_owned();
    }
    if !parts.host.is_empty() {
        return parts.unsplit();
    }
    let joined = Parts { host: base_parts.host.clone(), ..parts };
    if joined.path.is_empty() && joined.parameters.is_empty() {
        let query = if joined.query.is_empty() { base_parts.query } else { joined.query };
        return Parts { path: base_parts.path, parameters: base_parts.parameters, query, ..joined }.unsplit();
    }
    let mut segments: Vec<&str> = joined.path.split('/').collect();
    if !joined.path.starts_with('/') {
        let mut before: Vec<&str> = base_parts.path.split('/').collect();
        if before.last().is_some_and(|last| !last.is_empty()) {
            before.pop();
        }
        segments.splice(0..0, before);
        // Empty segments go, but for the first and the last, which are the slashes at the ends.
        let (mut position, last) = (0, segments.len() - 1);
        segments.retain(|segment| {
            position += 1;
            position == 1 || position > last || !segment.is_empty()
        });
    }
    let mut resolved: Vec<&str> = Vec::new();
    for &segment in &segments {
        match segment {
            ".." => drop(resolved.pop()),
            "." => {}
            segment => resolved.push(segment),
        }
    }
    if segments.last().is_some_and(|&last| last == "." || last == "..") {
        resolved.push("");
    }
    let path = resolved.join("/");
    Parts { path: if path.is_empty() { "/".into() } else { path }, ..joined }.unsplit()
}

/// Schemes Python joins relative links to (`uses_relative`); all but the empty one also have hosts.
const RELATIVE: [&str; 17] = [
    "", "ftp", "http", "gopher", "nntp", "imap", "wais", "file", "https", "shttp", "mms", "prospero", "rtsp", "rtspu",
    "sftp", "svn", "svn+ssh",
];
/// Schemes whose last path segment may end in `;parameters` (`uses_params`).
const PARAMETERS: [&str; 11] = ["", "ftp", "hdl", "prospero", "http", "imap", "https", "shttp", "rtsp", "rtspu", "sip"];

/// A URL in Python's six parts.
#[derive(Clone)]
struct Parts {
    scheme: String,
    host: String,
    path: String,
    parameters: String,
    query: String,
    fragment: String,
}

impl Parts {
    /// `None` where Python raises `ValueError`.
    fn split(url: &str, scheme: &str) -> Option<Self> {
        let url = url.trim_start_matches(|letter: char| letter <= ' ').replace(['\t', '\r', '\n'], "");
        let mut rest = url.as_str();
        let mut scheme = scheme.to_owned();
        if let Some((name, after)) = rest.split_once(':') {
            let first = name.chars().next();
            let letters = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
            if first.is_some_and(|letter| letter.is_ascii_alphabetic()) && name.chars().all(letters) {
                (scheme, rest) = (name.to_ascii_lowercase(), after);
            }
        }
        let mut host = "";
        if let Some(after) = rest.strip_prefix("//") {
            let end = after.find(['/', '?', '#']).unwrap_or(after.len());
            (host, rest) = after.split_at(end);
        }
        if host.contains('[') != host.contains(']') {
            return None;
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (path, parameters) =
            if PARAMETERS.contains(&scheme.as_str()) { split_parameters(path) } else { (path, "") };
        Some(Self {
            scheme,
            host: host.into(),
            path: path.into(),
            parameters: parameters.into(),
            query: query.into(),
            fragment: fragment.into(),
        })
    }

    fn unsplit(self) -> String {
        let mut url = self.path;
        if !self.parameters.is_empty() {
            url = format!("{url};{}", self.parameters);
        }
        // Every scheme that is joined has hosts, so two slashes at the start of a path are kept apart from a host.
        let known = !self.scheme.is_empty() && RELATIVE.contains(&self.scheme.as_str());
        if !self.host.is_empty() || (known && !url.starts_with("//")) {
            if !url.is_empty() && !url.starts_with('/') {
                url.insert(0, '/');
            }
            url = format!("//{}{url}", self.host);
        }
        if !self.scheme.is_empty() {
            url = format!("{}:{url}", self.scheme);
        }
        for (sign, part) in [('?', self.query), ('#', self.fragment)] {
            if !part.is_empty() {
                url.push(sign);
                url.push_str(&part);
            }
        }
        url
    }
}

fn split_parameters(path: &str) -> (&str, &str) {
    let last = path.rfind('/').map_or(0, |slash| slash);
    path[last..].find(';').map_or((path, ""), |at| (&path[..last + at], &path[last + at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn python_joins_as_urljoin_does() {
        // Each line was printed by CPython 3.11.7: urllib.parse.urljoin(base, url).
        let cases = [
            ("http://a.com/x/y.html", "i.jpg", "http://a.com/x/i.jpg"),
            ("http://a.com", "i.jpg", "http://a.com/i.jpg"),
            ("http://a.com/x/", "../../../i.jpg", "http://a.com/i.jpg"),
            ("http://a.com/x/y", "./a/./b/../i.jpg", "http://a.com/x/a/i.jpg"),
            ("http://a.com/x", "//b.com/i.jpg", "http://b.com/i.jpg"),
            ("https://a.com/x", "/ü i.jpg?q=1#f", "https://a.com/ü i.jpg?q=1#f"),
            ("http://a.com/x?q", "?r=2", "http://a.com/x?r=2"),
            ("http://a.com/x?q", "#f", "http://a.com/x?q#f"),
            ("http://a.com/x?q", "", "http://a.com/x?q"),
            ("http://a.com/x", "data:image/png;base64,AA", "data:image/png;base64,AA"),
            ("http://a.com/x", " HTTP://B.com/i.jpg", "http://B.com/i.jpg"),
            ("http://a.com/x", "a//b/i.jpg", "http://a.com/a/b/i.jpg"),
            ("http://a.com/x;p", "i.jpg;q", "http://a.com/i.jpg;q"),
            ("http://a.com/b/c", ".", "http://a.com/b/"),
            ("http://a.com/b/c", "x:y", "x:y"),
            ("http://a.com/b/c", "i\tm\n.jpg", "http://a.com/b/im.jpg"),
            ("", "i.jpg", "i.jpg"),
            ("http://a.com/x", "http:i.jpg", "http://a.com/i.jpg"),
            ("http://a.com/x", "http:///i.jpg", "http://a.com/i.jpg"),
            ("http://a.com/x", "////i.jpg", "http://a.com//i.jpg"),
            ("http://a.com/x", "http://[b.com/i.jpg", "http://[b.com/i.jpg"), // a ValueError, which leaves it as it is
            ("http://a.com/x", "//[b.com/i.jpg", "//[b.com/i.jpg"),
            ("http://[a.com/x", "//b.com/i.jpg", "//b.com/i.jpg"),
            ("http://a.com?x", "/i.jpg", "http://a.com/i.jpg"),
        ];
        for (base, url, expected) in cases {
            assert_eq!(python(base, url), expected, "{base} + {url}");
        }
    }

    #[test]
    fn a_browser_resolves_against_the_base_element() {
        let page = Url::parse("http://a.com/x/page.html").expect("absolute");
        let url = |base, link| browser(&page, base, link).map(String::from);
        assert_eq!(url(Some("/b/"), "i.jpg"), Ok("http://a.com/b/i.jpg".into()));
        assert_eq!(url(None, "//b.com/i j.jpg"), Ok("http://b.com/i%20j.jpg".into()));
        assert_eq!(url(Some("data:,"), "i.jpg"), Ok("http://a.com/x/i.jpg".into()));
        assert_eq!(url(None, "https://müller.de/ü.png"), Ok("https://xn--mller-kva.de/%C3%BC.png".into()));
        assert_eq!(url(None, "data:image/png;base64,AA"), Err(Reason::UrlScheme));
        assert_eq!(url(None, "javascript:void(0)"), Err(Reason::UrlScheme));
        assert_eq!(url(None, "http://"), Err(Reason::UrlInvalid));
    }

    proptest! {
        #[test]
        fn the_short_way_leads_to_the_same_place(
            base in "(https?|HTTP|ftp)://[a-b.:@\\[]{0,3}([/?#](\\PC{0,9}|[a-c/.%;?# -]{0,9}))?|\\PC{0,9}",
            url in "/{0,3}[a-c/.%;?# -]{0,9}",
        ) {
            if let Some(found) = plain(&base, &url) {
                prop_assert_eq!(found, urljoin(&base, &url));
            }
        }

        #[test]
        fn no_link_makes_either_panic(base in "\\PC{0,20}", link in "\\PC{0,30}") {
            let _ = python(&base, &link);
            let page = Url::parse("http://a.com/x/").expect("absolute");
            let _ = browser(&page, Some(&base), &link);
        }
    }
}
