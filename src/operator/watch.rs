//! The watch of one namespace, or of all.
//!
//! Promises: an object that cannot be read does not stop the others; a watch that is cut without a word is noticed
//! within its own length; a status that this process wrote wakes nobody; what is not needed of an object is not kept.
//! Deletions are tapped here, as nothing later sees them.

use super::context::{Context, Guarded, locked};
use super::spec::ADOPT;
use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource, ResourceExt};
use kube_runtime::reflector::store::Writer;
use kube_runtime::utils::Backoff;
use kube_runtime::watcher::{self, Event, watcher};
use kube_runtime::{PredicateConfig, WatchStreamExt};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
) -> impl Stream<Item = Result<Guarded, watcher::Error>> + Send + 'static {
    let config = &ctx.shared.config;
    let mut settings = watcher::Config::default().timeout(config.watch_timeout_s);
    if let Some(selector) = &config.selector {
        settings = settings.labels(selector);
    }
    let (ctx, failing) = (Arc::clone(ctx), AtomicBool::new(false));
    watcher(api, settings)
        .backoff(Patience(0))
        .modify(trim)
        .inspect(move |event| tap(&ctx, &failing, event))
        .reflect(writer)
        .applied_objects()
        .predicate_filter(wakes, PredicateConfig::default().ttl(Duration::from_secs(30 * 86_400)))
}

fn tap(ctx: &Context, failing: &AtomicBool, event: &Result<Event<Guarded>, watcher::Error>) {
    match event {
        Ok(event) => {
            if failing.swap(false, Ordering::Relaxed) {
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
            if !failing.swap(true, Ordering::Relaxed) {
                tracing::warn!(error = %e, "Kubernetes objects cannot be watched: {}", remedy(e));
            }
        }
    }
}

fn remedy(error: &watcher::Error) -> &'static str {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    };
    match status {
        Some(status) if status.is_not_found() => {
            "the definition is not there; waiting for `gotel crd | kubectl apply --server-side -f -`"
        }
        Some(status) if status.is_forbidden() => "its service account may not; see docs/kubernetes.md",
        _ => "what is stored goes on being watched; trying again",
    }
}
