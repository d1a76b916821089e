//! `serve`: the search page and API of runs.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, Result};
use dataset::{Embedder, Run};
use pipeline::download::{Config, Single};
use search::{Fetch, Index, Limits, Service, Settings};

use crate::Ended;
use crate::cli::{Listen, Serve};
use crate::model;
use crate::printer::Printer;

pub(super) fn run(options: &Serve, printer: &Printer) -> Result<Ended> {
    let runs: Vec<_> = options.runs.iter().map(Run::new).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    let fetch: Option<Arc<dyn Fetch>> = match options.allow_image_urls {
        true => {
            let _entered = runtime.enter();
            Some(Arc::new(Pictures(Single::new(&fetching(options.allow_private))?)))
        }
        false => None,
    };
    let settings = Settings {
        allow_origins: options.allow_origin.iter().map(|origin| origin.trim_end_matches('/').to_owned()).collect(),
        fetch,
        log_requests: options.log_format.is_some(),
        ..Settings::default()
    };
    let ended = serve(&runs, model::open_for_queries(&options.model)?, &options.listen, settings, &runtime, printer);
    runtime.shutdown_background(); // what is still worked on is for nobody any more
    ended
}

/// How pictures are fetched that clients name: as `download` does, once, and none that is larger than an upload.
fn fetching(allow_private: bool) -> Config {
    let bytes = Limits::default().body_bytes_max as u64;
    Config { image_bytes_max: bytes, retries: 0, allow_private, ..Config::laion400m() }
}

struct Pictures(Single);

impl Fetch for Pictures {
    fn fetch(&self, url: String) -> Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + '_>> {
        Box::pin(async move { self.0.fetch(&url).await })
    }
}

/// Serves until the user ends it.
pub(super) fn serve(
    runs: &[Run],
    clip: Arc<dyn Embedder>,
    listen: &Listen,
    settings: Settings,
    runtime: &tokio::runtime::Runtime,
    printer: &Printer,
) -> Result<Ended> {
    let indices = runs.iter().map(|run| Ok((Index::open(&run.index())?, run.clone())));
    let indices = indices.collect::<Result<Vec<_>>>()?;
    let rows: usize = indices.iter().map(|(index, _)| index.len()).sum();
    let service = Service::with(indices, clip, settings)?;
    runtime.block_on(async {
        let address = SocketAddr::new(listen.host, listen.port);
        let listener = tokio::net::TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr()?;
        printer.note(&format!("search {rows} pictures at http://{address}/ (Ctrl-C ends)"));
        search::serve(service, listener, ended()).await?;
        Ok(Ended::Done)
    })
}

/// Comes when the user or the system wants the program to end.
async fn ended() {
    let interrupted = async {
        // Without signals it serves until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    };
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending();
    tokio::select! {
        () = interrupted => {}
        () = terminated => {}
    }
}
