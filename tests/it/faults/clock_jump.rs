//! Clocks that are wrong and clocks that jump: rows 46 and 47, with real programs that see a false time.

use std::time::Duration;

use serde_json::json;

use super::SOON;
use super::invariants::{Known, events_of, hold};
use super::world::{World, hook_yaml, metric};
use crate::util::db::{Backend, TestDb};
use crate::util::load::Load;
use crate::util::receiver::Receiver;
use crate::util::server::{Clock, PrivateServer};
use crate::util::wait::{eventually, now};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_46_a_replicas_clock_an_hour_off_and_stepping_changes_nothing() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let hook = Receiver::webhook().await;
    let clock = Clock::new();
    clock.set(3600);
    let env = clock.env();
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let url = db.url().to_owned();
    let world = World::start_at(db, url, &hook_yaml(&hook), &env).await;
    let stamp = world.output().split_whitespace().find_map(|word| word.parse::<jiff::Timestamp>().ok());
    let ahead_s =
        stamp.expect("the log has times").as_second() - world.number("SELECT UNIX_TIMESTAMP()").await;
    assert!((3500..=3600).contains(&ahead_s), "the program sees the false clock: {ahead_s} s ahead");
    let keys = world.fleet("load", 10).await;
    world.reserve("minutely", "one", json!({ "frequency": 12, "time_units": "seconds" })).await;
    world.reserve("silent", "one", json!({ "frequency": 12, "time_units": "seconds" })).await;
    let check_in = async || world.try_check_in("minutely", "one").await;
    world.signal("silent", "one", "").await;
    let load = Load::start(&world.url, &keys, 8, &[]);
    for ahead_s in [-3600, 0, 7200, -7200] {
        eventually(SOON, "a check-in", check_in).await;
        clock.set(ahead_s);
        let before = load.acknowledged();
        eventually(SOON, "check-ins", async || load.acknowledged() >= before + 100).await;
        let evaluated = world.number("SELECT eval_ms FROM lease").await;
        let moved = format!("SELECT COUNT(*) FROM lease WHERE eval_ms > {evaluated}");
        world.becomes(&moved, 1).await;
    }
    // The one that fell silent is told, of the other nothing.
    let since = now();
    eventually(SOON, "the silent one to be told", async || {
        if since.elapsed() > Duration::from_secs(2) {
            check_in().await?;
        }
        let told = events_of(&hook);
        if told.iter().any(|one| one.app == "silent") { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    eventually(SOON, "a check-in", check_in).await;
    let report = load.stop().await;
    assert_eq!((report.unanswered, report.refused.len()), (0, 0));
    let known = Known {
        acknowledged: &report.acknowledged,
        hooks: &[("hook", &hook)],
        on_time: &["minutely", "load"],
        ..Known::default()
    };
    hold(&world, &known).await;
    assert_eq!(world.number("SELECT COUNT(*) FROM incident WHERE app = 'gotel'").await, 0);
    assert_eq!(world.number("SELECT COUNT(*) FROM outage").await, 0);
    assert_eq!(world.number("SELECT term FROM lease").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_47_a_database_clock_that_jumps_is_told_and_pages_nobody_who_is_on_time() {
    let Some(server) = PrivateServer::start_with_clock() else { return };
    let hook = Receiver::webhook().await;
    let world = World::start(server.database().await, &hook_yaml(&hook)).await;
    // All of these are due before the clock's new time, or soon after it.
    for (app, minutes) in [("five", 5), ("nine", 9), ("fifteen", 15)] {
        world.reserve(app, "template", json!({ "frequency": minutes, "time_units": "minutes" })).await;
        world.signal(app, "template", "").await;
        world.copies(app, "template", 49).await;
    }
    world.reserve("broken", "one", json!({})).await;
    world.becomes("SELECT COUNT(*) FROM reservation WHERE due_ms = 0", 0).await;
    let jumps = async |count| {
        world.becomes("SELECT COUNT(*) FROM incident WHERE component = 'clock-jump'", count).await;
        // Everything that is due by the clock was looked at.
        let due = "SELECT COUNT(*) FROM reservation WHERE due_ms <= \
                   (SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000)";
        world.becomes(due, 0).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM incident WHERE reservation_id IS NOT NULL").await, 0);
    };
    server.clock().set(600);
    jumps(1).await;
    server.clock().set(0);
    jumps(2).await;

    // A failure is told as ever, and so is its end.
    world.signal("broken", "one", "/fail").await;
    eventually(SOON, "the failure to be told", async || {
        events_of(&hook).iter().any(|one| one.app == "broken")
    })
    .await;
    world.signal("broken", "one", "").await;
    world.becomes("SELECT COUNT(*) FROM incident WHERE closed_ms IS NULL", 0).await;
    let told: Vec<_> = events_of(&hook).into_iter().filter(|one| one.system).collect();
    assert!(told.len() == 2 && told.iter().all(|one| one.component == "clock-jump"), "{told:#?}");
    assert_eq!(metric(&world.get("/metrics").await.1, "gotel_clock_jump_total"), 2.0);
    assert_eq!(world.number("SELECT COUNT(*) FROM outage WHERE cause <> 'clock_jump'").await, 0);
    assert_eq!(world.number("SELECT term FROM lease").await, 1, "the election uses no such clock");
    let on_time = ["five", "nine", "fifteen"];
    let known = Known { hooks: &[("hook", &hook)], on_time: &on_time, ..Known::default() };
    hold(&world, &known).await;
}
