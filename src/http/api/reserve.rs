//! `POST /reservation`: makes a reservation, or changes it.

use super::super::auth::Caller;
use super::super::error::Failure;
use super::super::json::Json;
use super::super::{App, Error};
use crate::reservation::settings::DraftEscalation;
use crate::reservation::{Draft, Settings};
use crate::store::Reserved;
use axum::extract::State;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A reservation as asked for. `frequency` with `time_units`, `every` or `cron`: one of the three.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReservationIn {
    /// The application: 1 to 150 characters; `gotel` is reserved.
    #[schema(example = "billing")]
    app: String,
    /// The part of it that is scheduled: 1 to 150 characters.
    #[schema(example = "nightly")]
    component: String,
    /// Who answers for it.
    #[schema(example = "jane@example.org")]
    owner: Option<String>,
    /// Whom to tell: a comma-separated string or a list; at most 20.
    #[schema(schema_with = notify_schema)]
    notify: Option<TextOrList>,
    /// A check-in at least each so many `time_units`.
    #[schema(example = 5)]
    frequency: Option<i64>,
    /// `seconds`, `minutes` or `hours`.
    #[schema(example = "minutes")]
    time_units: Option<String>,
    /// The same as text: `5m`, `1h30m`.
    every: Option<String>,
    /// Five cron fields: `30 2 * * *`.
    cron: Option<String>,
    /// IANA zone of `cron`; UTC if left out.
    time_zone: Option<String>,
    /// How much later than expected is still in time: 0 for `every`, 1 h for `cron`.
    grace: Option<String>,
    /// How soon the first check-in must come.
    first_within: Option<String>,
    /// How long a run may take, from its start signal.
    max_runtime: Option<String>,
    /// How many misses in a row are an incident; 1 if left out.
    tolerance: Option<i64>,
    /// How often an open incident is told again: 6 h if left out, `0s` = never.
    realert: Option<String>,
    /// Names of configured alerters; the default ones if left out.
    alerters: Option<Vec<String>>,
    /// Who hears of it later.
    escalation: Option<Vec<EscalationIn>>,
    /// Text of the alert, with placeholders such as `{app}`.
    alert_msg: Option<String>,
    /// Free labels, passed on to the alerters.
    labels: Option<BTreeMap<String, String>>,
}

/// One step of an escalation.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct EscalationIn {
    /// After the alert: `30m`.
    after: String,
    /// Names of configured alerters.
    alerters: Vec<String>,
}

/// A comma-separated string, or a list of strings.
#[derive(Debug)]
pub(super) struct TextOrList(Vec<String>);

fn notify_schema() -> utoipa::openapi::Schema {
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
    let text = || ObjectBuilder::new().schema_type(Type::String);
    utoipa::openapi::OneOfBuilder::new()
        .item(text().examples(["jane@example.org,ops@example.org"]))
        .item(ArrayBuilder::new().items(text()).max_items(Some(20)))
        .description(Some("Whom to tell: a comma-separated string or a list; at most 20."))
        .build()
        .into()
}

impl<'de> Deserialize<'de> for TextOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both;

        impl<'de> Visitor<'de> for Both {
            type Value = TextOrList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a comma-separated string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<TextOrList, E> {
                Ok(TextOrList(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<TextOrList, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    list.push(entry);
                }
                Ok(TextOrList(list))
            }
        }

        deserializer.deserialize_any(Both)
    }
}

impl ReservationIn {
    fn draft(self) -> Draft {
        // Clients of GoTel 0.1 send "" for what they leave open.
        let text = |text: Option<String>| text.filter(|t| !t.is_empty());
        Draft {
            frequency: self.frequency,
            time_units: text(self.time_units),
            every: text(self.every),
            cron: text(self.cron),
            time_zone: text(self.time_zone),
            grace: text(self.grace),
            first_within: text(self.first_within),
            max_runtime: text(self.max_runtime),
            tolerance: self.tolerance,
            realert: text(self.realert),
            alerters: self.alerters,
            escalation: self.escalation.map(|steps| {
                steps.into_iter().map(|s| DraftEscalation { after: s.after, alerters: s.alerters }).collect()
            }),
            alert_msg: text(self.alert_msg),
            owner: self.owner,
            notify: self.notify.map(|list| list.0),
            labels: self.labels,
        }
    }
}

/// Makes a reservation, or changes it.
///
/// Repeating it with the same settings changes nothing. A change of the schedule never alerts by itself.
/// After a checkout it begins anew.
#[utoipa::path(
    post, path = "/reservation", tag = "reservations", request_body = ReservationIn,
    responses(
        (status = 200, description = "Stored.", body = String, example = json!("OK")),
        (status = 400, description = "A field is wrong; the message names it.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 409, description = "It belongs to a Kubernetes object; the message names it.", body = Failure),
        (status = 413, description = "The body is larger than 64 kB.", body = Failure),
        (status = 503, description = "Not known to be stored; safe to repeat.", body = Failure),
    )
)]
pub(super) async fn reserve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(wish): Json<ReservationIn>,
) -> Result<axum::Json<&'static str>, Error> {
    let key = caller.job(&wish.app, &wish.component)?;
    let settings = Settings::parse(&wish.draft(), &app.routes.names(), app.store.now_ms().await?)?;
    match app.store.reserve(&key, &settings).await? {
        Reserved::Owned(object) => Err(Error::Owned(object)),
        Reserved::Created | Reserved::Updated | Reserved::Unchanged => Ok(axum::Json("OK")),
    }
}
