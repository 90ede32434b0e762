//! What the chart renders, and what it refuses.

use serde_json::Value;

use super::{INSTALLATIONS, MONITORED, at, template};
use crate::util::cluster::Cluster;

#[tokio::test]
async fn the_chart_has_no_fault_that_helm_knows_of() {
    let Some(cluster) = Cluster::shared() else { return };
    for (name, files) in INSTALLATIONS {
        let mut args = vec!["lint".to_owned(), "--strict".to_owned(), at("charts/gotel")];
        args.extend(files.iter().map(|file| format!("--values={}", at(file))));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let out = cluster.helm(&args).await.ok();
        assert!(out.contains("0 chart(s) failed") && !out.contains("[WARNING]"), "{name}: {out}");
    }
}

#[tokio::test]
async fn each_installation_renders_what_it_did_before() {
    let Some(cluster) = Cluster::shared() else { return };
    for (name, files) in INSTALLATIONS {
        // The CRD is the one in `crds/`, and a text of its own.
        let args = ["--set=crds.enabled=false", "--set=metrics.dashboard.enabled=false", MONITORED];
        insta::assert_snapshot!(name, template(&cluster, files, &args).await.ok());
    }
}

#[tokio::test]
async fn two_renderings_are_the_same() {
    let Some(cluster) = Cluster::shared() else { return };
    let (_, files) = INSTALLATIONS[2];
    let one = template(&cluster, files, &[MONITORED]).await.ok();
    assert_eq!(one, template(&cluster, files, &[MONITORED]).await.ok());
}

#[tokio::test]
async fn values_that_cannot_work_are_refused_with_what_would() {
    let Some(cluster) = Cluster::shared() else { return };
    let sqlite = "database.sqlite.enabled=true";
    let mysql = "database.existingSecret.name=db";
    let cases: &[(&[&str], &str)] = &[
        (&[], "at '/clusterName'"),
        (&["clusterName=EU"], "at '/clusterName'"),
        (&["clusterName=eu"], "set database.existingSecret.name"),
        (&["clusterName=eu", sqlite], "SQLite serves one process, and replicas is 2: set replicas=1"),
        (&["clusterName=eu", sqlite, mysql], "keep one of them"),
        (&["clusterName=eu", mysql], "auth.tokens: is empty, so nobody could check in"),
        (
            &["clusterName=eu", mysql, "auth.mode=none", "replica=3"],
            "additional properties 'replica' not allowed",
        ),
        (
            &["clusterName=eu", mysql, "auth.mode=none", "image.tagg=x"],
            "additional properties 'tagg' not allowed",
        ),
        (&["clusterName=eu", mysql, "auth.mode=nobody"], "at '/auth/mode'"),
        (
            &[
                "clusterName=eu",
                mysql,
                "auth.mode=none",
                "alerters[0].name=x",
                "alerters[0].type=smtp",
                "alerters[0].password=y",
            ],
            "additional properties 'password' not allowed",
        ),
        (
            &["clusterName=eu", mysql, "auth.mode=none", "alerters[0].name=x", "alerters[0].type=pagerduty"],
            "secretName",
        ),
        (
            &[
                "clusterName=eu",
                mysql,
                "auth.mode=none",
                "peers.others[0].id=us-0",
                "peers.others[0].url=http://x:1",
            ],
            "peers.existingSecret.name",
        ),
        (
            &["clusterName=eu", "replicas=1", sqlite, "auth.mode=none", "peers.existingSecret.name=x"],
            "SQLite serves one replica",
        ),
        (
            &[
                "clusterName=eu",
                mysql,
                "auth.mode=none",
                "metrics.prometheusRule.enabled=true",
                "metrics.prometheusRule.renderMode=failIfMissing",
            ],
            "this cluster knows no PrometheusRule",
        ),
    ];
    for (settings, why) in cases {
        let args: Vec<_> = settings.iter().map(|setting| format!("--set={setting}")).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let refused = template(&cluster, &[], &args).await.refused();
        assert!(refused.contains(why), "{settings:?} is to be refused with {why:?}:\n{refused}");
    }
}

/// Every path of an object that leads to no further object.
fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
    match value.as_object() {
        Some(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                leaves(&format!("{path}.{name}"), value, found);
            }
        }
        _ => found.push(path.trim_start_matches('.').to_owned()),
    }
}

/// The same of a schema's properties; what may be anything is a leaf.
fn schema_leaves(path: &str, schema: &Value, root: &Value, found: &mut Vec<String>) {
    let reference = schema["$ref"].as_str().and_then(|name| name.strip_prefix("#/$defs/"));
    let schema = reference.map_or(schema, |name| &root["$defs"][name]);
    match schema["properties"].as_object() {
        Some(properties) => {
            for (name, schema) in properties {
                schema_leaves(&format!("{path}.{name}"), schema, root, found);
            }
        }
        None => found.push(path.trim_start_matches('.').to_owned()),
    }
}

#[test]
fn values_schema_and_readme_name_the_same() {
    let read = |name: &str| std::fs::read_to_string(at(&format!("charts/gotel/{name}"))).unwrap();
    let values: Value = serde_yaml::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let (mut named, mut allowed) = (Vec::new(), Vec::new());
    leaves("", &values, &mut named);
    schema_leaves("", &schema, &schema, &mut allowed);
    // Of these the schema knows more than their default shows.
    let free = [
        "config.coordination",
        "config.retention",
        "operator.settings",
        "resources",
        "metrics.dashboard.labels",
    ];
    let folded = |path: String| match free.iter().find(|free| path.starts_with(&format!("{free}."))) {
        Some(free) => (*free).to_owned(),
        None => path,
    };
    let sorted = |paths: Vec<String>| -> std::collections::BTreeSet<String> {
        // Helm hands `global` to every chart.
        paths.into_iter().map(folded).filter(|path| path != "global").collect()
    };
    let named = sorted(named);
    assert_eq!(named, sorted(allowed));
    let readme = read("README.md");
    for path in named {
        assert!(readme.contains(&format!("| `{path}` |")), "{path} has a line in README.md");
    }
}
