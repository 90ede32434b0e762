//! Rules and dashboard speak of figures that there are.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{INSTALLATIONS, MONITORED, object, template};
use crate::docs::workshop::Workshop;
use crate::util::cluster::Cluster;

/// Every name of a figure in a text.
fn figures(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("gotel_")).map(str::to_owned).collect()
}

fn source(path: &str) -> String {
    std::fs::read_to_string(super::at(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every `expr` in a value.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_figure_that_rules_and_dashboard_use_is_one_that_gotel_has() {
    let Some(cluster) = Cluster::shared() else { return };
    let rendered = template(&cluster, INSTALLATIONS[2].1, &[MONITORED]).await.ok();
    let rules = object(&rendered, "PrometheusRule");
    let dashboard = super::objects(&rendered)
        .into_iter()
        .find_map(|object| object["data"]["gotel.json"].as_str().map(str::to_owned))
        .expect("the dashboard is rendered");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("it is JSON");
    let mut used = Vec::new();
    expressions(&rules, &mut used);
    expressions(&dashboard, &mut used);
    assert!(used.len() > 20, "{used:?}");

    let workshop = Workshop::new();
    let (_gotel, base) = workshop.serve("gotel serve").await;
    let client = gotel::alert::client(None).expect("a client can be built");
    let page = client.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
    let shown: BTreeSet<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    // What has no value yet is not shown; then the program's text has to do.
    let registered = source("src/metrics.rs") + &source("src/metrics/operator.rs");
    let used: BTreeSet<String> = used.iter().flat_map(|text| figures(text)).collect();
    for figure in used {
        let base = ["_bucket", "_total", "_seconds"]
            .iter()
            .fold(figure.trim_start_matches("gotel_"), |name, end| name.strip_suffix(end).unwrap_or(name));
        assert!(registered.contains(&format!("\"{base}\"")), "there is no figure {figure}");
        let alike = |name: &&str| name.trim_start_matches("gotel_").starts_with(base);
        assert!(shown.contains(figure.as_str()) || !shown.iter().any(alike), "{figure} in {shown:?}");
    }
}
