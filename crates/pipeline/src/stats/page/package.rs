//! What a package holds.

use dataset::Nsfw;

use super::chart::{Mark, Series, histogram};
use super::{document, escaped, grouped, in_numbers, section, share, table};
use crate::filter;
use crate::stats::{Bin, Name, Similarity, Size, Stats, TOP, beside};

/// The page about the package of this name.
pub fn page(name: &str, stats: &Stats) -> String {
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
    let about = format!("What the package holds: every example of {files} was read and counted.");
    document(name, "what it holds", &about, &tiles, &sections)
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
        let threshold = filter::Config::laion400m().similarity_min;
        let mut marks = vec![Mark { value: threshold, words: "threshold of LAION-400M".into() }];
        marks.extend(similarity.mean.map(|mean| Mark { value: mean, words: format!("mean {mean:.3}") }));
        let summary = format!("Histogram of the similarity. {range}.");
        histogram(&beside([bins]), [Series { name: "", class: "bar" }], &marks, &summary) + &bins_table(bins, examples)
    };
    section("similarity", "wide", "Similarity", &about, &content)
}

fn bins_table(bins: &[Bin], examples: u64) -> String {
    let rows = bins.iter().map(|bin| (format!("{:.2} to {:.2}", bin.from, bin.end()), bin.count, "bar"));
    in_numbers(&table("similarity", rows, examples))
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
        for part in ["<script", "\u{202e}", "onload='", "href=", "src=", "url(", "@import", "<img"] {
            assert!(!page.contains(part), "{part:?} is there");
        }
    }

    #[test]
    fn a_package_without_examples_has_a_page_too() {
        let page = page("images/1.0.0", &Stats::default());
        assert!(page.contains("Not known of any example"));
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }
}
