//! Takes heartbeats, on an address of its own.
//!
//! Promises: one path, one method, bodies to 16 kB, 5 s a request; what is not believed is 401 with a nonce
//! for the next try, counted, and changes nothing. When the secret has changed, what is signed by the one before
//! is believed for another 10 minutes, and answered under it: mounted files change on one replica after the other.
//! Connections, their limits and their end are the matter of
//! the server that this router is given to.

use super::ear::Ear;
use super::frame::{self, Gate, Heartbeat, MAX_BODY, Refusal, Rejected, SIGNATURE, Signed};
use super::sight::Said;
use super::speaker::Speaker;
use crate::clock;
use crate::metrics::Metrics;
use crate::secret::{Secret, Value};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tower_http::timeout::TimeoutLayer;

/// A request, its body included.
const LIMIT: Duration = Duration::from_secs(5);

/// How long a secret is believed after it was replaced.
const EARLIER_MS: i64 = 600_000;

/// Strangers may knock as often as they like: the log says so once a minute.
const LOG_EVERY_MS: i64 = 60_000;

/// What the handler needs.
pub struct Listener {
    /// This replica's id.
    pub own: String,
    /// What is signed with.
    pub secret: Secret,
    /// Who is let in.
    pub gate: Mutex<Gate>,
    /// What this replica says of itself.
    pub speaker: Speaker,
    /// Where what is heard goes.
    pub ear: Ear,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// When a refusal was last logged; begin with the default.
    pub logged_boot_ms: AtomicI64,
}

/// The one route.
pub fn router(listener: Arc<Listener>) -> Router {
    Router::new()
        .route(frame::PATH, post(heartbeat))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, LIMIT))
        .with_state(listener)
}

async fn heartbeat(State(listener): State<Arc<Listener>>, headers: HeaderMap, body: Bytes) -> Response {
    let signature = headers.get(SIGNATURE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let signed = Signed { body: body.to_vec(), signature: signature.to_owned() };
    let boot_ms = clock::boot_ms();
    let (outcome, nonce) = {
        let mut gate = listener.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = listener.open(&mut gate, &signed, boot_ms);
        (outcome, gate.nonce(boot_ms, uuid::Uuid::new_v4().into_bytes()))
    };
    match outcome {
        Ok((heartbeat, secret)) => {
            listener.ear.hear(&heartbeat.from, Said { heard_boot_ms: boot_ms, ..heartbeat.said });
            let answer = Heartbeat {
                from: listener.own.clone(),
                to: heartbeat.from,
                nonce,
                said: listener.speaker.said(boot_ms),
            };
            let answer = frame::reply(&secret, &answer, &signed.signature);
            let json = (header::CONTENT_TYPE, "application/json".to_owned());
            let headers = [json, (header::HeaderName::from_static(SIGNATURE), answer.signature)];
            (headers, answer.body).into_response()
        }
        Err(rejected) => {
            listener.metrics.peer_rejected(rejected.as_str());
            listener.log(rejected, boot_ms);
            let refusal = Refusal { nonce, why: rejected.as_str().to_owned() };
            (StatusCode::UNAUTHORIZED, Json(refusal)).into_response()
        }
    }
}

impl Listener {
    /// What is heard, and the secret that it is signed by.
    fn open(&self, gate: &mut Gate, signed: &Signed, boot_ms: i64) -> Result<(Heartbeat, Value), Rejected> {
        for secret in self.secret.values_since(boot_ms - EARLIER_MS) {
            match gate.accept(&secret, signed, boot_ms) {
                Err(Rejected::Signature) => {}
                outcome => return outcome.map(|heartbeat| (heartbeat, secret)),
            }
        }
        Err(Rejected::Signature)
    }

    fn log(&self, rejected: Rejected, boot_ms: i64) {
        // Each caller's first comes without one.
        if rejected == Rejected::Nonce {
            return;
        }
        let last = self.logged_boot_ms.load(Ordering::Relaxed);
        if (last == 0 || boot_ms - last >= LOG_EVERY_MS)
            && self
                .logged_boot_ms
                .compare_exchange(last, boot_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::warn!(reason = rejected.as_str(), "a heartbeat was refused: {rejected}");
        }
    }
}
