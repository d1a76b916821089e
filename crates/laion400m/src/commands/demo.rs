//! `demo`: the bundled miniature web, end to end.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clip::Clip;
use dataset::schema::KeptRow;
use dataset::table::TableReader;
use dataset::{Embedder, Run, files, list_shards, publish};
use miniweb::{Settings, World};
use pipeline::build::{Recipe, Truth};
use pipeline::filter::Scorers;
use serde::{Deserialize, Serialize};

use super::build::whole_road;
use super::serve::serve;
use crate::Ended;
use crate::cli::{Demo, Listen};
use crate::printer::Printer;

/// What the miniature web of a run was made from, kept beside its crawl: every URL of the run depends on it.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    seed: u64,
    pictures: usize,
    port: u16,
}

pub(super) fn run(options: &Demo, printer: &Printer) -> Result<Ended> {
    let run = Run::new(&options.output);
    let crawl = files::scratch(&options.output.join("crawl"))?; // of a run in a store it is here all the same
    let (settings, listener) = settle(options, &crawl)?;
    let world = Arc::new(World::new(settings));
    if !crawl.join("recipe.toml").exists() {
        printer.note(&format!("drawing a web of {} pictures on {} pages", settings.pictures, world.page_count()));
        miniweb::write_crawl(&world, &crawl)?;
    }
    let recipe = recipe();
    publish(&crawl.join("recipe.toml"), recipe.to_toml().as_bytes())?;
    let server = miniweb::serve(world.clone(), listener)?;
    let clip: Arc<dyn Embedder> = Arc::new(Clip::tiny());
    let mut report = whole_road(&recipe, &crawl, &*clip, &Scorers::new(), &run, printer)?;
    let kept = kept_pairs(&run)?;
    let (precision, recall) = miniweb::measure(world.truth(), kept.iter().map(|(u, c)| (u.as_str(), c.as_str())));
    report.truth = Some(Truth { precision, recall });
    report.publish(&run)?;
    printer.funnel(&report)?;
    if options.no_serve {
        return Ok(Ended::Done);
    }
    let listen = Listen { host: Ipv4Addr::LOCALHOST.into(), port: options.port };
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = serve(&[run], clip, &listen, search::Settings::default(), &runtime, printer);
    runtime.shutdown_background();
    drop(server); // until then the links to the original pictures work
    ended
}

/// The miniature web of this run, and the port it is served on: what is there already decides.
fn settle(options: &Demo, crawl: &Path) -> Result<(Settings, TcpListener)> {
    let bind = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let busy = |port: u16| format!("serve the miniature web on 127.0.0.1:{port}");
    let path = crawl.join("miniweb.json");
    if path.exists() {
        let made: Made =
            serde_json::from_slice(&fs_err::read(&path)?).with_context(|| format!("read {}", path.display()))?;
        let asked = (options.pictures.unwrap_or(made.pictures), options.seed.unwrap_or(made.seed));
        if asked != (made.pictures, made.seed) || options.web_port.is_some_and(|port| port != made.port) {
            let folder = options.output.display();
            bail!("{folder} holds a web of {} pictures on port {}; choose another folder", made.pictures, made.port);
        }
        let listener = bind(made.port).with_context(|| busy(made.port))?;
        return Ok((Settings { seed: made.seed, pictures: made.pictures, port: made.port }, listener));
    }
    let listener = match options.web_port {
        Some(port) => bind(port).with_context(|| busy(port))?,
        // Nobody asked for this port, so any other will do.
        None => bind(Settings::DEMO.port).or_else(|_| bind(0)).with_context(|| busy(0))?,
    };
    let made = Made {
        seed: options.seed.unwrap_or(Settings::DEMO.seed),
        pictures: options.pictures.unwrap_or(Settings::DEMO.pictures),
        port: listener.local_addr()?.port(),
    };
    publish(&path, serde_json::to_string_pretty(&made)?.as_bytes())?;
    Ok((Settings { seed: made.seed, pictures: made.pictures, port: made.port }, listener))
}

/// LAION-400M's recipe, over a web on this machine.
fn recipe() -> Recipe {
    let mut recipe = Recipe::laion400m(vec!["*.warc.wat.gz".into()]);
    recipe.collect.shard_rows = 500; // several shards, as a real run has
    recipe.download.allow_private = true;
    recipe.download.timeout_ms = 8_000; // some pictures never come, and nobody should wait long for them
    recipe.filter.tag_only = true; // the included CLIP has never seen a person or an animal
    recipe
}

/// URL and caption of everything the run kept.
fn kept_pairs(run: &Run) -> Result<Vec<(String, String)>> {
    let folder = run.packages().webdataset();
    let mut pairs = Vec::new();
    for id in list_shards(&folder, "parquet")? {
        for row in TableReader::<KeptRow>::open(&folder.join(format!("{id}.parquet")))? {
            let row = row?;
            pairs.push((row.url, row.caption));
        }
    }
    Ok(pairs)
}
