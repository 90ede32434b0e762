//! What stands in the address: names as path segments, filters as query parameters.

use super::auth::Caller;
use super::{App, Error};
use crate::reservation::{Invalid, JobKey, State};
use crate::store::Filter;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use std::sync::Arc;

/// Longest text to search for: databases limit the length of a pattern.
const SEARCH_MAX: usize = 200;

/// The reservation an address names, and the segment after it, if there is one.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// Which reservation.
    pub key: JobKey,
    /// `{signal}`.
    pub rest: Option<String>,
}

impl FromRequestParts<Arc<App>> for Named {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Error> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let segments =
            Path::<Vec<(String, String)>>::from_request_parts(parts, app).await.map_err(refused)?;
        let mut segments = segments.0.into_iter().map(|(_, segment)| segment);
        match (segments.next(), segments.next(), segments.next()) {
            (Some(app), Some(component), rest) => Ok(Self { key: caller.job(&app, &component)?, rest }),
            _ => Err(Error::Broken("a route names no reservation".into())),
        }
    }
}

fn refused(rejection: PathRejection) -> Error {
    let key = match &rejection {
        PathRejection::FailedToDeserializePathParams(e) => match e.kind() {
            ErrorKind::InvalidUtf8InPathParam { key } => Some(key.clone()),
            _ => None,
        },
        _ => None,
    };
    match key {
        Some(key) => {
            Error::Invalid(Invalid::new(key, "is not UTF-8 once decoded: percent-encode its UTF-8 bytes"))
        }
        None => Error::Broken(rejection.to_string()),
    }
}

/// Query parameters.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// All of them, whatever their names.
    pub(super) fn any(uri: &Uri) -> Self {
        let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// All of them, if their names are among `known`: a filter that is misspelt would show everything.
    pub(super) fn only(uri: &Uri, known: &[&str]) -> Result<Self, Error> {
        let query = Self::any(uri);
        for (n, (name, _)) in query.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let name: String = name.chars().take(60).collect();
                let why = format!("is not a parameter here; known are {}", known.join(", "));
                return Err(Invalid::new(name, why).into());
            }
            if query.0[..n].iter().any(|(other, _)| other == name) {
                return Err(Invalid::new(name.clone(), "is given twice: keep one").into());
            }
        }
        Ok(query)
    }

    /// The value of `name`; an empty one counts as none, as forms send those.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// `limit`: 1 to `max`, `usual` if not given.
    pub(super) fn limit(&self, usual: usize, max: usize) -> Result<usize, Error> {
        let Some(text) = self.text("limit") else { return Ok(usual) };
        match text.parse() {
            Ok(limit) if (1..=max).contains(&limit) => Ok(limit),
            _ => Err(Invalid::new("limit", format!("must be a whole number from 1 to {max}")).into()),
        }
    }

    /// `cursor`, as an earlier answer's `next` gave it.
    pub(super) fn cursor(&self) -> Result<Option<i64>, Error> {
        match self.text("cursor").map(str::parse) {
            None => Ok(None),
            Some(Ok(cursor)) => Ok(Some(cursor)),
            Some(Err(_)) => Err(bad_cursor()),
        }
    }

    /// Which reservations, of those `caller` may see.
    pub(super) fn filter(&self, caller: &Caller) -> Result<Filter, Error> {
        let text = |name| self.text(name).map(str::to_owned);
        if self.text("q").is_some_and(|q| q.chars().count() > SEARCH_MAX) {
            return Err(
                Invalid::new("q", format!("has more than {SEARCH_MAX} characters: shorten it")).into()
            );
        }
        let mut filter = Filter { app: text("app"), owner: text("owner"), q: text("q"), ..Filter::default() };
        filter.app_prefix = caller.prefix().map(str::to_owned);
        match self.text("state") {
            None => {}
            Some("bad") => filter.bad = true,
            Some("snoozed") => filter.snoozed = true,
            Some(word) => match State::parse(word) {
                Some(state) => filter.state = Some(state),
                None => {
                    let known = "waiting, on_time, late, failed, overrun, snoozed, bad";
                    return Err(Invalid::new("state", format!("must be one of {known}")).into());
                }
            },
        }
        Ok(filter)
    }
}

/// A cursor that no answer gave.
pub(super) fn bad_cursor() -> Error {
    Invalid::new("cursor", "is not one of ours: give the `next` of an earlier answer, or leave it out").into()
}

/// A run id: at most 100 characters, none of them a control character; empty counts as none.
pub(super) fn rid(text: Option<&str>) -> Result<String, Invalid> {
    let rid = text.unwrap_or_default();
    if rid.chars().count() > 100 {
        return Err(Invalid::new("rid", "has more than 100 characters: a UUID is a good run id"));
    }
    if rid.chars().any(char::is_control) {
        return Err(Invalid::new("rid", "has a control character: a UUID is a good run id"));
    }
    Ok(rid.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn query(text: &str) -> Result<Query, Error> {
        Query::only(&format!("/x?{text}").parse().unwrap(), &["limit", "cursor", "q"])
    }

    #[rstest]
    #[case::unknown("ap=x")]
    #[case::twice("q=a&q=b")]
    fn a_filter_that_is_misspelt_or_doubled_is_refused(#[case] text: &str) {
        assert!(query(text).is_err());
    }

    #[rstest]
    #[case("", Some(5))]
    #[case("limit=", Some(5))]
    #[case("limit=10", Some(10))]
    #[case("limit=0", None)]
    #[case("limit=11", None)]
    #[case("limit=-1", None)]
    #[case("limit=x", None)]
    #[case("limit=99999999999999999999", None)]
    fn a_limit_is_a_number_in_its_range(#[case] text: &str, #[case] limit: Option<usize>) {
        assert_eq!(query(text).unwrap().limit(5, 10).ok(), limit);
    }

    #[rstest]
    #[case(None, true)]
    #[case(Some("018f-run 7".into()), true)]
    #[case(Some("x".repeat(100)), true)]
    #[case(Some("x".repeat(101)), false)]
    #[case(Some("a\nb".into()), false)]
    #[case(Some("a\0".into()), false)]
    fn a_run_id_is_short_and_printable(#[case] text: Option<String>, #[case] good: bool) {
        assert_eq!(rid(text.as_deref()).is_ok(), good);
    }
}
