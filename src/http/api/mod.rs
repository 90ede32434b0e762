//! The API: one file an endpoint.
//!
//! Promises: the verbs, bodies and success answers of GoTel 0.1 stay as they were; what was answered 200
//! although nothing was done is now an honest error.

mod checkin;
mod checkin_path;
mod checkins;
mod checkout;
mod document;
mod incidents;
mod is_coordinator;
mod list;
mod livez;
mod metrics;
mod readyz;
mod reserve;
mod show;
mod snooze;
mod unsnooze;
pub(super) mod wire;

pub(super) use show::{RECENT, UPCOMING};

use super::App;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A request was done.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct Done {
    /// Always `true`.
    #[schema(example = true)]
    pub success: bool,
    /// What was done.
    #[schema(example = "Application checked in: billing")]
    pub message: String,
}

impl Done {
    fn new(message: String) -> axum::Json<Self> {
        axum::Json(Self { success: true, message })
    }
}

/// Which reservation.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct JobIn {
    /// The application.
    #[schema(example = "billing")]
    app: String,
    /// The part of it that is scheduled.
    #[schema(example = "nightly")]
    component: String,
}

/// Open to all.
pub(super) fn open() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(is_coordinator::is_coordinator))
        .routes(routes!(livez::livez))
        .routes(routes!(readyz::readyz))
        .routes(routes!(document::document))
}

/// Scope `checkin`.
pub(super) fn checkins() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(checkin::checkin))
        .routes(routes!(checkin_path::ok))
        .routes(routes!(checkin_path::signal))
}

/// Scope `reserve`.
pub(super) fn reserve() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(reserve::reserve))
        .routes(routes!(snooze::snooze))
        .routes(routes!(unsnooze::unsnooze))
        .routes(routes!(checkout::checkout))
}

/// Scope `read`.
pub(super) fn read() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list::list))
        .routes(routes!(show::show))
        .routes(routes!(checkins::checkins))
        .routes(routes!(incidents::incidents))
        .routes(routes!(metrics::metrics))
}
