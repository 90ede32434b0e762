//! Keeping house: forgetting what is old, and the totals for the metrics.

use super::{Coordinator, Leads};
use crate::clock;
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::reservation::State;
use crate::store::{Purged, Retention, Session, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Check-ins for 30 days, incidents for 180.
pub const KEEP: Retention = Retention { history_ms: 30 * 86_400_000, incidents_ms: 180 * 86_400_000 };

/// Between two looks at the totals.
const PERIOD: Duration = Duration::from_secs(15);

/// Between two purges when nothing was left over.
const PURGE_EVERY_MS: i64 = 10 * 60_000;

/// Keeps house.
pub(super) struct House {
    store: Store,
    session: Session,
    leads: Leads,
    keep: Retention,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    next_purge_boot_ms: i64,
    failing: bool,
}

impl House {
    pub(super) fn new(c: &Coordinator, leads: Leads) -> Self {
        Self {
            store: c.store.clone(),
            session: c.store.session(),
            leads,
            keep: c.keep,
            pulse: c.loops.register("house", Duration::from_secs(120)),
            metrics: Arc::clone(&c.metrics),
            // Not in the first moments of a start.
            next_purge_boot_ms: clock::boot_ms() + 30_000,
            failing: false,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let outcome = tokio::select! {
                outcome = self.step() => outcome,
                () = stop.cancelled() => break,
            };
            let pause = match outcome {
                Ok(Purged { rows, more }) => {
                    self.failing = false;
                    if rows > 0 {
                        tracing::debug!(rows, "purged");
                    }
                    self.pulse.beat();
                    // A long backlog is eaten in small bites with pauses, so that check-ins never wait for it.
                    if more { Duration::from_millis(200) } else { PERIOD }
                }
                // Told by the loop that keeps the lease.
                Err(StoreError::Fenced) => {
                    self.pulse.tried("the lease was lost on the way");
                    PERIOD
                }
                Err(e) => {
                    self.pulse.tried("housekeeping failed");
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(error = %e, class = e.class(), "housekeeping failed");
                    }
                    PERIOD
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    async fn step(&mut self) -> Result<Purged, StoreError> {
        let counts = self.store.counts().await?;
        for state in State::ALL {
            let count = counts.by_state.iter().find(|(s, _)| *s == state).map_or(0, |(_, n)| *n);
            self.metrics.reservations(state.as_str(), count);
        }
        let bad = [State::Late, State::Failed, State::Overrun];
        self.metrics.overdue(counts.by_state.iter().filter(|(s, _)| bad.contains(s)).map(|(_, n)| n).sum());
        for (alerter, pending, oldest_ms) in &counts.outbox {
            self.metrics.outbox(
                alerter,
                *pending,
                Duration::from_millis(u64::try_from(*oldest_ms).unwrap_or(0)),
            );
        }
        self.metrics.outbox_dead(counts.dead);
        let leading = self.leads.borrow().clone();
        let now = clock::boot_ms();
        let Some(leading) = leading.filter(|l| l.is_valid(now) && now >= self.next_purge_boot_ms) else {
            return Ok(Purged::default());
        };
        let purged = self.session.purge(&leading, self.keep).await?;
        if !purged.more {
            self.next_purge_boot_ms = now + PURGE_EVERY_MS;
        }
        Ok(purged)
    }
}
