//! A Galera cluster of three nodes on this machine, and a database that all of them have.
//!
//! Promises: [`GaleraDb`] is empty, known to every node, seen by no other test, and gone after it. A [`Cluster`] is
//! the test's own: its nodes may be killed and started again, on the same ports and data.
//! Does not promise: that what one node has committed can be read on another at once; see [`GaleraDb::settle`].

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{ConnectOptions, Executor, Row};
use url::Url;

use super::db::{Backend, TestDb};
use super::needs;
use super::wait::eventually;

/// The nodes' names, as `tests/setup/galera.sh` counts them.
pub const NODES: [usize; 3] = [1, 2, 3];

const VARIABLE: &str = "GOTEL_TEST_GALERA_URLS";

/// How long a cluster may take to agree on anything, on a busy machine.
const AGREED: Duration = Duration::from_secs(60);

/// One test's database on all nodes.
pub struct GaleraDb {
    nodes: Vec<Url>,
    db: TestDb,
}

impl GaleraDb {
    /// On the shared cluster; `None` when there is none and none is required.
    pub async fn new() -> Option<Self> {
        Some(Self::on(urls(&needs::address_of("Galera", VARIABLE)?), 1).await)
    }

    /// On these nodes, made through node `home`.
    async fn on(nodes: Vec<Url>, home: usize) -> Self {
        let db = TestDb::on_server(Backend::MariaDb, nodes[home - 1].clone()).await;
        let name = Url::parse(db.url()).unwrap().path().to_owned();
        let mut nodes = nodes;
        nodes.iter_mut().for_each(|node| node.set_path(&name));
        let made = Self { nodes, db };
        made.settle().await;
        made
    }

    /// What `--database-url` takes to use node `n` (1, 2 or 3).
    pub fn url(&self, n: usize) -> &str {
        self.nodes[n - 1].as_str()
    }

    /// The database by way of the node it was made through, for what works on any database.
    pub fn into_db(self) -> TestDb {
        self.db
    }

    /// Waits until every node has applied what is committed anywhere.
    pub async fn settle(&self) {
        for url in &self.nodes {
            settle(url).await;
        }
    }

    /// The one number that SQL yields on node `n`, once that has applied what is committed anywhere.
    pub async fn number(&self, n: usize, sql: &str) -> i64 {
        let mut node = settle(&self.nodes[n - 1]).await;
        node.fetch_one(sqlx::AssertSqlSafe(sql.to_owned())).await.expect("the node answers").get(0)
    }
}

/// Waits until a node has applied what is committed anywhere.
pub async fn settle(node: &Url) -> MySqlConnection {
    eventually(AGREED, format!("{node} to catch up"), async || {
        let mut connection = connect(node).await?;
        connection.execute("SET SESSION wsrep_sync_wait = 15").await?;
        connection.execute("SELECT 1").await?;
        Ok::<_, sqlx::Error>(connection)
    })
    .await
}

async fn connect(node: &Url) -> sqlx::Result<MySqlConnection> {
    MySqlConnectOptions::from_url(node)?.connect().await
}

fn urls(list: &str) -> Vec<Url> {
    let urls: Vec<_> = list.trim().split(',').map(|url| Url::parse(url).expect("a node's URL")).collect();
    assert_eq!(urls.len(), NODES.len(), "{VARIABLE} names three nodes with commas between");
    urls
}

/// A cluster of the test's own, started by its script in `tests/setup/`.
pub struct Cluster {
    script: PathBuf,
    state: tempfile::TempDir,
    nodes: Vec<Url>,
}

impl Cluster {
    /// Starts one; `None` where the tests on Galera are left out. Blocks for about ten seconds.
    pub fn start() -> Option<Self> {
        needs::address_of("Galera", VARIABLE)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/setup/galera.sh");
        let state = tempfile::tempdir().expect("a temporary folder can be made");
        let mut cluster = Self { script, state, nodes: Vec::new() };
        cluster.restart();
        Some(cluster)
    }

    /// Starts whatever does not run; returns when all three nodes are one cluster.
    pub fn restart(&mut self) {
        let exports = self.script(&["start"]);
        let (_, list) = exports.trim().split_once('=').expect("`start` prints export NAME=URLS");
        self.nodes = urls(list);
    }

    /// An empty database, made (and in the end dropped) through node `home`.
    pub async fn database(&self, home: usize) -> GaleraDb {
        GaleraDb::on(self.nodes.clone(), home).await
    }

    /// SIGKILL to node `n`. Returns when the process is gone; the others notice some seconds later.
    pub fn kill9(&self, n: usize) {
        self.script(&["kill", &n.to_string()]);
    }

    /// Node `n` hears nothing of the others any more, nor they of it, and it goes on answering clients.
    pub async fn cut_off(&self, n: usize) {
        let mut node = connect(&self.nodes[n - 1]).await.expect("the node answers");
        let isolate = "SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'";
        node.execute(isolate).await.expect("the node can be cut off");
        self.becomes_non_primary(n).await;
    }

    /// Waits until node `n` says that it is part of a cluster that may not serve.
    pub async fn becomes_non_primary(&self, n: usize) {
        eventually(AGREED, format!("node {n} to lose its majority"), async || {
            let status = self.status(n).await?;
            if status == "non-Primary" { Ok(()) } else { Err(status) }
        })
        .await;
    }

    /// Makes node `n`, which has lost its majority, a cluster of its own: what an administrator does who knows
    /// that the others are dead.
    pub async fn bootstrap(&self, n: usize) {
        let mut node = connect(&self.nodes[n - 1]).await.expect("the node answers");
        node.execute("SET GLOBAL wsrep_provider_options = 'pc.bootstrap=true'").await.expect("it is allowed");
        settle(&self.nodes[n - 1]).await;
    }

    async fn status(&self, n: usize) -> Result<String, String> {
        let asked = async {
            let mut node = connect(&self.nodes[n - 1]).await?;
            node.fetch_one(sqlx::raw_sql("SHOW STATUS LIKE 'wsrep_cluster_status'")).await
        };
        asked.await.map(|row| row.get(1)).map_err(|e| e.to_string())
    }

    fn script(&self, verb: &[&str]) -> String {
        let mut command = Command::new(&self.script);
        command.args(verb).env("GOTEL_TEST_STATE", self.state.path()).env_remove(VARIABLE);
        let output =
            command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("the script can be run");
        assert!(output.status.success(), "{} {verb:?} failed: {}", self.script.display(), output.status);
        String::from_utf8(output.stdout).expect("the script prints text")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for n in NODES {
                let log = self.state.path().join(format!("galera/node{n}/log"));
                let log = std::fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(40).collect();
                eprintln!("the end of node {n}'s log:");
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        let mut command = Command::new(&self.script);
        command.arg("stop").env("GOTEL_TEST_STATE", self.state.path()).status().ok();
    }
}
