//! A Galera cluster under two replicas, each of which uses a node of its own: row 34.

use std::time::Duration;

use super::SOON;
use super::invariants::{Known, hold};
use super::world::{World, hook_yaml};
use crate::util::galera::Cluster;
use crate::util::load::Load;
use crate::util::process::Gotel;
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

/// The other replica: the same configuration on another node.
async fn another(world: &World, database_url: &str) -> (Gotel, url::Url) {
    let env = [("GOTEL_DATABASE_URL", database_url), ("GOTEL_REPLICA", "two")];
    let config = world.path("gotel.yaml");
    let mut gotel = Gotel::spawn(&["serve", "--listen", "127.0.0.1:0", "--config", &config], &env);
    let url = gotel.url().await;
    (gotel, url)
}

/// Conflicts between two nodes reach nobody; a dead node costs the replica on it, and not the other; a node without
/// a majority is an honest 503, and heals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_34_galera_conflicts_dead_nodes_and_a_lost_majority_cost_no_acknowledged_check_in() {
    let Some(mut cluster) = Cluster::start() else { return };
    let hook = Receiver::webhook().await;
    let galera = cluster.database(3).await;
    let (two_url, three_url) = (galera.url(2).to_owned(), galera.url(3).to_owned());
    let world =
        World::start_at(galera.into_db(), three_url, &hook_yaml(&hook), &[("GOTEL_REPLICA", "three")]).await;
    let (mut two, two_at) = another(&world, &two_url).await;
    let keys = world.fleet("load", 10).await;
    let (load_three, load_two) =
        (Load::start(&world.url, &keys, 8, &[]), Load::start(&two_at, &keys, 8, &[]));
    eventually(SOON, "check-ins through both nodes", async || {
        load_three.acknowledged() >= 300 && load_two.acknowledged() >= 300
    })
    .await;
    let mut acknowledged = Vec::new();
    let report = load_two.stop().await;
    assert!(report.refused.is_empty(), "a conflict surfaced: {:?}", report.refused);
    acknowledged.extend(report.acknowledged);

    cluster.kill9(2);
    let other = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(40)).build().unwrap();
    let check_in_two = async || {
        let answer = other.post(two_at.join("/checkin/load/0").unwrap()).send().await;
        answer.map(|a| a.status().as_u16()).map_err(|e| e.to_string())
    };
    eventually(SOON, "an honest 503", async || check_in_two().await == Ok(503)).await;
    let before = load_three.acknowledged();
    eventually(SOON, "check-ins on the survivor", async || load_three.acknowledged() >= before + 200).await;
    // Whoever led before: the survivor does now.
    world.becomes("SELECT COUNT(*) FROM lease WHERE holder = 'three'", 1).await;
    world.reserve("single", "job", serde_json::json!({})).await;
    world.signal("single", "job", "/fail").await;
    hook.received(1, SOON).await;

    cluster.kill9(1);
    eventually(SOON, "an honest 503 without a majority", async || {
        match world.try_check_in("load", "0").await {
            Err(why) if why.starts_with("503") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    cluster.becomes_non_primary(3).await;
    assert_eq!(world.get("/livez").await.0, 200, "a restart would not bring the majority back");

    cluster.bootstrap(3).await;
    eventually(SOON, "check-ins to be taken again", async || world.try_check_in("load", "0").await).await;
    cluster.restart();
    eventually(SOON, "the other replica to find its node", async || check_in_two().await == Ok(200)).await;
    assert!(two.running());
    let report = load_three.stop().await;
    assert_eq!(report.unanswered, 0);
    assert!(report.refused.keys().all(|status| *status == 503), "{:?}", report.refused);
    acknowledged.extend(report.acknowledged);
    let known = Known {
        acknowledged: &acknowledged,
        hooks: &[("hook", &hook)],
        on_time: &["load"],
        ..Known::default()
    };
    hold(&world, &known).await;
    two.sigterm();
    let status = two.wait_exit(super::EXIT).await;
    assert!(status.success(), "{status}");
}
