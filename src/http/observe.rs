//! What happens around every request: the time limit, the figures, the log line, the headers.

use super::error::Told;
use super::{App, Error};
use crate::clock;
use crate::store::StoreError;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONNECTION, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;

/// The longest a request may take, its body included.
const LIMIT: Duration = Duration::from_secs(30);

/// Asked by machines all day.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// On every answer. Nothing from elsewhere is loaded, no page is framed, no form leaves.
const HEADERS: [(&str, &str); 3] = [
    (
        "content-security-policy",
        "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
];

/// Cuts off a request that takes too long.
pub(super) async fn bound(request: Request, next: Next) -> Response {
    match tokio::time::timeout(LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Error::Slow.into_response(),
    }
}

/// Before the database was reached for the first time, nothing that needs it is begun: its schema may be an older
/// one. What speaks of this process alone is answered.
pub(super) async fn arrived(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    const ALONE: [&str; 5] = ["/livez", "/readyz", "/metrics", "/nodes", "/openapi.json"];
    if app.loops.is_waiting() {
        let path = request.uri().path();
        if !ALONE.contains(&path) && !path.starts_with("/assets/") {
            let why = "not reached since the start".into();
            return Error::Store(StoreError::Unavailable(why)).into_response();
        }
    }
    next.run(request).await
}

/// Counts and logs a request by its route, never by its path: the path is the client's to choose.
pub(super) async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = clock::boot_us();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unknown", MatchedPath::as_str);

    let mut response = next.run(request).await;

    let (status, took) = (response.status(), clock::since_us(started));
    app.metrics.http(route, known(method.as_str()), status.as_u16(), took);
    if route == "/checkin" || route.starts_with("/checkin/") {
        app.metrics.checkin(status.as_u16());
    }
    let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    let status = status.as_u16();
    match response.extensions_mut().remove::<Told>() {
        // A 503 says that the database is away or the queue is full, which is logged once where it is found:
        // a line for each refused request would fill the disk.
        Some(told) if status == 503 => {
            let cause = told.cause.unwrap_or_default();
            tracing::debug!(%method, route, status, took_ms, cause, "{method} {route} answered {status}: {cause}");
        }
        Some(told) if status >= 500 => {
            let cause = told.cause.unwrap_or_default();
            tracing::warn!(%method, route, status, took_ms, cause, "{method} {route} answered {status}: {cause}");
        }
        // Asked every few seconds by whoever looks after the process, with the same answer.
        _ if PROBES.contains(&route) => {
            tracing::trace!(%method, route, status, took_ms, "{method} {route} answered {status}");
        }
        _ => tracing::debug!(%method, route, status, took_ms, "{method} {route} answered {status}"),
    }
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if app.loops.is_draining() {
        // The next request of this client goes to another replica.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A method as a label: a client may invent any number of others.
fn known(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" => method,
        _ => "other",
    }
}
