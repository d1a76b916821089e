//! What was counted as pages that need nothing else: no script, and nothing is fetched. What comes from the web (names,
//! captions) is escaped.

mod calibration;
mod chart;
mod package;

use std::fmt::Write;

pub use calibration::calibration_page;
pub use package::page;

const STYLE: &str = include_str!("page.css");

/// A whole page: what it is about, a line that says what was done, numbers with their titles, and sections. `name` and `about`
/// are text, the rest is HTML.
fn document(name: &str, title: &str, about: &str, tiles: &[(&str, String)], sections: &str) -> String {
    let (name, about) = (escaped(name), escaped(about));
    let tiles: String =
        tiles.iter().map(|(title, value)| format!("<div><dt>{title}</dt><dd>{value}</dd></div>")).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{name}: {title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{name}</h1>\n\
         <p class=\"quiet\">{about}</p>\n</header>\n\
         <dl>{tiles}</dl>\n<main>\n{sections}</main>\n\
         <footer>Made by <code>laion400m stats --html</code>, version {}.</footer>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn section(id: &str, class: &str, title: &str, about: &str, content: &str) -> String {
    format!(
        "<section class=\"{class}\" aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>\n<p class=\"quiet\">{about}</p>\n\
         {content}</section>\n"
    )
}

/// A bar for each row; names are HTML. The numbers say the same to who does not see the bars.
fn table(what: &str, rows: impl Iterator<Item = (String, u64, &'static str)>, examples: u64) -> String {
    let rows: Vec<_> = rows.collect();
    let most = rows.iter().map(|&(_, count, _)| count).max().unwrap_or(0).max(1);
    let mut out = format!(
        "<table>\n<thead><tr><th scope=\"col\">{what}</th><th scope=\"col\">examples</th><th scope=\"col\">share</th>\
         <th></th></tr></thead>\n<tbody>\n"
    );
    for (name, count, class) in rows {
        let width = 100.0 * count as f64 / most as f64;
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{name}</th><td>{}</td><td>{}</td>{}</tr>",
            grouped(count),
            share(count, examples),
            track(width, class)
        );
    }
    out + "</tbody>\n</table>\n"
}

/// A cell with a bar of so many hundredths of its width.
fn track(width: f64, class: &str) -> String {
    format!(
        "<td class=\"track\" aria-hidden=\"true\"><svg viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\">\
         <rect class=\"{class}\" width=\"{width:.2}\" height=\"1\"/></svg></td>"
    )
}

/// The numbers that a picture shows, for who wants them.
fn in_numbers(table: &str) -> String {
    format!("<details>\n<summary>The same in numbers</summary>\n{table}</details>\n")
}

fn share(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Text from the web as HTML: nothing in it is markup, and no invisible sign changes how the rest is shown.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => out.push('�'),
            '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}' => out.push('�'),
            letter if letter.is_control() => out.push('�'),
            letter => out.push(letter),
        }
    }
    out
}
