//! A team's namespace in a real cluster, GoTel at work for it with the rights that the chart gives and nothing more, and
//! what both say.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::util::cluster::{Cluster, Namespace};
use crate::util::db::{Backend, TestDb};
use crate::util::node::{Node, metric};
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

/// Long enough that only a fault exceeds it, also on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// Longer than a replica waits before it leaves the lease to others, and comes back.
pub(super) const LATER: Duration = Duration::from_secs(150);

/// What `kubectl wait` is told of [`LATER`].
const WAIT: &str = "--timeout=150s";

/// Whether a replica writes for its cluster.
pub(super) const LEADS: &str = "gotel_operator_leads";

/// What it has written to the API.
pub(super) const WRITES: &str = "gotel_operator_api_writes_total";

/// A path of this project.
pub(super) fn at(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().unwrap().to_owned()
}

/// Makes a cluster know reservations.
pub(super) async fn define(cluster: &Cluster) {
    let crd = std::fs::read_to_string(at("crds/reservations.yaml")).unwrap();
    cluster.define(&crd).await;
}

/// A namespace of a cluster that knows reservations, and an account there with the chart's rights to it.
pub(super) async fn team(cluster: &Cluster, begin: &str) -> (Namespace, PathBuf) {
    define(cluster).await;
    let namespace = cluster.namespace(begin).await;
    let kubeconfig = rights(&namespace, None, "").await;
    (namespace, kubeconfig)
}

/// The same, and the account reaches the API server at `proxy`.
pub(super) async fn team_behind(cluster: &Cluster, begin: &str, proxy: SocketAddr) -> (Namespace, PathBuf) {
    define(cluster).await;
    let namespace = cluster.namespace(begin).await;
    let kubeconfig = rights(&namespace, Some(proxy), "").await;
    (namespace, kubeconfig)
}

/// An account in a namespace with the rights to it that the chart gives under these further values, and the way to the
/// API server.
pub(super) async fn rights(namespace: &Namespace, server: Option<SocketAddr>, values: &str) -> PathBuf {
    let (cluster, release) = (&namespace.cluster, &namespace.name);
    let scope = format!("--set=operator.namespaces={{{release}}}");
    let (chart, small) = (at("charts/gotel"), at("charts/gotel/ci/sqlite-values.yaml"));
    let further = format!("--set={values}");
    let args = [
        "template",
        release,
        &chart,
        "--namespace",
        release,
        "--set=crds.enabled=false",
        "--values",
        &small,
        &scope,
        &further,
    ];
    let rendered = cluster.helm(&args).await.ok();
    let mut roles = 0;
    for text in format!("\n{rendered}").split("\n---") {
        let object: Value = serde_yaml::from_str(text).unwrap_or_default();
        let kind = object["kind"].as_str().unwrap_or_default();
        if kind.contains("Role") || kind == "ServiceAccount" {
            cluster.apply(&object.to_string(), &[]).await.ok();
            roles += 1;
        }
    }
    assert!(roles >= 3, "{rendered}");
    let account = account(&rendered);
    let may = format!("system:serviceaccount:{release}:{account}");
    until_may_list(namespace, &may, true).await;
    namespace.kubeconfig_of(&account, server).await
}

/// The name of the one ServiceAccount.
fn account(rendered: &str) -> String {
    let objects = format!("\n{rendered}");
    let objects = objects.split("\n---").filter_map(|text| serde_yaml::from_str::<Value>(text).ok());
    let mut accounts = objects.filter(|object| object["kind"] == "ServiceAccount");
    accounts.next().expect("the chart has one")["metadata"]["name"].as_str().unwrap().to_owned()
}

async fn until_may_list(namespace: &Namespace, account: &str, may: bool) {
    let asked = ["auth", "can-i", "list", "reservations.gotel.dev", "--as", account];
    eventually(SOON, "the rights to hold", async || (namespace.kubectl(&asked).await.code == Some(0)) == may)
        .await;
}

/// Leaves these verbs of what the accounts of a namespace may do with reservations.
pub(super) async fn narrow(namespace: &Namespace, verbs: &[&str]) {
    let roles = namespace.json(&["get", "roles"]).await;
    let watches = |role: &&Value| role["rules"][0]["resources"] == json!(["reservations"]);
    let role = roles["items"].as_array().unwrap().iter().find(watches).expect("the chart has one");
    let patch = json!([{"op": "replace", "path": "/rules/0/verbs", "value": verbs}]).to_string();
    let name = role["metadata"]["name"].as_str().unwrap();
    namespace.kubectl(&["patch", "role", name, "--type=json", "-p", &patch]).await.ok();
    let accounts = namespace.kubectl(&["get", "serviceaccounts", "-o", "name"]).await.ok();
    for account in accounts.lines().filter_map(|line| line.strip_prefix("serviceaccount/")) {
        let account = format!("system:serviceaccount:{}:{account}", namespace.name);
        if !account.ends_with(":default") {
            until_may_list(namespace, &account, verbs.contains(&"list")).await;
        }
    }
}

/// A configuration: the cluster's name, its namespaces, what else is in the block, who is told.
pub(super) fn yaml(cluster: &str, namespaces: &str, more: &str, hook: &Receiver) -> String {
    format!(
        "kubernetes: {{mode: 'on', clusterName: {cluster}, namespaces: [{namespaces}]{more}}}\n\
         alerters: [{{name: hook, type: webhook, url: '{}'}}]\n",
        hook.url("/")
    )
}

/// GoTel at work.
pub(super) async fn gotel(database: &str, kubeconfig: &Path, yaml: &str) -> Node {
    Node::start(database.to_owned(), yaml, &[("KUBECONFIG", kubeconfig.to_str().unwrap())]).await
}

/// A database for one replica.
pub(super) async fn sqlite() -> TestDb {
    TestDb::new(Backend::Sqlite).await.unwrap()
}

/// A reservation `billing/NAME` of an object `NAME`.
pub(super) fn object(name: &str, more: Value) -> String {
    let mut spec = json!({"app": "billing", "component": name, "schedule": {"every": "1h"}});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let (api, kind) = ("gotel.dev/v1alpha1", "Reservation");
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

/// Objects of these names, applied at once.
pub(super) async fn apply_all(namespace: &Namespace, names: &[String]) {
    let items: Vec<Value> =
        names.iter().map(|name| serde_json::from_str(&object(name, json!({}))).unwrap()).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    namespace.apply(&list.to_string()).await.ok();
}

/// `BEGIN-0`, `BEGIN-1` and so on.
pub(super) fn names(begin: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{begin}-{n}")).collect()
}

/// `True/Watching` and the like; "" when it is not said.
pub(super) async fn says(namespace: &Namespace, name: &str, type_: &str) -> String {
    let path = format!(
        "jsonpath={{range .status.conditions[?(@.type==\"{type_}\")]}}{{.status}}/{{.reason}}{{end}}"
    );
    namespace.kubectl(&["get", "reservations.gotel.dev", name, "-o", &path]).await.out
}

/// Waits until an object says so.
pub(super) async fn until_says(namespace: &Namespace, name: &str, type_: &str, right: &str) {
    let what = format!("{name} says {type_}={right}");
    eventually(LATER, what, async || {
        // By a watch, as long as that lasts: asking again and again costs more than all else here.
        let (_, reason) = right.split_once('/').expect("status and reason");
        let path = format!("--for=jsonpath={{.status.conditions[?(@.type==\"{type_}\")].reason}}={reason}");
        namespace.kubectl(&["wait", "reservations.gotel.dev", name, &path, "--timeout=20s"]).await;
        let says = says(namespace, name, type_).await;
        if says == right { Ok(()) } else { Err(says) }
    })
    .await;
}

/// Waits until all objects of a namespace are watched, and returns them by their names.
pub(super) async fn until_watched(namespace: &Namespace, count: usize) -> Vec<Value> {
    namespace.kubectl(&["wait", "reservations.gotel.dev", "--all", "--for=condition=Ready", WAIT]).await.ok();
    let list = namespace.json(&["get", "reservations.gotel.dev"]).await;
    let objects = list["items"].as_array().unwrap().clone();
    assert_eq!(objects.len(), count);
    objects
}

/// Their versions.
pub(super) fn versions(objects: &[Value]) -> Vec<String> {
    let version = |object: &Value| {
        let meta = &object["metadata"];
        format!("{} {}", meta["name"], meta["resourceVersion"])
    };
    objects.iter().map(version).collect()
}

/// Whether there is a reservation of this object.
pub(super) async fn is_watched(node: &Node, name: &str) -> bool {
    node.get(&format!("/reservation/billing/{name}")).await.0 == 200
}

/// Fails if a reservation of these objects is not there.
pub(super) async fn all_are_watched(node: &Node, names: &[String]) {
    for name in names {
        assert!(is_watched(node, name).await, "{name}");
    }
}

/// How often the job of this object has checked in.
pub(super) async fn checkins(node: &Node, name: &str) -> Value {
    node.json(&format!("/reservation/billing/{name}")).await["result"]["number_of_checkins"].clone()
}

/// The sum of a figure's series that begin so.
pub(super) async fn figure(node: &Node, name: &str) -> f64 {
    metric(&node.get("/metrics").await.1, name)
}

/// Waits until a figure is this.
pub(super) async fn until_figure(node: &Node, name: &str, right: f64) {
    eventually(LATER, format!("{name} to be {right}"), async || {
        let is = figure(node, name).await;
        if is == right { Ok(()) } else { Err(is.to_string()) }
    })
    .await;
}

/// What people were told, in order: `trigger billing/nightly` and the like.
pub(super) fn told(hook: &Receiver) -> Vec<String> {
    let line = |body: Value| {
        let word = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        format!("{} {}/{}", word("event"), word("app"), word("component"))
    };
    hook.requests().into_iter().map(|request| line(request.json())).collect()
}

/// Waits until people were told just this.
pub(super) async fn until_told(hook: &Receiver, right: &[&str]) {
    eventually(LATER, format!("people to be told {right:?}"), async || {
        let told = told(hook);
        if told == right { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

/// Reasons of the events in a namespace, each with what it speaks of.
pub(super) async fn events(namespace: &Namespace) -> Vec<String> {
    let list = namespace.json(&["get", "events.events.k8s.io"]).await;
    let line = |event: &Value| {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (reason, of) = (word(&event["reason"]), word(&event["regarding"]["kind"]));
        let times = event["series"]["count"].as_u64().map_or_else(String::new, |n| format!(" ×{n}"));
        format!("{reason} {of}{times}")
    };
    list["items"].as_array().unwrap().iter().map(line).collect()
}

/// The first column of what SQL yields, as text.
pub(super) async fn query(db: &TestDb, sql: &str) -> Vec<String> {
    let rows = db.connect().await.fetch_all(AssertSqlSafe(sql.to_owned())).await.unwrap();
    rows.iter().map(|row| row.try_get::<String, _>(0).unwrap()).collect()
}
