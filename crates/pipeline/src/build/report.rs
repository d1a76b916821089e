//! The funnel of a run: how many rows came in, left, and why, stage by stage.

use std::fmt::Write;

use dataset::files;
use dataset::{Error, Result, Run, Summary, publish};
use serde::{Deserialize, Serialize};

/// `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In the order data moves.
    pub stages: Vec<Summary>,
    /// How the result compares with the truth, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<Truth>,
}

/// How the kept pairs compare with the pairs a perfect program keeps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Share of the kept pairs that belong to the dataset.
    pub precision: f64,
    /// Share of the pairs that belong to the dataset that were kept.
    pub recall: f64,
}

impl Report {
    /// Reads the report of a run.
    pub fn read(run: &Run) -> Result<Self> {
        let path = run.report();
        serde_json::from_slice(&files::read(&path)?).map_err(|error| Error::format(&path, error))
    }

    /// Publishes `report.json` and `report.html`.
    pub fn publish(&self, run: &Run) -> Result<()> {
        let json = serde_json::to_string_pretty(self).expect("plain data");
        publish(&run.report(), json.as_bytes())?;
        publish(&run.report().with_extension("html"), self.to_html().as_bytes())?;
        Ok(())
    }

    /// Rows that failed, over all stages.
    pub fn failed_rows(&self) -> u64 {
        self.stages.iter().map(|stage| stage.counts.failed_rows()).sum()
    }

    /// A page that needs nothing else. Names of reasons are ours; nothing in it comes from the web.
    fn to_html(&self) -> String {
        let mut rows = String::new();
        for Summary { stage, counts } in &self.stages {
            let share = |part: u64| if counts.rows == 0 { 0.0 } else { 100.0 * part as f64 / counts.rows as f64 };
            let kept = share(counts.kept);
            let _ = write!(
                rows,
                "<tr class=stage><th scope=row>{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><meter \
                 min=0 max=100 value={kept:.1}></meter> {kept:.1} %</td></tr>",
                stage.name(),
                counts.rows,
                counts.kept,
                counts.dropped_rows(),
                counts.failed_rows(),
            );
            for (what, reasons) in [("dropped", &counts.dropped), ("failed", &counts.failed)] {
                for (reason, &count) in reasons {
                    let _ = write!(
                        rows,
                        "<tr><th scope=row>{what}: {}</th><td></td><td></td><td>{}</td><td>{}</td><td>{:.1} %</td></tr>",
                        reason.replace('_', " "),
                        if what == "dropped" { count.to_string() } else { String::new() },
                        if what == "failed" { count.to_string() } else { String::new() },
                        share(count)
                    );
                }
            }
        }
        let truth = self.truth.map_or(String::new(), |truth| {
            let (precision, recall) = (truth.precision, truth.recall);
            format!("<p>Against the known truth: precision {precision:.3}, recall {recall:.3}.</p>")
        });
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>laion400m: report</title>\
             <meta name=viewport content=\"width=device-width\"><style>{STYLE}</style><h1>Funnel</h1>{truth}\
             <table><thead><tr><th>stage</th><th>rows</th><th>kept</th><th>dropped</th><th>failed</th>\
             <th>share</th></tr></thead><tbody>{rows}</tbody></table></html>\n"
        )
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th,td{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #8884}\
th:first-child{text-align:left;font-weight:normal}tr.stage th,tr.stage td{font-weight:bold;border-top:2px solid #8888}\
:root{color-scheme:light dark}";
