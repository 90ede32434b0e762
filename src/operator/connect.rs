//! Where the Kubernetes API is.
//!
//! Promises: `auto` never looks at a kubeconfig, so that GoTel on a desk never meddles with a cluster that its user
//! happens to be logged in to.

use super::config::{Mode, OperatorConfig};
use crate::reservation::Invalid;
use kube::{Client, Config};
use std::time::Duration;

/// Connecting takes at most this long.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Longest call that is no watch, reading its answer included.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// What the configuration leads to.
#[derive(Debug)]
pub enum Found {
    /// No controller runs; the text says why, if somebody may wonder.
    Off(Option<&'static str>),
    /// This cluster.
    Cluster(Box<Config>),
}

/// Finds the cluster.
///
/// # Errors
/// [`Mode::On`], and there is none.
pub async fn find(config: &OperatorConfig) -> Result<Found, Invalid> {
    let mut found = match config.mode {
        Mode::Off => return Ok(Found::Off(None)),
        Mode::Auto => {
            let Ok(found) = Config::incluster() else { return Ok(Found::Off(None)) };
            if config.cluster.is_none() {
                return Ok(Found::Off(Some(
                    "this pod keeps no reservations as Kubernetes objects: --cluster-name is not given",
                )));
            }
            found
        }
        Mode::On => Config::infer().await.map_err(|e| {
            let e: &dyn std::error::Error = &e;
            Invalid::new(
                "kubernetes.mode",
                format!("is on, and there is neither a usable kubeconfig nor a pod: {e}"),
            )
        })?,
    };
    found.connect_timeout = Some(CONNECT_LIMIT);
    // Every other call has its limit here. A watch may be silent for its length; one whose very beginning is met with
    // silence would wait for ever.
    found.read_timeout = Some(Duration::from_secs(u64::from(config.watch_timeout_s) + 10));
    found.reset_reader_on_write = true;
    found.default_retry = false;
    Ok(Found::Cluster(Box::new(found)))
}

/// A client.
///
/// # Errors
/// Certificates or keys that cannot be read.
pub(super) fn client(config: Config) -> Result<Client, kube::Error> {
    Client::try_from(config)
}

/// Why a call to the API did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("the Kubernetes API did not answer within {0:?}")]
    Timeout(Duration),
}

impl CallError {
    /// Whether the API said that there is no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.is_not_found())
    }

    /// Whether the API said that we may not.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.is_forbidden())
    }

    /// Whether the API said that this is not the object that was meant.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.is_conflict())
    }
}

/// One call, within its limit.
pub(super) async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(CallError::Timeout(CALL_LIMIT)),
    }
}
