//! The status feed: what has changed in the database is sent to be shown.
//!
//! Promises: what changed in kind (late, failed, snoozed, told) is sent at once; mere times at most once a minute an
//! object, and through a bucket. Only so many are on their way at a time, so that a new object never waits behind
//! thousands of refreshes. One query serves all objects, and takes at most a twentieth of the time.

use super::bucket::Bucket;
use super::context::{Context, Guarded, locked};
use super::status::{Staleness, condition, staleness};
use super::sweep::Sweep;
use super::words::{READY, Reason};
use crate::clock;
use crate::store::StoreError;
use futures::channel::mpsc::UnboundedSender;
use kube::Resource;
use kube_runtime::reflector::{ObjectRef, Store};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at the database, at least.
const PERIOD: Duration = Duration::from_secs(2);
/// Between two looks while more waits than may be on its way.
const BUSY: Duration = Duration::from_millis(100);
/// Objects that may be on their way at a time.
const WINDOW: usize = 64;
/// One that is not heard of again for so long is on its way no more.
const FORGOTTEN_MS: i64 = 30_000;
/// Times of one object are refreshed at most this often.
const TIMES_EVERY_MS: i64 = 60_000;

/// One watch: its objects, and the way to have one looked at.
pub(super) struct Place {
    pub(super) objects: Store<Guarded>,
    pub(super) look_at: UnboundedSender<ObjectRef<Guarded>>,
}

pub(super) struct Feed {
    ctx: Arc<Context>,
    places: Vec<Place>,
    sweep: Sweep,
    bucket: Bucket,
    /// Uid → when its status was last sent to be refreshed.
    shown: HashMap<String, i64>,
}

/// An object that is to be looked at: its watch, itself, its uid.
type Due = (usize, ObjectRef<Guarded>, String);

impl Feed {
    pub(super) fn new(ctx: Arc<Context>, places: Vec<Place>) -> Self {
        let bucket = Bucket::new(ctx.shared.config.status_writes_per_second, clock::boot_ms());
        Self { sweep: Sweep::new(&ctx), ctx, places, bucket, shown: HashMap::new() }
    }

    pub(super) async fn run(mut self) {
        for place in &self.places {
            // An error means that the watch has ended, and this term with it.
            if place.objects.wait_until_ready().await.is_err() {
                return std::future::pending().await;
            }
        }
        loop {
            let began_us = clock::boot_us();
            let outcome = self.step().await;
            self.ctx.database(outcome.as_ref().err()).await;
            let rest = match outcome {
                Ok(0) | Err(_) => PERIOD.max(clock::since_us(began_us) * 20),
                Ok(_) => BUSY.max(clock::since_us(began_us) * 2),
            };
            tokio::time::sleep(rest).await;
        }
    }

    /// One look; says how many wait.
    async fn step(&mut self) -> Result<usize, StoreError> {
        let ctx = Arc::clone(&self.ctx);
        let shared = &ctx.shared;
        // First the rows: whatever has one was in the watch before.
        let (rows, now_ms) = shared.store.owned(&shared.cluster).await?;
        let by_uid: HashMap<&str, _> = rows.iter().map(|row| (&*row.held.object.uid, row)).collect();
        let (mut live, mut losers) = (HashSet::new(), Vec::new());
        let (mut transitions, mut times): (Vec<Due>, Vec<Due>) = (Vec::new(), Vec::new());
        let mut ready: HashMap<&str, usize> = ["True", "False", "Unknown"].map(|word| (word, 0)).into();
        let boot_ms = clock::boot_ms();
        for (place, watch) in self.places.iter().enumerate() {
            for object in watch.objects.state() {
                let uid = object.meta().uid.clone().unwrap_or_default();
                let due = || (place, ObjectRef::from_obj(&*object), uid.clone());
                if let Ok(object) = &object.0 {
                    let says = condition(object.status.as_ref(), READY);
                    *ready.entry(known(says.map(|c| &*c.status))).or_default() += 1;
                    if says.is_some_and(|c| c.reason == Reason::Conflict.as_str()) {
                        losers.push(due());
                    }
                    let shown_ms = self.shown.get(&uid).copied().unwrap_or(i64::MIN);
                    match staleness(object, by_uid.get(&*uid).copied(), now_ms) {
                        Staleness::Transition => transitions.push(due()),
                        Staleness::Times if shown_ms.saturating_add(TIMES_EVERY_MS) <= boot_ms => {
                            times.push(due())
                        }
                        Staleness::Times | Staleness::Fresh => {}
                    }
                }
                live.insert(uid);
            }
        }
        for (word, count) in ready {
            shared.metrics.operator.objects(known(Some(word)), count);
        }
        if self.sweep.step(&rows, &live, now_ms).await? {
            // What was let go may be theirs now.
            transitions.append(&mut losers);
        }
        self.shown.retain(|uid, _| live.contains(uid));
        let waiting = self.send(transitions, times, boot_ms);
        shared.metrics.operator.backlog(waiting);
        shared.pulse.beat_with(format!("writes for cluster {}: {} objects", shared.cluster, live.len()));
        Ok(waiting)
    }

    /// Sends as many as may be on their way; says how many are left.
    fn send(&mut self, transitions: Vec<Due>, times: Vec<Due>, boot_ms: i64) -> usize {
        let all = transitions.len() + times.len();
        let mut sent = locked(&self.ctx.sent);
        sent.retain(|_, since_ms| *since_ms + FORGOTTEN_MS > boot_ms);
        let first = transitions.len();
        let mut gone = 0;
        for (n, (place, object, uid)) in transitions.into_iter().chain(times).enumerate() {
            if sent.contains_key(&uid) {
                gone += 1;
                continue;
            }
            if sent.len() >= WINDOW || (n >= first && !self.bucket.take(boot_ms)) {
                break;
            }
            gone += 1;
            sent.insert(uid.clone(), boot_ms);
            self.shown.insert(uid, boot_ms);
            // The other end is gone only when this term is.
            let _ = self.places[place].look_at.unbounded_send(object);
        }
        all - gone
    }
}

/// A condition's status as a label.
fn known(word: Option<&str>) -> &'static str {
    match word {
        Some("True") => "True",
        Some("False") => "False",
        _ => "Unknown",
    }
}
