//! Objects that are gone, and such as only seem to be.

use serde_json::json;

use super::team::{
    LATER, LEADS, SOON, all_are_watched, apply_all, define, figure, gotel, is_watched, names, narrow, object,
    query, rights, sqlite, team, told, until_figure, until_says, until_told, until_watched, yaml,
};
use crate::util::chaos::ChaosProxy;
use crate::util::cluster::{Cluster, Process};
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

const LISTS: &str = "gotel_operator_watch_restarts_total";
const ORPHANS: &str = "gotel_operator_orphans";
const BRAKED: &str = "gotel_operator_sweep_braked";

/// Objects that are marked as missing.
const MARKED: &str = "SELECT name FROM kube_object WHERE orphaned_ms IS NOT NULL";

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_the_server_is_too_young_for_misses_neither_a_change_nor_a_deletion() {
    let Some(cluster) = Cluster::private() else { return };
    define(&cluster).await;
    let (team, proxy) = (cluster.namespace("gone").await, ChaosProxy::start(cluster.addr()).await);
    let kubeconfig = rights(&team, Some(proxy.addr()), "").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, ", orphanGrace: 0s", &hook)).await;
    apply_all(&team, &names("job", 4)).await;
    until_watched(&team, 4).await;
    let lists = figure(&node, LISTS).await;

    proxy.refuse();
    proxy.cut();
    team.kubectl(&["delete", "rsv", "job-0", "--timeout=30s"]).await.ok();
    team.apply(&object("job-1", json!({"schedule": {"every": "2h"}}))).await.ok();
    // One that begins anew remembers nothing of what was: whoever asks for it is told that it is gone.
    cluster.kill9(Process::ApiServer);
    cluster.restart();
    assert!(is_watched(&node, "job-0").await);
    proxy.heal();

    eventually(LATER, "the change", async || {
        let object = team.json(&["get", "rsv", "job-1"]).await;
        object["status"]["observedGeneration"] == object["metadata"]["generation"]
    })
    .await;
    eventually(LATER, "the deletion", async || !is_watched(&node, "job-0").await).await;
    assert_eq!(figure(&node, LISTS).await, lists + 1.0, "the objects were listed anew");
    all_are_watched(&node, &names("job", 4)[1..]).await;
    let changed = node.json("/reservation/billing/job-1").await["result"].to_string();
    assert!(changed.contains("every 2 hours"), "{changed}");
    until_figure(&node, ORPHANS, 0.0).await;
    assert_eq!(told(&hook), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_nobody_looked_is_let_go_after_the_grace_and_nothing_else() {
    let Some(cluster) = Cluster::shared() else { return };
    let (team, kubeconfig) = team(&cluster, "swept").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let mut node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, "", &hook)).await;
    apply_all(&team, &names("job", 3)).await;
    until_watched(&team, 3).await;
    node.end().await;
    team.kubectl(&["delete", "rsv", "job-0", "--timeout=30s"]).await.ok();
    node.start_again().await;
    until_figure(&node, ORPHANS, 1.0).await;
    eventually(SOON, "the mark", async || query(&db, MARKED).await == ["job-0"]).await;
    all_are_watched(&node, &names("job", 3)).await;

    // It is over sooner than an hour.
    node.end().await;
    node.configure(&yaml("eu", &team.name, ", orphanGrace: 1s", &hook));
    node.start_again().await;
    eventually(SOON, "the checkout", async || !is_watched(&node, "job-0").await).await;
    until_figure(&node, ORPHANS, 0.0).await;
    all_are_watched(&node, &names("job", 3)[1..]).await;
    assert_eq!(told(&hook), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_were_taken_orphan_nothing_and_the_log_says_which() {
    let Some(cluster) = Cluster::shared() else { return };
    let (team, kubeconfig) = team(&cluster, "narrow").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let here = yaml("eu", &team.name, ", orphanGrace: 0s, watchTimeout: 5s", &hook);
    let mut node = gotel(db.url(), &kubeconfig, &here).await;
    let jobs = names("job", 12);
    apply_all(&team, &jobs).await;
    let late = json!({"schedule": {"every": "10s"}, "firstWithin": "1h", "realert": "never"});
    team.apply(&object("late", late)).await.ok();
    until_watched(&team, 13).await;
    let said = "its service account may not; see docs/kubernetes.md";

    // At work.
    narrow(&team, &["get"]).await;
    node.gotel.printed(said, LATER).await;
    all_are_watched(&node, &jobs).await;
    assert_eq!((figure(&node, ORPHANS).await, query(&db, MARKED).await.len()), (0.0, 0));

    // At a start, also of one that is to watch everything.
    let wide = yaml("eu", "", ", orphanGrace: 0s", &hook);
    for yaml in [&here, &wide] {
        node.end().await;
        node.configure(yaml);
        node.start_again().await;
        node.gotel.printed(said, LATER).await;
        until_figure(&node, LEADS, 1.0).await;
        assert_eq!(node.get("/livez").await.0, 200);
        all_are_watched(&node, &jobs).await;
        assert_eq!(query(&db, MARKED).await, [""; 0]);
    }
    // Watched means told of.
    node.signal("billing", "late", "").await;
    until_told(&hook, &["trigger billing/late"]).await;

    node.end().await;
    node.configure(&here);
    node.start_again().await;
    narrow(&team, &["get", "list", "watch"]).await;
    until_says(&team, "late", "OnTime", "False/DeadlineMissed").await;
    apply_all(&team, &names("new", 1)).await;
    until_watched(&team, 14).await;
    all_are_watched(&node, &jobs).await;
    until_figure(&node, BRAKED, 0.0).await;
    assert_eq!(told(&hook), ["trigger billing/late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_hides_few_or_many_lets_none_go_and_people_are_told() {
    let Some(cluster) = Cluster::shared() else { return };
    let (team, kubeconfig) = team(&cluster, "select").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let all = yaml("eu", &team.name, ", orphanGrace: 0s", &hook);
    let none = yaml("eu", &team.name, ", orphanGrace: 0s, selector: team=none", &hook);
    let mut node = gotel(db.url(), &kubeconfig, &all).await;
    let mut right = Vec::new();
    for count in [3, 12] {
        let jobs = names("job", count);
        apply_all(&team, &jobs).await;
        until_watched(&team, count).await;
        node.end().await;
        node.configure(&none);
        node.start_again().await;
        right.push("trigger gotel/sweep-braked/eu");
        until_told(&hook, &right).await;
        eventually(SOON, "the figure", async || figure(&node, BRAKED).await > 0.0).await;
        all_are_watched(&node, &jobs).await;

        node.end().await;
        node.configure(&all);
        node.start_again().await;
        right.push("resolve gotel/sweep-braked/eu");
        until_told(&hook, &right).await;
        all_are_watched(&node, &jobs).await;
    }
    assert_eq!(query(&db, MARKED).await, [""; 0]);
}
