//! The lease row: one holder a term, whatever races.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotel::store::lease::COORDINATOR;
use gotel::store::{Leading, StoreError};
use tokio::sync::Barrier;

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, lead};

on_every_database!(of_four_candidates_exactly_one_wins_each_term);
async fn of_four_candidates_exactly_one_wins_each_term(db: TestDb) {
    const ROUNDS: usize = 200;
    let f = Fixture::new(db).await;
    let gate = Arc::new(Barrier::new(4));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4 {
        let (mut session, gate) = (f.replica().session(), gate.clone());
        tasks.spawn(async move {
            let mut won: Vec<Leading> = Vec::new();
            for _ in 0..ROUNDS {
                gate.wait().await;
                let seen = session.observe(COORDINATOR).await.unwrap();
                // All have seen the same before any of them takes.
                gate.wait().await;
                won.extend(session.take(COORDINATOR, &seen, &format!("r{n}"), 15_000).await.unwrap());
            }
            won
        });
    }
    let mut winners: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for leading in tasks.join_all().await.into_iter().flatten() {
        winners.entry(leading.term()).or_default().push(leading.token().to_owned());
    }
    assert_eq!(winners.keys().copied().collect::<Vec<_>>(), (1..=ROUNDS as i64).collect::<Vec<_>>());
    assert!(winners.values().all(|tokens| tokens.len() == 1));
}

on_every_database!(a_lease_is_taken_renewed_lost_and_given_back);
async fn a_lease_is_taken_renewed_lost_and_given_back(db: TestDb) {
    let f = Fixture::new(db).await;
    let (mut one, mut other) = (f.replica().session(), f.replica().session());
    let vacant = one.observe(COORDINATOR).await.unwrap();
    assert_eq!((vacant.term, vacant.holder.as_str()), (0, ""));
    let first = one.take(COORDINATOR, &vacant, "one", 15_000).await.unwrap().unwrap();
    assert!(other.take(COORDINATOR, &vacant, "other", 15_000).await.unwrap().is_none(), "it saw the past");
    let seen = other.observe(COORDINATOR).await.unwrap();
    assert_eq!((seen.term, seen.holder.as_str(), seen.lease_ms), (1, "one", 15_000));
    assert_eq!(seen.token, first.token());
    assert!((0..5000).contains(&seen.age_ms));
    let renewed = one.renew(&first).await.unwrap();
    assert!(other.take(COORDINATOR, &seen, "other", 15_000).await.unwrap().is_none(), "the beat moved on");
    one.evaluated(&renewed).await.unwrap();
    assert!(other.observe(COORDINATOR).await.unwrap().eval_ms > 0);
    let second = lead(&mut other).await;
    assert_eq!(second.term(), 2);
    assert!(matches!(one.renew(&renewed).await, Err(StoreError::Fenced)));
    one.release(&renewed).await.unwrap();
    assert_eq!(other.observe(COORDINATOR).await.unwrap().holder, "test", "not its to give back");
    other.release(&second).await.unwrap();
    assert_eq!(other.observe(COORDINATOR).await.unwrap().holder, "");
    let shown = f.store.lease(COORDINATOR).await.unwrap().unwrap();
    assert_eq!((shown.term, shown.holder.as_str()), (2, ""));
    assert!(shown.eval_age_ms.is_some());
    assert!(f.store.lease("nothing").await.unwrap().is_none());
}
