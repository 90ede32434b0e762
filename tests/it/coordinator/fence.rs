//! A coordinator that was deposed writes nothing, whatever it believes.

use std::sync::Arc;

use gotel::coordinator::plan;
use gotel::reservation::SignalKind;
use gotel::reservation::routing::Target;
use gotel::store::lease::{COORDINATOR, Claim, Limits};
use gotel::store::{Life, Retention, StoreError, SystemKind, SystemReport};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, LIMITS, every, lead};

on_every_database!(after_a_take_over_the_old_coordinator_changes_nothing);
async fn after_a_take_over_the_old_coordinator_changes_nothing(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Ok).await;
    let old = f.lead().await;
    let mut other = f.replica().session();
    let new = lead(&mut other).await;
    f.pass(2 * HOUR).await;
    let before = snapshot(&mut f).await;
    let report = SystemReport {
        kind: SystemKind::Undecidable,
        subject: "a/job".into(),
        text: "x".into(),
        since_ms: 0,
        targets: vec![Target { alerter: "chat".into(), recipient: String::new() }],
        srv: "old".into(),
        life: Life::UntilWithdrawn,
    };
    let all = Retention { history_ms: 0, incidents_ms: 0 };
    let id = f.number("SELECT id FROM reservation").await;
    assert!(matches!(f.evaluate_as(&old).await, Err(StoreError::Fenced)));
    assert!(matches!(f.session.purge(&old, all).await, Err(StoreError::Fenced)));
    assert!(matches!(f.session.set_aside(&old, id, 5, &report).await, Err(StoreError::Fenced)));
    assert!(matches!(f.session.evaluated(&old).await, Err(StoreError::Fenced)));
    assert!(matches!(f.session.renew(&old).await, Err(StoreError::Fenced)));
    assert_eq!(snapshot(&mut f).await, before);
    f.session.set_aside(&new, id, 5, &report).await.unwrap();
    assert_ne!(snapshot(&mut f).await, before);
}

on_every_database!(a_belief_that_has_run_out_writes_nothing_even_while_nobody_else_leads);
async fn a_belief_that_has_run_out_writes_nothing_even_while_nobody_else_leads(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Ok).await;
    let claim = Claim::new(COORDINATOR, &f.session.observe(COORDINATOR, LIMITS.op).await.unwrap());
    let at_once = Limits { valid_ms: 0, ..LIMITS };
    let over = f.session.take(&claim, "test", at_once).await.unwrap().unwrap();
    f.pass(2 * HOUR).await;
    let before = snapshot(&mut f).await;
    let beat = async |f: &Fixture| f.store.session().observe(COORDINATOR, LIMITS.op).await.unwrap().beat;
    let seen = beat(&f).await;
    assert!(matches!(f.evaluate_as(&over).await, Err(StoreError::Fenced)));
    assert!(matches!(f.session.evaluated(&over).await, Err(StoreError::Fenced)));
    assert_eq!((snapshot(&mut f).await, beat(&f).await), (before, seen), "not even the lease");
    // The row is still its own, so that it can prove to lead again, and a step-down ends that for every copy.
    let again = f.session.prove(&claim, LIMITS).await.unwrap();
    let copy = again.clone();
    assert_eq!(f.evaluate_as(&copy).await.unwrap().opened, 1);
    again.end();
    assert!(matches!(f.evaluate_as(&copy).await, Err(StoreError::Fenced)));
}

on_every_database!(two_that_believe_to_lead_open_one_incident);
async fn two_that_believe_to_lead_open_one_incident(db: TestDb) {
    let mut f = Fixture::new(db).await;
    for n in 0..40 {
        let job = f.reserve(&format!("a{n}"), every("1h")).await;
        f.check_in(&job, SignalKind::Ok).await;
    }
    f.evaluate().await;
    f.pass(2 * HOUR).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (mut session, context) = (f.replica().session(), Arc::clone(&f.context));
        tasks.spawn(async move {
            let mut fenced = 0;
            for _ in 0..10 {
                let leading = lead_if_free(&mut session).await;
                let Some(leading) = leading else { continue };
                match session.evaluate(&leading, 7, |loaded| plan(&context, loaded)).await {
                    Ok(_) => {}
                    Err(StoreError::Fenced) => fenced += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            fenced
        });
    }
    tasks.join_all().await;
    f.evaluate().await;
    assert_eq!(f.number("SELECT COUNT(*) FROM incident").await, 40);
    assert_eq!(f.number("SELECT COUNT(DISTINCT open_key) FROM incident").await, 40);
    assert_eq!(f.outbox().await.len(), 40);
}

async fn lead_if_free(session: &mut gotel::store::Session) -> Option<gotel::store::Leading> {
    let seen = session.observe(COORDINATOR, LIMITS.op).await.unwrap();
    session.take(&Claim::new(COORDINATOR, &seen), "racer", LIMITS).await.unwrap()
}

/// Everything a coordinator may write, but for the lease.
async fn snapshot(f: &mut Fixture) -> Vec<String> {
    let mut all = f.texts("SELECT state || due_ms FROM reservation ORDER BY id").await;
    all.extend(f.texts("SELECT id || reason FROM incident ORDER BY id").await);
    all.extend(f.texts("SELECT kind || id FROM checkin ORDER BY id").await);
    all.extend(f.outbox().await);
    all
}
