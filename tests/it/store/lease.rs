//! The lease row: one holder a term, whatever races.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotel::store::lease::{COORDINATOR, Claim, Observed};
use gotel::store::{Leading, Session, StoreError};
use tokio::sync::Barrier;

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, LIMITS, lead};

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
                let seen = session.observe(COORDINATOR, LIMITS.op).await.unwrap();
                let claim = Claim::new(COORDINATOR, &seen);
                // All have seen the same before any of them takes.
                gate.wait().await;
                won.extend(session.take(&claim, &format!("r{n}"), LIMITS).await.unwrap());
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
    let vacant = observe(&mut one).await;
    assert_eq!((vacant.term, vacant.holder.as_str()), (0, ""));
    let ones = Claim::new(COORDINATOR, &vacant);
    let late = Claim::new(COORDINATOR, &vacant);
    let first = one.take(&ones, "one", LIMITS).await.unwrap().unwrap();
    assert!(other.take(&late, "other", LIMITS).await.unwrap().is_none(), "it saw the past");
    assert!(matches!(other.prove(&late, LIMITS).await, Err(StoreError::Fenced)), "it won nothing");
    let seen = observe(&mut other).await;
    assert_eq!((seen.term, seen.holder.as_str(), seen.lease_ms), (1, "one", 15_000));
    assert_eq!(seen.token, first.token());
    assert!((0..5000).contains(&seen.age_ms));
    one.renew(&first).await.unwrap();
    let late = Claim::new(COORDINATOR, &seen);
    assert!(other.take(&late, "other", LIMITS).await.unwrap().is_none(), "the beat moved on");
    one.evaluated(&first).await.unwrap();
    assert!(observe(&mut other).await.eval_ms > 0);
    let others = Claim::new(COORDINATOR, &observe(&mut other).await);
    let second = other.take(&others, "other", LIMITS).await.unwrap().unwrap();
    assert_eq!(second.term(), 2);
    assert!(matches!(one.renew(&first).await, Err(StoreError::Fenced)));
    one.release(&ones, LIMITS).await.unwrap();
    assert_eq!(observe(&mut other).await.holder, "other", "not its to give back");
    other.release(&others, LIMITS).await.unwrap();
    assert_eq!(observe(&mut other).await.holder, "");
    let shown = f.store.lease(COORDINATOR).await.unwrap().unwrap();
    assert_eq!((shown.term, shown.holder.as_str()), (2, ""));
    assert!(shown.eval_age_ms.is_some());
    assert!(f.store.lease("nothing").await.unwrap().is_none());
}

on_every_database!(a_bid_whose_answer_was_lost_is_proven_by_a_renewal_and_sent_twice_wins_once);
async fn a_bid_whose_answer_was_lost_is_proven_by_a_renewal_and_sent_twice_wins_once(db: TestDb) {
    let f = Fixture::new(db).await;
    let mut session = f.replica().session();
    let claim = Claim::new(COORDINATOR, &observe(&mut session).await);
    drop(session.take(&claim, "one", LIMITS).await.unwrap());
    assert!(session.take(&claim, "one", LIMITS).await.unwrap().is_none(), "the row has moved");
    let leading = session.prove(&claim, LIMITS).await.unwrap();
    assert_eq!((leading.term(), leading.token()), (1, claim.token().to_string().as_str()));
    session.renew(&leading).await.unwrap();
    let other = lead(&mut f.replica().session()).await;
    assert!(matches!(session.prove(&claim, LIMITS).await, Err(StoreError::Fenced)), "{other:?} has it");
}

async fn observe(session: &mut Session) -> Observed {
    session.observe(COORDINATOR, LIMITS.op).await.unwrap()
}
