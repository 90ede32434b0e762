//! What the controller does when the cluster, the database or somebody's kubeconfig is not as it should be.

use std::sync::Arc;
use std::time::Duration;

use gotel::metrics::Metrics;
use gotel::operator::config::OperatorConfig;
use gotel::reservation::SignalKind;
use gotel::store::Store;
use serde_json::json;

use super::{fixture, job, spec};
use crate::util::chaos::ChaosProxy;
use crate::util::db::{Backend, TestDb};
use crate::util::kube::{Controller, KubeApi, configuration};
use crate::util::store::Fixture;
use crate::util::wait::eventually;

const LONG: Duration = Duration::from_secs(30);

async fn with_objects(f: &Fixture, api: &KubeApi, yaml: &str, count: usize) -> Controller {
    let controller = Controller::start(&f.store, api, yaml).await;
    for n in 0..count {
        api.apply("team-a", &format!("job-{n}"), spec(&format!("job-{n}")));
    }
    for n in 0..count {
        api.until_says("team-a", &format!("job-{n}"), "Ready", "True/Watching").await;
    }
    controller.until_figure("gotel_operator_objects{ready=\"True\"}", count as f64).await;
    controller
}

async fn watched(f: &Fixture, count: usize) -> usize {
    let mut watched = 0;
    for n in 0..count {
        watched += usize::from(f.store.reservation(&job(&format!("job-{n}"))).await.unwrap().is_some());
    }
    watched
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_vanished_unseen_is_watched_for_the_grace_and_then_let_go() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    with_objects(&f, &api, "{}", 3).await.stop().await;
    api.lose("team-a", "job-0");
    let controller = Controller::start(&f.store, &api, "{orphanGrace: 1h}").await;
    controller.until_figure("gotel_operator_orphans", 1.0).await;
    let orphans = "SELECT COUNT(*) FROM kube_object WHERE orphaned_ms IS NOT NULL";
    eventually(LONG, "the mark", async || f.number(orphans).await == 1).await;
    assert_eq!(watched(&f, 3).await, 3);
    f.pass(2 * crate::util::store::HOUR).await;
    eventually(LONG, "the end of the grace", async || watched(&f, 3).await == 2).await;
    controller.until_figure("gotel_operator_orphans", 0.0).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_there_again_is_no_orphan_any_more() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    with_objects(&f, &api, "{}", 2).await.stop().await;
    api.lose("team-a", "job-0");
    let controller = Controller::start(&f.store, &api, "{}").await;
    let orphans = "SELECT COUNT(*) FROM kube_object WHERE orphaned_ms IS NOT NULL";
    eventually(LONG, "the mark", async || f.number(orphans).await == 1).await;
    api.apply("team-a", "job-0", spec("job-0"));
    eventually(LONG, "its end", async || f.number(orphans).await == 0).await;
    assert_eq!(watched(&f, 2).await, 2);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_missing_at_once_pull_the_brake_and_people_are_told() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    with_objects(&f, &api, "{}", 12).await.stop().await;
    for n in 0..11 {
        api.lose("team-a", &format!("job-{n}"));
    }
    let controller = Controller::start(&f.store, &api, "{orphanGrace: 0s}").await;
    controller.until_figure("gotel_operator_sweep_braked", 11.0).await;
    let open = "SELECT COUNT(*) FROM incident WHERE open_key = 's/sweep-braked/eu-1'";
    eventually(LONG, "people are told", async || f.number(open).await == 1).await;
    eventually(LONG, "the event", async || api.events().contains(&"SweepBraked".into())).await;
    assert_eq!(watched(&f, 12).await, 12);
    assert_eq!(f.number("SELECT COUNT(*) FROM kube_object WHERE orphaned_ms IS NOT NULL").await, 0);
    for n in 0..11 {
        api.apply("team-a", &format!("job-{n}"), spec(&format!("job-{n}")));
    }
    controller.until_figure("gotel_operator_sweep_braked", 0.0).await;
    eventually(LONG, "the end of it", async || f.number(open).await == 0).await;
    controller.stop().await;
}

#[rstest::rstest]
#[case::for_a_moment(600_000, 0)]
#[case::for_long(1000, 1)]
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_answers_for_is_kept_and_told_when_that_lasts(
    #[case] unanswered_ms: i64,
    #[case] told: i64,
) {
    let (mut f, api) = (fixture().await, KubeApi::new());
    with_objects(&f, &api, "{}", 3).await.stop().await;
    api.forbid("/job-0");
    api.lose("team-a", "job-0");
    let config = OperatorConfig { unanswered_ms, ..configuration("{orphanGrace: 0s}") };
    let controller = Controller::configured(&f.store, &api, config, "gotel-0").await;
    controller.until_figure("gotel_operator_sweep_braked", 1.0).await;
    let open = "SELECT COUNT(*) FROM incident WHERE open_key = 's/sweep-braked/eu-1'";
    eventually(LONG, "people are told, or not", async || f.number(open).await == told).await;
    if told == 1 {
        let text = f.store.system_incidents().await.unwrap().remove(0).detail.unwrap();
        assert!(text.contains("1 of 3") && text.contains("is not answered"), "{text}");
    }
    assert_eq!(watched(&f, 3).await, 3);
    // Once it is answered, it is believed.
    api.allow();
    eventually(LONG, "the checkout", async || watched(&f, 3).await == 2).await;
    eventually(LONG, "the end of it", async || f.number(open).await == 0).await;
    controller.stop().await;
}

/// With `count` objects of team x there, the selector asks for another team's.
async fn another_selector(count: usize) -> (Fixture, KubeApi, Controller) {
    let (f, api) = (fixture().await, KubeApi::new());
    let controller = with_objects(&f, &api, "{}", count).await;
    for n in 0..count {
        api.label("team-a", &format!("job-{n}"), "team", "x");
    }
    controller.stop().await;
    let controller = Controller::start(&f.store, &api, "{selector: team=none, orphanGrace: 0s}").await;
    (f, api, controller)
}

#[rstest::rstest]
#[case::few(3)]
#[case::many(12)]
#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_only_not_selected_any_more_are_kept_and_people_are_told(#[case] count: usize) {
    let (mut f, api, controller) = another_selector(count).await;
    controller.until_figure("gotel_operator_sweep_braked", count as f64).await;
    let open = "SELECT COUNT(*) FROM incident WHERE open_key = 's/sweep-braked/eu-1'";
    eventually(LONG, "people are told", async || f.number(open).await == 1).await;
    if count == 3 {
        let told = f.store.system_incidents().await.unwrap().remove(0).detail.unwrap();
        assert!(told.contains("3 of 3") && told.contains("the selector may have changed"), "{told}");
    }
    assert_eq!(watched(&f, count).await, count);
    assert_eq!(f.number("SELECT COUNT(*) FROM kube_object WHERE orphaned_ms IS NOT NULL").await, 0);
    controller.stop().await;
    // With the selector put right it is over.
    let controller = Controller::start(&f.store, &api, "{selector: team=x, orphanGrace: 0s}").await;
    eventually(LONG, "the end of it", async || f.number(open).await == 0).await;
    assert_eq!(watched(&f, count).await, count);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_gone_is_let_go_beside_those_that_are_not_selected() {
    let (f, api, controller) = another_selector(3).await;
    controller.until_figure("gotel_operator_sweep_braked", 3.0).await;
    controller.stop().await;
    api.lose("team-a", "job-0");
    let controller = Controller::start(&f.store, &api, "{selector: team=none, orphanGrace: 0s}").await;
    eventually(LONG, "the checkout", async || watched(&f, 3).await == 2).await;
    controller.until_figure("gotel_operator_sweep_braked", 2.0).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_nobody_answers_for_are_kept() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    with_objects(&f, &api, "{}", 3).await.stop().await;
    api.lose("team-a", "job-0");
    api.forbid("reservations/job-0");
    let controller = Controller::start(&f.store, &api, "{orphanGrace: 0s}").await;
    controller.until_figure("gotel_operator_sweep_braked", 1.0).await;
    assert_eq!(watched(&f, 3).await, 3);
    assert_eq!(f.number("SELECT COUNT(*) FROM kube_object WHERE orphaned_ms IS NOT NULL").await, 0);
    api.allow();
    eventually(LONG, "the checkout", async || watched(&f, 3).await == 2).await;
    controller.until_figure("gotel_operator_sweep_braked", 0.0).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_that_may_not_be_identified_nothing_goes_when_none_is_there() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    with_objects(&f, &api, "{}", 3).await.stop().await;
    // As with a kubeconfig of another cluster.
    let other = KubeApi::new();
    other.forbid("namespaces/kube-system");
    let controller = Controller::start(&f.store, &other, "{orphanGrace: 0s}").await;
    controller.until_figure("gotel_operator_sweep_braked", 3.0).await;
    let open = "SELECT COUNT(*) FROM incident WHERE open_key = 's/sweep-braked/eu-1'";
    eventually(LONG, "people are told", async || f.number(open).await == 1).await;
    assert_eq!(watched(&f, 3).await, 3);
    assert_eq!(f.number("SELECT COUNT(*) FROM kube_object WHERE orphaned_ms IS NOT NULL").await, 0);
    controller.stop().await;
    // One that is gone from the right one goes.
    api.forbid("namespaces/kube-system");
    api.lose("team-a", "job-0");
    let controller = Controller::start(&f.store, &api, "{orphanGrace: 0s}").await;
    eventually(LONG, "the checkout", async || watched(&f, 3).await == 2).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_deleted_takes_no_reservation_along_nor_when_it_is_made_again() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    let controller = with_objects(&f, &api, "{orphanGrace: 0s}", 3).await;
    api.delete_definition(None);
    controller.until_figure("gotel_operator_sweep_braked", 3.0).await;
    assert_eq!(watched(&f, 3).await, 3);
    api.define("crd-2");
    for n in 0..2 {
        api.apply("team-a", &format!("job-{n}"), spec(&format!("job-{n}")));
        api.until_says("team-a", &format!("job-{n}"), "Ready", "True/Watching").await;
    }
    controller.until_figure("gotel_operator_sweep_braked", 1.0).await;
    assert_eq!(watched(&f, 3).await, 3, "the one that is missing still is watched");
    api.apply("team-a", "job-2", spec("job-2"));
    controller.until_figure("gotel_operator_sweep_braked", 0.0).await;
    // From now on a deletion is one again.
    let noted = "SELECT COUNT(*) FROM kube_cluster WHERE definition = 'crd-2'";
    eventually(LONG, "the new definition is noted", async || f.number(noted).await == 1).await;
    api.delete("team-a", "job-2");
    eventually(LONG, "the checkout", async || watched(&f, 3).await == 2).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_namespace_full_of_objects_lets_them_all_go() {
    let (f, api) = (fixture().await, KubeApi::new());
    let controller = with_objects(&f, &api, "{}", 15).await;
    for n in 0..15 {
        api.delete("team-a", &format!("job-{n}"));
    }
    eventually(LONG, "the checkouts", async || watched(&f, 15).await == 0).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_look_at_the_definition_many_deletions_at_once_are_not_believed() {
    let (f, api) = (fixture().await, KubeApi::new());
    api.forbid("customresourcedefinitions");
    let controller = with_objects(&f, &api, "{orphanGrace: 0s}", 13).await;
    api.delete("team-a", "job-12");
    eventually(LONG, "one is believed", async || watched(&f, 13).await == 12).await;
    api.delete_definition(Some("crd-2"));
    controller.until_figure("gotel_operator_sweep_braked", 12.0).await;
    assert_eq!(watched(&f, 12).await, 12);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_not_there_yet_is_waited_for_alive_and_said_once() {
    let (f, api) = (fixture().await, KubeApi::new());
    api.delete_definition(None);
    let controller = Controller::start(&f.store, &api, "{}").await;
    controller.until_figure("gotel_operator_watches{state=\"undefined\"}", 1.0).await;
    // Its work stands still, and the loop moves: nobody restarts this process for it.
    eventually(LONG, "the loop to move without its work", async || {
        let pulse = controller.pulse();
        if pulse.done_age_ms > pulse.age_ms + 5000 { Ok(()) } else { Err(format!("{pulse:?}")) }
    })
    .await;
    let note = controller.pulse().note;
    assert_eq!(note, "objects cannot be listed, as the definition is not there");
    eventually(LONG, "the event", async || api.events() == ["DefinitionMissing"]).await;
    api.define("crd-1");
    api.apply("team-a", "nightly", spec("nightly"));
    api.until_says("team-a", "nightly", "Ready", "True/Watching").await;
    controller.until_figure("gotel_operator_watches{state=\"up\"}", 1.0).await;
    eventually(LONG, "its work", async || controller.pulse().note == "writes for cluster eu-1: 1 objects")
        .await;
    assert_eq!(api.events(), ["DefinitionMissing"]);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_may_not_be_listed_keeps_no_other_waiting_and_loses_nothing() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    let yaml = "{namespaces: [team-a, team-b], orphanGrace: 0s}";
    let controller = Controller::start(&f.store, &api, yaml).await;
    for (namespace, name) in [("team-a", "a"), ("team-b", "b"), ("team-b", "gone"), ("team-b", "lost")] {
        api.apply(namespace, name, spec(name));
        api.until_says(namespace, name, "Ready", "True/Watching").await;
    }
    controller.stop().await;

    api.forbid("namespaces/team-a/reservations");
    api.lose("team-b", "lost");
    let controller = Controller::start(&f.store, &api, yaml).await;
    controller.until_figure("gotel_operator_watches{state=\"forbidden\"}", 1.0).await;
    // Feed, deletions and sweep of the other one.
    f.check_in(&job("b"), SignalKind::Ok).await;
    f.evaluate().await;
    api.until_says("team-b", "b", "OnTime", "True/CheckedIn").await;
    api.delete("team-b", "gone");
    for name in ["gone", "lost"] {
        let what = format!("the checkout of {name}");
        eventually(LONG, what, async || f.store.reservation(&job(name)).await.unwrap().is_none()).await;
    }
    assert!(f.store.reservation(&job("a")).await.unwrap().is_some());
    assert_eq!(f.number("SELECT COUNT(*) FROM kube_object WHERE orphaned_ms IS NOT NULL").await, 0);
    let note = controller.pulse().note;
    assert!(note.ends_with("; those of team-a may not be listed"), "{note}");

    // And once it may be, it goes on where it was.
    api.allow();
    f.check_in(&job("a"), SignalKind::Ok).await;
    f.evaluate().await;
    api.until_says("team-a", "a", "OnTime", "True/CheckedIn").await;
    controller.until_figure("gotel_operator_watches{state=\"up\"}", 2.0).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_fails_for_a_while_is_caught_up_with() {
    let (f, api) = (fixture().await, KubeApi::new());
    let controller = with_objects(&f, &api, "{}", 2).await;
    api.fail(Some(503));
    api.apply("team-a", "new", spec("new"));
    api.delete("team-a", "job-1");
    assert_eq!(watched(&f, 2).await, 2);
    api.freeze(true);
    api.fail(None);
    assert_eq!(watched(&f, 2).await, 2);
    api.freeze(false);
    api.until_says("team-a", "new", "Ready", "True/Watching").await;
    eventually(LONG, "the checkout", async || watched(&f, 2).await == 1).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_always_refused_is_tried_less_and_less_often() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    let controller = with_objects(&f, &api, "{}", 2).await;
    api.forbid("/job-0/status");
    for name in ["job-0", "job-1"] {
        f.check_in(&job(name), SignalKind::Ok).await;
    }
    f.evaluate().await;
    api.until_says("team-a", "job-1", "OnTime", "True/CheckedIn").await;
    // Six looks at the database, each of which shows the other one and finds that this one says what is no longer so.
    for (kind, says) in [(SignalKind::Fail, "False/JobFailed"), (SignalKind::Ok, "True/CheckedIn")].repeat(3)
    {
        f.check_in(&job("job-1"), kind).await;
        f.evaluate().await;
        api.until_says("team-a", "job-1", "OnTime", says).await;
    }
    // After 0, 5, 15, 35 and 75 seconds.
    let failed = controller.figure("gotel_operator_reconciliations_total{result=\"failed\"}").unwrap();
    assert!((1.0..=4.0).contains(&failed), "it was tried {failed} times");
    api.allow();
    api.until_says("team-a", "job-0", "OnTime", "True/CheckedIn").await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_is_given_up_while_the_others_go_on() {
    let (f, api) = (fixture().await, KubeApi::new());
    api.hang(Some("/job-0/status"));
    let controller = Controller::start(&f.store, &api, "{}").await;
    for n in 0..4 {
        api.apply("team-a", &format!("job-{n}"), spec(&format!("job-{n}")));
    }
    for n in 1..4 {
        api.until_says("team-a", &format!("job-{n}"), "Ready", "True/Watching").await;
    }
    eventually(LONG, "it to be given up", async || {
        controller.figure("gotel_operator_reconciliations_total{result=\"failed\"}") >= Some(1.0)
    })
    .await;
    assert_eq!(api.says("team-a", "job-0", "Ready"), "");
    assert!(f.store.reservation(&job("job-0")).await.unwrap().is_some(), "it is watched all the same");
    api.hang(None);
    api.until_says("team-a", "job-0", "Ready", "True/Watching").await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_object_finds_room_while_the_status_of_many_others_hangs() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    let controller = with_objects(&f, &api, "{}", 20).await;
    api.hang(Some("/job-"));
    for n in 0..20 {
        f.check_in(&job(&format!("job-{n}")), SignalKind::Ok).await;
    }
    f.evaluate().await;
    // Half of those that may be looked at at a time.
    controller.until_figure("gotel_operator_status_backlog", 12.0).await;
    api.apply("team-a", "new", spec("new"));
    api.until_says("team-a", "new", "Ready", "True/Watching").await;
    api.hang(None);
    for n in 0..20 {
        api.until_says("team-a", &format!("job-{n}"), "OnTime", "True/CheckedIn").await;
    }
    controller.until_figure("gotel_operator_status_backlog", 0.0).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_gone_is_released_by_the_command() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let (mut f, api) = (Fixture::new(db).await, KubeApi::new());
    with_objects(&f, &api, "{}", 2).await.stop().await;
    let release = async |name: &str| {
        let mut gotel = tokio::process::Command::new(env!("CARGO_BIN_EXE_gotel"));
        gotel.args(["cluster", "release", name]).env_clear().env("GOTEL_DATABASE_URL", f.db().url());
        let ran = gotel.output().await.expect("the program runs");
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    };
    assert_eq!(release("us-1").await, "0 reservations of cluster us-1 belong to the API now.\n");
    assert_eq!(release("eu-1").await, "2 reservations of cluster eu-1 belong to the API now.\n");
    assert_eq!(f.number("SELECT COUNT(*) FROM kube_object").await, 0);
    assert_eq!(f.number("SELECT COUNT(*) FROM kube_cluster").await, 0, "its name is free");
    assert_eq!(watched(&f, 2).await, 2);
    f.store.checkout(&job("job-0")).await.unwrap();
    assert_eq!(watched(&f, 2).await, 1, "they are HTTP's to end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_cluster_under_the_same_name_takes_nothing_in_and_people_are_told() {
    let (mut f, api) = (fixture().await, KubeApi::new());
    with_objects(&f, &api, "{}", 1).await.stop().await;
    let other = KubeApi::new();
    other.set_kube_system("cluster-2");
    other.apply("team-a", "wrong", spec("wrong"));
    let controller = Controller::start(&f.store, &other, "{orphanGrace: 0s}").await;
    controller.until_figure("gotel_operator_cluster_conflict", 1.0).await;
    let open = "SELECT COUNT(*) FROM incident WHERE open_key = 's/cluster-conflict/eu-1'";
    eventually(LONG, "people are told", async || f.number(open).await == 1).await;
    assert_eq!(controller.figure("gotel_operator_leads"), Some(0.0));
    assert!(f.store.reservation(&job("wrong")).await.unwrap().is_none());
    assert_eq!(watched(&f, 1).await, 1);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_in_a_cluster_one_writes_and_the_other_takes_over() {
    let (f, api) = (fixture().await, KubeApi::new());
    let config = configuration("{}");
    // On SQLite a process leads alone; the lease of the first is what keeps the second out.
    let first = Controller::configured(&f.store, &api, config.clone(), "gotel-0").await;
    first.until_figure("gotel_operator_leads", 1.0).await;
    api.apply("team-a", "job-0", spec("job-0"));
    api.until_says("team-a", "job-0", "Ready", "True/Watching").await;
    first.stop().await;
    let second = Controller::configured(&f.store, &api, config, "gotel-1").await;
    second.until_figure("gotel_operator_leads", 1.0).await;
    api.apply("team-a", "job-1", spec("job-1"));
    api.until_says("team-a", "job-1", "Ready", "True/Watching").await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_one_event_and_new_objects_say_what_they_wait_for() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let proxy = ChaosProxy::start(db.server_addr().unwrap()).await;
    let store = Store::open(&db.url_through(proxy.addr()), Arc::new(Metrics::new())).unwrap();
    store.migrate().await.unwrap();
    let api = KubeApi::new();
    let config =
        OperatorConfig { pod: Some("gotel-7".into()), pod_uid: Some("uid-7".into()), ..configuration("{}") };
    let controller = Controller::configured(&store, &api, config, "eu-1-7").await;
    api.apply("team-a", "old", spec("old"));
    api.until_says("team-a", "old", "Ready", "True/Watching").await;
    proxy.refuse();
    proxy.cut();
    api.forget();
    for n in 0..5 {
        api.apply("team-a", &format!("job-{n}"), spec(&format!("job-{n}")));
    }
    for n in 0..5 {
        api.until_says("team-a", &format!("job-{n}"), "Ready", "Unknown/DatabaseUnavailable").await;
    }
    eventually(LONG, "the event", async || api.events() == ["DatabaseUnavailable"]).await;
    let event = api.writes().into_iter().find(|asked| asked.path.contains("/events")).unwrap().body;
    let at = (&event["regarding"]["kind"], &event["regarding"]["name"], &event["reportingInstance"]);
    assert_eq!(at, (&json!("Pod"), &json!("gotel-7"), &json!("gotel-7")), "{event}");
    assert_eq!(event["regarding"]["uid"], "uid-7", "{event}");
    assert_eq!(api.says("team-a", "old", "Ready"), "True/Watching", "what was known is not taken back");
    assert_eq!(api.writes().len(), 6, "one status each, and one event: {:?}", api.writes());
    proxy.heal();
    for n in 0..5 {
        api.until_says("team-a", &format!("job-{n}"), "Ready", "True/Watching").await;
    }
    assert_eq!(api.events(), ["DatabaseUnavailable"]);
    controller.stop().await;
}
