//! The dataset card. Nothing in it comes from the web: no caption, no address.

use super::columns::{Column, HubColumns};
use crate::croissant::Origin;
use crate::tfds::{CITATION, HOMEPAGE};
use crate::{Counts, Nsfw};

/// What the card tells.
pub(super) struct Card<'a> {
    pub(super) columns: HubColumns,
    pub(super) origin: Origin,
    /// Rows of the package.
    pub(super) rows: u64,
    /// What Arrow holds them in.
    pub(super) bytes: u64,
    /// What the disk holds them in.
    pub(super) file_bytes: u64,
    /// Rows by tag.
    pub(super) tags: [u64; Nsfw::ALL.len()],
    /// What became of all rows.
    pub(super) counts: &'a Counts,
}

impl Card<'_> {
    pub(super) fn text(&self) -> String {
        format!("---\n{}---\n\n{}", self.yaml(), self.words())
    }

    fn yaml(&self) -> String {
        let mut lines = Vec::new();
        match self.origin {
            Origin::Laion400m => {
                lines.extend(["license: cc-by-4.0", "pretty_name: LAION-400M", "language:", "- en"].map(String::from))
            }
            Origin::Crawl => lines.extend(["license: unknown", "pretty_name: Image-text pairs"].map(String::from)),
        }
        lines.push("task_categories:".into());
        lines.extend(self.tasks().iter().map(|task| format!("- {task}")));
        lines.extend(["size_categories:".into(), format!("- {}", size_category(self.rows))]);
        lines.extend(["tags:", "- image-text", "- clip", "- laion-400m"].map(String::from));
        lines.extend(["configs:", "- config_name: default", "  data_files:"].map(String::from));
        lines.extend(["  - split: train", "    path: data/train-*"].map(String::from));
        lines.extend(["dataset_info:", "  features:"].map(String::from));
        for (name, column, _) in self.columns.list() {
            lines.push(format!("  - name: {name}"));
            lines.extend(dtype(column).into_iter().map(|line| format!("    {line}")));
        }
        lines.extend([
            "  splits:".into(),
            "  - name: train".into(),
            format!("    num_bytes: {}", self.bytes),
            format!("    num_examples: {}", self.rows),
            format!("  download_size: {}", self.file_bytes),
            format!("  dataset_size: {}", self.bytes),
        ]);
        lines.join("\n") + "\n"
    }

    fn tasks(&self) -> &'static [&'static str] {
        if self.columns.images {
            &["image-to-text", "text-to-image", "zero-shot-image-classification"]
        } else {
            &["feature-extraction"]
        }
    }

    fn words(&self) -> String {
        let (title, source, terms) = match self.origin {
            Origin::Laion400m => (
                "LAION-400M",
                "Image-text pairs of LAION-400M: links and alternative texts of web pages, kept where CLIP found \
                 picture and text alike.",
                "LAION publishes the metadata under CC BY 4.0. Pictures and texts belong to their owners.",
            ),
            Origin::Crawl => (
                "Image-text pairs",
                "Image-text pairs of a web crawl: links and alternative texts of pages, kept where CLIP found picture \
                 and text alike, as LAION-400M was made.",
                "Pictures and texts belong to their owners. Set `license` in the head of this card when you publish it.",
            ),
        };
        let mut rows = vec![("packed".to_owned(), self.counts.kept)];
        let ends = self.counts.dropped.iter().chain(&self.counts.failed);
        rows.extend(ends.map(|(name, &count)| (format!("left out: `{name}`"), count)));
        let tags = Nsfw::ALL.into_iter().map(|tag| (format!("`{}`", tag.name()), self.tags[tag.class() as usize]));
        let fields = self.columns.list().into_iter().map(|(name, _, text)| format!("| `{name}` | {text} |"));
        [
            format!("# {title}"),
            source.to_owned(),
            format!("## Rows\n\n{}", table("what became of them", rows)),
            format!("## NSFW tags\n\n{}", table("tag", tags.collect())),
            format!("## Fields\n\n| field | |\n|---|---|\n{}", fields.collect::<Vec<_>>().join("\n")),
            "## Load it\n\n```python\nfrom datasets import load_dataset\n\nrows = load_dataset(\"PATH_OR_NAME\", \
             split=\"train\", streaming=True)\n```"
                .into(),
            format!(
                "## Terms\n\n{terms} The texts are those of the web: unfiltered for meaning, and not to be trusted."
            ),
            format!("## Citation\n\nThe recipe is that of LAION-400M, <{HOMEPAGE}>:\n\n```bibtex\n{CITATION}\n```\n"),
        ]
        .join("\n\n")
    }
}

fn table(title: &str, rows: Vec<(String, u64)>) -> String {
    let rows = rows.into_iter().map(|(name, count)| format!("| {name} | {count} |"));
    format!("| {title} | rows |\n|---|---|\n{}", rows.collect::<Vec<_>>().join("\n"))
}

/// A feature as `datasets` writes it in YAML.
fn dtype(column: Column) -> Vec<String> {
    match column {
        Column::Text => vec!["dtype: string".into()],
        Column::Image => vec!["dtype: image".into()],
        Column::Float64 => vec!["dtype: float64".into()],
        Column::Int32 => vec!["dtype: int32".into()],
        Column::Embedding(length) => vec!["list: float16".into(), format!("length: {length}")],
    }
}

/// The Hub's classes of size.
fn size_category(rows: u64) -> String {
    let names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"];
    let class = (0..names.len()).find(|&class| rows < 1000 * 10u64.pow(class as u32));
    match class {
        Some(0) => "n<1K".into(),
        Some(class) => format!("{}<n<{}", names[class - 1], names[class]),
        None => "n>1T".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::size_category;

    #[test]
    fn sizes_are_the_hubs() {
        let names = [0, 999, 1000, 413_000_000, 5_000_000_000, u64::MAX].map(size_category);
        assert_eq!(names, ["n<1K", "n<1K", "1K<n<10K", "100M<n<1B", "1B<n<10B", "n>1T"]);
    }
}
