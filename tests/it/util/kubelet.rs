//! A kubelet for pods of GoTel and of its examples: it runs the real program in each, under the pod's restrictions.
//!
//! Promises: a pod finds ConfigMaps, Secrets and the token of its ServiceAccount where a kubelet mounts them, and new
//! contents in their place when they change; it reaches the API server by what every pod is told of it, and by nothing
//! else; when a pod is gone, what ran in it is asked to end.
//! Does not promise: a network. Heartbeats go over addresses of loopback that are put in place of the names in the
//! configuration; a job, and the chart's test, reach whichever GoTel of the cluster runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use tokio::process::Command;
use url::Url;

use super::cluster::Namespace;
use super::pod::{Files, Pod};
use super::process::{Gotel, Log};

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
    journal: Journal,
}

/// Every pod of GoTel that was started, oldest first. Stays when the kubelet is gone.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Vec<Started>>>);

/// A pod that was started.
#[derive(Clone)]
pub struct Started {
    /// Where it serves.
    pub url: Url,
    /// What it has printed.
    pub log: Log,
    /// The token of its ServiceAccount.
    pub token: String,
}

impl Journal {
    /// All so far.
    pub fn started(&self) -> Vec<Started> {
        self.0.lock().unwrap().clone()
    }
}

struct Running {
    uid: Value,
    gotel: Gotel,
    url: Url,
    pod: Pod,
    files: Files,
}

impl Kubelet {
    /// Of the cluster of these two namespaces.
    pub fn new(gotel: Namespace, jobs: Namespace, names: Vec<(String, String)>, listen: Vec<String>) -> Self {
        Self { gotel, jobs, names, listen, running: BTreeMap::new(), journal: Journal::default() }
    }

    /// What it will have started.
    pub fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Goes on for as long as it is awaited.
    pub async fn run(mut self) {
        let mut rhythm = tokio::time::interval(RHYTHM);
        loop {
            rhythm.tick().await;
            let there = Objects::of(&self.gotel, &["pods,configmaps,secrets"]).await;
            self.look(&there).await;
            for pod in there.pods("app.kubernetes.io/name", Some("gotel-test")) {
                self.run_script(&self.gotel, pod).await;
            }
            for pod in Objects::of(&self.jobs, &["pods"]).await.pods("job-name", None) {
                self.run_script(&self.jobs, pod).await;
            }
        }
    }

    async fn look(&mut self, there: &Objects) {
        let pods: Vec<&Value> = there.pods("app.kubernetes.io/name", Some("gotel")).collect();
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
        for pod in pods {
            // One that names what is not there waits for it; one that runs keeps what it has.
            let Some(files) = self.files(pod, there) else { continue };
            let name = pod["metadata"]["name"].as_str().expect("a pod has a name");
            if let Some(running) = self.running.get_mut(name) {
                for (volume, held) in files.iter().filter(|(volume, held)| running.files[*volume] != **held) {
                    running.pod.swap(volume, held);
                }
                running.files = files;
            } else if let Some(running) = self.start(pod, files, there).await {
                self.running.insert(name.to_owned(), running);
                self.gotel.pod_runs(pod).await;
            }
        }
    }

    /// None: the pod was deleted meanwhile.
    async fn start(&self, pod: &Value, files: Files, there: &Objects) -> Option<Running> {
        let spec = &pod["spec"];
        let token = self.token(pod).await?;
        let mut all = files.clone();
        for volume in volumes(spec).filter(|volume| volume["projected"].is_object()) {
            let name = volume["name"].as_str().expect("a volume has a name");
            all.insert(name.to_owned(), self.account(&volume["projected"], &token, there));
        }
        let mut made = Pod::new(spec, Path::new(env!("CARGO_BIN_EXE_gotel")), &all);
        let api = self.gotel.cluster.addr();
        made.env.push(("KUBERNETES_SERVICE_HOST".into(), api.ip().to_string()));
        made.env.push(("KUBERNETES_SERVICE_PORT".into(), api.port().to_string()));
        let mut gotel = made.start(number(pod));
        let url = gotel.url().await;
        let started = Started { url: url.clone(), log: gotel.log(), token };
        self.journal.0.lock().unwrap().push(started);
        Some(Running { uid: pod["metadata"]["uid"].clone(), gotel, url, pod: made, files })
    }

    /// A token of the pod's ServiceAccount that is good as long as the pod is there.
    async fn token(&self, pod: &Value) -> Option<String> {
        let text = |value: &Value| value.as_str().expect("the API server has set it").to_owned();
        let account = text(&pod["spec"]["serviceAccountName"]);
        let name = format!("--bound-object-name={}", text(&pod["metadata"]["name"]));
        let uid = format!("--bound-object-uid={}", text(&pod["metadata"]["uid"]));
        let args = ["create", "token", &account, "--duration=3607s", "--bound-object-kind=Pod", &name, &uid];
        let ran = self.gotel.kubectl(&args).await;
        if ran.err.contains("NotFound") {
            return None;
        }
        Some(ran.ok().trim().to_owned())
    }

    /// What the API server adds to every pod that wants to speak to it.
    fn account(&self, projected: &Value, token: &str, there: &Objects) -> Vec<(String, String)> {
        let mut files = Vec::new();
        for source in projected["sources"].as_array().expect("it is made of something") {
            let path = |item: &Value| item["path"].as_str().expect("a file has a name").to_owned();
            if let Some(own) = source.get("serviceAccountToken") {
                files.push((path(own), token.to_owned()));
            } else if let Some(map) = source.get("configMap") {
                let held = there.data("ConfigMap", &map["name"]).expect("every namespace has the authority");
                for item in map["items"].as_array().expect("only what is needed") {
                    files.push((path(item), held[item["key"].as_str().expect("of a key")].clone()));
                }
            } else {
                for item in source["downwardAPI"]["items"].as_array().expect("the pod's own fields") {
                    assert_eq!(item["fieldRef"]["fieldPath"], "metadata.namespace");
                    files.push((path(item), self.gotel.name.clone()));
                }
            }
        }
        files
    }

    /// What ConfigMaps and Secrets hold for a pod; None while one is missing.
    fn files(&self, pod: &Value, there: &Objects) -> Option<Files> {
        let mut files = Files::new();
        for volume in volumes(&pod["spec"]) {
            let (map, secret) = (&volume["configMap"]["name"], &volume["secret"]["secretName"]);
            let held = if map.is_string() {
                let text = |text: String| {
                    let text = text.replace("0.0.0.0:8081", &self.listen[number(pod)]);
                    self.names.iter().fold(text, |text, (name, address)| text.replace(name, address))
                };
                there.data("ConfigMap", map)?.into_iter().map(|(key, held)| (key, text(held))).collect()
            } else if secret.is_string() {
                let held = there.data("Secret", secret)?;
                match volume["secret"]["items"].as_array() {
                    None => held.into_iter().collect(),
                    Some(items) => {
                        let file = |item: &Value| {
                            let value = held.get(item["key"].as_str()?)?;
                            Some((item["path"].as_str()?.to_owned(), value.clone()))
                        };
                        items.iter().map(file).collect::<Option<_>>()?
                    }
                }
            } else {
                continue;
            };
            files.insert(volume["name"].as_str().expect("a volume has a name").to_owned(), held);
        }
        Some(files)
    }

    /// Runs the script of an example's job, whose own program does nothing and does it well, or of the chart's test.
    async fn run_script(&self, namespace: &Namespace, pod: &Value) {
        let Some(gotel) = self.running.values().next() else { return };
        if pod["status"]["phase"] != "Pending" {
            return;
        }
        let name = pod["metadata"]["name"].as_str().expect("a pod has a name");
        let container = &pod["spec"]["containers"][0];
        let script = container["args"][0].as_str().expect("a script");
        let script = script.replace("/usr/local/bin/", "true ");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).kill_on_drop(true);
        for variable in container["env"].as_array().into_iter().flatten() {
            let reference = &variable["valueFrom"]["secretKeyRef"];
            let value = if variable["value"].is_string() {
                gotel.url.as_str().trim_end_matches('/').to_owned()
            } else if reference.is_object() {
                let held = Objects::of(namespace, &["secrets"]).await.data("Secret", &reference["name"]);
                held.expect("the Secret is there")[reference["key"].as_str().expect("a key")].clone()
            } else {
                name.to_owned()
            };
            command.env(variable["name"].as_str().expect("a variable has a name"), value);
        }
        let output = command.output().await.expect("a shell can be run");
        namespace.pod_becomes(name, if output.status.success() { "Succeeded" } else { "Failed" }).await;
    }
}

/// Objects of a namespace at one moment.
struct Objects(Vec<Value>);

impl Objects {
    async fn of(namespace: &Namespace, what: &[&str]) -> Self {
        let list = namespace.json(&[&["get"], what].concat()).await;
        Self(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Pods with this label, of this value if it matters.
    fn pods<'a>(&'a self, label: &'a str, value: Option<&'a str>) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| {
            let label = &object["metadata"]["labels"][label];
            object["kind"] == "Pod" && label.is_string() && value.is_none_or(|value| label == value)
        })
    }

    /// What a ConfigMap or Secret holds; None: it is not there.
    fn data(&self, kind: &str, name: &Value) -> Option<BTreeMap<String, String>> {
        let object =
            self.0.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == *name)?;
        let text = |value: &Value| {
            let text = value.as_str().expect("text");
            if kind == "ConfigMap" {
                return text.to_owned();
            }
            String::from_utf8(BASE64_STANDARD.decode(text).expect("base64")).expect("text")
        };
        Some(
            object["data"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), text(value)))
                .collect(),
        )
    }
}

fn volumes(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["volumes"].as_array().into_iter().flatten()
}

/// Which pod of its StatefulSet this is.
fn number(pod: &Value) -> usize {
    let name = pod["metadata"]["name"].as_str().expect("a pod has a name");
    name.rsplit('-').next().and_then(|end| end.parse().ok()).expect("it ends with a number")
}
