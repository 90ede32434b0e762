//! A folder as a reader has it after cloning: the examples, the Makefile, and `gotel` on the PATH.
//!
//! Promises: commands run in it cannot see this process's `GOTEL_…` variables, nor touch the repository; the
//! servers they start listen on free ports and end with the [`Workshop`].
//!
//! `cargo` is stood in for: the program under test is built already, and no test may replace the file that
//! others run. What the Makefile asks of cargo is checked all the same.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::util::process::Gotel;
use crate::util::wait::eventually;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(180);

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
pub fn file(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The folder.
pub struct Workshop {
    dir: tempfile::TempDir,
    /// Variables for what runs in it.
    pub env: Vec<(String, String)>,
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; None: it was killed.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Workshop {
    /// A fresh one.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let at = |name: &str| dir.path().join(name);
        copy(&repository().join("examples"), &at("examples"));
        std::fs::copy(repository().join("Makefile"), at("Makefile")).unwrap();
        std::fs::create_dir(at("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_gotel"), at("bin/gotel")).unwrap();
        let workshop = Self { dir, env: Vec::new() };
        workshop.program(
            "cargo",
            "[ \"$1 $2 $3 $4\" = 'run --quiet --locked --' ] || { echo \"cargo $*?\" >&2; exit 2; }\n\
             shift 4\necho $$ >>\"$WORKSHOP/pids\"\nexec gotel \"$@\"",
        );
        workshop
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file in it, written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A file in it, with one text for another.
    pub fn change(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path().join(name)).unwrap();
        assert!(text.contains(from), "{name} holds no {from:?}");
        self.write(name, &text.replace(from, to));
    }

    /// A shell script on the PATH.
    pub fn program(&self, name: &str, script: &str) {
        let path = self.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn variables(&self) -> Vec<(OsString, OsString)> {
        let path = format!("{}/bin:{}", self.path().display(), std::env::var("PATH").unwrap_or_default());
        let mut all: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), path.into()),
            ("CARGO".into(), "cargo".into()),
            ("WORKSHOP".into(), self.path().into()),
        ];
        all.extend(self.env.iter().map(|(name, value)| (name.into(), value.into())));
        all
    }

    /// Runs a script to its end, in `shell`.
    pub async fn run_in(&self, shell: &str, script: &str) -> Ran {
        let streams = [0, 1].map(|_| tempfile::NamedTempFile::new_in(self.path()).unwrap());
        let [out, err] = streams.each_ref().map(|file| Stdio::from(file.reopen().unwrap()));
        let mut command = Command::new(shell);
        for (name, _) in std::env::vars_os() {
            // `make` hands its own matters down, and those are not this make's.
            if name.to_string_lossy().starts_with("GOTEL_") || name.to_string_lossy().contains("MAKE") {
                command.env_remove(name);
            }
        }
        command.envs(self.variables()).current_dir(self.path()).arg("-c").arg(script);
        let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().expect("a shell starts");
        let status =
            eventually(LIMIT, format!("the end of {script:?}"), async || child.try_wait().unwrap()).await;
        let [out, err] = streams
            .each_ref()
            .map(|file| String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned());
        Ran { code: status.code(), out, err }
    }

    /// Runs a script as a person's shell would, stopping at the first failure.
    pub async fn run(&self, script: &str) -> Ran {
        self.run_in("bash", &format!("set -euo pipefail\n{script}")).await
    }

    /// Opens a terminal with a server in it, and gives its address without a slash at its end.
    pub async fn serve(&self, command: &str) -> (Gotel, String) {
        let mut env: Vec<(OsString, OsString)> = self.variables();
        env.push(("GOTEL_LISTEN".into(), "127.0.0.1:0".into()));
        env.push(("GOTEL_REPLICA".into(), "gotel-1".into()));
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap())).collect();
        let script = format!("cd \"$WORKSHOP\"; unset MAKEFLAGS MAKELEVEL MFLAGS\nexec {}", command.trim());
        let mut gotel = Gotel::spawn_program(Path::new("/bin/bash"), &["-c", &script], &env);
        let url = gotel.url().await.to_string();
        (gotel, url.trim_end_matches('/').to_owned())
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // Servers that `make` started are its children, not ours.
        let pids = std::fs::read_to_string(self.path().join("pids")).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?)) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

/// A folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}
