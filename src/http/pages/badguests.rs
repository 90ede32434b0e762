//! `/badguests`: what is wrong now, whom we told, and whether it arrived.

use super::super::auth::Caller;
use super::super::{App, Error};
use super::incident::Incident;
use super::status::Row;
use super::{Frame, html};
use crate::store::{Filter, IncidentView};
use askama::Template;
use axum::extract::{OriginalUri, State};
use axum::response::Response;
use std::sync::Arc;

/// Guests on the page; the status page lists the rest.
const MAX: usize = 200;

#[derive(Template)]
#[template(path = "badguests.html")]
struct BadGuestsPage {
    frame: Frame,
    /// GoTel's own incidents: component and incident.
    system: Vec<(String, Incident)>,
    guests: Vec<Guest>,
    more: bool,
}

/// One guest in trouble.
struct Guest {
    row: Row,
    /// None: noticed a moment ago, the incident is being opened.
    incident: Option<Incident>,
}

/// Late, failed and overrun reservations, and those with an open incident.
pub(super) async fn badguests(
    State(app): State<Arc<App>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Error> {
    let app_prefix = caller.prefix().map(str::to_owned);
    let filter = Filter { bad: true, app_prefix, ..Filter::default() };
    let (page, more) = app.store.list_by_name(&filter, None, MAX).await?;
    let ids: Vec<_> = page.items.iter().filter_map(|view| Some(view.incident.as_ref()?.0.clone())).collect();
    let incidents = app.store.incidents_by_id(&ids).await?;
    let outages = app.store.outages().await?;
    // GoTel's own trouble concerns those who see everything.
    let system = match caller.prefix() {
        None => app.store.system_incidents().await?,
        Some(_) => Vec::new(),
    };
    let now_ms = page.now_ms;
    let of = |id: &str| incidents.iter().find(|i: &&IncidentView| i.id == id);
    let guests = page.items.iter().map(|view| Guest {
        row: Row::new(view, &outages, now_ms),
        incident: view.incident.as_ref().and_then(|(id, _)| of(id)).map(|i| Incident::new(i, now_ms)),
    });
    let page = BadGuestsPage {
        frame: Frame::new("badguests", &uri, Some(now_ms)),
        system: system.iter().map(|i| (i.component.clone(), Incident::new(i, now_ms))).collect(),
        guests: guests.collect(),
        more,
    };
    html(&page)
}
