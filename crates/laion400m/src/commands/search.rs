//! `search`: from the terminal.

use anyhow::Result;
use dataset::Run;
use search::{COUNT_MAX, Filter, Index, Options};

use crate::Ended;
use crate::cli::Search;
use crate::model;
use crate::printer::Printer;

pub(super) fn run(options: &Search, printer: &Printer) -> Result<Ended> {
    let run = Run::new(&options.run);
    let index = Index::open(&run.index())?;
    let clip = model::open(&options.model)?;
    if index.model() != clip.fingerprint() {
        anyhow::bail!("the index was made with another model than {:?}; name it with --model", options.model.model);
    }
    let query = clip.texts(&[&options.text])?.remove(0);
    let filter = if options.unsafe_too { Filter::default() } else { Filter::safe() };
    let wanted = Options { count: options.count.min(COUNT_MAX), filter, ..Options::default() };
    let hits = index.search(&query, &wanted)?;
    let rows = index.rows(&hits.iter().map(|hit| hit.row).collect::<Vec<_>>())?;
    for (hit, row) in hits.iter().zip(&rows) {
        let line = if printer.json() {
            serde_json::json!({
                "key": row.key(), "score": hit.score, "caption": row.caption(), "url": row.url(), "page_url": row.page_url(),
                "license": row.license(), "nsfw": row.nsfw(), "similarity": row.similarity()
            })
            .to_string()
        } else {
            format!("{:.3}  {}  {}\n                  {}", hit.score, row.key(), row.caption(), row.url())
        };
        printer.data(&line)?;
    }
    if hits.is_empty() {
        printer.note("nothing found");
    }
    Ok(Ended::Done)
}
