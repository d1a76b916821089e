//! `X-Robots-Tag`: what the owner of an image says about its use.

use reqwest::header::HeaderMap;

/// Directives that refuse the use in a dataset, as img2dataset honours them.
const REFUSALS: [&str; 4] = ["noai", "noimageai", "noindex", "noimageindex"];

/// Directives that carry a value after a colon, which therefore name no crawler.
const WITH_VALUE: [&str; 4] = ["unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"];

/// The directive that refuses, if one does. `noai, noindex` speaks to all; `token: noai` to the crawler of that name.
pub(super) fn refusal(headers: &HeaderMap, token: &str) -> Option<&'static str> {
    headers.get_all("x-robots-tag").iter().find_map(|value| {
        let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        // A crawler's name holds for the directives after it, until the next name.
        let mut addressed = true;
        for part in value.split(',') {
            let mut directive = part.trim();
            if let Some((name, rest)) = directive.split_once(':')
                && !WITH_VALUE.contains(&name.trim())
            {
                addressed = name.trim().eq_ignore_ascii_case(token);
                directive = rest.trim();
            }
            let found = REFUSALS.into_iter().find(|refusal| addressed && (directive == *refusal));
            if found.is_some() || (addressed && directive == "none") {
                return found.or(Some("none"));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_for_whom_it_names() {
        let cases = [
            ("noai", Some("noai")),
            ("all", None),
            ("NoIndex, nofollow", Some("noindex")),
            ("max-snippet: 5, noimageai", Some("noimageai")),
            ("otherbot: noai", None),
            ("otherbot: noai, noindex", None),
            ("laion400m: noai", Some("noai")),
            ("otherbot: noindex, laion400m: noimageindex", Some("noimageindex")),
            ("none", Some("none")),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("x-robots-tag", value.parse().expect("a header"));
            assert_eq!(refusal(&headers, "laion400m"), expected, "{value}");
        }
    }
}
