//! A kubelet for pods of GoTel and of its examples: it runs the real program in each, under the pod's restrictions.
//!
//! Promises: configuration and Secrets are read from the API server when a pod begins; the program reaches the API server
//! with a token of the pod's ServiceAccount and nothing else; when a pod is gone, what ran in it is asked to end.
//! Does not promise: a network. Heartbeats go over addresses of loopback that are put in place of the names in the
//! configuration; a job reaches whichever GoTel of the cluster runs.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use tokio::process::Command;
use url::Url;

use super::cluster::Namespace;
use super::pod::{Files, Pod};
use super::process::Gotel;

/// How often it looks.
const RHYTHM: Duration = Duration::from_millis(500);

/// How long a pod may take to end.
const GRACE: Duration = Duration::from_secs(60);

/// The kubelet of one cluster.
pub struct Kubelet {
    /// Where GoTel is installed.
    gotel: Namespace,
    /// Where jobs are.
    jobs: Namespace,
    /// What is put in place of texts of the configuration: names by addresses.
    names: Vec<(String, String)>,
    /// Where each pod takes heartbeats, by its number.
    listen: Vec<String>,
    running: BTreeMap<String, Running>,
}

struct Running {
    uid: Value,
    gotel: Gotel,
    url: Url,
    _pod: Pod,
}

impl Kubelet {
    /// Of the cluster of these two namespaces.
    pub fn new(gotel: Namespace, jobs: Namespace, names: Vec<(String, String)>, listen: Vec<String>) -> Self {
        Self { gotel, jobs, names, listen, running: BTreeMap::new() }
    }

    /// Goes on for as long as it is awaited.
    pub async fn run(mut self) {
        let mut rhythm = tokio::time::interval(RHYTHM);
        loop {
            rhythm.tick().await;
            self.look(pods(&self.gotel, "app.kubernetes.io/name=gotel").await).await;
            for pod in pods(&self.jobs, "job-name").await {
                if pod["status"]["phase"] == "Pending" {
                    self.run_job(&pod).await;
                }
            }
        }
    }

    async fn look(&mut self, pods: Vec<Value>) {
        // A pod that was bound to no node is gone at once when it is deleted; what ran in it is asked to end now.
        let still = |running: &Running| pods.iter().any(|pod| pod["metadata"]["uid"] == running.uid);
        let gone: Vec<String> = self
            .running
            .iter()
            .filter(|(_, running)| !still(running))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            let mut gotel = self.running.remove(&name).expect("it is there").gotel;
            gotel.sigterm();
            let status = gotel.wait_exit(GRACE).await;
            assert!(status.success(), "{name} ended with {status}: {}", gotel.output());
        }
        for pod in &pods {
            let name = pod["metadata"]["name"].as_str().expect("a pod has a name");
            if !self.running.contains_key(name) {
                let running = self.start(pod).await;
                self.running.insert(name.to_owned(), running);
                self.gotel.pod_runs(pod).await;
            }
        }
    }

    async fn start(&self, pod: &Value) -> Running {
        let name = pod["metadata"]["name"].as_str().expect("a pod has a name");
        let ordinal: usize =
            name.rsplit('-').next().and_then(|end| end.parse().ok()).expect("it ends with a number");
        let spec = &pod["spec"];
        let mut files = Files::new();
        for volume in spec["volumes"].as_array().into_iter().flatten() {
            let held = match (volume["configMap"]["name"].as_str(), volume["secret"]["secretName"].as_str()) {
                (Some(map), _) => self.config(map, ordinal).await,
                (_, Some(secret)) => self.secret(secret, &volume["secret"]["items"]).await,
                _ => continue,
            };
            files.insert(volume["name"].as_str().expect("a volume has a name").to_owned(), held);
        }
        let mut made = Pod::new(spec, &files);
        let account = spec["serviceAccountName"].as_str().expect("it has an account");
        let kubeconfig = self.gotel.kubeconfig_of(account, None).await;
        made.write("kubeconfig", &std::fs::read_to_string(kubeconfig).expect("it was written"));
        made.env.push(("KUBECONFIG".into(), "/kubeconfig".into()));
        let mut gotel = made.start(ordinal);
        let url = gotel.url().await;
        Running { uid: pod["metadata"]["uid"].clone(), gotel, url, _pod: made }
    }

    async fn config(&self, map: &str, ordinal: usize) -> Vec<(String, String)> {
        let map = self.gotel.json(&["get", "configmap", map]).await;
        let data = map["data"].as_object().expect("it holds something");
        let text = |text: &Value| {
            let text = text.as_str().expect("text").replace("0.0.0.0:8081", &self.listen[ordinal]);
            self.names.iter().fold(text, |text, (name, address)| text.replace(name, address))
        };
        data.iter().map(|(key, value)| (key.clone(), text(value))).collect()
    }

    async fn secret(&self, secret: &str, items: &Value) -> Vec<(String, String)> {
        let data = data_of(&self.gotel, secret).await;
        match items.as_array() {
            None => data.into_iter().collect(),
            Some(items) => items
                .iter()
                .map(|item| {
                    (item["path"].as_str().unwrap().to_owned(), data[item["key"].as_str().unwrap()].clone())
                })
                .collect(),
        }
    }

    /// Runs the script of an example's job, whose own program does nothing and does it well.
    async fn run_job(&self, pod: &Value) {
        let name = pod["metadata"]["name"].as_str().expect("a pod has a name");
        let Some(gotel) = self.running.values().next() else { return };
        let container = &pod["spec"]["containers"][0];
        let script = container["args"][0].as_str().expect("a script");
        let script = script.replace("/usr/local/bin/", "true ");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).kill_on_drop(true);
        for variable in container["env"].as_array().into_iter().flatten() {
            let reference = &variable["valueFrom"]["secretKeyRef"];
            let value = match (variable["value"].as_str(), reference["name"].as_str()) {
                (Some(_), _) => gotel.url.as_str().trim_end_matches('/').to_owned(),
                (None, Some(secret)) => {
                    data_of(&self.jobs, secret).await[reference["key"].as_str().expect("a key")].clone()
                }
                (None, None) => name.to_owned(),
            };
            command.env(variable["name"].as_str().expect("a variable has a name"), value);
        }
        let output = command.output().await.expect("a shell can be run");
        self.jobs.pod_becomes(name, if output.status.success() { "Succeeded" } else { "Failed" }).await;
    }
}

async fn pods(namespace: &Namespace, selector: &str) -> Vec<Value> {
    let list = namespace.json(&["get", "pods", "-l", selector]).await;
    list["items"].as_array().cloned().unwrap_or_default()
}

/// What a Secret holds.
async fn data_of(namespace: &Namespace, secret: &str) -> BTreeMap<String, String> {
    let secret = namespace.json(&["get", "secret", secret]).await;
    let decode = |value: &Value| {
        let bytes = BASE64_STANDARD.decode(value.as_str().expect("text")).expect("base64");
        String::from_utf8(bytes).expect("text")
    };
    secret["data"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), decode(value)))
        .collect()
}
