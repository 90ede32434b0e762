//! The gate in front of every route that is not open to all: who calls, and whether they may.
//!
//! Promises: decided before the body is read and before anything is looked up. What a browser sends on
//! behalf of another site is refused wherever something would change, so that an open server on
//! loopback and a browser that remembers a password cannot be used by a stranger's page.

use super::auth::{Caller, Scope};
use super::{App, Error};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;

/// What a group of routes asks for.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub app: Arc<App>,
    pub scope: Scope,
}

/// Lets a request through, with its [`Caller`], or answers it.
pub(super) async fn guard(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    match admit(&gate, request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

fn admit(gate: &Gate, headers: &HeaderMap) -> Result<Caller, Error> {
    let token = presented(headers, gate.scope);
    let Some(caller) = gate.app.auth.caller(token.as_deref()) else {
        let browser = gate.scope == Scope::Read && prefers_html(headers);
        return Err(Error::Unauthorized { presented: token.is_some(), browser });
    };
    caller.has(gate.scope)?;
    if gate.scope != Scope::Read && is_cross_site(headers) {
        return Err(Error::Forbidden(
            "a browser sent this on behalf of another site: open GoTel's own pages, or use curl".into(),
        ));
    }
    Ok(caller)
}

/// The token of a request: `Bearer`, or, where nothing can be changed, the password of `Basic`, so that
/// a browser can show the pages.
fn presented(headers: &HeaderMap, scope: Scope) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") && scope == Scope::Read {
        let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
        return decoded.split_once(':').map(|(_, password)| password.to_owned());
    }
    None
}

/// Whether the answer is for a person.
fn prefers_html(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains("text/html"))
}

/// Whether a browser says, or shows, that another site caused this request. Other clients say neither.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    match (text("sec-fetch-site"), text(ORIGIN.as_str())) {
        (Some("same-origin" | "none"), _) | (None, None) => false,
        (Some(_), _) => true,
        (None, Some(origin)) => {
            let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
            text(HOST.as_str()) != Some(authority)
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Error::Broken("a route that asks for a caller has no gate".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    #[rstest]
    #[case::curl(&[], false)]
    #[case::own_page(&[("sec-fetch-site", "same-origin")], false)]
    #[case::typed_address(&[("sec-fetch-site", "none")], false)]
    #[case::other_site(&[("sec-fetch-site", "cross-site")], true)]
    #[case::sister_site(&[("sec-fetch-site", "same-site")], true)]
    #[case::old_browser(&[("origin", "https://evil.example"), ("host", "localhost:8080")], true)]
    #[case::old_browser_at_home(&[("origin", "http://localhost:8080"), ("host", "localhost:8080")], false)]
    #[case::sandboxed(&[("origin", "null"), ("host", "localhost:8080")], true)]
    fn a_request_that_another_site_caused_is_recognised(
        #[case] pairs: &[(&'static str, &'static str)],
        #[case] cross: bool,
    ) {
        assert_eq!(is_cross_site(&headers(pairs)), cross);
    }

    #[rstest]
    #[case::bearer("Bearer abc", Scope::Reserve, Some("abc"))]
    #[case::any_case("bEARER abc", Scope::Reserve, Some("abc"))]
    #[case::basic_for_reading("Basic YW55OmE6Yg==", Scope::Read, Some("a:b"))]
    #[case::basic_changes_nothing("Basic YW55OmFiYw==", Scope::Reserve, None)]
    #[case::no_base64("Basic ***", Scope::Read, None)]
    #[case::not_utf8("Basic //8=", Scope::Read, None)]
    #[case::no_scheme("abc", Scope::Read, None)]
    fn a_token_comes_as_bearer_and_for_reading_as_password(
        #[case] value: &'static str,
        #[case] scope: Scope,
        #[case] token: Option<&str>,
    ) {
        assert_eq!(presented(&headers(&[("authorization", value)]), scope).as_deref(), token);
    }
}
