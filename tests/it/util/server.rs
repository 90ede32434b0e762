//! A database server of the test's own, to be killed, frozen and started again.
//!
//! Promises: nothing else uses it; it keeps its port and its data over [`PrivateServer::kill9`] and
//! [`PrivateServer::restart`]; it is gone, with its data, when the value is dropped.
//! Does not promise: to be there where the shared server is not: a machine given only an address has none.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use url::Url;

use super::db::{Backend, TestDb};
use super::{needs, signal};

/// A MariaDB or MySQL server, started by its script in `tests/setup/`.
pub struct PrivateServer {
    backend: Backend,
    script: PathBuf,
    state: tempfile::TempDir,
    url: Url,
    clock: Option<Clock>,
    /// Further options for it.
    options: &'static str,
}

/// All tables in one file that may grow to 40 MB: as a disk that is full, and nobody has to be root for it.
const SMALL: &str = "--innodb-file-per-table=OFF --innodb-data-file-path=ibdata1:12M:autoextend:max:40M \
                     --innodb-autoextend-increment=1";

/// The same with more room.
const ENLARGED: &str = "--innodb-file-per-table=OFF --innodb-data-file-path=ibdata1:12M:autoextend:max:400M \
                        --innodb-autoextend-increment=1";

/// A wall clock that programs are made to see by libfaketime, in place of the machine's own.
pub struct Clock {
    file: tempfile::NamedTempFile,
}

impl Clock {
    /// One that is right, for now.
    pub fn new() -> Self {
        let clock = Self { file: tempfile::NamedTempFile::new().expect("a temporary file can be made") };
        clock.set(0);
        clock
    }

    /// From now on it shows so many seconds more than the true time; every reading after this call does.
    pub fn set(&self, ahead_s: i64) {
        let next = self.file.path().with_extension("next");
        std::fs::write(&next, format!("{ahead_s:+}s\n")).expect("the temporary folder can be written");
        std::fs::rename(next, self.file.path()).expect("a file can be replaced");
    }

    /// What a program is to find in its environment.
    pub fn env(&self) -> Vec<(&str, String)> {
        let file = self.file.path().to_str().expect("the folder's name is text");
        let library = "/usr/$LIB/faketime/libfaketimeMT.so.1";
        vec![
            ("LD_PRELOAD", library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

impl PrivateServer {
    /// Starts one; `None` where the tests on this database are left out. Blocks for about a second.
    pub fn start(backend: Backend) -> Option<Self> {
        Self::start_by(backend, None, "")
    }

    /// A MariaDB server that sees a clock of its own.
    pub fn start_with_clock() -> Option<Self> {
        Self::start_by(Backend::MariaDb, Some(Clock::new()), "")
    }

    /// A MariaDB server with little room.
    pub fn start_small() -> Option<Self> {
        Self::start_by(Backend::MariaDb, None, SMALL)
    }

    /// Gives one with little room more of it; for that it is started again.
    pub fn enlarge(&mut self) {
        self.kill9();
        self.options = ENLARGED;
        self.restart();
    }

    /// Its clock.
    pub fn clock(&self) -> &Clock {
        self.clock.as_ref().expect("it was started with one")
    }

    fn start_by(backend: Backend, clock: Option<Clock>, options: &'static str) -> Option<Self> {
        let (name, variable) = match backend {
            Backend::Sqlite => panic!("SQLite has no server"),
            Backend::MariaDb => ("MariaDB", "GOTEL_TEST_MARIADB_URL"),
            Backend::MySql => ("MySQL", "GOTEL_TEST_MYSQL_URL"),
        };
        needs::address_of(name, variable)?;
        let script = format!("tests/setup/{}.sh", name.to_lowercase());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let state = tempfile::tempdir().expect("a temporary folder can be made");
        let url = Url::parse("mysql://127.0.0.1/").unwrap();
        let mut server = Self { backend, script, state, url, clock, options };
        server.restart();
        Some(server)
    }

    /// Starts it again on the same port and data, after [`PrivateServer::kill9`]; returns when it answers.
    pub fn restart(&mut self) {
        let exports = self.script("start");
        let (_, url) = exports.trim().split_once('=').expect("`start` prints export NAME=URL");
        self.url = Url::parse(url).expect("`start` prints a URL");
    }

    /// Another server with this one's data as of now, as a replica that lags has it; it is not started yet:
    /// [`PrivateServer::restart`] does. It finds what a crash would have left.
    pub async fn lagging_copy(&self) -> Self {
        assert_eq!(self.backend, Backend::MariaDb, "the data of MySQL belong to root");
        let state = tempfile::tempdir().expect("a temporary folder can be made");
        let folder = |state: &tempfile::TempDir| state.path().join("mariadb");
        std::fs::create_dir(folder(&state)).expect("the folder can be made");
        self.sigstop().await;
        let mut copy = Command::new("cp");
        copy.arg("-a")
            .args(["data", "init.sql"].map(|name| folder(&self.state).join(name)))
            .arg(folder(&state));
        let copied = copy.status();
        self.sigcont();
        assert!(copied.is_ok_and(|status| status.success()), "the data folder can be copied");
        let (script, url) = (self.script.clone(), self.url.clone());
        Self { backend: self.backend, script, state, url, clock: None, options: self.options }
    }

    /// Its URL without a database, as a user who may do everything.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// An empty database on it.
    pub async fn database(&self) -> TestDb {
        TestDb::on_server(self.backend, self.url.clone()).await
    }

    /// The server's process id.
    pub fn pid(&self) -> i32 {
        self.script("pid").trim().parse().expect("`pid` prints a number")
    }

    /// SIGKILL: what was not made durable is lost. Returns when the process is gone.
    pub fn kill9(&self) {
        self.script("kill");
    }

    /// SIGSTOP: it accepts connections, by its kernel, and answers nothing.
    pub async fn sigstop(&self) {
        signal::stop(self.pid()).await;
    }

    /// SIGCONT: it goes on where it was.
    pub fn sigcont(&self) {
        signal::cont(self.pid());
    }

    fn script(&self, verb: &str) -> String {
        let mut command = Command::new(&self.script);
        command.arg(verb).env("GOTEL_TEST_STATE", self.state.path());
        command.env_remove("GOTEL_TEST_MARIADB_URL").env_remove("GOTEL_TEST_MYSQL_URL");
        if let Some(clock) = &self.clock {
            let env = clock.env().into_iter().map(|(name, value)| format!("{name}={value}"));
            command.env("GOTEL_TEST_SERVER_ENV", env.collect::<Vec<_>>().join(" "));
        }
        command.env("GOTEL_TEST_SERVER_ARGS", self.options);
        let output =
            command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("the script can be run");
        assert!(output.status.success(), "{} {verb} failed: {}", self.script.display(), output.status);
        String::from_utf8(output.stdout).expect("the script prints text")
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.state.path().join(self.script.file_stem().unwrap()).join("log");
            eprintln!("the server's log:\n{}", std::fs::read_to_string(log).unwrap_or_default());
        }
        let mut command = Command::new(&self.script);
        command.arg("stop").env("GOTEL_TEST_STATE", self.state.path()).status().ok();
    }
}
