//! One sample: all that is known of it, and its picture.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use dataset::carried::Object;

use super::{ApiError, answer, facts, objects, picture};
use crate::index::Index;
use crate::server::Service;

/// The row of the sample with this key.
pub(crate) fn row(index: &Index, key: &str) -> Result<usize, ApiError> {
    let row = index.row_of(key)?.filter(|&row| !index.is_deleted(row));
    row.ok_or_else(|| ApiError::not_found(format!("no sample {}", key.chars().take(40).collect::<String>())))
}

/// `GET /api/v1/samples/{key}`: all columns of the row, its number as `id`, and where its picture is.
pub(super) async fn sample(State(service): State<Service>, Path(key): Path<String>) -> Result<Json<Object>, ApiError> {
    let sample = service.work(move |inner| {
        let index = inner.first().index();
        let row = row(&index, &key)?;
        let (mut sample, _) = objects(&index, &[row])?.remove(0);
        sample.insert("id".into(), row.into());
        sample.insert("image".into(), answer::image(&key).into());
        Ok(sample)
    });
    Ok(Json(sample.await?))
}

/// `GET /api/v1/images/{key}`: the picture as the run keeps it.
pub(super) async fn image(State(service): State<Service>, Path(key): Path<String>) -> Result<Response, ApiError> {
    let bytes = service.work(move |inner| {
        let collection = inner.first();
        let index = collection.index();
        let facts = facts(&index, &[row(&index, &key)?])?.remove(0);
        picture(collection.run(), &facts)?.ok_or_else(|| ApiError::not_found("this run does not keep the picture"))
    });
    let bytes = bytes.await?;
    // A key never gets another picture in the same run, but another run may be served at the same address.
    Ok(([(CONTENT_TYPE, kind(&bytes)), (CACHE_CONTROL, "private, max-age=300")], bytes).into_response())
}

/// What a browser shows. Everything else is bytes, whatever its name, so that no picture is a page.
fn kind(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xFF, 0xD8, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [b'R', b'I', b'F', b'F', ..] => "image/webp",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => "image/avif",
        _ => "application/octet-stream",
    }
}
