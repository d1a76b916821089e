//! The page: the files under `web/`, as they are.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// The page itself; it stands at `/`.
const PAGE: &str = include_str!("../web/index.html");

/// What it loads: nothing else is asked of anybody.
const FILES: [(&str, &str, &str); 12] = [
    ("/style.css", "text/css; charset=utf-8", include_str!("../web/style.css")),
    script("/app.js", include_str!("../web/app.js")),
    script("/api.js", include_str!("../web/api.js")),
    script("/basket.js", include_str!("../web/basket.js")),
    script("/charts.js", include_str!("../web/charts.js")),
    script("/dataset.js", include_str!("../web/dataset.js")),
    script("/detail.js", include_str!("../web/detail.js")),
    script("/dom.js", include_str!("../web/dom.js")),
    script("/filters.js", include_str!("../web/filters.js")),
    script("/grid.js", include_str!("../web/grid.js")),
    script("/picture.js", include_str!("../web/picture.js")),
    script("/query.js", include_str!("../web/query.js")),
];

const fn script(path: &'static str, content: &'static str) -> (&'static str, &'static str, &'static str) {
    (path, "text/javascript; charset=utf-8", content)
}

/// The page.
pub(crate) fn page() -> Response {
    file("text/html; charset=utf-8", PAGE)
}

/// The routes of what the page loads.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let route = |router: Router<S>, (path, kind, content)| router.route(path, get(async move || file(kind, content)));
    FILES.into_iter().fold(Router::new(), route)
}

/// Another version of the program has other files at the same addresses, so that each is asked for anew.
fn file(kind: &'static str, content: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between the two, everywhere in a text.
    fn between<'a>(text: &'a str, before: &'a str, after: char) -> impl Iterator<Item = &'a str> {
        text.split(before).skip(1).filter_map(move |rest| rest.split_once(after).map(|(found, _)| found))
    }

    #[test]
    fn all_that_is_loaded_is_served_and_all_that_scripts_look_for_is_there() {
        let paths: Vec<_> = FILES.iter().map(|(path, ..)| *path).collect();
        let mut loaded: Vec<_> =
            between(PAGE, "src=\"", '"').chain(between(PAGE, "stylesheet\" href=\"", '"')).collect();
        let ids: Vec<_> = between(PAGE, " id=\"", '"').collect();
        for (path, _, content) in FILES {
            for module in between(content, "from '.", '\'') {
                assert!(paths.contains(&module), "{path} imports {module}");
                loaded.push(module);
            }
            for id in between(content, "byId('", '\'') {
                assert!(ids.contains(&id), "{path} looks for {id}");
            }
        }
        for path in paths {
            assert!(loaded.contains(&path), "nobody loads {path}");
        }
        for id in between(PAGE, "href=\"#", '"')
            .chain(between(PAGE, "labelledby=\"", '"'))
            .chain(between(PAGE, " for=\"", '"'))
        {
            assert!(ids.contains(&id), "the page points to {id}");
        }
    }

    /// Its policy lets no browser run or draw what stands in the page itself, and asks no other server.
    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        for forbidden in ["<style", " style=", " onclick=", " onload=", " onerror=", "javascript:", "//"] {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
        assert_eq!(PAGE.matches("<script").count(), PAGE.matches("<script src=\"/").count());
        for (path, _, content) in FILES {
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "@import",
                "url(",
            ] {
                assert!(!content.contains(forbidden), "{path}: {forbidden}");
            }
        }
    }
}
