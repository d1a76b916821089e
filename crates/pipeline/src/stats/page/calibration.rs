//! Matched and mismatched pairs, and what a threshold makes of them.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dataset::Nsfw;

use super::chart::{Mark, Series, histogram};
use super::{document, escaped, grouped, in_numbers, section, track};
use crate::stats::samples::{Band, Sample};
use crate::stats::{Calibration, beside, cosine};

/// Characters of a caption that are shown.
const CAPTION_CHARACTERS: usize = 160;

/// The page about embeddings of this name, for people who look for a threshold.
pub fn calibration_page(name: &str, calibration: &Calibration) -> String {
    let Calibration { matched, mismatched, chosen, .. } = calibration;
    let mean = |mean: Option<f64>| mean.map_or("unknown".into(), |mean| format!("{mean:.3}"));
    let bound = cosine(chosen.similarity_min);
    let (kept, passing) = (format!("Matched ≥ {bound}"), format!("Mismatched ≥ {bound}"));
    let tiles = [
        ("Pairs", grouped(calibration.rows - matched.unknown)),
        ("Mean, matched", mean(matched.mean)),
        ("Mean, mismatched", mean(mismatched.mean)),
        (kept.as_str(), percent(chosen.matched_share)),
        (passing.as_str(), percent(chosen.mismatched_share)),
    ];
    let about = "Matched pairs against pairs mismatched on purpose, each picture with the caption of another: what a \
                 threshold of the similarity would keep.";
    let sections = [spread(calibration), advice(calibration), samples(calibration), thresholds(calibration)].concat();
    document(name, "matched and mismatched pairs", about, &tiles, &sections)
}

fn spread(calibration: &Calibration) -> String {
    let Calibration { matched, mismatched, chosen, passing, .. } = calibration;
    let bins = beside([&matched.histogram, &mismatched.histogram]);
    let mut marks =
        vec![Mark { value: chosen.similarity_min, words: format!("threshold {}", cosine(chosen.similarity_min)) }];
    if let Some(few) = passing.first() {
        let (least, share) = (cosine(few.threshold.similarity_min), few.share * 100.0);
        marks
            .push(Mark { value: few.threshold.similarity_min, words: format!("{share} % of mismatched pass {least}") });
    }
    let series = [Series { name: "matched", class: "bar" }, Series { name: "mismatched", class: "other" }];
    let mut about = format!(
        "Cosine of picture and caption. <span class=\"key\"><i class=\"bar\"></i>{} matched pairs</span> \
         <span class=\"key\"><i class=\"other\"></i>{} mismatched on purpose</span>",
        grouped(bins.iter().map(|(_, [matched, _])| matched).sum()),
        grouped(bins.iter().map(|(_, [_, mismatched])| mismatched).sum()),
    );
    for (count, what) in [(matched.unknown, "lack an embedding"), (mismatched.unknown, "found no other caption")] {
        if count > 0 {
            let _ = write!(about, " {} {what}.", grouped(count));
        }
    }
    let summary = "Histogram of the similarities of matched and mismatched pairs.";
    let rows = bins.iter().map(|(bin, [matched, mismatched])| {
        [format!("{:.2} to {:.2}", bin.from, bin.end()), grouped(*matched), grouped(*mismatched)]
    });
    let mut table = "<table>\n<thead><tr><th scope=\"col\">similarity</th><th scope=\"col\">matched</th>\
                     <th scope=\"col\">mismatched</th></tr></thead>\n<tbody>\n"
        .to_owned();
    for [bin, matched, mismatched] in rows {
        let _ = writeln!(table, "<tr><th scope=\"row\">{bin}</th><td>{matched}</td><td>{mismatched}</td></tr>");
    }
    table += "</tbody>\n</table>\n";
    let content = histogram(&bins, series, &marks, summary) + &in_numbers(&table);
    section("similarity", "wide", "Similarity", &about, &content)
}

fn thresholds(calibration: &Calibration) -> String {
    let mut table = "<table>\n<thead><tr><th scope=\"col\">threshold</th><th scope=\"col\">matched pairs kept</th>\
                     <th></th><th scope=\"col\">mismatched ones that pass</th><th></th></tr></thead>\n<tbody>\n"
        .to_owned();
    for row in calibration.told() {
        let class = if *row == calibration.chosen { "chosen" } else { "" };
        let _ = writeln!(
            table,
            "<tr class=\"{class}\"><th scope=\"row\">{}</th><td>{}</td>{}<td>{}</td>{}</tr>",
            cosine(row.similarity_min),
            percent(row.matched_share),
            track(100.0 * row.matched_share, "bar"),
            percent(row.mismatched_share),
            track(100.0 * row.mismatched_share, "other")
        );
    }
    table += "</tbody>\n</table>\n";
    section("thresholds", "wide", "Thresholds", "What each would keep, of all pairs of its kind.", &table)
}

fn advice(calibration: &Calibration) -> String {
    let mut content = String::new();
    for paragraph in calibration.advice() {
        let _ = writeln!(content, "<p>{}</p>", escaped(&paragraph));
    }
    section("advice", "wide words", "How to choose", "By the numbers, and then by eye.", &content)
}

fn samples(calibration: &Calibration) -> String {
    let shown = || calibration.bands.iter().flat_map(|band| &band.samples);
    if shown().next().is_none() && calibration.bands.iter().all(|band| band.hidden == 0) {
        return String::new();
    }
    let mut about = format!(
        "Pairs on both sides of {}, by chance; the same ones each time.",
        cosine(calibration.chosen.similarity_min)
    );
    about += match (calibration.tagged, shown().any(|sample| sample.picture.is_some())) {
        (true, _) if calibration.show_nsfw => " Pairs tagged UNSURE or NSFW are among them.",
        (true, _) => " Pairs tagged UNSURE or NSFW are left out; UNLIKELY does not mean safe.",
        (false, true) => " Nobody has tagged them: pictures may show anything.",
        (false, false) => "",
    };
    let content: String = calibration.bands.iter().map(band).collect();
    section("samples", "wide", "Pairs around the threshold", &about, &content)
}

fn band(band: &Band) -> String {
    let class = if band.kept { "kept" } else { "dropped" };
    let mut about = match band.pairs {
        0 => format!("{class}; no pairs"),
        pairs => format!("{class}; {} of {}", band.samples.len(), grouped(pairs)),
    };
    if band.hidden > 0 {
        let _ = write!(about, ", {} left out", grouped(band.hidden));
    }
    if !band.samples.is_empty() && band.samples.iter().all(|sample| sample.picture.is_none()) {
        about += "; their pictures are not at hand";
    }
    let cards: String = band.samples.iter().map(card).collect();
    let cards = if cards.is_empty() { cards } else { format!("<ul class=\"cards\">\n{cards}</ul>\n") };
    let (from, end) = (cosine(band.from), cosine(band.end));
    format!("<h3 class=\"{class}\">{from} to {end} <span>{about}</span></h3>\n{cards}")
}

/// The picture is its own best description, and the caption stands below it: no other text for it.
fn card(sample: &Sample) -> String {
    let picture = match &sample.picture {
        None => "<span class=\"nothing\">no picture</span>".to_owned(),
        Some(picture) => format!(
            "<img alt=\"\" width=\"{}\" height=\"{}\" src=\"data:image/jpeg;base64,{}\">",
            picture.width,
            picture.height,
            STANDARD.encode(&picture.jpeg)
        ),
    };
    let mut caption: String = sample.caption.chars().take(CAPTION_CHARACTERS).collect();
    if caption.len() < sample.caption.len() {
        caption.push('…');
    }
    let tag = sample.nsfw.map(Nsfw::name).map(|tag| format!(" · {tag}")).unwrap_or_default();
    format!(
        "<li><div>{picture}</div><p><bdi>{}</bdi></p><p class=\"quiet\">{:.3}{tag}</p></li>\n",
        escaped(&caption),
        sample.similarity
    )
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
