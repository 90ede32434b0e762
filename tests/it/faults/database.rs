//! Databases that die, freeze, deadlock and make everybody wait: rows 24, 25, 28 and 29.

use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection, Executor};

use super::SOON;
use super::invariants::{Known, hold};
use super::world::{World, hook_yaml, metric};
use crate::util::db::{Backend, TestDb};
use crate::util::load::Load;
use crate::util::receiver::Receiver;
use crate::util::server::PrivateServer;
use crate::util::wait::{eventually, now};

/// A server of the test's own, and GoTel on it.
async fn on_a_private_server(backend: Backend) -> Option<(PrivateServer, World, Receiver)> {
    let server = PrivateServer::start(backend)?;
    let hook = Receiver::webhook().await;
    let world = World::start(server.database().await, &hook_yaml(&hook)).await;
    Some((server, world, hook))
}

async fn killed(backend: Backend) {
    let Some((mut server, world, hook)) = on_a_private_server(backend).await else { return };
    let keys = world.fleet("load", 20).await;
    let mut acknowledged = Vec::new();
    for _ in 0..2 {
        let load = Load::start(&world.url, &keys, 32, &[]);
        eventually(SOON, "check-ins", async || load.acknowledged() >= 200).await;
        server.kill9();
        let before = load.acknowledged();
        eventually(SOON, "an honest 503", async || match world.try_check_in("load", "0").await {
            Err(why) if why.starts_with("503") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert_eq!(world.get("/livez").await.0, 200);
        assert_eq!(world.get("/readyz").await.0, 200, "an honest 503 is worth more than no replica");
        server.restart();
        eventually(SOON, "check-ins to be taken again", async || load.acknowledged() >= before + 200).await;
        let report = load.stop().await;
        assert_eq!(report.unanswered, 0);
        assert!(report.refused.keys().all(|status| *status == 503), "{:?}", report.refused);
        acknowledged.extend(report.acknowledged);
    }
    world.signal("load", "0", "/fail").await;
    hook.received(1, SOON).await;
    let known = Known { acknowledged: &acknowledged, hooks: &[("hook", &hook)], ..Known::default() };
    hold(&world, &known).await;
    assert_eq!(world.number("SELECT COUNT(*) FROM incident WHERE reservation_id IS NOT NULL").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_24_a_killed_mariadb_loses_no_acknowledged_check_in() {
    killed(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_24_a_killed_mysql_loses_no_acknowledged_check_in() {
    killed(Backend::MySql).await;
}

/// Frozen for 6 s nothing happens but 503s; frozen for 35 s it is an own outage: recorded, told once, and no
/// job pays for it.
async fn frozen(backend: Backend) {
    let Some((server, world, hook)) = on_a_private_server(backend).await else { return };
    world.reserve("minutely", "one", serde_json::json!({ "frequency": 25, "time_units": "seconds" })).await;
    world.reserve("hourly", "one", Value::Null).await;
    let check_in = async || world.try_check_in("minutely", "one").await;
    check_in().await.unwrap();
    world.signal("hourly", "one", "").await;
    for (seconds, outages) in [(6, 0), (35, 1)] {
        eventually(SOON, "a check-in", check_in).await;
        let term = world.number("SELECT term FROM lease").await;
        server.sigstop().await;
        let since = now();
        let mut refused = 0;
        while since.elapsed() < Duration::from_secs(seconds) {
            let asked = now();
            let why = check_in().await.expect_err("the database is frozen");
            assert!(why.starts_with("503"), "{why}");
            assert!(asked.elapsed() < Duration::from_secs(15), "a 503 took {:?}", asked.elapsed());
            refused += 1;
        }
        assert!(refused > 0);
        assert_eq!(world.get("/readyz").await.0, 200);
        let (alive, text) = world.get("/livez").await;
        assert_eq!(alive, 200, "a restart would not bring the database back: {text}");
        server.sigcont();
        eventually(SOON, "check-ins to be taken again", check_in).await;
        world.becomes("SELECT COUNT(*) FROM outage", outages).await;
        if outages == 0 {
            assert_eq!(world.number("SELECT term FROM lease").await, term, "the leader is kept");
        }
    }
    // The outage itself is told, and nothing else: the job's deadline fell into it.
    hook.received(1, SOON).await;
    let known = Known { hooks: &[("hook", &hook)], on_time: &["minutely", "hourly"], ..Known::default() };
    hold(&world, &known).await;
    let told = super::invariants::events_of(&hook);
    assert!(told.len() == 1 && told[0].component == "outage", "{told:#?}");
    assert!(metric(&world.get("/metrics").await.1, "gotel_outage_seconds_total") >= 30.0);
    // Healed: a true miss is told.
    world.signal("hourly", "one", "/fail").await;
    hook.received(2, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_a_frozen_mariadb_is_an_outage_of_ours_and_no_miss_of_theirs() {
    frozen(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_25_a_frozen_mysql_is_an_outage_of_ours_and_no_miss_of_theirs() {
    frozen(Backend::MySql).await;
}

/// Another program that takes the same rows in the other order: deadlocks come, and none surfaces.
async fn deadlocks(backend: Backend) {
    let Some(db) = TestDb::new(backend).await else { return };
    let hook = Receiver::webhook().await;
    let world = World::start(db, &hook_yaml(&hook)).await;
    let keys = world.fleet("load", 10).await;
    let load = Load::start(&world.url, &keys, 32, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 50).await;
    let mut rival = world.db.connect().await;
    let mut lost = 0;
    // In the order that GoTel never takes.
    let rows =
        sqlx::query("SELECT id FROM reservation ORDER BY rkey DESC").fetch_all(&mut rival).await.unwrap();
    let ids: Vec<i64> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
    for _ in 0..150 {
        let mut tx = rival.begin().await.unwrap();
        let mut failed = false;
        for id in &ids {
            let lock =
                sqlx::query("UPDATE reservation SET updated_ms = updated_ms + 1 WHERE id = ?").bind(*id);
            if lock.execute(&mut *tx).await.is_err() {
                failed = true;
                break;
            }
        }
        if failed {
            lost += 1;
            tx.rollback().await.ok();
        } else {
            tx.commit().await.ok();
        }
    }
    let report = load.stop().await;
    let retried = metric(&world.get("/metrics").await.1, "gotel_db_retries_total");
    assert!(lost > 0 || retried > 0.0, "no deadlock came about: the test proves nothing");
    assert_eq!((report.unanswered, report.refused.len()), (0, 0), "{:?}", report.refused);
    let known = Known {
        acknowledged: &report.acknowledged,
        hooks: &[("hook", &hook)],
        on_time: &["load"],
        ..Known::default()
    };
    hold(&world, &known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_28_deadlocks_on_mariadb_are_retried_and_none_surfaces() {
    deadlocks(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_28_deadlocks_on_mysql_are_retried_and_none_surfaces() {
    deadlocks(Backend::MySql).await;
}

async fn locked_tables(backend: Backend) {
    let Some(db) = TestDb::new(backend).await else { return };
    let hook = Receiver::webhook().await;
    let world = World::start(db, &hook_yaml(&hook)).await;
    let keys = world.fleet("load", 10).await;
    let load = Load::start(&world.url, &keys, 16, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 100).await;
    let mut rival = world.db.connect().await;
    rival.execute("LOCK TABLES reservation WRITE, checkin WRITE").await.unwrap();
    for _ in 0..2 {
        let asked = now();
        let why = world.try_check_in("load", "0").await.expect_err("the tables are locked");
        assert!(why.starts_with("503"), "{why}");
        assert!(asked.elapsed() < Duration::from_secs(8), "a 503 took {:?}", asked.elapsed());
    }
    assert_eq!(world.get("/livez").await.0, 200);
    let mut watcher = world.db.connect().await;
    let waiting: i64 = sqlx::Row::get(
        &sqlx::query("SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()")
            .fetch_one(&mut watcher)
            .await
            .unwrap(),
        0,
    );
    assert!(waiting < 30, "{waiting} connections wait in the database: they pile up");
    rival.execute("UNLOCK TABLES").await.unwrap();
    let before = load.acknowledged();
    eventually(SOON, "check-ins to be taken again", async || load.acknowledged() >= before + 100).await;
    let report = load.stop().await;
    assert_eq!(report.unanswered, 0);
    assert!(report.refused.keys().all(|status| *status == 503), "{:?}", report.refused);
    let known = Known {
        acknowledged: &report.acknowledged,
        hooks: &[("hook", &hook)],
        on_time: &["load"],
        ..Known::default()
    };
    hold(&world, &known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_29_locked_tables_on_mariadb_are_prompt_503s_and_no_pile() {
    locked_tables(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_29_locked_tables_on_mysql_are_prompt_503s_and_no_pile() {
    locked_tables(Backend::MySql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_29_a_lock_that_keeps_the_evaluator_waiting_for_a_minute_is_told_and_so_is_its_end() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let hook = Receiver::webhook().await;
    let world = World::start(db, &hook_yaml(&hook)).await;
    world.reserve("a", "b", serde_json::json!({})).await;
    let evaluated = "SELECT COUNT(*) FROM lease WHERE eval_ms > 0";
    world.becomes(evaluated, 1).await;
    let mut rival = world.db.connect().await;
    rival.execute("LOCK TABLES reservation WRITE").await.unwrap();
    // The minute that the rest of this test would wait for.
    world.sql("UPDATE lease SET eval_ms = eval_ms - 60000").await;
    let told = async |event: &str| {
        let bodies: Vec<_> =
            hook.requests().iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect();
        let wanted = format!("\"event\":\"{event}\"");
        let found = bodies
            .iter()
            .any(|body| body.contains("\"component\":\"coordinator-stalled\"") && body.contains(&wanted));
        if found { Ok(()) } else { Err(bodies.join("\n")) }
    };
    eventually(Duration::from_secs(90), "the stall to be told", async || told("trigger").await).await;
    rival.execute("UNLOCK TABLES").await.unwrap();
    eventually(Duration::from_secs(60), "its end to be told", async || told("resolve").await).await;
}
