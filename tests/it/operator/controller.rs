//! What objects ask for and show, in good weather.

use std::time::Duration;

use gotel::operator::config::OperatorConfig;
use gotel::reservation::SignalKind;
use gotel::store::ObjectId;
use serde_json::{Value, json};

use super::{fixture, job, spec};
use crate::util::kube::{Controller, KubeApi, configuration};
use crate::util::store::{HOUR, MINUTE};
use crate::util::wait::eventually;

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn an_object_becomes_a_reservation_shows_its_job_and_ends_it_when_it_goes() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    let controller = Controller::start(&f.store, &api, "{}").await;
    api.apply("team-a", "nightly", spec("nightly"));
    api.until_says("team-a", "nightly", "Ready", "True/Watching").await;
    assert_eq!(api.says("team-a", "nightly", "OnTime"), "Unknown/AwaitingFirstCheckin");
    assert_eq!(api.says("team-a", "nightly", "AlertsDelivered"), "");
    assert_eq!(api.says("team-a", "nightly", "Stalled"), "");
    let status = api.object("team-a", "nightly")["status"].clone();
    assert_eq!((&status["phase"], &status["observedGeneration"]), (&json!("Pending"), &json!(1)));
    assert_eq!(api.writes().len(), 1, "one write a new object: {:?}", api.writes());

    f.check_in(&job("nightly"), SignalKind::Ok).await;
    f.evaluate().await;
    api.until_says("team-a", "nightly", "OnTime", "True/CheckedIn").await;
    let status = api.object("team-a", "nightly")["status"].clone();
    assert!(status["lastCheckinTime"].is_string() && status["nextDeadlineTime"].is_string(), "{status}");

    f.pass(2 * HOUR).await;
    f.evaluate().await;
    api.until_says("team-a", "nightly", "OnTime", "False/DeadlineMissed").await;
    assert_eq!(api.says("team-a", "nightly", "Ready"), "True/Watching", "a late job is watched");
    assert_eq!(api.says("team-a", "nightly", "AlertsDelivered"), "Unknown/Sending");
    f.deliver("chat").await;
    api.until_says("team-a", "nightly", "AlertsDelivered", "True/Sent").await;
    f.check_in(&job("nightly"), SignalKind::Ok).await;
    f.evaluate().await;
    api.until_says("team-a", "nightly", "OnTime", "True/CheckedIn").await;
    eventually(LONG, "the events", async || api.events() == ["DeadlineMissed", "CheckedIn"]).await;

    api.delete("team-a", "nightly");
    eventually(LONG, "the checkout", async || f.store.reservation(&job("nightly")).await.unwrap().is_none())
        .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_is_not_written_again_nor_after_a_restart() {
    let (f, api) = (fixture().await, KubeApi::new());
    let controller = Controller::start(&f.store, &api, "{}").await;
    for n in 0..30 {
        api.apply("team-a", &format!("job-{n}"), spec(&format!("job-{n}")));
    }
    for n in 0..30 {
        api.until_says("team-a", &format!("job-{n}"), "Ready", "True/Watching").await;
    }
    controller.until_figure("gotel_operator_objects{ready=\"True\"}", 30.0).await;
    assert_eq!(api.writes().len(), 30);
    let passes = "gotel_operator_reconciliations_total{result=\"unchanged\"}";
    assert_eq!(controller.figure(passes), None, "its own writes wake nobody");
    controller.stop().await;

    api.forget();
    let controller = Controller::start(&f.store, &api, "{}").await;
    controller.until_figure(passes, 30.0).await;
    controller.until_figure("gotel_operator_objects{ready=\"True\"}", 30.0).await;
    assert_eq!(api.writes(), []);
    // A watch that grew too old: everything is listed anew, and nothing looked at.
    api.compact();
    controller.until_figure("gotel_operator_watch_restarts_total", 2.0).await;
    api.apply("team-a", "one-more", spec("one-more"));
    api.until_says("team-a", "one-more", "Ready", "True/Watching").await;
    assert_eq!((api.writes().len(), controller.figure(passes)), (1, Some(30.0)));
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_check_ins_write_the_transition_and_no_more() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    let controller = Controller::start(&f.store, &api, "{}").await;
    api.apply("team-a", "busy", spec("busy"));
    api.until_says("team-a", "busy", "Ready", "True/Watching").await;
    f.check_in(&job("busy"), SignalKind::Ok).await;
    f.evaluate().await;
    api.until_says("team-a", "busy", "OnTime", "True/CheckedIn").await;
    api.forget();
    for _ in 0..1000 {
        f.check_in(&job("busy"), SignalKind::Ok).await;
    }
    // A later object's transition shows that the feed has looked since.
    api.apply("team-a", "other", spec("other"));
    api.until_says("team-a", "other", "Ready", "True/Watching").await;
    f.check_in(&job("other"), SignalKind::Ok).await;
    f.evaluate().await;
    api.until_says("team-a", "other", "OnTime", "True/CheckedIn").await;
    let writes = api.writes();
    assert!(writes.iter().all(|asked| !asked.path.contains("/busy/")), "{writes:?}");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_refreshed_when_it_may_be_again() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    let config = OperatorConfig { times_every_ms: 1000, ..configuration("{}") };
    let controller = Controller::configured(&f.store, &api, config, "gotel-0").await;
    api.apply("team-a", "busy", spec("busy"));
    api.until_says("team-a", "busy", "Ready", "True/Watching").await;
    f.check_in(&job("busy"), SignalKind::Ok).await;
    f.evaluate().await;
    api.until_says("team-a", "busy", "OnTime", "True/CheckedIn").await;
    let times = || {
        let status = api.object("team-a", "busy")["status"].clone();
        (status["lastCheckinTime"].clone(), status["nextDeadlineTime"].clone())
    };
    for _ in 0..2 {
        let before = times();
        f.pass(MINUTE).await;
        f.check_in(&job("busy"), SignalKind::Ok).await;
        eventually(LONG, "both times", async || times().0 != before.0 && times().1 != before.1).await;
    }
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_object_and_a_new_generation_go_before_the_refreshes_that_wait() {
    const BUSY: usize = 100;
    let (mut f, api) = (fixture().await, KubeApi::new());
    let yaml = "{statusWritesPerSecond: 1}";
    let config = OperatorConfig { times_every_ms: 0, ..configuration(yaml) };
    let controller = Controller::configured(&f.store, &api, config, "gotel-0").await;
    let name = |n: usize| format!("busy-{n}");
    for n in 0..BUSY {
        api.apply("team-a", &name(n), spec(&name(n)));
    }
    for n in 0..BUSY {
        api.until_says("team-a", &name(n), "Ready", "True/Watching").await;
    }
    for n in 0..BUSY {
        f.check_in(&job(&name(n)), SignalKind::Ok).await;
    }
    f.evaluate().await;
    for n in 0..BUSY {
        api.until_says("team-a", &name(n), "OnTime", "True/CheckedIn").await;
    }
    f.pass(MINUTE).await;
    for n in 0..BUSY {
        f.check_in(&job(&name(n)), SignalKind::Ok).await;
    }
    let waiting = "gotel_operator_status_backlog";
    eventually(LONG, "the refreshes to wait", async || controller.figure(waiting) >= Some(50.0)).await;
    api.forget();
    let mut other = spec(&name(7));
    other["schedule"]["every"] = json!("2h");
    api.apply("team-a", &name(7), other);
    api.apply("team-a", "new", spec("new"));
    api.until_says("team-a", "new", "Ready", "True/Watching").await;
    eventually(LONG, "the new generation", async || {
        api.object("team-a", &name(7))["status"]["observedGeneration"] == 2
    })
    .await;
    // A hundred at one a second: they wait still.
    assert!(controller.figure(waiting) > Some(0.0), "{:?}", controller.figure(waiting));
    // The edited one may have been refreshed before it was edited.
    let edited = format!("/{}/status", name(7));
    let paths = api.writes().into_iter().map(|asked| asked.path);
    let paths: Vec<_> = paths.filter(|path| !path.ends_with(&edited)).collect();
    let distinct: std::collections::HashSet<_> = paths.iter().collect();
    assert_eq!(distinct.len(), paths.len(), "one write each: {paths:?}");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loser_of_a_conflict_says_so_frees_nothing_and_follows_when_the_winner_goes() {
    let (f, api) = (fixture().await, KubeApi::new());
    let controller = Controller::start(&f.store, &api, "{}").await;
    for name in ["first", "gone"] {
        api.apply("team-a", name, spec(name));
        api.until_says("team-a", name, "Ready", "True/Watching").await;
    }
    for name in ["first", "gone"] {
        api.apply("team-b", name, spec(name));
        api.until_says("team-b", name, "Ready", "False/Conflict").await;
        assert_eq!(api.says("team-b", name, "Stalled"), "True/Conflict");
    }
    let says = api.object("team-b", "first")["status"]["conditions"].to_string();
    assert!(says.contains("billing/first belongs to the Reservation team-a/first in cluster eu-1"), "{says}");
    assert_eq!(api.object("team-b", "first")["status"]["phase"], "Rejected");
    // The loser goes first, and then a winner: events come in order, so the second tells of the first.
    api.delete("team-b", "first");
    api.delete("team-a", "gone");
    api.until_says("team-b", "gone", "Ready", "True/Watching").await;
    assert_eq!(api.says("team-b", "gone", "Stalled"), "");
    assert!(f.store.reservation(&job("first")).await.unwrap().is_some());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loser_follows_when_the_winner_in_another_cluster_goes_and_writes_nothing_till_then() {
    let (f, here, there) = (fixture().await, KubeApi::new(), KubeApi::new());
    there.set_kube_system("cluster-2");
    let first = Controller::start(&f.store, &here, "{}").await;
    for name in ["moved", "kept"] {
        here.apply("team-a", name, spec(name));
        here.until_says("team-a", name, "Ready", "True/Watching").await;
    }
    let second = Controller::start(&f.store, &there, "{clusterName: us-1, conflictRetry: 1s}").await;
    for name in ["moved", "kept"] {
        there.apply("team-a", name, spec(name));
        there.until_says("team-a", name, "Ready", "False/Conflict").await;
    }
    let told = there.object("team-a", "moved")["status"]["conditions"].to_string();
    assert!(told.contains("the Reservation team-a/moved in cluster eu-1"), "{told}");
    eventually(LONG, "the events", async || there.events().len() == 2).await;
    there.forget();
    // It looks again and again, and has nothing to say.
    let looks = "gotel_operator_reconciliations_total{result=\"conflict\"}";
    eventually(LONG, "more looks", async || second.figure(looks) >= Some(6.0)).await;
    assert_eq!(there.writes(), []);
    here.delete("team-a", "moved");
    there.until_says("team-a", "moved", "Ready", "True/Watching").await;
    assert_eq!(there.says("team-a", "moved", "Stalled"), "");
    assert_eq!(there.says("team-a", "kept", "Ready"), "False/Conflict");
    // What is let go by hand is noticed as well.
    first.stop().await;
    f.store.release_cluster("eu-1").await.unwrap();
    f.store.checkout(&job("kept")).await.unwrap();
    there.until_says("team-a", "kept", "Ready", "True/Watching").await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http_made_is_adopted_by_the_annotation_alone() {
    let (f, api) = (fixture().await, KubeApi::new());
    let settings = crate::util::store::settings(crate::util::store::every("1h"));
    f.store.reserve(&job("old"), &settings).await.unwrap();
    let controller = Controller::start(&f.store, &api, "{}").await;
    api.apply("team-a", "old", spec("old"));
    api.until_says("team-a", "old", "Ready", "False/Conflict").await;
    api.apply_with("team-a", "old", spec("old"), json!({"gotel.dev/adopt": "true"}));
    api.until_says("team-a", "old", "Ready", "True/Watching").await;
    eventually(LONG, "the event", async || api.events().contains(&"Adopted".into())).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_only_the_controller_can_judge_is_refused_and_the_one_before_goes_on() {
    let (f, api) = (fixture().await, KubeApi::new());
    let controller = Controller::start(&f.store, &api, "{}").await;
    api.apply("team-a", "nightly", spec("nightly"));
    api.until_says("team-a", "nightly", "Ready", "True/Watching").await;
    let zone = json!({"cron": "0 3 * * *", "timeZone": "Mars/Base"});
    let cases = [
        (json!({"schedule": zone}), "InvalidSchedule"),
        (json!({"alerters": ["fax"]}), "UnknownAlerter"),
        (json!({"labels": {"a b": "c"}}), "InvalidSpec"),
    ];
    for (change, reason) in cases {
        let mut wrong = spec("nightly");
        for (field, value) in change.as_object().unwrap() {
            wrong[field] = value.clone();
        }
        api.apply("team-a", "nightly", wrong);
        api.until_says("team-a", "nightly", "Ready", &format!("False/{reason}")).await;
        assert_eq!(api.says("team-a", "nightly", "Stalled"), format!("True/{reason}"));
        assert_eq!(api.says("team-a", "nightly", "OnTime"), "Unknown/AwaitingFirstCheckin");
        let object = api.object("team-a", "nightly");
        assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
        let (view, _) = f.store.reservation(&job("nightly")).await.unwrap().unwrap();
        assert_eq!(view.settings.unwrap().schedule.describe(), "every hour");
    }
    api.apply("team-a", "nightly", spec("nightly"));
    api.until_says("team-a", "nightly", "Ready", "True/Watching").await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_may_not_claim_the_app_says_so_and_what_it_had_goes_on() {
    let (f, api) = (fixture().await, KubeApi::new());
    let controller = Controller::start(&f.store, &api, "{}").await;
    api.apply("team-a", "nightly", spec("nightly"));
    api.until_says("team-a", "nightly", "Ready", "True/Watching").await;
    controller.stop().await;
    let yaml = "{claims: {team-a: ['invoices*'], team-b: ['bill*']}}";
    let controller = Controller::start(&f.store, &api, yaml).await;
    for namespace in ["team-b", "team-c"] {
        api.apply(namespace, "weekly", spec(&format!("weekly-{namespace}")));
    }
    api.until_says("team-b", "weekly", "Ready", "True/Watching").await;
    for (namespace, name) in [("team-a", "nightly"), ("team-c", "weekly")] {
        api.until_says(namespace, name, "Ready", "False/NamespaceNotAllowed").await;
        assert_eq!(api.says(namespace, name, "Stalled"), "True/NamespaceNotAllowed");
    }
    let told = api.object("team-a", "nightly")["status"]["conditions"].to_string();
    assert!(told.contains("may claim: invoices*; choose another"), "{told}");
    let mut other = spec("nightly");
    other["schedule"]["every"] = json!("2h");
    api.apply("team-a", "nightly", other);
    eventually(LONG, "the second generation", async || {
        api.object("team-a", "nightly")["status"]["observedGeneration"] == 2
    })
    .await;
    let (view, _) = f.store.reservation(&job("nightly")).await.unwrap().unwrap();
    assert_eq!(view.settings.unwrap().schedule.describe(), "every hour");
    assert!(f.store.reservation(&job("weekly-team-c")).await.unwrap().is_none());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_pauses_and_a_snooze_is_shown() {
    let (f, api) = (fixture().await, KubeApi::new());
    let controller = Controller::start(&f.store, &api, "{}").await;
    let mut paused = spec("nightly");
    paused["suspend"] = json!(true);
    api.apply("team-a", "nightly", paused);
    api.until_says("team-a", "nightly", "Ready", "True/Suspended").await;
    assert_eq!(api.says("team-a", "nightly", "OnTime"), "Unknown/Suspended");
    assert_eq!(api.object("team-a", "nightly")["status"]["phase"], "Suspended");
    api.apply("team-a", "nightly", spec("nightly"));
    api.until_says("team-a", "nightly", "Ready", "True/Watching").await;
    let of = |now: i64| gotel::reservation::snooze::Snooze { from_ms: now, until_ms: now + HOUR };
    f.store.snooze(&job("nightly"), of, None, None).await.unwrap();
    api.until_says("team-a", "nightly", "OnTime", "Unknown/Snoozed").await;
    f.store.unsnooze(&job("nightly")).await.unwrap();
    api.until_says("team-a", "nightly", "OnTime", "Unknown/AwaitingFirstCheckin").await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_does_not_stop_the_others() {
    let (f, api) = (fixture().await, KubeApi::new());
    let broken: Value = json!({"app": 5, "component": ["x"], "schedule": "often"});
    api.apply("team-a", "broken", broken.clone());
    let controller = Controller::start(&f.store, &api, "{}").await;
    api.apply("team-a", "later", broken);
    api.apply("team-a", "good", spec("good"));
    api.until_says("team-a", "good", "Ready", "True/Watching").await;
    for name in ["broken", "later"] {
        api.until_says("team-a", name, "Ready", "False/Unreadable").await;
    }
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_namespaces_are_watched_and_the_others_rows_are_left_alone() {
    let (f, api) = (fixture().await, KubeApi::new());
    let controller = Controller::start(&f.store, &api, "{}").await;
    for namespace in ["team-a", "team-b", "team-c"] {
        api.apply(namespace, "job", spec(namespace));
        api.until_says(namespace, "job", "Ready", "True/Watching").await;
    }
    controller.stop().await;
    let controller =
        Controller::start(&f.store, &api, "{namespaces: [team-a, team-b], orphanGrace: 0s}").await;
    api.apply("team-c", "more", spec("more"));
    for namespace in ["team-a", "team-b"] {
        api.apply(namespace, "more", spec(&format!("more-{namespace}")));
        api.until_says(namespace, "more", "Ready", "True/Watching").await;
    }
    api.delete("team-a", "job");
    eventually(LONG, "the checkout", async || f.store.reservation(&job("team-a")).await.unwrap().is_none())
        .await;
    assert_eq!(api.says("team-c", "more", "Ready"), "");
    assert!(f.store.reservation(&job("team-c")).await.unwrap().is_some());
    let held = ObjectId {
        cluster: "eu-1".into(),
        namespace: "team-c".into(),
        name: "job".into(),
        uid: String::new(),
    };
    assert_eq!(f.store.object(&held).await.unwrap().unwrap().held.orphaned_ms, None);
    controller.stop().await;
}
