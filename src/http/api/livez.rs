//! `GET /livez`: whether the loops of this process move.

use super::super::App;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use std::sync::Arc;

/// Whether this process is alive.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct Live {
    /// Whether every loop moves.
    success: bool,
    /// Those that do not.
    stale: Vec<Stale>,
}

/// A loop that does not move.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct Stale {
    /// Its name.
    name: String,
    /// Since its last completed step.
    age_ms: i64,
    /// Older than this is stuck.
    limit_ms: i64,
}

/// Whether every loop of this process moves. Never asks the database: its death is no reason to restart.
#[utoipa::path(
    get, path = "/livez", tag = "health",
    responses(
        (status = 200, description = "All move.", body = Live, example = json!({"success": true, "stale": []})),
        (status = 503, description = "Some are stuck: restart this process.", body = Live,
         example = json!({"success": false, "stale": [{"name": "evaluate", "age_ms": 61000, "limit_ms": 30000}]})),
    )
)]
pub(super) async fn livez(State(app): State<Arc<App>>) -> (StatusCode, Json<Live>) {
    let stale: Vec<_> = app
        .loops
        .ages()
        .into_iter()
        .filter(|age| !age.is_healthy())
        .map(|age| Stale { name: age.name, age_ms: age.age_ms, limit_ms: age.limit_ms })
        .collect();
    let code = if stale.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Live { success: stale.is_empty(), stale }))
}
