//! Sends a heartbeat to one peer each 2 s.
//!
//! Promises: at most one is on its way to a peer; all of it, a second try with a fresh nonce included, takes
//! at most 2 s; no redirect is followed (the client sees to that); of an answer no more is read than a
//! heartbeat may be long.

use super::config::Peer;
use super::ear::Ear;
use super::frame::{self, Heartbeat, MAX_BODY, Refusal, Rejected, SIGNATURE, Signed};
use super::sight::Said;
use super::speaker::Speaker;
use crate::clock;
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::secret::Secret;
use reqwest::StatusCode;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two calls, and the longest that one may take.
const PERIOD: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(2);

/// Calls one peer.
pub struct Caller {
    /// Whom.
    pub peer: Peer,
    /// This replica's id.
    pub own: String,
    /// What is signed with.
    pub secret: Secret,
    /// A client that follows no redirects.
    pub client: reqwest::Client,
    /// What this replica says of itself.
    pub speaker: Speaker,
    /// Where the answer goes.
    pub ear: Ear,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Its age.
    pub pulse: Arc<Pulse>,
    /// The nonce for the next call.
    pub nonce: String,
}

/// How a call failed.
enum Failure {
    /// It can be tried again at once with this nonce.
    Refused(Refusal),
    /// In words for the page.
    Other(String),
}

impl Caller {
    /// Calls until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.step() => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One call.
    pub async fn step(&mut self) {
        let outcome = match tokio::time::timeout(LIMIT, self.call()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        };
        let boot_ms = clock::boot_ms();
        match outcome {
            Ok(said) => {
                self.ear.hear(&self.peer.id, Said { heard_boot_ms: boot_ms, ..said });
                self.ear.called(&self.peer.id, boot_ms, None);
                self.metrics.peer_call(&self.peer.id, "ok");
                self.pulse.beat_with("it answers");
            }
            Err(why) => {
                self.metrics.peer_call(&self.peer.id, "failed");
                self.pulse.tried(why.clone());
                self.ear.called(&self.peer.id, boot_ms, Some(why));
            }
        }
    }

    /// The first call of a process has no nonce, and that after the peer's restart an old one: then the
    /// refusal brings the right one.
    async fn call(&mut self) -> Result<Said, String> {
        match self.ask().await {
            Ok(said) => return Ok(said),
            Err(Failure::Other(why)) => return Err(why),
            Err(Failure::Refused(refusal)) => self.nonce = refusal.nonce,
        }
        self.ask().await.map_err(|failure| match failure {
            Failure::Other(why) => why,
            Failure::Refused(refusal) => {
                self.nonce = refusal.nonce;
                refused(&refusal.why)
            }
        })
    }

    async fn ask(&mut self) -> Result<Said, Failure> {
        let heartbeat = Heartbeat {
            from: self.own.clone(),
            to: self.peer.id.clone(),
            nonce: std::mem::take(&mut self.nonce),
            said: self.speaker.said(clock::boot_ms()),
        };
        let secret = self.secret.value();
        let signed = frame::request(&secret, &heartbeat);
        let url = self.peer.url.join(frame::PATH).map_err(|e| Failure::Other(e.to_string()))?;
        let request = self
            .client
            .post(url)
            .timeout(LIMIT)
            .header(SIGNATURE, &signed.signature)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(signed.body.clone());
        let mut response = request.send().await.map_err(|e| Failure::Other(in_words(&e)))?;
        let status = response.status();
        let signature = response.headers().get(SIGNATURE).and_then(|v| v.to_str().ok());
        let signature = signature.unwrap_or_default().to_owned();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| Failure::Other(in_words(&e)))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(Failure::Other("it answers more than a heartbeat may hold".into()));
            }
            body.extend_from_slice(&chunk);
        }
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => {
                return Err(match serde_json::from_slice(&body) {
                    Ok(refusal) => Failure::Refused(refusal),
                    Err(_) => Failure::Other("it answers 401, and not as GoTel does".into()),
                });
            }
            other => return Err(Failure::Other(format!("it answers {}", other.as_u16()))),
        }
        let answer = Signed { body, signature };
        let accepted = frame::accept_reply(&secret, &self.own, &self.peer.id, &signed.signature, &answer);
        match accepted {
            Ok(heartbeat) => {
                self.nonce = heartbeat.nonce;
                Ok(heartbeat.said)
            }
            Err(rejected) => {
                self.metrics.peer_rejected(rejected.as_str());
                Err(Failure::Other(match rejected {
                    Rejected::Sender => format!("at its URL answers a replica that is not {}", self.peer.id),
                    other => format!("its answer is not believed: {other}"),
                }))
            }
        }
    }
}

/// Why a peer refuses heartbeats of this replica.
fn refused(why: &str) -> String {
    if why == Rejected::Signature.as_str() {
        return "it refuses our signature: is peers.secret the same on both?".into();
    }
    if why == Rejected::Receiver.as_str() {
        return "at its URL answers a replica of another id: look at peers.replicas".into();
    }
    if why == Rejected::Sender.as_str() {
        return "it does not know this replica: is it on the list of peers.replicas there?".into();
    }
    "it refuses our heartbeats".into()
}

/// What went wrong, without the URL.
fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", LIMIT.as_secs());
    }
    // The innermost cause is the one that helps.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let what = if error.is_connect() { "cannot connect" } else { "the connection broke" };
    format!("{what}: {cause}")
}
