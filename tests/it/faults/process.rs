//! Processes that die: rows 7, 10 and 13, and kills at any moment.

use serde_json::Value;

use super::SOON;
use super::invariants::{Known, acknowledged_are_stored, events_of, hold};
use super::world::{World, hook_yaml};
use crate::util::db::{TestDb, on_every_database};
use crate::util::load::Load;
use crate::util::receiver::{Answer, Receiver};
use crate::util::wait::eventually;

on_every_database!(row_07_no_acknowledged_check_in_is_lost_by_kill_nine);
async fn row_07_no_acknowledged_check_in_is_lost_by_kill_nine(db: TestDb) {
    let hook = Receiver::webhook().await;
    let mut world = World::start(db, &hook_yaml(&hook)).await;
    let keys = world.fleet("load", 40).await;
    let mut acknowledged = Vec::new();
    for life in 0..10 {
        let load = Load::start(&world.url, &keys, 64, &[]);
        let enough = 400 + 100 * life;
        eventually(SOON, "check-ins", async || load.acknowledged() >= enough).await;
        world.kill9();
        let report = load.stop().await;
        assert!(report.refused.is_empty(), "{:?}", report.refused);
        acknowledged.extend(report.acknowledged);
        world.start_again().await;
    }
    let known = Known {
        acknowledged: &acknowledged,
        hooks: &[("hook", &hook)],
        on_time: &["load"],
        ..Known::default()
    };
    hold(&world, &known).await;
    assert_eq!(hook.requests().len(), 0, "a kill is no reason to tell anybody");
}

on_every_database!(row_10_an_asked_end_under_load_resets_nobody_and_stores_what_it_answered);
async fn row_10_an_asked_end_under_load_resets_nobody_and_stores_what_it_answered(db: TestDb) {
    let hook = Receiver::webhook().await;
    let url = db.url().to_owned();
    let mut world = World::start_at(db, url, &hook_yaml(&hook), &[("GOTEL_DRAIN_S", "3")]).await;
    let keys = world.fleet("load", 20).await;
    let load = Load::start(&world.url, &keys, 32, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 100).await;
    world.gotel.sigterm();
    eventually(SOON, "readiness to be false", async || world.get("/readyz").await.0 == 503).await;
    // Who has not heard of it yet is still served.
    let before = load.acknowledged();
    eventually(SOON, "further check-ins", async || load.acknowledged() >= before + 100).await;
    let report = load.stop().await;
    assert_eq!((report.unanswered, report.refused.len()), (0, 0), "{:?}", report.refused);
    let status = world.gotel.wait_exit(super::EXIT).await;
    assert!(status.success(), "{status}");
    acknowledged_are_stored(&world.db, &report.acknowledged).await;
    assert_eq!(
        world.number("SELECT COUNT(*) FROM lease WHERE holder <> ''").await,
        0,
        "the lease is given back"
    );

    world.start_again().await;
    let known = Known { acknowledged: &report.acknowledged, on_time: &["load"], ..Known::default() };
    hold(&world, &known).await;
}

on_every_database!(row_10_what_is_cut_short_by_an_asked_end_is_never_a_lost_acknowledgement);
/// Without any linger, clients that go on are refused connections, but no 2xx is taken back.
async fn row_10_what_is_cut_short_by_an_asked_end_is_never_a_lost_acknowledgement(db: TestDb) {
    let hook = Receiver::webhook().await;
    let mut world = World::start(db, &hook_yaml(&hook)).await;
    let keys = world.fleet("load", 20).await;
    let load = Load::start(&world.url, &keys, 64, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 200).await;
    world.end().await;
    let report = load.stop().await;
    assert!(report.refused.keys().all(|status| *status == 503), "{:?}", report.refused);
    acknowledged_are_stored(&world.db, &report.acknowledged).await;
}

on_every_database!(row_13_a_crash_between_send_and_finish_sends_the_same_notice_again);
async fn row_13_a_crash_between_send_and_finish_sends_the_same_notice_again(db: TestDb) {
    let hook = Receiver::webhook().await;
    hook.next([Answer::Hang]);
    let mut world = World::start(db, &hook_yaml(&hook)).await;
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/3").await;
    hook.received(1, SOON).await;
    world.kill9();
    assert_eq!(world.number("SELECT COUNT(*) FROM delivery WHERE state = 'inflight'").await, 1);

    // The lease is good for 15 s and the claim for 90; nobody need wait for that here.
    world.sql("UPDATE lease SET renewed_ms = renewed_ms - 600000").await;
    world.start_again().await;
    world.sql("UPDATE delivery SET claim_until_ms = claim_until_ms - 90000 WHERE state = 'inflight'").await;
    let requests = hook.received(2, SOON).await;
    assert_eq!(requests[0].header("idempotency-key"), requests[1].header("idempotency-key"));
    assert!(!requests[0].header("idempotency-key").is_empty());
    assert_eq!(requests[0].body, requests[1].body);
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state = 'done'", 1).await;

    world.signal("billing", "nightly", "").await;
    world.becomes("SELECT COUNT(*) FROM incident WHERE closed_ms IS NULL", 0).await;
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
    assert_eq!(hook.requests().len(), 3);
}

on_every_database!(kills_at_any_moment_lose_no_miss_and_open_no_incident_twice);
async fn kills_at_any_moment_lose_no_miss_and_open_no_incident_twice(db: TestDb) {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let hook = Receiver::webhook().await;
    let mut world = World::start(db, &hook_yaml(&hook)).await;
    let jobs = 6;
    world.fleet("flaky", jobs).await;
    // The last signal of each job that was answered.
    let mut good = vec![true; jobs];
    for _ in 0..20 {
        for _ in 0..random.usize(1..120) {
            let job = random.usize(..jobs);
            let ok = random.bool();
            world.signal("flaky", &job.to_string(), if ok { "" } else { "/fail" }).await;
            good[job] = ok;
        }
        world.kill9();
        // Nobody need wait for the dead holder's lease.
        world.sql("UPDATE lease SET renewed_ms = renewed_ms - 600000").await;
        world.sql("UPDATE delivery SET claim_until_ms = 0 WHERE state = 'inflight'").await;
        world.start_again().await;
    }
    let failing = good.iter().filter(|ok| !**ok).count();
    let open = "SELECT COUNT(*) FROM incident WHERE closed_ms IS NULL AND app = 'flaky'";
    world.becomes(open, i64::try_from(failing).unwrap()).await;
    super::invariants::one_open_incident(&world.db).await;
    for job in 0..jobs {
        world.signal("flaky", &job.to_string(), "").await;
    }
    world.becomes(open, 0).await;
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
    // A send that a kill interrupted may be repeated, under the same key.
    let mut keys: Vec<_> =
        events_of(&hook).into_iter().map(|one| (one.incident, one.event, one.digest)).collect();
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert!(all - keys.len() <= 20 * 10, "{} repeats after 20 kills", all - keys.len());
}
