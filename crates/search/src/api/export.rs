//! Samples that somebody chose, as a file.

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::given::Given;
use super::samples::row;
use super::search::{Pairs, pairs};
use super::{ApiError, body, columns};
use crate::server::Service;

/// Samples of one file.
const KEYS_MAX: usize = 10_000;

/// `POST /api/v1/export?format=…` with `{"keys": […]}`: a file to save, its rows in the order of the keys.
pub(super) async fn export(
    State(service): State<Service>,
    parameters: Pairs,
    request: Request,
) -> Result<Response, ApiError> {
    let mut parameters = pairs(parameters)?;
    let format = parameters.text("format")?.unwrap_or_else(|| "parquet".into());
    parameters.finish()?;
    let (kind, name) = match format.as_str() {
        "parquet" => ("application/vnd.apache.parquet", "samples.parquet"),
        "csv" => ("text/csv; charset=utf-8", "samples.csv"),
        "keys" => ("text/plain; charset=utf-8", "keys.txt"),
        _ => return Err(ApiError::wrong("format is parquet, csv or keys")),
    };
    let (body, _room) = body(&service, request).await?;
    let mut given = Given::of_json(&body)?;
    let keys = keys(given.value("keys"))?;
    given.finish()?;
    let file = service.work(move |inner| {
        let index = inner.first().index();
        let rows = keys.iter().map(|key| row(&index, key)).collect::<Result<Vec<_>, _>>()?;
        Ok(match format.as_str() {
            "parquet" => dataset::export::parquet(&columns(&index, &rows)?)?,
            "csv" => dataset::export::csv(&columns(&index, &rows)?)?,
            _ => keys.iter().flat_map(|key| [key.as_str(), "\n"]).collect::<String>().into_bytes(),
        })
    });
    let disposition = format!("attachment; filename=\"{name}\"");
    Ok(([(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, disposition)], file.await?).into_response())
}

fn keys(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::wrong(format!("keys is an array of 1 to {KEYS_MAX} keys"));
    let Some(Value::Array(keys)) = value else { return Err(wrong()) };
    if keys.is_empty() || keys.len() > KEYS_MAX {
        return Err(wrong());
    }
    keys.into_iter().map(|key| if let Value::String(key) = key { Ok(key) } else { Err(wrong()) }).collect()
}
