//! The counts as a page that needs nothing else: no script, and nothing is fetched. Names of hosts and licences come from
//! the web and are escaped.

use std::fmt::Write;

use dataset::Nsfw;

use super::{Bin, Name, Similarity, Size, Stats, TOP};

const STYLE: &str = include_str!("page.css");
/// What LAION-400M dropped pairs below.
const THRESHOLD: f64 = 0.3;

/// The page about the package of this name.
pub fn page(name: &str, stats: &Stats) -> String {
    let name = escaped(name);
    let share = |part: u64| share(part, stats.examples);
    let licensed: u64 =
        stats.licenses.iter().filter(|license| is_known(&license.name)).map(|license| license.count).sum();
    let mean = stats.similarity.mean.map_or("unknown".into(), |mean| format!("{mean:.3}"));
    let files = if stats.shards == 1 { "1 file".into() } else { format!("{} files", grouped(stats.shards as u64)) };
    let tiles = [
        ("Examples", grouped(stats.examples)),
        ("Mean similarity", mean),
        ("Tagged UNLIKELY", share(stats.nsfw.get(Nsfw::Unlikely.name()).copied().unwrap_or(0))),
        ("With a known licence", share(licensed)),
    ];
    let tiles: String =
        tiles.iter().map(|(title, value)| format!("<div><dt>{title}</dt><dd>{value}</dd></div>")).collect();
    let sections = [
        similarity(&stats.similarity, stats.examples),
        tags(stats),
        sizes(&stats.sizes, stats.examples),
        names(
            "Licences",
            "licence",
            "As the pages said; <q>?</q> where nothing was found.",
            &stats.licenses,
            stats.examples,
        ),
        names("Hosts", "host", "Of the picture URLs.", &stats.hosts, stats.examples),
    ]
    .concat();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{name}: what it holds</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{name}</h1>\n\
         <p class=\"quiet\">What the package holds: every example of {files} was read and counted.</p>\n</header>\n\
         <dl>{tiles}</dl>\n<main>\n{sections}</main>\n\
         <footer>Made by <code>laion400m stats --html</code>, version {}.</footer>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn is_known(license: &str) -> bool {
    !matches!(license, "" | "?")
}

fn tags(stats: &Stats) -> String {
    let rows = Nsfw::ALL.into_iter().map(|tag| {
        let class = match tag {
            Nsfw::Unlikely => "good",
            Nsfw::Unsure => "doubt",
            Nsfw::Nsfw => "bad",
            Nsfw::Untagged => "none",
        };
        (tag.name().to_owned(), stats.nsfw.get(tag.name()).copied().unwrap_or(0), class)
    });
    let about = "What CLIP makes of the picture. It errs in both directions: UNLIKELY does not mean safe.";
    section("nsfw", "", "NSFW tag", about, &table("tag", rows, stats.examples))
}

fn sizes(sizes: &[Size], examples: u64) -> String {
    let rows = sizes.iter().flat_map(|Size { side, either, both }| {
        [(format!("one side ≥ {side}"), *either, "pale"), (format!("both sides ≥ {side}"), *both, "bar")]
    });
    section("sizes", "", "Original size", "In pixels, before the picture was resized.", &table("size", rows, examples))
}

fn names(title: &str, what: &str, about: &str, names: &[Name], examples: u64) -> String {
    let told: u64 = names.iter().map(|name| name.count).sum();
    let about = if names.len() == TOP && told < examples {
        format!("{about} The {TOP} most frequent, which are {} of all.", share(told, examples))
    } else {
        about.to_owned()
    };
    let rows = names.iter().map(|Name { name, count }| {
        let shown = if name.is_empty() { "(empty)".into() } else { escaped(name) };
        (format!("<bdi>{shown}</bdi>"), *count, if is_known(name) { "bar" } else { "none" })
    });
    section(&format!("{what}s"), "wide", title, &about, &table(what, rows, examples))
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
            "<tr><th scope=\"row\">{name}</th><td>{}</td><td>{}</td><td class=\"track\" aria-hidden=\"true\">\
             <svg viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\"><rect class=\"{class}\" width=\"{width:.2}\" \
             height=\"1\"/></svg></td></tr>",
            grouped(count),
            share(count, examples)
        );
    }
    out + "</tbody>\n</table>\n"
}

fn similarity(similarity: &Similarity, examples: u64) -> String {
    let range = match (similarity.least, similarity.mean, similarity.most) {
        (Some(least), Some(mean), Some(most)) => format!("From {least:.3} to {most:.3}, {mean:.3} on average"),
        _ => "Not known of any example".into(),
    };
    let unknown = match similarity.unknown {
        0 => String::new(),
        count => format!("; {} examples have none", grouped(count)),
    };
    let about = format!("Cosine of picture and caption, by CLIP. {range}{unknown}.");
    let bins = &similarity.histogram;
    let content = if bins.is_empty() {
        String::new()
    } else {
        histogram(bins, similarity.mean, &range) + &bins_table(bins, examples)
    };
    section("similarity", "wide", "Similarity", &about, &content)
}

fn bins_table(bins: &[Bin], examples: u64) -> String {
    let rows = bins.iter().map(|bin| (format!("{:.2} to {:.2}", bin.from, end(bin)), bin.count, "bar"));
    format!("<details>\n<summary>The same in numbers</summary>\n{}</details>\n", table("similarity", rows, examples))
}

fn end(bin: &Bin) -> f64 {
    bin.from + 1.0 / super::BINS
}

/// Where the bars of the histogram stand, in units of its picture.
const LEFT: f64 = 96.0;
const TOP_EDGE: f64 = 28.0;
const WIDTH: f64 = 1008.0;
const HEIGHT: f64 = 220.0;

fn histogram(bins: &[Bin], mean: Option<f64>, summary: &str) -> String {
    let step = WIDTH / bins.len() as f64;
    let most = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    let tick = round_step(most as f64 / 4.0);
    let scale = (most as f64 / tick).ceil() * tick;
    let (bottom, right) = (TOP_EDGE + HEIGHT, LEFT + WIDTH);
    let up = |count: f64| bottom - HEIGHT * count / scale;
    let along = |value: f64| LEFT + WIDTH * (value - bins[0].from) * super::BINS / bins.len() as f64;
    let mut out = format!(
        "<div class=\"scroll\">\n<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Histogram of the similarity. {summary}.\">\n",
        right + 16.0,
        bottom + 28.0
    );
    for line in 0..=(scale / tick).round() as u32 {
        let count = f64::from(line) * tick;
        let (y, class) = (up(count), if line == 0 { "axis" } else { "grid" });
        let _ = writeln!(
            out,
            "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            grouped(count as u64)
        );
    }
    let labelled = bins.len().div_ceil(16);
    for (place, bin) in bins.iter().enumerate() {
        let x = LEFT + step * place as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{:.2}\"><title>{:.2} to {:.2}: {}</title></rect>",
            x + step * 0.05,
            up(bin.count as f64),
            step * 0.9,
            bottom - up(bin.count as f64),
            bin.from,
            end(bin),
            grouped(bin.count)
        );
        if place.is_multiple_of(labelled) {
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.2}</text>",
                bottom + 18.0,
                bin.from
            );
        }
    }
    // The lower one hangs its words to the left, so that both can be read where they are close.
    let mean = mean.map(|mean| (mean, format!("mean {mean:.3}")));
    let marks = [Some((THRESHOLD, "threshold of LAION-400M".to_owned())), mean];
    for (value, words) in marks.into_iter().flatten() {
        let x = along(value);
        if !(LEFT..=right).contains(&x) {
            continue;
        }
        let (anchor, shift) = if value == THRESHOLD && x > LEFT + 180.0 { ("end", -6.0) } else { ("start", 6.0) };
        let y = if value == THRESHOLD { TOP_EDGE - 14.0 } else { TOP_EDGE };
        let _ = writeln!(
            out,
            "<line class=\"mark\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom}\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>",
            y - 10.0,
            x + shift
        );
    }
    out + "</svg>\n</div>\n"
}

/// The next of 1, 2, 5, 10, 20, 50 …
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|&step| step >= least).unwrap_or(power)
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
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => out.push('�'),
            letter if letter.is_control() => out.push('�'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        let bin = |from, count| Bin { from, count };
        Stats {
            examples: 12_345,
            shards: 2,
            nsfw: [("UNLIKELY", 12_000), ("UNSURE", 300), ("NSFW", 45)].into(),
            similarity: Similarity {
                least: Some(0.281),
                mean: Some(0.3305),
                most: Some(0.379),
                unknown: 45,
                histogram: vec![bin(0.28, 100), bin(0.3, 6_000), bin(0.32, 5_000), bin(0.34, 0), bin(0.36, 1_200)],
            },
            sizes: vec![Size { side: 256, either: 12_000, both: 9_000 }],
            licenses: vec![
                Name { name: "?".into(), count: 12_045 },
                Name { name: "<script>alert(1)</script>".into(), count: 200 },
                Name { name: String::new(), count: 100 },
            ],
            hosts: vec![Name { name: "a\u{202e}\"onload='x'&.example".into(), count: 12_345 }],
        }
    }

    #[test]
    fn every_count_stands_on_the_page_and_nothing_of_the_web_is_markup() {
        let page = page("images/1.0.0", &stats());
        for part in [
            "<h1>images/1.0.0</h1>",
            "of 2 files",
            "<dd>12,345</dd>",
            "<dd>97.2 %</dd>", // UNLIKELY
            "<dd>1.6 %</dd>",  // 200 known licences
            "<th scope=\"row\">UNSURE</th><td>300</td><td>2.4 %</td>",
            "From 0.281 to 0.379, 0.331 on average; 45 examples have none.",
            "<title>0.30 to 0.32: 6,000</title>",
            "threshold of LAION-400M",
            "both sides ≥ 256</th><td>9,000</td>",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "(empty)",
            "a�&quot;onload=&#39;x&#39;&amp;.example",
        ] {
            assert!(page.contains(part), "{part:?} is missing");
        }
        for part in ["<script", "\u{202e}", "onload='", "href=", "src=", "url(", "@import"] {
            assert!(!page.contains(part), "{part:?} is there");
        }
    }

    #[test]
    fn a_package_without_examples_has_a_page_too() {
        let page = page("images/1.0.0", &Stats::default());
        assert!(page.contains("Not known of any example"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn the_bars_are_as_high_as_their_counts_and_stay_in_the_picture() {
        let bins: Vec<_> = (-50..50).map(|i| Bin { from: f64::from(i) / 50.0, count: (i + 50) as u64 * 7 }).collect();
        let chart = histogram(&bins, Some(0.0), "");
        let heights: Vec<f64> = chart
            .split("<rect ")
            .skip(1)
            .map(|bar| bar.split("height=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a height"))
            .map(|height| height.parse().expect("a number"))
            .collect();
        assert_eq!(heights.len(), 100);
        assert!(heights.is_sorted() && heights[0] == 0.0 && heights[99] > 0.8 * HEIGHT && heights[99] <= HEIGHT);
        assert!(chart.matches("text-anchor=\"middle\"").count() <= 16, "labels that have room");
    }
}
