//! HTTP: the API, the pages, and who may use them.
//!
//! Promises: 2xx means stored; every other answer is an honest status code with
//! `{"success":false,"message":…}` that names the field and the remedy (a page in HTML on the pages).
//! Nothing here waits without a bound: headers 10 s, a whole request 30 s, a body 64 kB (a piped log
//! 16 MB, of which the last 10 kB are kept). Who may call is decided before anything is looked up, so an
//! answer never tells a stranger whether a reservation exists. A panic is a 500, counted, and survived.
//!
//! Does not promise: TLS (a proxy's task) and protection of an open server on loopback from programs of
//! the same machine.
//!
//! Races: a request that ends in 503 or 408 may have been stored; every write may be repeated without harm.

pub mod api;
pub mod auth;
mod error;
mod guard;
mod json;
mod observe;
pub mod openapi;
mod pages;
mod params;
mod server;
mod stall;
mod time;

pub use auth::{Auth, AuthConfig};
pub use error::Error;
pub use server::{DRAIN, listen, serve, serve_few};

use crate::board::Board;
use crate::checkin;
use crate::lifecycle::{Bar, Loops};
use crate::metrics::Metrics;
use crate::reservation::routing::Routes;
use crate::secret::watch::Rack;
use crate::store::Store;
use auth::Scope;
use axum::Router;
use axum::body::Body;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};
use utoipa_axum::router::OpenApiRouter;

/// The usual [`App::max_body`]: 64 kB.
pub const MAX_BODY: usize = 64 * 1024;

/// What handlers share.
#[derive(Debug)]
pub struct App {
    /// The database.
    pub store: Store,
    /// Where check-ins go.
    pub checkins: checkin::Queue,
    /// The configured alerters.
    pub routes: Arc<Routes>,
    /// Who may call.
    pub auth: Auth,
    /// The address people use, without a slash at its end; None: taken from the request.
    pub external_url: Option<String>,
    /// This replica's name, as in the lease.
    pub replica: String,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The loops of this process.
    pub loops: Arc<Loops>,
    /// The largest JSON body that is read, in bytes.
    pub max_body: usize,
    /// When `/metrics` last asked the store for totals, by the boot clock; begin with the default.
    pub counted: AtomicI64,
    /// What is known of the other replicas; empty when this one is alone.
    pub board: Board,
    /// Why this process must not coordinate, if so.
    pub bar: Arc<Bar>,
    /// Whose secrets are read again when their files change.
    pub secrets: Rack,
}

/// Routes and their documentation, one group a scope.
fn groups() -> [(Option<Scope>, OpenApiRouter<Arc<App>>); 4] {
    [
        (None, api::open()),
        (Some(Scope::Checkin), api::checkins()),
        (Some(Scope::Reserve), api::reserve()),
        (Some(Scope::Read), api::read()),
    ]
}

/// Everything that is served.
pub fn router(app: Arc<App>) -> Router {
    let mut all = pages::router(&app).merge(pages::assets::router());
    for (scope, group) in groups() {
        let (mut router, _) = group.split_for_parts();
        if let Some(scope) = scope {
            let gate = guard::Gate { app: Arc::clone(&app), scope };
            router = router.route_layer(from_fn_with_state(gate, guard::guard));
        }
        all = all.merge(router);
    }
    all.method_not_allowed_fallback(async || Error::Method.into_response())
        .fallback(async || Error::UnknownPath.into_response())
        .layer(from_fn_with_state(Arc::clone(&app), observe::arrived))
        .layer(catch_panic(&app.metrics))
        .layer(from_fn(observe::bound))
        .layer(from_fn_with_state(Arc::clone(&app), observe::observe))
        .with_state(app)
}

/// Turns a handler's panic into a 500, counts it, and lets the server live.
fn catch_panic(
    metrics: &Arc<Metrics>,
) -> CatchPanicLayer<impl ResponseForPanic<ResponseBody = Body> + use<>> {
    let metrics = Arc::clone(metrics);
    CatchPanicLayer::custom(move |panic: Box<dyn std::any::Any + Send>| {
        metrics.panic("http");
        Error::Broken(format!("a handler panicked: {}", panic_text(&*panic))).into_response()
    })
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use axum::routing::get;
    use tower::ServiceExt;

    #[test]
    fn what_a_panic_said_is_read() {
        assert_eq!(panic_text(&"str"), "str");
        assert_eq!(panic_text(&String::from("string")), "string");
        assert_eq!(panic_text(&7), "no text");
    }

    #[tokio::test]
    async fn a_panic_is_a_500_that_says_nothing_and_is_counted() {
        let metrics = Arc::new(Metrics::new());
        let router: Router = Router::new()
            .route("/x", get(async || -> &'static str { panic!("secret") }))
            .layer(catch_panic(&metrics));
        let request = Request::get("/x").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(text, r#"{"success":false,"message":"GoTel failed here: the cause is in its log"}"#);
        assert!(metrics.render().contains(r#"gotel_panics_total{reason="http"} 1"#));
    }
}
