//! The one error of the HTTP edge: what the client is told, and what only the log is told.
//!
//! Promises: the cause of a 5xx is logged once, by [`super::observe`], and never shown.

use crate::checkin::Refusal;
use crate::reservation::Invalid;
use crate::store::{ObjectId, StoreError};
use axum::Json;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

/// Why a request was not done.
#[derive(Debug)]
pub enum Error {
    /// A field is wrong.
    Invalid(Invalid),
    /// The request as a whole is wrong; the text says what would be right.
    Bad(String),
    /// No token, or one that is not known.
    Unauthorized {
        /// Whether a token came with the request.
        presented: bool,
        /// Whether to offer the browser's own dialogue.
        browser: bool,
    },
    /// Known, but not allowed to do this.
    Forbidden(String),
    /// No such reservation.
    NotFound,
    /// It belongs to a Kubernetes object, which alone may do this.
    Owned(ObjectId),
    /// It is paused by its Kubernetes object.
    Suspended(ObjectId),
    /// No such address.
    UnknownPath,
    /// The address exists, for other methods.
    Method,
    /// The body is too large.
    TooLarge(usize),
    /// The request did not arrive in time.
    Slow,
    /// The store failed.
    Store(StoreError),
    /// The check-in was not stored, as far as we know.
    Refused(Refusal),
    /// A bug.
    Broken(String),
}

/// An error as told, for the page that tells it in HTML and for the log.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// What the client reads.
    pub message: String,
    /// What only the log reads.
    pub cause: Option<String>,
}

/// The body of every answer that is not a success.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Failure {
    /// Always `false`.
    #[schema(example = false)]
    pub success: bool,
    /// What is wrong, and what would be right.
    #[schema(example = "frequency: expected a whole number, got the string \"5\"; write 5 without quotes")]
    pub message: String,
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            other => Self::Refused(other),
        }
    }
}

const BUSY: &str =
    "the database is not available: nothing is known to be stored; the request is safe to repeat";
const NOT_FOUND: &str = "there is no such reservation, or it is checked out; make it with POST /reservation";

impl Error {
    fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound | Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::Owned(_) | Self::Suspended(_) => StatusCode::CONFLICT,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Refused(Refusal::NotFound) => StatusCode::NOT_FOUND,
            Self::Store(StoreError::Data(_)) | Self::Refused(Refusal::Data(_)) => StatusCode::BAD_REQUEST,
            Self::Store(
                StoreError::Unavailable(_)
                | StoreError::ReadOnly(_)
                | StoreError::Timeout(..)
                | StoreError::Contended(_)
                | StoreError::Schema(_),
            )
            | Self::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) | Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Invalid(invalid) => invalid.to_string(),
            Self::Bad(text) | Self::Forbidden(text) => text.clone(),
            Self::Unauthorized { presented: false, .. } => {
                "a token is needed: send the header `Authorization: Bearer <token>`".into()
            }
            Self::Unauthorized { .. } => {
                "this token is not known here: check `Authorization: Bearer <token>`".into()
            }
            Self::NotFound | Self::Refused(Refusal::NotFound) => NOT_FOUND.into(),
            Self::Owned(o) => format!(
                "this reservation belongs to the Kubernetes object {}/{} in cluster {}: change or delete that (kubectl \
                 -n {} edit reservations.gotel.dev {})",
                o.namespace, o.name, o.cluster, o.namespace, o.name
            ),
            Self::Suspended(o) => format!(
                "alerting is paused already, by `suspend` of the Kubernetes object {}/{} in cluster {}: change that",
                o.namespace, o.name, o.cluster
            ),
            Self::UnknownPath => {
                "there is nothing at this address: see /openapi.json for what there is".into()
            }
            Self::Method => {
                "this address does not take this method: the Allow header lists those it takes".into()
            }
            Self::TooLarge(limit) => {
                format!("the body is larger than {} kB: send less", limit / 1024)
            }
            Self::Slow => "the request did not arrive, or was not done, within 30 s: repeat it".into(),
            Self::Store(StoreError::Data(_)) => "the database cannot hold this: shorten the texts".into(),
            Self::Store(StoreError::Schema(_)) => {
                "the database's schema is not the one this program knows: run `gotel migrate`".into()
            }
            Self::Store(
                StoreError::Unavailable(_)
                | StoreError::ReadOnly(_)
                | StoreError::Timeout(..)
                | StoreError::Contended(_),
            )
            | Self::Refused(Refusal::Late | Refusal::Unavailable) => BUSY.into(),
            Self::Refused(Refusal::Data(_)) => {
                "notes: the database cannot hold this check-in: shorten them".into()
            }
            Self::Refused(Refusal::Full) => "too many check-ins are waiting: not stored, repeat it".into(),
            Self::Refused(Refusal::Draining) => "this replica is shutting down: not stored, repeat it".into(),
            Self::Store(_) | Self::Broken(_) => "GoTel failed here: the cause is in its log".into(),
        }
    }

    fn cause(&self) -> Option<String> {
        match self {
            Self::Store(error) => Some(error.to_string()),
            Self::Refused(refusal) => Some(refusal.to_string()),
            Self::Broken(text) => Some(text.clone()),
            _ => None,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut headers = HeaderMap::new();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            // Spread, so that a crowd refused at once does not come back at once.
            headers.insert(RETRY_AFTER, HeaderValue::from(fastrand::u16(1..=3)));
        }
        if let Self::Unauthorized { presented, browser } = self {
            let challenge = match (browser, presented) {
                (true, _) => r#"Basic realm="GoTel: any user name, the token as password", charset="UTF-8""#,
                (false, true) => r#"Bearer realm="gotel", error="invalid_token""#,
                (false, false) => r#"Bearer realm="gotel""#,
            };
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        let message = self.message();
        let body = Json(Failure { success: false, message: message.clone() });
        let mut response = (status, headers, body).into_response();
        response.extensions_mut().insert(Told { message, cause: self.cause() });
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::time::Duration;

    #[rstest]
    #[case::busy(Error::Store(StoreError::Contended("secret".into())), 503)]
    #[case::timeout(Error::Store(StoreError::Timeout(Duration::from_secs(1), "secret")), 503)]
    #[case::down(Error::Store(StoreError::Unavailable("secret".into())), 503)]
    #[case::read_only(Error::Store(StoreError::ReadOnly("secret".into())), 503)]
    #[case::schema(Error::Store(StoreError::Schema("secret".into())), 503)]
    #[case::data(Error::Store(StoreError::Data("secret".into())), 400)]
    #[case::bug(Error::Store(StoreError::Other("secret".into())), 500)]
    #[case::full(Error::from(Refusal::Full), 503)]
    #[case::late(Error::from(Refusal::Late), 503)]
    #[case::draining(Error::from(Refusal::Draining), 503)]
    #[case::unavailable(Error::from(Refusal::Unavailable), 503)]
    #[case::item(Error::from(Refusal::Data("secret".into())), 400)]
    #[case::unknown(Error::from(Refusal::NotFound), 404)]
    #[case::panic(Error::Broken("secret".into()), 500)]
    fn a_failure_has_its_code_and_keeps_its_cause_to_itself(#[case] error: Error, #[case] code: u16) {
        let response = error.into_response();
        assert_eq!(response.status(), code);
        assert_eq!(response.headers().contains_key(RETRY_AFTER), code == 503);
        let told = response.extensions().get::<Told>().map(|t| t.message.clone()).unwrap_or_default();
        assert!(!told.is_empty() && !told.contains("secret"), "{told}");
    }
}
