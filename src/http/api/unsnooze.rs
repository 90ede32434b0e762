//! `POST /unsnooze`: ends a snooze.

use super::super::auth::Caller;
use super::super::error::Failure;
use super::super::json::Json;
use super::super::{App, Error};
use super::{Done, JobIn};
use crate::store::Found;
use axum::extract::State;
use std::sync::Arc;

/// Ends a snooze now; where there is none, nothing changes.
///
/// The job gets time to breathe: the end of a snooze never alerts by itself.
#[utoipa::path(
    post, path = "/unsnooze", tag = "reservations", request_body = JobIn,
    responses(
        (status = 200, description = "Stored.", body = Done,
         example = json!({"success": true, "message": "Application alerting resumed: billing"})),
        (status = 400, description = "A field is wrong; the message names it.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 404, description = "No such reservation, or it is checked out.", body = Failure),
        (status = 409, description = "Its Kubernetes object pauses it; the message names that.", body = Failure),
        (status = 413, description = "The body is larger than 64 kB.", body = Failure),
        (status = 503, description = "Not known to be stored; safe to repeat.", body = Failure),
    )
)]
pub(super) async fn unsnooze(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(job): Json<JobIn>,
) -> Result<axum::Json<Done>, Error> {
    let key = caller.job(&job.app, &job.component)?;
    match app.store.unsnooze(&key).await? {
        Found::Yes => Ok(Done::new(format!("Application alerting resumed: {}", key.app.as_str()))),
        Found::No => Err(Error::NotFound),
        Found::Owned(object) => Err(Error::Suspended(object)),
    }
}
