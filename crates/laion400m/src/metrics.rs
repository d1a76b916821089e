//! Counts for Prometheus, over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use crate::printer::Tallies;

/// Answers `/metrics` at this address until the program ends.
pub(crate) fn serve(address: SocketAddr, tallies: Arc<Tallies>) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address).with_context(|| format!("--metrics {address}"))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = move || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4")], tallies.prometheus()) };
    let routes = Router::new().route("/metrics", get(text));
    std::thread::spawn(move || {
        runtime.block_on(async {
            // Whoever asks in vain sees it; the stage goes on.
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                let _ = axum::serve(listener, routes).await;
            }
        });
    });
    Ok(address)
}
