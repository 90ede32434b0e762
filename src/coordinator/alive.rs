//! The mark that says when a check-in could last be accepted, what is told when it was old, and of a database
//! whose clock jumped (`clock_watch`); and two looks each 10 s: whether the reservations are evaluated, and
//! whether the schema is still one that this program may write to. Where it is not, this loop ends, and with it
//! the process.

use super::clock_watch::ClockWatch;
use super::{Context, Coordinator, Witness};
use crate::clock;
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::reservation::{duration, message, outage::Outage};
use crate::store::dialect::Dialect;
use crate::store::lease::COORDINATOR;
use crate::store::{Life, Mark, MarkFound, Session, Store, StoreError, SystemKind, SystemReport};
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
    /// When room for check-ins was last found; None: not the last time.
    room_boot_ms: Option<i64>,
    progress: Progress,
    schema: Schema,
    clock: ClockWatch,
}

/// The database's schema, held against the one that this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schema {
    Ours,
    /// One step ahead: a rolling update is under way.
    Newer,
    TooNew,
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

/// Between two looks whether a check-in would find room.
const ROOM_EVERY_MS: i64 = 10_000;

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
        // Between two looks far apart the database was away, and nobody could evaluate: that is another trouble.
        if boot_ms - self.looked_boot_ms > SEEN_FOR_MS {
            self.stalled_since_boot_ms = None;
        }
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
            room_boot_ms: None,
            progress: Progress::default(),
            schema: Schema::Ours,
            clock: ClockWatch::default(),
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
            if self.schema == Schema::TooNew {
                tracing::error!(
                    "newer programs have migrated the database by more than one step: ending, as this one would write \
                     what they no longer understand; start the newer gotel here, too"
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
        let watch = self.clock;
        let judge = |mark: &Mark| watch.judge(mark);
        let told = |mark: &Mark, found: &MarkFound| reports(&context, &*witness, mark, found);
        let marked = match self.room(clock::boot_ms()).await {
            Ok(()) => self.session.watch_alive(judge, told).await,
            Err(e) => Err(e),
        };
        let takes_writes = match &marked {
            Ok(_) => true,
            // Tables that somebody has locked are not a database that is gone.
            Err(StoreError::Contended(_) | StoreError::Timeout(..)) => self.session.probe().await.is_ok(),
            Err(_) => false,
        };
        self.witness.database(takes_writes);
        match marked {
            Ok((mark, found)) => {
                self.clock.saw(mark);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the database is reached again");
                }
                if found.jump_ms != 0 {
                    self.metrics.clock_jump();
                    tracing::error!(
                        by_s = found.jump_ms / 1000,
                        now = %message::utc(mark.now_ms),
                        "the database's clock jumped"
                    );
                }
                if let Some(outage) = found.outage {
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
            }
            Err(e) => {
                self.pulse.tried("check-ins cannot be stored");
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(error = %e, class = e.class(), "the database takes no check-ins: they get 503");
                }
            }
        }
        if self.progress.is_due(clock::boot_ms()) {
            // Also then: a table that is locked keeps check-ins out and need not keep a report out.
            self.look_at_progress().await;
            self.look_at_schema().await;
        }
    }
}

impl Alive {
    /// The mark says that a check-in could be stored, and moving it takes no room by itself.
    async fn room(&mut self, boot_ms: i64) -> Result<(), StoreError> {
        let lately = self.room_boot_ms.is_some_and(|found| boot_ms - found < ROOM_EVERY_MS);
        if lately || self.store.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        self.room_boot_ms = None;
        self.session.room().await?;
        self.room_boot_ms = Some(boot_ms);
        Ok(())
    }

    /// Reports a stall as a system incident, whichever replica leads: the leader may be what is stuck.
    async fn look_at_progress(&mut self) {
        let boot_ms = clock::boot_ms();
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
        // Where the database is gone, that was said already.
        if let Err(e) = outcome
            && !self.failing
        {
            tracing::warn!(error = %e, "could not look whether reservations are evaluated");
        }
    }

    /// A look that fails is made again; that the database is gone is told elsewhere.
    async fn look_at_schema(&mut self) {
        let now = match self.store.steps_ahead().await {
            Ok(0) => Schema::Ours,
            Ok(1) => Schema::Newer,
            Ok(_) => Schema::TooNew,
            Err(_) => return,
        };
        if now == Schema::Newer && self.schema == Schema::Ours {
            tracing::warn!("a newer program has migrated the database: this one goes on, update it soon");
        }
        self.schema = now;
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

/// What is told of a look.
fn reports(context: &Context, witness: &dyn Witness, mark: &Mark, found: &MarkFound) -> Vec<SystemReport> {
    let jump = (found.jump_ms != 0).then(|| clock_jump(context, mark, found.jump_ms));
    found.outage.map(|outage| own_outage(context, witness, outage)).into_iter().chain(jump).collect()
}

/// What is told of a clock that jumped. It has no end that could be noticed: a person looks at the clock.
fn clock_jump(context: &Context, mark: &Mark, jump_ms: i64) -> SystemReport {
    // As exact as a look is: whole seconds.
    let (length, now) = (duration::human((jump_ms.abs() + 500) / 1000 * 1000), message::utc(mark.now_ms));
    let means = if jump_ms > 0 {
        format!(
            "The clock of the database jumped forward by {length}: it shows {now} now. Jobs cannot have checked in during \
             time that never was, so those that would come due by the jump alone get its length, 10 minutes at most; a job \
             that is truly late is told up to that much later, once."
        )
    } else {
        format!(
            "The clock of the database was set back by {length}: it shows {now} now. What was stored as later than that \
             counts as now. A job that falls silent may be told up to {length} late, once, and snoozes last that much \
             longer."
        )
    };
    SystemReport {
        kind: SystemKind::ClockJump,
        subject: String::new(),
        text: format!(
            "{means} Look at the clock of the database server now (timedatectl, chronyc tracking), also whether its \
             machine was paused or another server has taken over. If it is right, there is nothing more to do; if not, \
             correct it, and expect this message once more."
        ),
        since_ms: mark.now_ms,
        targets: context.routes.defaults(&[], None),
        srv: context.srv.clone(),
        life: Life::Once,
    }
}

/// What is told of an own outage, once it is over. Who was told of it while it lasted hears of its end in the
/// same way, and not twice.
fn own_outage(context: &Context, witness: &dyn Witness, outage: Outage) -> SystemReport {
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

    #[test]
    fn a_database_that_was_away_is_no_stall_when_it_is_back() {
        let mut progress = Progress::default();
        // Just started: nobody has evaluated yet.
        assert_eq!(progress.see(None, 100_000), None);
        // Away for 110 s.
        assert_eq!(progress.see(Some(110_000), 210_000), None);
        assert_eq!(progress.see(Some(120_000), 220_000), None);
        assert_eq!(
            progress.see(Some(140_000), 240_000),
            Some(Tell::Stalled),
            "it does not come back by itself"
        );
    }
}
