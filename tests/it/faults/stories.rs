//! Stories from beginning to end, as README and examples tell them.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::SOON;
use super::invariants::{Known, events_of, hold};
use super::world::{World, hook_yaml};
use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::process::Gotel;
use crate::util::receiver::{Answer, Receiver};

/// One line of a shell, run to its end.
async fn shell(line: &str) -> (Option<i32>, String) {
    let env = [("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")];
    let mut program = Gotel::spawn_program(Path::new("/bin/sh"), &["-c", line], &env);
    let status = program.wait_exit(SOON).await;
    (status.code(), program.output())
}

/// The first minutes: no configuration, the calls that the program prints, and the terminal tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_minutes_show_a_late_job_and_its_recovery_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let mut gotel = Gotel::spawn(&["serve", "--listen", "127.0.0.1:0", "--data-dir", data], &[]);
    gotel.url().await;
    gotel.printed("Alerts go", SOON).await;
    let banner = gotel.output();
    let calls: Vec<_> = banner.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(calls.len(), 2, "{banner}");
    for call in &calls {
        let (code, output) = shell(call).await;
        assert_eq!(code, Some(0), "{call}: {output}");
    }
    gotel.printed("┌─ LATE ─", SOON).await;
    assert_eq!(shell(calls[1]).await.0, Some(0));
    gotel.printed("┌─ RECOVERED ─", SOON).await;
    let output = gotel.output();
    assert_eq!(output.matches("┌─ LATE ─").count(), 1, "{output}");
    assert!(output.find("┌─ LATE ─") < output.find("┌─ RECOVERED ─"), "{output}");
    gotel.sigterm();
    assert!(gotel.wait_exit(super::EXIT).await.success());
}

/// The calls of GoTel 0.1, and a crontab's line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_original_calls_and_a_crontab_line_work_as_they_did() {
    let hook = Receiver::webhook().await;
    let world = World::start(TestDb::new(Backend::Sqlite).await.unwrap(), &hook_yaml(&hook)).await;
    let base = world.url.as_str().trim_end_matches('/');
    let post =
        async |path: &str, body: Value| shell(&format!("curl -fsS -XPOST '{base}{path}' -d '{body}'")).await;
    let reservation = json!({
        "app": "app1", "component": "nightly", "owner": "jim@example.org", "notify": "jim@example.org",
        "frequency": 5, "time_units": "minutes",
    });
    let (code, output) = post("/reservation", reservation).await;
    assert_eq!((code, output.as_str()), (Some(0), "\"OK\""));
    let job = json!({ "app": "app1", "component": "nightly", "notes": "all good" });
    assert_eq!(post("/checkin", job.clone()).await.0, Some(0));

    // A crontab's line checks in when, and only when, the job went well.
    let line =
        |job: &str| format!("{job} && curl -fsS -m 10 --retry 5 -o /dev/null {base}/checkin/app1/nightly");
    assert_eq!(shell(&line("true")).await.0, Some(0));
    assert_eq!(shell(&line("false")).await.0, Some(1));
    assert_eq!(world.number("SELECT checkins FROM reservation").await, 2);

    let nap = json!({ "app": "app1", "component": "nightly", "duration": 5, "time_units": "minutes" });
    let (code, output) = post("/snooze", nap).await;
    assert_eq!(code, Some(0), "{output}");
    let gone = json!({ "app": "app1", "component": "nightly" });
    assert_eq!(post("/checkout", gone).await.0, Some(0));
    let (code, _) = post("/checkin", job).await;
    assert_eq!(code, Some(22), "curl -f fails where nothing is stored");
}

on_every_database!(a_snoozed_job_is_left_alone_and_a_checkout_ends_what_was_told_once);
/// I6.
async fn a_snoozed_job_is_left_alone_and_a_checkout_ends_what_was_told_once(db: TestDb) {
    let hook = Receiver::webhook().await;
    let mut world = World::start(db, &hook_yaml(&hook)).await;
    for component in ["snoozed", "gone"] {
        world.reserve("billing", component, Value::Null).await;
        world.signal("billing", component, "").await;
    }
    let nap = json!({ "app": "billing", "component": "snoozed", "duration": 5, "time_units": "hours" });
    assert_eq!(world.post("/snooze", nap).await.0, 200);
    world.time_passes(Duration::from_secs(2 * 3600)).await;
    assert_eq!(hook.received(1, SOON).await[0].json()["component"], "gone");
    world.becomes("SELECT COUNT(*) FROM reservation WHERE due_ms = 0", 0).await;
    let checkout = json!({ "app": "billing", "component": "gone" });
    assert_eq!(world.post("/checkout", checkout).await.0, 200);
    world.becomes("SELECT COUNT(*) FROM delivery WHERE event = 'cancel' AND state = 'done'", 1).await;
    // Neither a restart nor more time brings either back, until the snooze is over.
    world.kill9();
    world.sql("UPDATE lease SET renewed_ms = renewed_ms - 600000").await;
    world.time_passes(Duration::from_secs(2 * 3600)).await;
    world.start_again().await;
    world.becomes("SELECT COUNT(*) FROM reservation WHERE due_ms = 0", 0).await;
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state IN ('pending', 'inflight')", 0).await;
    let heard: Vec<_> = events_of(&hook).into_iter().map(|one| (one.component, one.event)).collect();
    let expected = [("gone", "trigger"), ("gone", "cancel")].map(|(c, e)| (c.to_owned(), e.to_owned()));
    assert_eq!(heard, expected);
    world.time_passes(Duration::from_secs(2 * 3600)).await;
    assert_eq!(hook.received(3, SOON).await[2].json()["component"], "snoozed");
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
}

on_every_database!(what_could_not_be_told_before_a_snooze_waits_for_its_end);
/// I6.
async fn what_could_not_be_told_before_a_snooze_waits_for_its_end(db: TestDb) {
    let hook = Receiver::webhook().await;
    let world = World::start(db, &hook_yaml(&hook)).await;
    for component in ["snoozed", "other"] {
        world.reserve("billing", component, Value::Null).await;
        world.signal("billing", component, "").await;
    }
    hook.always(Answer::Status(503));
    world.signal("billing", "snoozed", "/fail").await;
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state = 'pending' AND attempts > 0", 1).await;
    let nap = json!({ "app": "billing", "component": "snoozed", "duration": 5, "time_units": "hours" });
    assert_eq!(world.post("/snooze", nap).await.0, 200);
    let refused = hook.requests().len();
    hook.always(Answer::Status(200));
    world.time_passes(Duration::from_secs(600)).await;
    // What comes after it is told, and so the outbox was looked at.
    world.signal("billing", "other", "/fail").await;
    let heard = hook.received(refused + 1, SOON).await;
    assert_eq!(heard[refused].json()["component"], "other");
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state = 'done'", 1).await;
    assert_eq!(hook.requests().len(), refused + 1, "the other one is snoozed");
    world.time_passes(Duration::from_secs(5 * 3600)).await;
    let heard = hook.received(refused + 2, SOON).await;
    assert_eq!(heard[refused + 1].json()["component"], "snoozed");
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
}
