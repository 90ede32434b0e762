//! Replicas that die, stand still, hang and are asked to end: rows 1, 2, 3, 4, 6, 9, 10,
//! 11 and 59.

use std::time::Duration;

use super::checker::Allowed;
use super::fleet::{Fleet, LEASE, Plan, SLACK, SOON, TAKE_OVER};
use super::{audit, fleet_on, on_both_servers};
use crate::faults::invariants::events_of;
use crate::util::db::Backend;
use crate::util::receiver::Receiver;
use crate::util::wait::{eventually, now, slowness};

/// What stops one coordinator: the other must lead soon.
const SECOND: Duration = Duration::from_secs(1);

on_both_servers!(row_01_a_killed_coordinator_is_followed_and_no_miss_is_lost);
async fn row_01_a_killed_coordinator_is_followed_and_no_miss_is_lost(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    cast.goes_silent(&fleet).await;
    fleet.kill9(0);
    let took = fleet.coordinates(1, TAKE_OVER + SLACK).await;
    assert!(took >= LEASE - 2 * SECOND, "{took:?}: the lease was not waited for");
    cast.misses_are_told(&fleet, TAKE_OVER + SLACK).await;
    // The dead one comes back as a worker, and nothing is told again.
    fleet.restart(0).await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats()).await;
    let reigns: Vec<_> = audit::reigns(&fleet.db).await.into_iter().map(|(_, holder)| holder).collect();
    assert_eq!(reigns, ["a", "b"]);
}

on_both_servers!(row_02_a_coordinator_that_stood_still_for_a_minute_steps_down_and_writes_nothing);
async fn row_02_a_coordinator_that_stood_still_for_a_minute_steps_down_and_writes_nothing(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    let since = now();
    fleet.stop(0).await;
    cast.goes_silent(&fleet).await;
    fleet.coordinates(1, TAKE_OVER + SLACK).await;
    cast.misses_are_told(&fleet, TAKE_OVER + SLACK).await;
    // The rest of its minute: the other has led for long when it wakes.
    cast.goes_silent(&fleet).await;
    cast.misses_are_told(&fleet, TAKE_OVER + SLACK).await;
    slowness(Duration::from_secs(60).saturating_sub(since.elapsed())).await;
    fleet.cont(0);
    eventually(SLACK, "the one that wakes to step down", async || {
        let page = fleet[0].node.get("/metrics").await.1;
        page.lines().any(|line| line == "gotel_leader{replica=\"a\"} 0")
    })
    .await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats()).await;
    assert_eq!(audit::reigns(&fleet.db).await.len(), 2, "whoever woke took nothing");
}

on_both_servers!(row_03_a_coordinator_that_stands_still_inside_its_transaction_blocks_nobody_for_long);
async fn row_03_a_coordinator_that_stands_still_inside_its_transaction_blocks_nobody_for_long(
    backend: Backend,
) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    // The next coordinator is one that will hang in its first transaction: `a`, after `b` has led.
    fleet.term(0).await;
    fleet.coordinates(1, SLACK).await;
    fleet.restart_with(0, &[("GOTEL_FAIL", "evaluate_transaction:1:hang")]).await;
    fleet.term(1).await;
    fleet.coordinates(0, SLACK).await;
    fleet.restart(1).await;
    cast.goes_silent(&fleet).await;
    fleet[0].node.gotel.printed("a test asked for a hang at evaluate_transaction", SLACK).await;
    fleet.stop(0).await;
    // It holds the reservation until the server ends its connection.
    fleet.coordinates(1, TAKE_OVER + SLACK).await;
    cast.misses_are_told(&fleet, TAKE_OVER + SLACK).await;
    fleet.cont(0);
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats()).await;
}

on_both_servers!(row_04_a_coordinator_that_no_longer_evaluates_gives_the_lease_up_by_itself);
async fn row_04_a_coordinator_that_no_longer_evaluates_gives_the_lease_up_by_itself(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    fleet.term(0).await;
    fleet.coordinates(1, SLACK).await;
    fleet.restart_with(0, &[("GOTEL_FAIL", "evaluate:1:hang")]).await;
    fleet.term(1).await;
    fleet.coordinates(0, SLACK).await;
    fleet.restart(1).await;
    cast.goes_silent(&fleet).await;
    // Thirty seconds without a complete evaluation, then the lease runs out.
    let gate = Duration::from_secs(30);
    fleet.coordinates(1, gate + TAKE_OVER + SLACK).await;
    fleet[0].node.gotel.printed("no complete evaluation for 30 s", SLACK).await;
    cast.misses_are_told(&fleet, gate + TAKE_OVER + SLACK).await;
    eventually(SLACK, "the stuck one to be found out", async || fleet[0].node.get("/livez").await.0 == 503)
        .await;
    // What watches it starts it again.
    fleet.kill9(0);
    fleet.restart(0).await;
    let allowed = Allowed::within(gate + TAKE_OVER).repeats().troubles(&["coordinator-stalled"]);
    cast.end(&mut fleet, allowed).await;
}

/// Whoever watches GoTel hears of the installation as long as one replica evaluates, and nothing once none does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_06_of_a_pair_the_heartbeat_outlives_one_and_ends_with_both() {
    let watcher = Receiver::webhook().await;
    let plan = Plan { yaml: format!("heartbeatUrl: \"{}\"\n", watcher.url("/ping")), ..Plan::pair() };
    let Some((mut fleet, mut cast)) = fleet_on(Backend::MariaDb, &plan).await else { return };
    let pings = || watcher.requests().len();
    let goes_on = async |why: &str| {
        let before = pings();
        eventually(TAKE_OVER + SOON, why.to_owned(), async || pings() > before).await;
    };
    goes_on("a heartbeat").await;
    fleet.kill9(0);
    fleet.coordinates(1, TAKE_OVER + SLACK).await;
    goes_on("a heartbeat of the one that is left").await;
    cast.rest().await;
    fleet.kill9(1);
    let last = pings();
    // Longer than a period.
    slowness(Duration::from_secs(45)).await;
    assert_eq!(pings(), last, "silence is the alarm");
    fleet.restart(0).await;
    fleet.restart(1).await;
    goes_on("a heartbeat again").await;
    cast.work(&fleet, 4).await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats().troubles(&["outage"])).await;
}

on_both_servers!(row_09_a_coordinator_out_of_memory_dies_and_is_followed);
async fn row_09_a_coordinator_out_of_memory_dies_and_is_followed(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    let before = fleet[0].gotel().resident_bytes();
    cast.work(&fleet, 64).await;
    cast.further(500, SOON).await;
    let grown = fleet[0].gotel().resident_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "I11: {grown} bytes more for 64 clients");
    cast.goes_silent(&fleet).await;
    fleet[0].gotel().limit_growth(0);
    // What takes memory: bodies, as large as they may be, and many at once.
    let (url, http) = (fleet[0].node.url.join("/checkin/on-time/0").unwrap(), fleet[0].node.http.clone());
    let body = "x".repeat(60_000);
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (url, http, body) = (url.clone(), http.clone(), body.clone());
        flood.spawn(async move { while http.post(url.clone()).body(body.clone()).send().await.is_ok() {} });
    }
    eventually(SLACK, "it to die", async || !fleet.runs(0)).await;
    flood.shutdown().await;
    fleet.shut_door(0);
    fleet.coordinates(1, TAKE_OVER + SLACK).await;
    cast.goes_silent(&fleet).await;
    fleet.restart(0).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats()).await;
}

on_both_servers!(row_10_an_asked_end_of_the_coordinator_resets_nobody_and_hands_over_at_once);
async fn row_10_an_asked_end_of_the_coordinator_resets_nobody_and_hands_over_at_once(backend: Backend) {
    let plan = Plan::pair().env("GOTEL_DRAIN_S", "3");
    let Some((mut fleet, mut cast)) = fleet_on(backend, &plan).await else { return };
    cast.work(&fleet, 32).await;
    cast.goes_silent(&fleet).await;
    fleet.term(0).await;
    // It waited for nothing: who is asked to end gives the lease back.
    let took = fleet.coordinates(1, SLACK).await;
    assert!(took < LEASE - 5 * SECOND, "{took:?}: the lease was waited for");
    cast.further(200, SOON).await;
    cast.rest().await;
    let (unanswered, refused) = cast.denied();
    assert_eq!((unanswered, refused.len()), (0, 0), "{refused:?}");
    let last = audit::writes(&fleet.db).await;
    assert!(last.iter().any(|write| write.holder.is_empty() && write.term == 1), "the lease was given back");
    cast.work(&fleet, 4).await;
    fleet.restart(0).await;
    cast.end(&mut fleet, Allowed::within(Duration::from_secs(5))).await;
}

on_both_servers!(row_11_a_rolling_restart_with_five_hundred_open_incidents_tells_nobody);
async fn row_11_a_rolling_restart_with_five_hundred_open_incidents_tells_nobody(backend: Backend) {
    let Some((mut fleet, cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    fleet.reserve("silent", "template", 3600).await;
    fleet.check_in("silent", "template").await;
    fleet.db.copies("silent", "template", 499).await;
    // Only these have waited: the others of the cast go on as they are.
    let past = "UPDATE reservation SET last_ok_ms = last_ok_ms - 7200000, last_ok_started_ms = NULL, \
                created_ms = created_ms - 7200000, due_ms = 0 WHERE app = 'silent'";
    fleet.db.sql(past).await;
    fleet.db.becomes("SELECT COUNT(*) FROM incident WHERE closed_ms IS NULL", 500).await;
    fleet.db.becomes("SELECT COUNT(*) FROM delivery WHERE state IN ('pending', 'inflight')", 0).await;
    let told = (fleet.hook.requests().len(), fleet.pager.requests().len());
    let rows = fleet.db.number("SELECT COUNT(*) FROM delivery").await;
    for (index, next) in [(0, 1), (1, 0)] {
        fleet.term(index).await;
        fleet.coordinates(next, SLACK).await;
        fleet.restart(index).await;
        looked_at_all(&fleet).await;
    }
    assert_eq!(fleet.db.number("SELECT COUNT(*) FROM delivery").await, rows);
    assert_eq!((fleet.hook.requests().len(), fleet.pager.requests().len()), told, "a restart is no news");
    assert!(events_of(&fleet.hook).iter().all(|one| one.event == "trigger"));
    let back = "UPDATE reservation SET last_ok_ms = last_ok_ms + 7200000, due_ms = 0 WHERE app = 'silent'";
    fleet.db.sql(back).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER)).await;
}

/// Every reservation is looked at by whoever leads now.
async fn looked_at_all(fleet: &Fleet) {
    fleet.db.sql("UPDATE reservation SET due_ms = 0").await;
    fleet.db.becomes("SELECT COUNT(*) FROM reservation WHERE due_ms = 0", 0).await;
}

/// The webhook's outages, triggers of jobs, and what its digests count.
fn told(fleet: &Fleet) -> (usize, usize, Vec<u64>) {
    let heard = events_of(&fleet.hook);
    let outages = heard.iter().filter(|one| one.system && one.component == "outage").count();
    let requests = fleet.hook.requests();
    let bodies: Vec<_> = requests.iter().map(|request| request.json()).collect();
    let triggers = bodies.iter().filter(|body| body["event"] == "trigger" && body["app"] == "silent").count();
    (outages, triggers, bodies.iter().filter_map(|body| body["digest"]["count"].as_u64()).collect())
}

on_both_servers!(row_59_a_pair_that_was_away_for_twenty_minutes_records_one_outage_and_tells_one_digest);
async fn row_59_a_pair_that_was_away_for_twenty_minutes_records_one_outage_and_tells_one_digest(
    backend: Backend,
) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    cast.rest().await;
    // Of ten thousand jobs, 5 were late before, and the deadlines of 41 fall into the absence.
    let old: Vec<_> = (0..5).map(|n| format!("old-{n}")).collect();
    let lost: Vec<_> = (0..40).map(|n| format!("c{n}")).chain(["lost".to_owned()]).collect();
    let jobs = old.iter().map(|name| ("silent", name.as_str(), 3600));
    for (app, component, every) in jobs.chain([("on-time", "daily", 86_400), ("silent", "lost", 10)]) {
        fleet.reserve(app, component, every).await;
        fleet.check_in(app, component).await;
    }
    fleet.kill9(0);
    fleet.kill9(1);
    fleet.db.copies("on-time", "daily", 9_944).await;
    fleet.db.copies("silent", "lost", 40).await;
    let away = Duration::from_secs(20 * 60);
    fleet.db.time_passes(away).await;
    fleet.db.was_away(away).await;
    let late = "UPDATE reservation SET last_ok_ms = last_ok_ms - 3700000 WHERE component LIKE 'old-%'";
    assert_eq!(fleet.db.sql(late).await, 5);
    let last = "UPDATE reservation SET last_ok_ms = (SELECT alive_ms FROM meta) - 2000 \
                WHERE app = 'silent' AND component NOT LIKE 'old-%'";
    assert_eq!(fleet.db.sql(last).await, 41);
    fleet.restart(0).await;
    fleet.restart(1).await;

    fleet.db.becomes("SELECT COUNT(*) FROM incident WHERE app = 'silent'", 46).await;
    eventually(SOON, "the outage and the old misses to be told", async || {
        if told(&fleet).1 >= 5 { Ok(()) } else { Err(format!("{:?}", told(&fleet))) }
    })
    .await;
    fleet
        .db
        .becomes("SELECT COUNT(*) FROM delivery WHERE state = 'pending' AND next_ms = created_ms", 0)
        .await;
    assert_eq!(told(&fleet), (1, 5, vec![]), "the others wait until every job had its time");
    fleet.db.sql("UPDATE delivery SET next_ms = 0 WHERE state = 'pending'").await;
    fleet.db.becomes("SELECT COUNT(*) FROM delivery WHERE state IN ('pending', 'inflight')", 0).await;
    assert_eq!(told(&fleet), (1, 5, vec![41]), "and come as one digest, of whichever replica");
    assert_eq!(fleet.db.number("SELECT COUNT(*) FROM outage").await, 1);

    for component in old.iter().chain(&lost) {
        fleet.check_in("silent", component).await;
        fleet.reserve("silent", component, 36_000).await;
    }
    cast.work(&fleet, 4).await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).troubles(&["outage"])).await;
    assert_eq!(told(&fleet).0, 1);
}
