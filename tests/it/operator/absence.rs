//! The API server or the database away, while objects and jobs go on.

use serde_json::json;

use super::team::{
    LATER, LEADS, SOON, apply_all, events, gotel, names, object, says, sqlite, team, team_behind, told,
    until_figure, until_says, until_watched, yaml,
};
use crate::util::chaos::ChaosProxy;
use crate::util::cluster::Cluster;
use crate::util::db::{Backend, TestDb};
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_for_more_than_a_minute_delays_no_page_and_no_check_in() {
    let Some(cluster) = Cluster::shared() else { return };
    let proxy = ChaosProxy::start(cluster.addr()).await;
    let (team, kubeconfig) = team_behind(&cluster, "away", proxy.addr()).await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, "", &hook)).await;
    let late = [("late-0", "10s"), ("late-1", "20s"), ("late-2", "40s")];
    for (name, every) in late {
        let spec = json!({"schedule": {"every": every}, "firstWithin": "1h", "realert": "never"});
        team.apply(&object(name, spec)).await.ok();
    }
    team.apply(&object("good", json!({}))).await.ok();
    until_watched(&team, 4).await;
    proxy.refuse();
    proxy.cut();
    for (name, _) in late {
        node.signal("billing", name, "").await;
    }
    // Each is told of at its time, and in between the good one checks in.
    for (n, (name, _)) in late.iter().enumerate() {
        hook.received(n + 1, LATER).await;
        assert_eq!(told(&hook)[n], format!("trigger billing/{name}"));
        node.signal("billing", "good", "").await;
    }
    // After a minute this replica leaves the cluster to another one in it; there is none.
    until_figure(&node, LEADS, 0.0).await;
    node.gotel.printed("leaves controller/eu to others", SOON).await;
    node.signal("billing", "good", "").await;
    assert_eq!((node.get("/readyz").await.0, node.get("/livez").await.0), (200, 200));
    assert_eq!(
        says(&team, "good", "OnTime").await,
        "Unknown/AwaitingFirstCheckin",
        "nobody can say otherwise"
    );

    proxy.heal();
    until_says(&team, "good", "OnTime", "True/CheckedIn").await;
    for (name, _) in late {
        until_says(&team, name, "OnTime", "False/DeadlineMissed").await;
        until_says(&team, name, "AlertsDelivered", "True/Sent").await;
    }
    assert_eq!(told(&hook).len(), 3, "{:?}", told(&hook));
    let said = node.output().matches("the Kubernetes API does not answer: what is stored").count();
    assert_eq!(said, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_one_line_and_one_event_however_many_objects_wait() {
    let Some(cluster) = Cluster::shared() else { return };
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let proxy = ChaosProxy::start(db.server_addr().unwrap()).await;
    let (team, kubeconfig) = team(&cluster, "nodb").await;
    let hook = Receiver::webhook().await;
    // So that it still leads, and so may write, when the new objects come.
    let patient = "coordination: {valid: 50s, lease: 60s}\n";
    let yaml = format!("{patient}{}", yaml("eu", &team.name, "", &hook));
    let node = gotel(&db.url_through(proxy.addr()), &kubeconfig, &yaml).await;
    apply_all(&team, &names("old", 5)).await;
    until_watched(&team, 5).await;

    proxy.refuse();
    proxy.cut();
    apply_all(&team, &names("new", 5)).await;
    for name in names("new", 5) {
        until_says(&team, &name, "Ready", "Unknown/DatabaseUnavailable").await;
    }
    let right = ["DatabaseUnavailable Pod"];
    eventually(LATER, "the event", async || events(&team).await == right).await;
    assert_eq!(says(&team, "old-0", "Ready").await, "True/Watching", "what was known is not taken back");

    proxy.heal();
    until_watched(&team, 10).await;
    node.gotel.printed("Kubernetes objects are taken in again", SOON).await;
    assert_eq!(events(&team).await, right);
    let output = node.output();
    for line in ["Kubernetes objects wait for the database", "Kubernetes objects are taken in again"] {
        assert_eq!(output.matches(line).count(), 1, "{line}");
    }
}
