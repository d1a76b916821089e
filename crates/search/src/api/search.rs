//! Searches: by text, by a sample of the dataset, by a picture, by an embedding, and by all of them together.

use std::collections::VecDeque;
use std::time::Instant;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use dataset::Embedding;

use super::answer::{Answer, Found};
use super::fold::Folding;
use super::given::Given;
use super::query::{self, Term, Wanted};
use super::{ApiError, body, check, facts, standing_for};
use crate::hits::Hit;
use crate::index::{COUNT_MAX, Index, Options};
use crate::query::together;
use crate::server::{Collection, Service, Step};

/// Results among which duplicates are looked for first.
const FOLD_POOL: usize = 256;
/// Results that are put into another order by further scores.
const WEIGHT_POOL: usize = 1000;

pub(super) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// What stands behind the `?` of an address.
pub(super) fn pairs(pairs: Pairs) -> Result<Given, ApiError> {
    let Query(pairs) = pairs.map_err(|rejection| ApiError::wrong(rejection.body_text()))?;
    Given::of_pairs(pairs)
}

/// `GET /api/v1/search?…`
pub(super) async fn by_address(State(service): State<Service>, parameters: Pairs) -> Result<Json<Answer>, ApiError> {
    let mut given = pairs(parameters)?;
    let wanted = Wanted::take(&mut given)?;
    let terms = query::of_address(&mut given)?;
    given.finish()?;
    find(&service, terms, wanted).await
}

/// `POST /api/v1/search`
pub(super) async fn by_json(State(service): State<Service>, request: Request) -> Result<Json<Answer>, ApiError> {
    let (body, _room) = body(&service, request).await?;
    let mut given = Given::of_json(&body)?;
    let wanted = Wanted::take(&mut given)?;
    let terms = query::of_json(&mut given)?;
    given.finish()?;
    find(&service, terms, wanted).await
}

/// `POST /api/v1/search/image?…`: the body is the picture.
pub(super) async fn by_picture(
    State(service): State<Service>,
    parameters: Pairs,
    request: Request,
) -> Result<Json<Answer>, ApiError> {
    let mut given = pairs(parameters)?;
    let wanted = Wanted::take(&mut given)?;
    given.finish()?;
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("multipart/") {
        let cause = "the body is the bytes of the picture, not a form: curl --data-binary @picture.jpg";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, cause));
    }
    let (picture, _room) = body(&service, request).await?;
    if picture.is_empty() {
        return Err(ApiError::wrong("the body is empty; it is the bytes of a picture"));
    }
    find(&service, vec![(Term::Picture(picture), 1.0)], wanted).await
}

async fn find(service: &Service, terms: Vec<(Term, f32)>, wanted: Wanted) -> Result<Json<Answer>, ApiError> {
    let started = Instant::now();
    let collection = service.first();
    let query = embed(service, &collection, terms).await?;
    let results = service.work(move |inner| {
        let index = collection.index();
        let ranked = inner.metrics.step(Step::Search, || rank(&index, &query, &wanted))?;
        let rows: Vec<_> = ranked.iter().map(|ranked| ranked.hit.row).collect();
        let facts = inner.metrics.step(Step::Metadata, || facts(&index, &rows))?;
        Ok(ranked
            .into_iter()
            .zip(facts)
            .map(|(ranked, facts)| Found::new(facts, Some(ranked.hit.score), ranked.folded)))
    });
    let results = results.await?.collect();
    Ok(Json(Answer { took_ms: started.elapsed().as_millis() as u64, results }))
}

/// One embedding out of the parts of a query: the direction of their weighted sum.
pub(crate) async fn embed(
    service: &Service,
    collection: &Collection,
    terms: Vec<(Term, f32)>,
) -> Result<Embedding, ApiError> {
    let index = collection.index();
    // All texts wait for the model together.
    let mut texts = VecDeque::new();
    for (term, _) in &terms {
        if let Term::Text(text) = term {
            texts.push_back(service.embed_text(text.clone()));
        }
    }
    let mut parts = Vec::new();
    for (term, weight) in terms {
        let embedding = match term {
            Term::Text(_) => texts.pop_front().expect("one for every text").await?,
            Term::Picture(picture) => service.embed_picture(picture).await?,
            Term::Key(key) => index.embedding(super::samples::row(&index, &key)?, standing_for(&index))?,
            Term::Values(values) if values.len() != index.dimensions() => {
                let (wanted, given) = (index.dimensions(), values.len());
                return Err(ApiError::wrong(format!("an embedding of this dataset has {wanted} values, not {given}")));
            }
            Term::Values(values) => {
                Embedding::normalized(values).map_err(|error| ApiError::wrong(error.to_string()))?
            }
        };
        parts.push((embedding, weight));
    }
    together(parts).map_err(|error| ApiError::wrong(error.to_string()))
}

/// A row that is a result, and how many worse ones it stands for.
#[derive(Debug)]
struct Ranked {
    hit: Hit,
    folded: Option<usize>,
}

/// The results of one page.
fn rank(index: &Index, query: &Embedding, wanted: &Wanted) -> Result<Vec<Ranked>, ApiError> {
    check(index, wanted.options.modality)?;
    let weighted = wanted.similarity_weight != 0.0 || wanted.aesthetic_weight != 0.0;
    if !wanted.fold && !weighted {
        let hits = index.search(query, &wanted.options)?;
        return Ok(hits.into_iter().map(|hit| Ranked { hit, folded: None }).collect());
    }
    let end = wanted.options.offset + wanted.options.count;
    // The same pool for every page, as long as it can be, or the pages would not fit together.
    let mut pool = match weighted {
        true if end <= WEIGHT_POOL => WEIGHT_POOL,
        true => COUNT_MAX,
        false => (2 * end).next_power_of_two().clamp(FOLD_POOL, COUNT_MAX),
    };
    loop {
        let options = Options { count: pool, offset: 0, ..wanted.options.clone() };
        let mut hits = index.search(query, &options)?;
        let all = hits.len() < pool || pool == COUNT_MAX;
        if weighted {
            weigh(index, &mut hits, wanted)?;
        }
        let ranked: Vec<_> = if wanted.fold {
            let folding = folded(index, &hits)?;
            let kept = folding.kept().iter();
            kept.map(|&(place, folded)| Ranked { hit: hits[place], folded: Some(folded) }).collect()
        } else {
            hits.into_iter().map(|hit| Ranked { hit, folded: None }).collect()
        };
        if ranked.len() >= end || all {
            return Ok(ranked.into_iter().skip(wanted.options.offset).take(wanted.options.count).collect());
        }
        pool = (4 * pool).min(COUNT_MAX);
    }
}

/// Adds further scores and sorts anew; a row that lacks one has it as 0.
fn weigh(index: &Index, hits: &mut [Hit], wanted: &Wanted) -> Result<(), ApiError> {
    for hit in hits.iter_mut() {
        let similarity = index.fact(hit.row).and_then(|fact| fact.similarity);
        hit.score += wanted.similarity_weight * similarity.unwrap_or(0.0);
    }
    if wanted.aesthetic_weight != 0.0 {
        let rows: Vec<_> = hits.iter().map(|hit| hit.row).collect();
        for (hit, facts) in hits.iter_mut().zip(facts(index, &rows)?) {
            hit.score += wanted.aesthetic_weight * facts.aesthetic.unwrap_or(0.0) as f32;
        }
    }
    hits.sort_unstable();
    Ok(())
}

fn folded(index: &Index, hits: &[Hit]) -> Result<Folding, ApiError> {
    let mut folding = Folding::default();
    for hit in hits {
        folding.push(index.embedding(hit.row, standing_for(index))?);
    }
    Ok(folding)
}
