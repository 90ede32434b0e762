//! `POST /checkout`: ends a reservation.

use super::super::auth::Caller;
use super::super::error::Failure;
use super::super::json::Json;
use super::super::{App, Error};
use super::{Done, JobIn};
use crate::store::Found;
use axum::extract::State;
use std::sync::Arc;

/// Ends a reservation: nothing is expected of it any more.
///
/// An open incident is closed, and those who were told of it are told so.
#[utoipa::path(
    post, path = "/checkout", tag = "reservations", request_body = JobIn,
    responses(
        (status = 200, description = "Stored.", body = Done,
         example = json!({"success": true, "message": "Application Removed [billing/nightly] "})),
        (status = 400, description = "A field is wrong; the message names it.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 404, description = "No such reservation, or it is checked out already.", body = Failure),
        (status = 409, description = "It belongs to a Kubernetes object; the message names it.", body = Failure),
        (status = 413, description = "The body is larger than 64 kB.", body = Failure),
        (status = 503, description = "Not known to be stored; safe to repeat.", body = Failure),
    )
)]
pub(super) async fn checkout(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(job): Json<JobIn>,
) -> Result<axum::Json<Done>, Error> {
    let key = caller.job(&job.app, &job.component)?;
    match app.store.checkout(&key).await? {
        // The space at the end is GoTel 0.1's.
        Found::Yes => {
            let (name, component) = (key.app.as_str(), key.component.as_str());
            Ok(Done::new(format!("Application Removed [{name}/{component}] ")))
        }
        Found::No => Err(Error::NotFound),
        Found::Owned(object) => Err(Error::Owned(object)),
    }
}
