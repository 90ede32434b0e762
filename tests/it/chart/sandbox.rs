//! The program under the restrictions of the chart's pod: another uid, no capabilities, nothing of the system but the C
//! library, everything read-only but what the chart declares a place to write.
//!
//! Made of namespaces that any user may make, with the arguments, the environment, the volumes and the security context
//! that the chart renders.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{SOON, object, template};
use crate::util::cluster::Cluster;
use crate::util::db::{Backend, TestDb};
use crate::util::process::Gotel;
use crate::util::wait::eventually;

/// What stands in each key of each Secret.
const SECRET: &str = "a-secret-that-is-long-enough";

/// The pod's file system.
struct Root {
    dir: tempfile::TempDir,
    /// Places that may be written, in it.
    writable: Vec<String>,
}

impl Root {
    /// The program, the libraries it is linked with and certificates: what the image has.
    fn new() -> Self {
        let root =
            Self { dir: tempfile::tempdir().expect("a temporary folder can be made"), writable: Vec::new() };
        let program = env!("CARGO_BIN_EXE_gotel");
        root.copy(Path::new(program), "usr/local/bin/gotel");
        let linked = Command::new("ldd").arg(program).output().expect("ldd can be run");
        let linked = String::from_utf8(linked.stdout).expect("it prints text");
        for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
            // Those of the image (distroless/cc), and no other.
            let name = Path::new(library).file_name().unwrap().to_str().unwrap();
            let known = ["libc.so", "libm.so", "libgcc_s.so", "ld-linux"];
            assert!(known.iter().any(|known| name.starts_with(known)), "the image has no {library}");
            root.copy(Path::new(library), library.trim_start_matches('/'));
        }
        root.copy(Path::new("/etc/ssl/certs/ca-certificates.crt"), "etc/ssl/certs/ca-certificates.crt");
        for device in ["dev/null", "dev/urandom"] {
            root.write(device, "");
        }
        root.write("proc/nothing", "");
        root
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn at(&self, inside: &str) -> PathBuf {
        self.path().join(inside.trim_start_matches('/'))
    }

    fn write(&self, inside: &str, text: &str) {
        let path = self.at(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn copy(&self, from: &Path, inside: &str) {
        std::fs::create_dir_all(self.at(inside).parent().unwrap()).unwrap();
        std::fs::copy(from, self.at(inside)).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    }
}

/// The pod's volumes, where the container has them. Secrets hold [`SECRET`], or the database's URL.
fn mount(root: &mut Root, rendered: &str, database: &str) {
    let set = object(rendered, "StatefulSet");
    let pod = &set["spec"]["template"]["spec"];
    let config =
        object_with(rendered, "ConfigMap", "gotel")["data"]["gotel.yaml"].as_str().unwrap().to_owned();
    // Here other programs listen, too.
    let config = config.replace("0.0.0.0:8081", "127.0.0.1:0");
    for volume_mount in pod["containers"][0]["volumeMounts"].as_array().unwrap() {
        let (name, path) = (&volume_mount["name"], volume_mount["mountPath"].as_str().unwrap());
        let claimed = set["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] == *name;
        let volume = pod["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == *name);
        match volume.cloned().unwrap_or_default() {
            volume if claimed || volume["emptyDir"].is_object() => {
                std::fs::create_dir_all(root.at(path)).unwrap();
                root.writable.push(path.to_owned());
            }
            volume if volume["configMap"].is_object() => root.write(&format!("{path}/gotel.yaml"), &config),
            volume => {
                assert_eq!(volume_mount["readOnly"], true, "{volume_mount}");
                let items = volume["secret"]["items"].as_array().cloned().unwrap_or_else(|| {
                    ["password", "routingKey", "url", "hmac"].map(|key| json!({"path": key})).to_vec()
                });
                for item in items {
                    let key = item["path"].as_str().unwrap();
                    let value = match (name.as_str().unwrap(), key) {
                        ("database", _) => database.to_owned(),
                        (_, "url") => format!("http://127.0.0.1:9/{SECRET}"),
                        // Two tokens may not be alike.
                        (name, _) => format!("{SECRET}-{name}"),
                    };
                    root.write(&format!("{path}/{key}"), &value);
                }
            }
        }
    }
}

fn object_with(rendered: &str, kind: &str, name: &str) -> Value {
    let found = |object: &Value| object["kind"] == kind && object["metadata"]["name"] == name;
    super::objects(rendered).into_iter().find(found).expect("it is rendered")
}

/// Starts the container of the chart's pod.
fn start(root: &Root, rendered: &str) -> Gotel {
    let pod = object(rendered, "StatefulSet")["spec"]["template"]["spec"].clone();
    let container = &pod["containers"][0];
    let user = pod["securityContext"]["runAsUser"].as_u64().unwrap();
    assert_eq!(user, 65532);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let context = &container["securityContext"];
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));

    let mut script = vec!["set -e".to_owned(), format!("cd {}", root.path().display())];
    script.push("mount --bind . .".into());
    script.push(format!("cd {}", root.path().display()));
    for path in &root.writable {
        script.push(format!("mount --bind .{path} .{path}"));
    }
    for device in ["dev/null", "dev/urandom"] {
        script.push(format!("mount --bind /{device} {device}"));
    }
    script.push("mount --rbind /proc proc".into());
    script.push("mount -o remount,bind,ro .".into());
    let args: Vec<_> =
        container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    // The user is mapped anew: what was root for the mounts is nobody in particular here.
    script.push(format!(
        "exec setpriv --no-new-privs unshare --user --map-user={user} --map-group={user} --root=. --wd=/ \
         /usr/local/bin/gotel {}",
        args.join(" ")
    ));
    let mut env: Vec<(String, String)> = Vec::new();
    for variable in container["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        let value = match variable["value"].as_str() {
            Some(value) => env
                .iter()
                .fold(value.to_owned(), |text, (name, known)| text.replace(&format!("$({name})"), known)),
            None => "0".to_owned(),
        };
        env.push((name.to_owned(), value));
    }
    env.push(("GOTEL_LISTEN".into(), "127.0.0.1:0".into()));
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let script = script.join("\n");
    let args = ["--user", "--map-root-user", "--mount", "/bin/sh", "-c", &script];
    Gotel::spawn_program(Path::new("/usr/bin/unshare"), &args, &env)
}

/// That the process is what the security context says.
fn is_restricted(gotel: &Gotel) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gotel.pid())).expect("the process lives");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells");
        line.trim_start_matches(':').trim().to_owned()
    };
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
}

#[tokio::test]
async fn the_smallest_installation_runs_under_its_pods_restrictions() {
    let Some(cluster) = Cluster::shared() else { return };
    let values = ["examples/kubernetes/values-small.yaml"];
    let rendered = template(&cluster, &values, &["--set=operator.enabled=false"]).await.ok();
    let mut root = Root::new();
    mount(&mut root, &rendered, "");
    let mut gotel = start(&root, &rendered);
    let url = gotel.url().await;
    is_restricted(&gotel);
    let client = gotel::alert::client(None).expect("a client can be built");
    let body = json!({"app": "billing", "component": "nightly", "every": "1h"});
    for (path, body) in [("reservation", Some(body)), ("checkin/billing/nightly", None)] {
        let request = client.post(url.join(path).unwrap());
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }
    let page = client.get(url.join("status").unwrap()).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("nightly"), "{page}");
    assert_eq!(root.writable, ["/var/lib/gotel"]);
    assert!(root.at("/var/lib/gotel/gotel.db").is_file(), "the database is on the volume");
    gotel.sigterm();
    let status = gotel.wait_exit(SOON).await;
    assert!(status.success(), "{status}: {}", gotel.output());
}

#[tokio::test]
async fn a_replica_of_two_clusters_runs_under_its_pods_restrictions() {
    let Some(cluster) = Cluster::shared() else { return };
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let values = ["examples/kubernetes/values-shared.yaml", "examples/kubernetes/values-eu.yaml"];
    let rendered = template(&cluster, &values, &["--set=operator.enabled=false"]).await.ok();
    let mut root = Root::new();
    mount(&mut root, &rendered, db.url());
    let mut gotel = start(&root, &rendered);
    let url = gotel.url().await;
    is_restricted(&gotel);
    let client = gotel::alert::client(None).expect("a client can be built");
    eventually(SOON, "it to be ready", async || {
        let answer = client.get(url.join("readyz").unwrap()).send().await.map_err(|e| e.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
    })
    .await;
    let nodes = client.get(url.join("nodes").unwrap()).bearer_auth(format!("{SECRET}-token-prometheus"));
    let nodes = nodes.send().await.unwrap().text().await.unwrap();
    assert!(nodes.contains("eu-0"), "the replica's name is made of cluster and ordinal: {nodes}");
    assert!(gotel.output().contains("to ops-mail, pager, chat"), "{}", gotel.output());
    gotel.sigterm();
    let status = gotel.wait_exit(SOON).await;
    assert!(status.success(), "{status}: {}", gotel.output());
}
