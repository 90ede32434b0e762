//! One object: what it asks for is stored, and what is stored is shown.
//!
//! Promises: a pass that finds nothing new writes nothing, neither to the database nor to the API. What cannot be
//! agreed is said in the status, with the remedy, and what was agreed before goes on. Who lost against another looks
//! again soon, as whoever holds the reservation may let it go in another cluster, or over HTTP, where no watch tells.

use super::connect::{CallError, call};
use super::context::{Context, Guarded, locked};
use super::crd::{Reservation, ReservationStatus};
use super::spec::{self, Refusal};
use super::status::{self, Verdict};
use super::words::Reason;
use super::{diff, events};
use crate::clock;
use crate::store::{ObjectId, ObjectView, Plan, StoreError, Wish};
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use kube::core::error_boundary::InvalidObject;
use kube::{Resource, ResourceExt};
use kube_runtime::controller::Action;
use kube_runtime::events::EventType;
use serde::de::IgnoredAny;
use serde_json::json;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Who wrote a field.
const MANAGER: &str = "gotel";

/// Every object is looked at again after an hour and up to ten minutes, whatever happens.
const AGAIN: Duration = Duration::from_secs(3600);

/// Why an object could not be dealt with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Call(#[from] CallError),
}

/// One pass.
pub(super) async fn reconcile(object: Arc<Guarded>, ctx: Arc<Context>) -> Result<Action, Error> {
    let uid = object.meta().uid.clone().unwrap_or_default();
    let outcome = match ctx.leads() {
        // Whoever leads now looks at it.
        false => Ok(Action::await_change()),
        true => match &object.0 {
            Ok(object) => pass(object, &ctx).await,
            Err(invalid) => unreadable(invalid, &ctx).await,
        },
    };
    if outcome.is_ok() {
        ctx.shared.failures.went_well(&uid);
    }
    if locked(&ctx.sent).remove(&uid).is_some() {
        ctx.room.notify_one();
    }
    outcome
}

/// What an error means for the next pass.
pub(super) fn failed(object: Arc<Guarded>, error: &Error, ctx: Arc<Context>) -> Action {
    let uid = object.meta().uid.clone().unwrap_or_default();
    ctx.shared.metrics.operator.reconciled("failed");
    if let Error::Call(e) = error {
        tracing::debug!(object = object.name_any(), error = %e, "the status was not written");
    }
    Action::requeue(ctx.shared.failures.failed(&uid, clock::boot_ms()))
}

/// The status to write, and when to look again.
struct Found {
    status: ReservationStatus,
    lost: bool,
    adopted: bool,
    result: &'static str,
}

async fn pass(object: &Reservation, ctx: &Context) -> Result<Action, Error> {
    let id = ctx.shared.object(object.meta());
    let found = match look(object, &id, ctx).await {
        Ok(found) => {
            ctx.database(None).await;
            found
        }
        Err(e) => {
            ctx.database(Some(&e)).await;
            // One that was never spoken of is told why; the others keep what was last known.
            if object.status.is_none() {
                let now_ms = clock::wall_ms();
                let status = status::status(object.metadata.generation, Verdict::Unknown, None, None, now_ms);
                write(object.meta(), &status, ctx).await?;
            }
            return Err(e.into());
        }
    };
    let changed = object.status.as_ref() != Some(&found.status);
    let result = if found.result == "unchanged" && changed { "shown" } else { found.result };
    ctx.shared.metrics.operator.reconciled(result);
    if changed && write(object.meta(), &found.status, ctx).await? {
        let regarding = object.object_ref(&());
        if found.adopted {
            let note = "the reservation that was made over HTTP belongs to this object now";
            ctx.event(EventType::Normal, "Adopted", note, &regarding).await;
        }
        for told in events::between(object.status.as_ref(), &found.status) {
            ctx.event(told.type_(), &told.reason, &told.note, &regarding).await;
        }
    }
    Ok(Action::requeue(match found.lost {
        true => soon(ctx.shared.config.conflict_retry_ms),
        false => spread(AGAIN, &id.uid),
    }))
}

async fn look(object: &Reservation, id: &ObjectId, ctx: &Context) -> Result<Found, StoreError> {
    let (store, generation) = (&ctx.shared.store, object.metadata.generation);
    let found = |verdict: Verdict<'_>, view: Option<&ObjectView>, result| {
        let now_ms = view.map_or_else(clock::wall_ms, |view| view.now_ms);
        let status = status::status(generation, verdict, view, object.status.as_ref(), now_ms);
        Found { status, lost: false, adopted: false, result }
    };
    let (claims, alerters) = (ctx.shared.config.claims.as_ref(), ctx.shared.routes.names());
    let asked = match spec::ask(object, claims, &alerters, clock::wall_ms()) {
        Ok(asked) => asked,
        Err(refusal) => {
            let view = store.object(id).await?.filter(|view| view.held.object.uid == id.uid);
            return Ok(found(Verdict::Refused(&refusal), view.as_ref(), "invalid"));
        }
    };
    let wish = Wish {
        object: id,
        generation: generation.unwrap_or(0),
        settings: &asked.settings,
        reclaim: asked.reclaim,
        suspend: asked.suspend,
        likely_kept: status::is_settled(object),
    };
    let applied =
        store.apply_object(&asked.key, wish, |stored| diff::plan(&wish, asked.adopt, stored)).await?;
    let refusal = match &applied.plan {
        Plan::Write | Plan::Keep => {
            let result = if applied.plan == Plan::Write { "written" } else { "unchanged" };
            let done = found(Verdict::Kept, applied.view.as_ref(), result);
            return Ok(Found { adopted: applied.adopted, ..done });
        }
        // The watch will bring the newer one.
        Plan::Stale => return Ok(found(Verdict::Kept, applied.view.as_ref(), "unchanged")),
        Plan::HeldByApi => format!(
            "{} was made over HTTP: annotate this object with `{}: \"true\"` to take it over, or choose another name",
            asked.key,
            spec::ADOPT
        ),
        Plan::HeldByObject(other) => format!(
            "{} belongs to the Reservation {}/{} in cluster {}: choose another name, or delete that one",
            asked.key, other.namespace, other.name, other.cluster
        ),
    };
    let refusal = Refusal { reason: Reason::Conflict, message: refusal };
    Ok(Found { lost: true, ..found(Verdict::Refused(&refusal), None, "conflict") })
}

/// Says of an object that this program cannot read just that. Always in the same words, so that the API has nothing
/// to write the second time.
async fn unreadable(invalid: &InvalidObject, ctx: &Context) -> Result<Action, Error> {
    let meta = &invalid.metadata;
    tracing::warn!(
        namespace = meta.namespace,
        name = meta.name,
        error = invalid.error,
        "a Reservation does not fit the definition that this gotel knows"
    );
    let message = format!(
        "this gotel does not understand the object ({}): apply the definition and the object of one version",
        invalid.error.chars().take(200).collect::<String>()
    );
    let refusal = Refusal { reason: Reason::Unreadable, message };
    let since_ms = meta.creation_timestamp.as_ref().map_or(0, |t| t.0.as_millisecond());
    let status = status::status(meta.generation, Verdict::Refused(&refusal), None, None, since_ms);
    ctx.shared.metrics.operator.reconciled("unreadable");
    write(meta, &status, ctx).await?;
    let uid = meta.uid.clone().unwrap_or_default();
    Ok(Action::requeue(spread(AGAIN, &uid)))
}

/// Writes the status of this very object; false: it is gone.
async fn write(
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    status: &ReservationStatus,
    ctx: &Context,
) -> Result<bool, CallError> {
    if !ctx.leads() {
        return Ok(false);
    }
    let name = meta.name.clone().unwrap_or_default();
    let patch = Patch::Apply(json!({
        "apiVersion": Reservation::api_version(&()),
        "kind": Reservation::kind(&()),
        // Not the status of an object that was made again under its name.
        "metadata": { "name": name, "uid": meta.uid },
        "status": status,
    }));
    let url = Reservation::url_path(&(), meta.namespace.as_deref());
    let params = PatchParams::apply(MANAGER).force();
    let request = Request::new(url).patch_subresource("status", &name, &params, &patch);
    // The watch brings the object as it is then; to read the answer, too, would cost as much as to write the request.
    let request = request.map_err(kube::Error::BuildRequest);
    let written = call(async { ctx.client.request::<IgnoredAny>(request?).await }).await;
    ctx.shared.metrics.operator.wrote("status", written.is_ok());
    match written {
        Ok(_) => Ok(true),
        Err(e) if e.is_not_found() || e.is_conflict() => Ok(false),
        Err(e) => Err(e),
    }
}

/// So long, ± 20 %.
fn soon(ms: i64) -> Duration {
    Duration::from_millis(ms.unsigned_abs()).mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// A fixed time would bring all objects back at once, hour after hour.
fn spread(again: Duration, uid: &str) -> Duration {
    let mut hash = DefaultHasher::new();
    uid.hash(&mut hash);
    again + Duration::from_millis(hash.finish() % 600_000)
}
