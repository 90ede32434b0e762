//! `POST /snooze`: pauses alerting.

use super::super::auth::Caller;
use super::super::error::Failure;
use super::super::json::Json;
use super::super::{App, Error};
use super::Done;
use crate::reservation::Invalid;
use crate::reservation::snooze::{Snooze, SnoozeDraft};
use crate::store::Snoozed;
use axum::extract::State;
use serde::de::{Deserialize, Deserializer, Visitor};
use std::fmt;
use std::sync::Arc;

/// A snooze. `duration` or `until`, not both.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SnoozeIn {
    /// The application.
    #[schema(example = "billing")]
    app: String,
    /// The part of it that is scheduled.
    #[schema(example = "nightly")]
    component: String,
    /// How long: a number of `time_units`, or text such as `2h`.
    #[schema(schema_with = length_schema)]
    #[serde(default)]
    duration: Option<Length>,
    /// `seconds`, `minutes` or `hours`, with a number.
    #[schema(example = "hours")]
    #[serde(default)]
    time_units: Option<String>,
    /// The end, RFC 3339.
    #[serde(default)]
    until: Option<String>,
    /// Why; at most 500 characters.
    #[serde(default)]
    reason: Option<String>,
    /// Who; the token's name if left out.
    #[serde(default)]
    by: Option<String>,
}

/// A number, or a length as text.
#[derive(Debug)]
pub(super) enum Length {
    /// Of `time_units`.
    Amount(i64),
    /// `2h`.
    Text(String),
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both;

        impl Visitor<'_> for Both {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a string such as \"2h\"")
            }

            fn visit_i64<E>(self, amount: i64) -> Result<Length, E> {
                Ok(Length::Amount(amount))
            }

            fn visit_u64<E>(self, amount: u64) -> Result<Length, E> {
                Ok(Length::Amount(i64::try_from(amount).unwrap_or(i64::MAX)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Length, E> {
                Ok(Length::Text(text.to_owned()))
            }
        }

        deserializer.deserialize_any(Both)
    }
}

/// A number or a string.
fn length_schema() -> utoipa::openapi::Schema {
    use utoipa::openapi::schema::{ObjectBuilder, Type};
    utoipa::openapi::OneOfBuilder::new()
        .item(ObjectBuilder::new().schema_type(Type::Integer).examples([10]))
        .item(ObjectBuilder::new().schema_type(Type::String).examples(["2h"]))
        .description(Some("How long: a number of `time_units`, or text such as `2h`."))
        .build()
        .into()
}

/// One line of text with at most `max` characters; empty counts as none.
fn line(field: &'static str, text: Option<&str>, max: usize) -> Result<Option<String>, Invalid> {
    let Some(text) = text.map(str::trim).filter(|t| !t.is_empty()) else { return Ok(None) };
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(field, "has a control character: write one line of plain text"));
    }
    if text.chars().count() > max {
        return Err(Invalid::new(field, format!("has more than {max} characters: shorten it")));
    }
    Ok(Some(text.to_owned()))
}

/// Pauses alerting; a later snooze replaces an earlier one.
///
/// Check-ins are recorded meanwhile and do not end it. Its end never alerts by itself.
#[utoipa::path(
    post, path = "/snooze", tag = "reservations", request_body = SnoozeIn,
    responses(
        (status = 200, description = "Stored.", body = Done,
         example = json!({"success": true, "message": "Application alerting paused: billing"})),
        (status = 400, description = "A field is wrong; the message names it.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 404, description = "No such reservation, or it is checked out.", body = Failure),
        (status = 409, description = "Its Kubernetes object pauses it already; the message names that.", body = Failure),
        (status = 413, description = "The body is larger than 64 kB.", body = Failure),
        (status = 503, description = "Not known to be stored; safe to repeat.", body = Failure),
    )
)]
pub(super) async fn snooze(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(wish): Json<SnoozeIn>,
) -> Result<axum::Json<Done>, Error> {
    let key = caller.job(&wish.app, &wish.component)?;
    let (amount, duration) = match wish.duration {
        Some(Length::Amount(0)) => {
            let why = "is zero: to end a snooze, POST /unsnooze; to begin one, give a length";
            return Err(Invalid::new("duration", why).into());
        }
        Some(Length::Amount(amount)) => (Some(amount), None),
        Some(Length::Text(text)) => (None, Some(text)),
        None => (None, None),
    };
    let reason = line("reason", wish.reason.as_deref(), 500)?;
    let by = line("by", wish.by.as_deref().or(caller.name()), 150)?;
    let draft = SnoozeDraft { amount, time_units: wish.time_units, duration, until: wish.until };
    let asked = Snooze::parse(&draft, app.store.now_ms().await?)?;
    let (length, absolute) = (asked.until_ms - asked.from_ms, draft.until.is_some());
    // The transaction's own clock decides; a moment that was asked for stays that moment.
    let until = |now_ms: i64| Snooze {
        from_ms: now_ms,
        until_ms: if absolute { asked.until_ms } else { now_ms.saturating_add(length) },
    };
    match app.store.snooze(&key, until, reason.as_deref(), by.as_deref()).await? {
        Snoozed::Yes(_) => Ok(Done::new(format!("Application alerting paused: {}", key.app.as_str()))),
        Snoozed::No => Err(Error::NotFound),
        Snoozed::Suspended(object) => Err(Error::Suspended(object)),
    }
}
