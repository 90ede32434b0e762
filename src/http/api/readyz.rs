//! `GET /readyz`: whether to send requests here.

use super::super::App;
use super::super::error::Failure;
use super::Done;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Whether this replica takes requests: it listens, is not on its way out, and is not the one that the
/// database does not answer while others have it. Never asks the database: when it is gone for all, an honest
/// 503 from one of them is worth more than none that is ready.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "It does.", body = Done, example = json!({"success": true, "message": "ready"})),
        (status = 503, description = "It is shutting down, or cut off from the database.", body = Failure,
         example = json!({"success": false, "message": "this replica is shutting down"})),
    )
)]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let why = if app.loops.is_draining() {
        "this replica is shutting down"
    } else if app.board.is_cut_off() {
        "this replica does not reach the database, and another one does: /nodes says more"
    } else {
        return Done::new("ready".into()).into_response();
    };
    let body = Failure { success: false, message: why.into() };
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}
