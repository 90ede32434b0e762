//! The mark that says when a check-in could last be accepted, and what is told when it was old.

use super::{Context, Coordinator};
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::reservation::{duration, message, outage::Outage};
use crate::store::dialect::Dialect;
use crate::store::{Life, Session, SystemKind, SystemReport};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Marks the database as reached.
pub(super) struct Alive {
    session: Session,
    context: Arc<Context>,
    period: Duration,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    failing: bool,
}

impl Alive {
    pub(super) fn new(c: &Coordinator) -> Self {
        Self {
            session: c.store.session(),
            context: Arc::clone(&c.context),
            // Alone, one flush of the disk each five seconds is enough for a limit of thirty.
            period: Duration::from_secs(if c.store.dialect() == Dialect::Sqlite { 5 } else { 1 }),
            pulse: c.loops.register("alive", Duration::from_secs(30)),
            metrics: Arc::clone(&c.metrics),
            failing: false,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.step() => {}
                () = stop.cancelled() => break,
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
        let context = Arc::clone(&self.context);
        match self.session.mark_alive(|outage| report(&context, outage)).await {
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

/// What is told of an own outage, once it is over.
fn report(context: &Context, outage: Outage) -> SystemReport {
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
        targets: context.routes.defaults(&[], None),
        srv: context.srv.clone(),
        life: Life::Over,
    }
}
