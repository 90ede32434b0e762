//! The real program as a process of its own, to be killed, stopped and continued like any other.
//!
//! Promises: it is dead when the [`Gotel`] value is dropped, whatever state it was in; its output is kept and
//! shown in every failure, and after it once more why the test failed; its environment holds no `GOTEL_…` variable that the test did not give.
//! Does not promise: to survive the test process being killed outright: then it is orphaned.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use url::Url;

use super::signal;
use super::wait::{eventually, now};

/// How long the program may take to print its address, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// How long the last lines of a process that has ended may take to be read.
const LAST_LINES: Duration = Duration::from_secs(5);

/// What a process has printed so far, also once the process is gone.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// On standard output and standard error alike.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

/// A running `gotel`.
pub struct Gotel {
    child: Child,
    output: Log,
    readers: [JoinHandle<()>; 2],
}

impl Gotel {
    /// Starts `gotel ARGS…` with these variables added to its environment.
    pub fn spawn(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::spawn_program(Path::new(env!("CARGO_BIN_EXE_gotel")), args, env)
    }

    /// `gotel serve` on a free port with this data folder, these further arguments, and its address awaited.
    pub async fn serve(data: &Path, args: &[&str]) -> (Self, Url) {
        let data = data.to_str().expect("the data folder's name is text");
        let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--data-dir", data];
        all.extend(args);
        let mut gotel = Self::spawn(&all, &[]);
        let url = gotel.url().await;
        (gotel, url)
    }

    /// Starts another program in the place of `gotel`: how this file is tested.
    pub fn spawn_program(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Self {
        keep_last_words();
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GOTEL_") {
                command.env_remove(name);
            }
        }
        command.args(args).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let output = Log::default();
        let readers = [
            keep(child.stdout.take().unwrap(), output.clone()),
            keep(child.stderr.take().unwrap(), output.clone()),
        ];
        Self { child, output, readers }
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Everything printed so far, on standard output and standard error alike.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// The same, to be kept.
    pub fn log(&self) -> Log {
        self.output.clone()
    }

    /// Waits for the address the program prints, `http://127.0.0.1:PORT`, and returns it without a path.
    pub async fn url(&mut self) -> Url {
        eventually(START, "the program to print its address", async || {
            if let Some(url) = self.output().lines().find_map(address_in) {
                return Ok(url);
            }
            assert!(self.running(), "the program ended before it printed its address:\n{}", self.output());
            Err(self.output())
        })
        .await
    }

    /// Waits until the program has printed `text`.
    #[track_caller]
    pub fn printed(&self, text: &str, deadline: Duration) -> impl Future<Output = ()> {
        let what = format!("the program to print {text:?}");
        eventually(deadline, what, async move || {
            let output = self.output();
            if output.contains(text) { Ok(()) } else { Err(output) }
        })
    }

    /// Whether the process has not ended yet; a stopped one has not.
    pub fn running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be asked").is_none()
    }

    /// SIGKILL, and waits until the kernel has ended the process.
    pub fn kill9(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// SIGSTOP: the process freezes where it is.
    pub async fn sigstop(&self) {
        signal::stop(self.pid()).await;
    }

    /// SIGCONT: it goes on.
    pub fn sigcont(&self) {
        signal::cont(self.pid());
    }

    /// SIGTERM: it is asked to end.
    pub fn sigterm(&self) {
        signal::term(self.pid());
    }

    /// Waits until the process has ended by itself, and what it has printed is here.
    #[track_caller]
    pub fn wait_exit(&mut self, deadline: Duration) -> impl Future<Output = ExitStatus> {
        let output = self.output.clone();
        let mut ended_at = None;
        eventually(deadline, "the program to end", async move || {
            let Some(status) = self.child.try_wait().expect("the child can be asked") else {
                return Err(format!("it runs; its output:\n{}", output.text()));
            };
            // A child of its own that outlives it keeps the streams open.
            let waited = ended_at.get_or_insert_with(now).elapsed();
            let read = self.readers.iter().all(JoinHandle::is_finished) || waited > LAST_LINES;
            if read { Ok(status) } else { Err("it has ended; its last lines are on their way".into()) }
        })
    }

    /// From now on the memory that it may write may grow by no more than this: the allocation beyond kills it.
    /// (A limit of the address space would not do: the allocator has reserved gigabytes of it.)
    pub fn limit_growth(&self, bytes: u64) {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process lives");
        let size = kilobytes(&status, "VmData:") * 1024 + bytes;
        let limit = Rlimit { current: Some(size), maximum: Some(size) };
        prlimit(Pid::from_raw(self.pid()), Resource::Data, limit)
            .expect("the process is this user's to limit");
    }

    /// Resident memory in bytes, now.
    pub fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process lives");
        kilobytes(&status, "VmRSS:") * 1024
    }
}

impl Drop for Gotel {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let why = LAST_WORDS.take();
            eprintln!("the program's output:\n{}\nthe end of it; the test failed: {why}", self.output());
        }
    }
}

thread_local! {
    /// Why this thread panics.
    static LAST_WORDS: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A long log would else bury why the test failed.
fn keep_last_words() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            LAST_WORDS.set(panic.to_string());
            usual(panic);
        }));
    });
}

/// Collects a stream, line by line, bytes that are no text replaced, until its end.
fn keep(stream: impl Read + Send + 'static, output: Log) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            output.0.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// A figure of `/proc/PID/status`.
fn kilobytes(status: &str, name: &str) -> u64 {
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).expect("a live process has this figure");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

fn address_in(line: &str) -> Option<Url> {
    let start = line.find("http://127.0.0.1:")?;
    let rest = &line[start..];
    let host_and_port = rest["http://".len()..].find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)));
    let end = host_and_port.map_or(rest.len(), |end| end + "http://".len());
    Url::parse(rest[..end].trim_end_matches(['.', ':']))
        .ok()
        .filter(|url| url.port().is_some_and(|port| port != 0))
}
