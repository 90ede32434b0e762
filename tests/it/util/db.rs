//! A database of its own for each test, on each of the databases GoTel runs on.
//!
//! ```ignore
//! on_every_database!(a_check_in_is_stored_once);
//! async fn a_check_in_is_stored_once(db: TestDb) { … db.url() … }
//! ```
//! makes three tests: `a_check_in_is_stored_once::on_sqlite`, `::on_mariadb` and `::on_mysql`.
//!
//! Promises: the database is empty, no other test sees it, and it is gone after the test, failed or not.
//! Does not promise: to remove it from a server that does not answer within [`FAREWELL`]; the server's data
//! folder goes with the server.

use std::net::SocketAddr;
use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::{AnyConnection, ConnectOptions, Connection, Executor};
use url::Url;

use super::needs;

/// How long dropping a database may take. Connections left open by the test may still hold locks in it.
const FAREWELL: Duration = Duration::from_secs(5);

/// Makes three tests of one function, one on each database.
macro_rules! on_every_database {
    ($name:ident) => {
        mod $name {
            use $crate::util::db::{Backend, TestDb};

            async fn run(backend: Backend) {
                if let Some(db) = TestDb::new(backend).await {
                    super::$name(db).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                run(Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_mariadb() {
                run(Backend::MariaDb).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_mysql() {
                run(Backend::MySql).await;
            }
        }
    };
}
pub(crate) use on_every_database;

/// The databases GoTel runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The embedded one: a file in a folder of the test's own.
    Sqlite,
    /// The server at `GOTEL_TEST_MARIADB_URL`.
    MariaDb,
    /// The server at `GOTEL_TEST_MYSQL_URL`.
    MySql,
}

impl Backend {
    /// The server's URL without a database, as a user who may do everything.
    fn server(self) -> Option<Url> {
        let address = match self {
            Backend::Sqlite => return None,
            Backend::MariaDb => needs::address_of("MariaDB", "GOTEL_TEST_MARIADB_URL"),
            Backend::MySql => needs::address_of("MySQL", "GOTEL_TEST_MYSQL_URL"),
        };
        address.map(|address| Url::parse(&address).expect("the server's address is a URL"))
    }
}

/// One test's own database.
pub struct TestDb {
    backend: Backend,
    url: String,
    place: Place,
}

enum Place {
    File(tempfile::TempDir),
    Server { server: Url, name: String },
}

impl TestDb {
    /// Makes an empty database; `None` when its server is not there and not required.
    pub async fn new(backend: Backend) -> Option<Self> {
        if backend == Backend::Sqlite {
            let dir = tempfile::tempdir().expect("a temporary folder can be made");
            let url = format!("sqlite://{}", dir.path().join("gotel.db").display());
            return Some(Self { backend, url, place: Place::File(dir) });
        }
        Some(Self::on_server(backend, backend.server()?).await)
    }

    /// Makes an empty database on a server of the test's own; see [`super::server::PrivateServer`].
    pub async fn on_server(backend: Backend, server: Url) -> Self {
        let name = format!("gotel_test_{}", uuid::Uuid::new_v4().simple());
        run_on(&server, &format!("CREATE DATABASE {name}"))
            .await
            .expect("the test user may create databases");
        let url = within(&server, &name).to_string();
        Self { backend, url, place: Place::Server { server, name } }
    }

    /// Which database this is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// What `--database-url` takes. On SQLite the file does not exist yet.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder that holds the SQLite file.
    pub fn dir(&self) -> Option<&std::path::Path> {
        match &self.place {
            Place::File(dir) => Some(dir.path()),
            Place::Server { .. } => None,
        }
    }

    /// The same database on another server, as after a fail-over to a copy.
    pub fn move_to(&mut self, server: &Url) {
        let Place::Server { server: old, name } = &mut self.place else { panic!("SQLite has no server") };
        self.url = within(server, name).into();
        *old = server.clone();
    }

    /// Where the server listens: the other end for a [`super::chaos::ChaosProxy`].
    pub fn server_addr(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::File(_) => None,
            Place::Server { server, .. } => {
                let addrs = server.socket_addrs(|| Some(3306)).expect("the server's address resolves");
                addrs.first().copied()
            }
        }
    }

    /// The database's URL by way of a proxy, without TLS, so that the proxy can read the statements.
    pub fn url_through(&self, proxy: SocketAddr) -> String {
        let mut url = Url::parse(&self.url).unwrap();
        url.set_ip_host(proxy.ip()).unwrap();
        url.set_port(Some(proxy.port())).unwrap();
        url.query_pairs_mut().append_pair("ssl-mode", "DISABLED");
        url.into()
    }

    /// The same database by a user of its own with this password; SQLite's has none.
    pub async fn url_of_a_user(&self, password: &str) -> String {
        let Place::Server { server, name } = &self.place else { return self.url.clone() };
        let user = format!("user_{}", &uuid::Uuid::new_v4().simple().to_string()[..16]);
        for statement in [
            format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'"),
            format!("GRANT ALL ON {name}.* TO '{user}'@'%'"),
        ] {
            run_on(server, &statement).await.expect("the test user may create users");
        }
        let mut url = Url::parse(&self.url).unwrap();
        url.set_username(&user).unwrap();
        url.set_password(Some(password)).unwrap();
        url.into()
    }

    /// A connection for raw SQL that is good on every database. Makes the SQLite file if need be.
    pub async fn connect(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        let url = match self.place {
            Place::File(_) => format!("{}?mode=rwc", self.url),
            Place::Server { .. } => self.url.clone(),
        };
        AnyConnection::connect(&url).await.expect("the test's own database can be reached")
    }

    /// A connection to the server itself, for `SET GLOBAL`, `KILL` and the like; panics on SQLite.
    pub async fn admin(&self) -> MySqlConnection {
        match &self.place {
            Place::File(_) => panic!("SQLite has no server to administer"),
            Place::Server { server, .. } => connect(server).await.expect("the server can be reached"),
        }
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let Place::Server { server, name } = &self.place else { return };
        let (server, name) = (server.clone(), name.clone());
        // On a thread and runtime of its own: the test's runtime may be the one that is dropping this.
        let farewell = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let drop_it = format!("SET SESSION lock_wait_timeout = 3; DROP DATABASE IF EXISTS {name}");
            let dropped = async { tokio::time::timeout(FAREWELL, run_on(&server, &drop_it)).await };
            match runtime.block_on(dropped) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("{name} stays behind: {error}"),
                Err(_) => eprintln!("{name} stays behind: the server did not answer within {FAREWELL:?}"),
            }
        });
        farewell.join().ok();
    }
}

fn within(server: &Url, database: &str) -> Url {
    let mut url = server.clone();
    url.set_path(database);
    url
}

async fn connect(server: &Url) -> sqlx::Result<MySqlConnection> {
    sqlx::mysql::MySqlConnectOptions::from_url(server)?.connect().await
}

async fn run_on(server: &Url, sql: &str) -> sqlx::Result<()> {
    let mut connection = connect(server).await?;
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))).await?;
    connection.close().await
}
