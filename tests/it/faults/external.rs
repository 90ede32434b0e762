//! The heartbeat to whoever watches GoTel: it is its silence that counts; row 6.

use std::time::Duration;

use sqlx::Executor;

use super::SOON;
use super::world::{World, metric};
use crate::util::db::{Backend, TestDb};
use crate::util::receiver::{Receiver, Request};
use crate::util::wait::{eventually, now};

/// Longer than a period, so that a heartbeat which goes on would show.
const SILENCE: Duration = Duration::from_secs(45);

const PATH: &str = "/ping/5f0e7c1a";

fn yaml(watcher: &Receiver) -> String {
    format!("heartbeatUrl: \"{}\"\nreplicaHeartbeatUrl: \"{}\"\n", watcher.url(PATH), watcher.url("/replica"))
}

fn pings(watcher: &Receiver, path: &str) -> Vec<Request> {
    watcher.requests().into_iter().filter(|request| request.path == path).collect()
}

async fn pinged(watcher: &Receiver, path: &str, count: usize) {
    eventually(SOON, format!("{count} pings of {path}"), async || {
        let pings = pings(watcher, path).len();
        if pings >= count { Ok(()) } else { Err(pings.to_string()) }
    })
    .await;
}

/// `SILENCE` passes.
async fn a_while() {
    let since = now();
    eventually(SILENCE + SOON, "time to pass", async || since.elapsed() >= SILENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_06_the_heartbeat_goes_on_while_all_is_well_and_ends_with_the_process() {
    let watcher = Receiver::webhook().await;
    let mut world = World::start(TestDb::new(Backend::Sqlite).await.unwrap(), &yaml(&watcher)).await;
    pinged(&watcher, PATH, 2).await;
    pinged(&watcher, "/replica", 2).await;
    for path in [PATH, "/replica"] {
        let pings = pings(&watcher, path);
        assert_eq!(pings[0].method, "GET");
        assert!(pings[1].at.duration_since(pings[0].at) >= Duration::from_secs(29), "at most each 30 s");
    }
    let (_, page) = world.get("/metrics").await;
    for scope in ["installation", "replica"] {
        let name = format!("gotel_external_heartbeat_age_seconds{{scope=\"{scope}\"}}");
        assert!(page.contains(&name) && metric(&page, &name) < 30.0, "{page}");
    }
    world.kill9();
    let last = watcher.requests().len();
    a_while().await;
    assert_eq!(watcher.requests().len(), last, "silence is the alarm");
    let output = world.output();
    assert!(!output.contains(PATH) && !output.contains("nobody watches"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_cannot_evaluate_is_silent_although_it_lives() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let watcher = Receiver::webhook().await;
    let world = World::start(db, &yaml(&watcher)).await;
    pinged(&watcher, PATH, 1).await;
    let mut rival = world.db.connect().await;
    rival.execute("LOCK TABLES reservation WRITE").await.unwrap();
    let (all, own) = (pings(&watcher, PATH).len(), pings(&watcher, "/replica").len());
    a_while().await;
    // One may have been on its way when the lock was taken.
    assert!(pings(&watcher, PATH).len() <= all + 1, "it vouches for what was not done");
    assert!(pings(&watcher, "/replica").len() > own, "the replica itself is well");
    let silent = pings(&watcher, PATH).len();
    rival.execute("UNLOCK TABLES").await.unwrap();
    pinged(&watcher, PATH, silent + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_cannot_be_delivered_for_minutes_is_silence() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let (watcher, hook) = (Receiver::webhook().await, Receiver::webhook().await);
    hook.always(crate::util::receiver::Answer::Status(500));
    let alerters = super::world::hook_yaml(&hook);
    let world = World::start(db, &format!("{}{alerters}", yaml(&watcher))).await;
    world.reserve("a", "b", serde_json::Value::Null).await;
    world.signal("a", "b", "/fail").await;
    hook.received(1, SOON).await;
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state = 'pending' AND attempts > 0", 1).await;
    world.sql("UPDATE delivery SET created_ms = created_ms - 300000").await;
    let known = pings(&watcher, PATH).len();
    a_while().await;
    assert!(pings(&watcher, PATH).len() <= known + 1, "it says that all is well while nobody can be told");
    world.gotel.printed("no external heartbeat", SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_a_heartbeat_says_once_that_nobody_watches() {
    let world = World::start(TestDb::new(Backend::Sqlite).await.unwrap(), "").await;
    world.gotel.printed("nobody watches this GoTel itself", SOON).await;
    world.gotel.printed("heartbeatUrl", SOON).await;
    assert_eq!(world.output().matches("nobody watches").count(), 1);
}
