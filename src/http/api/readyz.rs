//! `GET /readyz`: whether to send requests here.

use super::super::App;
use super::super::error::Failure;
use super::Done;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Whether this replica takes requests: it has reached its database once and is not on its way out. Never asks
/// the database: all replicas share it, and an honest 503 from one of them is worth more than none that is ready.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "It does.", body = Done, example = json!({"success": true, "message": "ready"})),
        (status = 503, description = "It is shutting down, or has not reached its database since it was started.", body = Failure,
         example = json!({"success": false, "message": "this replica is shutting down"})),
    )
)]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let not_ready = |message: &str| {
        let body = Failure { success: false, message: message.into() };
        (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
    };
    if app.loops.is_draining() {
        return not_ready("this replica is shutting down");
    }
    if app.loops.is_waiting() {
        return not_ready("the database does not answer: this replica waits for it to start");
    }
    Done::new("ready".into()).into_response()
}
