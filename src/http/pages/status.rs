//! `/status`: all reservations at a glance.

use super::super::auth::Caller;
use super::super::params::Query;
use super::super::{App, Error};
use super::badge::{self, Badge};
use super::moment::Moment;
use super::{Frame, auth, base, href, html};
use crate::reservation::outage::Outage;
use crate::reservation::{State as JobState, deadline};
use crate::store::{Filter, ReservationView, Tally};
use askama::Template;
use axum::extract::{OriginalUri, State};
use axum::http::HeaderMap;
use axum::response::Response;
use std::sync::Arc;

/// Reservations on one page.
const PAGE: usize = 100;

#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage {
    frame: Frame,
    rows: Vec<Row>,
    chips: Vec<Chip>,
    /// All reservations that the search matches, whatever their state.
    total: i64,
    bad: i64,
    q: String,
    state: String,
    /// Whether anything narrows the list.
    filtered: bool,
    next: Option<String>,
    first: Option<String>,
    base: String,
    /// The header of a token, with a space after it, where one is asked for.
    auth: &'static str,
}

/// One reservation.
pub(super) struct Row {
    pub app: String,
    pub component: String,
    pub href: String,
    pub badge: Badge,
    pub snoozed: Option<Moment>,
    pub schedule: String,
    pub last: Option<Moment>,
    pub due: Option<Moment>,
    /// Whether the deadline has passed.
    pub overdue: bool,
    pub owner: String,
    pub unreadable: Option<String>,
}

/// A link that narrows the list to one state.
struct Chip {
    word: &'static str,
    class: &'static str,
    count: i64,
    href: String,
    here: bool,
}

impl Row {
    pub(super) fn new(view: &ReservationView, outages: &[Outage], now_ms: i64) -> Self {
        let settings = view.settings.as_ref();
        let due_ms =
            settings.ok().and_then(|s| deadline::deadline(s, &view.evidence, outages).ok()).map(|d| d.at_ms);
        let snooze = view.evidence.snooze.filter(|s| s.active(now_ms));
        Self {
            app: view.app.clone(),
            component: view.component.clone(),
            href: href(&view.app, &view.component),
            badge: badge::state(view.state),
            snoozed: snooze.map(|s| Moment::new(s.until_ms, now_ms)),
            schedule: settings.map_or_else(|_| "unreadable".into(), |s| s.schedule.describe()),
            last: view.evidence.last_ok_ms.map(|ms| Moment::new(ms, now_ms)),
            due: due_ms.map(|ms| Moment::new(ms, now_ms)),
            overdue: due_ms.is_some_and(|ms| ms < now_ms) && snooze.is_none(),
            owner: settings.map_or_else(|_| String::new(), |s| s.owner.clone()),
            unreadable: settings.err().cloned(),
        }
    }
}

/// An address of this page: the search stays, what is given is set.
fn link(query: &Query, set: &[(&str, &str)]) -> String {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for name in ["q", "app", "owner", "refresh"] {
        pairs.extend(query.text(name).map(|value| (name, value)));
    }
    pairs.extend(set.iter().filter(|(_, value)| !value.is_empty()));
    let text = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    if text.is_empty() { "/status".into() } else { format!("/status?{text}") }
}

fn chips(tally: &Tally, query: &Query) -> Vec<Chip> {
    let of = |state| tally.by_state.iter().find(|(s, _)| *s == state).map_or(0, |(_, n)| *n);
    let total = tally.by_state.iter().map(|(_, n)| n).sum();
    let here = query.text("state").unwrap_or_default();
    let chip = |word, class, count, state: &str| Chip {
        word,
        class,
        count,
        href: link(query, &[("state", state)]),
        here: here == state,
    };
    let mut chips = vec![chip("All", "all", total, "")];
    for state in [JobState::Late, JobState::Failed, JobState::Overrun, JobState::OnTime, JobState::Waiting] {
        let shown = badge::state(state);
        chips.push(chip(shown.word, shown.class, of(state), state.as_str()));
    }
    chips.push(chip(badge::SNOOZED.word, badge::SNOOZED.class, tally.snoozed, "snoozed"));
    chips
}

/// All reservations; those in trouble first, then by name.
pub(super) async fn status(
    State(app): State<Arc<App>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let query = Query::any(&uri);
    let filter = query.filter(&caller)?;
    let after = query.text("after_app").zip(query.text("after_component"));
    let tally = app.store.tally(&filter).await?;
    let outages = app.store.outages().await?;
    let (page, more) = app.store.list_by_name(&filter, after, PAGE).await?;
    let now_ms = page.now_ms;

    let mut views = Vec::with_capacity(page.items.len());
    // On the first page of an unnarrowed list, those in trouble come first, wherever their names stand.
    let narrowed = filter.state.is_some() || filter.bad || filter.snoozed;
    if after.is_none() && !narrowed && tally.bad > 0 {
        let bad = Filter { bad: true, ..filter.clone() };
        views = app.store.list_by_name(&bad, None, PAGE).await?.0.items;
    }
    let state = query.text("state").unwrap_or_default();
    let next = page.items.last().filter(|_| more).map(|last| {
        link(&query, &[("state", state), ("after_app", &last.app), ("after_component", &last.component)])
    });
    for view in page.items {
        if !views.iter().any(|seen| seen.id == view.id) {
            views.push(view);
        }
    }
    let page = StatusPage {
        frame: Frame::new("status", &uri, Some(now_ms)),
        rows: views.iter().map(|view| Row::new(view, &outages, now_ms)).collect(),
        chips: chips(&tally, &query),
        total: tally.by_state.iter().map(|(_, n)| n).sum(),
        bad: tally.bad,
        q: query.text("q").unwrap_or_default().to_owned(),
        state: state.to_owned(),
        filtered: !state.is_empty() || ["q", "app", "owner"].iter().any(|name| query.text(name).is_some()),
        next,
        first: after.map(|_| link(&query, &[("state", state)])),
        base: base(&app, &headers),
        auth: auth(&app),
    };
    html(&page)
}
