//! `GET /reservation/{app}/{component}`: everything about one reservation.

use super::super::error::Failure;
use super::super::params::Named;
use super::super::time::rfc3339;
use super::super::{App, Error};
use super::wire::{CheckInOut, IncidentOut, ReservationOut, RunOut, SettingsOut};
use crate::failpoint;
use crate::reservation::deadline;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// Entries of each history that come with a reservation; the rest has addresses of its own.
pub(in super::super) const RECENT: usize = 20;

/// Expected moments to come.
pub(in super::super) const UPCOMING: usize = 5;

/// One reservation.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct ShowOut {
    /// Always `true`.
    success: bool,
    /// The reservation.
    result: Detail,
}

/// A reservation and its history.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct Detail {
    #[serde(flatten)]
    reservation: ReservationOut,
    /// What was agreed, as `POST /reservation` takes it; null when it cannot be read.
    settings: Option<SettingsOut>,
    /// The next five expected moments, without grace.
    upcoming: Vec<String>,
    /// Failures since the last good run.
    fails: i64,
    /// When the reservation was made.
    created: String,
    /// Last change of its settings, its snooze or its end.
    updated: String,
    /// The newest check-ins.
    checkins: Vec<CheckInOut>,
    /// The newest runs that announced their start.
    runs: Vec<RunOut>,
    /// The newest incidents, and who was told of them.
    incidents: Vec<IncidentOut>,
}

/// One reservation: settings, state, deadline, what comes next, and its newest history.
#[utoipa::path(
    get, path = "/reservation/{app}/{component}", tag = "reservations",
    params(
        ("app" = String, Path, description = "The application, percent-encoded UTF-8."),
        ("component" = String, Path, description = "The part of it that is scheduled."),
    ),
    responses(
        (status = 200, description = "It.", body = ShowOut),
        (status = 400, description = "A name is wrong.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 404, description = "No such reservation, or it is checked out.", body = Failure),
        (status = 503, description = "The database does not answer.", body = Failure),
    )
)]
pub(super) async fn show(State(app): State<Arc<App>>, named: Named) -> Result<Json<ShowOut>, Error> {
    failpoint::pass("handler");
    let (view, now_ms) = app.store.reservation(&named.key).await?.ok_or(Error::NotFound)?;
    let outages = app.store.outages().await?;
    let checkins = app.store.checkins(view.id, None, RECENT).await?;
    let runs = app.store.runs(view.id, RECENT).await?;
    let incidents = app.store.incidents(view.id, RECENT).await?;
    let upcoming = match &view.settings {
        Ok(settings) => deadline::upcoming(settings, &view.evidence, now_ms, UPCOMING),
        Err(_) => Vec::new(),
    };
    let result = Detail {
        reservation: ReservationOut::new(&view, &outages, now_ms),
        settings: view.settings.as_ref().ok().map(SettingsOut::from),
        upcoming: upcoming.into_iter().map(rfc3339).collect(),
        fails: view.evidence.fails,
        created: rfc3339(view.evidence.created_ms),
        updated: rfc3339(view.updated_ms),
        checkins: checkins.items.iter().map(CheckInOut::from).collect(),
        runs: runs.iter().map(RunOut::from).collect(),
        incidents: incidents.iter().map(IncidentOut::from).collect(),
    };
    Ok(Json(ShowOut { success: true, result }))
}
