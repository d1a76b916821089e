//! `serve`: the search page and API of a run.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use dataset::{Embedder, Run};
use search::{Index, Service};

use crate::Ended;
use crate::cli::Serve;
use crate::model;
use crate::printer::Printer;

pub(super) fn run(options: &Serve, printer: &Printer) -> Result<Ended> {
    let run = Run::new(&options.run);
    serve(&run, model::open(&options.model)?, options.host, options.port, printer)
}

/// Serves until the user ends it.
pub(super) fn serve(run: &Run, clip: Arc<dyn Embedder>, host: IpAddr, port: u16, printer: &Printer) -> Result<Ended> {
    let index = Index::open(&run.index())?;
    let rows = index.len();
    let service = Service::new(index, run.clone(), clip)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let address = SocketAddr::new(host, port);
        let listener = tokio::net::TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr()?;
        printer.note(&format!("search {rows} pictures at http://{address}/ (Ctrl-C ends)"));
        let ended = async {
            let _ = tokio::signal::ctrl_c().await; // without signals it serves until it is killed
        };
        search::serve(service, listener, ended).await?;
        Ok(Ended::Done)
    })
}
