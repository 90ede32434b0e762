//! A database of a measurement's own, filled past the store with as many reservations as it takes.

use super::proxy::Proxy;
use gotel::metrics::Metrics;
use gotel::reservation::{Draft, JobKey, Settings};
use gotel::store::Store;
use gotel::store::dialect::Dialect;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use url::Url;

/// One day in milliseconds.
pub const DAY: i64 = 86_400_000;

/// Rows of one INSERT.
const ROWS: usize = 2000;

/// The databases GoTel runs on.
#[derive(Debug, Clone)]
pub struct Backend {
    pub name: &'static str,
    server: Option<String>,
}

impl Backend {
    /// SQLite, and the servers whose addresses are in the environment.
    pub fn at_hand() -> Vec<Self> {
        let mut all = vec![Self { name: "SQLite", server: None }];
        for (name, variable) in [("MariaDB", "GOTEL_TEST_MARIADB_URL"), ("MySQL", "GOTEL_TEST_MYSQL_URL")] {
            match std::env::var(variable) {
                Ok(url) => all.push(Self { name, server: Some(url) }),
                Err(_) => eprintln!("{name} is left out: {variable} is not set"),
            }
        }
        all
    }

    /// Whether it is a server of its own.
    pub fn is_server(&self) -> bool {
        self.server.is_some()
    }
}

/// An empty, migrated database.
pub struct Db {
    pub name: &'static str,
    pub url: String,
    server: Option<(String, String)>,
    // Only kept for its end.
    _folder: Option<tempfile::TempDir>,
}

impl Db {
    pub async fn new(backend: &Backend) -> Self {
        sqlx::any::install_default_drivers();
        let db = match &backend.server {
            None => {
                let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
                let url = format!("sqlite://{}", folder.path().join("gotel.db").display());
                Self { name: backend.name, url, server: None, _folder: Some(folder) }
            }
            Some(server) => {
                let database = format!("gotel_bench_{}", uuid::Uuid::new_v4().simple());
                let mut root = AnyConnection::connect(server).await.expect("the database server answers");
                run(&mut root, &format!("CREATE DATABASE {database}")).await;
                let url = format!("{}/{database}", server.trim_end_matches('/'));
                Self { name: backend.name, url, server: Some((server.clone(), database)), _folder: None }
            }
        };
        db.store().migrate().await.expect("the schema is made");
        db
    }

    /// Drops the database.
    pub async fn end(self) {
        if let Some((server, database)) = &self.server {
            let mut root = AnyConnection::connect(server).await.expect("the database server answers");
            run(&mut root, &format!("DROP DATABASE {database}")).await;
        }
    }

    /// A store on it. SQLite: one at a time.
    pub fn store(&self) -> Store {
        Store::open(&self.url, Arc::new(Metrics::new())).expect("the store opens")
    }

    /// Where its server listens; None: there is none.
    pub fn server_addr(&self) -> Option<SocketAddr> {
        self.server.as_ref()?;
        let url = Url::parse(&self.url).expect("the database's address is a URL");
        Some(url.socket_addrs(|| Some(3306)).expect("the server's address resolves")[0])
    }

    /// The way to it through a proxy.
    pub fn url_through(&self, proxy: &Proxy) -> String {
        let mut url = Url::parse(&self.url).expect("the database's address is a URL");
        // A mysql URL takes both.
        let _ = (url.set_host(Some("127.0.0.1")), url.set_port(Some(proxy.addr.port())));
        url.to_string()
    }

    /// Which family it is.
    pub fn dialect(&self) -> Dialect {
        if self.server.is_none() { Dialect::Sqlite } else { Dialect::MySql }
    }

    /// A connection past the store, set up as the store sets up its own.
    pub async fn connect(&self) -> AnyConnection {
        let mut conn = AnyConnection::connect(&self.url).await.expect("the database answers");
        for statement in self.dialect().session_setup() {
            run(&mut conn, &statement).await;
        }
        conn
    }

    /// `jobs` reservations, each seen a moment ago and expected again within a day.
    pub async fn fill(&self, jobs: usize) {
        let mut conn = self.connect().await;
        let settings = settings().replace('\'', "''");
        let now = number(&mut conn, &format!("SELECT {}", self.dialect().now())).await;
        let due = now + DAY;
        for first in (0..jobs).step_by(ROWS) {
            let mut text = String::from(INSERT);
            for n in first..jobs.min(first + ROWS) {
                let comma = if n == first { "" } else { ", " };
                // Writing to a String cannot fail.
                let _ = write!(
                    text,
                    "{comma}('{}', 'bench', '{}', 'ops', 1, '{settings}', 'on_time', {}, {now}, {now}, {now}, {now}, 0, \
                     {now}, 1, 0, 0)",
                    key(n).digest(),
                    component(n),
                    due + n as i64
                );
            }
            run(&mut conn, &text).await;
        }
    }

    /// Copies the rows there are until there are `jobs`: quick, but nobody can check in for a copy.
    pub async fn multiply(&self, jobs: usize) {
        let mut conn = self.connect().await;
        loop {
            let there = number(&mut conn, "SELECT COUNT(*) FROM reservation").await;
            let missing = i64::try_from(jobs).unwrap_or(i64::MAX) - there;
            if missing <= 0 {
                break;
            }
            // In pieces that a small server copies in memory.
            let piece = missing.min(there).min(10_000);
            let copy = INSERT.replace(
                "VALUES ",
                &format!(
                    "SELECT CONCAT('copy-{there}-', id), app, CONCAT('copy-{there}-', id), owner, gen, settings, state, \
                     due_ms + {there}, created_ms, updated_ms, last_ok_ms, last_ok_started_ms, fails, last_seen_ms, \
                     checkins, uses_runs, rearm_ms FROM reservation ORDER BY id LIMIT {piece}"
                ),
            );
            run(&mut conn, &copy).await;
        }
        // So that the servers plan with the size it now has.
        let statistics = if self.server.is_none() { "ANALYZE" } else { "ANALYZE TABLE reservation" };
        conn.fetch_all(AssertSqlSafe(statistics)).await.expect("statistics");
    }
}

const INSERT: &str = "INSERT INTO reservation (rkey, app, component, owner, gen, settings, state, due_ms, created_ms, \
     updated_ms, last_ok_ms, last_ok_started_ms, fails, last_seen_ms, checkins, uses_runs, rearm_ms) VALUES ";

fn settings() -> String {
    let draft = Draft {
        every: Some("1d".into()),
        owner: Some("ops@example.org".into()),
        notify: Some(vec!["ops@example.org".into()]),
        ..Draft::default()
    };
    Settings::parse(&draft, &["console".to_owned()], 0).expect("a valid draft").to_stored()
}

/// The `n`th reservation.
pub fn key(n: usize) -> JobKey {
    JobKey::parse("bench", &component(n)).expect("a valid name")
}

fn component(n: usize) -> String {
    format!("job-{n:06}")
}

/// Runs raw SQL.
pub async fn run(conn: &mut AnyConnection, text: &str) {
    if let Err(e) = conn.execute(AssertSqlSafe(text.to_owned())).await {
        panic!("{e} in: {:.300}", text);
    }
}

/// The one number that raw SQL yields.
pub async fn number(conn: &mut AnyConnection, text: &str) -> i64 {
    let row = conn.fetch_one(AssertSqlSafe(text.to_owned())).await.expect("a row");
    row.try_get(0).expect("a number")
}
