//! The controller's life: asks whether the API answers and whether this is the cluster it says it is, and writes while
//! it leads.
//!
//! Promises: an API that is away or a cluster under a wrong name ends nothing: this replica only steps back from its
//! cluster's lease, so that another one in the cluster may try. Which cluster this is is checked before anything is
//! written.

use super::config::OperatorConfig;
use super::connect::{CallError, call};
use super::context::Shared;
use super::failures::Failures;
use super::term;
use crate::clock;
use crate::lifecycle::{Bar, Loops};
use crate::metrics::Metrics;
use crate::reservation::Invalid;
use crate::reservation::routing::Routes;
use crate::store::{Identity, Leading, Store, StoreError, SystemKind};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two looks at the API.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// An API that is away for so long is left to another replica.
const AWAY_MS: i64 = 60_000;
/// A cluster that was not heard to claim another one's name for so long, six probes, does not any more.
const QUIET_MS: i64 = 60_000;

/// What the controller needs.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Its configuration.
    pub config: OperatorConfig,
    /// The configured alerters.
    pub routes: Routes,
    /// This replica's name.
    pub replica: String,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// The loops of this process.
    pub loops: Arc<Loops>,
    /// What forbids this replica to hold the cluster's lease.
    pub bar: Arc<Bar>,
    /// Whether it holds it.
    pub leads: watch::Receiver<Option<Leading>>,
}

/// The controller of one cluster.
pub struct Operator {
    shared: Arc<Shared>,
    client: Client,
    bar: Arc<Bar>,
    leads: watch::Receiver<Option<Leading>>,
    /// Which cluster this is, once that was checked.
    identified: bool,
    /// When the API last answered, or when this began.
    answered_ms: i64,
    /// Whether it was said that it does not.
    silent: bool,
    conflict: bool,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("cluster", &self.shared.cluster).finish_non_exhaustive()
    }
}

/// Why it is not known which cluster this is.
#[derive(Debug, thiserror::Error)]
enum Unidentified {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Operator {
    /// A controller for the cluster behind `config`.
    ///
    /// # Errors
    /// Certificates or keys that cannot be used.
    pub fn new(parts: Parts, config: kube::Config) -> Result<Self, Invalid> {
        let client = super::connect::client(config)
            .map_err(|e| Invalid::new("kubernetes.mode", format!("the cluster cannot be used: {e}")))?;
        Ok(Self::with_client(parts, client))
    }

    /// The same with a client that is there already.
    pub fn with_client(parts: Parts, client: Client) -> Self {
        parts.bar.set("the Kubernetes API was not reached yet");
        parts.metrics.operator.of(parts.config.cluster.as_deref().unwrap_or_default());
        let shared = Shared {
            pulse: parts.loops.register("controller", Duration::from_secs(120)),
            store: parts.store,
            cluster: parts.config.cluster.clone().unwrap_or_default(),
            pod: parts.config.pod.clone().unwrap_or_else(|| parts.replica.clone()),
            config: parts.config,
            routes: parts.routes,
            replica: parts.replica,
            metrics: parts.metrics,
            failures: Failures::default(),
            identified: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            client,
            bar: parts.bar,
            leads: parts.leads,
            identified: false,
            answered_ms: clock::boot_ms(),
            silent: false,
            conflict: false,
        }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let terms = terms(Arc::clone(&self.shared), self.client.clone(), self.leads.clone());
        tokio::select! {
            () = terms => {}
            () = self.probe() => {}
            () = stop.cancelled() => {}
        }
    }

    /// Looks at the API, again and again.
    async fn probe(&mut self) {
        loop {
            self.step().await;
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    async fn step(&mut self) {
        let (shared, now_ms) = (Arc::clone(&self.shared), clock::boot_ms());
        let up = match call(self.client.apiserver_version()).await {
            Ok(_) => true,
            // It answers.
            Err(CallError::Kube(kube::Error::Api(_))) => true,
            Err(e) => {
                if !std::mem::replace(&mut self.silent, true) {
                    tracing::warn!(error = %e, "the Kubernetes API does not answer: what is stored stays watched");
                }
                false
            }
        };
        shared.metrics.operator.api_up(up);
        if !up {
            if now_ms - self.answered_ms > AWAY_MS {
                self.bar.set("the Kubernetes API does not answer");
            }
            shared.pulse.tried("the Kubernetes API does not answer");
            return;
        }
        if std::mem::take(&mut self.silent) {
            tracing::info!("the Kubernetes API answers again");
        }
        self.answered_ms = now_ms;
        if !self.identified {
            match self.identify().await {
                Ok(true) => self.identified = true,
                Ok(false) => return,
                Err(e) => {
                    shared.pulse.tried(format!("which cluster this is cannot be told: {e}"));
                    return;
                }
            }
        }
        if shared.identified.load(Ordering::Relaxed) {
            self.settle().await;
        }
        self.bar.clear();
        if self.leads.borrow().is_none() {
            shared.pulse.beat_with(format!("cluster {}: another replica writes", shared.cluster));
        }
    }

    /// Ends the alarm about another cluster of this name, once that is silent.
    async fn settle(&self) {
        let shared = &self.shared;
        match shared.store.settle_cluster(&shared.cluster, QUIET_MS).await {
            Ok(true) => tracing::info!(cluster = shared.cluster, "no other cluster has this name any more"),
            Ok(false) => {}
            Err(e) => tracing::debug!(error = %e, "whether the cluster's name is its own again is not known"),
        }
    }

    /// Whether the cluster is the one that its name stands for, as far as one may look.
    async fn identify(&mut self) -> Result<bool, Unidentified> {
        let shared = &self.shared;
        let api: Api<Namespace> = Api::all(self.client.clone());
        let uid = match call(api.get_metadata("kube-system")).await {
            Ok(found) => found.meta().uid.clone().unwrap_or_default(),
            Err(e) if e.is_forbidden() => {
                tracing::warn!(
                    cluster = shared.cluster,
                    "whether the cluster's name is its own is not checked: the namespace kube-system may not be read"
                );
                return Ok(true);
            }
            Err(e) => return Err(e.into()),
        };
        let cluster = &shared.cluster;
        match shared.store.identify_cluster(cluster, &uid).await? {
            Identity::Ours => {
                shared.identified.store(true, Ordering::Relaxed);
                shared.metrics.operator.cluster_conflict(false);
                self.conflict = false;
                Ok(true)
            }
            Identity::Other(theirs) => {
                let text = format!(
                    "Two clusters call themselves {cluster}: the one that was first has the uid {theirs}, this one {uid}. \
                     Objects of this one are not taken in. Give it a name of its own by --cluster-name; or, if the other \
                     one is gone for good, run `gotel cluster release {cluster}`."
                );
                shared.metrics.operator.cluster_conflict(true);
                let why = format!("another cluster has the name {cluster}");
                shared.pulse.tried(why.clone());
                self.bar.set(why);
                if !std::mem::replace(&mut self.conflict, true) {
                    tracing::error!("{text}");
                }
                // Again and again, which tells nobody twice: as long as it is said, it is not over.
                shared.alarm(SystemKind::ClusterConflict, text).await?;
                Ok(false)
            }
        }
    }
}

/// Writes while this replica leads.
async fn terms(shared: Arc<Shared>, client: Client, mut leads: watch::Receiver<Option<Leading>>) {
    loop {
        let leading = leads.borrow_and_update().clone();
        shared.metrics.operator.leads(leading.is_some());
        let changed = match leading {
            Some(leading) => tokio::select! {
                () = term::run(Arc::clone(&shared), client.clone(), leading) => {
                    // A watch does not end; if it did, not in a circle.
                    tokio::time::sleep(PROBE_EVERY).await;
                    continue;
                }
                changed = leads.changed() => changed,
            },
            None => leads.changed().await,
        };
        if changed.is_err() {
            return std::future::pending().await;
        }
    }
}
