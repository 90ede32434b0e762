//! The database itself is the trouble: told without it, once, over restarts, with its end; row 52.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use sqlx::Executor;

use super::SOON;
use super::invariants::{Known, events_of, hold, nothing_is_leaked};
use super::world::World;
use crate::util::chaos::ChaosProxy;
use crate::util::db::{Backend, TestDb};
use crate::util::receiver::{Answer, Receiver};
use crate::util::server::PrivateServer;
use crate::util::wait::{eventually, now};

/// A minute without the database until it is told, and a busy machine.
const TOLD: Duration = Duration::from_secs(130);

/// Longer than a process that had forgotten would take to tell it again.
const QUIET: Duration = Duration::from_secs(75);

const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";
const ENV: [(&str, &str); 2] = [("PD", ROUTING_KEY), ("GOTEL_REPLICA", "eu-1")];

fn yaml(hook: &Receiver, pager: &Receiver) -> String {
    format!(
        "alerters:\n  - {{name: hook, type: webhook, url: \"{}\"}}\n  \
         - {{name: pager, type: pagerduty, url: \"{}\", routingKey: \"${{PD}}\"}}\n",
        hook.url("/hook"),
        pager.url("/v2/enqueue")
    )
}

/// What the webhook heard: `trigger db-gone gotel/…/db-gone`.
fn heard(hook: &Receiver) -> Vec<String> {
    let one = |body: Value| {
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("event"), text("component"), text("dedup_key"))
    };
    hook.requests().iter().map(|request| one(request.json())).collect()
}

/// Waits until it is noted that both alerters have told of it.
async fn noted(world: &World) {
    let file = world.path("direct-alerts-eu-1.json");
    eventually(SOON, "both alerts to be noted", async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let kept: Value = serde_json::from_str(&text).unwrap_or_default();
        if kept["troubles"][0]["accepted"].as_array().is_some_and(|all| all.len() == 2) {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
}

/// A check-in is refused honestly: 503, and when to come back.
async fn refused(world: &World) {
    let answer = world.http.post(world.url.join("/checkin/a/b").unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().contains_key("retry-after"), "{:?}", answer.headers());
}

/// `QUIET` passes, and `hook` hears nothing more.
async fn nothing_more(hook: &Receiver, known: usize) {
    let since = now();
    eventually(QUIET + SOON, "time to pass", async || {
        assert_eq!(hook.requests().len(), known, "{:?}", heard(hook));
        since.elapsed() >= QUIET
    })
    .await;
}

async fn install_id(db: &TestDb) -> String {
    let mut connection = db.connect().await;
    let row = sqlx::query("SELECT install_id FROM meta").fetch_one(&mut connection).await.unwrap();
    sqlx::Row::get(&row, 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_is_paged_once_over_a_restart_and_so_is_its_return() {
    let Some(mut server) = PrivateServer::start(Backend::MariaDb) else { return };
    let (hook, pager) = (Receiver::webhook().await, Receiver::pagerduty().await);
    let db = server.database().await;
    let url = db.url().to_owned();
    let mut world = World::start_at(db, url, &yaml(&hook, &pager), &ENV).await;
    world.reserve("a", "b", Value::Null).await;
    world.signal("a", "b", "").await;
    let key = format!("gotel/{}/db-gone", install_id(&world.db).await);

    server.kill9();
    let since = now();
    eventually(SOON, "an honest 503", async || world.try_check_in("a", "b").await.is_err()).await;
    refused(&world).await;
    let requests = hook.received(1, TOLD).await;
    assert!(requests[0].at.duration_since(since) >= Duration::from_secs(55), "a short absence pages nobody");
    assert_eq!(heard(&hook), [format!("trigger db-gone {key}")]);
    eventually(SOON, "the pager to hear it", async || pager.open_incidents().contains(&key)).await;
    assert_eq!(world.get("/livez").await.0, 200);

    noted(&world).await;
    // The next process knows what was told, and who it is, without the database.
    world.kill9();
    world.start_again().await;
    let (status, text) = world.get("/readyz").await;
    assert_eq!((status, text.contains("the database does not answer")), (503, true), "{text}");
    assert_eq!(world.get("/livez").await.0, 200);
    assert_eq!(world.get("/metrics").await.0, 200);
    refused(&world).await;
    nothing_more(&hook, 1).await;
    refused(&world).await;
    assert_eq!(pager.requests().len(), 1);

    server.restart();
    eventually(SOON, "check-ins to be taken again", async || world.try_check_in("a", "b").await).await;
    assert_eq!(world.get("/readyz").await.0, 200);
    world.becomes("SELECT COUNT(*) FROM outage", 1).await;
    hook.received(2, SOON).await;
    eventually(SOON, "the pager to be told of the end", async || pager.open_incidents().is_empty()).await;
    let known =
        Known { hooks: &[("hook", &hook)], on_time: &["a"], secrets: &[ROUTING_KEY], ..Known::default() };
    hold(&world, &known).await;
    // One outage, two messages: the notice of the outage itself went to nobody who had heard of it.
    assert_eq!(heard(&hook), [format!("trigger db-gone {key}"), format!("resolve db-gone {key}")]);
    assert_eq!(pager.requests().len(), 2);
    let told = hook.requests().remove(1).json();
    assert!(told["remarks"][0].as_str().unwrap_or_default().starts_with("The gap is recorded."), "{told}");
    assert_eq!(world.number("SELECT COUNT(*) FROM incident WHERE component = 'outage'").await, 1);
    // A third start knows nothing of it any more, and the usual way works.
    world.kill9();
    world.start_again().await;
    world.signal("a", "b", "/fail").await;
    hook.received(3, SOON).await;
    assert_eq!(events_of(&hook)[2].component, "b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_while_the_database_is_gone_pages_and_goes_on_once_it_is_back() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let (hook, pager) = (Receiver::webhook().await, Receiver::pagerduty().await);
    pager.always(Answer::Status(500));
    let proxy = ChaosProxy::start(db.server_addr().unwrap()).await;
    proxy.refuse();
    let url = db.url_through(proxy.addr());
    let world = World::start_at(db, url, &yaml(&hook, &pager), &ENV).await;
    refused(&world).await;
    let (status, text) = world.get("/readyz").await;
    assert_eq!((status, text.contains("the database does not answer")), (503, true), "{text}");
    assert_eq!(world.get("/livez").await.0, 200);
    hook.received(1, TOLD).await;
    let told = heard(&hook).remove(0);
    let key = told.strip_prefix("trigger db-gone ").expect(&told).to_owned();
    assert!(key.starts_with("gotel/db-") && key.ends_with("/db-gone"), "{key}");
    // A pager that fails is tried on although the webhook took it.
    pager.received(2, TOLD).await;
    pager.always(Answer::Usual);
    // Its next try may be a minute away.
    eventually(TOLD, "the pager to take it", async || pager.open_incidents().len() == 1).await;

    proxy.heal();
    eventually(SOON, "a start", async || {
        let (status, text) = world.get("/readyz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    world.reserve("a", "b", Value::Null).await;
    world.signal("a", "b", "").await;
    hook.received(2, SOON).await;
    assert_eq!(heard(&hook)[1], format!("resolve db-gone {key}"));
    eventually(SOON, "the pager to be told of the end", async || pager.open_incidents().is_empty()).await;
    let known = Known { hooks: &[("hook", &hook)], on_time: &["a"], ..Known::default() };
    hold(&world, &known).await;
    nothing_is_leaked(&world, &Known { secrets: &[ROUTING_KEY], ..known }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_52_alerts_go_out_though_nothing_can_be_noted() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let (hook, pager) = (Receiver::webhook().await, Receiver::pagerduty().await);
    let proxy = ChaosProxy::start(db.server_addr().unwrap()).await;
    let url = db.url_through(proxy.addr());
    let mut world = World::start_at(db, url, &yaml(&hook, &pager), &ENV).await;
    let file = std::path::PathBuf::from(world.path("direct-alerts-eu-1.json"));
    eventually(SOON, "the file", async || file.is_file()).await;
    // Not even root can replace a folder by a file.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    std::fs::write(file.join("in-the-way"), "").unwrap();

    proxy.refuse();
    proxy.cut();
    hook.received(1, TOLD).await;
    eventually(SOON, "the pager to hear it", async || pager.open_incidents().len() == 1).await;
    // Told again by a process that cannot know, under the key that the installation always has.
    world.kill9();
    let first = world.output();
    world.start_again().await;
    hook.received(2, TOLD).await;
    assert_eq!(first.matches("cannot be noted").count(), 1, "{first}");
    assert!(heard(&hook).iter().all(|one| one.starts_with("trigger db-gone gotel/")), "{:?}", heard(&hook));

    proxy.heal();
    eventually(SOON, "a start", async || world.get("/readyz").await.0 == 200).await;
    hook.received(3, SOON).await;
    assert!(heard(&hook)[2].starts_with("resolve db-gone"), "{:?}", heard(&hook));
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_that_cannot_be_written_down_is_told_without_the_database() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let (hook, pager) = (Receiver::webhook().await, Receiver::pagerduty().await);
    let url = db.url().to_owned();
    let world = World::start_at(db, url, &yaml(&hook, &pager), &ENV).await;
    world.becomes("SELECT COUNT(*) FROM lease WHERE eval_ms > 0", 1).await;
    let key = format!("gotel/{}/coordinator-stalled", install_id(&world.db).await);
    let mut rival = world.db.connect().await;
    rival.execute("LOCK TABLES reservation WRITE, incident WRITE, delivery WRITE").await.unwrap();
    // The minute that the rest of this test would wait for.
    world.sql("UPDATE lease SET eval_ms = eval_ms - 60000").await;
    hook.received(1, 3 * TOLD).await;
    assert_eq!(heard(&hook), [format!("trigger coordinator-stalled {key}")]);
    assert_eq!(world.get("/livez").await.0, 200);
    rival.execute("UNLOCK TABLES").await.unwrap();
    // Its end is told minutes later, as a restart would have to find it again first.
    eventually(SOON, "an evaluation", async || {
        let age = world.get("/metrics").await.1;
        if super::world::metric(&age, "gotel_eval_age_seconds") < 10.0 { Ok(()) } else { Err(age) }
    })
    .await;
    hold(&world, &Known::default()).await;
}
