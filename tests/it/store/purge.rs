//! Forgetting what is old, and only that.

use std::time::Duration;

use gotel::reservation::{Draft, JobKey, SignalKind};
use gotel::store::{CheckIn, Reserved, Retention, StoreError};
use sqlx::{Connection, Executor, Row};

use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, every, settings};
use crate::util::wait::eventually;

/// Longer than a purge takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);

const DAY: i64 = 24 * HOUR;
const KEEP: Retention = Retention { history_ms: 30 * DAY, incidents_ms: 180 * DAY };

on_every_database!(history_is_forgotten_in_bites_of_a_thousand);
async fn history_is_forgotten_in_bites_of_a_thousand(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    let batch: Vec<_> = (0..500).map(|_| (CheckIn::new(&job, SignalKind::Log), 0)).collect();
    for _ in 0..3 {
        f.store.session().write_checkins(&batch).await.unwrap();
    }
    let limited = f.reserve("b", Draft { max_runtime: Some("30m".into()), ..every("1h") }).await;
    for (job, rid, kind) in [
        (&job, "old", SignalKind::Start),
        (&job, "old", SignalKind::Ok),
        (&job, "endless", SignalKind::Start),
        (&limited, "open", SignalKind::Start),
    ] {
        f.write(CheckIn { rid: rid.into(), ..CheckIn::new(job, kind) }).await.unwrap();
    }
    f.pass(31 * DAY).await;
    f.check_in(&job, SignalKind::Ok).await;
    let leading = f.lead().await;
    let first = f.session.purge(&leading, KEEP).await.unwrap();
    assert_eq!((first.rows, first.more), (1002, true));
    let second = f.session.purge(&leading, KEEP).await.unwrap();
    assert_eq!((second.rows, second.more), (504, false));
    assert_eq!(f.session.purge(&leading, KEEP).await.unwrap().rows, 0);
    assert_eq!(f.number("SELECT COUNT(*) FROM checkin").await, 1);
    assert_eq!(f.texts("SELECT rid FROM run").await, ["open"], "somebody waits for its end");
    f.pass(400 * DAY).await;
    assert_eq!(f.session.purge(&leading, KEEP).await.unwrap().rows, 2);
    assert!(f.texts("SELECT rid FROM run").await.is_empty());
}

on_every_database!(what_is_open_or_still_to_be_told_is_kept);
async fn what_is_open_or_still_to_be_told_is_kept(db: TestDb) {
    let mut f = Fixture::new(db).await;
    for app in ["open", "closed", "untold"] {
        let job = f.reserve(app, every("1h")).await;
        f.check_in(&job, SignalKind::Fail).await;
    }
    f.evaluate().await;
    f.deliver("chat").await;
    f.pass(1000).await;
    f.check_in(&crate::util::store::key("closed"), SignalKind::Ok).await;
    f.evaluate().await;
    f.deliver("chat").await;
    f.check_in(&crate::util::store::key("untold"), SignalKind::Ok).await;
    f.evaluate().await;
    f.sql("INSERT INTO outage (from_ms, to_ms) VALUES (1, 2)").await;
    f.pass(181 * DAY).await;
    let leading = f.lead().await;
    f.session.purge(&leading, KEEP).await.unwrap();
    assert_eq!(f.texts("SELECT app FROM incident").await, ["open"]);
    assert_eq!(f.outbox().await, ["trigger chat  done", "resolve chat  pending"]);
    assert_eq!(f.number("SELECT COUNT(*) FROM outage").await, 0);
}

on_every_database!(of_the_reminders_of_an_incident_that_goes_on_the_newest_are_kept);
async fn of_the_reminders_of_an_incident_that_goes_on_the_newest_are_kept(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", Draft { realert: Some("10h".into()), ..every("1h") }).await;
    f.check_in(&job, SignalKind::Fail).await;
    for _ in 0..6 {
        f.evaluate().await;
        f.deliver("chat").await;
        f.pass(11 * HOUR).await;
    }
    let leading = f.lead().await;
    f.session.purge(&leading, KEEP).await.unwrap();
    let day = ["trigger chat  done", "remind chat  done", "remind chat  done"];
    assert_eq!(f.outbox().await, day);
    f.pass(20 * DAY).await;
    f.session.purge(&leading, KEEP).await.unwrap();
    assert_eq!(f.outbox().await, day[..2]);
    assert_eq!(f.number("SELECT MAX(event_no) FROM delivery").await, 5);
}

/// `app`, checked out, long after all its history.
async fn gone(f: &mut Fixture, app: &str) -> JobKey {
    let limit = Some("30m".into());
    let job = f.reserve(app, Draft { max_runtime: limit, ..every("1h") }).await;
    for kind in [SignalKind::Start, SignalKind::Fail, SignalKind::Start] {
        f.check_in(&job, kind).await;
    }
    f.evaluate().await;
    f.deliver("chat").await;
    f.store.checkout(&job).await.unwrap();
    f.evaluate().await;
    f.deliver("chat").await;
    job
}

on_every_database!(a_reservation_that_was_checked_out_is_forgotten_with_the_last_of_its_past);
async fn a_reservation_that_was_checked_out_is_forgotten_with_the_last_of_its_past(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = [gone(&mut f, "a").await, gone(&mut f, "again").await];
    f.reserve("here", every("1h")).await;
    f.pass(179 * DAY).await;
    let leading = f.lead().await;
    f.session.purge(&leading, KEEP).await.unwrap();
    assert_eq!(f.number("SELECT COUNT(*) FROM reservation").await, 3, "its incident is still shown");
    assert_eq!(f.number("SELECT COUNT(*) FROM run").await, 0);
    f.store.reserve(&jobs[1], &settings(every("1h"))).await.unwrap();
    f.pass(2 * DAY).await;
    f.session.purge(&leading, KEEP).await.unwrap();
    assert_eq!(f.texts("SELECT app FROM reservation ORDER BY app").await, ["again", "here"]);
    let made = f.store.reserve(&jobs[0], &settings(every("1h"))).await.unwrap();
    assert_eq!(made, Reserved::Created);
}

on_every_database!(a_reservation_made_again_while_it_is_being_forgotten_stays);
async fn a_reservation_made_again_while_it_is_being_forgotten_stays(db: TestDb) {
    // Its one writer lets nothing come in between.
    if db.backend() == Backend::Sqlite {
        return;
    }
    let mut f = Fixture::new(db).await;
    gone(&mut f, "a").await;
    f.pass(181 * DAY).await;
    let leading = f.lead().await;
    let mut other = f.db().connect().await;
    let mut reviving = other.begin().await.unwrap();
    reviving.execute("UPDATE reservation SET checked_out_ms = NULL").await.unwrap();
    let mut session = f.store.session();
    let purging = tokio::spawn(async move { session.purge(&leading, KEEP).await });
    let mut admin = f.db().admin().await;
    eventually(SOON, "the row to be about to go", async || {
        let rows = admin.fetch_all("SHOW FULL PROCESSLIST").await.unwrap();
        let at_work = rows.iter().filter_map(|row| row.try_get::<Option<String>, _>("Info").unwrap());
        at_work.into_iter().any(|text| text.starts_with("DELETE FROM reservation "))
    })
    .await;
    reviving.commit().await.unwrap();
    purging.await.unwrap().unwrap();
    assert_eq!(f.texts("SELECT app FROM reservation").await, ["a"]);
}

on_every_database!(a_deposed_coordinator_forgets_nothing);
async fn a_deposed_coordinator_forgets_nothing(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Ok).await;
    f.pass(40 * DAY).await;
    let old = f.lead().await;
    f.lead().await;
    assert!(matches!(f.session.purge(&old, KEEP).await, Err(StoreError::Fenced)));
    assert_eq!(f.number("SELECT COUNT(*) FROM checkin").await, 1);
}
