//! A histogram as SVG.

use std::fmt::Write;

use super::grouped;
use crate::stats::Bin;

/// Bars of one kind. Without a name they are the only ones.
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) class: &'static str,
}

/// A line at a value.
pub(super) struct Mark {
    pub(super) value: f64,
    pub(super) words: String,
}

/// Where the bars stand, in units of the picture.
const LEFT: f64 = 96.0;
const TOP_EDGE: f64 = 28.0;
const WIDTH: f64 = 1008.0;
const HEIGHT: f64 = 220.0;
/// As wide as the words of a mark can be.
const WORDS: f64 = 220.0;

/// Bars side by side in every bin, and at most two marks.
pub(super) fn histogram<const N: usize>(
    bins: &[(Bin, [u64; N])],
    series: [Series; N],
    marks: &[Mark],
    summary: &str,
) -> String {
    let Some((first, last)) = bins.first().zip(bins.last()) else { return String::new() };
    let (start, end) = (first.0.from, last.0.end());
    let step = WIDTH / bins.len() as f64;
    let most = bins.iter().flat_map(|(_, counts)| counts).max().copied().unwrap_or(0).max(1);
    let tick = round_step(most as f64 / 4.0);
    let scale = (most as f64 / tick).ceil() * tick;
    let (bottom, right) = (TOP_EDGE + HEIGHT, LEFT + WIDTH);
    let up = |count: f64| bottom - HEIGHT * count / scale;
    let along = |value: f64| LEFT + WIDTH * (value - start) / (end - start);
    let mut out = format!(
        "<div class=\"scroll\">\n<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{summary}\">\n",
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
    for (place, (bin, counts)) in bins.iter().enumerate() {
        let x = LEFT + step * place as f64;
        let width = step * 0.9 / N as f64;
        for (at, (&count, Series { name, class })) in counts.iter().zip(&series).enumerate() {
            let space = if name.is_empty() { "" } else { " " };
            let _ = writeln!(
                out,
                "<rect class=\"{class}\" x=\"{:.2}\" y=\"{:.2}\" width=\"{width:.2}\" height=\"{:.2}\">\
                 <title>{:.2} to {:.2}: {}{space}{name}</title></rect>",
                x + step * 0.05 + width * at as f64,
                up(count as f64),
                bottom - up(count as f64),
                bin.from,
                bin.end(),
                grouped(count)
            );
        }
        if place.is_multiple_of(labelled) {
            let y = bottom + 18.0;
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{:.2}</text>", bin.from);
        }
    }
    // Each has its line, and the left one hangs its words to the left: no words lie on the other's line.
    let rightmost = marks.iter().map(|mark| mark.value).fold(f64::NEG_INFINITY, f64::max);
    for (Mark { value, words }, y) in marks.iter().zip([TOP_EDGE - 14.0, TOP_EDGE]) {
        let x = along(*value);
        if !(LEFT..=right).contains(&x) {
            continue;
        }
        let hangs_left = (*value < rightmost && x > LEFT + WORDS) || x > right - WORDS;
        let (anchor, shift) = if hangs_left { ("end", -6.0) } else { ("start", 6.0) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::beside;

    #[test]
    fn the_bars_are_as_high_as_their_counts_and_stay_in_the_picture() {
        let bins: Vec<_> = (-50..50).map(|i| Bin { from: f64::from(i) / 50.0, count: (i + 50) as u64 * 7 }).collect();
        let marks = [0.0, 0.5, 0.7].map(|value| Mark { value, words: format!("mark {value}") });
        let chart = histogram(
            &beside([&bins, &[]]),
            [("a", "bar"), ("b", "pale")].map(|(name, class)| Series { name, class }),
            &marks,
            "",
        );
        let heights: Vec<f64> = chart
            .split("<rect ")
            .skip(1)
            .filter(|bar| bar.contains("class=\"bar\""))
            .map(|bar| bar.split(" height=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a height"))
            .map(|height| height.parse().expect("a number"))
            .collect();
        assert_eq!((heights.len(), chart.matches("<rect ").count()), (100, 200));
        assert!(heights.is_sorted() && heights[0] == 0.0 && heights[99] > 0.8 * HEIGHT && heights[99] <= HEIGHT);
        assert!(chart.matches("text-anchor=\"middle\"").count() <= 16, "labels that have room");
        assert!(chart.contains("0.98 to 1.00: 693 a</title>") && chart.contains("0.98 to 1.00: 0 b</title>"));
        assert_eq!(chart.matches("mark 0").count(), 2);
        assert_eq!(histogram(&beside([]), [], &marks, ""), "");
    }
}
