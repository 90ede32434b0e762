//! Who writes, and how much: two replicas in one cluster, a restart, a busy job.

use futures::StreamExt;
use serde_json::{Value, json};

use super::team::{
    LEADS, SOON, WRITES, apply_all, figure, gotel, names, object, says, sqlite, team, until_figure,
    until_says, until_watched, versions, yaml,
};
use crate::util::cluster::Cluster;
use crate::util::db::{Backend, TestDb};
use crate::util::node::Node;
use crate::util::receiver::Receiver;
use crate::util::wait::{eventually, now};

const READY: &str = "gotel_operator_objects{ready=\"True\"}";
const PASSES: &str = "gotel_operator_reconciliations_total";
const UNCHANGED: &str = "gotel_operator_reconciliations_total{result=\"unchanged\"}";
const STATUS: &str = "gotel_operator_api_writes_total{kind=\"status\"";

async fn leads(node: &Node) -> bool {
    figure(node, LEADS).await == 1.0
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_writes_and_one_that_was_frozen_writes_nothing_more_when_it_thaws() {
    let Some(cluster) = Cluster::shared() else { return };
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let (team, kubeconfig) = team(&cluster, "two").await;
    let hook = Receiver::webhook().await;
    let at_work = async |replica: &str| {
        let yaml = format!("replica: {replica}\n{}", yaml("eu", &team.name, "", &hook));
        gotel(db.url(), &kubeconfig, &yaml).await
    };
    let (one, two) = tokio::join!(at_work("gotel-0"), at_work("gotel-1"));
    eventually(SOON, "one to lead", async || leads(&one).await != leads(&two).await).await;
    let (first, second) = if leads(&one).await { (&one, &two) } else { (&two, &one) };
    apply_all(&team, &names("job", 20)).await;
    until_watched(&team, 20).await;
    until_figure(first, READY, 20.0).await;
    assert_eq!((figure(first, WRITES).await, figure(second, WRITES).await), (20.0, 0.0));
    assert!(leads(first).await && !leads(second).await);

    // What comes meanwhile waits for the frozen one as well.
    first.gotel.sigstop().await;
    apply_all(&team, &names("more", 3)).await;
    until_watched(&team, 23).await;
    until_figure(second, READY, 23.0).await;
    assert_eq!((figure(second, LEADS).await, figure(second, WRITES).await), (1.0, 3.0));

    let before = versions(&until_watched(&team, 23).await);
    first.gotel.sigcont();
    until_figure(first, LEADS, 0.0).await;
    team.apply(&object("last", json!({}))).await.ok();
    let after = until_watched(&team, 24).await;
    let others: Vec<Value> =
        after.into_iter().filter(|object| object["metadata"]["name"] != "last").collect();
    assert_eq!(versions(&others), before);
    assert_eq!((figure(first, WRITES).await, figure(second, WRITES).await), (20.0, 4.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_restart_nor_a_thousand_check_ins_write_anything_but_transitions() {
    let Some(cluster) = Cluster::shared() else { return };
    let (team, kubeconfig) = team(&cluster, "quiet").await;
    let (db, hook) = (sqlite().await, Receiver::webhook().await);
    let mut node = gotel(db.url(), &kubeconfig, &yaml("eu", &team.name, "", &hook)).await;
    apply_all(&team, &names("job", 20)).await;
    let objects = until_watched(&team, 20).await;
    until_figure(&node, READY, 20.0).await;
    assert_eq!((figure(&node, PASSES).await, figure(&node, WRITES).await), (20.0, 20.0));

    node.end().await;
    node.start_again().await;
    until_figure(&node, UNCHANGED, 20.0).await;
    until_figure(&node, READY, 20.0).await;
    assert_eq!(figure(&node, WRITES).await, 0.0);
    assert_eq!(versions(&until_watched(&team, 20).await), versions(&objects));

    // The first check-in is a transition.
    let shown_at = now();
    node.signal("billing", "job-0", "").await;
    until_says(&team, "job-0", "OnTime", "True/CheckedIn").await;
    let written = figure(&node, STATUS).await;
    let rest = futures::stream::iter(0..999).map(|_| node.signal("billing", "job-0", ""));
    rest.buffer_unordered(16).collect::<Vec<()>>().await;
    // The next one of another job shows that all of it was looked at.
    node.signal("billing", "job-1", "").await;
    until_says(&team, "job-1", "OnTime", "True/CheckedIn").await;
    let counted = node.json("/reservation/billing/job-0").await["result"]["number_of_checkins"].clone();
    assert_eq!(counted, 1000);
    // Times are refreshed once a minute, should all this take so long; a first check-in may be seen before it is
    // judged, and is then written twice.
    let minutes = (shown_at.elapsed().as_secs() / 60) as f64;
    let more = figure(&node, STATUS).await - written;
    assert!((1.0..=2.0 + 2.0 * minutes).contains(&more), "{more} writes");
    // Nobody was woken by what was written: each pass since the restart wrote.
    assert_eq!(figure(&node, UNCHANGED).await, 20.0);
    assert_eq!(says(&team, "job-0", "Ready").await, "True/Watching");
}
