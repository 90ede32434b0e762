//! Starts: beside others, on what an earlier life left, and on a schema that is not ours.

use std::time::Duration;

use serde_json::Value;

use super::SOON;
use super::invariants::{Known, events_of, hold};
use super::world::{World, hook_yaml};
use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::process::Gotel;
use crate::util::receiver::Receiver;

on_every_database!(a_restart_with_a_hundred_open_incidents_tells_nobody_again);
async fn a_restart_with_a_hundred_open_incidents_tells_nobody_again(db: TestDb) {
    let hook = Receiver::webhook().await;
    let mut world = World::start(db, &hook_yaml(&hook)).await;
    world.reserve("fleet", "template", Value::Null).await;
    world.signal("fleet", "template", "").await;
    world.copies("fleet", "template", 99).await;
    world.time_passes(Duration::from_secs(7200)).await;
    world.becomes("SELECT COUNT(*) FROM incident WHERE closed_ms IS NULL", 100).await;
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state IN ('pending', 'inflight')", 0).await;
    let told = hook.requests().len();
    assert!((1..=10).contains(&told), "a storm is one digest, not {told} notices");
    assert_eq!(events_of(&hook).iter().filter(|one| one.event == "trigger").count(), 50, "a digest names 50");
    let rows = world.number("SELECT COUNT(*) FROM delivery").await;

    for politely in [false, true] {
        if politely {
            world.end().await;
        } else {
            world.kill9();
            world.sql("UPDATE lease SET renewed_ms = renewed_ms - 600000").await;
        }
        world.start_again().await;
        // Every one of them is looked at by the new life.
        world.sql("UPDATE reservation SET due_ms = 0").await;
        world.becomes("SELECT COUNT(*) FROM reservation WHERE due_ms = 0", 0).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM delivery").await, rows, "politely: {politely}");
        assert_eq!(world.number("SELECT COUNT(*) FROM incident WHERE closed_ms IS NULL").await, 100);
        assert_eq!(hook.requests().len(), told, "politely: {politely}");
    }
    super::invariants::one_open_incident(&world.db).await;
    super::invariants::loops_move(&world).await;
}

async fn two_at_once(backend: Backend) {
    let Some(db) = TestDb::new(backend).await else { return };
    let hook = Receiver::webhook().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gotel.yaml");
    std::fs::write(&config, hook_yaml(&hook)).unwrap();
    let args = ["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()];
    let env = |name| [("GOTEL_DATABASE_URL", db.url()), ("GOTEL_REPLICA", name)];
    let mut others: Vec<_> =
        ["a", "b", "c"].into_iter().map(|name| Gotel::spawn(&args, &env(name))).collect();
    for other in &mut others {
        other.url().await;
    }
    let world = World::start(db, &hook_yaml(&hook)).await;
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    hook.received(1, SOON).await;
    world.becomes("SELECT COUNT(*) FROM lease WHERE holder <> ''", 1).await;
    world.signal("billing", "nightly", "").await;
    world.becomes("SELECT COUNT(*) FROM incident WHERE closed_ms IS NULL", 0).await;
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
    assert_eq!(hook.requests().len(), 2, "four replicas told each thing once");
    assert!(others.iter_mut().all(Gotel::running));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_starts_at_once_on_an_empty_mariadb_migrate_it_once() {
    two_at_once(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_starts_at_once_on_an_empty_mysql_migrate_it_once() {
    two_at_once(Backend::MySql).await;
}

on_every_database!(row_32_a_schema_newer_than_the_program_is_refused_and_left_alone);
async fn row_32_a_schema_newer_than_the_program_is_refused_and_left_alone(db: TestDb) {
    let mut migrate = Gotel::spawn(&["migrate"], &[("GOTEL_DATABASE_URL", db.url())]);
    assert!(migrate.wait_exit(SOON).await.success(), "{}", migrate.output());
    let mut connection = db.connect().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'of tomorrow', 1, 'x', 0)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();

    for command in ["serve", "migrate"] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().to_str().unwrap();
        let mut all = vec![command];
        if command == "serve" {
            all.extend(["--listen", "127.0.0.1:0", "--data-dir", data]);
        }
        let mut gotel = Gotel::spawn(&all, &[("GOTEL_DATABASE_URL", db.url())]);
        let status = gotel.wait_exit(SOON).await;
        assert_ne!(status.code(), Some(0), "{command}: {}", gotel.output());
        gotel.printed("schema is version 9999, newer than this program knows", SOON).await;
        assert!(!gotel.output().contains("GoTel is watching"), "{}", gotel.output());
    }
    let alive: i64 = sqlx::Row::get(
        &sqlx::query("SELECT COUNT(*) FROM lease WHERE holder <> ''")
            .fetch_one(&mut connection)
            .await
            .unwrap(),
        0,
    );
    assert_eq!(alive, 0, "nothing was written");
}

on_every_database!(row_32_a_running_program_goes_on_one_step_behind_the_schema_and_ends_beyond_that);
async fn row_32_a_running_program_goes_on_one_step_behind_the_schema_and_ends_beyond_that(db: TestDb) {
    let hook = Receiver::webhook().await;
    let mut world = World::start(db, &hook_yaml(&hook)).await;
    world.reserve("a", "b", Value::Null).await;
    let newer = async |version: i64| {
        world
            .sql(&format!(
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES ({version}, 'of tomorrow', 1, 'x', 0)"
            ))
            .await;
    };
    newer(9998).await;
    world.gotel.printed("this one goes on, update it soon", SOON).await;
    world.signal("a", "b", "").await;
    newer(9999).await;
    let status = world.gotel.wait_exit(SOON).await;
    assert_eq!(status.code(), Some(1), "{}", world.output());
    assert!(world.output().contains("start the newer gotel here, too"), "{}", world.output());
}
