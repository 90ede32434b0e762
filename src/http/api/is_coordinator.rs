//! `GET /is-coordinator`: whether this replica coordinates.

use super::super::error::Failure;
use super::super::{App, Error};
use crate::store::lease::COORDINATOR;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// Whether this replica is the coordinator, by the lease in the database.
#[utoipa::path(
    get, path = "/is-coordinator", tag = "health",
    responses(
        (status = 200, description = "`true` or `false`.", body = bool, example = json!(true)),
        (status = 503, description = "The database does not answer, so nobody knows.", body = Failure),
    )
)]
pub(super) async fn is_coordinator(State(app): State<Arc<App>>) -> Result<Json<bool>, Error> {
    let lease = app.store.lease(COORDINATOR).await?;
    // A second process of one id must not take the first one's lease for its own.
    Ok(Json(app.bar.reason().is_none() && lease.is_some_and(|lease| lease.is_held_by(&app.replica))))
}
