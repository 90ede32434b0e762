//! `GET /metrics`: the figures, in the OpenMetrics text format.
//!
//! Promises: never waits for the database longer than a second; totals that cannot be had stay as they
//! were. Totals are asked for at most every [`EVERY_MS`], however many scrape.

use super::super::auth::Caller;
use super::super::error::Failure;
use super::super::{App, Error};
use crate::clock;
use crate::reservation::State as JobState;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long to wait for totals.
const PATIENCE: Duration = Duration::from_secs(1);

/// Totals younger than this are good enough.
const EVERY_MS: i64 = 2_000;

/// Every state, so that one that empties shows 0.
pub(in super::super) const STATES: [JobState; 5] =
    [JobState::Waiting, JobState::OnTime, JobState::Late, JobState::Failed, JobState::Overrun];

/// The figures, in the OpenMetrics text format.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses(
        (status = 200, description = "OpenMetrics text.", body = String, content_type = "application/openmetrics-text"),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
    )
)]
pub(super) async fn metrics(State(app): State<Arc<App>>, caller: Caller) -> Result<impl IntoResponse, Error> {
    caller.sees_all()?;
    let ms = |age| Duration::from_millis(u64::try_from(age).unwrap_or(0));
    for age in app.loops.ages() {
        app.metrics.loop_age(&age.name, ms(age.age_ms), ms(age.done_age_ms));
    }
    app.metrics.queue_oldest(app.checkins.oldest());
    let (now, last) = (clock::boot_ms(), app.counted.load(Ordering::Relaxed));
    if last == 0 || now - last >= EVERY_MS {
        app.counted.store(now, Ordering::Relaxed);
        refresh(&app).await;
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], app.metrics.render()))
}

async fn refresh(app: &App) {
    let counts = match tokio::time::timeout(PATIENCE, app.store.counts()).await {
        Ok(Ok(counts)) => counts,
        Ok(Err(e)) => return tracing::debug!(error = %e, "no totals for /metrics: {e}"),
        Err(_) => return tracing::debug!("no totals for /metrics within {PATIENCE:?}"),
    };
    let of = |state| counts.by_state.iter().find(|(s, _)| *s == state).map_or(0, |(_, n)| *n);
    for state in STATES {
        app.metrics.reservations(state.as_str(), of(state));
    }
    app.metrics.overdue(of(JobState::Late) + of(JobState::Failed) + of(JobState::Overrun));
    app.metrics.outbox_dead(counts.dead);
    for name in app.routes.names() {
        if !counts.outbox.iter().any(|(alerter, ..)| *alerter == name) {
            app.metrics.outbox(&name, 0, Duration::ZERO);
        }
    }
    for (alerter, pending, oldest_ms) in &counts.outbox {
        app.metrics.outbox(alerter, *pending, Duration::from_millis(u64::try_from(*oldest_ms).unwrap_or(0)));
    }
}
