//! The pages: server-rendered, without scripts, useful on a phone.
//!
//! Promises: every text of a client is escaped (askama), nothing is loaded from elsewhere, a state is
//! told by word and shape and never by colour alone, and an error is a page too, with its true code.
//! They come again every 30 s by themselves, unless `?refresh=off` says not to.

pub(super) mod assets;
mod badge;
mod badguests;
mod guest;
mod incident;
mod moment;
mod nodes;
mod status;

use super::auth::Scope;
use super::error::Told;
use super::guard::{Gate, guard};
use super::params::Query;
use super::{App, Error};
use askama::Template;
use axum::Router;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, REFRESH};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use std::sync::Arc;

/// Seconds between two looks.
const REFRESH_S: &str = "30";

/// All pages.
pub(super) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let gate = Gate { app: Arc::clone(app), scope: Scope::Read };
    Router::new()
        .route("/", get(async || Redirect::temporary("/status")))
        .route("/status", get(status::status))
        .route("/status/{app}/{component}", get(guest::guest))
        .route("/badguests", get(badguests::badguests))
        .route("/nodes", get(nodes::nodes))
        .route_layer(from_fn_with_state(gate, guard))
        .route_layer(from_fn(as_page))
}

/// What every page has around its content.
struct Frame {
    /// The page, for the navigation.
    here: &'static str,
    /// As of when; empty when the database did not say.
    now: String,
    /// The link that stops, or starts again, the reloading.
    toggle: String,
    /// Whether the page comes again by itself.
    refreshes: bool,
}

impl Frame {
    fn new(here: &'static str, uri: &Uri, now_ms: Option<i64>) -> Self {
        let refreshes = refreshes(uri);
        let mut pairs: Vec<_> = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
            .filter(|(name, _)| name != "refresh")
            .collect();
        if refreshes {
            pairs.push(("refresh".into(), "off".into()));
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let toggle = if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) };
        Self { here, now: now_ms.map(moment::absolute).unwrap_or_default(), toggle, refreshes }
    }

    fn css(&self) -> &'static str {
        assets::css()
    }

    fn icon(&self) -> &'static str {
        assets::icon()
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

fn refreshes(uri: &Uri) -> bool {
    Query::any(uri).text("refresh") != Some("off")
}

/// Renders; a template writes to memory only, so it fails only by a bug.
fn html(template: &impl Template) -> Result<Response, Error> {
    match template.render() {
        Ok(text) => Ok(Html(text).into_response()),
        Err(e) => Err(Error::Broken(format!("a page cannot be rendered: {e}"))),
    }
}

/// An error, as a page.
#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage {
    frame: Frame,
    title: &'static str,
    message: String,
    code: u16,
}

/// Headers of a page, and the page of an error.
async fn as_page(request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    let mut response = next.run(request).await;
    let status = response.status();
    if let Some(told) = response.extensions().get::<Told>() {
        let title = match status {
            StatusCode::SERVICE_UNAVAILABLE => "The database does not answer",
            StatusCode::NOT_FOUND => "No such guest",
            StatusCode::UNAUTHORIZED => "Who is there?",
            StatusCode::FORBIDDEN => "Not with this token",
            _ if status.is_server_error() => "Something broke",
            _ => "That did not work",
        };
        let frame = Frame::new("", &uri, None);
        let page = FailurePage { frame, title, message: told.message.clone(), code: status.as_u16() };
        if let Ok(text) = page.render() {
            *response.body_mut() = text.into();
            response.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, html);
        }
    }
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if refreshes(&uri) && (status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(REFRESH, HeaderValue::from_static(REFRESH_S));
    }
    response
}

/// The address people use, for lines to copy.
fn base(app: &App, headers: &HeaderMap) -> String {
    app.external_url.clone().unwrap_or_else(|| {
        let host = headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or("127.0.0.1:8080");
        // Nothing but what a host may have goes into a line that people paste into a shell.
        let clean = host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]_".contains(c));
        format!("http://{}", if clean { host } else { "127.0.0.1:8080" })
    })
}

/// The header of a token, for lines to copy, with a space after it; "" on an open server.
fn auth(app: &App) -> &'static str {
    if app.auth.is_open() { "" } else { "-H \"Authorization: Bearer $GOTEL_TOKEN\" " }
}

/// A name as a path segment.
fn segment(name: &str) -> String {
    name.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// The page of a reservation.
fn href(app: &str, component: &str) -> String {
    format!("/status/{}/{}", segment(app), segment(component))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_is_a_page_that_comes_again_and_keeps_its_code() {
        use crate::store::StoreError;
        use tower::ServiceExt;

        let down = async || -> Result<(), Error> { Err(StoreError::Unavailable("secret".into()).into()) };
        let router: Router = Router::new().route("/status", get(down)).route_layer(from_fn(as_page));
        let request = Request::get("/status").body(axum::body::Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(response.headers()[REFRESH], "30");
        let body = axum::body::to_bytes(response.into_body(), 100_000).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("The database does not answer") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn a_name_becomes_one_segment_whatever_is_in_it() {
        assert_eq!(href("a/b c", "é'\"<"), "/status/a%2Fb%20c/%C3%A9%27%22%3C");
    }

    #[test]
    fn the_refresh_link_keeps_the_filters() {
        let on = Frame::new("status", &"/status?q=a%26b&state=late".parse().unwrap(), None);
        assert_eq!((on.refreshes, on.toggle.as_str()), (true, "/status?q=a%26b&state=late&refresh=off"));
        let off = Frame::new("status", &on.toggle.parse().unwrap(), None);
        assert_eq!((off.refreshes, off.toggle.as_str()), (false, "/status?q=a%26b&state=late"));
    }
}
