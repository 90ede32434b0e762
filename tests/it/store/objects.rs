//! Reservations that belong to Kubernetes objects.

use gotel::operator::diff;
use gotel::reservation::{JobKey, Settings, SignalKind};
use gotel::store::{
    Alerts, Applied, Found, Identity, Life, ObjectId, Plan, Reclaim, Reserved, Snoozed, SystemKind,
    SystemReport, Wish, controller_scope,
};

use gotel::reservation::snooze::Snooze;

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, SECOND, every, key, settings};

/// `billing/<name>` in cluster `eu-1`.
fn object(name: &str, uid: &str) -> ObjectId {
    ObjectId { cluster: "eu-1".into(), namespace: "billing".into(), name: name.into(), uid: uid.into() }
}

/// What an object asks for, and how.
struct Asks<'a> {
    object: &'a ObjectId,
    generation: i64,
    settings: Settings,
    reclaim: Reclaim,
    suspend: bool,
    adopt: bool,
    likely_kept: bool,
}

fn asks(object: &ObjectId) -> Asks<'_> {
    let (settings, reclaim) = (settings(every("1h")), Reclaim::Delete);
    Asks { object, generation: 1, settings, reclaim, suspend: false, adopt: false, likely_kept: false }
}

impl Asks<'_> {
    async fn of(&self, f: &Fixture, key: &JobKey) -> Applied {
        let wish = Wish {
            object: self.object,
            generation: self.generation,
            settings: &self.settings,
            reclaim: self.reclaim,
            suspend: self.suspend,
            likely_kept: self.likely_kept,
        };
        f.store.apply_object(key, wish, |stored| diff::plan(&wish, self.adopt, stored)).await.unwrap()
    }
}

on_every_database!(what_is_likely_kept_is_looked_at_first_and_comes_to_the_same);
async fn what_is_likely_kept_is_looked_at_first_and_comes_to_the_same(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, mine, other) = (key("a"), object("a", "u1"), object("b", "u2"));
    let likely = |object| Asks { likely_kept: true, ..asks(object) };
    let made = Asks { generation: 2, ..likely(&mine) }.of(&f, &a).await;
    assert_eq!((made.plan, made.view.unwrap().held.generation), (Plan::Write, 2));
    let updated = f.column(&a, "updated_ms").await;
    f.pass(MINUTE).await;
    let kept = Asks { generation: 2, ..likely(&mine) }.of(&f, &a).await;
    assert_eq!((kept.plan, kept.view.unwrap().held.object), (Plan::Keep, mine.clone()));
    let stale = likely(&mine).of(&f, &a).await;
    assert_eq!((stale.plan, stale.view.unwrap().held.generation), (Plan::Stale, 2));
    let held = likely(&other).of(&f, &a).await;
    assert_eq!((held.plan, held.view.is_none()), (Plan::HeldByObject(mine.clone()), true));
    assert_eq!(f.column(&a, "updated_ms").await, updated, "nothing is written");
    let made_over_http = f.reserve("b", every("1h")).await;
    let held = likely(&other).of(&f, &made_over_http).await;
    assert_eq!((held.plan, held.view.is_none()), (Plan::HeldByApi, true));
}

on_every_database!(an_object_makes_its_reservation_once_and_shows_how_it_is);
async fn an_object_makes_its_reservation_once_and_shows_how_it_is(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, mine) = (key("a"), object("a", "u1"));
    let made = asks(&mine).of(&f, &a).await;
    assert_eq!((&made.plan, made.adopted), (&Plan::Write, false));
    let view = made.view.unwrap();
    assert_eq!((&view.held.object, view.held.generation, view.alerts.is_empty()), (&mine, 1, true));
    let updated = f.column(&a, "updated_ms").await;
    f.pass(MINUTE).await;
    assert_eq!(asks(&mine).of(&f, &a).await.plan, Plan::Keep);
    assert_eq!(f.column(&a, "updated_ms").await, updated, "nothing is written");

    f.pass(2 * HOUR).await;
    f.evaluate().await;
    let view = asks(&mine).of(&f, &a).await.view.unwrap();
    assert_eq!(view.reservation.state.as_str(), "late");
    assert_eq!(view.alerts, Alerts { sent: 0, waiting: 1, failed: 0 });
    f.deliver("chat").await;
    let (rows, _) = f.store.owned("eu-1").await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].state.unwrap().as_str(), rows[0].alerts.sent), ("late", 1));
    assert!(f.store.owned("eu-2").await.unwrap().0.is_empty());
}

on_every_database!(a_new_one_is_shown_as_it_would_be_read);
async fn a_new_one_is_shown_as_it_would_be_read(db: TestDb) {
    let f = Fixture::new(db).await;
    for (name, suspend) in [("a", false), ("b", true)] {
        let mine = object(name, "u1");
        let mut made = Asks { suspend, ..asks(&mine) }.of(&f, &key(name)).await.view.unwrap();
        let read = f.store.object(&mine).await.unwrap().unwrap();
        assert!(made.now_ms <= read.now_ms);
        made.now_ms = read.now_ms;
        assert_eq!(format!("{made:?}"), format!("{read:?}"));
    }
}

on_every_database!(a_change_by_the_object_is_an_edit_and_an_older_one_is_left_out);
async fn a_change_by_the_object_is_an_edit_and_an_older_one_is_left_out(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, mine) = (key("a"), object("a", "u1"));
    asks(&mine).of(&f, &a).await;
    f.check_in(&a, SignalKind::Ok).await;
    let second = Asks { generation: 2, settings: settings(every("2h")), ..asks(&mine) };
    assert_eq!(second.of(&f, &a).await.plan, Plan::Write);
    assert_eq!(f.column(&a, "checkins").await, Some(1), "its history stays");
    let late = asks(&mine).of(&f, &a).await;
    assert_eq!((late.plan, late.view.unwrap().held.generation), (Plan::Stale, 2));
}

on_every_database!(the_first_claim_wins_and_the_loser_frees_nothing);
async fn the_first_claim_wins_and_the_loser_frees_nothing(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, winner) = (key("a"), object("a", "u1"));
    let elsewhere = ObjectId { cluster: "eu-2".into(), ..object("a", "u2") };
    asks(&winner).of(&f, &a).await;
    for loser in [&object("b", "u3"), &elsewhere] {
        let refused = Asks { adopt: true, ..asks(loser) }.of(&f, &a).await;
        assert_eq!(refused.plan, Plan::HeldByObject(winner.clone()));
        assert!(refused.view.is_none());
        assert_eq!(f.store.release_object(loser).await.unwrap(), None);
        assert!(f.store.object(loser).await.unwrap().is_none());
    }
    assert_eq!(f.column(&a, "checked_out_ms").await, None);
    assert_eq!(f.store.release_object(&winner).await.unwrap(), Some(Reclaim::Delete));
    assert!(f.column(&a, "checked_out_ms").await.is_some());
    assert_eq!(asks(&elsewhere).of(&f, &a).await.plan, Plan::Write, "what was ended is free");
}

on_every_database!(eight_objects_at_once_make_one_owner);
async fn eight_objects_at_once_make_one_owner(db: TestDb) {
    let f = Fixture::new(db).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = f.store.clone();
        tasks.spawn(async move {
            let (object, settings) = (object(&format!("o{n}"), &format!("u{n}")), settings(every("1h")));
            let (reclaim, suspend) = (Reclaim::Delete, false);
            let wish = Wish {
                object: &object,
                generation: 1,
                settings: &settings,
                reclaim,
                suspend,
                likely_kept: false,
            };
            store.apply_object(&key("a"), wish, |stored| diff::plan(&wish, false, stored)).await.unwrap().plan
        });
    }
    let plans = tasks.join_all().await;
    assert_eq!(plans.iter().filter(|plan| **plan == Plan::Write).count(), 1, "{plans:?}");
}

on_every_database!(what_the_api_made_is_taken_over_only_when_asked_for);
async fn what_the_api_made_is_taken_over_only_when_asked_for(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, mine) = (f.reserve("a", every("1h")).await, object("a", "u1"));
    f.check_in(&a, SignalKind::Ok).await;
    assert_eq!(asks(&mine).of(&f, &a).await.plan, Plan::HeldByApi);
    let adopted = Asks { adopt: true, ..asks(&mine) }.of(&f, &a).await;
    assert_eq!((adopted.plan, adopted.adopted), (Plan::Write, true));
    assert_eq!(f.column(&a, "checkins").await, Some(1));
}

on_every_database!(the_api_leaves_an_objects_reservation_alone_but_for_check_ins_and_snoozes);
async fn the_api_leaves_an_objects_reservation_alone_but_for_check_ins_and_snoozes(db: TestDb) {
    let f = Fixture::new(db).await;
    let (a, mine) = (key("a"), object("a", "u1"));
    asks(&mine).of(&f, &a).await;
    let changed = f.store.reserve(&a, &settings(every("2h"))).await.unwrap();
    assert_eq!(changed, Reserved::Owned(mine.clone()));
    assert_eq!(f.store.checkout(&a).await.unwrap(), Found::Owned(mine.clone()));
    f.check_in(&a, SignalKind::Ok).await;
    let of = |now: i64| Snooze { from_ms: now, until_ms: now + HOUR };
    assert!(matches!(f.store.snooze(&a, of, None, None).await.unwrap(), Snoozed::Yes(_)));
    assert_eq!(f.store.unsnooze(&a).await.unwrap(), Found::Yes);
}

on_every_database!(a_suspended_one_pages_nobody_takes_check_ins_and_is_resumed);
async fn a_suspended_one_pages_nobody_takes_check_ins_and_is_resumed(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, mine) = (key("a"), object("a", "u1"));
    asks(&mine).of(&f, &a).await;
    let paused = Asks { generation: 2, suspend: true, ..asks(&mine) };
    paused.of(&f, &a).await;
    f.pass(48 * HOUR).await;
    f.evaluate().await;
    assert_eq!(f.outbox().await, [""; 0]);
    f.check_in(&a, SignalKind::Ok).await;
    let of = |now: i64| Snooze { from_ms: now, until_ms: now + HOUR };
    assert_eq!(f.store.snooze(&a, of, None, None).await.unwrap(), Snoozed::Suspended(mine.clone()));
    assert_eq!(f.store.unsnooze(&a).await.unwrap(), Found::Owned(mine.clone()));
    assert_eq!(paused.of(&f, &a).await.plan, Plan::Keep);
    let until = f.column(&a, "snooze_until_ms").await.unwrap();
    f.pass(40 * 24 * HOUR).await;
    assert_eq!(paused.of(&f, &a).await.plan, Plan::Write, "it is renewed long before it ends");
    assert!(f.column(&a, "snooze_until_ms").await.unwrap() > until);

    Asks { generation: 3, ..asks(&mine) }.of(&f, &a).await;
    f.evaluate().await;
    assert_eq!(f.outbox().await, [""; 0], "the end itself pages nobody");
    f.pass(2 * HOUR).await;
    f.evaluate().await;
    assert_eq!(f.outbox().await, ["trigger chat  pending"]);
}

on_every_database!(one_made_again_under_its_name_keeps_its_reservation_and_its_history);
async fn one_made_again_under_its_name_keeps_its_reservation_and_its_history(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let a = key("a");
    asks(&object("a", "u1")).of(&f, &a).await;
    f.check_in(&a, SignalKind::Ok).await;
    let again = asks(&object("a", "u2")).of(&f, &a).await;
    assert_eq!((again.plan, again.view.unwrap().held.object.uid), (Plan::Write, "u2".into()));
    assert_eq!(f.column(&a, "checkins").await, Some(1));
    assert_eq!(
        f.store.release_object(&object("a", "u1")).await.unwrap(),
        None,
        "a late deletion is of the former"
    );
    let b = key("b");
    asks(&object("a", "u3")).of(&f, &b).await;
    assert!(f.column(&a, "checked_out_ms").await.is_some(), "an object holds one reservation at a time");
    assert_eq!(f.store.owned("eu-1").await.unwrap().0.len(), 1);
}

on_every_database!(a_retained_one_stays_watched_and_moves_by_adoption);
async fn a_retained_one_stays_watched_and_moves_by_adoption(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, mine) = (key("a"), object("a", "u1"));
    let kept = Asks { reclaim: Reclaim::Retain, ..asks(&mine) };
    kept.of(&f, &a).await;
    assert_eq!(f.store.release_object(&mine).await.unwrap(), Some(Reclaim::Retain));
    f.pass(2 * HOUR).await;
    f.evaluate().await;
    assert_eq!(f.state(&a).await, "late");
    let elsewhere = ObjectId { cluster: "eu-2".into(), ..object("a", "u2") };
    assert_eq!(Asks { adopt: true, ..asks(&elsewhere) }.of(&f, &a).await.plan, Plan::Write);
    assert_eq!(f.store.release_cluster("eu-2").await.unwrap(), 1);
    assert_eq!(f.store.checkout(&a).await.unwrap(), Found::Yes);
}

on_every_database!(an_orphan_is_let_go_only_if_it_still_is_one_and_only_by_who_leads);
async fn an_orphan_is_let_go_only_if_it_still_is_one_and_only_by_who_leads(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (a, mine) = (key("a"), object("a", "u1"));
    asks(&mine).of(&f, &a).await;
    let leading = f.lead().await;
    let row = f.store.owned("eu-1").await.unwrap().0.remove(0);
    let soon = f.store.now_ms().await.unwrap() + HOUR;
    assert_eq!(f.store.release_orphan(&leading, &row, soon).await.unwrap(), None, "it is none");
    f.store.mark_orphans(&leading, &[row.id], true).await.unwrap();
    let marked = f.store.owned("eu-1").await.unwrap().0[0].held.orphaned_ms.unwrap();
    f.pass(MINUTE).await;
    f.store.mark_orphans(&leading, &[row.id], true).await.unwrap();
    assert_eq!(
        f.store.owned("eu-1").await.unwrap().0[0].held.orphaned_ms,
        Some(marked),
        "since the first time"
    );
    f.store.mark_orphans(&leading, &[row.id], false).await.unwrap();
    assert_eq!(f.store.release_orphan(&leading, &row, soon).await.unwrap(), None, "it is there again");
    f.store.mark_orphans(&leading, &[row.id], true).await.unwrap();
    let other = f.lead().await;
    assert!(f.store.release_orphan(&leading, &row, soon).await.is_err(), "who was overtaken ends nothing");
    assert_eq!(f.store.release_orphan(&other, &row, soon).await.unwrap(), Some(Reclaim::Delete));
    assert!(f.column(&a, "checked_out_ms").await.is_some());
}

on_every_database!(a_claim_to_another_clusters_name_is_over_once_nobody_repeats_it);
async fn a_claim_to_another_clusters_name_is_over_once_nobody_repeats_it(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let alarm = SystemReport {
        kind: SystemKind::ClusterConflict,
        subject: "eu-1".into(),
        text: "Two clusters call themselves eu-1".into(),
        since_ms: 0,
        targets: Vec::new(),
        srv: "there".into(),
        life: Life::UntilWithdrawn,
    };
    f.store.identify_cluster("eu-1", "k1").await.unwrap();
    assert!(!f.store.settle_cluster("eu-1", MINUTE).await.unwrap(), "nobody claimed it");
    for _ in 0..2 {
        f.store.identify_cluster("eu-1", "k2").await.unwrap();
        f.store.report_system(&alarm).await.unwrap();
        f.pass(MINUTE - 10 * SECOND).await;
        f.store.identify_cluster("eu-1", "k1").await.unwrap();
        assert!(!f.store.settle_cluster("eu-1", MINUTE).await.unwrap(), "it was claimed within the minute");
    }
    assert_eq!(f.store.system_incidents().await.unwrap().len(), 1, "one, however often it was said");
    f.pass(11 * SECOND).await;
    assert!(!f.store.settle_cluster("eu-2", MINUTE).await.unwrap(), "another name");
    assert!(f.store.settle_cluster("eu-1", MINUTE).await.unwrap());
    assert!(!f.store.settle_cluster("eu-1", MINUTE).await.unwrap(), "once");
    assert!(f.store.system_incidents().await.unwrap().is_empty());

    f.store.identify_cluster("eu-1", "k2").await.unwrap();
    f.store.report_system(&alarm).await.unwrap();
    f.store.release_cluster("eu-1").await.unwrap();
    assert!(f.store.system_incidents().await.unwrap().is_empty(), "whose name it is is settled");
}

on_every_database!(a_name_belongs_to_the_first_cluster_that_uses_it);
async fn a_name_belongs_to_the_first_cluster_that_uses_it(db: TestDb) {
    let mut f = Fixture::new(db).await;
    for _ in 0..2 {
        assert_eq!(f.store.identify_cluster("eu-1", "k1").await.unwrap(), Identity::Ours);
    }
    assert_eq!(f.store.identify_cluster("eu-1", "k2").await.unwrap(), Identity::Other("k1".into()));
    assert_eq!(f.store.identify_cluster("eu-2", "k2").await.unwrap(), Identity::Ours);
    f.store.release_cluster("eu-1").await.unwrap();
    assert_eq!(f.store.identify_cluster("eu-1", "k2").await.unwrap(), Identity::Ours);

    let scope = controller_scope("eu-1");
    for _ in 0..2 {
        f.store.prepare_lease(scope).await.unwrap();
    }
    assert_eq!(f.number("SELECT COUNT(*) FROM lease").await, 2);
}
