//! `due_ms` is a lower bound: no row is looked at later than the rules would act on it.

use gotel::reservation::outage::Outage;
use gotel::reservation::routing::Target;
use gotel::reservation::snooze::Snooze;
use gotel::reservation::{Action, Case, Draft, SignalKind, decide};
use gotel::store::{CheckIn, Filter, Life, Loaded, Outcome, SystemKind, SystemReport};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, SECOND, every, settings};

fn report(outage: Outage) -> SystemReport {
    SystemReport {
        kind: SystemKind::Outage,
        subject: String::new(),
        text: "down".into(),
        since_ms: outage.from_ms,
        targets: vec![Target { alerter: "chat".into(), recipient: String::new() }],
        srv: "srv".into(),
        life: Life::Over,
    }
}

fn drafts() -> Vec<Draft> {
    vec![
        every("10m"),
        Draft { grace: Some("5m".into()), tolerance: Some(3), ..every("20m") },
        Draft { cron: Some("*/15 * * * *".into()), grace: Some("1m".into()), ..Draft::default() },
        Draft { cron: Some("0 * * * *".into()), grace: Some("0s".into()), ..Draft::default() },
        Draft { max_runtime: Some("3m".into()), realert: Some("30m".into()), ..every("1h") },
        Draft { first_within: Some("4h".into()), tolerance: Some(2), ..every("15m") },
    ]
}

on_every_database!(no_row_is_looked_at_later_than_the_rules_would_act);
async fn no_row_is_looked_at_later_than_the_rules_would_act(db: TestDb) {
    let mut f = Fixture::new(db).await;
    // The same history each time; another one with GOTEL_TEST_SEED=n.
    let seed = std::env::var("GOTEL_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut jobs = Vec::new();
    for (n, draft) in drafts().into_iter().enumerate() {
        jobs.push(f.reserve(&format!("a{n}"), draft).await);
    }
    f.session.mark_alive(report).await.unwrap();
    for step in 0..if f.is_embedded() { 150 } else { 40 } {
        let n = random.usize(..jobs.len());
        let job = &jobs[n];
        match random.u8(..12) {
            0..4 => {
                let kind =
                    [SignalKind::Ok, SignalKind::Ok, SignalKind::Fail, SignalKind::Start, SignalKind::Log];
                let kind = kind[random.usize(..kind.len())];
                let rid = if random.bool() { "r" } else { "" };
                let _ = f.write(CheckIn { rid: rid.into(), ..CheckIn::new(job, kind) }).await;
            }
            4 => {
                let length = random.i64(MINUTE..2 * HOUR);
                let snooze = |now| Snooze { from_ms: now, until_ms: now + length };
                f.store.snooze(job, snooze, None, None).await.unwrap();
            }
            5 => drop(f.store.unsnooze(job).await.unwrap()),
            6 => {
                let draft = drafts().swap_remove(random.usize(..6));
                f.store.reserve(job, &settings(draft)).await.unwrap();
            }
            7 if random.u8(..4) == 0 => drop(f.store.checkout(job).await.unwrap()),
            8 if random.bool() => {
                f.be_away(random.i64(MINUTE..2 * HOUR));
                f.session.mark_alive(report).await.unwrap();
            }
            _ => {
                f.pass(random.i64(SECOND..20 * MINUTE)).await;
                f.session.mark_alive(report).await.unwrap();
            }
        }
        if random.bool() {
            f.evaluate().await;
        }
        let sleepers = unattended(&mut f).await;
        assert!(sleepers.is_empty(), "seed {seed}, step {step}: {sleepers:?}");
    }
}

/// Rows that are not due although the rules would act on them now.
async fn unattended(f: &mut Fixture) -> Vec<String> {
    let now = f.store.now_ms().await.unwrap();
    let late = f.texts(&format!("SELECT app FROM reservation WHERE due_ms > {now}")).await;
    if late.is_empty() {
        return Vec::new();
    }
    // Everything is loaded as the evaluator would, looked at, and left as it was.
    f.sql("CREATE TABLE IF NOT EXISTS kept (id BIGINT NOT NULL PRIMARY KEY, due_ms BIGINT NOT NULL)").await;
    f.sql("DELETE FROM kept").await;
    f.sql("INSERT INTO kept SELECT id, due_ms FROM reservation").await;
    f.sql("UPDATE reservation SET due_ms = 0").await;
    let leading = f.lead().await;
    let found = std::sync::Mutex::new(Vec::new());
    let look = |loaded: &Loaded| {
        let mut sleepers = Vec::new();
        for subject in loaded.subjects.iter().filter(|s| late.contains(&s.app) && !s.checked_out) {
            let case = Case {
                settings: subject.settings.as_ref().unwrap(),
                state: subject.state,
                evidence: &subject.evidence,
                open: subject.open.as_ref().map(|o| &o.incident),
                runs: &subject.runs,
                outages: &loaded.outages,
            };
            // At the moment the rows were found not to be due.
            let decision = decide(&case, now).unwrap();
            // A run may be given up later, and the word on the page may wait for the end of a snooze: nobody is told
            // of either.
            let told = decision.actions.iter().any(|action| !matches!(action, Action::AbandonRun { .. }));
            let snoozed = subject.evidence.snooze.is_some_and(|snooze| snooze.active(now));
            if told || (decision.state != subject.state && !snoozed) {
                sleepers.push(format!("{}: {decision:?} of {case:?}", subject.app));
            }
        }
        *found.lock().unwrap() = sleepers;
        Outcome::default()
    };
    f.session.evaluate(&leading, 500, look).await.unwrap();
    f.sql("UPDATE reservation SET due_ms = (SELECT kept.due_ms FROM kept WHERE kept.id = reservation.id)")
        .await;
    found.into_inner().unwrap()
}

on_every_database!(a_cron_job_that_is_back_after_an_outage_is_watched_from_its_next_slot);
async fn a_cron_job_that_is_back_after_an_outage_is_watched_from_its_next_slot(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let draft = Draft { cron: Some("* * * * *".into()), grace: Some("1m".into()), ..Draft::default() };
    let job = f.reserve("a", draft).await;
    f.check_in(&job, SignalKind::Ok).await;
    f.evaluate().await;
    // An outage that ends 50 s into a minute, and a check-in right after it: the next slot is near.
    let now = f.store.now_ms().await.unwrap();
    f.be_away(HOUR - now % MINUTE + 50 * SECOND);
    f.session.mark_alive(report).await.unwrap().unwrap();
    f.evaluate().await;
    let at = f.check_in(&job, SignalKind::Ok).await.at_ms;
    let slot = (at / MINUTE + 1) * MINUTE;
    let due = f.column(&job, "due_ms").await.unwrap();
    assert!(due <= slot + MINUTE + 1, "due {} s after the deadline", (due - slot - MINUTE) / 1000);
    let listed = f.store.list(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(listed.items.len(), 1);
}
