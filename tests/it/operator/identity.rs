//! Whose a reservation is: a wrong kubeconfig, an object made again, what HTTP made, a twin.

use serde_json::json;

use super::team::{
    LEADS, SOON, all_are_watched, apply_all, checkins, define, events, figure, gotel, is_watched, names,
    object, query, rights, sqlite, team, told, until_figure, until_says, until_told, until_watched, yaml,
};
use crate::util::cluster::Cluster;
use crate::util::db::{Backend, TestDb};
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

const CONFLICT: &str = "gotel_operator_cluster_conflict";

/// `billing/COMPONENT`, claimed by an object of another name.
fn twin(name: &str, component: &str) -> String {
    object(name, json!({"component": component}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubeconfig_of_another_cluster_takes_nothing_in_lets_nothing_go_and_people_are_told() {
    let Some((right, wrong)) = Cluster::both() else { return };
    let (team, kubeconfig) = team(&right, "mixed").await;
    define(&wrong).await;
    let there = wrong.twin(&team).await;
    let other = rights(&there, None, "").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let mut node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, ", orphanGrace: 0s", &hook)).await;
    let jobs = names("job", 3);
    apply_all(&team, &jobs).await;
    until_watched(&team, 3).await;
    assert_eq!(figure(&node, CONFLICT).await, 0.0);

    node.end().await;
    node.set_env(&[("KUBECONFIG", other.to_str().unwrap())]);
    node.start_again().await;
    there.apply(&object("foreign", json!({}))).await.ok();
    until_figure(&node, CONFLICT, 1.0).await;
    until_told(&hook, &["trigger gotel/cluster-conflict/eu"]).await;
    assert_eq!(figure(&node, LEADS).await, 0.0);
    assert!(!is_watched(&node, "foreign").await);
    all_are_watched(&node, &jobs).await;
    assert_eq!((node.get("/readyz").await.0, node.get("/livez").await.0), (200, 200));

    node.end().await;
    node.set_env(&[("KUBECONFIG", kubeconfig.to_str().unwrap())]);
    node.start_again().await;
    until_figure(&node, LEADS, 1.0).await;
    apply_all(&team, &names("more", 1)).await;
    until_watched(&team, 4).await;
    assert_eq!(figure(&node, CONFLICT).await, 0.0);
    all_are_watched(&node, &jobs).await;
    until_told(&hook, &["trigger gotel/cluster-conflict/eu", "resolve gotel/cluster-conflict/eu"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_made_again_unseen_has_its_former_ones_history() {
    let Some(cluster) = Cluster::shared() else { return };
    let (team, kubeconfig) = team(&cluster, "again").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let mut node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, "", &hook)).await;
    team.apply(&object("nightly", json!({}))).await.ok();
    until_watched(&team, 1).await;
    node.signal("billing", "nightly", "").await;
    until_says(&team, "nightly", "OnTime", "True/CheckedIn").await;
    let uid = async || team.json(&["get", "rsv", "nightly"]).await["metadata"]["uid"].clone();
    let former = uid().await;

    node.end().await;
    team.kubectl(&["delete", "rsv", "nightly", "--timeout=30s"]).await.ok();
    team.apply(&object("nightly", json!({"schedule": {"every": "2h"}}))).await.ok();
    let present = uid().await;
    assert_ne!(present, former);
    node.start_again().await;
    until_says(&team, "nightly", "Ready", "True/Watching").await;
    until_says(&team, "nightly", "OnTime", "True/CheckedIn").await;
    assert_eq!(query(&db, "SELECT uid FROM kube_object").await, [present.as_str().unwrap()]);
    assert_eq!(checkins(&node, "nightly").await, 1);
    until_figure(&node, "gotel_operator_orphans", 0.0).await;

    team.kubectl(&["delete", "rsv", "nightly", "--timeout=30s"]).await.ok();
    eventually(SOON, "the checkout", async || !is_watched(&node, "nightly").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http_made_is_adopted_and_its_twin_waits_until_it_goes() {
    let Some(cluster) = Cluster::shared() else { return };
    let (team, kubeconfig) = team(&cluster, "adopt").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, "", &hook)).await;
    node.reserve("billing", "nightly", json!({})).await;
    node.signal("billing", "nightly", "").await;
    team.apply(&object("nightly", json!({}))).await.ok();
    until_says(&team, "nightly", "Ready", "False/Conflict").await;
    let why = team.json(&["get", "rsv", "nightly"]).await["status"].to_string();
    assert!(why.contains("annotate this object with `gotel.dev/adopt: \\\"true\\\"`"), "{why}");

    team.kubectl(&["annotate", "rsv", "nightly", "gotel.dev/adopt=true"]).await.ok();
    until_says(&team, "nightly", "Ready", "True/Watching").await;
    until_says(&team, "nightly", "OnTime", "True/CheckedIn").await;
    let adopted = "Adopted Reservation".to_owned();
    eventually(SOON, "the event", async || events(&team).await.contains(&adopted)).await;
    assert_eq!(checkins(&node, "nightly").await, 1);

    // Whoever comes later has nothing, and its end is not the other's.
    team.apply(&twin("twin", "nightly")).await.ok();
    until_says(&team, "twin", "Ready", "False/Conflict").await;
    team.kubectl(&["delete", "rsv", "twin", "--timeout=30s"]).await.ok();
    team.apply(&object("after", json!({}))).await.ok();
    until_says(&team, "after", "Ready", "True/Watching").await;
    assert_eq!(checkins(&node, "nightly").await, 1);

    team.apply(&twin("heir", "nightly")).await.ok();
    until_says(&team, "heir", "Ready", "False/Conflict").await;
    team.kubectl(&["delete", "rsv", "nightly", "--timeout=30s"]).await.ok();
    until_says(&team, "heir", "Ready", "True/Watching").await;
    assert!(is_watched(&node, "nightly").await);
    assert_eq!(told(&hook), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_lost_to_another_cluster_holds_once_the_winner_is_deleted() {
    let Some((one, two)) = Cluster::both() else { return };
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let hook = Receiver::webhook().await;
    let ((here, eu), (there, us)) = (team(&one, "winner").await, team(&two, "loser").await);
    let _first = gotel(db.url(), &eu, &yaml("eu", &here.name, "", &hook)).await;
    let second = gotel(db.url(), &us, &yaml("us", &there.name, "", &hook)).await;
    here.apply(&object("nightly", json!({}))).await.ok();
    until_says(&here, "nightly", "Ready", "True/Watching").await;
    there.apply(&object("nightly", json!({}))).await.ok();
    until_says(&there, "nightly", "Ready", "False/Conflict").await;
    here.kubectl(&["delete", "rsv", "nightly", "--timeout=30s"]).await.ok();
    until_says(&there, "nightly", "Ready", "True/Watching").await;
    assert!(is_watched(&second, "nightly").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_may_not_be_told_apart_lets_nothing_go_when_it_has_none_of_the_objects() {
    let Some((right, wrong)) = Cluster::both() else { return };
    let (team, hook) = (right.namespace("hidden").await, Receiver::webhook().await);
    let there = wrong.twin(&team).await;
    let mut kubeconfigs = Vec::new();
    for namespace in [&team, &there] {
        define(&namespace.cluster).await;
        kubeconfigs.push(rights(namespace, None, "rbac.identity=false").await);
    }
    let db = sqlite().await;
    let yaml = yaml("eu", &team.name, ", orphanGrace: 0s", &hook);
    let mut node = gotel(db.url(), &kubeconfigs[0], &yaml).await;
    let jobs = names("job", 3);
    apply_all(&team, &jobs).await;
    until_watched(&team, 3).await;

    node.end().await;
    node.set_env(&[("KUBECONFIG", kubeconfigs[1].to_str().unwrap())]);
    node.start_again().await;
    until_figure(&node, "gotel_operator_sweep_braked", 3.0).await;
    until_told(&hook, &["trigger gotel/sweep-braked/eu"]).await;
    all_are_watched(&node, &jobs).await;

    node.end().await;
    node.set_env(&[("KUBECONFIG", kubeconfigs[0].to_str().unwrap())]);
    node.start_again().await;
    until_told(&hook, &["trigger gotel/sweep-braked/eu", "resolve gotel/sweep-braked/eu"]).await;
    all_are_watched(&node, &jobs).await;
}
