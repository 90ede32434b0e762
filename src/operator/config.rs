//! The configuration of the Kubernetes controller: the block `kubernetes:`, its flags and variables.

use super::claims::Claims;
use crate::reservation::{Invalid, duration};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Whether reservations are also kept as Kubernetes objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Inside a pod that has a cluster name.
    #[default]
    Auto,
    /// Always; by the kubeconfig, or inside a pod by its service account.
    On,
    /// Never.
    Off,
}

/// Flags and variables, each outranking the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Keep reservations as Kubernetes objects, too: auto (inside a pod that has a cluster name), on or off
    /// [default: auto]
    #[arg(long, env = "GOTEL_KUBERNETES", value_name = "MODE", hide_possible_values = true)]
    pub kubernetes: Option<Mode>,

    /// Name of this Kubernetes cluster, another one for each cluster that shares the database
    #[arg(long, env = "GOTEL_CLUSTER_NAME", value_name = "NAME")]
    pub cluster_name: Option<String>,

    /// Namespaces whose reservations are watched, comma-separated [default: all]
    #[arg(long, env = "GOTEL_KUBERNETES_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub kubernetes_namespaces: Option<Vec<String>>,

    /// Name of the pod that this runs in: events about GoTel itself are shown there [default: the replica's name]
    #[arg(long, env = "GOTEL_POD", value_name = "NAME")]
    pub pod: Option<String>,

    /// Its uid, by which `kubectl describe pod` finds those events
    #[arg(long, env = "GOTEL_POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
}

/// The block as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Written {
    mode: Option<Mode>,
    cluster_name: Option<String>,
    namespaces: Vec<String>,
    selector: Option<String>,
    status_writes_per_second: Option<u32>,
    orphan_grace: Option<String>,
    watch_timeout: Option<String>,
    conflict_retry: Option<String>,
    claims: Option<BTreeMap<String, Vec<String>>>,
}

/// A controller that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorConfig {
    /// Whether it runs.
    pub mode: Mode,
    /// Name of this cluster; never None with [`Mode::On`].
    pub cluster: Option<String>,
    /// Only these namespaces; empty: all.
    pub namespaces: Vec<String>,
    /// Only objects with these labels.
    pub selector: Option<String>,
    /// Refreshes of mere times that the API server is asked for each second.
    pub status_writes_per_second: u32,
    /// How long an object must have been missing before its reservation is let go, in milliseconds.
    pub orphan_grace_ms: i64,
    /// Length of one watch request, in seconds.
    pub watch_timeout_s: u32,
    /// After this an object whose reservation is another's is looked at again, in milliseconds.
    pub conflict_retry_ms: i64,
    /// Which namespace may claim which app; None: each may claim each.
    pub claims: Option<Claims>,
    /// Name of this pod; None: the replica's.
    pub pod: Option<String>,
    /// Its uid.
    pub pod_uid: Option<String>,
    /// Mere times of one object are refreshed at most this often, in milliseconds. The object's schema says so; only
    /// tests are in a hurry.
    pub times_every_ms: i64,
    /// Whether a missing object still exists may go unanswered for this long until people are told, in milliseconds.
    /// A restart of the API server takes less; only tests are in a hurry.
    pub unanswered_ms: i64,
}

impl Written {
    /// Reads the block under the flags.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(self, flags: &Flags) -> Result<OperatorConfig, Invalid> {
        let mode = flags.kubernetes.or(self.mode).unwrap_or_default();
        let cluster = flags.cluster_name.clone().or(self.cluster_name).filter(|name| !name.is_empty());
        if let Some(name) = &cluster
            && !is_label(name)
        {
            return Err(Invalid::new(
                "kubernetes.clusterName",
                "must be 1 to 63 of a-z, 0-9 and -, and begin and end with a letter or digit, such as eu-1",
            ));
        }
        if mode == Mode::On && cluster.is_none() {
            return Err(Invalid::new(
                "kubernetes.clusterName",
                "is missing: name this cluster by --cluster-name, another name for each cluster that shares the database",
            ));
        }
        let mut namespaces = flags.kubernetes_namespaces.clone().unwrap_or(self.namespaces);
        namespaces.retain(|name| !name.is_empty());
        namespaces.sort();
        namespaces.dedup();
        if let Some(wrong) = namespaces.iter().find(|name| !is_label(name)) {
            return Err(Invalid::new(
                "kubernetes.namespaces",
                format!("{wrong:?} is no name of a namespace"),
            ));
        }
        let per_second = self.status_writes_per_second.unwrap_or(10);
        if !(1..=1000).contains(&per_second) {
            return Err(Invalid::new("kubernetes.statusWritesPerSecond", "must be 1 to 1000"));
        }
        let length = |field: &'static str, text: Option<String>, usual_ms| match text {
            Some(text) => duration::parse_ms(field, &text),
            None => Ok(usual_ms),
        };
        let watch_ms = length("kubernetes.watchTimeout", self.watch_timeout, 200_000)?;
        let watch_timeout_s = u32::try_from(watch_ms / 1000).unwrap_or(u32::MAX);
        if !(1..=600).contains(&watch_timeout_s) {
            return Err(Invalid::new("kubernetes.watchTimeout", "must be 1s to 10m, such as 200s"));
        }
        let conflict_retry_ms = length("kubernetes.conflictRetry", self.conflict_retry, 30_000)?;
        if !(1000..=3_600_000).contains(&conflict_retry_ms) {
            return Err(Invalid::new("kubernetes.conflictRetry", "must be 1s to 1h, such as 30s"));
        }
        Ok(OperatorConfig {
            mode,
            cluster,
            namespaces,
            selector: self.selector.filter(|selector| !selector.is_empty()),
            status_writes_per_second: per_second,
            orphan_grace_ms: length("kubernetes.orphanGrace", self.orphan_grace, 3_600_000)?,
            watch_timeout_s,
            conflict_retry_ms,
            claims: self.claims.map(|claims| Claims::parse(claims, is_label)).transpose()?,
            pod: flags.pod.clone().filter(|name| !name.is_empty()),
            pod_uid: flags.pod_uid.clone().filter(|uid| !uid.is_empty()),
            times_every_ms: 60_000,
            unanswered_ms: 60_000,
        })
    }
}

/// A DNS label.
fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn parse(yaml: &str, flags: &Flags) -> Result<OperatorConfig, Invalid> {
        serde_yaml::from_str::<Written>(yaml).unwrap().parse(flags)
    }

    #[test]
    fn without_a_word_it_runs_only_inside_a_pod_with_a_name() {
        let config = parse("{}", &Flags::default()).unwrap();
        assert_eq!((config.mode, config.cluster, config.watch_timeout_s), (Mode::Auto, None, 200));
        assert_eq!((config.status_writes_per_second, config.orphan_grace_ms), (10, 3_600_000));
        assert_eq!(config.conflict_retry_ms, 30_000);
    }

    #[test]
    fn a_flag_outranks_the_file() {
        let flags = Flags {
            kubernetes: Some(Mode::On),
            cluster_name: Some("eu-2".into()),
            kubernetes_namespaces: Some(vec!["b".into(), "a".into(), "b".into()]),
            pod: Some(String::new()),
            pod_uid: None,
        };
        let yaml = "{mode: 'off', clusterName: eu-1, namespaces: [c], selector: 'team=x', orphanGrace: 2m}";
        let config = parse(yaml, &flags).unwrap();
        assert_eq!((config.mode, config.cluster.as_deref()), (Mode::On, Some("eu-2")));
        assert_eq!((config.namespaces.join(","), config.orphan_grace_ms), ("a,b".into(), 120_000));
        assert_eq!(config.pod, None, "an empty variable says nothing");
    }

    #[rstest]
    #[case::unnamed("{mode: 'on'}", "kubernetes.clusterName", "--cluster-name")]
    #[case::name("{clusterName: EU_1}", "kubernetes.clusterName", "such as eu-1")]
    #[case::namespace("{namespaces: ['a b']}", "kubernetes.namespaces", "no name of a namespace")]
    #[case::rate("{statusWritesPerSecond: 0}", "kubernetes.statusWritesPerSecond", "1 to 1000")]
    #[case::retry("{conflictRetry: 0s}", "kubernetes.conflictRetry", "such as 30s")]
    #[case::claims("{claims: {billing: ['*x']}}", "kubernetes.claims.billing[0]", "such as billing")]
    #[case::watch("{watchTimeout: 1h}", "kubernetes.watchTimeout", "such as 200s")]
    fn what_cannot_work_is_refused_with_what_would(
        #[case] yaml: &str,
        #[case] field: &str,
        #[case] remedy: &str,
    ) {
        let invalid = parse(yaml, &Flags::default()).unwrap_err();
        assert_eq!(invalid.field, field);
        assert!(invalid.message.contains(remedy), "{invalid}");
    }
}
