//! Creative Commons licences that a page links to.

use super::wat::{Link, Page};
use crate::address;

/// A licence and where the page says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct License {
    /// As LAION-400M writes it: the address of the licence.
    pub(super) url: String,
    /// Which link.
    pub(super) evidence: String,
}

/// The licence of a page: a link that says `rel=license` before any other, else the first in document order. It
/// holds for every image of the page, before and after the link; in 2021 only those after it got it.
pub(super) fn of_page(page: &Page<'_>) -> Option<License> {
    let found = |link: &Link<'_>, place: &str| {
        let written = link.url.as_deref()?;
        Some(License { url: address(written)?, evidence: format!("{place} {written}") })
    };
    let says_so = |link: &&Link<'_>| {
        link.rel.as_ref().is_some_and(|rel| rel.to_ascii_lowercase().split(' ').any(|word| word == "license"))
    };
    let head = page.head_links.iter().filter(says_so).find_map(|link| found(link, "LINK@/href"));
    let body = |link: &Link<'_>| found(link, link.path.as_deref().unwrap_or("?"));
    head.or_else(|| page.links.iter().filter(says_so).find_map(body)).or_else(|| page.links.iter().find_map(body))
}

/// The absolute address of a Creative Commons licence or public-domain dedication, if the link leads to one.
fn address(link: &str) -> Option<String> {
    // Most links are not: parsing is for the few that may be.
    if !link.contains("creativecommons.org") {
        return None;
    }
    let absolute = if link.starts_with("//") { format!("https:{link}") } else { link.to_owned() };
    let url = address::parse(&absolute).ok()?;
    let host = url.host_str().unwrap_or_default();
    let found = matches!(host, "creativecommons.org" | "www.creativecommons.org")
        && (url.path().starts_with("/licenses/") || url.path().starts_with("/publicdomain/"));
    found.then_some(absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link<'a>(url: &'a str, rel: Option<&'a str>) -> Link<'a> {
        Link { path: Some("A@/href".into()), url: Some(url.into()), rel: rel.map(Into::into), ..Link::default() }
    }

    #[test]
    fn a_link_that_says_license_wins_wherever_it_stands() {
        let by = "https://creativecommons.org/licenses/by/4.0/";
        let zero = "//creativecommons.org/publicdomain/zero/1.0/";
        let page = Page { links: vec![link(zero, None), link(by, Some("nofollow License"))], ..Page::default() };
        let license = of_page(&page).expect("a licence");
        assert_eq!((license.url.as_str(), license.evidence.as_str()), (by, format!("A@/href {by}").as_str()));
        let page = Page { head_links: vec![link(zero, Some("license"))], ..page };
        let zero = "https://creativecommons.org/publicdomain/zero/1.0/";
        assert_eq!(of_page(&page).map(|license| license.url).as_deref(), Some(zero));
    }

    #[test]
    fn only_an_address_of_creative_commons_counts() {
        for url in [
            "https://evil.com/?creativecommons.org/licenses/by/",
            "https://creativecommons.org/about/",
            "creativecommons.org",
        ] {
            assert_eq!(of_page(&Page { links: vec![link(url, None)], ..Page::default() }), None, "{url}");
        }
    }
}
