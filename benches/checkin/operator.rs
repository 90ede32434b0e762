//! Thousands of objects in a cluster: until all are ready, what that costs the API, and how a new one fares meanwhile.
//!
//! The baseline is a bare client that writes as many statuses of the same shape, as many at a time as the controller
//! does: the API server and its store do the work in either case. What a cluster's objects already hold before the
//! controller starts is the bare client's status, so that each of them has to be written again. The two take turns, the
//! controller with an empty database each time.

use super::Depth;
use super::db::{Backend, Db};
use super::load::{self, Plan};
use super::process::Server;
use super::report::{Report, at_most, count, progress};
use super::timing::median;
use futures::{StreamExt, TryStreamExt, stream};
use gotel::clock;
use gotel::operator::crd::{Reservation, ReservationSpec, ScheduleSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use serde_json::json;
use std::time::Duration;

/// As many as the controller looks at at a time.
const AT_A_TIME: usize = 16;

/// New objects made while the others are refreshed.
const NEW: usize = 5;

/// The phase that the bare client writes, and the controller does not.
const BARE: &str = "Suspended";

/// Series of figures.
const WRITES: &str = "gotel_operator_api_writes_total";
const PASSES: &str = "gotel_operator_reconciliations_total";

/// The longest anything here may take.
const LIMIT_US: i64 = 600_000_000;

pub async fn run(databases: &[Backend], depth: Depth, report: &mut Report) {
    let Ok(kubeconfigs) = std::env::var("GOTEL_TEST_KUBECONFIGS") else {
        return eprintln!("objects are left out: GOTEL_TEST_KUBECONFIGS is not set");
    };
    let kubeconfig = kubeconfigs.split(',').next().unwrap_or_default();
    let Some(backend) = databases.iter().find(|backend| backend.name == "MariaDB") else {
        return eprintln!("objects are left out: there is no MariaDB");
    };
    // How many, and in how many rounds.
    let sizes: &[(usize, usize)] = if depth == Depth::Full { &[(1000, 5), (10_000, 3)] } else { &[(200, 1)] };
    let client = client(kubeconfig).await;
    define(&client).await;
    let mut rows = Vec::new();
    for (objects, rounds) in sizes {
        progress(&format!("objects: {}", count(*objects as f64)));
        rows.push(measure(&client, kubeconfig, backend, *objects, *rounds).await);
    }
    let columns = [
        "objects",
        "bare client s",
        "all ready s",
        "× the bare client",
        "writes an object",
        "writes after a restart",
        "peak MB resident",
        "a new one ready s (median)",
        "(maximum)",
    ];
    report.table("Objects in a cluster, on MariaDB", &columns, &rows);
}

async fn client(kubeconfig: &str) -> Client {
    let config = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig can be read");
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("the kubeconfig names a cluster")).expect("its certificates can be used")
}

/// Gives the cluster the definition.
async fn define(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = Reservation::crd();
    let apply = PatchParams::apply("bench").force();
    let applied = api.patch(&definition.name_any(), &apply, &Patch::Apply(&definition)).await;
    applied.expect("the definition is taken");
    let objects: Api<Reservation> = Api::all(client.clone());
    until("the kind", async || objects.list(&Default::default()).await.is_ok()).await;
}

async fn measure(
    client: &Client,
    kubeconfig: &str,
    backend: &Backend,
    objects: usize,
    rounds: usize,
) -> Vec<String> {
    let namespace = format!("bench-{}", uuid::Uuid::new_v4().simple());
    let one = Namespace {
        metadata: kube::core::ObjectMeta { name: Some(namespace.clone()), ..Default::default() },
        ..Default::default()
    };
    Api::all(client.clone()).create(&PostParams::default(), &one).await.expect("a namespace can be made");
    let api: Api<Reservation> = Api::namespaced(client.clone(), &namespace);
    let names = || stream::iter((0..objects).map(name));
    let create = names().map(|name| create(&api, name)).buffer_unordered(AT_A_TIME);
    create.try_collect::<Vec<()>>().await.expect("objects can be made");

    // The controller will replace a status, which costs the API server more than a first one: so does the bare client.
    let bare = async |round: usize| {
        let began_us = clock::boot_us();
        let all = names().map(|name| show(&api, name, round)).buffer_unordered(AT_A_TIME);
        all.try_collect::<Vec<()>>().await.expect("statuses can be written");
        clock::since_us(began_us).as_secs_f64()
    };
    bare(0).await;
    let (mut bare_s, mut ready_s, mut times, mut writes, mut first) = (vec![], vec![], vec![], 0f64, 0);
    let mut last = None;
    for round in 1..=rounds {
        bare_s.push(bare(round).await);
        let db = Db::new(backend).await;
        let server = Server::in_cluster(&db.url, kubeconfig, &namespace);
        let figures = Figures::of(&server);
        until("the lease", async || figures.sum("gotel_operator_leads").await > 0.0).await;
        let began_us = clock::boot_us();
        until("as many writes", async || figures.sum(WRITES).await >= objects as f64).await;
        // Some may have been written twice. The API server looks for those that were not: all in one list would take it
        // a second.
        until("all to be shown", async || are_shown(&api).await).await;
        ready_s.push(clock::since_us(began_us).as_secs_f64());
        times.push(ready_s[round - 1] / bare_s[round - 1]);
        assert_eq!(ready(&api).await, objects, "all are ready");
        writes = writes.max(figures.sum(WRITES).await);
        first = first.max(server.peak_bytes());
        // In good order: one that was killed has missed some time, and moves deadlines by it.
        server.end();
        if let Some(earlier) = last.replace(db) {
            earlier.end().await;
        }
    }
    let db = last.expect("there is a round");

    let server = Server::in_cluster(&db.url, kubeconfig, &namespace);
    let figures = Figures::of(&server);
    until("all to be looked at again", async || figures.sum(PASSES).await >= objects as f64).await;
    let again = figures.sum(WRITES).await;
    // Everybody checks in meanwhile: as many times are to be refreshed as there are objects.
    let plan = Plan {
        addr: server.addr.clone(),
        clients: 16,
        jobs: objects,
        warm: Duration::ZERO,
        run: Duration::from_secs(20),
        rate: 2000,
        apart: false,
    };
    let (_, new_s) = tokio::join!(load::run(&plan), newcomers(&api));
    let slowest_s = new_s.iter().copied().fold(0.0, f64::max);
    let peak = first.max(server.peak_bytes()) as f64 / 1e6;
    drop(server);
    db.end().await;
    vec![
        count(objects as f64),
        format!("{:.1}", median(bare_s)),
        format!("{:.1}", median(ready_s)),
        at_most(median(times), 1.5),
        at_most(writes / objects as f64, 2.0),
        at_most(again, 0.0),
        at_most(peak.round(), 100.0),
        format!("{:.2}", median(new_s)),
        at_most(slowest_s, 2.0),
    ]
}

fn name(n: usize) -> String {
    format!("job-{n:06}")
}

async fn create(api: &Api<Reservation>, name: String) -> kube::Result<()> {
    let spec = ReservationSpec {
        app: "bench".into(),
        component: name.clone(),
        schedule: ScheduleSpec { every: Some("1h".into()), ..Default::default() },
        ..Default::default()
    };
    api.create(&PostParams::default(), &Reservation::new(&name, spec)).await.map(drop)
}

/// What the bare client writes: of the shape that the controller writes.
async fn show(api: &Api<Reservation>, name: String, round: usize) -> kube::Result<()> {
    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "Unknown", "reason": "Bare",
            "message": format!("written by the bare client of a benchmark, round {round}"),
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        })
    };
    let status = json!({
        "apiVersion": "gotel.dev/v1alpha1",
        "kind": "Reservation",
        "status": {
            "phase": BARE,
            "observedGeneration": 1,
            "nextDeadlineTime": "2026-01-01T00:00:00Z",
            "conditions": [condition("Ready"), condition("OnTime")],
        },
    });
    // As the controller does: a field of one owner is not kept twice.
    let apply = PatchParams::apply("gotel").force();
    api.patch_status(&name, &apply, &Patch::Apply(status)).await.map(drop)
}

/// Makes new objects, one after the other, and takes the time until each is ready.
async fn newcomers(api: &Api<Reservation>) -> Vec<f64> {
    let mut took_s = Vec::new();
    for n in 0..NEW {
        // In the middle of the load.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let name = format!("new-{n}");
        let began_us = clock::boot_us();
        create(api, name.clone()).await.expect("an object can be made");
        until("a new object to be ready", async || {
            is_ready(&api.get_status(&name).await.expect("it is there"))
        })
        .await;
        took_s.push(clock::since_us(began_us).as_secs_f64());
    }
    took_s
}

fn is_ready(object: &Reservation) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Whether none is left that the controller has not written.
async fn are_shown(api: &Api<Reservation>) -> bool {
    let left = ListParams::default().fields(&format!("status.phase={BARE}"));
    api.list(&left).await.expect("objects can be listed").items.is_empty()
}

/// How many are.
async fn ready(api: &Api<Reservation>) -> usize {
    let all = api.list(&Default::default()).await.expect("objects can be listed");
    all.iter().filter(|object| is_ready(object)).count()
}

async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let began_us = clock::boot_us();
    while !look().await {
        assert!(clock::boot_us() - began_us < LIMIT_US, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The figures of a running server.
struct Figures {
    url: String,
    http: reqwest::Client,
}

impl Figures {
    fn of(server: &Server) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client can be made");
        Self { url: format!("http://{}/metrics", server.addr), http }
    }

    /// The sum of all series whose name and labels begin so.
    async fn sum(&self, begin: &str) -> f64 {
        let answer = self.http.get(&self.url).send().await.expect("figures are served");
        let text = answer.text().await.unwrap_or_default();
        let values = text.lines().filter(|line| line.starts_with(begin));
        // Of no series at all the sum would be -0.
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).fold(0.0, |sum, n| sum + n)
    }
}
