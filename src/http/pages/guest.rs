//! `/status/{app}/{component}`: one reservation, what comes next, and its history.

use super::super::api::{RECENT, UPCOMING};
use super::super::params::Named;
use super::super::time::exact;
use super::super::{App, Error};
use super::badge::{self, Badge};
use super::incident::Incident;
use super::moment::Moment;
use super::status::Row;
use super::{Frame, auth, base, html, segment};
use crate::reservation::duration::human;
use crate::reservation::{Settings, deadline};
use crate::store::{CheckInView, ObjectId, RunView};
use askama::Template;
use axum::extract::{OriginalUri, State};
use axum::http::HeaderMap;
use axum::response::Response;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "guest.html")]
struct GuestPage {
    frame: Frame,
    row: Row,
    snooze_reason: Option<String>,
    snooze_by: Option<String>,
    /// Whose it is, if a Kubernetes object's.
    object: Option<ObjectId>,
    checkins_total: i64,
    /// What was agreed: words and values.
    agreed: Vec<(&'static str, String)>,
    upcoming: Vec<Moment>,
    checkins: Vec<CheckIn>,
    runs: Vec<Run>,
    open: Option<Incident>,
    closed: Vec<Incident>,
    curl: String,
}

struct CheckIn {
    badge: Badge,
    at: Moment,
    exit_code: Option<u8>,
    rid: Option<String>,
    note: Option<String>,
}

struct Run {
    badge: Badge,
    started: Moment,
    took: Option<String>,
    exit_code: Option<u8>,
    rid: String,
}

/// One reservation.
pub(super) async fn guest(
    State(app): State<Arc<App>>,
    named: Named,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let (view, now_ms) = app.store.reservation(&named.key).await?.ok_or(Error::NotFound)?;
    let outages = app.store.outages().await?;
    let checkins = app.store.checkins(view.id, None, RECENT).await?;
    let runs = app.store.runs(view.id, RECENT).await?;
    let incidents = app.store.incidents(view.id, RECENT).await?;
    let settings = view.settings.as_ref().ok();
    let upcoming =
        settings.map_or_else(Vec::new, |s| deadline::upcoming(s, &view.evidence, now_ms, UPCOMING));
    let (open, closed): (Vec<_>, Vec<_>) = incidents.iter().partition(|i| i.closed_ms.is_none());
    let page = GuestPage {
        frame: Frame::new("status", &uri, Some(now_ms)),
        row: Row::new(&view, &outages, now_ms),
        snooze_reason: view.snooze_reason.clone(),
        snooze_by: view.snooze_by.clone(),
        object: view.object.clone(),
        checkins_total: view.evidence.checkins,
        agreed: settings.map(agreed).unwrap_or_default(),
        upcoming: upcoming.into_iter().map(|ms| Moment::new(ms, now_ms)).collect(),
        checkins: checkins.items.iter().map(|c| CheckIn::new(c, now_ms)).collect(),
        runs: runs.iter().map(|r| Run::new(r, now_ms)).collect(),
        open: open.first().map(|i| Incident::new(i, now_ms)),
        closed: closed.into_iter().map(|i| Incident::new(i, now_ms)).collect(),
        curl: format!(
            "curl -fsS -m 10 --retry 5 {}'{}/checkin/{}/{}'",
            auth(&app),
            base(&app, &headers),
            segment(&view.app),
            segment(&view.component)
        ),
    };
    html(&page)
}

fn agreed(s: &Settings) -> Vec<(&'static str, String)> {
    let mut list = vec![("Schedule", s.schedule.describe())];
    if s.grace_ms > 0 {
        list.push(("Grace", exact(s.grace_ms)));
    }
    list.extend(s.first_within_ms.map(|ms| ("First within", exact(ms))));
    list.extend(s.max_runtime_ms.map(|ms| ("Longest run", exact(ms))));
    if s.tolerance > 1 {
        list.push(("Tolerance", format!("{} misses", s.tolerance)));
    }
    list.push((
        "Reminder",
        if s.realert_ms == 0 { "never".into() } else { format!("every {}", exact(s.realert_ms)) },
    ));
    let or_default =
        |names: &[String]| if names.is_empty() { "the default ones".into() } else { names.join(", ") };
    list.push(("Alerters", or_default(&s.alerters)));
    for step in &s.escalation {
        list.push(("Escalation", format!("after {}: {}", exact(step.after_ms), step.alerters.join(", "))));
    }
    if !s.owner.is_empty() {
        list.push(("Owner", s.owner.clone()));
    }
    if !s.notify.entries().is_empty() {
        list.push(("Notify", s.notify.entries().join(", ")));
    }
    list.extend(s.alert_msg.clone().map(|text| ("Message", text)));
    for (key, value) in &s.labels {
        list.push(("Label", format!("{key} = {value}")));
    }
    list
}

impl CheckIn {
    fn new(view: &CheckInView, now_ms: i64) -> Self {
        Self {
            badge: badge::kind(&view.kind),
            at: Moment::new(view.at_ms, now_ms),
            exit_code: view.exit_code,
            rid: view.rid.clone().filter(|rid| !rid.is_empty()),
            note: view.note.clone().filter(|note| !note.is_empty()),
        }
    }
}

impl Run {
    fn new(view: &RunView, now_ms: i64) -> Self {
        Self {
            badge: badge::outcome(view.outcome.as_deref().or(view.ended_ms.map(|_| "ok"))),
            started: Moment::new(view.started_ms, now_ms),
            took: view.ended_ms.map(|ended| human(ended - view.started_ms)),
            exit_code: view.exit_code,
            rid: view.rid.clone(),
        }
    }
}
