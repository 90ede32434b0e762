//! The write path's transaction, and the queue in front of it.

use std::sync::Arc;
use std::time::Duration;

use gotel::checkin::{self, Refusal};
use gotel::lifecycle::{Loops, Tasks};
use gotel::metrics::Metrics;
use gotel::reservation::{Draft, JobKey, SignalKind};
use gotel::store::{CheckIn, Refused, Store};

use crate::util::chaos::ChaosProxy;
use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, every, key};
use crate::util::wait::eventually;

fn of(job: &JobKey, kind: SignalKind, rid: &str) -> CheckIn {
    CheckIn { rid: rid.into(), ..CheckIn::new(job, kind) }
}

on_every_database!(a_batch_is_answered_in_order_each_item_on_its_own);
async fn a_batch_is_answered_in_order_each_item_on_its_own(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, b, gone) = (
        f.reserve("a", every("1h")).await,
        f.reserve("b", every("1h")).await,
        f.reserve("gone", every("1h")).await,
    );
    f.store.checkout(&gone).await.unwrap();
    let ok = |job: &JobKey, waited| (CheckIn::new(job, SignalKind::Ok), waited);
    let batch = [ok(&b, 0), ok(&key("unknown"), 0), ok(&a, 3000), ok(&gone, 0), ok(&a, 1000), ok(&b, 0)];
    let now = f.store.now_ms().await.unwrap();
    let answers = f.store.session().write_checkins(&batch).await.unwrap();
    let found: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(found, [true, false, true, false, true, true]);
    assert_eq!(answers[1], Err(Refused::NotFound));
    let at: Vec<i64> = answers.iter().flatten().map(|a| a.at_ms).collect();
    assert!((now..now + 60_000).contains(&at[0]), "the database's time");
    assert_eq!((at[0] - at[1], at[0] - at[2], at[0] - at[3]), (3000, 1000, 0), "receipt, not storage");
    assert_eq!(f.column(&a, "checkins").await, Some(2));
    assert_eq!(f.column(&a, "last_ok_ms").await, Some(at[2]));
    assert_eq!(f.number("SELECT COUNT(*) FROM checkin").await, 4);
    let none = f.store.session().write_checkins(&[ok(&key("unknown"), 0)]).await.unwrap();
    assert_eq!(none, [Err(Refused::NotFound)]);
    assert!(f.store.session().write_checkins(&[]).await.unwrap().is_empty());
}

on_every_database!(a_batch_is_stored_alike_with_and_without_json_table);
async fn a_batch_is_stored_alike_with_and_without_json_table(db: TestDb) {
    let mut f = Fixture::new(db).await;
    assert_eq!(f.store.has_json_table(), !f.is_embedded());
    for n in 0..20 {
        f.reserve(&format!("a{n}"), every("1h")).await;
    }
    let batch: Vec<_> = (0..20)
        .map(|n| (key(&format!("a{n}")), if n % 7 == 6 { SignalKind::Log } else { SignalKind::Ok }))
        .map(|(job, kind)| (CheckIn::new(&job, kind), 0))
        .collect();
    let mut stored = Vec::new();
    for lacks in [false, true] {
        if lacks {
            f.store.forget_json_table();
        }
        assert_eq!(f.store.has_json_table(), !f.is_embedded() && !lacks);
        f.sql("DELETE FROM checkin").await;
        f.sql("UPDATE reservation SET checkins = 0, state = 'on_time', last_ok_ms = 1, last_seen_ms = 1")
            .await;
        for _ in 0..2 {
            let answers = f.store.session().write_checkins(&batch).await.unwrap();
            assert!(answers.iter().all(Result::is_ok));
        }
        let history = "SELECT app || ' ' || kind || ' ' || CASE WHEN at_ms > 1 THEN 'now' ELSE 'never' END FROM checkin c \
                       JOIN reservation r ON r.id = c.reservation_id ORDER BY c.id";
        let rows = "SELECT app || ' ' || checkins || ' ' || CASE WHEN last_ok_ms > 1 THEN 'now' ELSE 'never' END \
                    FROM reservation ORDER BY id";
        stored.push((f.texts(history).await, f.texts(rows).await));
    }
    assert_eq!(stored[0].0.len(), 40);
    assert_eq!(stored[0], stored[1]);
}

on_every_database!(times_never_go_back);
async fn times_never_go_back(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = f.reserve("a", every("1h")).await;
    f.pass(HOUR).await;
    let newest = f.check_in(&a, SignalKind::Ok).await.at_ms;
    let late = f.store.session().write_checkins(&[(CheckIn::new(&a, SignalKind::Ok), 10 * MINUTE)]).await;
    assert!(late.unwrap()[0].unwrap().at_ms < newest);
    for column in ["last_ok_ms", "last_ok_started_ms", "last_seen_ms"] {
        assert_eq!(f.column(&a, column).await, Some(newest), "{column}");
    }
    assert_eq!(f.column(&a, "checkins").await, Some(2));
}

on_every_database!(a_check_in_in_time_leaves_the_index_alone_and_any_other_wakes_the_evaluator);
async fn a_check_in_in_time_leaves_the_index_alone_and_any_other_wakes_the_evaluator(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = f.reserve("a", every("1h")).await;
    f.evaluate().await;
    assert!(f.column(&a, "due_ms").await > Some(0));
    f.check_in(&a, SignalKind::Ok).await;
    assert_eq!(f.column(&a, "due_ms").await, Some(0), "the first one");
    f.evaluate().await;
    let due = f.column(&a, "due_ms").await;
    for kind in [SignalKind::Ok, SignalKind::Log, SignalKind::Start, SignalKind::Ok] {
        f.check_in(&a, kind).await;
        assert_eq!(f.column(&a, "due_ms").await, due, "{kind:?}");
    }
    f.check_in(&a, SignalKind::Fail).await;
    assert_eq!(f.column(&a, "due_ms").await, Some(0), "a failure");
    f.evaluate().await;
    f.check_in(&a, SignalKind::Ok).await;
    assert_eq!(f.column(&a, "due_ms").await, Some(0), "a recovery");
}

on_every_database!(a_start_brings_the_next_look_forward_to_the_runs_limit);
async fn a_start_brings_the_next_look_forward_to_the_runs_limit(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let draft = Draft { max_runtime: Some("5m".into()), ..every("1h") };
    let a = f.reserve("a", draft).await;
    f.check_in(&a, SignalKind::Ok).await;
    f.evaluate().await;
    let at = f.check_in(&a, SignalKind::Start).await.at_ms;
    assert_eq!(f.column(&a, "due_ms").await, Some(at + 5 * MINUTE + 1));
}

on_every_database!(runs_at_once_are_kept_apart_by_their_ids);
async fn runs_at_once_are_kept_apart_by_their_ids(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = f.reserve("a", every("1h")).await;
    let started = f.write(of(&a, SignalKind::Start, "one")).await.unwrap().at_ms;
    f.pass(MINUTE).await;
    f.write(of(&a, SignalKind::Start, "two")).await.unwrap();
    let ended = f.write(of(&a, SignalKind::Ok, "one")).await.unwrap().at_ms;
    f.write(CheckIn { exit_code: Some(255), ..of(&a, SignalKind::Fail, "unannounced") }).await.unwrap();
    let (view, _) = f.store.reservation(&a).await.unwrap().unwrap();
    assert_eq!(view.evidence.last_ok_started_ms, Some(started));
    assert_eq!((view.evidence.fails, view.evidence.last_exit_code), (1, Some(255)));
    let runs = f.store.runs(view.id, 10).await.unwrap();
    let seen: Vec<_> = runs.iter().map(|r| (r.rid.as_str(), r.ended_ms, r.outcome.as_deref())).collect();
    assert_eq!(seen, [("two", None, None), ("one", Some(ended), Some("ok"))]);
    f.write(CheckIn { exit_code: Some(3), ..of(&a, SignalKind::Fail, "two") }).await.unwrap();
    let again = f.write(of(&a, SignalKind::Start, "one")).await.unwrap().at_ms;
    let runs = f.store.runs(view.id, 10).await.unwrap();
    let one = runs.iter().find(|r| r.rid == "one").unwrap();
    assert_eq!(
        (one.started_ms, one.ended_ms, one.outcome.as_deref()),
        (again, None, None),
        "used again: a new run"
    );
    let two = runs.iter().find(|r| r.rid == "two").unwrap();
    assert_eq!((two.outcome.as_deref(), two.exit_code), (Some("fail"), Some(3)));
}

on_every_database!(a_run_may_begin_and_end_within_one_batch);
async fn a_run_may_begin_and_end_within_one_batch(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = f.reserve("a", every("1h")).await;
    let batch = [(of(&a, SignalKind::Start, "x"), 2000), (of(&a, SignalKind::Ok, "x"), 500)];
    let answers = f.store.session().write_checkins(&batch).await.unwrap();
    let [start, end] = [0, 1].map(|n: usize| answers[n].unwrap().at_ms);
    assert_eq!(f.column(&a, "last_ok_started_ms").await, Some(start));
    assert_eq!(f.number("SELECT ended_ms FROM run").await, end);
}

on_every_database!(notes_of_any_bytes_come_back);
async fn notes_of_any_bytes_come_back(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = f.reserve("a", every("1h")).await;
    let note: Vec<u8> = (0..10_240u32).map(|n| (n % 256) as u8).collect();
    f.write(CheckIn { note: Some(note.clone()), ..CheckIn::new(&a, SignalKind::Log) }).await.unwrap();
    let hex = f.texts("SELECT HEX(note) FROM checkin").await.remove(0);
    assert_eq!(hex.to_lowercase(), hex::encode(&note));
    f.write(CheckIn { note: Some("🛎 gut".into()), ..CheckIn::new(&a, SignalKind::Log) }).await.unwrap();
    let (view, _) = f.store.reservation(&a).await.unwrap().unwrap();
    let shown = f.store.checkins(view.id, None, 10).await.unwrap().items;
    assert_eq!(shown[0].note.as_deref(), Some("🛎 gut"));
    assert!(shown[1].note.as_deref().unwrap().contains("\u{fffd}"), "not UTF-8: shown as well as can be");
}

on_every_database!(a_row_with_an_unreadable_state_fails_nobodys_check_in);
async fn a_row_with_an_unreadable_state_fails_nobodys_check_in(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, b) = (f.reserve("a", every("1h")).await, f.reserve("b", every("1h")).await);
    f.sql("UPDATE reservation SET state = 'garbage' WHERE app = 'a'").await;
    let batch = [(CheckIn::new(&a, SignalKind::Ok), 0), (CheckIn::new(&b, SignalKind::Ok), 0)];
    let answers = f.store.session().write_checkins(&batch).await.unwrap();
    assert!(answers.iter().all(Result::is_ok));
    f.evaluate().await;
    assert_eq!(f.state(&a).await, "on_time");
}

/// A queue with one writer on the fixture's store.
struct Path {
    queue: checkin::Queue,
    tasks: Tasks,
}

fn path(f: &Fixture) -> Path {
    let (mut tasks, loops) = (Tasks::default(), Arc::new(Loops::default()));
    let queue = checkin::start(&f.store, 1, &mut tasks, &loops, &Arc::new(Metrics::new()));
    Path { queue, tasks }
}

/// Makes the database refuse a note, as it would refuse any data that does not fit.
async fn refuse_poison(f: &mut Fixture) {
    let trigger = if f.is_embedded() {
        "CREATE TRIGGER poison BEFORE INSERT ON checkin WHEN new.note = x'706f69736f6e' \
         BEGIN SELECT RAISE(ABORT, 'poison'); END"
    } else {
        "ALTER TABLE checkin ADD CONSTRAINT poison CHECK (note IS NULL OR note <> 'poison')"
    };
    f.sql(trigger).await;
}

on_every_database!(a_poisoned_item_fails_alone);
async fn a_poisoned_item_fails_alone(db: TestDb) {
    let mut f = Fixture::new(db).await;
    refuse_poison(&mut f).await;
    let mut jobs = Vec::new();
    for n in 0..40 {
        jobs.push(f.reserve(&format!("a{n}"), every("1h")).await);
    }
    let path = path(&f);
    let submits = jobs.iter().enumerate().map(|(n, job)| {
        let note = if n % 17 == 5 { "poison" } else { "good" };
        path.queue.submit(CheckIn { note: Some(note.into()), ..CheckIn::new(job, SignalKind::Ok) })
    });
    let answers = futures::future::join_all(submits).await;
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Err(Refusal::Data(_)) => assert_eq!(n % 17, 5),
            Ok(_) => assert_ne!(n % 17, 5),
            other => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(f.number("SELECT COUNT(*) FROM checkin").await, 37);
    if !f.is_embedded() {
        let long = CheckIn { rid: "x".repeat(101), ..CheckIn::new(&jobs[0], SignalKind::Ok) };
        let refused = f.store.session().write_checkins(&[(long, 0)]).await.unwrap_err();
        assert!(refused.is_data(), "{refused:?}");
    }
    assert!(path.tasks.finish(Duration::from_secs(10)).await);
}

on_every_database!(five_hundred_and_twelve_check_ins_share_a_transaction);
async fn five_hundred_and_twelve_check_ins_share_a_transaction(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let mut jobs = Vec::new();
    for n in 0..30 {
        jobs.push(f.reserve(&format!("a{n}"), every("1h")).await);
    }
    let batch: Vec<_> = (0..512)
        .map(|n| (CheckIn { note: Some(vec![7; 10_000]), ..CheckIn::new(&jobs[n % 30], SignalKind::Ok) }, 0))
        .collect();
    let answers = f.store.session().write_checkins(&batch).await.unwrap();
    assert_eq!(answers.iter().flatten().count(), 512);
    assert_eq!(f.number("SELECT COUNT(*) FROM checkin").await, 512);
    let sum = "SELECT CAST(SUM(checkins) AS CHAR(20)) FROM reservation";
    assert_eq!(f.texts(sum).await, ["512"]);
}

on_every_database!(what_was_accepted_before_the_end_is_still_written);
async fn what_was_accepted_before_the_end_is_still_written(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = f.reserve("a", every("1h")).await;
    let Path { queue, tasks } = path(&f);
    let waiting: Vec<_> = (0..600)
        .map(|_| {
            let (queue, item) = (queue.clone(), CheckIn::new(&a, SignalKind::Ok));
            tokio::spawn(async move { queue.submit(item).await })
        })
        .collect();
    eventually(Duration::from_secs(10), "a first batch", async || {
        f.number("SELECT COUNT(*) FROM checkin").await > 0
    })
    .await;
    assert!(tasks.finish(Duration::from_secs(15)).await);
    assert_eq!(queue.submit(CheckIn::new(&a, SignalKind::Ok)).await, Err(Refusal::Draining));
    let mut stored = 0;
    for answer in waiting {
        match answer.await.unwrap() {
            Ok(_) => stored += 1,
            Err(refusal) => assert_eq!(refusal, Refusal::Draining),
        }
    }
    assert_eq!(f.number("SELECT COUNT(*) FROM checkin").await, stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_says_so_and_what_waited_too_long_is_not_written() {
    let mut f = Fixture::new(TestDb::new(Backend::Sqlite).await.unwrap()).await;
    let a = f.reserve("a", every("1h")).await;
    let path = path(&f);
    // While somebody holds the file, the writer is busy and the queue fills: at first nobody knows how long it takes.
    f.sql("BEGIN IMMEDIATE").await;
    let flood: Vec<_> = (0..6000)
        .map(|_| {
            let (queue, item) = (path.queue.clone(), CheckIn::new(&a, SignalKind::Ok));
            tokio::spawn(async move { queue.submit(item).await })
        })
        .collect();
    let mut refused = std::collections::BTreeMap::<String, usize>::new();
    for answer in flood {
        *refused.entry(format!("{:?}", answer.await.unwrap().unwrap_err())).or_default() += 1;
    }
    f.sql("ROLLBACK").await;
    assert!(refused["Full"] >= 6000 - 4096 - 512 && refused["Late"] > 0, "{refused:?}");
    eventually(Duration::from_secs(20), "the path to work again", async || {
        path.queue.submit(CheckIn::new(&a, SignalKind::Ok)).await
    })
    .await;
    let stored = f.number("SELECT COUNT(*) FROM checkin").await;
    assert!(stored < 600, "{stored}: stale ones were not written");
}

on_every_database!(what_a_database_far_away_cannot_store_in_time_is_refused_at_once);
async fn what_a_database_far_away_cannot_store_in_time_is_refused_at_once(db: TestDb) {
    let f = Fixture::new(db).await;
    let Some(addr) = f.db().server_addr() else { return };
    let proxy = ChaosProxy::start(addr).await;
    proxy.delay(Duration::from_millis(25));
    let store = Store::open(&f.db().url_through(proxy.addr()), Arc::new(Metrics::new())).unwrap();
    let (mut tasks, loops) = (Tasks::default(), Arc::new(Loops::default()));
    let queue = checkin::start(&store, 1, &mut tasks, &loops, &Arc::new(Metrics::new()));
    let a = f.reserve("a", every("1h")).await;
    let flood = async |count: usize| {
        let all = (0..count).map(|_| {
            let (queue, item) = (queue.clone(), CheckIn::new(&a, SignalKind::Ok));
            tokio::spawn(async move { queue.submit(item).await })
        });
        let mut answers = std::collections::BTreeMap::<String, usize>::new();
        for answer in futures::future::join_all(all).await {
            let answer = answer.unwrap().map_or_else(|refusal| format!("{refusal:?}"), |_| "stored".into());
            *answers.entry(answer).or_default() += 1;
        }
        answers
    };
    // One on its way and a full batch behind it: from then on it is known how long a batch takes.
    assert_eq!(flood(500).await["stored"], 500);
    let answers = flood(12_000).await;
    assert!(answers["stored"] >= 512, "{answers:?}");
    assert_eq!(answers["stored"] + answers["Full"], 12_000, "{answers:?}");
    assert!(tasks.finish(Duration::from_secs(15)).await);
}
