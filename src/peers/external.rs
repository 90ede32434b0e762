//! The heartbeat to whoever monitors GoTel: a URL that is called while all is well, and whose silence is the alarm.
//!
//! Promises: the installation's URL is called only by a replica that leads and has just completed an
//! evaluation: the database answered, everything due was examined, every batch was committed; and only while
//! no notice that is due waits for [`UNDELIVERED_MS`]. A replica's own URL is called after a complete look at
//! database and peers. At most one call in [`EVERY_MS`], one at a time, within [`LIMIT`]. A partial cycle is
//! silence: that is what tells of "all are dead" and of "it runs and does nothing".
//!
//! Does not promise a call after each cycle, nor that one which failed is repeated before its time: allow
//! whoever listens two or three periods.

use super::sight::Sight;
use crate::clock;
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::store::Store;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two calls at least.
pub const EVERY_MS: i64 = 30_000;
/// The longest a call may take.
pub const LIMIT: Duration = Duration::from_secs(5);
/// A cycle older than this says nothing about now.
pub const CYCLE_MS: i64 = 15_000;
/// A notice that waits for longer means that GoTel cannot deliver.
pub const UNDELIVERED_MS: i64 = 300_000;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// How the URL is called. Err says why not, without the URL.
pub trait Ping: Send + Sync {
    /// Calls it once.
    fn ping(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// Which cycles the heartbeat stands for.
pub enum Cycles {
    /// Evaluations that this replica completed as the coordinator: boot time of the last.
    Evaluations(watch::Receiver<Option<i64>>, Store),
    /// Its own looks at database and peers.
    Watch(watch::Receiver<Sight>),
}

impl std::fmt::Debug for Cycles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.scope())
    }
}

impl Cycles {
    /// The word in figures and logs.
    pub fn scope(&self) -> &'static str {
        match self {
            Self::Evaluations(..) => "installation",
            Self::Watch(_) => "replica",
        }
    }

    /// Boot time of the last complete cycle.
    fn done_boot_ms(&self) -> Option<i64> {
        match self {
            Self::Evaluations(done, _) => *done.borrow(),
            Self::Watch(sight) => {
                let sight = sight.borrow();
                sight.complete.then_some(sight.boot_ms)
            }
        }
    }
}

/// Whether a call is due: there is a complete cycle, of now, that no call has stood for.
pub fn is_due(done_boot_ms: Option<i64>, called_boot_ms: Option<i64>, boot_ms: i64) -> bool {
    let Some(done) = done_boot_ms else { return false };
    let fresh = boot_ms - done <= CYCLE_MS;
    fresh && called_boot_ms.is_none_or(|called| boot_ms - called >= EVERY_MS && done > called)
}

/// Whether what waits to be delivered allows to say that all is well; None: it could not be asked.
pub fn delivers(oldest_undelivered_ms: Option<i64>) -> bool {
    oldest_undelivered_ms.is_some_and(|age| age < UNDELIVERED_MS)
}

/// Calls one URL.
pub struct Heartbeat {
    cycles: Cycles,
    ping: Arc<dyn Ping>,
    metrics: Arc<Metrics>,
    pulse: Arc<Pulse>,
    called_boot_ms: Option<i64>,
    /// The last call that was accepted; at first the start.
    accepted_boot_ms: i64,
    /// Said once, not with each try.
    silent: Option<&'static str>,
}

impl std::fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heartbeat").field("cycles", &self.cycles).finish_non_exhaustive()
    }
}

impl Heartbeat {
    /// One that has called nobody yet.
    pub fn new(cycles: Cycles, ping: Arc<dyn Ping>, metrics: Arc<Metrics>, pulse: Arc<Pulse>) -> Self {
        let accepted_boot_ms = clock::boot_ms();
        Self { cycles, ping, metrics, pulse, called_boot_ms: None, accepted_boot_ms, silent: None }
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.step() => {}
                () = stop.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    async fn step(&mut self) {
        let now = clock::boot_ms();
        if is_due(self.cycles.done_boot_ms(), self.called_boot_ms, now) {
            self.call(now).await;
        }
        let age_ms = clock::boot_ms() - self.accepted_boot_ms;
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
        self.metrics.external_heartbeat(self.cycles.scope(), age);
        self.pulse.beat();
    }

    async fn call(&mut self, now: i64) {
        let scope = self.cycles.scope();
        if let Cycles::Evaluations(_, store) = &self.cycles
            && !delivers(store.oldest_undelivered_ms().await.ok())
        {
            return self.is_silent("a notice waits for delivery too long, or cannot be asked for", "");
        }
        // Counted before it is sent: a call that fails has its turn all the same.
        self.called_boot_ms = Some(now);
        let called = match tokio::time::timeout(LIMIT, self.ping.ping()).await {
            Ok(called) => called,
            Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        };
        match called {
            Ok(()) => {
                self.accepted_boot_ms = clock::boot_ms();
                if self.silent.take().is_some() {
                    tracing::info!(scope, "the external heartbeat is sent again");
                }
            }
            Err(why) => self.is_silent("it was not accepted", &why),
        }
    }

    fn is_silent(&mut self, what: &'static str, why: &str) {
        let scope = self.cycles.scope();
        if self.silent.replace(what) != Some(what) {
            tracing::warn!(scope, why, "no external heartbeat: {what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::never_evaluated(None, None, false)]
    #[case::the_first(Some(99_000), None, true)]
    #[case::of_long_ago(Some(84_999), None, false)]
    #[case::too_soon(Some(99_000), Some(70_001), false)]
    #[case::in_time(Some(99_000), Some(70_000), true)]
    #[case::none_since_the_last_call(Some(86_000), Some(86_000), false)]
    fn a_call_stands_for_a_complete_cycle_of_now(
        #[case] done: Option<i64>,
        #[case] called: Option<i64>,
        #[case] due: bool,
    ) {
        assert_eq!(is_due(done, called, 100_000), due);
    }

    #[rstest]
    #[case::nothing_waits(Some(0), true)]
    #[case::a_while(Some(UNDELIVERED_MS - 1), true)]
    #[case::too_long(Some(UNDELIVERED_MS), false)]
    #[case::nobody_knows(None, false)]
    fn a_notice_that_waits_too_long_is_silence(#[case] oldest_ms: Option<i64>, #[case] delivers: bool) {
        assert_eq!(super::delivers(oldest_ms), delivers);
    }
}
