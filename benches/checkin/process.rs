//! Servers as processes: the program itself, and the one that stores nothing.

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A server that listens on a port of its own choice; it ends with this value.
pub struct Server {
    child: Child,
    pub addr: String,
}

impl Server {
    /// `gotel serve` as built for this run.
    pub fn gotel(database_url: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gotel"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--database-url", database_url]);
        Self::start(command)
    }

    /// The same on one processor, so that a load on the other can ask for more than it can do. Where there is
    /// only one, it is as [`Server::gotel`].
    pub fn gotel_on_one_processor(database_url: &str) -> Self {
        let mut command = on_processor(0, env!("CARGO_BIN_EXE_gotel"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--database-url", database_url]);
        Self::start(command)
    }

    /// One of several, under this name, with this configuration.
    pub fn replica(name: &str, database_url: &str, config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gotel"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--database-url", database_url, "--replica", name]);
        command.arg("--config").arg(config).envs([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")]);
        Self::start(command)
    }

    /// One that keeps the objects of this namespace of a cluster.
    pub fn in_cluster(database_url: &str, kubeconfig: &str, namespace: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gotel"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--database-url", database_url]);
        command.args(["--kubernetes", "on", "--cluster-name", "bench", "--kubernetes-namespaces", namespace]);
        command.env("KUBECONFIG", kubeconfig);
        Self::start(command)
    }

    /// The same HTTP server with the write left out.
    pub fn sink() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.arg("sink");
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        // Nothing of the caller's environment but the address of what it needs.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GOTEL_")) {
            command.env_remove(name);
        }
        command.current_dir(env!("CARGO_TARGET_TMPDIR"));
        let mut child = command
            .env("GOTEL_LOG", "error")
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output is ours")).lines();
        let addr = lines.by_ref().map_while(Result::ok).find_map(|line| address(&line));
        // Read on, so that it never waits for us.
        std::thread::spawn(move || lines.count());
        Self { child, addr: addr.expect("the server prints its address") }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id is not zero");
        kill_process(pid, signal).expect("the process is ours");
    }

    /// Asks it to end, and waits for it.
    pub fn end(mut self) {
        self.signal(Signal::TERM);
        self.child.wait().expect("it is a child of ours");
    }

    /// The most memory it ever had resident, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// What it has resident now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Processor seconds it has used.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        // utime and stime, in hundredths.
        (ticks(11) + ticks(12)) / 100.0
    }
}

/// A command that stays on one processor.
pub fn on_processor(processor: usize, program: impl AsRef<OsStr>) -> Command {
    let many = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
    if !many {
        return Command::new(program);
    }
    let mut command = Command::new("taskset");
    command.args(["-c", &processor.to_string()]).arg(program);
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `127.0.0.1:PORT` in a line.
fn address(line: &str) -> Option<String> {
    let rest = line.split_once("http://")?.1;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}
