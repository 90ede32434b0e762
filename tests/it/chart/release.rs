//! A release's life with the real Helm: install, upgrade, rollback, uninstall.

use std::path::Path;

use super::{SOON, at};
use crate::docs::workshop::copy;
use crate::util::cluster::{Cluster, Namespace};
use crate::util::wait::eventually;

const CRD: &str = "files/reservations.yaml";

/// The chart in a folder of the test's own, as a release before this one: its CRD does not know `realert` yet.
fn older_chart(cluster: &Cluster) -> String {
    let folder = cluster.path("older");
    copy(Path::new(&at("charts/gotel")), &folder);
    let crd = std::fs::read_to_string(folder.join(CRD)).unwrap();
    let (before, rest) = crd.split_once("              realert:\n").expect("the CRD has it");
    let (_, after) = rest.split_once("              reclaimPolicy:\n").expect("and this follows");
    let crd = format!("{before}              reclaimPolicy:\n{after}");
    // And the rules that speak of it.
    let mut kept = Vec::new();
    let mut rule: Vec<&str> = Vec::new();
    for line in crd.lines().chain(["            end"]) {
        if line.starts_with("            - ") || !line.starts_with("              ") {
            if !rule.iter().any(|line| line.contains("self.realert")) {
                kept.append(&mut rule);
            }
            rule.clear();
        }
        rule.push(line);
    }
    std::fs::write(folder.join(CRD), kept.join("\n") + "\n").unwrap();
    let chart = std::fs::read_to_string(folder.join("Chart.yaml")).unwrap();
    let version = chart.lines().find(|line| line.starts_with("version: ")).unwrap();
    std::fs::write(folder.join("Chart.yaml"), chart.replace(version, "version: 0.1.9")).unwrap();
    folder.to_str().expect("the folder's name is text").to_owned()
}

/// Runs Helm with `--wait` while every pod runs.
async fn helm_while_pods_run(namespace: &Namespace, args: &[&str]) -> String {
    let args = [args, &["--wait", "--timeout=150s"]].concat();
    tokio::select! {
        ran = namespace.helm(&args) => ran.ok(),
        () = namespace.pods_run("app.kubernetes.io/name=gotel") => unreachable!("it goes on for ever"),
    }
}

fn reservation(name: &str, more: &str) -> String {
    format!(
        "apiVersion: gotel.dev/v1alpha1\nkind: Reservation\nmetadata: {{name: {name}}}\n\
         spec: {{app: billing, component: {name}, schedule: {{every: 1h}}{more}}}\n"
    )
}

#[tokio::test]
async fn a_release_is_installed_upgraded_rolled_back_and_uninstalled_and_no_reservation_is_lost() {
    // Of the test's own, for its CRD.
    let Some(cluster) = Cluster::private() else { return };
    let namespace = cluster.namespace("release").await;
    let (chart, older) = (at("charts/gotel"), older_chart(&cluster));
    let values = format!("--values={}", at("charts/gotel/ci/mysql-values.yaml"));

    // Without the Secret no pod would start; Helm does not look at it.
    let notes = helm_while_pods_run(&namespace, &["install", "gotel", &older, &values]).await;
    assert!(
        notes.contains("rsv/nightly-invoices") && notes.contains("WARNING: no alerter is configured"),
        "{notes}"
    );
    let pods = namespace.pods("app.kubernetes.io/name=gotel").await;
    assert_eq!(pods, ["gotel-0", "gotel-1"]);

    namespace.apply(&reservation("nightly", "")).await.ok();
    let unknown = namespace.apply(&reservation("hourly", ", realert: 30m")).await.refused();
    assert!(unknown.contains("realert"), "{unknown}");
    let uid = async || namespace.json(&["get", "rsv", "nightly"]).await["metadata"]["uid"].clone();
    let first = uid().await;
    assert!(first.is_string());

    // The new CRD comes with the upgrade, and what there is stays.
    let changed = "--set=config.retention.history=10d";
    helm_while_pods_run(&namespace, &["upgrade", "gotel", &chart, &values, changed]).await;
    assert_eq!(uid().await, first);
    eventually(SOON, "the new field to be known", async || {
        let ran = namespace.apply(&reservation("hourly", ", realert: 30m")).await;
        if ran.code == Some(0) { Ok(()) } else { Err(ran.err) }
    })
    .await;
    let checksum = async || {
        let set = namespace.json(&["get", "statefulset", "gotel"]).await;
        set["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone()
    };
    let upgraded = checksum().await;

    helm_while_pods_run(&namespace, &["rollback", "gotel", "1"]).await;
    assert_ne!(checksum().await, upgraded, "another configuration is taken up by new pods");
    assert_eq!(uid().await, first);
    helm_while_pods_run(&namespace, &["upgrade", "gotel", &chart, &values]).await;

    namespace.helm(&["uninstall", "gotel"]).await.ok();
    assert_eq!(uid().await, first, "the CRD is kept, and with it what people wrote");
    namespace.kubectl(&["get", "statefulset", "gotel"]).await.refused();
    namespace.kubectl(&["get", "clusterrole", &format!("{}-gotel", namespace.name)]).await.refused();
    // Nothing of GoTel is there to let go of it, and nothing has to.
    namespace.kubectl(&["delete", "rsv", "nightly", "--timeout=20s"]).await.ok();

    // A later release, in another namespace and under another name, takes the CRD over when told to.
    let later = cluster.namespace("release-later").await;
    let refused = later.helm(&["install", "later", &chart, &values]).await.refused();
    assert!(refused.contains("reservations.gotel.dev"), "{refused}");
    later.helm(&["install", "later", &chart, &values, "--take-ownership"]).await.ok();
    namespace.json(&["get", "rsv", "hourly"]).await;
}
