//! What chart and examples render, as a real API server sees it.

use serde_json::{Value, json};

use super::{INSTALLATIONS, MONITORED, SOON, at, object, objects, template};
use crate::util::cluster::{Cluster, Namespace};
use crate::util::wait::eventually;

fn example(name: &str) -> String {
    std::fs::read_to_string(at(&format!("examples/kubernetes/{name}"))).unwrap()
}

fn crd() -> String {
    std::fs::read_to_string(at("charts/gotel/files/reservations.yaml")).unwrap()
}

/// The shared cluster with the CRD in it; whoever comes second finds it there.
async fn with_crd() -> Option<Cluster> {
    let cluster = Cluster::shared()?;
    cluster.define(&crd()).await;
    Some(cluster)
}

async fn dry_run(namespace: &Namespace, what: &str, yaml: &str) {
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--warnings-as-errors",
        "-f",
        "-",
    ];
    let args = [&["-n", &namespace.name][..], &args].concat();
    let ran = namespace.cluster.kubectl_with(namespace.cluster.kubeconfig(), &args, yaml).await;
    assert_eq!(ran.code, Some(0), "{what}: {}{}", ran.out, ran.err);
}

#[tokio::test]
async fn the_api_server_takes_everything_that_chart_and_examples_render() {
    let Some(cluster) = with_crd().await else { return };
    let namespace = cluster.namespace("dry-run").await;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", &namespace.name, restricted]).await.ok();
    for (name, files) in INSTALLATIONS {
        let here = format!("--namespace={}", namespace.name);
        let mut args = vec![here.as_str()];
        let only_here = format!("--set=operator.namespaces={{{}}}", namespace.name);
        if name == "everything" {
            args.push(&only_here);
        }
        let rendered = template(&cluster, files, &args).await.ok();
        dry_run(&namespace, name, &rendered).await;
    }
    for name in [
        "reservation.yaml",
        "secrets.yaml",
        "admission-policy.yaml",
        "cronjob.yaml",
        "cronjob-start-fail.yaml",
    ] {
        dry_run(&namespace, name, &example(name)).await;
    }
    let kustomized = cluster.kubectl(&["kustomize", &at("examples/kubernetes")]).await.ok();
    assert_eq!(objects(&kustomized).len(), 4);
    let kustomized = kustomized.replace("namespace: billing\n", &format!("namespace: {}\n", namespace.name));
    dry_run(&namespace, "kustomization.yaml", &kustomized).await;
}

#[tokio::test]
async fn the_prometheus_operator_is_given_what_it_takes() {
    // Its definitions would tell other tests' Helm that it is there.
    let Some(cluster) = Cluster::private() else { return };
    let namespace = cluster.namespace("monitored").await;
    let definitions = std::fs::read_to_string(at("tests/it/chart/prometheus-operator.yaml")).unwrap();
    cluster.define(&definitions).await;
    let mut kinds = Vec::new();
    for (name, files) in INSTALLATIONS {
        let here = format!("--namespace={}", namespace.name);
        let elsewhere = format!("--set=metrics.serviceMonitor.namespace={}", namespace.name);
        let mut args = vec![here.as_str(), MONITORED];
        if name == "everything" {
            args.push(&elsewhere);
        }
        let rendered = template(&cluster, files, &args).await.ok();
        for object in objects(&rendered) {
            let kind = object["kind"].as_str().unwrap();
            if object["apiVersion"] == "monitoring.coreos.com/v1" {
                dry_run(&namespace, &format!("{kind} of {name}"), &object.to_string()).await;
                kinds.push(kind.to_owned());
            }
        }
    }
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        assert_eq!(kinds.iter().filter(|known| *known == kind).count(), 3, "{kind} in {kinds:?}");
    }
    // They are not taken for whatever they hold.
    let mut wrong =
        object(&template(&cluster, INSTALLATIONS[2].1, &[MONITORED]).await.ok(), "ServiceMonitor");
    wrong["metadata"]["namespace"] = namespace.name.clone().into();
    wrong["spec"]["endpoints"][0]["relabeling"] = json!([]);
    let refused = namespace.apply(&wrong.to_string()).await.refused();
    assert!(refused.contains("relabeling"), "{refused}");
}

#[tokio::test]
async fn the_pods_fit_the_restricted_standard() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = cluster.namespace("restricted").await;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", &namespace.name, restricted]).await.ok();
    for (name, files) in INSTALLATIONS {
        let rendered = template(&cluster, files, &["--set=operator.enabled=false"]).await.ok();
        let mut template = object(&rendered, "StatefulSet")["spec"]["template"].clone();
        template["spec"]["serviceAccountName"] = "default".into();
        let volumes = template["spec"]["volumes"].as_array_mut().unwrap();
        if !volumes.iter().any(|volume| volume["name"] == "data") {
            volumes.push(json!({"name": "data", "emptyDir": {}}));
        }
        for mut pod in [template, object(&rendered, "Pod")] {
            pod["apiVersion"] = "v1".into();
            pod["kind"] = "Pod".into();
            pod["metadata"]["name"] = format!("fits-{name}").into();
            pod["metadata"]["namespace"] = namespace.name.clone().into();
            dry_run(&namespace, name, &pod.to_string()).await;
        }
    }
}

#[tokio::test]
async fn server_side_apply_twice_changes_nothing() {
    let Some(cluster) = with_crd().await else { return };
    let namespace = cluster.namespace("twice").await;
    let version = async || {
        let list = namespace.json(&["get", "rsv"]).await;
        let items = list["items"].as_array().unwrap().clone();
        items.into_iter().map(|item| item["metadata"]["resourceVersion"].clone()).collect::<Vec<_>>()
    };
    namespace.apply(&example("reservation.yaml")).await.ok();
    let once = version().await;
    assert_eq!(once.len(), 2);
    namespace.apply(&example("reservation.yaml")).await.ok();
    assert_eq!(version().await, once);
    let args = ["-n", &namespace.name, "diff", "--server-side", "-f", "-"];
    let diff = cluster.kubectl_with(cluster.kubeconfig(), &args, &example("reservation.yaml")).await;
    assert_eq!((diff.code, diff.out.as_str()), (Some(0), ""), "{}", diff.err);
}

/// Whether the account may; asked of the API server with the account's own token.
async fn may(
    cluster: &Cluster,
    kubeconfig: &std::path::Path,
    namespace: &str,
    verb_and_what: &[&str],
) -> bool {
    let args = [&["auth", "can-i", "-n", namespace][..], verb_and_what].concat();
    let ran = cluster.kubectl_with(kubeconfig, &args, "").await;
    match ran.out.trim() {
        "yes" => true,
        "no" => false,
        _ => panic!("{}{}", ran.out, ran.err),
    }
}

#[tokio::test]
async fn the_operator_may_do_what_it_needs_and_nothing_more() {
    let Some(cluster) = with_crd().await else { return };
    let namespace = cluster.namespace("rbac").await;
    let other = cluster.namespace("rbac-other").await;
    for (scope, elsewhere) in [("", true), (namespace.name.as_str(), false)] {
        let release = if elsewhere { "gotel-wide" } else { "gotel-narrow" };
        let rendered = {
            let chart = at("charts/gotel");
            let mut args =
                vec!["template", release, &chart, "--namespace", &namespace.name, "--set=crds.enabled=false"];
            let values = at("charts/gotel/ci/sqlite-values.yaml");
            let namespaces = format!("--set=operator.namespaces={{{scope}}}");
            args.extend(["--values", &values]);
            if !elsewhere {
                args.push(&namespaces);
            }
            cluster.helm(&args).await.ok()
        };
        let roles = |object: &Value| {
            let kind = object["kind"].as_str().unwrap_or_default();
            kind.contains("Role") || kind == "ServiceAccount"
        };
        let roles: Vec<_> = objects(&rendered).into_iter().filter(roles).collect();
        for role in &roles {
            cluster.apply(&role.to_string(), &[]).await.ok();
        }
        let kubeconfig = namespace.kubeconfig_of(release, None).await;
        let here = async |what: &[&str]| may(&cluster, &kubeconfig, &namespace.name, what).await;
        eventually(SOON, "the roles to hold", async || here(&["list", "reservations.gotel.dev"]).await).await;
        for verb in ["get", "watch"] {
            assert!(here(&[verb, "reservations.gotel.dev"]).await, "{release} {verb}");
        }
        assert!(here(&["patch", "reservations.gotel.dev", "--subresource=status"]).await);
        assert!(
            here(&["create", "events.events.k8s.io"]).await && here(&["patch", "events.events.k8s.io"]).await
        );
        assert!(here(&["get", "namespaces/kube-system"]).await, "{release}: the cluster's identity");
        assert!(here(&["get", "customresourcedefinitions/reservations.gotel.dev"]).await);
        for refused in [
            &["get", "secrets"][..],
            &["list", "secrets"],
            &["list", "configmaps"],
            &["list", "pods"],
            &["get", "namespaces/default"],
            &["update", "reservations.gotel.dev"],
            &["delete", "reservations.gotel.dev"],
            &["create", "leases"],
            &["create", "events"],
        ] {
            assert!(!here(refused).await, "{release} may {refused:?}");
        }
        let there = may(&cluster, &kubeconfig, &other.name, &["list", "reservations.gotel.dev"]).await;
        assert_eq!(there, elsewhere, "{release} in another namespace");
        for role in &roles {
            cluster.kubectl_with(cluster.kubeconfig(), &["delete", "-f", "-"], &role.to_string()).await.ok();
        }
    }
}

#[tokio::test]
async fn the_policy_lets_a_namespace_claim_its_own_apps_only() {
    // It is cluster-wide, and would be in other tests' way.
    let Some(cluster) = Cluster::private() else { return };
    cluster.apply(&crd(), &[]).await.ok();
    let billing = cluster.namespace("billing").await;
    cluster.apply(&example("admission-policy.yaml"), &[]).await.ok();
    let claim = |app: &str| {
        format!(
            "apiVersion: gotel.dev/v1alpha1\nkind: Reservation\nmetadata: {{name: claim}}\n\
             spec: {{app: {app}, component: nightly, schedule: {{every: 1h}}}}\n"
        )
    };
    let dry = async |app: &str| {
        let args = ["-n", &billing.name, "apply", "--dry-run=server", "-f", "-"];
        cluster.kubectl_with(cluster.kubeconfig(), &args, &claim(app)).await
    };
    let refused = eventually(SOON, "the policy to hold", async || {
        let ran = dry("billing").await;
        if ran.err.contains("may not claim") { Ok(ran.err) } else { Err(ran.out + &ran.err) }
    })
    .await;
    let says = format!("the namespace {} may not claim the app billing: use its own name", billing.name);
    assert!(refused.contains(&says), "{refused}");
    dry(&billing.name).await.ok();

    cluster.kubectl(&["annotate", "namespace", &billing.name, "gotel.dev/apps=invoices, billing"]).await.ok();
    eventually(SOON, "the annotation to be seen", async || dry("billing").await.code == Some(0)).await;
    dry("shipping").await.refused();
    let policy = cluster.json(&["get", "validatingadmissionpolicy", "gotel-apps"]).await;
    let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
    assert!(warnings.is_null() || warnings == &json!([]), "{warnings}");
}
