//! The store on three nodes that each take writes and agree only at COMMIT.
//!
//! Galera sees no locks of other nodes: of two transactions that write one row, the one that commits second is told
//! 1213 when it believes itself done. And a node may show the past. The lease is safe nevertheless, as each of its
//! statements writes the row.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use gotel::metrics::Metrics;
use gotel::reservation::SignalKind;
use gotel::store::lease::{COORDINATOR, Claim};
use gotel::store::{CheckIn, Leading, Session, Store, StoreError};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::util::galera::{Cluster, GaleraDb, NODES};
use crate::util::store::{LIMITS, every, key, settings};
use crate::util::wait::eventually;

const SOON: Duration = Duration::from_secs(60);

struct World {
    db: GaleraDb,
    /// One a node.
    stores: Vec<Store>,
    metrics: Arc<Metrics>,
}

impl World {
    async fn on(db: GaleraDb) -> Self {
        let metrics = Arc::new(Metrics::new());
        let stores: Vec<_> =
            NODES.iter().map(|n| Store::open(db.url(*n), Arc::clone(&metrics)).unwrap()).collect();
        stores[0].migrate().await.unwrap();
        db.settle().await;
        for store in &stores {
            assert_eq!(store.migrate().await.unwrap().applied, 0, "all nodes have the schema");
        }
        Self { db, stores, metrics }
    }

    async fn shared() -> Option<Self> {
        Some(Self::on(GaleraDb::new().await?).await)
    }

    async fn number(&self, sql: &str) -> i64 {
        self.db.number(1, sql).await
    }

    async fn reserve(&self, app: &str) {
        self.stores[0].reserve(&key(app), &settings(every("1h"))).await.unwrap();
    }

    /// Retried transactions so far, of all stores.
    fn retries(&self) -> f64 {
        let page = self.metrics.render();
        let lines = page.lines().filter(|line| line.starts_with("gotel_db_retries_total"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// An operation that certainly did nothing, as another node was faster.
fn lost_the_race(e: &StoreError) -> bool {
    matches!(e, StoreError::Contended(_) | StoreError::Fenced)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_candidates_on_three_nodes_exactly_one_wins_each_term() {
    const ROUNDS: i64 = 100;
    let Some(world) = World::shared().await else { return };
    let gate = Barrier::new(NODES.len());
    let candidates = world.stores.iter().enumerate().map(|(n, store)| {
        let (mut session, gate) = (store.session(), &gate);
        async move {
            let mut won = Vec::new();
            for term in 0..ROUNDS {
                // A node that lags shows the past: nobody could win with that.
                let seen = eventually(SOON, format!("term {term} on node {}", n + 1), async || {
                    let seen = session.observe(COORDINATOR, LIMITS.op).await.map_err(|e| e.to_string())?;
                    if seen.term == term { Ok(seen) } else { Err(format!("term {}", seen.term)) }
                })
                .await;
                gate.wait().await;
                let claim = Claim::new(COORDINATOR, &seen);
                let token = claim.token().to_string();
                match session.take(&claim, &format!("r{n}"), LIMITS).await {
                    Ok(Some(leading)) => won.push(leading.term()),
                    Ok(None) => {}
                    Err(e) if lost_the_race(&e) => {}
                    // The reply did not come in time: the row tells, as it would tell the keeper.
                    Err(_) => {
                        let mine = async || {
                            let seen =
                                session.observe(COORDINATOR, LIMITS.op).await.map_err(|e| e.to_string())?;
                            if seen.term > term {
                                Ok(seen.token == token)
                            } else {
                                Err(seen.term.to_string())
                            }
                        };
                        if eventually(SOON, "the end of the round", mine).await {
                            won.push(term + 1);
                        }
                    }
                }
            }
            won
        }
    });
    let mut terms: Vec<i64> = join_all(candidates).await.into_iter().flatten().collect();
    terms.sort_unstable();
    assert_eq!(terms, (1..=ROUNDS).collect::<Vec<_>>(), "one winner each term");
    assert_eq!(world.number("SELECT term FROM lease").await, ROUNDS);
    assert_eq!(world.number("SELECT beat FROM lease").await, ROUNDS, "nothing else was written");
}

/// Each committed write of the lease row raises `beat` by one. Were one lost under another (a stale holder's, say),
/// the sum would be short of what was answered "committed".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_holder_on_another_node_commits_nothing() {
    const ROUNDS: i64 = 60;
    let Some(world) = World::shared().await else { return };
    let (mut holder, mut usurper) = (world.stores[0].session(), world.stores[1].session());
    let mut expected = 0;
    for round in 0..ROUNDS {
        let (old, taken) = take(&mut holder, "old").await;
        expected += taken;
        let deposed = async {
            let mut committed = 0;
            loop {
                match holder.evaluated(&old).await {
                    Ok(()) => committed += 1,
                    Err(StoreError::Fenced) => return committed,
                    Err(e) => assert!(lost_the_race(&e), "round {round}: {e:?}"),
                }
            }
        };
        let (committed, (new, taken)) = tokio::join!(deposed, take(&mut usurper, "new"));
        expected += committed + taken;
        assert_eq!(new.term(), old.term() + 1);
        assert!(matches!(holder.renew(&old).await, Err(StoreError::Fenced)));
        assert_eq!(world.number("SELECT beat FROM lease").await, expected, "round {round}");
        assert_eq!(world.number("SELECT term FROM lease").await, new.term());
    }
}

/// Takes the lease over from whoever has it. Also how many committed writes that was: one.
async fn take(session: &mut Session, holder: &str) -> (Leading, i64) {
    let taken = eventually(SOON, "the lease", async || {
        let seen = session.observe(COORDINATOR, LIMITS.op).await.map_err(|e| e.to_string())?;
        match session.take(&Claim::new(COORDINATOR, &seen), holder, LIMITS).await {
            Ok(Some(leading)) => Ok(leading),
            Ok(None) => Err("the row had moved on".to_owned()),
            Err(e) => {
                assert!(lost_the_race(&e), "{e:?}");
                Err(e.to_string())
            }
        }
    });
    (taken.await, 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_ins_through_two_nodes_at_once_are_all_stored_and_no_conflict_surfaces() {
    const ROUNDS: i64 = 100;
    const JOBS: i64 = 8;
    let Some(world) = World::shared().await else { return };
    for n in 0..JOBS {
        world.reserve(&format!("a{n}")).await;
    }
    world.db.settle().await;
    let mut tasks = JoinSet::new();
    for store in &world.stores[..2] {
        let mut session = store.session();
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                let kind = if round % 4 == 0 { SignalKind::Fail } else { SignalKind::Ok };
                let batch: Vec<_> =
                    (0..JOBS).map(|n| (CheckIn::new(&key(&format!("a{n}")), kind), 0)).collect();
                let answers = session.write_checkins(&batch).await.expect("no conflict surfaces");
                assert!(answers.iter().all(Result::is_ok));
            }
        });
    }
    tasks.join_all().await;
    for n in NODES {
        assert_eq!(world.db.number(n, "SELECT COUNT(*) FROM checkin").await, 2 * ROUNDS * JOBS, "node {n}");
        assert_eq!(world.db.number(n, "SELECT MIN(checkins) FROM reservation").await, 2 * ROUNDS, "node {n}");
        assert_eq!(world.db.number(n, "SELECT MAX(checkins) FROM reservation").await, 2 * ROUNDS, "node {n}");
    }
    assert!(world.retries() > 0.0, "no conflict came about: the test proves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_on_different_nodes_end_with_one_schema() {
    for _ in 0..5 {
        let Some(db) = GaleraDb::new().await else { return };
        let starts = NODES.map(|n| {
            let store = Store::open(db.url(n), Arc::new(Metrics::new())).unwrap();
            async move {
                eventually(SOON, format!("the schema on node {n}"), async || {
                    let outcome = store.migrate().await;
                    if let Err(e) = &outcome {
                        let passes = matches!(e, StoreError::Contended(_) | StoreError::Duplicate(_));
                        assert!(passes, "a start would end there: {e:?}");
                    }
                    outcome
                })
                .await;
                store.install_id().to_owned()
            }
        });
        let ids = join_all(starts).await;
        assert!(!ids[0].is_empty() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        for n in NODES {
            assert_eq!(db.number(n, "SELECT COUNT(*) FROM lease").await, 1);
        }
    }
}

async fn ok(session: &mut Session) -> Result<(), StoreError> {
    session.write_checkins(&[(CheckIn::new(&key("a"), SignalKind::Ok), 0)]).await.map(drop)
}

/// Whether it is the server that will not, and may again: it is left for another one, or waited for.
fn waits(e: &StoreError) -> bool {
    matches!(e, StoreError::Unavailable(_) | StoreError::ReadOnly(_))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_34_a_dead_node_costs_no_acknowledged_check_in_and_one_without_a_majority_is_unavailable() {
    let Some(mut cluster) = Cluster::start() else { return };
    let world = World::on(cluster.database(3).await).await;
    world.reserve("a").await;
    world.db.settle().await;
    let mut sessions: Vec<Session> = world.stores.iter().map(Store::session).collect();
    let mut acknowledged = 0;
    for session in &mut sessions {
        for _ in 0..10 {
            ok(session).await.unwrap();
            acknowledged += 1;
        }
    }

    cluster.kill9(1);
    let gone = ok(&mut sessions[0]).await.unwrap_err();
    assert!(matches!(gone, StoreError::Unavailable(_)), "{gone:?}");
    // The survivors first have to agree that it is gone; what they refuse meanwhile may be stored or not.
    let before = world.db.number(3, "SELECT COUNT(*) FROM checkin").await;
    assert!(before >= acknowledged, "{before} of {acknowledged}");
    eventually(SOON, "a check-in on a survivor", async || ok(&mut sessions[1]).await).await;
    let after = world.db.number(3, "SELECT COUNT(*) FROM checkin").await;
    assert!(after > before);

    cluster.kill9(2);
    cluster.becomes_non_primary(3).await;
    for _ in 0..3 {
        let write = ok(&mut sessions[2]).await.unwrap_err();
        let lease = sessions[2].observe(COORDINATOR, LIMITS.op).await.unwrap_err();
        let read = world.stores[2].counts().await.unwrap_err();
        for refused in [write, lease, read] {
            assert!(waits(&refused), "{refused:?}");
        }
    }
    let fresh = Store::open(world.db.url(3), Arc::new(Metrics::new())).unwrap();
    let refused = fresh.migrate().await.unwrap_err();
    assert!(waits(&refused), "a start waits for it: {refused:?}");

    cluster.bootstrap(3).await;
    ok(&mut sessions[2]).await.expect("the same session goes on");
    cluster.restart();
    for (n, session) in sessions.iter_mut().enumerate() {
        eventually(SOON, format!("a check-in on node {}", n + 1), async || ok(session).await).await;
    }
    let all = world.db.number(3, "SELECT COUNT(*) FROM checkin").await;
    assert!(all >= after + 4, "{all}");
    for n in NODES {
        assert_eq!(world.db.number(n, "SELECT COUNT(*) FROM checkin").await, all, "node {n} has caught up");
    }
}

/// A replica whose `database.urls` lists the nodes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_34_with_several_endpoints_a_session_goes_on_at_a_node_that_serves() {
    let Some(mut cluster) = Cluster::start() else { return };
    let db = cluster.database(3).await;
    let urls = NODES.map(|n| db.url(n).to_owned());
    let store = Store::open_any(&urls.each_ref().map(String::as_str), Arc::new(Metrics::new())).unwrap();
    store.migrate().await.unwrap();
    store.reserve(&key("a"), &settings(every("1h"))).await.unwrap();
    let (mut writer, mut keeper) = (store.session(), store.session());
    let (leading, _) = take(&mut keeper, "a").await;
    let mut acknowledged = 0;
    for fault in ["none", "the first dies", "the second is left without a majority"] {
        match fault {
            "the first dies" => cluster.kill9(1),
            "the second is left without a majority" => {
                cluster.restart();
                db.settle().await;
                // The others go on as two of three.
                cluster.cut_off(2).await;
            }
            _ => {}
        }
        eventually(SOON, format!("a check-in: {fault}"), async || ok(&mut writer).await).await;
        acknowledged += 1;
        for _ in 0..10 {
            ok(&mut writer).await.unwrap_or_else(|e| panic!("{fault}: it stays where it is well: {e:?}"));
            acknowledged += 1;
        }
        // Still the same reign, by whatever node.
        eventually(SOON, format!("a renewal: {fault}"), async || keeper.renew(&leading).await).await;
        let stored = db.number(3, "SELECT COUNT(*) FROM checkin").await;
        assert!(stored >= acknowledged, "{fault}: {stored} of {acknowledged}");
    }
    assert_eq!(db.number(3, "SELECT term FROM lease").await, leading.term());
}
