//! What the parts of one term share: one client, one lease, one recorder.

use super::config::OperatorConfig;
use super::connect::{CALL_LIMIT, call};
use super::crd::Reservation;
use super::failures::Failures;
use crate::clock;
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::reservation::routing::Routes;
use crate::store::{Leading, Life, ObjectId, Store, StoreError, SystemKind, SystemReport};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use kube_runtime::events::{Event, EventType, Recorder};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Objects that are looked at at a time. Without a bound a start with thousands of them would be thousands at once.
pub(super) const AT_A_TIME: u16 = 16;

/// An object that may not be readable.
pub(super) type Guarded = DeserializeGuard<Reservation>;

/// What lives as long as the process.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) config: OperatorConfig,
    pub(super) cluster: String,
    pub(super) routes: Routes,
    pub(super) replica: String,
    /// The pod that this process is, as far as it knows.
    pub(super) pod: String,
    pub(super) metrics: Arc<Metrics>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) failures: Failures,
    /// Whether this was seen to be the cluster that its name stands for; otherwise it may not be looked at.
    pub(super) identified: AtomicBool,
}

/// What lives as long as this replica leads.
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
    pub(super) leading: Leading,
    pub(super) recorder: Recorder,
    /// Objects that were seen to be deleted and still hold something.
    pub(super) deleted: Mutex<Vec<ObjectId>>,
    /// Uids that the feed has sent to be looked at, and since when.
    pub(super) sent: Mutex<HashMap<String, i64>>,
    /// A watch has listed its objects.
    pub(super) listed: Notify,
    /// One of [`Self::sent`] was looked at.
    pub(super) room: Notify,
}

/// A lock that a panic elsewhere does not take along.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The object of this metadata.
    pub(super) fn object(&self, meta: &ObjectMeta) -> ObjectId {
        ObjectId {
            cluster: self.cluster.clone(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        }
    }

    /// Tells people, over the default alerters, until it is withdrawn.
    pub(super) async fn alarm(&self, kind: SystemKind, text: String) -> Result<bool, StoreError> {
        let report = SystemReport {
            kind,
            subject: self.cluster.clone(),
            text,
            since_ms: self.store.now_ms().await?,
            targets: self.routes.defaults(&[], None),
            srv: self.replica.clone(),
            life: Life::UntilWithdrawn,
        };
        self.store.report_system(&report).await
    }
}

impl Context {
    /// Whether this replica may still write.
    pub(super) fn leads(&self) -> bool {
        self.leading.is_valid(clock::boot_ms())
    }

    /// The objects of a namespace.
    pub(super) fn api(&self, namespace: &str) -> Api<Reservation> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Publishes an event. One that fails is lost: the log and the status say the same.
    pub(super) async fn event(
        &self,
        type_: EventType,
        reason: &str,
        note: &str,
        regarding: &ObjectReference,
    ) {
        let event = Event {
            type_,
            reason: reason.into(),
            // The API takes 1 kB.
            note: Some(note.chars().take(250).collect()),
            action: "Watch".into(),
            secondary: None,
        };
        let published = tokio::time::timeout(CALL_LIMIT, self.recorder.publish(&event, regarding)).await;
        let ok = matches!(published, Ok(Ok(())));
        self.shared.metrics.operator.wrote("event", ok);
        if let Ok(Err(e)) = published {
            tracing::debug!(error = %e, reason, "an event was not published");
        }
    }

    /// An event about this process.
    pub(super) async fn event_here(&self, reason: &str, note: &str) {
        let pod = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(self.shared.pod.clone()),
            uid: self.shared.config.pod_uid.clone(),
            namespace: Some(self.client.default_namespace().to_owned()),
            ..ObjectReference::default()
        };
        self.event(EventType::Warning, reason, note, &pod).await;
    }

    /// Notes how the database is; the first to find out says so.
    pub(super) async fn database(&self, error: Option<&StoreError>) {
        if !self.shared.failures.database(error.is_some()) {
            return;
        }
        match error {
            Some(e) => {
                tracing::warn!(error = %e, class = e.class(), "Kubernetes objects wait for the database");
                let note =
                    "the database does not answer: objects are not taken in, and their status stands still";
                self.event_here("DatabaseUnavailable", note).await;
            }
            None => {
                self.shared.failures.forgive();
                tracing::info!("Kubernetes objects are taken in again");
            }
        }
    }

    /// Notes whether the definition is there; the first to find out says so.
    pub(super) async fn definition(&self, missing: bool) {
        if !self.shared.failures.definition(missing) {
            return;
        }
        if missing {
            tracing::warn!(
                "the definition reservations.gotel.dev is not there; waiting for \
                 `gotel crd | kubectl apply --server-side -f -`"
            );
            let note = "the definition reservations.gotel.dev is not there: no object is taken in, and what was taken \
                        in before stays watched; apply what `gotel crd` prints";
            self.event_here("DefinitionMissing", note).await;
        } else {
            tracing::info!("the definition reservations.gotel.dev is there");
        }
    }

    /// Whether an object of this uid is still there; for what does not tell a deletion from a lost label.
    pub(super) async fn is_there(&self, object: &ObjectId) -> Result<bool, super::connect::CallError> {
        let found = call(self.api(&object.namespace).get_metadata_opt(&object.name)).await?;
        Ok(found.is_some_and(|found| found.meta().uid.as_deref() == Some(&*object.uid)))
    }
}
