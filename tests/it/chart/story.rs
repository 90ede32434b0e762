//! Two clusters as their users have them: installed by Helm, a real GoTel in each pod with the rights that the chart gives
//! it, one database, one receiver of alerts. Every Secret is recognisable, and the program tells all it ever tells.

use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::canary::Secrets;
use super::{SOON, at};
use crate::util::cluster::Cluster;
use crate::util::db::{Backend, TestDb};
use crate::util::kubelet::{Journal, Kubelet, Started};
use crate::util::node::metric;
use crate::util::receiver::{Answer, Receiver};
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

/// What runs GoTel in a cluster, until it is lost: then everything on it is gone, as by a power cut.
struct Machine {
    kubelet: JoinHandle<()>,
    journal: Journal,
}

impl Machine {
    async fn lost(self) {
        self.kubelet.abort();
        assert!(self.kubelet.await.is_err_and(|e| e.is_cancelled()));
    }

    /// The only pod that it has ever started.
    fn pod(&self) -> Started {
        let started = self.journal.started();
        assert_eq!(started.len(), 1, "no pod was started again");
        started[0].clone()
    }
}

impl Site {
    /// `more`: further arguments of Helm.
    async fn new(cluster: Cluster, name: &'static str, net: &str, secrets: &Secrets, more: &[&str]) -> Self {
        let other = if name == "eu" { "us" } else { "eu" };
        for namespace in ["gotel", "billing"] {
            cluster.kubectl(&["create", "namespace", namespace]).await.ok();
        }
        let gotel = cluster.namespace_called("gotel");
        secrets.apply(&gotel).await;
        let shared = format!("--values={}", at("examples/kubernetes/values-shared.yaml"));
        let own = format!("--values={}", at(&format!("examples/kubernetes/values-{name}.yaml")));
        let others = json!([{"id": format!("{other}-0"), "url": format!("http://{}", address(net, other))}]);
        let others = format!("--set-json=peers.others={others}");
        let settings = "--set=replicas=1,config.logLevel=trace";
        let args = ["install", "gotel", &at("charts/gotel"), &shared, &own, &others, settings];
        gotel.helm(&[&args, more].concat()).await.ok();
        Self { cluster, name, other, net: net.to_owned() }
    }

    fn machine(&self) -> Machine {
        let names = [self.name, self.other]
            .map(|name| (format!("gotel-peer-0.{name}.example.org:8081"), address(&self.net, name)));
        let listen = vec![address(&self.net, self.name)];
        let (gotel, jobs) =
            (self.cluster.namespace_called("gotel"), self.cluster.namespace_called("billing"));
        let kubelet = Kubelet::new(gotel, jobs, names.to_vec(), listen);
        let journal = kubelet.journal();
        Machine { kubelet: tokio::task::spawn_local(kubelet.run()), journal }
    }

    async fn billing(&self, args: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", "billing"], args].concat()).await.ok()
    }

    async fn becomes(&self, name: &str, condition: &str) {
        self.billing(&["wait", &format!("--for={condition}"), "--timeout=150s", &format!("rsv/{name}")])
            .await;
    }

    /// What the condition `Ready` of an object says.
    async fn why(&self, name: &str) -> String {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')]}";
        self.billing(&["get", "rsv", name, "-o", ready]).await
    }

    async fn apply(&self, name: &str, component: &str, every: &str, alerters: &[&str]) {
        let object = json!({
            "apiVersion": "gotel.dev/v1alpha1", "kind": "Reservation",
            "metadata": {"name": name, "namespace": "billing"},
            "spec": {"app": "billing", "component": component, "schedule": {"every": every}, "alerters": alerters},
        });
        self.cluster.apply(&object.to_string(), &[]).await.ok();
    }

    async fn reserve(&self, name: &str, every: &str) {
        self.apply(name, name, every, &["chat"]).await;
        self.becomes(name, "condition=Ready").await;
    }
}

fn address(net: &str, cluster: &str) -> String {
    format!("{net}.{}:8081", if cluster == "eu" { 1 } else { 2 })
}

/// What chat was told of a job, in order: the event, and where it came in.
fn heard(chat: &Receiver, job: &str) -> Vec<(String, String)> {
    let of_the_job = |body: &Value| body["app"] == "billing" && body["component"] == job;
    let requests = chat.requests().into_iter().map(|request| (request.json(), request.path));
    let requests = requests.filter(|(body, _)| of_the_job(body));
    requests.map(|(body, path)| (body["event"].as_str().unwrap().to_owned(), path)).collect()
}

/// The events alone.
fn told(chat: &Receiver, job: &str) -> Vec<String> {
    heard(chat, job).into_iter().map(|(event, _)| event).collect()
}

/// Waits until a figure of each of these pods has this value.
async fn figure(pods: &[Started], secrets: &Secrets, name: &str, value: f64) {
    let client: Client = gotel::alert::client(None).expect("a client can be built");
    for pod in pods {
        eventually(SOON, format!("{name} to be {value}"), async || {
            let request = client.get(pod.url.join("metrics").unwrap()).bearer_auth(secrets.reader());
            let page = request.send().await.expect("GoTel answers").text().await.expect("with text");
            if metric(&page, name) == value { Ok(()) } else { Err(page) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_late_job_is_told_once_whichever_cluster_is_left_and_no_secret_is_seen() {
    tokio::task::LocalSet::new().run_until(story()).await;
}

async fn story() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let Some((eu, us)) = Cluster::private_pair() else { return };
    let (chat, watcher) = (Receiver::webhook().await, Receiver::webhook().await);
    watcher.always(Answer::Echo(500));
    let net = format!("127.{}.{}", fastrand::u8(1..), fastrand::u8(1..));
    let mut secrets = Secrets::new(&db, &chat, &watcher).await;
    let eu = Site::new(eu, "eu", &net, &secrets, &[]).await;
    // A pod that looks for itself whether it is in a cluster.
    let us = Site::new(us, "us", &net, &secrets, &["--set=extraArgs={--kubernetes=auto}"]).await;
    let eu_machine = eu.machine();
    eu.reserve("rates", "10s").await;
    let us_machine = us.machine();
    us.reserve("shipping", "1h").await;
    let tested = eu.cluster.namespace_called("gotel").helm(&["test", "gotel", "--timeout=120s"]).await.ok();
    assert!(tested.contains("Succeeded"), "{tested}");

    // Late, told, and shown at the object.
    eu.becomes("rates", "jsonpath={.status.phase}=Late").await;
    eu.becomes("rates", "condition=AlertsDelivered").await;
    eu.becomes("rates", "condition=Ready").await;
    assert_eq!(told(&chat, "rates"), ["trigger"]);

    // The name is taken, in whichever cluster somebody asks for it.
    us.apply("twin", "rates", "1h", &[]).await;
    us.becomes("twin", "condition=Stalled").await;
    let why = us.why("twin").await;
    assert!(why.contains("Conflict") && why.contains("billing/rates") && why.contains("eu"), "{why}");
    // Nobody has such an alerter.
    eu.apply("faxed", "faxed", "1h", &["fax"]).await;
    eu.becomes("faxed", "condition=Stalled").await;
    let why = eu.why("faxed").await;
    assert!(why.contains("UnknownAlerter") && why.contains("choose from ops-mail, pager, chat"), "{why}");

    // The receiver refuses, and repeats all it was sent.
    let way = heard(&chat, "rates").remove(0).1;
    chat.at(&way, Answer::Echo(400));
    eu.reserve("leaky", "10s").await;
    eu.becomes("leaky", "condition=AlertsDelivered=false").await;
    chat.at(&way, Answer::Usual);

    // The Secret changes, first to what is none, then to another place. Nothing is started again for that.
    let pods = [eu_machine.pod(), us_machine.pod()];
    let mut way = way;
    for (form, stale) in [("no address {}", 1.0), (&chat.url("/{}"), 0.0)] {
        way = format!("/{}", secrets.renew_chat(form));
        for site in [&eu, &us] {
            secrets.apply(&site.cluster.namespace_called("gotel")).await;
        }
        figure(&pods, &secrets, r#"gotel_secret_stale{secret="alerter/chat"}"#, stale).await;
    }
    let written = secrets.are_not_told(&eu.cluster, &eu_machine.journal).await;
    for word in ["DeadlineMissed", "UnknownAlerter", "AlertsDelivered", "leaky"] {
        assert!(written.contains(word), "{word}: {written}");
    }
    let written = secrets.are_not_told(&us.cluster, &us_machine.journal).await;
    assert!(written.contains("Conflict"), "{written}");
    for machine in [&eu_machine, &us_machine] {
        secrets.are_not_served(&machine.pod()).await;
    }
    us.billing(&["delete", "rsv", "twin"]).await;

    // The whole of eu is gone, with a job that was to check in meanwhile.
    eu.reserve("invoices", "20s").await;
    let eu_journal = eu_machine.journal.clone();
    eu_machine.lost().await;
    let triggered = [("trigger".to_owned(), way)];
    eventually(TOLD, "us to tell", async || heard(&chat, "invoices") == triggered).await;
    let phase = ["get", "rsv", "invoices", "-o", "jsonpath={.status.phase}"];
    assert_eq!(eu.billing(&phase).await, "Pending", "nobody is there to say otherwise");

    // It comes back, and its objects show what happened.
    let eu_machine = eu.machine();
    eu.becomes("invoices", "jsonpath={.status.phase}=Late").await;
    eu.becomes("invoices", "condition=AlertsDelivered").await;

    // Deleting the object ends it, and whoever was told hears of that.
    eu.billing(&["delete", "rsv", "rates", "invoices", "leaky", "faxed", "--timeout=20s"]).await;
    for job in ["rates", "invoices"] {
        eventually(SOON, format!("{job} to be over"), async || told(&chat, job).len() == 2).await;
        assert_eq!(told(&chat, job), ["trigger", "cancel"]);
    }
    us.becomes("shipping", "condition=Ready").await;
    us_machine.pod();
    for (site, journal) in [(&eu, &eu_journal), (&eu, &eu_machine.journal), (&us, &us_machine.journal)] {
        secrets.are_not_told(&site.cluster, journal).await;
    }
    for machine in [eu_machine, us_machine] {
        machine.lost().await;
    }
}
