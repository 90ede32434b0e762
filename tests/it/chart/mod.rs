//! The Helm chart and the files in `examples/kubernetes/`, with the real Helm and real API servers.

mod canary;
mod image;
mod jobs;
mod monitoring;
mod objects;
mod release;
mod render;
mod sandbox;
mod story;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::util::cluster::{Cluster, Ran};

/// Long enough that only a fault exceeds it, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Values that somebody might use, from the smallest on: what they are, and their files in the order of `-f`.
const INSTALLATIONS: [(&str, &[&str]); 6] = [
    ("sqlite", &["charts/gotel/ci/sqlite-values.yaml"]),
    ("mysql", &["charts/gotel/ci/mysql-values.yaml"]),
    ("everything", &["charts/gotel/ci/everything-values.yaml"]),
    ("small", &["examples/kubernetes/values-small.yaml"]),
    ("eu", &["examples/kubernetes/values-shared.yaml", "examples/kubernetes/values-eu.yaml"]),
    ("us", &["examples/kubernetes/values-shared.yaml", "examples/kubernetes/values-us.yaml"]),
];

/// What tells Helm that the cluster has the Prometheus operator.
const MONITORED: &str =
    "--api-versions=monitoring.coreos.com/v1/ServiceMonitor,monitoring.coreos.com/v1/PrometheusRule";

/// A path in the repository.
fn at(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().expect("the clone's path is text").to_owned()
}

/// The release `gotel` in the namespace `gotel`, rendered with these files of values and further arguments.
async fn template(cluster: &Cluster, files: &[&str], args: &[&str]) -> Ran {
    let chart = at("charts/gotel");
    let mut all = vec!["template".to_owned(), "gotel".to_owned(), chart, "--namespace=gotel".to_owned()];
    all.extend(files.iter().map(|file| format!("--values={}", at(file))));
    all.extend(args.iter().map(|&arg| arg.to_owned()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    cluster.helm(&all).await
}

/// The objects of a text of YAML.
fn objects(yaml: &str) -> Vec<Value> {
    let documents = format!("\n{yaml}");
    let parse = |text: &str| serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{e}:\n{text}"));
    documents.split("\n---").map(parse).filter(|value: &Value| value.is_object()).collect()
}

/// The one object of a kind.
fn object(yaml: &str, kind: &str) -> Value {
    let mut found: Vec<_> = objects(yaml).into_iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "there is one {kind}");
    found.remove(0)
}
