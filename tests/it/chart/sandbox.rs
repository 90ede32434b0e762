//! The program under the restrictions of the chart's pod, and as replicas of two clusters that the chart makes of it.

use std::path::Path;

use reqwest::Client;
use serde_json::{Value, json};
use url::Url;

use super::{INSTALLATIONS, SOON, object, objects, template};
use crate::util::cluster::Cluster;
use crate::util::db::{Backend, TestDb};
use crate::util::pod::{Files, Pod};
use crate::util::process::Gotel;
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

/// What the operator would need a cluster for is tried elsewhere.
const NO_OPERATOR: &str = "--set=operator.enabled=false";

/// What every key of every Secret begins with, unless a test says otherwise.
const SECRET: &str = "a-secret-that-is-long-enough";

/// The pod that the chart rendered. `config` changes texts of the configuration; `secrets` are what Secrets hold, by
/// volume and file (`database/url`).
fn pod(rendered: &str, config: &[(&str, &str)], secrets: &[(&str, &str)]) -> Pod {
    let holds = |object: &Value| object["kind"] == "ConfigMap" && object["data"]["gotel.yaml"].is_string();
    let map = objects(rendered).into_iter().find(holds).expect("it is rendered");
    let text = map["data"]["gotel.yaml"].as_str().unwrap().to_owned();
    let text = config.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{from} in {text}");
        text.replace(from, to)
    });
    let spec = object(rendered, "StatefulSet")["spec"]["template"]["spec"].clone();
    let mut files = Files::from([("config".to_owned(), vec![("gotel.yaml".to_owned(), text)])]);
    for volume in spec["volumes"].as_array().unwrap().iter().filter(|volume| volume["secret"].is_object()) {
        let name = volume["name"].as_str().unwrap();
        let keys = ["password", "routingKey", "url", "hmac", "username", "key", "authorization"];
        let all = || keys.map(|key| json!({"path": key})).to_vec();
        let items = volume["secret"]["items"].as_array().cloned().unwrap_or_else(all);
        let file = |item: &Value| {
            let file = item["path"].as_str().unwrap();
            let given = secrets.iter().find(|(known, _)| *known == format!("{name}/{file}"));
            let value = match (given, file) {
                (Some((_, value)), _) => (*value).to_owned(),
                (None, "url") => format!("http://127.0.0.1:9/{SECRET}"),
                // No two tokens may be alike.
                (None, _) => format!("{SECRET}-{name}"),
            };
            (file.to_owned(), value)
        };
        files.insert(name.to_owned(), items.iter().map(file).collect());
    }
    Pod::new(&spec, &files)
}

fn client() -> Client {
    gotel::alert::client(None).expect("a client can be built")
}

/// That the process is what the security context says.
fn is_restricted(gotel: &Gotel) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gotel.pid())).expect("the process lives");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells");
        line.trim_start_matches(':').trim().to_owned()
    };
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
    // Seen from inside, by the map of its namespace.
    let map = std::fs::read_to_string(format!("/proc/{}/uid_map", gotel.pid())).unwrap();
    assert_eq!(map.split_whitespace().next(), Some("65532"), "{map}");
}

/// One request; the answer must be a success.
async fn post(url: &Url, path: &str, token: &str, body: Option<Value>) {
    let request = client().post(url.join(path).unwrap()).bearer_auth(token);
    let request = if let Some(body) = body { request.json(&body) } else { request };
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {} {}", answer.status(), answer.text().await.unwrap());
}

async fn page(url: &Url, path: &str, token: &str) -> String {
    let answer = client().get(url.join(path).unwrap()).bearer_auth(token).send().await;
    answer.expect("GoTel answers").text().await.expect("with text")
}

#[tokio::test]
async fn the_smallest_installation_runs_under_its_pods_restrictions() {
    let Some(cluster) = Cluster::shared() else { return };
    let values = ["examples/kubernetes/values-small.yaml"];
    let rendered = template(&cluster, &values, &[NO_OPERATOR]).await.ok();
    let pod = pod(&rendered, &[], &[]);
    let mut gotel = pod.start(0);
    let url = gotel.url().await;
    is_restricted(&gotel);
    let body = json!({"app": "billing", "component": "nightly", "every": "1h"});
    post(&url, "reservation", "", Some(body)).await;
    post(&url, "checkin/billing/nightly", "", None).await;
    assert!(page(&url, "status", "").await.contains("nightly"));
    assert_eq!(pod.writable, ["/var/lib/gotel"]);
    assert!(pod.at("/var/lib/gotel/gotel.db").is_file(), "the database is on the volume");
    gotel.sigterm();
    let status = gotel.wait_exit(SOON).await;
    assert!(status.success(), "{status}: {}", gotel.output());
}

#[tokio::test]
async fn every_installation_has_a_configuration_that_gotel_takes() {
    let Some(cluster) = Cluster::shared() else { return };
    for (name, files) in INSTALLATIONS {
        let rendered = template(&cluster, files, &[]).await.ok();
        let urls = "mysql://gotel:secret@one.example.org/gotel\nmysql://gotel:secret@two.example.org/gotel\n";
        let secrets = [("database/url", urls.lines().next().unwrap()), ("database/urls", urls)];
        // Of an authority of one's own, only the place is looked at here.
        let config: &[(&str, &str)] = if name == "everything" { &[("caFile: ", "# ")] } else { &[] };
        let mut pod = pod(&rendered, config, &secrets);
        pod.args = ["config", "check", "--config=/etc/gotel/gotel.yaml"].map(str::to_owned).to_vec();
        let mut gotel = pod.start(0);
        let status = gotel.wait_exit(SOON).await;
        assert!(status.success(), "{name}: {}", gotel.output());
    }
}

/// The first replica of a cluster of the example with two; heartbeats go over loopback.
async fn replica_of(cluster: &Cluster, name: &str, other: &str, net: &str, db: &TestDb, chat: &str) -> Pod {
    let files =
        ["examples/kubernetes/values-shared.yaml", &format!("examples/kubernetes/values-{name}.yaml")];
    let address = |name: &str| format!("{net}.{}:8081", if name == "eu" { 1 } else { 2 });
    let others = json!([{"id": format!("{other}-0"), "url": format!("http://{}", address(other))}]);
    let tokens = json!([{"name": "jobs", "scopes": ["admin"], "secretName": "gotel-tokens", "key": "jobs"}]);
    let settings = [
        format!("--set-json=peers.others={others}"),
        format!("--set-json=auth.tokens={tokens}"),
        "--set=replicas=1,metrics.serviceMonitor.enabled=false".to_owned(),
        NO_OPERATOR.to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let rendered = template(cluster, &files, &settings).await.ok();
    let secrets = [
        ("database/url", db.url()),
        // The same in both clusters.
        ("peers/secret", "a-secret-for-all-replicas"),
        ("alerter-chat/url", chat),
    ];
    pod(&rendered, &[("0.0.0.0:8081", &address(name))], &secrets)
}

#[tokio::test]
async fn two_clusters_watch_each_other_and_one_tells_when_the_other_is_gone() {
    let Some(cluster) = Cluster::shared() else { return };
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let chat = Receiver::webhook().await;
    let chat_url = chat.url("/hook");
    // Of the loopback network, a part that no other test uses.
    let net = format!("127.{}.{}", fastrand::u8(1..), fastrand::u8(1..));
    let token = format!("{SECRET}-token-jobs");
    let eu = replica_of(&cluster, "eu", "us", &net, &db, &chat_url).await;
    let us = replica_of(&cluster, "us", "eu", &net, &db, &chat_url).await;

    let mut eu = (eu.start(0), eu);
    let eu_url = eu.0.url().await;
    eventually(SOON, "eu to coordinate", async || page(&eu_url, "is-coordinator", "").await == "true").await;
    let mut us = (us.start(0), us);
    let us_url = us.0.url().await;
    for gotel in [&eu.0, &us.0] {
        is_restricted(gotel);
        assert!(gotel.output().contains("to ops-mail, pager, chat"), "{}", gotel.output());
    }
    for url in [&eu_url, &us_url] {
        eventually(SOON, "each to see the other", async || {
            let nodes = page(url, "nodes", &token).await;
            let healthy = nodes.matches("</svg>healthy").count() == 2;
            if healthy && nodes.contains("eu-0") && nodes.contains("us-0") { Ok(()) } else { Err(nodes) }
        })
        .await;
    }
    let body = json!({"app": "billing", "component": "rates", "every": "10s", "alerters": ["chat"]});
    post(&eu_url, "reservation", &token, Some(body)).await;
    post(&us_url, "checkin/billing/rates", &token, None).await;

    eu.0.kill9();
    let told = chat.received(1, SOON * 2).await;
    let told = told[0].json();
    assert_eq!((&told["app"], &told["reason"]), (&"billing".into(), &"missed".into()), "{told}");
    eventually(SOON, "us to coordinate", async || page(&us_url, "is-coordinator", "").await == "true").await;
    us.0.sigterm();
    let status = us.0.wait_exit(SOON).await;
    assert!(status.success(), "{status}: {}", us.0.output());
    assert_eq!(chat.requests().len(), 1, "once, whichever cluster coordinates");
    assert!(!Path::new(&us.1.at("/var/lib/gotel/gotel.db")).exists(), "nothing but the shared database");
}
