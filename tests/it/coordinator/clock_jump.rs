//! The database's clock jumps: told once, paging no job that is on time, and every true miss told.

use std::time::Duration;

use gotel::coordinator::Timers;
use gotel::reservation::routing::Target;
use gotel::reservation::{Draft, SignalKind};
use gotel::store::{Life, Mark, MarkFound, Session, StoreError, SystemKind, SystemReport};

use super::loops::start;
use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, SECOND, every, lead};
use crate::util::wait::eventually;

const SOON: Duration = Duration::from_secs(20);

fn told(mark: &Mark, found: &MarkFound) -> Vec<SystemReport> {
    let jump = (found.jump_ms != 0).then(|| SystemReport {
        kind: SystemKind::ClockJump,
        subject: String::new(),
        text: "The clock of the database jumped".into(),
        since_ms: mark.now_ms,
        targets: vec![Target { alerter: "chat".into(), recipient: String::new() }],
        srv: "replica-1".into(),
        life: Life::Once,
    });
    jump.into_iter().collect()
}

/// A look that finds a jump of this length.
async fn look(session: &mut Session, jump_ms: i64) -> Mark {
    let judge = |_: &Mark| MarkFound { outage: None, jump_ms };
    session.watch_alive(judge, told).await.unwrap().0
}

/// Time passes, GoTel at work, and no clock jumps.
async fn pass(f: &mut Fixture, ms: i64) {
    f.pass(ms).await;
    look(&mut f.session, 0).await;
}

async fn incidents(f: &mut Fixture) -> Vec<String> {
    f.texts("SELECT app FROM incident WHERE reason <> 'system' ORDER BY app").await
}

on_every_database!(row_47_a_clock_ten_minutes_ahead_makes_nobody_late_and_true_misses_ten_minutes_later);
async fn row_47_a_clock_ten_minutes_ahead_makes_nobody_late_and_true_misses_ten_minutes_later(db: TestDb) {
    let mut f = Fixture::new(db).await;
    for app in ["late", "silent", "working"] {
        let job = f.reserve(app, every("30m")).await;
        f.check_in(&job, SignalKind::Ok).await;
    }
    let cron = Draft { cron: Some("* * * * *".into()), grace: Some("2m".into()), ..Draft::default() };
    let cron = f.reserve("cron", cron).await;
    pass(&mut f, 25 * MINUTE).await;
    for app in ["silent", "working"] {
        f.check_in(&crate::util::store::key(app), SignalKind::Ok).await;
    }
    pass(&mut f, 6 * MINUTE).await;
    f.check_in(&cron, SignalKind::Ok).await;
    f.evaluate().await;
    assert_eq!(incidents(&mut f).await, ["late"], "late before");

    // Of the others, one is due in 24 minutes, that is 14 by the clock; the cron job by now.
    f.be_away(10 * MINUTE);
    let leading = f.lead().await;
    let hasty = f.evaluate_as(&leading).await;
    assert!(
        matches!(hasty, Err(StoreError::Gap { .. })),
        "nothing is judged before it is recorded: {hasty:?}"
    );
    look(&mut f.session, 10 * MINUTE).await;
    f.evaluate().await;
    assert_eq!(incidents(&mut f).await, ["late"]);
    f.check_in(&cron, SignalKind::Ok).await;
    pass(&mut f, 20 * MINUTE).await;
    f.check_in(&cron, SignalKind::Ok).await;
    // Whoever leads now judges by the same.
    let mut other = f.replica().session();
    let leading = lead(&mut other).await;
    let context = f.context.clone();
    other.evaluate(&leading, 500, |loaded| gotel::coordinator::plan(&context, loaded)).await.unwrap();
    assert_eq!(incidents(&mut f).await, ["late"], "20 of 24 minutes have passed");
    f.check_in(&crate::util::store::key("working"), SignalKind::Ok).await;
    pass(&mut f, 5 * MINUTE).await;
    f.check_in(&cron, SignalKind::Ok).await;
    f.evaluate().await;
    assert_eq!(incidents(&mut f).await, ["late", "silent"], "25 have");
    // What counts from after the jump is not held.
    pass(&mut f, 26 * MINUTE).await;
    f.check_in(&cron, SignalKind::Ok).await;
    f.evaluate().await;
    assert_eq!(incidents(&mut f).await, ["late", "silent", "working"]);
    assert_eq!(f.number("SELECT COUNT(*) FROM incident WHERE component = 'clock-jump'").await, 1);
}

on_every_database!(row_47_a_clock_set_back_loses_no_failure_no_notice_and_no_outage);
async fn row_47_a_clock_set_back_loses_no_failure_no_notice_and_no_outage(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let [busy, failed, broken] = ["busy", "failed", "broken"].map(|app| (app, every("1h")));
    let busy = f.reserve(busy.0, busy.1).await;
    let failed = f.reserve(failed.0, failed.1).await;
    let broken = f.reserve(broken.0, broken.1).await;
    look(&mut f.session, 0).await;
    for job in [&busy, &failed] {
        f.check_in(job, SignalKind::Ok).await;
    }
    f.check_in(&broken, SignalKind::Fail).await;
    f.evaluate().await;
    f.be_away(-2 * HOUR);
    // A failure in the second before anybody has noticed.
    f.check_in(&failed, SignalKind::Fail).await;
    assert_eq!(f.column(&failed, "fails").await, Some(1), "it is not taken for an old one");
    let mark = look(&mut f.session, -2 * HOUR).await;
    assert!(mark.alive_ms > mark.now_ms + HOUR, "the mark lay ahead");
    assert_eq!(f.number("SELECT alive_ms FROM meta").await, mark.now_ms, "and does no more");
    for column in ["last_ok_ms", "last_seen_ms", "due_ms"] {
        assert!(f.column(&busy, column).await.unwrap() <= mark.now_ms, "{column} lies ahead");
    }
    assert_eq!(
        f.deliver("chat").await,
        ["trigger broken", "trigger gotel"],
        "nothing waits for the clock to come round"
    );
    f.evaluate().await;
    assert_eq!(incidents(&mut f).await, ["broken", "failed"]);
    // Recovery, and an outage, are noticed at once.
    pass(&mut f, SECOND).await;
    for job in [&failed, &broken] {
        f.check_in(job, SignalKind::Ok).await;
    }
    f.evaluate().await;
    assert_eq!(f.number("SELECT COUNT(*) FROM incident WHERE closed_ms IS NULL").await, 0);
    f.be_away(MINUTE);
    let (_, found) = f.session.watch_alive(MarkFound::by_age, told).await.unwrap();
    assert!(found.outage.is_some(), "{found:?}");
    pass(&mut f, 61 * MINUTE).await;
    f.evaluate().await;
    assert_eq!(f.state(&busy).await, "late");
}

on_every_database!(a_clock_that_leaps_years_and_is_set_right_forgets_nothing_and_keeps_no_miss_silent);
async fn a_clock_that_leaps_years_and_is_set_right_forgets_nothing_and_keeps_no_miss_silent(db: TestDb) {
    const YEARS: i64 = 70 * 365 * 24 * HOUR;
    let mut f = Fixture::new(db).await;
    let hourly = f.reserve("hourly", every("1h")).await;
    look(&mut f.session, 0).await;
    f.check_in(&hourly, SignalKind::Ok).await;
    f.be_away(YEARS);
    look(&mut f.session, YEARS).await;
    let leading = f.lead().await;
    f.evaluate_as(&leading).await.unwrap();
    assert_eq!(incidents(&mut f).await.len(), 0, "it has ten minutes");
    let purged = f.session.purge(&leading, gotel::coordinator::KEEP).await.unwrap();
    assert_eq!((purged.rows, f.number("SELECT COUNT(*) FROM checkin").await), (0, 1));
    f.be_away(-YEARS);
    look(&mut f.session, -YEARS).await;
    f.evaluate().await;
    pass(&mut f, HOUR + 15 * MINUTE).await;
    f.evaluate().await;
    assert_eq!(incidents(&mut f).await, ["hourly"]);
    let ahead = f.store.now_ms().await.unwrap();
    assert_eq!(f.number(&format!("SELECT COUNT(*) FROM outage WHERE to_ms > {ahead}")).await, 0);
}

on_every_database!(a_jump_is_told_once_however_many_replicas_see_it);
async fn a_jump_is_told_once_however_many_replicas_see_it(db: TestDb) {
    let mut f = Fixture::new(db).await;
    for (jump_ms, count) in [(HOUR, 1), (-HOUR, 2)] {
        f.be_away(jump_ms);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let mut session = f.replica().session();
            tasks.spawn(async move {
                // As each of them would judge: by the mark.
                let judge = |mark: &Mark| {
                    let off = (mark.now_ms - mark.alive_ms).abs() > MINUTE;
                    MarkFound { outage: None, jump_ms: if off { jump_ms } else { 0 } }
                };
                session.watch_alive(judge, told).await.unwrap();
            });
        }
        tasks.join_all().await;
        assert_eq!(f.number("SELECT COUNT(*) FROM incident WHERE component = 'clock-jump'").await, count);
    }
}

on_every_database!(a_running_replica_finds_both_jumps_and_evaluates_on);
async fn a_running_replica_finds_both_jumps_and_evaluates_on(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("hourly", every("1h")).await;
    f.check_in(&job, SignalKind::Ok).await;
    let unmarked = f.number("SELECT alive_ms FROM meta").await;
    let replica = start(&f, &f.store, "one", Timers::SHARED.on(f.store.dialect()));
    eventually(SOON, "an evaluated row", async || f.state(&job).await == "on_time").await;
    // Whoever has not looked at the clock before takes a jump for an absence of its own.
    eventually(SOON, "a look at the clock", async || f.number("SELECT alive_ms FROM meta").await > unmarked)
        .await;
    for (jump_ms, count) in [(10 * MINUTE, 1), (-10 * MINUTE, 2)] {
        f.be_away(jump_ms);
        let jumps = "SELECT COUNT(*) FROM incident WHERE component = 'clock-jump'";
        eventually(SOON, "the jump to be told", async || f.number(jumps).await == count).await;
        let since = f.number("SELECT eval_ms FROM lease").await;
        let evaluated = format!("SELECT COUNT(*) FROM lease WHERE eval_ms <> {since}");
        eventually(SOON, "an evaluation", async || f.number(&evaluated).await == 1).await;
    }
    // A failure is told as ever.
    f.check_in(&job, SignalKind::Fail).await;
    eventually(SOON, "an incident", async || incidents(&mut f).await == ["hourly"]).await;
    replica.stop().await;
    assert_eq!(
        f.number("SELECT COUNT(*) FROM outage WHERE cause <> 'clock_jump'").await,
        0,
        "nobody was away"
    );
    let text = f.texts("SELECT detail FROM incident WHERE component = 'clock-jump' ORDER BY id").await;
    assert!(text[0].contains("jumped forward by 10m") && text[1].contains("set back by "), "{text:?}");
}
