//! Who may ask, and what browsers may do with the answers.

use std::time::Instant;

use axum::body::HttpBody;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_LENGTH, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Service;
use crate::api::ApiError;

/// Routes that answer however much there is to do.
const ALWAYS: [&str; 3] = ["/healthz", "/metrics", "/metrics-summary"];

const HEADERS: [(&str, &str); 3] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
];

/// Counts and logs every request, refuses those that come from elsewhere or are too many, and bounds their time.
pub(super) async fn guard(State(service): State<Service>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let metrics = service.metrics().clone();
    let under_way = metrics.request();
    let method = name(request.method());
    let path: String = request.uri().path().chars().take(200).collect();
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let limits = service.limits();
    let many = metrics.requests_under_way() > limits.requests_max as i64
        && !route.as_deref().is_some_and(|route| ALWAYS.contains(&route));
    let mut response = match refused(&service, request.headers()) {
        Some(error) => error.into_response(),
        None if many => ApiError::busy("too many requests at once").into_response(),
        None => match tokio::time::timeout(limits.request_time, next.run(request)).await {
            Ok(response) => response,
            Err(_) => ApiError::busy("the answer took too long").into_response(),
        },
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let policy = if headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) { "cross-origin" } else { "same-origin" };
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static(policy));
    drop(under_way);
    let (status, took) = (response.status().as_u16(), started.elapsed());
    metrics.answered(route.as_deref().unwrap_or("other"), method, status, took);
    if service.settings().log_requests {
        let bytes = response
            .body()
            .size_hint()
            .exact()
            .or_else(|| response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok());
        let milliseconds = took.as_micros() as f64 / 1000.0;
        tracing::info!(method, path, status, milliseconds, bytes, "request");
    }
    response
}

/// Why a request is none that we answer: a foreign page made it, by DNS rebinding or from its own address.
fn refused(service: &Service, headers: &HeaderMap) -> Option<ApiError> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(HOST).unwrap_or_default();
    if service.local_only() && !is_local(host) {
        let cause = "this service answers to localhost only";
        return Some(ApiError::new(StatusCode::MISDIRECTED_REQUEST, cause));
    }
    let origin = text(ORIGIN)?;
    let own = origin.split_once("://").is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(host));
    if own || service.settings().allow_origins.iter().any(|allowed| allowed == origin) {
        return None;
    }
    let cause = "pages of other origins may not ask; laion400m serve --allow-origin ORIGIN lets one";
    Some(ApiError::new(StatusCode::FORBIDDEN, cause))
}

/// The methods there are, by name; there is no end of others.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
