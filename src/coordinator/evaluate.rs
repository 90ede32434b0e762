//! The evaluator: due rows in batches, decided by the rules, written under the fence.

use super::plan::{self, Context};
use super::{Coordinator, Leads, Witness};
use crate::clock;
use crate::failpoint;
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::reservation::routing::Card;
use crate::store::{Leading, Session, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Rows in one transaction: short enough to hold the lease row's lock for.
pub const BATCH: usize = 500;

/// Between looks at what is due.
const PERIOD: Duration = Duration::from_secs(1);

/// An idle evaluator still writes the moment of its last complete look, but not each second.
const MARK_EVERY_MS: i64 = 5_000;

/// Evaluates while this replica leads.
pub(super) struct Evaluator {
    /// For the look at what is due, by itself: SQLite drops what a connection has cached as soon as another one
    /// has written, and this one never caches more than the few pages that the look reads.
    look: Session,
    session: Session,
    context: Arc<Context>,
    leads: Leads,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    marked_boot_ms: i64,
    wake: Arc<Notify>,
    witness: Arc<dyn Witness>,
    elsewhere: watch::Receiver<Vec<Card>>,
    failing: bool,
}

impl Evaluator {
    pub(super) fn new(c: &Coordinator, leads: Leads, pulse: Arc<Pulse>) -> Self {
        Self {
            look: c.store.session(),
            session: c.store.session(),
            context: Arc::clone(&c.context),
            leads,
            pulse,
            metrics: Arc::clone(&c.metrics),
            marked_boot_ms: 0,
            wake: Arc::clone(&c.wake),
            witness: Arc::clone(&c.witness),
            elsewhere: c.elsewhere.clone(),
            failing: false,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            // A step cut short is rolled back, and whoever leads next does it again: the end need not wait for it.
            let outcome = tokio::select! {
                outcome = self.step() => outcome,
                () = stop.cancelled() => break,
            };
            match outcome {
                Ok(()) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("evaluating again");
                    }
                }
                // The alive loop records the gap within seconds; nothing may be judged before.
                Err(StoreError::Gap { .. }) => self.pulse.tried("waits for an outage to be recorded"),
                // Told by the loop that keeps the lease.
                Err(StoreError::Fenced) => self.pulse.tried("the lease was lost on the way"),
                Err(e) => {
                    self.pulse.tried("evaluating failed");
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(error = %e, class = e.class(), "reservations cannot be evaluated");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                // The first lease should not wait for the next tick.
                changed = self.leads.changed() => if changed.is_err() { tokio::time::sleep(PERIOD).await },
                () = stop.cancelled() => break,
            }
        }
    }

    /// Everything that is due now, if this replica leads.
    async fn step(&mut self) -> Result<(), StoreError> {
        let leading = self.leads.borrow_and_update().clone();
        let Some(leading) = leading.filter(|l| l.is_valid(clock::boot_ms())) else {
            self.pulse.beat_with("not leading");
            self.failing = false;
            return Ok(());
        };
        self.know_the_others();
        failpoint::reach("evaluate").await;
        let started_us = clock::boot_us();
        let mut examined = 0;
        if self.look.anything_due().await? {
            loop {
                let batch = self.batch(&leading).await?;
                examined += batch;
                if batch < BATCH {
                    break;
                }
                self.pulse.beat();
            }
        }
        if examined > 0 || clock::boot_ms() - self.marked_boot_ms > MARK_EVERY_MS {
            self.session.evaluated(&leading).await?;
            self.marked_boot_ms = clock::boot_ms();
        }
        let took = clock::since_us(started_us);
        self.metrics.evaluated(took);
        self.witness.evaluated();
        self.pulse.beat_with(format!("{examined} examined in {} ms", took.as_millis()));
        Ok(())
    }

    /// Notices for the alerters of other replicas are planned as those replicas would.
    fn know_the_others(&mut self) {
        if !self.elsewhere.has_changed().unwrap_or(false) {
            return;
        }
        let cards = self.elsewhere.borrow_and_update().clone();
        let routes = self.context.routes.with_elsewhere(cards);
        self.context = Arc::new(Context { routes, ..Context::clone(&self.context) });
    }

    async fn batch(&mut self, leading: &Leading) -> Result<usize, StoreError> {
        let context = Arc::clone(&self.context);
        let plan = |loaded: &_| plan::plan(&context, loaded);
        match self.session.evaluate(leading, BATCH, plan).await {
            Ok(batch) => {
                self.metrics.set_aside(batch.set_aside);
                if batch.queued > 0 {
                    self.wake.notify_waiters();
                }
                if batch.opened + batch.closed > 0 {
                    tracing::info!(
                        opened = batch.opened,
                        closed = batch.closed,
                        notices = batch.queued,
                        "incidents changed"
                    );
                }
                Ok(batch.examined)
            }
            // One row may be at fault: find it, and let the others go on.
            Err(e) if is_of_a_row(&e) || is_slow(&e) => self.one_by_one(leading).await,
            Err(e) => Err(e),
        }
    }

    async fn one_by_one(&mut self, leading: &Leading) -> Result<usize, StoreError> {
        let context = Arc::clone(&self.context);
        for examined in 0..BATCH {
            // A database that is ill as a whole does not answer this either, or refuses to set the row aside.
            let Some(row) = self.session.first_due().await? else { return Ok(examined) };
            let plan = |loaded: &_| plan::plan(&context, loaded);
            let (error, for_ms) = match self.session.evaluate_row(leading, &row, plan).await {
                Ok(_) => (None, 0),
                Err(e) if is_of_a_row(&e) => (Some(e), plan::SET_ASIDE_MS),
                Err(e) if is_slow(&e) => (Some(e), plan::SLOW_ASIDE_MS),
                Err(e) => return Err(e),
            };
            if let Some(e) = error {
                tracing::error!(app = row.app, component = row.component, error = %e, "a reservation was set aside");
                let (app, component) = (&row.app, &row.component);
                let report = plan::undecidable(&context, app, component, row.now_ms, &e.to_string(), for_ms);
                self.session.set_aside(leading, row.id, for_ms, &report).await?;
                self.metrics.set_aside(1);
            }
            self.pulse.beat();
        }
        Ok(BATCH)
    }
}

/// Whether one row of a batch may be at fault, and not the database.
fn is_of_a_row(error: &StoreError) -> bool {
    matches!(error, StoreError::Data(_) | StoreError::Duplicate(_) | StoreError::Other(_))
}

/// Whether a batch took too long, perhaps because of one row: one with very much behind it, or one that somebody
/// keeps locked.
fn is_slow(error: &StoreError) -> bool {
    matches!(error, StoreError::Timeout(..) | StoreError::Contended(_))
}
