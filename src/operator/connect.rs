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
    choose(config, || Config::incluster().ok(), Config::infer).await
}

/// `pod`: what a pod is told of its cluster, if this is one. `anywhere`: a kubeconfig, or else the same.
async fn choose<E: std::error::Error + 'static>(
    config: &OperatorConfig,
    pod: impl FnOnce() -> Option<Config>,
    anywhere: impl AsyncFnOnce() -> Result<Config, E>,
) -> Result<Found, Invalid> {
    let mut found = match config.mode {
        Mode::Off => return Ok(Found::Off(None)),
        Mode::Auto => {
            let Some(found) = pod() else { return Ok(Found::Off(None)) };
            if config.cluster.is_none() {
                return Ok(Found::Off(Some(
                    "this pod keeps no reservations as Kubernetes objects: --cluster-name is not given",
                )));
            }
            found
        }
        Mode::On => anywhere().await.map_err(|e| {
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

#[cfg(test)]
mod tests {
    use super::super::config::{Flags, Written};
    use super::*;

    fn config(mode: Mode, cluster: Option<&str>) -> OperatorConfig {
        let flags =
            Flags { kubernetes: Some(mode), cluster_name: cluster.map(str::to_owned), ..Flags::default() };
        Written::default().parse(&flags).unwrap()
    }

    fn cluster(name: &str) -> Config {
        Config::new(format!("https://{name}.example.org").parse().unwrap())
    }

    fn nobody_asks() -> Option<Config> {
        panic!("nothing is to be looked for here")
    }

    async fn nobody_asks_anywhere() -> Result<Config, std::io::Error> {
        panic!("a kubeconfig is not to be looked for")
    }

    #[tokio::test]
    async fn off_looks_for_nothing() {
        let found = choose(&config(Mode::Off, Some("eu")), nobody_asks, nobody_asks_anywhere).await;
        assert!(matches!(found, Ok(Found::Off(None))), "{found:?}");
    }

    #[tokio::test]
    async fn auto_outside_a_pod_is_off_whatever_kubeconfig_there_is() {
        let found = choose(&config(Mode::Auto, Some("eu")), || None, nobody_asks_anywhere).await;
        assert!(matches!(found, Ok(Found::Off(None))), "{found:?}");
    }

    #[tokio::test]
    async fn auto_in_a_pod_without_a_cluster_name_is_off_and_says_why() {
        let pod = || Some(cluster("pod"));
        let found = choose(&config(Mode::Auto, None), pod, nobody_asks_anywhere).await;
        let Ok(Found::Off(Some(why))) = found else { panic!("{found:?}") };
        assert!(why.contains("--cluster-name is not given"), "{why}");
    }

    #[tokio::test]
    async fn auto_in_a_pod_finds_its_cluster_with_a_limit_on_every_wait() {
        let pod = || Some(cluster("pod"));
        let found = choose(&config(Mode::Auto, Some("eu")), pod, nobody_asks_anywhere).await;
        let Ok(Found::Cluster(found)) = found else { panic!("{found:?}") };
        assert_eq!(found.cluster_url.host(), Some("pod.example.org"));
        assert_eq!((found.connect_timeout, found.default_retry), (Some(CONNECT_LIMIT), false));
        assert_eq!(found.read_timeout, Some(Duration::from_secs(210)), "the usual watch, and ten seconds");
    }

    #[tokio::test]
    async fn on_takes_what_there_is_and_refuses_to_start_without() {
        let on = config(Mode::On, Some("eu"));
        let found = choose(&on, nobody_asks, async || Ok::<_, std::io::Error>(cluster("desk"))).await;
        let Ok(Found::Cluster(found)) = found else { panic!("{found:?}") };
        assert_eq!(found.cluster_url.host(), Some("desk.example.org"));

        let none = async || Err(std::io::Error::other("no file"));
        let refused = choose(&on, nobody_asks, none).await.unwrap_err();
        assert_eq!(refused.field, "kubernetes.mode");
        let why = "is on, and there is neither a usable kubeconfig nor a pod: no file";
        assert_eq!(refused.message, why);
    }
}
