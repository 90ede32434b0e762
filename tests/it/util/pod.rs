//! A pod of GoTel without a kubelet: its arguments, environment, volumes and security context around the real program.
//!
//! Promises: another uid, no capabilities, nothing of the system but the C library and certificates, everything
//! read-only but what the pod declares a place to write; ConfigMaps and Secrets are mounted, and change, as a kubelet
//! does it.
//! Does not promise: a network of its own. So the program listens on a free port of loopback, and takes heartbeats where
//! the test says.
//!
//! Made of namespaces that any user may make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::mounted::Mounted;
use super::process::Gotel;

/// What the volumes of ConfigMaps and Secrets hold: by volume, names of files and their texts.
pub type Files = BTreeMap<String, Vec<(String, String)>>;

/// A container of GoTel, with its file system.
pub struct Pod {
    root: tempfile::TempDir,
    /// What ConfigMaps and Secrets are mounted, by volume.
    mounted: BTreeMap<String, Mounted>,
    /// The pod's `spec`.
    spec: Value,
    /// What it finds in its environment besides what the pod says.
    pub env: Vec<(String, String)>,
    /// The program's arguments: what the pod says.
    pub args: Vec<String>,
    /// Folders that the pod declares a place to write.
    pub writable: Vec<String>,
}

impl Pod {
    /// Of this `spec` and this program, with this in its volumes; the others are empty.
    pub fn new(spec: &Value, program: &Path, files: &Files) -> Self {
        let root = tempfile::tempdir().expect("a temporary folder can be made");
        let env = vec![("GOTEL_LISTEN".to_owned(), "127.0.0.1:0".to_owned())];
        let args = spec["containers"][0]["args"].as_array().unwrap();
        let args = args.iter().map(|arg| arg.as_str().unwrap().to_owned()).collect();
        let mut pod =
            Self { root, mounted: BTreeMap::new(), spec: spec.clone(), env, args, writable: Vec::new() };
        pod.image(program);
        for mount in spec["containers"][0]["volumeMounts"].as_array().unwrap() {
            let (name, path) = (mount["name"].as_str().unwrap(), mount["mountPath"].as_str().unwrap());
            match files.get(name) {
                Some(files) => {
                    assert_eq!(mount["readOnly"], true, "{mount}");
                    pod.mounted.insert(name.to_owned(), Mounted::at(&pod.at(path), files));
                }
                // Kubernetes' own, where the test gives none: the token of the ServiceAccount.
                None if mount["readOnly"] == true => {}
                None => {
                    std::fs::create_dir_all(pod.at(path)).unwrap();
                    pod.writable.push(path.to_owned());
                }
            }
        }
        pod
    }

    /// The ConfigMap or Secret of a volume holds this now.
    pub fn swap(&mut self, volume: &str, files: &[(String, String)]) {
        self.mounted.get_mut(volume).expect("the volume is mounted").swap(files);
    }

    /// A path of the container.
    pub fn at(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside.trim_start_matches('/'))
    }

    /// What the image has, put together as the Dockerfile does.
    fn image(&self, program: &Path) {
        let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile");
        let dockerfile = std::fs::read_to_string(dockerfile).expect("there is a Dockerfile");
        let recipe = dockerfile.lines().find_map(|line| line.strip_prefix("RUN mkdir -p /image"));
        let recipe = format!("mkdir -p /image{}", recipe.expect("the image is put together"));
        let recipe = recipe
            .replace("/image", self.root.path().to_str().expect("the folder's name is text"))
            .replace("target/release/gotel", program.to_str().expect("the program's path is text"));
        let made = Command::new("sh").args(["-c", &recipe]).output().expect("a shell can be run");
        assert!(made.status.success(), "{recipe}: {}", String::from_utf8_lossy(&made.stderr));
        for folder in ["usr/local/bin", "dev", "proc"] {
            std::fs::create_dir_all(self.at(folder)).unwrap();
        }
        let inside = self.at("usr/local/bin/gotel");
        // As it lies in the image, and not mounted there: so it is as read-only as the rest.
        if std::fs::hard_link(program, &inside).is_err() {
            std::fs::copy(program, &inside).expect("the program can be copied");
        }
        // Places to mount these on.
        for device in ["dev/null", "dev/urandom"] {
            std::fs::write(self.at(device), "").unwrap();
        }
    }

    /// Starts the container, as the pod of this number in its StatefulSet.
    pub fn start(&self, ordinal: usize) -> Gotel {
        let container = &self.spec["containers"][0];
        let user = self.spec["securityContext"]["runAsUser"].as_u64().unwrap();
        assert_eq!(self.spec["securityContext"]["runAsNonRoot"], true);
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));

        let root = self.root.path().display();
        // Again after the mount: the folder is another one then.
        let mut script = format!("set -e\ncd {root}\nmount --bind . .\ncd {root}\n");
        for path in &self.writable {
            script += &format!("mount --bind .{path} .{path}\n");
        }
        for device in ["dev/null", "dev/urandom"] {
            script += &format!("mount --bind /{device} {device}\n");
        }
        // Whoever runs the tests may have a cluster of their own.
        script += "mount --rbind /proc proc\nmount -o remount,bind,ro .\nunset KUBECONFIG HOME\n";
        // The user is mapped anew: who was root for the mounts is nobody in particular here.
        script += &format!(
            "exec setpriv --no-new-privs unshare --user --map-user={user} --map-group={user} --root=. --wd=/ \
             /usr/local/bin/gotel {}",
            self.args.join(" ")
        );
        let mut env = environment(container, &ordinal.to_string());
        env.extend(self.env.iter().cloned());
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let args = ["--user", "--map-root-user", "--mount", "/bin/sh", "-c", &script];
        Gotel::spawn_program(Path::new("/usr/bin/unshare"), &args, &env)
    }
}

/// A container's environment as the kubelet makes it of names, values and the pod's own fields.
fn environment(container: &Value, ordinal: &str) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    for variable in container["env"].as_array().unwrap() {
        let value = match variable["value"].as_str() {
            // `$(NAME)` stands for what came before.
            Some(value) => env
                .iter()
                .fold(value.to_owned(), |text, (name, known)| text.replace(&format!("$({name})"), known)),
            None => match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.labels['apps.kubernetes.io/pod-index']") => ordinal.to_owned(),
                Some("metadata.name") => format!("gotel-{ordinal}"),
                Some("metadata.uid") => format!("uid-{ordinal}"),
                other => panic!("no kubelet of these tests knows {other:?}"),
            },
        };
        env.push((variable["name"].as_str().unwrap().to_owned(), value));
    }
    env
}
