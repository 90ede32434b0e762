//! Tests of [`crate::util::cluster`].

use std::time::Duration;

use super::SOON;
use crate::util::chaos::ChaosProxy;
use crate::util::cluster::{Cluster, Process};
use crate::util::wait::eventually;

/// How long controllers may take, on a busy machine.
const CONTROLLED: Duration = Duration::from_secs(60);

#[tokio::test]
async fn two_clusters_share_nothing() {
    let Some((one, two)) = Cluster::both() else { return };
    let namespace = one.namespace("share-nothing").await;
    let there = two.kubectl(&["get", "namespace", &namespace.name]).await.refused();
    assert!(there.contains("NotFound"), "{there}");
    assert_ne!(one.kubeconfig(), two.kubeconfig());
    let twin = two.twin(&namespace).await;
    twin.kubectl(&["create", "configmap", "only-there"]).await.ok();
    let here = namespace.kubectl(&["get", "configmap", "only-there"]).await.refused();
    assert!(here.contains("NotFound"), "{here}");
}

#[tokio::test]
async fn helm_keeps_its_releases_in_the_cluster() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = cluster.namespace("helm").await;
    let chart = cluster.path("chart");
    let chart = chart.to_str().expect("the folder's name is text");
    cluster.helm(&["create", chart]).await.ok();
    namespace.helm(&["install", "--set=serviceAccount.create=false", "it", chart]).await.ok();
    let listed = namespace.helm(&["list", "--short"]).await.ok();
    assert_eq!(listed.trim(), "it");
    namespace.json(&["get", "deployment", "it-chart"]).await;
}

#[tokio::test]
async fn a_token_may_do_what_its_account_may_and_nothing_more() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = cluster.namespace("token").await;
    let proxy = ChaosProxy::start(cluster.addr()).await;
    namespace.kubectl(&["create", "role", "reader", "--verb=list", "--resource=configmaps"]).await.ok();
    let account = format!("--serviceaccount={}:default", namespace.name);
    namespace.kubectl(&["create", "rolebinding", "reader", "--role=reader", &account]).await.ok();
    let kubeconfig = namespace.kubeconfig_of("default", Some(proxy.addr())).await;

    let list = |what| ["-n", &namespace.name, "get", what, "-o", "name"];
    eventually(SOON, "the role to hold", async || {
        let ran = cluster.kubectl_with(&kubeconfig, &list("configmaps"), "").await;
        if ran.code == Some(0) { Ok(()) } else { Err(ran.err) }
    })
    .await;
    assert!(proxy.connections() > 0, "it goes by way of the proxy");
    let refused = cluster.kubectl_with(&kubeconfig, &list("secrets"), "").await.refused();
    assert!(refused.contains("Forbidden"), "{refused}");
}

#[tokio::test]
async fn a_job_ends_as_its_pod_is_said_to() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = cluster.namespace("job").await;
    for (job, phase, condition) in [("good", "Succeeded", "Complete"), ("bad", "Failed", "Failed")] {
        let args = ["create", "job", job, "--image=none.example.org/none", "--dry-run=client"];
        let mut object = namespace.json(&args).await;
        object["spec"]["backoffLimit"] = 0.into();
        namespace.apply(&object.to_string()).await.ok();
        let pods = namespace.pods(&format!("job-name={job}")).await;
        namespace.pod_becomes(&pods[0], phase).await;
        eventually(CONTROLLED, format!("the job to be {condition}"), async || {
            let job = namespace.json(&["get", "job", job]).await;
            let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == condition && c["status"] == "True")
        })
        .await;
    }
}

#[tokio::test]
async fn a_private_cluster_freezes_dies_and_comes_back_with_what_it_had() {
    let Some(cluster) = Cluster::private() else { return };
    let namespace = cluster.namespace("comes-back").await;
    namespace.kubectl(&["create", "configmap", "kept"]).await.ok();
    let get = ["get", "configmap", "kept", "--request-timeout=2s"];

    cluster.sigstop(Process::ApiServer).await;
    namespace.kubectl(&get).await.refused();
    cluster.sigcont(Process::ApiServer);
    eventually(SOON, "it to answer again", async || namespace.kubectl(&get).await.code == Some(0)).await;

    let addr = cluster.addr();
    for process in [Process::Manager, Process::ApiServer, Process::Etcd] {
        cluster.kill9(process);
    }
    namespace.kubectl(&get).await.refused();
    cluster.restart();
    assert_eq!(cluster.addr(), addr, "it kept its port");
    namespace.kubectl(&get).await.ok();
}
