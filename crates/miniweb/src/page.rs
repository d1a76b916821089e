//! Pages as HTML.

use std::fmt::Write;

use crate::world::{Element, Page};

/// The page as a server sends it.
pub(crate) fn html(page: &Page) -> String {
    let mut html = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    if let Some(base) = &page.base {
        let _ = writeln!(html, "<base href=\"{}\">", escape(base));
    }
    let _ = writeln!(html, "<title>{}</title>", escape(&page.title));
    if let Some(license) = page.head_license {
        let _ = writeln!(html, "<link rel=\"license\" href=\"{}\">", escape(license));
    }
    html.push_str("</head>\n<body style=\"background-image: url(/back.png)\">\n");
    for element in &page.elements {
        match element {
            Element::Paragraph(text) => {
                let _ = writeln!(html, "<p>{}</p>", escape(text));
            }
            Element::Anchor { href, text, rel } => {
                let rel = rel.map_or(String::new(), |rel| format!(" rel=\"{rel}\""));
                let _ = writeln!(html, "<p><a href=\"{}\"{rel}>{}</a></p>", escape(href), escape(text));
            }
            Element::Image { src, alt, title } => {
                let attribute = |name: &str, value: &Option<String>| {
                    value.as_ref().map_or(String::new(), |value| format!(" {name}=\"{}\"", escape(value)))
                };
                let (alt, title) = (attribute("alt", alt), attribute("title", title));
                let _ = writeln!(html, "<p><img src=\"{}\"{alt}{title}></p>", escape(src));
            }
        }
    }
    html.push_str("<form action=\"/search\"><input name=\"q\"></form>\n</body>\n</html>\n");
    html
}

/// Text as it stands in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
