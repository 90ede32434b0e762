//! The watch of one namespace, or of all.
//!
//! Promises: an object that cannot be read does not stop the others; a watch that is cut without a word is noticed
//! within its own length; one that fails is tried again for ever, at most every 10 s, and said once; a status that this
//! process wrote wakes nobody; what is not needed of an object is not kept. Deletions are tapped here, as nothing later
//! sees them.

use super::context::{Context, Guarded, locked};
use super::place::{Health, Trouble};
use super::spec::ADOPT;
use crate::clock;
use futures::future::ready;
use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource, ResourceExt};
use kube_runtime::reflector::store::Writer;
use kube_runtime::utils::Backoff;
use kube_runtime::watcher::{self, Event, watcher};
use kube_runtime::{PredicateConfig, WatchStreamExt};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Between two tries of a watch that fails: 0.5 s to 10 s, spread.
#[derive(Debug, Clone)]
struct Patience(u32);

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let ms = (500u64 << self.0.min(5)).min(10_000);
        self.0 += 1;
        Some(Duration::from_millis(ms).mul_f64(0.8 + 0.4 * fastrand::f64()))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// What of an object is looked at: neither its status nor who wrote what.
fn wakes(object: &Guarded) -> Option<u64> {
    let meta = object.meta();
    let mut hash = DefaultHasher::new();
    (&meta.generation, object.annotations().get(ADOPT)).hash(&mut hash);
    if object.0.is_err() {
        meta.resource_version.hash(&mut hash);
    }
    Some(hash.finish())
}

/// Drops what nobody reads: with thousands of objects it is most of the memory.
fn trim(object: &mut Guarded) {
    let meta: &mut ObjectMeta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|name, _| name == ADOPT);
    }
    meta.labels = None;
    meta.owner_references = None;
}

/// Objects to look at, as they come.
pub(super) fn stream(
    api: Api<Guarded>,
    writer: Writer<Guarded>,
    ctx: &Arc<Context>,
    health: &Arc<Health>,
) -> impl Stream<Item = Result<Guarded, watcher::Error>> + Send + 'static {
    let config = &ctx.shared.config;
    let mut settings = watcher::Config::default().timeout(config.watch_timeout_s);
    if let Some(selector) = &config.selector {
        settings = settings.labels(selector);
    }
    let (before, after) = ((Arc::clone(ctx), Arc::clone(health)), (Arc::clone(ctx), Arc::clone(health)));
    watcher(api, settings)
        .modify(trim)
        .inspect(move |event| tap(&before.0, &before.1, event))
        .reflect(writer)
        .inspect(move |event| {
            // Only now are they in the store.
            if let Ok(Event::InitDone) = event {
                after.1.listed();
                after.0.listed.notify_one();
            }
        })
        .applied_objects()
        // Behind what is no object: each try begins with an event that says so, and would begin the waits anew.
        .backoff(Patience(0))
        .predicate_filter(wakes, PredicateConfig::default().ttl(Duration::from_secs(30 * 86_400)))
        // A failure was told where it was met; the controller would wait once more.
        .filter(|object| ready(object.is_ok()))
}

fn tap(ctx: &Context, health: &Health, event: &Result<Event<Guarded>, watcher::Error>) {
    match event {
        // A try, and no success yet.
        Ok(Event::Init) => {}
        Ok(event) => {
            ctx.shared.metrics.operator.watch_told(clock::wall_ms());
            if health.works() {
                ctx.shared.failures.forgive();
                tracing::info!("Kubernetes objects are watched again");
            }
            match event {
                Event::Delete(object) => locked(&ctx.deleted).push(ctx.shared.object(object.meta())),
                Event::InitDone => ctx.shared.metrics.operator.watch_restarted(),
                _ => {}
            }
        }
        // A watch that has grown too old is begun anew by the watcher: no news.
        Err(watcher::Error::WatchError(status)) if status.code == 410 => {}
        Err(e) => {
            let trouble = Trouble::of(e);
            let news = health.fails(trouble, clock::boot_ms());
            let remedy = match trouble {
                // Said once for all by the feed.
                Trouble::Undefined => return,
                Trouble::Forbidden => "its service account may not; see docs/kubernetes.md",
                Trouble::Failing => "what is stored goes on being watched; trying again",
            };
            if news {
                tracing::warn!(error = %e, "Kubernetes objects cannot be watched: {remedy}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_nobody_reads_is_not_kept() {
        let mut object: Guarded = serde_json::from_value(json!({
            "apiVersion": "gotel.dev/v1alpha1", "kind": "Reservation",
            "metadata": {
                "name": "nightly", "namespace": "team-a", "uid": "u1", "generation": 3, "resourceVersion": "7",
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
                "labels": {"team": "x"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u0"}],
                "annotations": {ADOPT: "true", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            },
            "spec": {"app": "billing", "component": "nightly", "schedule": {"every": "1h"}},
            "status": {"phase": "Late"},
        }))
        .unwrap();
        trim(&mut object);
        let kept = object.0.unwrap();
        assert_eq!(
            serde_json::to_value(&kept.metadata).unwrap(),
            json!({"name": "nightly", "namespace": "team-a", "uid": "u1", "generation": 3, "resourceVersion": "7",
                "annotations": {ADOPT: "true"}})
        );
        assert_eq!((&*kept.spec.app, kept.status.is_some()), ("billing", true));
        // An object that cannot be read is trimmed as well.
        let mut broken: Guarded = serde_json::from_value(json!({
            "metadata": {"name": "broken", "managedFields": [{"manager": "kubectl"}]}, "spec": {"app": 5},
        }))
        .unwrap();
        assert!(broken.0.is_err());
        trim(&mut broken);
        assert_eq!(broken.meta().managed_fields, None);
    }
}
