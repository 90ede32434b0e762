//! The status feed: what has changed in the database is sent to be shown.
//!
//! Promises: what changed in kind (late, failed, snoozed, told) is sent at once; mere times at most once a minute an
//! object, and through a bucket ([`Queue`]). One query serves all objects, and takes at most a twentieth of the time.
//! Each watch waits apart for its first list: one that may not be listed, or a definition that is not there, keeps no
//! other waiting, and this loop moves all the while. What is held in a place that was not listed is neither judged nor
//! swept.

use super::context::{Context, Guarded, locked};
use super::place::{Place, Stand, Trouble};
use super::queue::{Due, Queue, Waiting};
use super::status::{Staleness, condition, staleness};
use super::sweep::Sweep;
use super::words::{READY, Reason};
use crate::clock;
use crate::store::{OwnedRow, StoreError};
use kube::Resource;
use kube_runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at the database, at least.
const PERIOD: Duration = Duration::from_secs(2);
/// Between two tries to send what waits for its time, or for what is on its way and not heard of again.
const BUSY: Duration = Duration::from_millis(100);

pub(super) struct Feed {
    ctx: Arc<Context>,
    places: Vec<Place>,
    sweep: Sweep,
    queue: Queue,
    /// What the last look found and could not send yet.
    waiting: Waiting<Look>,
}

/// An object that is to be looked at: its watch, and itself.
type Look = (usize, ObjectRef<Guarded>);

impl Feed {
    pub(super) fn new(ctx: Arc<Context>, places: Vec<Place>) -> Self {
        let config = &ctx.shared.config;
        let queue = Queue::new(config.status_writes_per_second, config.times_every_ms, clock::boot_ms());
        Self { sweep: Sweep::new(&ctx), ctx, places, queue, waiting: Waiting::default() }
    }

    pub(super) async fn run(mut self) {
        loop {
            let began_us = clock::boot_us();
            let places = self.places().await;
            let listed: Vec<usize> = (0..places.len()).filter(|n| places[*n].0).collect();
            let unlisted: Vec<String> = (self.places.iter().zip(&places))
                .filter(|(_, (listed, _))| !listed)
                .map(|(place, (_, stand))| place.why(*stand))
                .collect();
            if listed.is_empty() {
                self.ctx.shared.pulse.tried(unlisted.join("; "));
                tokio::select! {
                    () = tokio::time::sleep(PERIOD) => {}
                    () = self.ctx.listed.notified() => {}
                }
                continue;
            }
            let outcome = self.step(&listed, &unlisted).await;
            self.ctx.database(outcome.as_ref().err()).await;
            if let Err(e) = outcome {
                self.ctx.shared.pulse.tried(format!("the database: {}", e.class()));
                self.waiting = Waiting::default();
            }
            self.rest(PERIOD.max(clock::since_us(began_us) * 20)).await;
        }
    }

    /// Until the next look: sends what waits as room is made.
    async fn rest(&mut self, rest: Duration) {
        let began_us = clock::boot_us();
        while self.waiting.len() > 0 {
            let left = rest.saturating_sub(clock::since_us(began_us));
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(BUSY.min(left)) => {}
                () = self.ctx.room.notified() => {}
            }
            self.send();
        }
        tokio::time::sleep(rest.saturating_sub(clock::since_us(began_us))).await;
    }

    /// How each place stands: whether it was listed, and the rest.
    async fn places(&self) -> Vec<(bool, Stand)> {
        let boot_ms = clock::boot_ms();
        let looks: Vec<_> = self.places.iter().map(|place| place.health.look(boot_ms)).collect();
        for stand in Stand::ALL {
            let count = looks.iter().filter(|(_, found, _)| *found == stand).count();
            self.ctx.shared.metrics.operator.watches(stand.word(), count);
        }
        if looks.iter().any(|(.., over)| *over) {
            self.ctx.shared.failures.forgive();
            tracing::info!("Kubernetes objects are watched again");
        }
        let any = |stand| looks.iter().any(|(_, found, _)| *found == stand);
        if any(Stand::In(Trouble::Undefined)) {
            self.ctx.definition(true).await;
        } else if any(Stand::Up) {
            self.ctx.definition(false).await;
        }
        looks.into_iter().map(|(listed, stand, _)| (listed, stand)).collect()
    }

    /// One look at the places that were listed.
    async fn step(&mut self, listed: &[usize], unlisted: &[String]) -> Result<(), StoreError> {
        let ctx = Arc::clone(&self.ctx);
        let shared = &ctx.shared;
        // First the rows: whatever has one was in the watch before.
        let (rows, now_ms) = shared.store.owned(&shared.cluster).await?;
        let by_uid: HashMap<&str, _> = rows.iter().map(|row| (&*row.held.object.uid, row)).collect();
        let (mut live, mut losers) = (HashSet::new(), Vec::new());
        let (mut transitions, mut times): (Vec<Due<Look>>, Vec<Due<Look>>) = (Vec::new(), Vec::new());
        let mut ready: HashMap<&str, usize> = ["True", "False", "Unknown"].map(|word| (word, 0)).into();
        let boot_ms = clock::boot_ms();
        for &place in listed {
            for object in self.places[place].objects.state() {
                let uid = object.meta().uid.clone().unwrap_or_default();
                let due = || (uid.clone(), (place, ObjectRef::from_obj(&*object)));
                if let Ok(object) = &object.0 {
                    let says = condition(object.status.as_ref(), READY);
                    *ready.entry(known(says.map(|c| &*c.status))).or_default() += 1;
                    if says.is_some_and(|c| c.reason == Reason::Conflict.as_str()) {
                        losers.push(due());
                    }
                    match staleness(object, by_uid.get(&*uid).copied(), now_ms) {
                        // It comes by itself.
                        Staleness::Transition | Staleness::Times if shared.failures.waits(&uid, boot_ms) => {}
                        Staleness::Transition => transitions.push(due()),
                        Staleness::Times if self.queue.may_refresh(&uid, boot_ms) => times.push(due()),
                        Staleness::Times | Staleness::Fresh => {}
                    }
                }
                live.insert(uid);
            }
        }
        for (word, count) in ready {
            shared.metrics.operator.objects(known(Some(word)), count);
        }
        let seen = |row: &&OwnedRow| {
            listed.iter().any(|&place| self.places[place].covers(&row.held.object.namespace))
        };
        let watched: Vec<_> = rows.iter().filter(seen).collect();
        if self.sweep.step(&watched, &live, unlisted.is_empty(), now_ms).await? {
            // What was let go may be theirs now.
            transitions.append(&mut losers);
        }
        self.queue.keep(&mut locked(&ctx.sent), |uid| live.contains(uid));
        self.waiting = self.queue.line_up(transitions, times);
        self.send();
        let mut note = format!("writes for cluster {}: {} objects", shared.cluster, live.len());
        for why in unlisted {
            note += &format!("; {why}");
        }
        shared.pulse.beat_with(note);
        Ok(())
    }

    /// Sends as many as may be on their way.
    fn send(&mut self) {
        let sent = &mut locked(&self.ctx.sent);
        for (place, object) in self.queue.take(sent, &mut self.waiting, clock::boot_ms()) {
            // The other end is gone only when this term is.
            let _ = self.places[place].look_at.unbounded_send(object);
        }
        self.ctx.shared.metrics.operator.backlog(self.waiting.len());
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
