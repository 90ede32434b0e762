//! Who coordinates: candidates watch the lease, the holder renews it.
//!
//! Promises: a candidate takes the lease over only when it is vacant, its own, or when it saw it
//! unchanged for the holder's declared time over consecutive successful reads, by its own boot clock; no
//! wall clock takes part. The holder stops believing in its lease `valid_ms` after it *sent* its last
//! successful renewal, and renews only while evaluations are completed: a stuck evaluator loses the lease
//! by itself.
//!
//! Races: see `store::lease`; safety rests on the fence there, never on these timers.

use super::Coordinator;
use crate::clock;
use crate::lifecycle::{LoopAge, Loops, Pulse};
use crate::metrics::Metrics;
use crate::store::dialect::Dialect;
use crate::store::lease::{COORDINATOR, Observed};
use crate::store::{Leading, Session, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Timing of the lease, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// P: between observations, and between renewals.
    pub period_ms: i64,
    /// T: the longest one operation may take.
    pub op_ms: i64,
    /// V: how long the holder believes in a renewal, from when it was sent.
    pub valid_ms: i64,
    /// L: how long a candidate waits for a sign of life.
    pub lease_ms: i64,
    /// One process alone has the database: it leads as soon as it starts, and renews now and then.
    pub alone: bool,
}

impl Timers {
    /// P = 1 s, T = 2 s, V = 10 s, L = 15 s: V + T < L, and a clock-rate error up to a third is harmless.
    pub const SHARED: Self =
        Self { period_ms: 1000, op_ms: 2000, valid_ms: 10_000, lease_ms: 15_000, alone: false };

    /// SQLite: the file lock already arbitrates, so renewals need not cost a disk flush each second.
    pub const ALONE: Self =
        Self { period_ms: 10_000, op_ms: 2000, valid_ms: 45_000, lease_ms: 60_000, alone: true };

    /// The usual timing for a database.
    pub fn of(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Sqlite => Self::ALONE,
            Dialect::MySql => Self::SHARED,
        }
    }
}

/// Without a complete evaluation for this long the lease is left to lapse.
const STUCK_MS: i64 = 30_000;

/// What a candidate remembers of its reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watch {
    /// (term, beat) as last read, since when it is unchanged, and when it was last read (boot clock).
    seen: Option<(i64, i64, i64, i64)>,
    /// Whether this process ever read the row.
    started: bool,
}

/// Why the lease may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grounds {
    /// One process alone has the database.
    Alone,
    /// Released, or never held.
    Vacant,
    /// This process's own token stands in the row: a step-down too many.
    Mine,
    /// No sign of life for the holder's declared time.
    Expired,
    /// This process has just started and the row is far too old by the database's clock.
    ColdStart,
}

impl Grounds {
    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Vacant => "vacant",
            Self::Mine => "mine",
            Self::Expired => "expired",
            Self::ColdStart => "cold_start",
        }
    }
}

impl Watch {
    /// Takes in one successful read at `boot_ms`; Some: the lease may be taken.
    pub fn observe(
        &mut self,
        row: &Observed,
        mine: Option<&str>,
        timers: Timers,
        boot_ms: i64,
    ) -> Option<Grounds> {
        let first = !self.started;
        self.started = true;
        let since_ms = match self.seen {
            // A gap between reads proves nothing about the holder: the database may have been away for both.
            Some((term, beat, since, read))
                if (term, beat) == (row.term, row.beat)
                    && boot_ms - read <= timers.period_ms * 2 + timers.op_ms =>
            {
                since
            }
            _ => boot_ms,
        };
        self.seen = Some((row.term, row.beat, since_ms, boot_ms));
        if timers.alone {
            return Some(Grounds::Alone);
        }
        if row.holder.is_empty() {
            return Some(Grounds::Vacant);
        }
        if mine.is_some_and(|token| token == row.token) {
            return Some(Grounds::Mine);
        }
        if boot_ms - since_ms >= row.lease_ms {
            return Some(Grounds::Expired);
        }
        (first && row.age_ms > 2 * row.lease_ms).then_some(Grounds::ColdStart)
    }

    /// A read failed: silence heard since then is the database's, not the holder's.
    pub fn failed(&mut self) {
        self.seen = None;
    }
}

/// Keeps the lease, or waits for it.
pub struct Keeper {
    session: Session,
    replica: String,
    timers: Timers,
    watch: Watch,
    leading: Option<Leading>,
    /// The token last held, to recognise one's own row after a step-down.
    last_token: Option<String>,
    publish: watch::Sender<Option<Leading>>,
    pulse: Arc<Pulse>,
    loops: Arc<Loops>,
    metrics: Arc<Metrics>,
    failing: bool,
}

impl Keeper {
    pub(super) fn new(c: &Coordinator, publish: watch::Sender<Option<Leading>>) -> Self {
        Self {
            session: c.store.session(),
            replica: c.replica.clone(),
            timers: c.timers,
            watch: Watch::default(),
            leading: None,
            last_token: None,
            publish,
            pulse: c.loops.register("lease", Duration::from_secs(30)),
            loops: Arc::clone(&c.loops),
            metrics: Arc::clone(&c.metrics),
            failing: false,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            self.step().await;
            let leads = self.leading.is_some();
            self.publish.send_replace(self.leading.clone());
            self.metrics.set_leader(&self.replica, leads);
            let jitter = fastrand::i64(-self.timers.period_ms / 10..=self.timers.period_ms / 10);
            // A candidate on its own need not wait for its second look.
            let pause = if leads { self.timers.period_ms + jitter } else { self.timers.period_ms.min(1000) };
            let pause = Duration::from_millis(u64::try_from(pause).unwrap_or(1000));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
        }
        self.publish.send_replace(None);
        if let Some(leading) = self.leading.take()
            && let Err(e) = self.session.release(&leading).await
        {
            tracing::warn!(error = %e, "the lease was not given back; another replica will wait for it to run out");
        }
    }

    /// One renewal, or one look at the lease. It marks the pulse when the database answered.
    pub async fn step(&mut self) {
        let outcome = match self.leading.clone() {
            Some(leading) => self.hold(leading).await,
            None => self.seek().await,
        };
        match outcome {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the lease can be read again");
                }
                self.pulse.beat_with(if self.leading.is_some() { "coordinator" } else { "worker" });
            }
            Err(e) => {
                self.pulse.tried("the lease cannot be read");
                self.watch.failed();
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(error = %e, class = e.class(), "the lease cannot be read");
                }
            }
        }
    }

    async fn hold(&mut self, leading: Leading) -> Result<(), StoreError> {
        if self.evaluator_is_stuck() {
            tracing::error!("no complete evaluation for 30 s: giving the lease up to whoever can");
            self.step_down();
            return Ok(());
        }
        match self.session.renew(&leading).await {
            Ok(renewed) => self.leading = Some(renewed),
            Err(StoreError::Fenced) => {
                tracing::warn!(term = leading.term(), "another replica took the lease");
                self.step_down();
            }
            Err(e) => {
                if !leading.is_valid(clock::boot_ms(), self.timers.valid_ms) {
                    tracing::warn!(
                        term = leading.term(),
                        "the lease could not be renewed in time: stepping down"
                    );
                    self.step_down();
                }
                return Err(e);
            }
        }
        Ok(())
    }

    async fn seek(&mut self) -> Result<(), StoreError> {
        let row = self.session.observe(COORDINATOR).await?;
        let grounds = self.watch.observe(&row, self.last_token.as_deref(), self.timers, clock::boot_ms());
        let Some(grounds) = grounds.filter(|_| !self.evaluator_is_stuck()) else { return Ok(()) };
        // Noted before it is sent: if the reply is lost, the next look finds the row to be ours.
        let token = uuid::Uuid::new_v4().to_string();
        self.last_token = Some(token.clone());
        let taken =
            self.session.take_as(COORDINATOR, &row, &self.replica, self.timers.lease_ms, token).await?;
        if let Some(taken) = taken {
            tracing::info!(term = taken.term(), grounds = grounds.as_str(), "this replica coordinates");
            self.metrics.takeover(grounds.as_str(), taken.term());
            self.leading = Some(taken);
        }
        Ok(())
    }

    fn step_down(&mut self) {
        self.leading = None;
        self.watch.failed();
    }

    /// The evaluator marks its work as done also while it has nothing to do, so silence means it hangs or fails.
    fn evaluator_is_stuck(&self) -> bool {
        let stuck = |age: &LoopAge| age.name == "evaluate" && age.done_age_ms > STUCK_MS;
        self.loops.ages().iter().any(stuck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timers = Timers::SHARED;

    fn row(term: i64, beat: i64, holder: &str) -> Observed {
        Observed {
            term,
            beat,
            holder: holder.into(),
            token: "theirs".into(),
            lease_ms: 15_000,
            age_ms: 100,
            eval_ms: 0,
        }
    }

    #[test]
    fn a_vacant_lease_is_taken_at_once() {
        assert_eq!(Watch::default().observe(&row(3, 9, ""), None, T, 0), Some(Grounds::Vacant));
    }

    #[test]
    fn a_lease_that_keeps_moving_is_never_taken() {
        let mut watch = Watch::default();
        for second in 0..100 {
            assert_eq!(watch.observe(&row(1, second, "a"), None, T, second * 1000), None);
        }
    }

    #[test]
    fn a_silent_holder_is_replaced_after_its_own_declared_time() {
        let mut watch = Watch::default();
        let taken: Vec<_> = (0..=15).map(|s| watch.observe(&row(1, 7, "a"), None, T, s * 1000)).collect();
        assert!(taken[..15].iter().all(Option::is_none));
        assert_eq!(taken[15], Some(Grounds::Expired));
    }

    #[test]
    fn silence_across_a_gap_in_our_own_reads_does_not_count() {
        let mut watch = Watch::default();
        assert_eq!(watch.observe(&row(1, 7, "a"), None, T, 0), None);
        assert_eq!(watch.observe(&row(1, 7, "a"), None, T, 60_000), None);
        watch.failed();
        assert_eq!(watch.observe(&row(1, 7, "a"), None, T, 61_000), None);
        assert_eq!(watch.observe(&row(1, 7, "a"), None, T, 62_000), None);
    }

    #[test]
    fn a_process_that_finds_its_own_token_leads_again_at_once() {
        let mut watch = Watch::default();
        assert_eq!(watch.observe(&row(1, 7, "a"), Some("theirs"), T, 0), Some(Grounds::Mine));
    }

    #[test]
    fn a_cold_start_takes_a_lease_that_is_ancient_by_the_databases_clock_but_only_at_first_sight() {
        let old = Observed { age_ms: 31_000, ..row(1, 7, "a") };
        let mut watch = Watch::default();
        assert_eq!(watch.observe(&old, None, T, 0), Some(Grounds::ColdStart));
        assert_eq!(watch.observe(&old, None, T, 1000), None);
    }

    #[test]
    fn the_timers_leave_room_for_a_slow_last_operation() {
        for t in [Timers::SHARED, Timers::ALONE] {
            assert!(t.valid_ms + t.op_ms < t.lease_ms);
            assert!(t.period_ms + t.op_ms < t.valid_ms);
        }
    }
}
