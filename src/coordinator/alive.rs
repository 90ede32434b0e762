//! The mark that says when a check-in could last be accepted, and what is told when it was old; and a look
//! at whether the reservations are evaluated while the database is reached.

use super::{Context, Coordinator, Witness};
use crate::clock;
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::reservation::{duration, message, outage::Outage};
use crate::store::dialect::Dialect;
use crate::store::lease::COORDINATOR;
use crate::store::{Life, Session, Store, StoreError, SystemKind, SystemReport};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Marks the database as reached.
pub(super) struct Alive {
    store: Store,
    session: Session,
    context: Arc<Context>,
    period: Duration,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    witness: Arc<dyn Witness>,
    failing: bool,
    progress: Progress,
}

/// Without a complete evaluation by anybody for this long, while the database is reached, somebody is told.
const STALLED_MS: i64 = 60_000;

/// What is told then.
const STALLED: &str = "No reservation was evaluated for more than a minute: late jobs are NOT noticed. The database \
    is reached; look for locks held in it (LOCK TABLES, a long transaction) and at the log of the coordinator \
    (/nodes says who it is).";

/// Between two looks at it; and for how long it must have been seen so, since a start finds an old mark.
const LOOK_EVERY_MS: i64 = 10_000;
const SEEN_FOR_MS: i64 = 30_000;

/// What this replica has seen of the evaluations (whoever makes them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    looked_boot_ms: i64,
    stalled_since_boot_ms: Option<i64>,
    /// What this process has told; None: nothing, and an earlier one may have.
    told: Option<Tell>,
}

/// What to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tell {
    Stalled,
    Moving,
}

impl Progress {
    fn is_due(&self, boot_ms: i64) -> bool {
        boot_ms - self.looked_boot_ms >= LOOK_EVERY_MS
    }

    /// Takes in the age of the last complete evaluation; Some: this is to be told (again until it is told).
    fn see(&mut self, eval_age_ms: Option<i64>, boot_ms: i64) -> Option<Tell> {
        self.looked_boot_ms = boot_ms;
        if eval_age_ms.is_some_and(|age| age <= STALLED_MS) {
            self.stalled_since_boot_ms = None;
            return (self.told != Some(Tell::Moving)).then_some(Tell::Moving);
        }
        let since = *self.stalled_since_boot_ms.get_or_insert(boot_ms);
        let tell = self.told != Some(Tell::Stalled) && boot_ms - since >= SEEN_FOR_MS;
        tell.then_some(Tell::Stalled)
    }
}

impl Alive {
    pub(super) fn new(c: &Coordinator) -> Self {
        Self {
            store: c.store.clone(),
            session: c.store.session(),
            context: Arc::clone(&c.context),
            // Alone, one flush of the disk each five seconds is enough for a limit of thirty.
            period: Duration::from_secs(if c.store.dialect() == Dialect::Sqlite { 5 } else { 1 }),
            pulse: c.loops.register("alive", Duration::from_secs(30)),
            metrics: Arc::clone(&c.metrics),
            witness: Arc::clone(&c.witness),
            failing: false,
            progress: Progress::default(),
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.step() => {}
                () = stop.cancelled() => break,
            }
            if !self.failing && self.store.file_was_deleted() {
                tracing::error!(
                    "the database's file or its write-ahead log (-wal) was deleted while in use: ending, so that what \
                     is known is written down; start gotel again, and leave the files beside the database alone"
                );
                return;
            }
            // While the database is away, look for its return each second.
            let pause = if self.failing { Duration::from_secs(1) } else { self.period };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    async fn step(&mut self) {
        let (context, witness) = (Arc::clone(&self.context), Arc::clone(&self.witness));
        let marked = self.session.mark_alive(|outage| report(&context, &*witness, outage)).await;
        self.witness.database(marked.is_ok());
        match marked {
            Ok(found) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the database is reached again");
                }
                if let Some(outage) = found {
                    let length =
                        Duration::from_millis(u64::try_from(outage.to_ms - outage.from_ms).unwrap_or(0));
                    self.metrics.outage(length);
                    tracing::warn!(
                        from = %message::utc(outage.from_ms),
                        to = %message::utc(outage.to_ms),
                        "no check-in could be accepted for a while: deadlines inside it were moved"
                    );
                }
                self.pulse.beat();
                self.look_at_progress().await;
            }
            Err(e) => {
                self.pulse.tried("the database is not reached");
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(error = %e, class = e.class(), "the database is not reached: check-ins get 503");
                }
            }
        }
    }
}

impl Alive {
    /// Reports a stall as a system incident, whichever replica leads: the leader may be what is stuck.
    async fn look_at_progress(&mut self) {
        let boot_ms = clock::boot_ms();
        if !self.progress.is_due(boot_ms) {
            return;
        }
        let outcome = match self.store.lease(COORDINATOR).await {
            Ok(lease) => {
                let tell = self.progress.see(lease.and_then(|l| l.eval_age_ms), boot_ms);
                let outcome = match tell {
                    Some(tell) => self.tell(tell).await,
                    None => Ok(()),
                };
                match (tell, &outcome) {
                    (Some(Tell::Stalled), Err(_)) => self.witness.unwritten(SystemKind::Stalled, "", STALLED),
                    _ => self.witness.settled(SystemKind::Stalled, ""),
                }
                outcome
            }
            Err(e) => Err(e),
        };
        if let Err(e) = outcome {
            tracing::warn!(error = %e, "could not look whether reservations are evaluated");
        }
    }

    async fn tell(&mut self, tell: Tell) -> Result<(), StoreError> {
        match tell {
            Tell::Stalled => {
                tracing::error!("no reservation was evaluated for more than a minute");
                let report = SystemReport {
                    kind: SystemKind::Stalled,
                    subject: String::new(),
                    text: STALLED.into(),
                    since_ms: self.store.now_ms().await? - STALLED_MS,
                    targets: self.context.routes.defaults(&[], None),
                    srv: self.context.srv.clone(),
                    life: Life::UntilWithdrawn,
                };
                self.store.report_system(&report).await?;
            }
            Tell::Moving => {
                self.store.withdraw_system(SystemKind::Stalled, "", &self.context.srv).await?;
            }
        }
        self.progress.told = Some(tell);
        Ok(())
    }
}

/// What is told of an own outage, once it is over. Who was told of it while it lasted hears of its end in the
/// same way, and not twice.
fn report(context: &Context, witness: &dyn Witness, outage: Outage) -> SystemReport {
    let mut targets = context.routes.defaults(&[], None);
    targets.retain(|target| !witness.hears_of_outage(target));
    let length = duration::human(outage.to_ms - outage.from_ms);
    SystemReport {
        kind: SystemKind::Outage,
        subject: String::new(),
        text: format!(
            "GoTel itself was down for {length}, from {} to {}: no check-in could be accepted. Jobs whose deadline fell \
             into that time were given a little longer; those that stay silent follow in one digest. Jobs that were \
             late before it are told at once.",
            message::utc(outage.from_ms),
            message::utc(outage.to_ms)
        ),
        since_ms: outage.from_ms,
        targets,
        srv: context.srv.clone(),
        life: Life::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_finds_an_old_mark_waits_for_the_first_evaluation() {
        let mut progress = Progress::default();
        assert_eq!(progress.see(Some(7_200_000), 100_000), None);
        assert_eq!(progress.see(Some(7_210_000), 110_000), None);
        // What an earlier process may have told is taken back, once.
        assert_eq!(progress.see(Some(2_000), 120_000), Some(Tell::Moving));
        progress.told = Some(Tell::Moving);
        assert_eq!(progress.see(Some(7_000), 130_000), None);
    }

    #[test]
    fn a_stall_is_told_once_and_its_end_once() {
        let mut progress = Progress::default();
        assert_eq!(progress.see(Some(61_000), 100_000), None);
        assert_eq!(progress.see(Some(91_000), 130_000), Some(Tell::Stalled));
        // Not told yet: the report failed. It is due again at the next look.
        assert_eq!(progress.see(Some(101_000), 140_000), Some(Tell::Stalled));
        progress.told = Some(Tell::Stalled);
        assert_eq!(progress.see(Some(111_000), 150_000), None);
        assert_eq!(progress.see(Some(1_000), 160_000), Some(Tell::Moving));
        progress.told = Some(Tell::Moving);
        assert_eq!(progress.see(Some(1_000), 170_000), None);
    }

    #[test]
    fn an_evaluation_that_never_was_counts_as_old() {
        let mut progress = Progress::default();
        assert_eq!(progress.see(None, 0), None);
        assert_eq!(progress.see(None, SEEN_FOR_MS), Some(Tell::Stalled));
    }
}
