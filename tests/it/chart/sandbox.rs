//! The released program under the restrictions of the chart's pod, and as replicas of two clusters that the chart makes
//! of it.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use reqwest::Client;
use serde_json::{Value, json};
use url::Url;

use super::{INSTALLATIONS, SOON, object, objects, template};
use crate::util::cluster::Cluster;
use crate::util::db::{Backend, TestDb};
use crate::util::needs;
use crate::util::pod::{Files, Pod};
use crate::util::process::Gotel;
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

/// What the operator would need a cluster for is tried elsewhere.
const NO_OPERATOR: &str = "--set=operator.enabled=false";

/// What every key of every Secret begins with, unless a test says otherwise.
const SECRET: &str = "a-secret-that-is-long-enough";

/// The program as it is released: optimised, without assertions. None where these tests are left out.
fn released() -> Option<PathBuf> {
    needs::address_of("the released program", "GOTEL_TEST_RELEASE").map(PathBuf::from)
}

/// The pod that the chart rendered. `config` changes texts of the configuration; `secrets` are what Secrets hold, by
/// volume and file (`database/url`).
fn pod(program: &Path, rendered: &str, config: &[(&str, &str)], secrets: &[(&str, &str)]) -> Pod {
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
    Pod::new(&spec, program, &files)
}

fn client() -> Client {
    gotel::alert::client(None).expect("a client can be built")
}

/// That the process is what the security context says, and can write nowhere but in what the pod declares.
fn is_restricted(gotel: &Gotel, pod: &Pod) {
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

    assert_eq!(pod.writable, ["/var/lib/gotel"]);
    let declared: BTreeSet<String> = pod.writable.iter().cloned().collect();
    assert_eq!(mounted_to_write(gotel), declared);
    let mut taken = BTreeSet::new();
    let inside = PathBuf::from(format!("/proc/{}/root", gotel.pid()));
    try_to_write(&inside, &inside, &mut taken);
    assert_eq!(taken, declared);
}

/// Mounts that may be written to, seen from inside, but for Linux' own.
fn mounted_to_write(gotel: &Gotel) -> BTreeSet<String> {
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", gotel.pid())).unwrap();
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mounts: Vec<_> = mounts.map(|fields| (fields[4].to_owned(), fields[5].to_owned())).collect();
    assert!(mounts.iter().any(|(place, _)| place == "/"), "{mounts:?}");
    let own = |place: &str| place.starts_with("/proc") || place.starts_with("/dev/");
    let writable = |options: &str| options.split(',').any(|option| option == "rw");
    let found = mounts.into_iter().filter(|(place, options)| !own(place) && writable(options));
    found.map(|(place, _)| place).collect()
}

/// Tries to make a file in every folder and to open every file to write, by way of the process's own root, with the
/// rights of whoever runs the tests: of the files' owner at least. Files in a folder that takes a new one are its.
fn try_to_write(root: &Path, folder: &Path, taken: &mut BTreeSet<String>) {
    let refused = |error: std::io::Error, path: &Path| {
        // The second: it is the very program that runs.
        let kinds = [ErrorKind::ReadOnlyFilesystem, ErrorKind::ExecutableFileBusy];
        assert!(kinds.contains(&error.kind()), "{}: {error}", path.display());
    };
    let attempt = folder.join("tried");
    match OpenOptions::new().write(true).create_new(true).open(&attempt) {
        Ok(_) => {
            std::fs::remove_file(&attempt).unwrap();
            taken.insert(format!("/{}", folder.strip_prefix(root).unwrap().display()));
            return;
        }
        Err(error) => refused(error, folder),
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && !["proc", "dev"].iter().any(|own| path == root.join(own)) {
            try_to_write(root, &path, taken);
        } else if kind.is_file() {
            match OpenOptions::new().append(true).open(&path) {
                Ok(_) => panic!("{} can be written", path.display()),
                Err(error) => refused(error, &path),
            }
        }
    }
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
    let Some(program) = released() else { return };
    let Some(cluster) = Cluster::shared() else { return };
    let values = ["examples/kubernetes/values-small.yaml"];
    let rendered = template(&cluster, &values, &[NO_OPERATOR]).await.ok();
    let pod = pod(&program, &rendered, &[], &[]);
    let mut gotel = pod.start(0);
    let url = gotel.url().await;
    is_restricted(&gotel, &pod);
    let body = json!({"app": "billing", "component": "nightly", "every": "1h"});
    post(&url, "reservation", "", Some(body)).await;
    post(&url, "checkin/billing/nightly", "", None).await;
    assert!(page(&url, "status", "").await.contains("nightly"));
    assert!(pod.at("/var/lib/gotel/gotel.db").is_file(), "the database is on the volume");
    gotel.sigterm();
    let status = gotel.wait_exit(SOON).await;
    assert!(status.success(), "{status}: {}", gotel.output());
}

#[tokio::test]
async fn every_installation_has_a_configuration_that_gotel_takes() {
    let Some(program) = released() else { return };
    let Some(cluster) = Cluster::shared() else { return };
    for (name, files) in INSTALLATIONS {
        let rendered = template(&cluster, files, &[]).await.ok();
        let urls = "mysql://gotel:secret@one.example.org/gotel\nmysql://gotel:secret@two.example.org/gotel\n";
        let secrets = [("database/url", urls.lines().next().unwrap()), ("database/urls", urls)];
        // Of an authority of one's own, only the place is looked at here.
        let config: &[(&str, &str)] = if name == "everything" { &[("caFile: ", "# ")] } else { &[] };
        let mut pod = pod(&program, &rendered, config, &secrets);
        pod.args = ["config", "check", "--config=/etc/gotel/gotel.yaml"].map(str::to_owned).to_vec();
        let mut gotel = pod.start(0);
        let status = gotel.wait_exit(SOON).await;
        assert!(status.success(), "{name}: {}", gotel.output());
    }
}

/// The first replica of a cluster of the example with two; heartbeats go over loopback.
async fn replica_of(
    (program, cluster): (&Path, &Cluster),
    name: &str,
    other: &str,
    net: &str,
    db: &TestDb,
    chat: &str,
) -> Pod {
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
    pod(program, &rendered, &[("0.0.0.0:8081", &address(name))], &secrets)
}

#[tokio::test]
async fn two_clusters_watch_each_other_and_one_tells_when_the_other_is_gone() {
    let Some(program) = released() else { return };
    let Some(cluster) = Cluster::shared() else { return };
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let chat = Receiver::webhook().await;
    let chat_url = chat.url("/hook");
    // Of the loopback network, a part that no other test uses.
    let net = format!("127.{}.{}", fastrand::u8(1..), fastrand::u8(1..));
    let token = format!("{SECRET}-token-jobs");
    let eu = replica_of((&program, &cluster), "eu", "us", &net, &db, &chat_url).await;
    let us = replica_of((&program, &cluster), "us", "eu", &net, &db, &chat_url).await;

    let mut eu = (eu.start(0), eu);
    let eu_url = eu.0.url().await;
    eventually(SOON, "eu to coordinate", async || page(&eu_url, "is-coordinator", "").await == "true").await;
    let mut us = (us.start(0), us);
    let us_url = us.0.url().await;
    for (gotel, pod) in [&eu, &us] {
        is_restricted(gotel, pod);
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
