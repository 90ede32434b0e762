//! The controller on real API servers, with the rights that the chart gives it and nothing more.
//!
//! The shared clusters serve many tests at once: each watches its own namespaces only. What is broken is a private one.

use serde_json::{Value, json};

use super::team::{
    LATER, SOON, at, define, figure, gotel, is_watched, object, says, sqlite, team, until_says, yaml,
};
use crate::util::chaos::ChaosProxy;
use crate::util::cluster::{Cluster, Process};
use crate::util::db::{Backend, TestDb};
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn an_object_lives_its_life_under_the_rights_of_the_chart() {
    let Some(cluster) = Cluster::shared() else { return };
    let (team, kubeconfig) = team(&cluster, "life").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, "", &hook)).await;
    let nightly =
        object("nightly", json!({"schedule": {"every": "20s"}, "firstWithin": "1h", "realert": "never"}));
    team.apply(&nightly).await.ok();
    team.kubectl(&["wait", "--for=condition=Ready", "rsv/nightly", "--timeout=60s"]).await.ok();
    node.signal("billing", "nightly", "").await;
    until_says(&team, "nightly", "OnTime", "True/CheckedIn").await;
    until_says(&team, "nightly", "OnTime", "False/DeadlineMissed").await;
    until_says(&team, "nightly", "AlertsDelivered", "True/Sent").await;
    assert_eq!(says(&team, "nightly", "Ready").await, "True/Watching");
    let table = team.kubectl(&["get", "rsv"]).await.ok();
    let head = "NAME      APP       COMPONENT   PHASE   LAST CHECKIN   DEADLINE";
    assert!(table.starts_with(head) && table.contains("Late"), "{table}");
    let late = team.json(&["get", "rsv", "--field-selector", "status.phase=Late,spec.app=billing"]).await;
    assert_eq!(late["items"].as_array().unwrap().len(), 1);
    eventually(SOON, "the event", async || {
        team.kubectl(&["get", "events"]).await.out.contains("DeadlineMissed")
    })
    .await;

    // Applied again, nothing is different, and nobody is disturbed.
    let written = figure(&node, "gotel_operator_api_writes_total").await;
    let version = team.json(&["get", "rsv", "nightly"]).await["metadata"]["resourceVersion"].clone();
    team.apply(&nightly).await.ok();
    let diff = ["-n", &team.name, "diff", "--server-side", "-f", "-"];
    cluster.kubectl_with(cluster.kubeconfig(), &diff, &nightly).await.ok();
    assert_eq!(team.json(&["get", "rsv", "nightly"]).await["metadata"]["resourceVersion"], version);
    assert_eq!(figure(&node, "gotel_operator_api_writes_total").await, written);

    let refused = node.post("/checkout", json!({"app": "billing", "component": "nightly"})).await;
    assert!(
        refused.0 == 409 && refused.1.contains(&format!("{}/nightly in cluster eu", team.name)),
        "{refused:?}"
    );
    team.kubectl(&["delete", "rsv", "nightly", "--timeout=30s"]).await.ok();
    eventually(SOON, "the checkout", async || !is_watched(&node, "nightly").await).await;
    assert_eq!(figure(&node, "gotel_operator_api_writes_total{kind=\"event\",result=\"failed\"").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_is_kept_by_the_api_server_with_the_remedy() {
    let Some(cluster) = Cluster::shared() else { return };
    define(&cluster).await;
    let namespace = cluster.namespace("rules").await;
    let dry = async |text: String| {
        let args = ["-n", &namespace.name, "apply", "--server-side", "--dry-run=server", "-f", "-"];
        cluster.kubectl_with(cluster.kubeconfig(), &args, &text).await
    };
    for good in [
        json!({}),
        json!({"app": "order entry", "component": "größe/x"}),
        json!({"schedule": {"cron": "0 3 * * *", "timeZone": "Europe/Amsterdam", "grace": "30m"}}),
        json!({"schedule": {"every": "8784h", "grace": "1d12h"}, "firstWithin": "10s", "maxRuntime": "1s"}),
        json!({"realert": "never", "notify": ["a@example.org", "#ops"], "alerters": ["pager"], "owner": "ada"}),
        json!({"realert": "0s", "escalation": [{"after": "30m", "alerters": ["pager"]}], "tolerance": 3}),
        json!({"message": "a\nb", "labels": {"team": "x"}, "suspend": true, "reclaimPolicy": "Retain"}),
    ] {
        dry(object("good", good)).await.ok();
    }
    for (bad, remedy) in [
        (json!({"app": " a"}), "`app` must not begin or end with a space"),
        (json!({"component": "a\nb"}), "control characters; remove them"),
        (json!({"app": "gotel"}), "choose another name"),
        (json!({"app": "x".repeat(151)}), "Too long"),
        (json!({"schedule": {"every": "1h", "cron": "0 3 * * *"}}), "exactly one of `every` and `cron`"),
        (json!({"schedule": {}}), "exactly one of `every` and `cron`"),
        (json!({"schedule": {"every": "1h", "timeZone": "UTC"}}), "only be set together with `cron`"),
        (json!({"schedule": {"every": "9s"}}), "`every` must be 10s or more; lengthen it"),
        (json!({"schedule": {"every": "8785h"}}), "`every` must be 8784h (366 days) or less"),
        (json!({"schedule": {"every": "90"}}), "write it as `90s`"),
        (json!({"schedule": {"every": "1h", "grace": "soon"}}), "`grace` must be a length of time"),
        (json!({"schedule": {"every": "1h", "grace": "9000h"}}), "`grace` must be 8784h"),
        (json!({"schedule": {"cron": "0 0 3 * * *"}}), "must be five fields"),
        (json!({"firstWithin": "5s"}), "`firstWithin` must be 10s or more"),
        (json!({"firstWithin": "a week"}), "`firstWithin` must be a length of time"),
        (json!({"maxRuntime": "10ms"}), "`maxRuntime` must be 1s or more"),
        (json!({"maxRuntime": "1x"}), "`maxRuntime` must be a length of time"),
        (json!({"realert": "often"}), "or `never`; write it as"),
        (json!({"realert": "30s"}), "`realert` must be 1m or more, or `never`"),
        (json!({"notify": ["a@example.org,b@example.org"]}), "give each entry on its own"),
        (json!({"notify": ["a", "a"]}), "duplicate entries"),
        (json!({"owner": "a\u{1b}b"}), "`owner` must be one line"),
        (json!({"escalation": [{"after": "30s", "alerters": ["p"]}]}), "`after` must be 1m or more"),
        (json!({"escalation": [{"after": "x", "alerters": ["p"]}]}), "`after` must be a length of time"),
        (json!({"tolerance": 101}), "less than or equal to 100"),
        (json!({"reclaimPolicy": "Keep"}), "\"Delete\", \"Retain\""),
    ] {
        let refused = dry(object("bad", bad)).await.refused();
        assert!(refused.contains(remedy), "{refused}");
    }
    namespace.apply(&object("kept", json!({}))).await.ok();
    let renamed = namespace.apply(&object("kept", json!({"component": "other"}))).await.refused();
    assert!(renamed.contains("delete this object and create another"), "{renamed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_share_a_database_and_the_first_claim_wins() {
    let Some((one, two)) = Cluster::both() else { return };
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let hook = Receiver::webhook().await;
    let ((here, eu), (there, us)) = (team(&one, "eu").await, team(&two, "us").await);
    let mut first = gotel(db.url(), &eu, &yaml("eu", &here.name, "", &hook)).await;
    let second = gotel(db.url(), &us, &yaml("us", &there.name, "", &hook)).await;
    here.apply(&object("nightly", json!({"schedule": {"every": "10s"}, "realert": "never"}))).await.ok();
    until_says(&here, "nightly", "Ready", "True/Watching").await;
    there.apply(&object("nightly", json!({}))).await.ok();
    until_says(&there, "nightly", "Ready", "False/Conflict").await;
    let why = there.json(&["get", "rsv", "nightly"]).await["status"].to_string();
    assert!(why.contains(&format!("Reservation {}/nightly in cluster eu", here.name)), "{why}");

    // Without the first cluster's replica the second one leads, and the late job is told once.
    first.kill9();
    let told = hook.received(1, LATER).await;
    assert_eq!(told.len(), 1);
    second.signal("billing", "nightly", "").await;
    first.start_again().await;
    until_says(&here, "nightly", "AlertsDelivered", "True/Sent").await;

    // The loser's end is not the winner's.
    there.kubectl(&["delete", "rsv", "nightly", "--timeout=30s"]).await.ok();
    there.apply(&object("other", json!({}))).await.ok();
    until_says(&there, "other", "Ready", "True/Watching").await;
    assert!(is_watched(&second, "nightly").await);

    // It moves to the other cluster without losing its history.
    let retain = json!({"schedule": {"every": "10s"}, "realert": "never", "reclaimPolicy": "Retain"});
    here.apply(&object("nightly", retain.clone())).await.ok();
    eventually(SOON, "the new spec to be taken in", async || {
        let object = here.json(&["get", "rsv", "nightly"]).await;
        object["status"]["observedGeneration"] == object["metadata"]["generation"]
    })
    .await;
    let checkins = first.json("/reservation/billing/nightly").await["result"]["number_of_checkins"].clone();
    assert_eq!(checkins, 1);
    here.kubectl(&["delete", "rsv", "nightly", "--timeout=30s"]).await.ok();
    let mut moved: Value = serde_json::from_str(&object("nightly", retain)).unwrap();
    moved["metadata"]["annotations"] = json!({"gotel.dev/adopt": "true"});
    there.apply(&moved.to_string()).await.ok();
    until_says(&there, "nightly", "Ready", "True/Watching").await;
    let checkins = second.json("/reservation/billing/nightly").await["result"]["number_of_checkins"].clone();
    assert_eq!(checkins, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_at_once_and_takes_its_reservations_along() {
    let Some(cluster) = Cluster::shared() else { return };
    define(&cluster).await;
    let team = cluster.namespace("gone").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    // The rights of an account in the namespace would go with it, and how much it saw of the end be a matter of luck.
    let node = gotel(db.url(), cluster.kubeconfig(), &yaml("eu", &team.name, "", &hook)).await;
    for name in ["one", "two"] {
        team.apply(&object(name, json!({}))).await.ok();
        until_says(&team, name, "Ready", "True/Watching").await;
    }
    cluster.kubectl(&["delete", "namespace", &team.name, "--timeout=60s"]).await.ok();
    for name in ["one", "two"] {
        eventually(SOON, "the checkout", async || !is_watched(&node, name).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_falls_silent_is_begun_anew() {
    let Some(cluster) = Cluster::shared() else { return };
    let (team, kubeconfig) = team(&cluster, "silent").await;
    let proxy = ChaosProxy::start(cluster.addr()).await;
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let through = text.replace(&cluster.addr().to_string(), &proxy.addr().to_string());
    std::fs::write(&kubeconfig, through).unwrap();
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, ", watchTimeout: 5s", &hook)).await;
    team.apply(&object("before", json!({}))).await.ok();
    until_says(&team, "before", "Ready", "True/Watching").await;
    proxy.freeze_existing();
    team.apply(&object("after", json!({}))).await.ok();
    until_says(&team, "after", "Ready", "True/Watching").await;
    assert_eq!(node.get("/readyz").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_down_keeps_no_page_waiting() {
    let Some(cluster) = Cluster::private() else { return };
    let (team, kubeconfig) = team(&cluster, "down").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, "", &hook)).await;
    team.apply(&object("late", json!({"schedule": {"every": "10s"}, "realert": "never"}))).await.ok();
    until_says(&team, "late", "Ready", "True/Watching").await;
    node.signal("billing", "late", "").await;
    cluster.kill9(Process::ApiServer);
    hook.received(1, SOON).await;
    node.signal("billing", "late", "").await;
    assert_eq!((node.get("/readyz").await.0, node.get("/livez").await.0), (200, 200));
    eventually(SOON, "the figure", async || figure(&node, "gotel_operator_api_up").await == 0.0).await;
    cluster.restart();
    team.apply(&object("new", json!({}))).await.ok();
    until_says(&team, "new", "Ready", "True/Watching").await;
    let lines = node.output();
    let said = lines.lines().filter(|line| line.contains("the Kubernetes API does not answer:")).count();
    assert_eq!(said, 1, "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_deleted_orphans_nothing_until_the_objects_are_back() {
    let Some(cluster) = Cluster::private() else { return };
    let (team, kubeconfig) = team(&cluster, "crd").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, ", orphanGrace: 0s", &hook)).await;
    let names = ["one", "two", "three"];
    for name in names {
        team.apply(&object(name, json!({}))).await.ok();
        until_says(&team, name, "Ready", "True/Watching").await;
    }
    cluster.kubectl(&["delete", "crd", "reservations.gotel.dev", "--timeout=60s"]).await.ok();
    eventually(LATER, "the brake", async || figure(&node, "gotel_operator_sweep_braked").await == 3.0).await;
    hook.received(1, SOON).await;
    for name in names {
        assert!(is_watched(&node, name).await, "{name}");
    }
    define(&cluster).await;
    for name in names {
        team.apply(&object(name, json!({}))).await.ok();
        until_says(&team, name, "Ready", "True/Watching").await;
    }
    eventually(LATER, "its end", async || figure(&node, "gotel_operator_sweep_braked").await == 0.0).await;
    // A newer definition keeps the objects.
    let crd = std::fs::read_to_string(at("crds/reservations.yaml")).unwrap();
    let newer = crd.replacen(
        "              suspend:\n",
        "              later:\n                type: string\n              suspend:\n",
        1,
    );
    assert_ne!(newer, crd);
    cluster.apply(&newer, &["--field-manager=tests", "--force-conflicts"]).await.ok();
    team.apply(&object("four", json!({"later": "x"}))).await.ok();
    until_says(&team, "four", "Ready", "True/Watching").await;
    for name in names {
        assert_eq!(says(&team, name, "Ready").await, "True/Watching");
    }
}
