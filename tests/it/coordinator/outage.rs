//! GoTel itself was down: one notice of it, every true miss, and nobody woken for a job that came back.

use std::collections::BTreeMap;

use gotel::reservation::outage::Outage;
use gotel::reservation::routing::Target;
use gotel::reservation::{JobKey, SignalKind};
use gotel::store::{Life, SystemKind, SystemReport};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, every};

fn report(outage: Outage) -> SystemReport {
    SystemReport {
        kind: SystemKind::Outage,
        subject: String::new(),
        text: "GoTel itself was down".into(),
        since_ms: outage.from_ms,
        targets: vec![Target { alerter: "chat".into(), recipient: String::new() }],
        srv: "replica-1".into(),
        life: Life::Over,
    }
}

on_every_database!(a_silence_of_half_a_minute_is_an_outage_recorded_once);
async fn a_silence_of_half_a_minute_is_an_outage_recorded_once(db: TestDb) {
    let mut f = Fixture::new(db).await;
    assert_eq!(f.session.mark_alive(report).await.unwrap(), None);
    f.be_away(29_000);
    assert_eq!(f.session.mark_alive(report).await.unwrap(), None);
    f.be_away(HOUR);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut session = f.replica().session();
        tasks.spawn(async move { session.mark_alive(report).await.unwrap() });
    }
    let found: Vec<Outage> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(found.len(), 1, "whoever comes back first");
    assert!((HOUR..HOUR + MINUTE).contains(&(found[0].to_ms - found[0].from_ms)));
    assert_eq!(f.store.outages().await.unwrap(), found);
    assert_eq!(f.outbox().await, ["recovered chat  pending"]);
    assert!(f.store.system_incidents().await.unwrap().is_empty());
}

on_every_database!(row_59_an_outage_of_two_hours_with_five_hundred_jobs);
async fn row_59_an_outage_of_two_hours_with_five_hundred_jobs(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let mut jobs = Vec::new();
    for n in 0..500 {
        jobs.push(f.reserve(&format!("a{n}"), every("1h")).await);
    }
    let (late, punctual) = jobs.split_at(20);
    check_in(&f, late).await;
    f.evaluate().await;
    // Twenty fall silent an hour before the others last report, and are late before GoTel goes away.
    f.pass(HOUR + MINUTE).await;
    check_in(&f, punctual).await;
    f.be_away(2 * HOUR);
    f.session.mark_alive(report).await.unwrap().expect("an outage");
    f.evaluate().await;
    assert_eq!(tally(&mut f, "chat").await, [("digest", 1)].into(), "the twenty and the outage");
    assert_eq!(f.number("SELECT COUNT(*) FROM incident WHERE reason <> 'system'").await, 20);
    // All but thirty come back within the ten minutes they are given.
    let (silent, back) = punctual.split_at(30);
    f.pass(5 * MINUTE).await;
    check_in(&f, back).await;
    for _ in 0..8 {
        f.evaluate().await;
        assert_eq!(tally(&mut f, "chat").await, BTreeMap::new());
        f.pass(MINUTE / 2).await;
    }
    f.pass(2 * MINUTE).await;
    f.evaluate().await;
    assert_eq!(tally(&mut f, "chat").await, [("digest", 1)].into(), "the survivors in one");
    let told = "SELECT COUNT(DISTINCT app) FROM incident WHERE reason <> 'system'";
    assert_eq!(f.number(told).await, i64::try_from(late.len() + silent.len()).unwrap());
    for job in &back[..3] {
        assert_eq!(f.state(job).await, "on_time");
    }
}

on_every_database!(two_survivors_are_a_digest_and_one_goes_alone);
async fn two_survivors_are_a_digest_and_one_goes_alone(db: TestDb) {
    let mut f = Fixture::new(db).await;
    for app in ["one", "two"] {
        let job = f.reserve(app, every("20m")).await;
        f.check_in(&job, SignalKind::Ok).await;
    }
    f.evaluate().await;
    f.be_away(HOUR);
    f.session.mark_alive(report).await.unwrap().unwrap();
    f.deliver("chat").await;
    f.pass(11 * MINUTE).await;
    f.evaluate().await;
    assert_eq!(tally(&mut f, "chat").await, [("digest", 1)].into());
}

async fn check_in(f: &Fixture, jobs: &[JobKey]) {
    let batch: Vec<_> = jobs.iter().map(|job| (gotel::store::CheckIn::new(job, SignalKind::Ok), 0)).collect();
    let answers = f.store.session().write_checkins(&batch).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
}

/// What is told now, by event.
async fn tally(f: &mut Fixture, alerter: &str) -> BTreeMap<&'static str, usize> {
    f.session.fold_storms(alerter, "srv").await.unwrap();
    let mut tally = BTreeMap::new();
    for told in f.deliver(alerter).await {
        let event = match told.split(' ').next().unwrap() {
            "digest" => "digest",
            "trigger" => "trigger",
            "recovered" => "recovered",
            other => panic!("{other} was told"),
        };
        *tally.entry(event).or_default() += 1;
    }
    tally
}
