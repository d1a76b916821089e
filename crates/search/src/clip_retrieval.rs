//! The API of clip-retrieval's service (`clip_back.py` of clip-retrieval 2.45), so that its `ClipClient` and its front end
//! work with this one.
//!
//! What it answers with an internal error, for instance a request without `modality`, is answered with 400 and the cause.
//! `use_safety_model` leaves out rows that are not tagged UNLIKELY, where it has a detector. Embeddings of aesthetics, a
//! detector of violence and a multilingual model are not here: the first two are ignored as it does without them, the last
//! is refused.

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dataset::carried::Object;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

use crate::api::{self, ApiError, TEXT_BYTES_MAX, Term, embed, groups};
use crate::index::{COUNT_MAX, Index, Modality, Options};
use crate::server::{Collection, Service, Step};
use dataset::indexed::Filter;

/// Columns that are told of a row: those that clip-retrieval tells unless it is told otherwise (`columns_to_return`).
const COLUMNS: [&str; 4] = ["url", "image_path", "caption", "NSFW"];
/// Bytes of all pictures of one answer; what comes after them has its address alone.
const PICTURE_BYTES_MAX: usize = 8 << 20;

pub(crate) fn routes(body_bytes_max: usize) -> axum::Router<Service> {
    axum::Router::new()
        .route("/indices-list", get(indices))
        .route("/knn-service", post(knn))
        .route("/metadata", post(metadata))
        .layer(DefaultBodyLimit::max(body_bytes_max))
}

/// An error as flask-restful words it.
struct Refusal(ApiError);

impl<E: Into<ApiError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.0.answer("message")
    }
}

/// JSON with flask-restful's line end.
fn json(value: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

/// `GET /indices-list`
async fn indices(State(service): State<Service>) -> Response {
    json(&service.collections().iter().map(|collection| collection.name()).collect())
}

/// The index that `indice_name` names; the first where it is null.
fn collection(service: &Service, name: Option<&Value>) -> Result<Arc<Collection>, ApiError> {
    match name {
        None => Err(ApiError::wrong("indice_name is missing")),
        Some(Value::Null) => Ok(service.first()),
        Some(Value::String(name)) => {
            service.named(name).ok_or_else(|| ApiError::not_found("no index of that indice_name: see /indices-list"))
        }
        Some(_) => Err(ApiError::wrong("indice_name is a text or null")),
    }
}

/// `POST /metadata`: `{"ids": […], "indice_name": …}`
async fn metadata(State(service): State<Service>, request: Request) -> Result<Response, Refusal> {
    let (body, _room) = api::body(&service, request).await?;
    let given = api::object(&body)?;
    let Some(Value::Array(ids)) = given.get("ids") else { return Err(ApiError::wrong("ids is an array").into()) };
    if ids.is_empty() {
        return Ok(json(&Value::Array(Vec::new())));
    }
    if ids.len() > COUNT_MAX {
        return Err(ApiError::wrong(format!("ids are at most {COUNT_MAX}")).into());
    }
    let collection = collection(&service, given.get("indice_name"))?;
    let rows = ids.iter().map(|id| id.as_u64().and_then(|id| usize::try_from(id).ok())).collect::<Option<Vec<_>>>();
    let rows = rows.ok_or_else(|| ApiError::wrong("ids are integers, at least 0"))?;
    let found = service.work(move |inner| {
        let index = collection.index();
        if let Some(row) = rows.iter().find(|row| index.fact(**row).is_none()) {
            return Err(ApiError::wrong(format!("no row {row} of {}", index.len())));
        }
        let columns = inner.metrics.step(Step::Metadata, || columns(&collection, &index, &rows))?;
        let row = |(id, metadata): (usize, Object)| serde_json::json!({"id": id, "metadata": metadata});
        Ok(rows.into_iter().zip(columns).map(row).collect::<Value>())
    });
    Ok(json(&found.await?))
}

/// The columns of rows, with the pictures that the run keeps as `image`.
fn columns(collection: &Collection, index: &Index, rows: &[usize]) -> Result<Vec<Object>, ApiError> {
    let mut room = PICTURE_BYTES_MAX;
    let told = api::objects(index, rows)?.into_iter().map(|(mut object, facts)| {
        object.retain(|name, _| COLUMNS.contains(&name.as_str()));
        if room > 0
            && let Some(picture) = api::picture(collection.run(), &facts)?
        {
            room = room.saturating_sub(picture.len());
            object.insert("image".into(), STANDARD.encode(picture).into());
        }
        Ok(object)
    });
    told.collect()
}

/// What a request to `/knn-service` asks for.
struct Knn {
    term: Term,
    /// What inner products with an embedding grow by that is not of length 1.
    length: f32,
    modality: Modality,
    /// Results with metadata.
    images: usize,
    results: usize,
    deduplicate: bool,
    safe: bool,
}

impl Knn {
    /// Reads a request. `fetched` are the bytes that `image_url` led to, where it is what counts.
    fn new(given: &Object, fetched: Option<Term>) -> Result<Self, ApiError> {
        let missing = |name: &str| ApiError::wrong(format!("{name} is missing"));
        let modality = match given.get("modality") {
            None => return Err(missing("modality")),
            // It takes every other word for text.
            Some(modality) if modality == "image" => Modality::Image,
            Some(_) => Modality::Text,
        };
        let images = count(given.get("num_images").ok_or_else(|| missing("num_images"))?, "num_images")?;
        let results = given.get("num_result_ids").map_or(Ok(images), |value| count(value, "num_result_ids"))?;
        if results == 0 {
            return Err(ApiError::wrong("num_result_ids is at least 1"));
        }
        if flag(given, "use_mclip") {
            return Err(ApiError::wrong("use_mclip: this service has no multilingual model"));
        }
        for (name, is_number) in
            [("aesthetic_score", is_integer as fn(&Value) -> bool), ("aesthetic_weight", is_number as _)]
        {
            if given.get(name).is_some_and(|value| !value.is_null() && value != "" && !is_number(value)) {
                return Err(ApiError::wrong(format!("{name} is a number or \"\"")));
            }
        }
        let term = match fetched {
            Some(term) => term,
            None => term(given)?,
        };
        let length = match &term {
            Term::Values(values) => values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32,
            _ => 1.0,
        };
        let (deduplicate, safe) = (flag(given, "deduplicate"), flag(given, "use_safety_model"));
        Ok(Self { term, length, modality, images, results, deduplicate, safe })
    }
}

/// The first of `text`, `image` and `embedding_input` that is present; an empty text is not.
fn term(given: &Object) -> Result<Term, ApiError> {
    let present = |name: &str| given.get(name).filter(|value| !value.is_null());
    if let Some(text) = present("text").filter(|text| *text != "") {
        let text = text.as_str().ok_or_else(|| ApiError::wrong("text is a text"))?;
        if text.len() > TEXT_BYTES_MAX {
            return Err(ApiError::wrong(format!("text is longer than {TEXT_BYTES_MAX} bytes")));
        }
        return Ok(Term::Text(text.to_owned()));
    }
    if let Some(image) = present("image") {
        return api::picture_in_base64(image.as_str().ok_or_else(|| ApiError::wrong("image is a text in base64"))?);
    }
    if let Some(values) = present("embedding_input") {
        return api::values(values.clone(), "embedding_input");
    }
    Err(ApiError::wrong("must fill one of text, image and image url input"))
}

/// The address of a picture, where it is what counts.
fn image_url(given: &Object) -> Result<Option<String>, ApiError> {
    let present = |name: &str| given.get(name).filter(|value| !value.is_null());
    let text = present("text").filter(|text| *text != "");
    match present("image_url") {
        Some(url) if text.is_none() && present("image").is_none() => {
            url.as_str().map(|url| Some(url.to_owned())).ok_or_else(|| ApiError::wrong("image_url is a text"))
        }
        _ => Ok(None),
    }
}

fn count(value: &Value, name: &str) -> Result<usize, ApiError> {
    let count = value.as_u64().filter(|count| *count <= COUNT_MAX as u64);
    count.map(|count| count as usize).ok_or_else(|| ApiError::wrong(format!("{name} is an integer, 0 to {COUNT_MAX}")))
}

/// What Python takes for true.
fn flag(given: &Object, name: &str) -> bool {
    match given.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(values)) => !values.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
    }
}

/// What Python's `int` takes.
fn is_integer(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().parse::<i64>().is_ok(),
        value => value.is_number() || value.is_boolean(),
    }
}

/// What Python's `float` takes.
fn is_number(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().parse::<f64>().is_ok(),
        value => value.is_number() || value.is_boolean(),
    }
}

/// `POST /knn-service`
async fn knn(State(service): State<Service>, request: Request) -> Result<Response, Refusal> {
    let started = Instant::now();
    // It is JSON whatever its type is said to be.
    let (body, _room) = api::body(&service, request).await?;
    let given = api::object(&body)?;
    let collection = collection(&service, given.get("indice_name"))?;
    let fetched = match image_url(&given)? {
        Some(url) => Some(fetch(&service, url).await?),
        None => None,
    };
    let wanted = Knn::new(&given, fetched)?;
    let query = embed(&service, &collection, vec![(wanted.term.clone(), 1.0)]).await?;
    let found = service.work(move |inner| {
        let index = collection.index();
        api::check(&index, wanted.modality)?;
        let filter = if wanted.safe { Filter::safe() } else { Filter::default() };
        let options = Options { modality: wanted.modality, count: wanted.results, filter, ..Options::default() };
        let mut hits = inner.metrics.step(Step::Search, || index.search(&query, &options))?;
        if wanted.deduplicate {
            inner.metrics.step(Step::Fold, || -> Result<(), ApiError> {
                // Its rule compares embeddings of the index that was searched.
                let embeddings = hits.iter().map(|hit| index.embedding(hit.row, wanted.modality));
                let mut groups = groups(&embeddings.collect::<Result<Vec<_>, _>>()?).into_iter().enumerate();
                hits.retain(|_| groups.next().is_some_and(|(place, first)| place == first));
                Ok(())
            })?;
        }
        let rows: Vec<_> = hits.iter().map(|hit| hit.row).take(wanted.images).collect();
        let mut metadata = inner.metrics.step(Step::Metadata, || columns(&collection, &index, &rows))?.into_iter();
        let result = |hit: &crate::hits::Hit| {
            let mut result = metadata.next().unwrap_or_default();
            result.insert("id".into(), hit.row.into());
            result.insert("similarity".into(), f64::from(hit.score * wanted.length).into());
            Value::Object(result)
        };
        Ok(hits.iter().map(result).collect::<Value>())
    });
    let found = found.await?;
    service.metrics().took(Step::Knn, started.elapsed());
    Ok(json(&found))
}

/// The picture at an address that a client names, where this service fetches any.
async fn fetch(service: &Service, url: String) -> Result<Term, ApiError> {
    let Some(fetch) = service.settings().fetch.clone() else {
        let cause = "image_url: this service fetches no pictures; laion400m serve --allow-image-urls makes it";
        return Err(ApiError::wrong(cause));
    };
    let started = Instant::now();
    let fetched = fetch.fetch(url).await;
    service.metrics().took(Step::Download, started.elapsed());
    Ok(Term::Picture(fetched.map_err(|cause| ApiError::wrong(format!("image_url: {cause}")))?.into()))
}
