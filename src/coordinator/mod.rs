//! The loops of a replica that may coordinate: keep the lease, mark the database as reached, evaluate
//! what is due, keep house.
//!
//! Promises: only the holder of the lease evaluates; every transaction it makes is fenced; a step that
//! fails is logged and tried again, and never ends the loop. Each loop is a `step()` plus a sleep, and
//! marks its work as done only when a step was complete.
//!
//! Races: two replicas that both believe they lead: the fence lets one of them write (`store::lease`). A
//! process that was frozen: its lease has run out by the boot clock, which counts while suspended, and each
//! transaction looks at that clock first; and an evaluation refuses to judge before the gap is recorded
//! (`store::evaluate`).

mod alive;
mod clock_watch;
mod election;
mod evaluate;
mod house;
mod lease;
mod plan;
pub mod timers;
mod witness;

pub use house::KEEP;
pub use plan::{Context, plan};
pub use timers::Timers;
pub use witness::Witness;

use crate::lifecycle::{Bar, Loops, Tasks};
use crate::metrics::Metrics;
use crate::reservation::routing::Card;
use crate::store::{Leading, Retention, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What the loops share.
#[derive(Debug, Clone)]
pub struct Coordinator {
    /// The database.
    pub store: Store,
    /// What notices are made from.
    pub context: Arc<Context>,
    /// This replica's name in the lease.
    pub replica: String,
    /// Lease timing.
    pub timers: Timers,
    /// How long things are kept.
    pub keep: Retention,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Ages of the loops.
    pub loops: Arc<Loops>,
    /// What forbids this replica to lead.
    pub bar: Arc<Bar>,
    /// Rung when there is something in the outbox.
    pub wake: Arc<Notify>,
    /// Hears what the loops find.
    pub witness: Arc<dyn Witness>,
    /// The alerters of other replicas, as far as they are known.
    pub elsewhere: watch::Receiver<Vec<Card>>,
}

/// Whether this replica leads, for those who only want to know.
pub type Leads = watch::Receiver<Option<Leading>>;

/// Starts the loops; `publish` tells whether this replica leads.
pub fn start(coordinator: &Coordinator, publish: watch::Sender<Option<Leading>>, tasks: &mut Tasks) {
    let leads = publish.subscribe();
    let evaluate_pulse = coordinator.loops.register("evaluate", Duration::from_secs(30));
    let standing = Standing::from(coordinator);
    let keeper = lease::Keeper::new(lease::COORDINATES, &standing, publish);
    tasks.spawn_apart("lease", keeper.run(tasks.stop()));
    tasks.spawn_apart("alive", alive::Alive::new(coordinator).run(tasks.stop()));
    let evaluator = evaluate::Evaluator::new(coordinator, leads.clone(), evaluate_pulse);
    tasks.spawn_apart("evaluate", evaluator.run(tasks.stop()));
    tasks.spawn("house", house::House::new(coordinator, leads).run(tasks.stop()));
}

/// What it takes to stand for a lease.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The database.
    pub store: Store,
    /// This replica's name in the lease.
    pub replica: String,
    /// Lease timing.
    pub timers: Timers,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Ages of the loops.
    pub loops: Arc<Loops>,
    /// What forbids this replica to hold it.
    pub bar: Arc<Bar>,
}

impl From<&Coordinator> for Standing {
    fn from(c: &Coordinator) -> Self {
        Self {
            store: c.store.clone(),
            replica: c.replica.clone(),
            timers: c.timers,
            metrics: Arc::clone(&c.metrics),
            loops: Arc::clone(&c.loops),
            bar: Arc::clone(&c.bar),
        }
    }
}

/// Stands for the lease under which one replica writes for a Kubernetes cluster; `publish` tells whether this one does.
pub fn stand(
    scope: &'static str,
    standing: &Standing,
    publish: watch::Sender<Option<Leading>>,
    tasks: &mut Tasks,
) {
    let office = lease::Office {
        scope,
        pulse: "lease/controller",
        holder: "controller",
        does: "writes for its cluster",
        coordinates: false,
    };
    let keeper = lease::Keeper::new(office, standing, publish);
    tasks.spawn("controller's lease", keeper.run(tasks.stop()));
}
