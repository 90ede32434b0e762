//! Opens and closes the system incidents that the watch loop finds.
//!
//! Promises: what is found is reported as soon as the database takes it, and closed once it is over; what an
//! earlier process told is closed, too. However many replicas find one thing, it has one open incident
//! (`store::incidents`). A failure is tried again each second.

use super::direct::Unwritten;
use super::sight::Told;
use crate::clock;
use crate::lifecycle::Pulse;
use crate::reservation::routing::Routes;
use crate::store::{Life, Store, StoreError, SystemKind, SystemReport};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Between two looks at what is found.
const PERIOD: Duration = Duration::from_secs(1);

/// Between two reports of what stays open: another replica, which sees it otherwise, may have closed it.
const AGAIN_MS: i64 = 60_000;

/// One thing that may be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What.
    pub kind: SystemKind,
    /// Of whom.
    pub subject: String,
    /// Some: it is to be open, with this text and since so long. None: it is over.
    pub open: Option<Open>,
}

/// A trouble to be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// What it means and what to do.
    pub text: String,
    /// How long it has stood when it was found.
    pub age_ms: i64,
}

/// What of it is open, for those who ask whether it was told.
#[derive(Debug, Clone, Default)]
pub struct Reported(Arc<RwLock<BTreeMap<(&'static str, String), i64>>>);

impl Reported {
    /// As of `boot_ms`.
    pub fn told(&self, boot_ms: i64) -> Vec<Told> {
        let open = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let told = |((kind, subject), at): (&(&'static str, String), &i64)| Told {
            kind: (*kind).to_owned(),
            subject: subject.clone(),
            age_ms: boot_ms - at,
        };
        open.iter().map(told).collect()
    }

    fn note(&self, wanted: &Wanted, boot_ms: i64) {
        let (mut all, key) = (
            self.0.write().unwrap_or_else(PoisonError::into_inner),
            (wanted.kind.as_str(), wanted.subject.clone()),
        );
        match wanted.open {
            Some(_) => _ = all.entry(key).or_insert(boot_ms),
            None => _ = all.remove(&key),
        }
    }
}

/// Tells.
pub struct Teller {
    /// The database.
    pub store: Store,
    /// Who is told.
    pub routes: Routes,
    /// This replica.
    pub srv: String,
    /// What is found.
    pub wanted: watch::Receiver<Vec<Wanted>>,
    /// Rung when there is something in the outbox.
    pub wake: Arc<Notify>,
    /// Its age.
    pub pulse: Arc<Pulse>,
    /// What was told last of each, and when; begin empty: an earlier process may have told anything.
    pub told: HashMap<(&'static str, String), (bool, i64)>,
    /// Where it is noted for the others.
    pub reported: Reported,
    /// Where it is noted that it could not be told.
    pub unwritten: Unwritten,
    /// Whether the last try failed: said once, not each second.
    pub failing: bool,
}

impl Teller {
    /// Tells until `stop`.
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

    /// Tells what is new.
    pub async fn step(&mut self) {
        for wanted in self.news() {
            match self.tell(&wanted).await {
                Ok(()) => {
                    self.failing = false;
                    self.reported.note(&wanted, clock::boot_ms());
                    self.unwritten.settled(wanted.kind, &wanted.subject);
                    let told = (wanted.open.is_some(), clock::boot_ms());
                    self.told.insert((wanted.kind.as_str(), wanted.subject), told);
                }
                Err(e) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        let (kind, subject) = (wanted.kind.as_str(), &wanted.subject);
                        tracing::warn!(error = %e, kind, subject, "what is found of the replicas cannot be written down");
                    }
                    if let Some(open) = &wanted.open {
                        self.unwritten.failed(wanted.kind, &wanted.subject, &open.text, clock::boot_ms());
                    }
                    self.pulse.tried("the database is not reached");
                    return;
                }
            }
        }
        self.pulse.beat();
    }

    fn news(&self) -> Vec<Wanted> {
        let wanted = self.wanted.borrow();
        let boot_ms = clock::boot_ms();
        let is_new = |w: &&Wanted| match self.told.get(&(w.kind.as_str(), w.subject.clone())) {
            Some((open, at)) => *open != w.open.is_some() || (*open && boot_ms - at >= AGAIN_MS),
            None => true,
        };
        wanted.iter().filter(is_new).cloned().collect()
    }

    async fn tell(&self, wanted: &Wanted) -> Result<(), StoreError> {
        let Some(open) = &wanted.open else {
            if self.store.withdraw_system(wanted.kind, &wanted.subject, &self.srv).await? {
                tracing::info!(kind = wanted.kind.as_str(), subject = wanted.subject, "over");
                self.wake.notify_waiters();
            }
            return Ok(());
        };
        let report = SystemReport {
            kind: wanted.kind,
            subject: wanted.subject.clone(),
            text: open.text.clone(),
            since_ms: self.store.now_ms().await? - open.age_ms,
            targets: self.routes.defaults(&[], None),
            srv: self.srv.clone(),
            life: Life::UntilWithdrawn,
        };
        if self.store.report_system(&report).await? {
            tracing::error!(kind = wanted.kind.as_str(), subject = wanted.subject, "{}", open.text);
            self.wake.notify_waiters();
        }
        Ok(())
    }
}
