//! What GoTel waits for in a real cluster, alive and with all else at work.

use serde_json::json;

use super::team::{
    LATER, SOON, define, figure, gotel, is_watched, object, says, sqlite, team, until_says, yaml,
};
use crate::util::cluster::Cluster;
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn without_the_definition_gotel_waits_alive_and_begins_when_it_is_applied() {
    let Some(cluster) = Cluster::private() else { return };
    let space = cluster.namespace("early").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let node = gotel(db.url(), cluster.kubeconfig(), &yaml("eu", &space.name, "", &hook)).await;
    let undefined = "gotel_operator_watches{state=\"undefined\"}";
    eventually(LATER, "the figure", async || figure(&node, undefined).await == 1.0).await;
    let age = "gotel_loop_age_seconds{name=\"controller\"}";
    eventually(SOON, "the loop to move", async || {
        let page = node.get("/metrics").await.1;
        assert!(page.contains(age), "{page}");
        figure(&node, age).await < 5.0
    })
    .await;
    assert_eq!((node.get("/livez").await.0, node.get("/readyz").await.0), (200, 200));
    let nodes = node.get("/nodes").await.1;
    assert!(nodes.contains("cannot be listed, as the definition is not there"), "{nodes}");
    let events = ["get", "events", "-A", "-o", "jsonpath={range .items[*]}{.reason} {end}"];
    eventually(SOON, "the event", async || {
        let reasons = cluster.kubectl(&events).await.ok();
        if reasons.contains("DefinitionMissing") { Ok(()) } else { Err(reasons) }
    })
    .await;

    define(&cluster).await;
    space.apply(&object("nightly", json!({}))).await.ok();
    until_says(&space, "nightly", "Ready", "True/Watching").await;
    eventually(SOON, "its end", async || figure(&node, undefined).await == 0.0).await;
    let lines = node.output();
    for said in [
        "the definition reservations.gotel.dev is not there",
        "the definition reservations.gotel.dev is there",
    ] {
        assert_eq!(lines.matches(said).count(), 1, "{said} in {lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_without_a_role_keeps_the_others_neither_waiting_nor_silent() {
    let Some(cluster) = Cluster::shared() else { return };
    let (team, kubeconfig) = team(&cluster, "mine").await;
    let other = cluster.namespace("theirs").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let both = format!("{}, {}", other.name, team.name);
    let node = gotel(db.url(), &kubeconfig, &yaml("eu", &both, ", orphanGrace: 0s", &hook)).await;
    for space in [&team, &other] {
        space
            .apply(&object(&space.name, json!({"schedule": {"every": "10s"}, "realert": "never"})))
            .await
            .ok();
    }
    until_says(&team, &team.name, "Ready", "True/Watching").await;
    let forbidden = "gotel_operator_watches{state=\"forbidden\"}";
    eventually(SOON, "the figure", async || figure(&node, forbidden).await == 1.0).await;
    node.signal("billing", &team.name, "").await;
    until_says(&team, &team.name, "OnTime", "True/CheckedIn").await;
    until_says(&team, &team.name, "OnTime", "False/DeadlineMissed").await;
    team.kubectl(&["delete", "rsv", &team.name, "--timeout=30s"]).await.ok();
    eventually(SOON, "the checkout", async || !is_watched(&node, &team.name).await).await;
    assert_eq!(says(&other, &other.name, "Ready").await, "");
    assert_eq!(node.get("/livez").await.0, 200);
    let lines = node.output();
    assert_eq!(lines.matches("Kubernetes objects cannot be watched").count(), 1, "{lines}");
}
