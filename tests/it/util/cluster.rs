//! Kubernetes clusters without machines: real API servers with RBAC and real controllers, and no kubelet.
//!
//! Promises: a [`Cluster::private`] one is the test's own and gone with the value; the [`Cluster::namespace`] of a test
//! is seen by no other, and its deletion is begun when the value is dropped; [`Cluster::kubeconfig_of`] can do what its
//! ServiceAccount may, and nothing more.
//! Does not promise: that anything cluster-wide in a shared cluster (a CRD, a ClusterRole) is the test's own; that a
//! pod ever runs by itself: [`Namespace::pod_becomes`] plays the kubelet's part.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::wait::eventually;
use super::{needs, signal};

const VARIABLE: &str = "GOTEL_TEST_KUBECONFIGS";

/// How long one command may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long controllers may take to act.
const ACTED: Duration = Duration::from_secs(90);

/// How often the stand-in of the kubelet looks.
const KUBELET: Duration = Duration::from_millis(500);

/// A cluster.
#[derive(Clone)]
pub struct Cluster {
    kubeconfig: PathBuf,
    /// Where `kubectl` and `helm` keep their notes, and this file the kubeconfigs it writes.
    home: Arc<tempfile::TempDir>,
    /// The processes of a private one, and its name among them.
    own: Option<(Arc<Plane>, &'static str)>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    /// The command.
    pub command: String,
    /// Its exit code; None: it was killed.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Standard output of a command that succeeded.
    ///
    /// # Panics
    /// If it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}:\n{}{}", self.command, self.out, self.err);
        self.out
    }

    /// Standard error of a command that failed.
    ///
    /// # Panics
    /// If it succeeded.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_ne!(self.code, Some(0), "{} was to fail:\n{}", self.command, self.out);
        self.err
    }
}

/// A process of a private cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers.
    Manager,
}

impl Process {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::Manager => "kube-controller-manager",
        }
    }
}

impl Cluster {
    /// One of the shared clusters; `None` where the tests on Kubernetes are left out.
    pub fn shared() -> Option<Self> {
        Some(Self::both()?.0)
    }

    /// The two shared clusters; `None` where the tests on Kubernetes are left out.
    pub fn both() -> Option<(Self, Self)> {
        let files = needs::address_of("Kubernetes", VARIABLE)?;
        let (one, two) = files.split_once(',').unwrap_or_else(|| panic!("{VARIABLE} names two files"));
        Some((Self::of(one.into(), None), Self::of(two.into(), None)))
    }

    /// A cluster of the test's own; `None` as above. Blocks for about six seconds.
    pub fn private() -> Option<Self> {
        Some(Self::of_plane(&Plane::start("a")?, "a"))
    }

    /// Two clusters of the test's own.
    pub fn private_pair() -> Option<(Self, Self)> {
        let plane = Plane::start("a b")?;
        Some((Self::of_plane(&plane, "a"), Self::of_plane(&plane, "b")))
    }

    fn of_plane(plane: &Arc<Plane>, name: &'static str) -> Self {
        let kubeconfig = plane.state.path().join("controlplane").join(name).join("kubeconfig");
        Self::of(kubeconfig, Some((plane.clone(), name)))
    }

    fn of(kubeconfig: PathBuf, own: Option<(Arc<Plane>, &'static str)>) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        Self { kubeconfig, home: Arc::new(home), own }
    }

    /// How an administrator reaches it.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Where its API server listens.
    pub fn addr(&self) -> SocketAddr {
        let text = std::fs::read_to_string(&self.kubeconfig).expect("the kubeconfig can be read");
        let (_, rest) = text.split_once("https://").expect("the kubeconfig names a server");
        let end = rest.find('"').expect("in quotes");
        rest[..end].parse().expect("by its address")
    }

    /// A path in a folder that goes with this value.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// `kubectl ARGS…` as an administrator.
    pub async fn kubectl(&self, args: &[&str]) -> Ran {
        self.kubectl_with(&self.kubeconfig, args, "").await
    }

    /// `kubectl ARGS…` with this kubeconfig, and this text on its standard input.
    pub async fn kubectl_with(&self, kubeconfig: &Path, args: &[&str], input: &str) -> Ran {
        self.run("kubectl", kubeconfig, args, input).await
    }

    /// `kubectl ARGS… -o json`, which must succeed.
    pub async fn json(&self, args: &[&str]) -> Value {
        let out = self.kubectl(&[args, &["-o", "json"]].concat()).await.ok();
        serde_json::from_str(&out).expect("kubectl prints JSON")
    }

    /// `kubectl apply --server-side` of this text, with further arguments.
    pub async fn apply(&self, yaml: &str, args: &[&str]) -> Ran {
        let args = [&["apply", "--server-side", "-f", "-"], args].concat();
        self.kubectl_with(&self.kubeconfig, &args, yaml).await
    }

    /// Applies definitions of kinds, and waits until these and all others here can be used. (`kubectl wait` gives up on
    /// one that has no conditions yet, as it is for a moment.)
    pub async fn define(&self, yaml: &str) {
        self.apply(yaml, &["--field-manager=tests", "--force-conflicts"]).await.ok();
        let established = |definition: &Value| {
            let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|c| c["type"] == "Established" && c["status"] == "True")
        };
        eventually(ACTED, "each definition to be established", async || {
            let all = self.json(&["get", "crd"]).await;
            all["items"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(established))
        })
        .await;
    }

    /// `helm ARGS…` as an administrator.
    pub async fn helm(&self, args: &[&str]) -> Ran {
        self.run("helm", &self.kubeconfig, args, "").await
    }

    /// A namespace of the test's own, with the begin of a name.
    pub async fn namespace(&self, begin: &str) -> Namespace {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        self.named(format!("{begin}-{}-{count}", std::process::id())).await
    }

    /// A namespace of the test's own, with the name of one that it has in another cluster.
    pub async fn twin(&self, of: &Namespace) -> Namespace {
        self.named(of.name.clone()).await
    }

    async fn named(&self, name: String) -> Namespace {
        self.kubectl(&["create", "namespace", &name]).await.ok();
        let namespace = Namespace { cluster: self.clone(), name, made_here: true };
        // Until its ServiceAccount is there, no pod is admitted.
        eventually(ACTED, "the default ServiceAccount", async || {
            let ran = namespace.kubectl(&["get", "serviceaccount", "default"]).await;
            ran.code == Some(0)
        })
        .await;
        namespace
    }

    /// A namespace that something else makes, and deletes.
    pub fn namespace_called(&self, name: &str) -> Namespace {
        Namespace { cluster: self.clone(), name: name.into(), made_here: false }
    }

    /// A kubeconfig with nothing in it but a fresh token of this ServiceAccount; its namespace is the account's, as in a
    /// pod. `server`: where to reach the API server, such as a proxy on 127.0.0.1; None: where it is.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str, server: Option<SocketAddr>) -> PathBuf {
        let token = self.kubectl(&["-n", namespace, "create", "token", account]).await.ok();
        let admin = std::fs::read_to_string(&self.kubeconfig).expect("the kubeconfig can be read");
        let (head, _) = admin.split_once("users:").expect("it ends with users");
        // The authority in the file itself, so that it may be read where nothing else can.
        let (before, rest) = head.split_once("certificate-authority: \"").expect("it names an authority");
        let (authority, after) = rest.split_once('"').expect("in quotes");
        let authority = BASE64_STANDARD.encode(std::fs::read(authority).expect("the authority can be read"));
        let head = format!("{before}certificate-authority-data: \"{authority}\"{after}");
        let head = head.replace("context: {", &format!("context: {{namespace: {namespace}, "));
        let mut text = format!("{head}users: [{{name: it, user: {{token: \"{}\"}}}}]\n", token.trim());
        if let Some(server) = server {
            text = text.replace(&self.addr().to_string(), &server.to_string());
        }
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let path = self.path(&format!("{account}-{count}.kubeconfig"));
        std::fs::write(&path, text).expect("the folder can be written");
        path
    }

    /// SIGKILL to a process of a private cluster; returns when it is gone.
    pub fn kill9(&self, process: Process) {
        let (plane, name) = self.plane();
        plane.script(&["kill", name, process.name()]);
    }

    /// SIGSTOP to a process of a private cluster: it answers nothing.
    pub async fn sigstop(&self, process: Process) {
        signal::stop(self.pid(process)).await;
    }

    /// SIGCONT: it goes on where it was.
    pub fn sigcont(&self, process: Process) {
        signal::cont(self.pid(process));
    }

    /// Starts whatever does not run of a private cluster, on the same ports and data; returns when it is ready.
    pub fn restart(&self) {
        self.plane().0.script(&["start"]);
    }

    fn pid(&self, process: Process) -> i32 {
        let (plane, name) = self.plane();
        let pid = plane.script(&["pid", name, process.name()]);
        pid.trim().parse().expect("`pid` prints a number")
    }

    fn plane(&self) -> &(Arc<Plane>, &'static str) {
        self.own.as_ref().expect("only a private cluster may be broken")
    }

    async fn run(&self, program: &str, kubeconfig: &Path, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(program, kubeconfig);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
        let mut stdin = child.stdin.take().expect("it has a standard input");
        let written = async {
            // Whoever does not want it all closes it.
            stdin.write_all(input.as_bytes()).await.ok();
            drop(stdin);
        };
        let (output, ()) =
            tokio::time::timeout(PATIENCE, async { tokio::join!(child.wait_with_output(), written) })
                .await
                .unwrap_or_else(|_| panic!("{program} {args:?} did not end within {PATIENCE:?}"));
        let output = output.expect("its output can be read");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran {
            command: format!("{program} {}", args.join(" ")),
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    fn command(&self, program: &str, kubeconfig: &Path) -> Command {
        let mut command = Command::new(tool(program));
        command.env("KUBECONFIG", kubeconfig).env("KUBECACHEDIR", self.path("kubectl"));
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(folder, self.path(folder));
        }
        command
    }
}

/// A program of the folder that came with the clusters, or of the PATH.
pub fn tool(program: &str) -> PathBuf {
    let folder = std::env::var("KUBEBUILDER_ASSETS").unwrap_or_default();
    let there = Path::new(&folder).join(program);
    if there.is_file() { there } else { program.into() }
}

/// A namespace of one test.
pub struct Namespace {
    /// Where it is.
    pub cluster: Cluster,
    /// What it is called.
    pub name: String,
    made_here: bool,
}

impl Namespace {
    /// `kubectl -n NAMESPACE ARGS…` as an administrator.
    pub async fn kubectl(&self, args: &[&str]) -> Ran {
        self.cluster.kubectl(&[&["-n", &self.name], args].concat()).await
    }

    /// The same with `-o json`; it must succeed.
    pub async fn json(&self, args: &[&str]) -> Value {
        self.cluster.json(&[&["-n", &self.name], args].concat()).await
    }

    /// `kubectl apply --server-side` of this text here.
    pub async fn apply(&self, yaml: &str) -> Ran {
        self.cluster.apply(yaml, &["-n", &self.name]).await
    }

    /// `helm -n NAMESPACE ARGS…` as an administrator.
    pub async fn helm(&self, args: &[&str]) -> Ran {
        self.cluster.helm(&[&["-n", &self.name], args].concat()).await
    }

    /// [`Cluster::kubeconfig_of`] an account of this namespace.
    pub async fn kubeconfig_of(&self, account: &str, server: Option<SocketAddr>) -> PathBuf {
        self.cluster.kubeconfig_of(&self.name, account, server).await
    }

    /// Names of the pods that fit a label selector, once there is one.
    pub async fn pods(&self, selector: &str) -> Vec<String> {
        eventually(ACTED, format!("a pod with {selector}"), async || {
            let args = ["get", "pods", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}"];
            let names = self.kubectl(&args).await.ok();
            let names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
            (!names.is_empty()).then_some(names)
        })
        .await
    }

    /// What the kubelet would say of a pod that ended: `Succeeded` or `Failed`.
    pub async fn pod_becomes(&self, pod: &str, phase: &str) {
        self.tell_of(pod, json!({"phase": phase})).await.ok();
    }

    /// What a careless kubelet would say of pods that fit a label selector, for as long as it is awaited: they run and
    /// are ready. (One that is deleted is gone at once, as it was bound to no node.)
    pub async fn pods_run(&self, selector: &str) {
        let mut rhythm = tokio::time::interval(KUBELET);
        loop {
            rhythm.tick().await;
            let list = self.json(&["get", "pods", "-l", selector]).await;
            for pod in list["items"].as_array().into_iter().flatten() {
                if pod["status"]["phase"] == "Pending" {
                    self.pod_runs(pod).await;
                }
            }
        }
    }

    /// Says that a pod's containers run and are ready. It may be gone meanwhile: then this is said of nobody.
    pub async fn pod_runs(&self, pod: &Value) {
        self.tell_of(pod["metadata"]["name"].as_str().expect("a pod has a name"), running(pod)).await;
    }

    async fn tell_of(&self, pod: &str, status: Value) -> Ran {
        let patch = json!({"status": status}).to_string();
        self.kubectl(&["patch", "pod", pod, "--subresource=status", "--type=merge", "-p", &patch]).await
    }
}

/// The status of a pod whose containers all run.
fn running(pod: &Value) -> Value {
    let containers: Vec<_> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| {
            json!({
                "name": container["name"], "image": container["image"], "imageID": "", "ready": true, "started": true,
                "restartCount": 0, "state": {"running": {}},
            })
        })
        .collect();
    let conditions =
        ["PodScheduled", "ContainersReady", "Ready"].map(|kind| json!({"type": kind, "status": "True"}));
    json!({"phase": "Running", "conditions": conditions, "containerStatuses": containers})
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.made_here {
            return;
        }
        // In a thread of its own: a value may be dropped where nothing can be awaited, and this takes a moment.
        let command = self.cluster.command("kubectl", &self.cluster.kubeconfig);
        let mut command = command.into_std();
        command.args(["delete", "namespace", &self.name, "--wait=false", "--request-timeout=10s"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().ok();
    }
}

/// The processes of private clusters.
struct Plane {
    state: tempfile::TempDir,
    clusters: &'static str,
}

impl Plane {
    fn start(clusters: &'static str) -> Option<Arc<Self>> {
        needs::address_of("Kubernetes", VARIABLE)?;
        let state = tempfile::tempdir().expect("a temporary folder can be made");
        let plane = Self { state, clusters };
        plane.script(&["start"]);
        Some(Arc::new(plane))
    }

    fn script(&self, verb: &[&str]) -> String {
        let output = self.command(verb).stderr(Stdio::inherit()).output().expect("the script can be run");
        assert!(output.status.success(), "controlplane.sh {verb:?} failed: {}", output.status);
        String::from_utf8(output.stdout).expect("the script prints text")
    }

    fn command(&self, verb: &[&str]) -> std::process::Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup/controlplane.sh");
        let mut command = std::process::Command::new(script);
        command
            .args(verb)
            .env("GOTEL_TEST_STATE", self.state.path())
            .env("GOTEL_TEST_CLUSTERS", self.clusters);
        command.env_remove(VARIABLE).stdin(Stdio::null());
        command
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.command(&["stop"]).status().ok();
    }
}
