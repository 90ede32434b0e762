//! The network and other people's locks between the store and its server. SQLite has neither.

use std::sync::Arc;
use std::time::Duration;

use gotel::coordinator::plan;
use gotel::metrics::Metrics;
use gotel::reservation::{JobKey, SignalKind};
use gotel::store::lease::{COORDINATOR, Claim};
use gotel::store::{CheckIn, Session, Store, StoreError};
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::util::chaos::{ChaosProxy, Cut};
use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, LIMITS, every, lead};
use crate::util::wait::{eventually, now};

const SOON: Duration = Duration::from_secs(20);

/// A store that reaches the fixture's database through a proxy.
async fn through_proxy(f: &Fixture) -> Option<(ChaosProxy, Store)> {
    let proxy = ChaosProxy::start(f.db().server_addr()?).await;
    let store = Store::open(&f.db().url_through(proxy.addr()), Arc::new(Metrics::new())).unwrap();
    Some((proxy, store))
}

async fn ok(session: &mut Session, job: &JobKey) -> Result<(), StoreError> {
    session.write_checkins(&[(CheckIn::new(job, SignalKind::Ok), 0)]).await.map(drop)
}

on_every_database!(row_18_frozen_connections_cost_each_user_one_limit_while_new_ones_work);
async fn row_18_frozen_connections_cost_each_user_one_limit_while_new_ones_work(db: TestDb) {
    let f = Fixture::new(db).await;
    let Some((proxy, store)) = through_proxy(&f).await else { return };
    let job = f.reserve("a", every("1h")).await;
    let mut session = store.session();
    ok(&mut session, &job).await.unwrap();
    // Four idle connections in the pool.
    let reads = futures::future::join_all((0..4).map(|_| store.counts())).await;
    assert!(reads.iter().all(Result::is_ok));
    proxy.freeze_existing();
    let frozen = now();
    let (write, read) = tokio::join!(ok(&mut session, &job), store.now_ms());
    assert!(matches!(write, Err(StoreError::Timeout(..))), "{write:?}");
    assert!(matches!(read, Err(StoreError::Timeout(..))), "{read:?}");
    assert!(frozen.elapsed() < Duration::from_secs(8), "{:?}", frozen.elapsed());
    let after = now();
    ok(&mut session, &job).await.unwrap();
    for _ in 0..4 {
        store.now_ms().await.unwrap();
    }
    assert!(
        after.elapsed() < Duration::from_secs(3),
        "the other idle ones were not tried: {:?}",
        after.elapsed()
    );
}

on_every_database!(row_18_a_silent_network_is_over_when_it_is_over);
async fn row_18_a_silent_network_is_over_when_it_is_over(db: TestDb) {
    let f = Fixture::new(db).await;
    let Some((proxy, store)) = through_proxy(&f).await else { return };
    let job = f.reserve("a", every("1h")).await;
    let mut session = store.session();
    ok(&mut session, &job).await.unwrap();
    proxy.freeze_all();
    let (write, reads) =
        tokio::join!(ok(&mut session, &job), futures::future::join_all((0..12).map(|_| store.now_ms())),);
    assert!(write.is_err() && reads.iter().all(Result::is_err));
    proxy.heal();
    let healed = now();
    ok(&mut session, &job).await.unwrap();
    let reads = futures::future::join_all((0..12).map(|_| store.now_ms())).await;
    assert!(reads.iter().all(Result::is_ok), "every place in the pool is good again");
    assert!(healed.elapsed() < Duration::from_secs(4), "{:?}", healed.elapsed());
}

on_every_database!(row_20_a_commit_cut_off_is_refused_and_may_be_repeated);
async fn row_20_a_commit_cut_off_is_refused_and_may_be_repeated(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let Some((proxy, store)) = through_proxy(&f).await else { return };
    let job = f.reserve("a", every("1h")).await;
    let mut session = store.session();
    for (cut, stored) in [(Cut::BeforeRequest, 0), (Cut::BeforeReply, 1)] {
        // The statement alone: setting a session up says "COMMITTED".
        proxy.cut_on(b"\x03COMMIT", cut);
        let refused = ok(&mut session, &job).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
        proxy.heal();
        eventually(SOON, "the end of the cut transaction", async || {
            f.column(&job, "checkins").await == Some(stored)
        })
        .await;
    }
    let first = f.column(&job, "last_ok_ms").await;
    ok(&mut session, &job).await.unwrap();
    assert!(f.column(&job, "last_ok_ms").await >= first);
    assert_eq!(f.column(&job, "checkins").await, Some(2));
}

on_every_database!(row_20_a_connection_reset_in_the_middle_is_refused_and_replaced);
async fn row_20_a_connection_reset_in_the_middle_is_refused_and_replaced(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let Some((proxy, store)) = through_proxy(&f).await else { return };
    let job = f.reserve("a", every("1h")).await;
    let mut session = store.session();
    ok(&mut session, &job).await.unwrap();
    proxy.cut();
    ok(&mut session, &job).await.expect("an idle connection that is gone is replaced without a word");
    proxy.refuse();
    proxy.cut();
    assert!(matches!(ok(&mut session, &job).await, Err(StoreError::Unavailable(_))));
    proxy.heal();
    eventually(SOON, "a stored check-in", async || ok(&mut session, &job).await).await;
    assert_eq!(f.column(&job, "checkins").await, Some(3));
}

on_every_database!(row_28_batches_and_evaluations_in_each_others_way_all_succeed);
async fn row_28_batches_and_evaluations_in_each_others_way_all_succeed(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let mut jobs = Vec::new();
    for n in 0..40 {
        jobs.push(f.reserve(&format!("a{n}"), every("1h")).await);
    }
    let leading = f.lead().await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (store, mut jobs) = (f.replica(), jobs.clone());
        tasks.spawn(async move {
            let mut session = store.session();
            for round in 0..25 {
                if writer % 2 == 0 {
                    jobs.reverse()
                } else {
                    fastrand::shuffle(&mut jobs)
                }
                let kind = if round % 2 == 0 { SignalKind::Fail } else { SignalKind::Ok };
                let batch: Vec<_> = jobs.iter().map(|job| (CheckIn::new(job, kind), 0)).collect();
                let answers = session.write_checkins(&batch).await.unwrap();
                assert!(answers.iter().all(Result::is_ok));
            }
        });
    }
    let context = f.context.clone();
    while !tasks.is_empty() {
        f.session.evaluate(&leading, 500, |loaded| plan(&context, loaded)).await.unwrap();
        while tasks.try_join_next().transpose().unwrap().is_some() {}
        tokio::task::yield_now().await;
    }
    f.evaluate().await;
    assert_eq!(f.number("SELECT MIN(checkins) FROM reservation").await, 100);
    assert_eq!(f.number("SELECT COUNT(*) FROM checkin").await, 4000);
    let open = "SELECT COUNT(*) FROM incident WHERE open_key IS NOT NULL";
    let wrong = "SELECT COUNT(*) FROM reservation WHERE state = 'failed'";
    assert_eq!(f.number(open).await, f.number(wrong).await);
}

on_every_database!(row_29_somebody_elses_table_lock_is_refused_in_time_and_piles_nothing_up);
async fn row_29_somebody_elses_table_lock_is_refused_in_time_and_piles_nothing_up(db: TestDb) {
    let f = Fixture::new(db).await;
    if f.is_embedded() {
        return;
    }
    let job = f.reserve("a", every("1h")).await;
    let mut session = f.store.session();
    ok(&mut session, &job).await.unwrap();
    let mut rude = f.db().connect().await;
    rude.execute(sqlx::raw_sql("LOCK TABLES reservation WRITE")).await.unwrap();
    let locked = now();
    for _ in 0..2 {
        let refused = ok(&mut session, &job).await.unwrap_err();
        assert!(matches!(refused, StoreError::Contended(_) | StoreError::Timeout(..)), "{refused:?}");
    }
    assert!(locked.elapsed() < Duration::from_secs(10), "{:?}", locked.elapsed());
    let database = f.db().url().rsplit('/').next().unwrap().to_owned();
    let mut admin = f.db().admin().await;
    let waiting = format!(
        "SELECT CAST(COUNT(*) AS SIGNED) FROM information_schema.processlist WHERE db = '{database}' \
         AND state LIKE '%lock%'"
    );
    eventually(SOON, "an end of the waiting in the server", async || {
        admin.fetch_one(AssertSqlSafe(waiting.clone())).await.unwrap().get::<i64, _>(0) == 0
    })
    .await;
    rude.execute(sqlx::raw_sql("UNLOCK TABLES")).await.unwrap();
    ok(&mut session, &job).await.unwrap();
}

on_every_database!(row_03_a_coordinator_frozen_in_a_transaction_frees_the_lease_in_time);
async fn row_03_a_coordinator_frozen_in_a_transaction_frees_the_lease_in_time(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let Some((proxy, store)) = through_proxy(&f).await else { return };
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Fail).await;
    let mut frozen = store.session();
    let old = lead(&mut frozen).await;
    let context = f.context.clone();
    let outcome = frozen
        .evaluate(&old, 500, |loaded| {
            // Here it holds the reservation.
            proxy.freeze_existing();
            plan(&context, loaded)
        })
        .await;
    assert!(matches!(outcome, Err(StoreError::Timeout(..))), "{outcome:?}");
    let mut other = f.store.session();
    eventually(Duration::from_secs(12), "a take-over", async || {
        let claim = Claim::new(COORDINATOR, &other.observe(COORDINATOR, LIMITS.op).await?);
        let taken = other.take(&claim, "other", LIMITS).await?;
        taken.ok_or(StoreError::Fenced)
    })
    .await;
    assert_eq!(f.outbox().await.len(), 0, "nothing of it was committed");
    f.evaluate().await;
    assert_eq!(f.outbox().await.len(), 1);
}

on_every_database!(row_19_over_a_new_connection_of_500_ms_a_trip_all_that_watches_still_works);
async fn row_19_over_a_new_connection_of_500_ms_a_trip_all_that_watches_still_works(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let Some((proxy, store)) = through_proxy(&f).await else { return };
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Ok).await;
    proxy.delay(Duration::from_millis(250));
    let mut writer = store.session();
    eventually(SOON, "a failure to be stored", async || {
        let answers = writer.write_checkins(&[(CheckIn::new(&job, SignalKind::Fail), 0)]).await?;
        answers[0].map_err(|_| StoreError::Other("not found".into()))
    })
    .await;
    // With the usual T of 2 s; connecting takes longer than that.
    let mut keeper = store.session();
    let look =
        eventually(SOON, "the lease to be read", async || keeper.observe(COORDINATOR, LIMITS.op).await);
    let seen = look.await;
    let leading = keeper.take(&Claim::new(COORDINATOR, &seen), "far", LIMITS).await.unwrap().unwrap();
    keeper.renew(&leading).await.unwrap();
    let context = f.context.clone();
    let mut evaluator = store.session();
    let batch = evaluator.evaluate(&leading, 500, |loaded| plan(&context, loaded)).await.unwrap();
    assert_eq!((batch.examined, batch.opened), (1, 1));
    evaluator.evaluated(&leading).await.unwrap();
    // Idle for so long, its connection was ended by the server.
    eventually(SOON, "a renewal", async || keeper.renew(&leading).await).await;
    assert_eq!(f.outbox().await.len(), 1);
}
