//! Databases under a pair: killed, frozen, in deadlocks, locked: rows 24, 25, 28 and 29.
//!
//! Rows 26, 30, 31, 33 and 34 need replicas that tell of a database that takes no writes.

use std::time::Duration;

use sqlx::{Connection, Executor, Row};

use super::checker::{Allowed, Cast};
use super::fleet::{Fleet, Plan, SLACK, SOON, TAKE_OVER};
use super::{audit, fleet_on, on_both_servers};
use crate::faults::invariants::events_of;
use crate::util::db::Backend;
use crate::util::node::metric;
use crate::util::server::PrivateServer;
use crate::util::wait::{eventually, slowness};

/// A server of the test's own under a pair, and its jobs. The server outlives the fleet.
async fn on_a_private_server(backend: Backend) -> Option<(Fleet, Cast, PrivateServer)> {
    let server = PrivateServer::start(backend)?;
    let fleet = Fleet::start(server.database().await, &Plan::pair()).await;
    let cast = Cast::of(&fleet).await;
    Some((fleet, cast, server))
}

on_both_servers!(row_24_a_killed_database_costs_503s_and_nothing_else);
async fn row_24_a_killed_database_costs_503s_and_nothing_else(backend: Backend) {
    let Some((mut fleet, mut cast, mut server)) = on_a_private_server(backend).await else { return };
    cast.work(&fleet, 32).await;
    for _ in 0..2 {
        cast.further(100, SOON).await;
        cast.goes_silent(&fleet).await;
        server.kill9();
        for member in &fleet.members {
            let (status, text) =
                member.node.ask(reqwest::Method::POST, "/checkin/on-time/0", None).await.expect("it answers");
            assert_eq!(status, 503, "{text}");
        }
        server.restart();
        cast.further(100, SOON).await;
    }
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats()).await;
}

/// The database stands still for so long; its age of six seconds is nothing, one of half a minute an outage.
async fn frozen(backend: Backend, seconds: u64) {
    let Some((mut fleet, mut cast, server)) = on_a_private_server(backend).await else { return };
    let outage = seconds > 30;
    server.sigstop().await;
    slowness(Duration::from_secs(seconds)).await;
    for member in &fleet.members {
        assert_eq!(member.node.get("/livez").await.0, 200, "a restart would not bring the database back");
        assert_eq!(member.node.get("/readyz").await.0, 200, "an honest 503 is worth more than no replica");
    }
    server.sigcont();
    cast.further(20, SOON).await;
    fleet.db.becomes("SELECT COUNT(*) FROM outage", i64::from(outage)).await;
    eventually(TAKE_OVER + SLACK, "somebody to lead", async || fleet.holder().await).await;
    cast.goes_silent(&fleet).await;
    cast.misses_are_told(&fleet, TAKE_OVER + SLACK).await;
    let reigns: Vec<_> = audit::reigns(&fleet.db).await.into_iter().map(|(_, holder)| holder).collect();
    let told = events_of(&fleet.hook).iter().filter(|one| one.component == "outage").count();
    assert_eq!(told, usize::from(outage), "one outage, however many replicas saw it");
    // Nobody else took it: whoever steps down takes its own again.
    assert!(reigns.iter().all(|holder| holder == "a"), "{reigns:?}");
    if outage {
        let mut seconds = 0.0;
        for member in &fleet.members {
            seconds += metric(&member.node.get("/metrics").await.1, "gotel_outage_seconds_total");
        }
        assert!((30.0..90.0).contains(&seconds), "the outage is counted once: {seconds}");
    }
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats().troubles(&["outage"])).await;
}

on_both_servers!(row_25_a_database_frozen_for_6_s_keeps_its_leader);
async fn row_25_a_database_frozen_for_6_s_keeps_its_leader(backend: Backend) {
    frozen(backend, 6).await;
}

on_both_servers!(row_25_a_database_frozen_for_33_s_is_one_outage_and_the_same_leader_again);
async fn row_25_a_database_frozen_for_33_s_is_one_outage_and_the_same_leader_again(backend: Backend) {
    frozen(backend, 33).await;
}

on_both_servers!(row_28_deadlocks_under_a_pair_are_retried_and_none_surfaces);
async fn row_28_deadlocks_under_a_pair_are_retried_and_none_surfaces(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    cast.goes_silent(&fleet).await;
    cast.work(&fleet, 32).await;
    let mut rival = fleet.db.connect().await;
    // In the order that GoTel never takes, and the lease last, which GoTel takes first.
    let rows = sqlx::query("SELECT id FROM reservation ORDER BY rkey DESC").fetch_all(&mut rival).await;
    let ids: Vec<i64> = rows.expect("the rows can be read").iter().map(|row| row.get(0)).collect();
    let mut lost = 0;
    for round in 0..150 {
        if round % 5 == 0 {
            // Everything is looked at, so that the evaluator locks it too.
            fleet.db.sql("UPDATE reservation SET due_ms = 0").await;
        }
        let mut tx = rival.begin().await.expect("a transaction begins");
        let mut failed = false;
        for id in &ids {
            let lock =
                sqlx::query("UPDATE reservation SET updated_ms = updated_ms + 1 WHERE id = ?").bind(*id);
            failed = failed || lock.execute(&mut *tx).await.is_err();
        }
        failed = failed || tx.execute("UPDATE lease SET lease_ms = lease_ms").await.is_err();
        lost += i32::from(failed);
        let ended = if failed { tx.rollback().await } else { tx.commit().await };
        ended.expect("the rival's transaction ends");
        // It is a rival, not an owner.
        slowness(Duration::from_millis(20)).await;
    }
    let mut retried = 0.0;
    for member in &fleet.members {
        retried += metric(&member.node.get("/metrics").await.1, "gotel_db_retries_total");
    }
    assert!(lost > 0 || retried > 0.0, "no deadlock came about: the test proves nothing");
    cast.rest().await;
    let (unanswered, refused) = cast.denied();
    assert_eq!((unanswered, refused.len()), (0, 0), "{refused:?}");
    assert_eq!(audit::reigns(&fleet.db).await.len(), 1, "nobody lost the lease by it");
    cast.work(&fleet, 4).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER)).await;
}

on_both_servers!(row_29_locked_tables_are_one_trouble_told_once_by_a_pair);
async fn row_29_locked_tables_are_one_trouble_told_once_by_a_pair(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair()).await else { return };
    let mut rival = fleet.db.connect().await;
    rival.execute("LOCK TABLES reservation WRITE, checkin WRITE").await.expect("the tables can be locked");
    for member in &fleet.members {
        let (status, text) =
            member.node.ask(reqwest::Method::POST, "/checkin/on-time/0", None).await.expect("it answers");
        assert_eq!(status, 503, "{text}");
        assert_eq!(member.node.get("/livez").await.0, 200);
    }
    // The minute that the rest of this test would wait for.
    fleet.db.sql("UPDATE lease SET eval_ms = eval_ms - 60000").await;
    let told = async |event: &str| {
        let heard = events_of(&fleet.hook);
        let of_it = heard.iter().filter(|one| one.component == "coordinator-stalled" && one.event == event);
        if of_it.count() == 1 { Ok(()) } else { Err(format!("{heard:#?}")) }
    };
    eventually(2 * SOON, "the stall to be told", async || told("trigger").await).await;
    let mut watcher = fleet.db.connect().await;
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()";
    let waiting: i64 = watcher.fetch_one(waiting).await.expect("the server answers").get(0);
    assert!(waiting < 60, "{waiting} connections wait in the database: they pile up");
    rival.execute("UNLOCK TABLES").await.expect("the tables can be unlocked");
    eventually(SOON, "its end to be told", async || told("resolve").await).await;
    cast.further(20, SOON).await;
    cast.goes_silent(&fleet).await;
    // The stall is told after more than half a minute: by then it was a time in which no check-in was accepted, too.
    let troubles = &["coordinator-stalled", "outage"];
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats().troubles(troubles)).await;
}
