//! The loops as a replica runs them.

use std::sync::Arc;
use std::time::Duration;

use gotel::coordinator::{self, Coordinator, KEEP, Leads, Timers};
use gotel::lifecycle::{Bar, Loops, Tasks};
use gotel::metrics::Metrics;
use gotel::reservation::SignalKind;
use gotel::store::Store;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::util::chaos::{ChaosProxy, Cut};
use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, every};
use crate::util::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

/// The coordinator's loops of one replica.
pub struct Replica {
    leads: Leads,
    tasks: Tasks,
    loops: Arc<Loops>,
    bar: Arc<Bar>,
}

/// Starts them on `store`.
pub fn start(f: &Fixture, store: &Store, name: &str, timers: Timers) -> Replica {
    let (mut tasks, loops) = (Tasks::default(), Arc::new(Loops::default()));
    let coordinator = Coordinator {
        store: store.clone(),
        context: Arc::clone(&f.context),
        replica: name.into(),
        timers,
        keep: KEEP,
        metrics: Arc::new(Metrics::new()),
        loops: Arc::clone(&loops),
        bar: Arc::default(),
        wake: Arc::default(),
        witness: Arc::new(()),
        elsewhere: tokio::sync::watch::channel(Vec::new()).1,
    };
    let (publish, leads) = tokio::sync::watch::channel(None);
    coordinator::start(&coordinator, publish, &mut tasks);
    Replica { leads, tasks, loops, bar: coordinator.bar }
}

impl Replica {
    fn leads(&self) -> bool {
        self.leads.borrow().is_some()
    }

    /// Ends them.
    pub async fn stop(self) {
        let ended = self.tasks.finish(Duration::from_secs(10)).await;
        assert!(ended, "{:?}", self.loops.ages());
    }
}

on_every_database!(a_replica_alone_leads_evaluates_and_gives_the_lease_back);
async fn a_replica_alone_leads_evaluates_and_gives_the_lease_back(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Ok).await;
    let replica = start(&f, &f.store, "one", Timers::SHARED.on(f.store.dialect()));
    eventually(SOON, "an evaluated row", async || f.state(&job).await == "on_time").await;
    f.pass(HOUR + MINUTE).await;
    eventually(SOON, "an incident", async || f.outbox().await == ["trigger chat  pending"]).await;
    let ages = replica.loops.ages();
    assert_eq!(
        ages.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(),
        ["alive", "evaluate", "house", "lease"]
    );
    assert!(ages.iter().all(gotel::lifecycle::LoopAge::is_healthy), "{ages:?}");
    replica.stop().await;
    let lease = f.store.lease("coordinator").await.unwrap().unwrap();
    assert_eq!((lease.term, lease.holder.as_str()), (1, ""));
    assert!(lease.eval_age_ms.is_some());
}

on_every_database!(a_restart_with_a_hundred_open_incidents_tells_nothing);
async fn a_restart_with_a_hundred_open_incidents_tells_nothing(db: TestDb) {
    let mut f = Fixture::new(db).await;
    for n in 0..100 {
        let job = f.reserve(&format!("a{n}"), every("1h")).await;
        f.check_in(&job, SignalKind::Fail).await;
    }
    f.evaluate().await;
    f.deliver("chat").await;
    f.sql("UPDATE reservation SET due_ms = 0").await;
    let replica = start(&f, &f.replica(), "later", Timers::SHARED.on(f.store.dialect()));
    eventually(SOON, "a look at every row", async || {
        f.number("SELECT COUNT(*) FROM reservation WHERE due_ms = 0").await == 0
    })
    .await;
    replica.stop().await;
    assert_eq!(f.number("SELECT COUNT(*) FROM delivery").await, 100);
    assert_eq!(f.number("SELECT COUNT(*) FROM incident WHERE open_key IS NOT NULL").await, 100);
}

on_every_database!(one_decision_that_cannot_be_written_stops_no_other);
async fn one_decision_that_cannot_be_written_stops_no_other(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let trigger = if f.is_embedded() {
        "CREATE TRIGGER poison BEFORE INSERT ON incident WHEN new.app = 'a3' BEGIN SELECT RAISE(ABORT, 'poison'); END"
    } else {
        "ALTER TABLE incident ADD CONSTRAINT poison CHECK (app <> 'a3')"
    };
    f.sql(trigger).await;
    for n in 0..8 {
        let job = f.reserve(&format!("a{n}"), every("1h")).await;
        f.check_in(&job, SignalKind::Fail).await;
    }
    let replica = start(&f, &f.store, "one", Timers::SHARED.on(f.store.dialect()));
    eventually(SOON, "eight notices", async || f.outbox().await.len() == 8).await;
    replica.stop().await;
    assert_eq!(f.number("SELECT COUNT(*) FROM incident WHERE reason = 'failed'").await, 7);
    let open = f.store.system_incidents().await.unwrap();
    assert_eq!((open.len(), open[0].component.as_str()), (1, "undecidable/a3/job"));
}

on_every_database!(row_15_a_coordinator_cut_from_the_database_steps_down_and_leads_again_after);
async fn row_15_a_coordinator_cut_from_the_database_steps_down_and_leads_again_after(db: TestDb) {
    let Some(server) = db.server_addr() else { return };
    let f = Fixture::new(db).await;
    let proxy = ChaosProxy::start(server).await;
    let store = Store::open(&f.db().url_through(proxy.addr()), Arc::new(Metrics::new())).unwrap();
    let timers = Timers { period_ms: 200, valid_ms: 3000, ..Timers::SHARED };
    let replica = start(&f, &store, "cut", timers);
    eventually(SOON, "the lease", async || replica.leads()).await;
    proxy.freeze_all();
    let frozen = crate::util::wait::now();
    eventually(SOON, "a step-down", async || !replica.leads()).await;
    // V from the last renewal, and at most one more operation begun before it was over.
    assert!(frozen.elapsed() < Duration::from_millis(3000 + 2500 + 1000), "{:?}", frozen.elapsed());
    proxy.heal();
    eventually(SOON, "its own lease again", async || replica.leads()).await;
    let lease = f.store.lease("coordinator").await.unwrap().unwrap();
    assert_eq!((lease.term, lease.holder.as_str()), (2, "cut"), "taken again at once, as it is its own");
    replica.stop().await;
}

on_every_database!(row_18_frozen_connections_cost_the_coordinator_one_operation);
async fn row_18_frozen_connections_cost_the_coordinator_one_operation(db: TestDb) {
    let Some(server) = db.server_addr() else { return };
    let mut f = Fixture::new(db).await;
    let proxy = ChaosProxy::start(server).await;
    let store = Store::open(&f.db().url_through(proxy.addr()), Arc::new(Metrics::new())).unwrap();
    let replica = start(&f, &store, "one", Timers::SHARED);
    eventually(SOON, "the lease", async || replica.leads()).await;
    proxy.freeze_existing();
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Fail).await;
    eventually(SOON, "an incident", async || f.outbox().await.len() == 1).await;
    assert!(replica.leads(), "it never lost the lease");
    let lease = f.store.lease("coordinator").await.unwrap().unwrap();
    assert_eq!(lease.term, 1);
    replica.stop().await;
}

on_every_database!(a_second_replica_takes_over_when_the_first_gives_the_lease_back);
async fn a_second_replica_takes_over_when_the_first_gives_the_lease_back(db: TestDb) {
    if db.dir().is_some() {
        return;
    }
    let f = Fixture::new(db).await;
    let one = start(&f, &f.store, "one", Timers::SHARED);
    eventually(SOON, "the lease", async || one.leads()).await;
    let other = start(&f, &f.replica(), "other", Timers::SHARED);
    one.stop().await;
    let released = crate::util::wait::now();
    eventually(SOON, "a take-over", async || other.leads()).await;
    assert!(released.elapsed() < Duration::from_secs(5), "{:?}", released.elapsed());
    other.stop().await;
}

on_every_database!(a_row_that_cannot_be_looked_at_in_time_stops_no_other);
async fn a_row_that_cannot_be_looked_at_in_time_stops_no_other(db: TestDb) {
    // Its one writer locks no rows.
    if db.backend() == Backend::Sqlite {
        return;
    }
    let mut f = Fixture::new(db).await;
    let (stuck, good) = (f.reserve("stuck", every("1h")).await, f.reserve("good", every("1h")).await);
    f.check_in(&stuck, SignalKind::Fail).await;
    f.check_in(&good, SignalKind::Ok).await;
    f.evaluate().await;
    let mut other = f.db().connect().await;
    let mut held = other.begin().await.unwrap();
    // By a unique key, so that no gap is locked: there the report goes.
    let open = f.texts("SELECT open_key FROM incident").await.remove(0);
    let lock = format!("SELECT id FROM incident WHERE open_key = '{open}' FOR UPDATE");
    held.execute(AssertSqlSafe(lock)).await.unwrap();
    f.sql("UPDATE reservation SET due_ms = 0").await;
    f.pass(2 * HOUR).await;
    let replica = start(&f, &f.store, "one", Timers::SHARED.on(f.store.dialect()));
    let long = Duration::from_secs(60);
    eventually(long, "the other one's miss", async || f.state(&good).await == "late").await;
    eventually(long, "the report of the stuck one", async || {
        f.store.system_incidents().await.unwrap().iter().any(|i| i.component == "undecidable/stuck/job")
    })
    .await;
    held.rollback().await.unwrap();
    f.pass(6 * MINUTE).await;
    eventually(long, "the stuck one watched again", async || {
        f.store.system_incidents().await.unwrap().is_empty()
    })
    .await;
    replica.stop().await;
}

on_every_database!(row_20_a_take_over_whose_answer_is_lost_is_proven_and_not_made_twice);
async fn row_20_a_take_over_whose_answer_is_lost_is_proven_and_not_made_twice(db: TestDb) {
    let Some(server) = db.server_addr() else { return };
    let f = Fixture::new(db).await;
    let proxy = ChaosProxy::start(server).await;
    let store = Store::open(&f.db().url_through(proxy.addr()), Arc::new(Metrics::new())).unwrap();
    proxy.cut_on(b"UPDATE lease SET term", Cut::BeforeReply);
    let replica = start(&f, &store, "one", Timers::SHARED);
    let lease = async || f.store.lease("coordinator").await.unwrap().unwrap();
    eventually(SOON, "a take-over of which it hears nothing", async || lease().await.holder == "one").await;
    assert!(!replica.leads());
    proxy.heal();
    eventually(SOON, "the proof", async || replica.leads()).await;
    assert_eq!(lease().await.term, 1, "it is the same take-over");
    replica.stop().await;
}

on_every_database!(a_replica_that_must_not_lead_gives_the_lease_back_and_takes_it_no_more);
async fn a_replica_that_must_not_lead_gives_the_lease_back_and_takes_it_no_more(db: TestDb) {
    let f = Fixture::new(db).await;
    let replica = start(&f, &f.store, "one", Timers::SHARED.on(f.store.dialect()));
    eventually(SOON, "the lease", async || replica.leads()).await;
    let proof = replica.leads.borrow().clone().unwrap();
    replica.bar.set("its name is in use elsewhere");
    let holder = async || f.store.lease("coordinator").await.unwrap().unwrap().holder;
    eventually(SOON, "a vacant lease", async || holder().await.is_empty()).await;
    assert!(!replica.leads());
    assert!(!proof.is_valid(0), "a copy of the proof ends with it");
    let note = async || replica.loops.ages().iter().find(|l| l.name == "lease").unwrap().note.clone();
    eventually(SOON, "why, for whoever looks", async || note().await.contains("in use elsewhere")).await;
    let looked = |name: &str| replica.loops.ages().iter().find(|l| l.name == name).unwrap().done_age_ms;
    eventually(SOON, "another look at the vacant lease", async || looked("lease") < 500).await;
    assert_eq!(holder().await, "");
    replica.bar.clear();
    eventually(SOON, "the lease again", async || replica.leads()).await;
    replica.stop().await;
}
