//! Two clusters as their users have them: installed by Helm, a real GoTel in each pod with the rights that the chart gives
//! it, one database, one receiver of alerts.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{SOON, at};
use crate::util::cluster::Cluster;
use crate::util::db::{Backend, TestDb};
use crate::util::kubelet::Kubelet;
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

/// A take-over, what may hold it up, and a telling.
const TOLD: Duration = Duration::from_secs(150);

/// One of the two clusters.
struct Site {
    cluster: Cluster,
    name: &'static str,
    other: &'static str,
    /// The begin of the addresses for heartbeats.
    net: String,
}

impl Site {
    async fn new(cluster: Cluster, name: &'static str, net: &str, db: &TestDb, chat: &str) -> Self {
        let other = if name == "eu" { "us" } else { "eu" };
        for namespace in ["gotel", "billing"] {
            cluster.kubectl(&["create", "namespace", namespace]).await.ok();
        }
        let gotel = cluster.namespace_called("gotel");
        for (secret, data) in [
            ("gotel-database", json!({"url": db.url()})),
            ("gotel-peers", json!({"secret": "a-secret-for-all-replicas"})),
            ("gotel-tokens", json!({"jobs": "a-token-of-the-jobs", "prometheus": "a-token-of-prometheus"})),
            ("gotel-mail", json!({"password": "not-used-at-all"})),
            ("gotel-pagerduty", json!({"routingKey": "0123456789abcdef0123456789abcdef"})),
            ("gotel-chat", json!({"url": chat, "hmac": "a-key-of-signatures"})),
            ("gotel-heartbeat", json!({"url": "http://127.0.0.1:9/"})),
        ] {
            let object = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "stringData": data,
            });
            gotel.apply(&object.to_string()).await.ok();
        }
        let shared = format!("--values={}", at("examples/kubernetes/values-shared.yaml"));
        let own = format!("--values={}", at(&format!("examples/kubernetes/values-{name}.yaml")));
        let others = json!([{"id": format!("{other}-0"), "url": format!("http://{}", address(net, other))}]);
        let others = format!("--set-json=peers.others={others}");
        let args = ["install", "gotel", &at("charts/gotel"), &shared, &own, &others, "--set=replicas=1"];
        gotel.helm(&args).await.ok();
        Self { cluster, name, other, net: net.to_owned() }
    }

    /// Its machine, which runs GoTel until the task is aborted: then everything on it is gone, as by a power cut.
    fn machine(&self) -> JoinHandle<()> {
        let names = [self.name, self.other]
            .map(|name| (format!("gotel-peer-0.{name}.example.org:8081"), address(&self.net, name)));
        let listen = vec![address(&self.net, self.name)];
        let (gotel, jobs) =
            (self.cluster.namespace_called("gotel"), self.cluster.namespace_called("billing"));
        tokio::task::spawn_local(Kubelet::new(gotel, jobs, names.to_vec(), listen).run())
    }

    async fn billing(&self, args: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", "billing"], args].concat()).await.ok()
    }

    async fn becomes(&self, name: &str, condition: &str) {
        self.billing(&["wait", &format!("--for={condition}"), "--timeout=150s", &format!("rsv/{name}")])
            .await;
    }

    async fn reserve(&self, name: &str, every: &str) {
        let object = json!({
            "apiVersion": "gotel.dev/v1alpha1", "kind": "Reservation",
            "metadata": {"name": name, "namespace": "billing"},
            "spec": {"app": "billing", "component": name, "schedule": {"every": every}, "alerters": ["chat"]},
        });
        self.cluster.apply(&object.to_string(), &[]).await.ok();
        self.becomes(name, "condition=Ready").await;
    }
}

fn address(net: &str, cluster: &str) -> String {
    format!("{net}.{}:8081", if cluster == "eu" { 1 } else { 2 })
}

/// What chat was told of a job, in order.
fn told(chat: &Receiver, job: &str) -> Vec<String> {
    let of_the_job = |body: &Value| body["app"] == "billing" && body["component"] == job;
    let bodies = chat.requests().into_iter().map(|request| request.json());
    bodies.filter(of_the_job).map(|body| body["event"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_late_job_is_told_once_whichever_cluster_is_left() {
    tokio::task::LocalSet::new().run_until(story()).await;
}

async fn story() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let Some((eu, us)) = Cluster::private_pair() else { return };
    let chat = Receiver::webhook().await;
    let net = format!("127.{}.{}", fastrand::u8(1..), fastrand::u8(1..));
    let url = chat.url("/hook");
    let eu = Site::new(eu, "eu", &net, &db, &url).await;
    let us = Site::new(us, "us", &net, &db, &url).await;
    let eu_machine = eu.machine();
    eu.reserve("rates", "10s").await;
    let us_machine = us.machine();
    us.reserve("shipping", "1h").await;

    // Late, told, and shown at the object.
    eu.becomes("rates", "jsonpath={.status.phase}=Late").await;
    eu.becomes("rates", "condition=AlertsDelivered").await;
    eu.becomes("rates", "condition=Ready").await;
    assert_eq!(told(&chat, "rates"), ["trigger"]);

    // The name is taken, in whichever cluster somebody asks for it.
    let twin = json!({
        "apiVersion": "gotel.dev/v1alpha1", "kind": "Reservation",
        "metadata": {"name": "twin", "namespace": "billing"},
        "spec": {"app": "billing", "component": "rates", "schedule": {"every": "1h"}},
    });
    us.cluster.apply(&twin.to_string(), &[]).await.ok();
    us.becomes("twin", "condition=Stalled").await;
    let why =
        us.billing(&["get", "rsv", "twin", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')]}"]).await;
    assert!(why.contains("Conflict") && why.contains("billing/rates") && why.contains("eu"), "{why}");
    us.billing(&["delete", "rsv", "twin"]).await;

    // The whole of eu is gone, with a job that was to check in meanwhile.
    eu.reserve("invoices", "20s").await;
    eu_machine.abort();
    assert!(eu_machine.await.is_err_and(|e| e.is_cancelled()));
    eventually(TOLD, "us to tell", async || told(&chat, "invoices") == ["trigger"]).await;
    let phase = ["get", "rsv", "invoices", "-o", "jsonpath={.status.phase}"];
    assert_eq!(eu.billing(&phase).await, "Pending", "nobody is there to say otherwise");

    // It comes back, and its objects show what happened.
    let eu_machine = eu.machine();
    eu.becomes("invoices", "jsonpath={.status.phase}=Late").await;
    eu.becomes("invoices", "condition=AlertsDelivered").await;

    // Deleting the object ends it, and whoever was told hears of that.
    eu.billing(&["delete", "rsv", "rates", "invoices", "--timeout=20s"]).await;
    for job in ["rates", "invoices"] {
        eventually(SOON, format!("{job} to be over"), async || told(&chat, job).len() == 2).await;
        assert_eq!(told(&chat, job), ["trigger", "cancel"]);
    }
    us.becomes("shipping", "condition=Ready").await;
    for machine in [eu_machine, us_machine] {
        machine.abort();
    }
}
