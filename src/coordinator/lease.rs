//! Who coordinates, and who writes for a Kubernetes cluster: does what the [`Election`] asks for, on a connection of its own, and tells the others
//! what came of it.
//!
//! Promises: each operation ends within T; whoever reads [`super::Leads`] sees a [`Leading`] only while the
//! election believes in it, and its end takes effect at once for every copy; at the end the lease is given
//! back.
//!
//! Races: see [`super::election`] for those between replicas, and `store::lease` for the fence on which safety
//! rests.

use super::Standing;
use super::election::{Election, Event, Grounds, News, Now, Reason, Row, Step};
use super::timers::Timers;
use crate::clock;
use crate::lifecycle::{Bar, Loops, Pulse};
use crate::metrics::Metrics;
use crate::store::lease::{COORDINATOR, Claim, Observed};
use crate::store::{Leading, Session, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Which operations fail: said once each, not each second. Ordered by how bad that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Failing {
    Write,
    Look,
}

/// What a lease is held for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Office {
    /// Its row.
    pub(super) scope: &'static str,
    /// The keeper's name among the loops.
    pub(super) pulse: &'static str,
    /// What its holder is, on pages.
    pub(super) holder: &'static str,
    /// What its holder does, in the log.
    pub(super) does: &'static str,
    /// Whether it is the coordinator's: given up with the evaluations, and shown in the figures.
    pub(super) coordinates: bool,
}

/// The coordinator's.
pub(super) const COORDINATES: Office = Office {
    scope: COORDINATOR,
    pulse: "lease",
    holder: "coordinator",
    does: "coordinates",
    coordinates: true,
};

/// Keeps the lease, or waits for it.
pub(super) struct Keeper {
    office: Office,
    session: Session,
    replica: String,
    timers: Timers,
    election: Election,
    /// Drawn with each look at the row, for the bid that may follow.
    draft: Option<Claim>,
    /// The last bid, and why it was allowed.
    claim: Option<Claim>,
    grounds: Grounds,
    leading: Option<Leading>,
    publish: watch::Sender<Option<Leading>>,
    pulse: Arc<Pulse>,
    loops: Arc<Loops>,
    bar: Arc<Bar>,
    metrics: Arc<Metrics>,
    /// What failed last, until it works again.
    failing: Option<Failing>,
    /// The reason not to lead, and whether it was told: one that a cluster's keeper begins with is no news.
    barred: Option<String>,
    bar_told: bool,
}

impl Keeper {
    pub(super) fn new(office: Office, c: &Standing, publish: watch::Sender<Option<Leading>>) -> Self {
        Self {
            session: c.store.session(),
            replica: c.replica.clone(),
            timers: c.timers,
            election: Election::new(c.timers),
            draft: None,
            claim: None,
            grounds: Grounds::Vacant,
            leading: None,
            publish,
            pulse: c.loops.register(office.pulse, Duration::from_secs(30)),
            loops: Arc::clone(&c.loops),
            bar: Arc::clone(&c.bar),
            metrics: Arc::clone(&c.metrics),
            failing: None,
            barred: if office.coordinates { None } else { c.bar.reason() },
            bar_told: false,
            office,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.figure(false);
        let mut event = Event::Woken;
        loop {
            let step = self.decide(event);
            let Step::Rest { for_ms } = step else {
                event = self.step(step).await;
                continue;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(self.pause(for_ms)) => event = Event::Woken,
            }
        }
        self.no_longer();
        if self.election.has_claim()
            && let Some(claim) = self.claim.take()
            && let Err(e) = self.session.release(&claim, self.timers.limits()).await
        {
            tracing::warn!(error = %e, "the lease was not given back; another replica will wait for it to run out");
        }
    }

    fn decide(&mut self, event: Event) -> Step {
        let barred = self.bar.reason();
        if barred != self.barred {
            match &barred {
                Some(why) if self.office.coordinates => {
                    tracing::error!(why, "this replica must not coordinate")
                }
                Some(why) => tracing::info!(why, "this replica leaves {} to others", self.office.scope),
                None if self.bar_told => {
                    tracing::info!("this replica may hold {} again", self.office.scope);
                }
                None => {}
            }
            self.bar_told = barred.is_some();
            self.barred.clone_from(&barred);
        }
        let now = Now {
            boot_ms: clock::boot_ms(),
            evaluation_age_ms: self.evaluation_age_ms(),
            barred: barred.is_some(),
        };
        let next = self.election.next(event, now);
        match next.news {
            Some(News::Leads) => self.lead(),
            Some(News::SteppedDown(reason)) => self.step_down(reason),
            None => {}
        }
        next.step
    }

    /// One operation. It marks the pulse when the database answered.
    async fn step(&mut self, step: Step) -> Event {
        let looks = matches!(step, Step::Observe);
        match self.operate(step).await {
            Ok(event) => {
                // A full disk can be read: that alone is no news.
                if self.failing.is_some_and(|failing| !looks || failing == Failing::Look) {
                    self.failing = None;
                    tracing::info!("the lease can be {} again", if looks { "read" } else { "written" });
                }
                self.pulse.beat_with(match (&self.leading, &self.barred) {
                    (Some(_), _) => self.office.holder.into(),
                    (None, None) => "worker".into(),
                    (None, Some(why)) => format!("worker; must not be {}: {why}", self.office.holder),
                });
                event
            }
            Err(e) => {
                let (failing, what) = match looks {
                    true => (Failing::Look, "the lease cannot be read"),
                    false => (Failing::Write, "the lease cannot be written"),
                };
                self.pulse.tried(what);
                // One that cannot even be read is worse news than one that cannot be written.
                if self.failing.is_none_or(|known| known < failing) {
                    self.failing = Some(failing);
                    tracing::warn!(error = %e, class = e.class(), "{what}");
                }
                Event::Failed
            }
        }
    }

    async fn operate(&mut self, step: Step) -> Result<Event, StoreError> {
        let limits = self.timers.limits();
        match (step, &self.claim, &self.leading) {
            (Step::Observe, ..) => {
                let row = self.session.observe(self.office.scope, limits.op).await?;
                let draft = self.draft.insert(Claim::new(self.office.scope, &row));
                Ok(Event::Read { fresh: draft.token(), row: Row::from(&row) })
            }
            (Step::Take { token, grounds }, ..) => {
                // Noted before it is sent: the reply may be lost. An earlier bid's token means that bid again.
                self.claim = self.draft.take().filter(|d| d.token() == token).or(self.claim.take());
                self.grounds = grounds;
                let Some(claim) = &self.claim else { return Ok(Event::Beaten) };
                self.leading = self.session.take(claim, &self.replica, limits).await?;
                Ok(if self.leading.is_some() { Event::Taken } else { Event::Beaten })
            }
            (Step::Prove, Some(claim), _) => match self.session.prove(claim, limits).await {
                Ok(leading) => {
                    self.leading = Some(leading);
                    Ok(Event::Renewed)
                }
                Err(StoreError::Fenced) => Ok(Event::Fenced),
                Err(e) => Err(e),
            },
            (Step::Renew, _, Some(leading)) => match self.session.renew(leading).await {
                Ok(()) => Ok(Event::Renewed),
                Err(StoreError::Fenced) => Ok(Event::Fenced),
                Err(e) => Err(e),
            },
            (Step::Release, Some(claim), _) => {
                self.session.release(claim, limits).await?;
                Ok(Event::Released)
            }
            // There is nothing to prove, renew or give back without a bid.
            (Step::Prove | Step::Renew, ..) => Ok(Event::Fenced),
            (Step::Release, ..) => Ok(Event::Released),
            (Step::Rest { .. }, ..) => Ok(Event::Woken),
        }
    }

    fn lead(&mut self) {
        let Some(leading) = &self.leading else { return };
        let (term, grounds) = (leading.term(), self.grounds.as_str());
        tracing::info!(term, grounds, "this replica {}", self.office.does);
        if self.office.coordinates {
            self.metrics.takeover(grounds, term);
        }
        self.figure(true);
        self.publish.send_replace(self.leading.clone());
    }

    fn step_down(&mut self, reason: Reason) {
        let term = self.leading.as_ref().map(Leading::term);
        match reason {
            Reason::Overtaken => tracing::warn!(term, "another replica took the lease"),
            Reason::NotRenewed => {
                tracing::warn!(term, "the lease could not be renewed in time: stepping down");
            }
            Reason::Stuck => {
                tracing::error!(term, "no complete evaluation for 30 s: giving the lease up to whoever can");
            }
            Reason::Barred => tracing::warn!(term, "stepping down, as this replica must not coordinate"),
        }
        self.no_longer();
    }

    fn no_longer(&mut self) {
        if let Some(leading) = self.leading.take() {
            leading.end();
        }
        self.publish.send_replace(None);
        self.figure(false);
    }

    fn figure(&self, leads: bool) {
        if self.office.coordinates {
            self.metrics.set_leader(&self.replica, leads);
        }
    }

    /// Holders spread their renewals, so that those of many installations on one server do not come together.
    fn pause(&self, for_ms: i64) -> Duration {
        let spread = if self.leading.is_some() { for_ms / 10 } else { 0 };
        // Earlier only: later could be too late.
        let for_ms = for_ms - fastrand::i64(0..=spread);
        Duration::from_millis(u64::try_from(for_ms).unwrap_or(0))
    }

    /// The evaluator marks its work as done also while it has nothing to do, so silence means it hangs or fails.
    fn evaluation_age_ms(&self) -> i64 {
        if !self.office.coordinates {
            return 0;
        }
        self.loops.ages().iter().filter(|l| l.name == "evaluate").map(|l| l.done_age_ms).max().unwrap_or(0)
    }
}

impl From<&Observed> for Row {
    fn from(row: &Observed) -> Self {
        Self {
            term: row.term,
            beat: row.beat,
            vacant: row.holder.is_empty(),
            // A token that is none is not ours.
            token: Uuid::try_parse(&row.token).unwrap_or_default(),
            lease_ms: row.lease_ms,
            age_ms: row.age_ms,
        }
    }
}
