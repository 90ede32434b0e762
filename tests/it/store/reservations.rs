//! Making, changing, pausing and ending reservations.

use gotel::reservation::snooze::Snooze;
use gotel::reservation::{Draft, JobKey, SignalKind};
use gotel::store::{CheckIn, Filter, Found, Refused, Reserved, Snoozed};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, every, key, settings};

on_every_database!(making_one_twice_changes_nothing);
async fn making_one_twice_changes_nothing(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, hourly) = (key("a"), settings(every("1h")));
    assert_eq!(f.store.reserve(&a, &hourly).await.unwrap(), Reserved::Created);
    f.evaluate().await;
    let due = f.column(&a, "due_ms").await;
    assert_eq!(f.store.reserve(&a, &hourly).await.unwrap(), Reserved::Unchanged);
    assert_eq!(f.column(&a, "due_ms").await, due);
    assert_eq!(f.column(&a, "gen").await, Some(1));
}

on_every_database!(an_edit_is_stored_with_its_owner_and_never_makes_a_deadline_of_its_own);
async fn an_edit_is_stored_with_its_owner_and_never_makes_a_deadline_of_its_own(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = f.reserve("a", every("2h")).await;
    f.check_in(&a, SignalKind::Ok).await;
    f.evaluate().await;
    f.pass(HOUR).await;
    let edit = Draft { owner: Some("ada".into()), ..every("10m") };
    assert_eq!(f.store.reserve(&a, &settings(edit)).await.unwrap(), Reserved::Updated);
    assert_eq!(f.column(&a, "due_ms").await, Some(0));
    assert_eq!(f.texts("SELECT owner FROM reservation").await, ["ada"]);
    let (view, now) = f.store.reservation(&a).await.unwrap().unwrap();
    assert_eq!(view.settings.unwrap().owner, "ada");
    assert!(view.evidence.rearm_ms >= now + 10 * MINUTE - 5000, "the edit gives the job its new period");
    f.evaluate().await;
    assert_eq!((f.state(&a).await.as_str(), f.outbox().await.len()), ("on_time", 0));
    f.pass(11 * MINUTE).await;
    f.evaluate().await;
    assert_eq!(f.outbox().await, ["trigger chat  pending"]);
}

on_every_database!(a_change_of_owner_alone_moves_no_deadline);
async fn a_change_of_owner_alone_moves_no_deadline(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = f.reserve("a", every("1h")).await;
    let edit = Draft { owner: Some("ada".into()), ..every("1h") };
    assert_eq!(f.store.reserve(&a, &settings(edit)).await.unwrap(), Reserved::Updated);
    assert_eq!(f.column(&a, "rearm_ms").await, Some(0));
}

on_every_database!(a_reservation_made_again_after_its_checkout_starts_from_nothing);
async fn a_reservation_made_again_after_its_checkout_starts_from_nothing(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = f.reserve("a", every("1h")).await;
    f.write(CheckIn { rid: "r1".into(), ..CheckIn::new(&a, SignalKind::Start) }).await.unwrap();
    f.check_in(&a, SignalKind::Fail).await;
    f.evaluate().await;
    assert_eq!(f.store.checkout(&a).await.unwrap(), Found::Yes);
    assert_eq!(f.store.checkout(&a).await.unwrap(), Found::No);
    assert!(f.store.reservation(&a).await.unwrap().is_none());
    assert_eq!(f.write(CheckIn::new(&a, SignalKind::Ok)).await, Err(Refused::NotFound));
    assert_eq!(f.store.reserve(&a, &settings(every("1h"))).await.unwrap(), Reserved::Created);
    assert_eq!(f.column(&a, "gen").await, Some(2));
    let (view, now) = f.store.reservation(&a).await.unwrap().unwrap();
    let e = view.evidence;
    assert_eq!((e.last_fail_ms, e.fails, e.checkins, e.last_seen_ms), (None, 0, 0, None));
    assert!(now - e.created_ms < MINUTE);
    assert!(f.store.runs(view.id, 10).await.unwrap().is_empty(), "a run of the past is waited for no more");
    f.evaluate().await;
    let outbox = f.outbox().await;
    assert_eq!(outbox, ["trigger chat  superseded"], "what was not told yet is of no interest any more");
    assert_eq!(f.state(&a).await, "waiting");
}

on_every_database!(eight_clients_at_once_make_one_row);
async fn eight_clients_at_once_make_one_row(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = f.store.clone();
        tasks.spawn(async move { store.reserve(&key("a"), &settings(every("1h"))).await.unwrap() });
    }
    let made = tasks.join_all().await;
    assert_eq!(made.iter().filter(|r| **r == Reserved::Created).count(), 1, "{made:?}");
    assert_eq!(made.iter().filter(|r| **r == Reserved::Unchanged).count(), 7, "{made:?}");
    assert_eq!(f.number("SELECT COUNT(*) FROM reservation").await, 1);
}

on_every_database!(names_are_compared_byte_for_byte);
async fn names_are_compared_byte_for_byte(db: TestDb) {
    let f = Fixture::new(db).await;
    let emoji = "🛎".repeat(150);
    let names = ["job", "Job", "jób", "jo\u{301}b", "job.", "job\u{200b}", "ｊob", "ẞ", "ss", emoji.as_str()];
    let names: Vec<&str> = names.into_iter().filter(|n| JobKey::parse(n, n).is_ok()).collect();
    assert!(names.len() >= 9);
    for name in &names {
        let made = f.store.reserve(&JobKey::parse(name, name).unwrap(), &settings(every("1h"))).await;
        assert_eq!(made.unwrap(), Reserved::Created, "{name}");
    }
    for name in &names {
        let job = JobKey::parse(name, name).unwrap();
        f.check_in(&job, SignalKind::Ok).await;
        let (view, _) = f.store.reservation(&job).await.unwrap().unwrap();
        assert_eq!((view.app.as_str(), view.component.as_str(), view.evidence.checkins), (*name, *name, 1));
        let filter = Filter { app: Some((*name).into()), ..Filter::default() };
        assert_eq!(f.store.list(&filter, None, 100).await.unwrap().items.len(), 1, "{name}");
    }
}

on_every_database!(a_snooze_is_stored_replaced_and_ended);
async fn a_snooze_is_stored_replaced_and_ended(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = f.reserve("a", every("1h")).await;
    f.evaluate().await;
    let of = |length: i64| move |now: i64| Snooze { from_ms: now, until_ms: now + length };
    let snoozed = |done| match done {
        Snoozed::Yes(snooze) => snooze,
        other => panic!("{other:?}"),
    };
    let first = snoozed(f.store.snooze(&a, of(HOUR), Some("upgrade"), Some("ada")).await.unwrap());
    assert_eq!(f.column(&a, "due_ms").await, Some(0));
    let (view, now) = f.store.reservation(&a).await.unwrap().unwrap();
    assert!(view.evidence.snooze == Some(first) && first.active(now));
    assert_eq!((view.snooze_reason.as_deref(), view.snooze_by.as_deref()), (Some("upgrade"), Some("ada")));
    let second = snoozed(f.store.snooze(&a, of(2 * HOUR), None, None).await.unwrap());
    let (view, _) = f.store.reservation(&a).await.unwrap().unwrap();
    assert_eq!((view.evidence.snooze, view.snooze_reason), (Some(second), None));
    assert_eq!(f.store.unsnooze(&a).await.unwrap(), Found::Yes);
    let (view, now) = f.store.reservation(&a).await.unwrap().unwrap();
    let ended = view.evidence.snooze.unwrap();
    assert!(!ended.active(now));
    f.pass(MINUTE).await;
    assert_eq!(f.store.unsnooze(&a).await.unwrap(), Found::Yes);
    let (view, _) = f.store.reservation(&a).await.unwrap().unwrap();
    assert_eq!(view.evidence.snooze, Some(ended), "one that has ended stays as it was");
    assert_eq!(f.store.snooze(&key("b"), of(HOUR), None, None).await.unwrap(), Snoozed::No);
    assert_eq!(f.store.unsnooze(&key("b")).await.unwrap(), Found::No);
    assert_eq!(f.store.checkout(&key("b")).await.unwrap(), Found::No);
}
