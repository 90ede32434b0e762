//! The evaluator: due rows in batches, decided by the rules, written under the fence.

use super::plan::{self, Context};
use super::{Coordinator, Leads};
use crate::clock;
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::store::{Leading, Session, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Rows in one transaction: short enough to hold the lease row's lock for.
pub const BATCH: usize = 500;

/// Between looks at what is due.
const PERIOD: Duration = Duration::from_secs(1);

/// An idle evaluator still writes the moment of its last complete look, but not each second.
const MARK_EVERY_MS: i64 = 5_000;

/// Evaluates while this replica leads.
pub(super) struct Evaluator {
    session: Session,
    context: Arc<Context>,
    leads: Leads,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    marked_boot_ms: i64,
    wake: Arc<Notify>,
    failing: bool,
}

impl Evaluator {
    pub(super) fn new(c: &Coordinator, leads: Leads, pulse: Arc<Pulse>) -> Self {
        Self {
            session: c.store.session(),
            context: Arc::clone(&c.context),
            leads,
            pulse,
            metrics: Arc::clone(&c.metrics),
            marked_boot_ms: 0,
            wake: Arc::clone(&c.wake),
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
            return Ok(());
        };
        let started_us = clock::boot_us();
        let mut examined = 0;
        if self.session.anything_due().await? {
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
        self.pulse.beat_with(format!("{examined} examined in {} ms", took.as_millis()));
        Ok(())
    }

    async fn batch(&mut self, leading: &Leading) -> Result<usize, StoreError> {
        let context = Arc::clone(&self.context);
        let plan = |loaded: &_| plan::plan(&context, loaded);
        match self.session.evaluate(leading, BATCH, plan).await {
            Ok(batch) => {
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
            // One row's decision cannot be written: find it, and let the others go on.
            Err(e) if is_of_a_row(&e) => self.one_by_one(leading).await,
            Err(e) => Err(e),
        }
    }

    async fn one_by_one(&mut self, leading: &Leading) -> Result<usize, StoreError> {
        let mut examined = 0;
        for _ in 0..BATCH {
            let context = Arc::clone(&self.context);
            let first = std::sync::Mutex::new(None);
            let plan = |loaded: &crate::store::Loaded| {
                let subject = loaded
                    .subjects
                    .first()
                    .map(|s| (s.id, s.app.clone(), s.component.clone(), loaded.now_ms));
                *first.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = subject;
                plan::plan(&context, loaded)
            };
            let outcome = self.session.evaluate(leading, 1, plan).await;
            match outcome {
                Ok(batch) if batch.examined == 0 => return Ok(examined),
                Ok(_) => examined += 1,
                Err(e) if is_of_a_row(&e) => {
                    let subject = first.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let Some((id, app, component, now_ms)) = subject else { return Err(e) };
                    tracing::error!(app, component, error = %e, "a reservation was set aside");
                    let report = plan::undecidable(&context, &app, &component, now_ms, &e.to_string());
                    self.session.set_aside(leading, id, plan::SET_ASIDE_MS, &report).await?;
                    self.metrics.set_aside();
                    examined += 1;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(examined)
    }
}

/// Whether one row of a batch may be at fault, and not the database.
fn is_of_a_row(error: &StoreError) -> bool {
    matches!(error, StoreError::Data(_) | StoreError::Duplicate(_) | StoreError::Other(_))
}
