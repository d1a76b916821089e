//! `search`: from the terminal.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dataset::files;
use dataset::indexed::IndexedRow;
use dataset::webdataset::{read_range, tar_path};
use dataset::{Embedder, Embedding, Run, SampleKey, publish};
use pipeline::stats::escaped;
use search::{COUNT_MAX, Filter, Hit, Index, Modality, Options, query};

use crate::Ended;
use crate::cli::{self, Search};
use crate::model;
use crate::printer::Printer;

/// Largest picture that is put into a page.
const PICTURE_BYTES_MAX: u64 = 16 << 20;

pub(super) fn run(options: &Search, printer: &Printer) -> Result<Ended> {
    let run = Run::new(&options.run);
    let index = Index::open(&run.index())?;
    let clip = model::open(&options.model)?;
    if !dataset::same_weights(index.model(), &clip.fingerprint()) {
        bail!("the index was made with another model than {:?}; name it with --model", options.model.model);
    }
    ensure!((1..=COUNT_MAX).contains(&options.k), "-k is 1 to {COUNT_MAX}");
    let hits = index.search(&wanted(options, &index, &*clip)?, &how(options))?;
    let rows = index.rows(&hits.iter().map(|hit| hit.row).collect::<Vec<_>>())?;
    for (hit, row) in hits.iter().zip(&rows) {
        let line = if printer.json() {
            serde_json::json!({
                "key": row.key(), "score": hit.score, "caption": row.caption(), "url": row.url(),
                "page_url": row.page_url(), "license": row.license(), "nsfw": row.nsfw(), "similarity": row.similarity()
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
    if let Some(path) = &options.open {
        publish(path, page(options, &run, &hits, &rows).as_bytes())?;
        printer.note(&format!("the pictures are in {}", path.display()));
    }
    Ok(Ended::Done)
}

/// Words, a picture and a sample, or some of them, as one embedding.
fn wanted(options: &Search, index: &Index, clip: &dyn Embedder) -> Result<Embedding> {
    let mut parts = Vec::new();
    let (texts, weights): (Vec<_>, Vec<_>) =
        query::terms(options.text.as_deref().unwrap_or_default()).into_iter().unzip();
    if !texts.is_empty() {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        parts.extend(clip.texts(&texts)?.into_iter().zip(weights));
    }
    if let Some(path) = &options.image {
        let bytes = files::read(path)?;
        let pixels = query::picture(&bytes).with_context(|| path.display().to_string())?;
        parts.push((clip.images(&[pixels])?.remove(0), 1.0));
    }
    if let Some(key) = &options.like {
        let row = index.row_of(key)?.filter(|&row| !index.is_deleted(row));
        let row = row.with_context(|| format!("no sample {key:?}"))?;
        parts.push((index.embedding(row, Modality::Image)?, 1.0));
    }
    ensure!(!parts.is_empty(), "the text is empty");
    Ok(query::together(parts)?)
}

fn how(options: &Search) -> Options {
    let filter = Filter {
        similarity_min: options.similarity_min,
        similarity_max: options.similarity_max,
        width_min: options.width_min,
        height_min: options.height_min,
        languages: options.language.clone(),
        licenses: options.license.clone(),
        hosts: options.host.clone(),
        ..if options.unsafe_too { Filter::default() } else { Filter::safe() }
    };
    let modality = match options.modality {
        cli::Modality::Image => Modality::Image,
        cli::Modality::Text => Modality::Text,
    };
    Options { modality, count: options.k, exact: options.exact, filter, ..Options::default() }
}

/// A page that needs nothing beside it: pictures are in it, and nothing of the web is markup or is asked for.
fn page(options: &Search, run: &Run, hits: &[Hit], rows: &[IndexedRow]) -> String {
    let title = escaped(options.text.as_deref().unwrap_or("pictures like this"));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>\n\
         :root {{ color-scheme: light dark; }}\n\
         body {{ margin: 1rem; font: 16px/1.4 system-ui, sans-serif; }}\n\
         main {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); }}\n\
         figure {{ margin: 0; }}\n\
         img {{ width: 100%; aspect-ratio: 1; object-fit: contain; background: #8881; }}\n\
         figcaption {{ overflow-wrap: anywhere; }}\n\
         small {{ display: block; opacity: 0.75; }}\n\
         </style>\n<h1>{title}</h1>\n<main>\n"
    );
    for (hit, row) in hits.iter().zip(rows) {
        let caption = escaped(row.caption());
        let picture = match picture(run, row) {
            Some(bytes) => {
                let kind = if bytes.starts_with(b"\x89PNG") {
                    "png"
                } else if bytes.starts_with(b"RIFF") {
                    "webp"
                } else {
                    "jpeg"
                };
                format!("<img alt=\"\" src=\"data:image/{kind};base64,{}\">", STANDARD.encode(bytes))
            }
            None => "<p>no picture here</p>".into(),
        };
        page.push_str(&format!(
            "<figure>{picture}<figcaption>{caption}<small>{:.3} · {} · {}</small></figcaption></figure>\n",
            hit.score,
            escaped(row.key()),
            escaped(row.url())
        ));
    }
    page + "</main>\n</html>\n"
}

/// The picture as the run keeps it.
fn picture(run: &Run, row: &IndexedRow) -> Option<Vec<u8>> {
    let key: SampleKey = row.key().parse().ok()?;
    let (start, bytes) = row.place().filter(|(_, bytes)| *bytes <= PICTURE_BYTES_MAX)?;
    let tar: &Path = &tar_path(&run.packages().webdataset(), key.shard);
    read_range(tar, start, bytes as usize).ok()
}
