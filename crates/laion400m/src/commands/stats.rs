//! `stats`: the funnel of a run, or what a package holds.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use dataset::Run;
use dataset::tfds::TfdsReader;
use pipeline::build::Report;

use crate::Ended;
use crate::cli::Look;
use crate::printer::Printer;

pub(super) fn run(options: &Look, printer: &Printer) -> Result<Ended> {
    let run = Run::new(&options.folder);
    if run.report().exists() {
        printer.funnel(&Report::read(&run)?)?;
        return Ok(Ended::Done);
    }
    if !options.folder.join("dataset_info.json").exists() {
        bail!("{}: neither a finished run (report.json) nor a TFDS version folder", options.folder.display());
    }
    let reader = TfdsReader::open(&options.folder)?;
    let shards = reader.shard_lengths.len();
    let (mut examples, mut sum) = (0u64, 0.0);
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut nsfw, mut licenses) = (BTreeMap::<&str, u64>::new(), BTreeMap::<String, u64>::new());
    for example in reader {
        let example = example?;
        examples += 1;
        sum += example.similarity;
        (least, most) = (least.min(example.similarity), most.max(example.similarity));
        *nsfw.entry(example.nsfw.name()).or_default() += 1;
        *licenses.entry(example.license).or_default() += 1;
    }
    let mean = if examples == 0 { 0.0 } else { sum / examples as f64 };
    if printer.json() {
        let similarity = serde_json::json!({"least": least, "mean": mean, "most": most});
        let all = serde_json::json!({
            "examples": examples, "shards": shards, "nsfw": nsfw, "licenses": licenses, "similarity": similarity
        });
        printer.data(&all.to_string())?;
        return Ok(Ended::Done);
    }
    printer.data(&format!("{examples} examples in {shards} shards"))?;
    if examples > 0 {
        printer.data(&format!("similarity {least:.3} to {most:.3}, mean {mean:.3}"))?;
    }
    for (name, count) in nsfw {
        printer.data(&format!("{count:>10}  {name}"))?;
    }
    for (license, count) in licenses {
        printer.data(&format!("{count:>10}  licence {license}"))?;
    }
    Ok(Ended::Done)
}
