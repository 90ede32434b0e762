//! What is known, kept in SQLite, MariaDB or MySQL. SQL lives nowhere else.
//!
//! Promises: every statement is written once and runs on all three databases (the exceptions stand in
//! [`dialect`]); every time is the database's own; every operation has a limit; what a coordinator
//! writes is fenced by the lease row ([`lease`]), which it writes first.
//!
//! Does not promise: that an operation which failed with a timeout or a cut connection was not
//! committed. Every write here may be repeated without harm instead.

mod checkins;
mod decode;
pub mod dialect;
pub mod durability;
mod endpoints;
mod error;
mod evaluate;
mod handover;
mod held;
mod incidents;
pub mod lease;
mod listing;
mod objects;
mod outages;
mod outbox;
mod own;
mod payload;
mod pool;
mod probe;
mod purge;
mod replicas;
mod reservations;
mod runs;
mod schema;
mod session;
mod told;
mod views;

pub use checkins::{Accepted, CheckIn, Refused};
pub use error::{Result, StoreError};
pub use evaluate::{Batch, Change, Closing, Digested, DueRow, Loaded, Open, Opening, Outcome, Subject, Told};
pub use handover::ORPHAN_AFTER_MS;
pub use incidents::{Life, SystemKind, SystemReport, undecidable_subject};
pub use lease::Leading;
pub use listing::Tally;
pub use objects::{
    Alerts, Applied, Held, Identity, ObjectId, ObjectView, OwnedRow, Plan, RENEW_BELOW_MS, Reclaim, Stored,
    Wish, controller_scope,
};
pub use outages::{Found as MarkFound, Mark};
pub use outbox::{CLAIM_MS, Claimed, Finish, NewDelivery, OutboxState};
pub use purge::{Purged, Retention};
pub use replicas::{Claim, OwnBeat, ReplicaRow, Roll};
pub use reservations::{Found, Reserved, Snoozed};
pub use session::{Rule, Session};
pub use views::{
    CheckInView, Counts, DeliveryView, Filter, IncidentView, LeaseView, Page, ReservationView, RunView,
};

use crate::metrics::Metrics;
use dialect::Dialect;
use endpoints::Endpoints;
use session::transact;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

/// Connections that API calls and pages share.
const POOL_SIZE: usize = 8;

/// The database, whichever it is.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dialect", &self.inner.dialect).finish_non_exhaustive()
    }
}

pub(crate) struct Inner {
    endpoints: Endpoints,
    dialect: Dialect,
    pool: pool::Pool,
    write_turn: Option<Arc<tokio::sync::Mutex<()>>>,
    /// Added to the database's clock; only tests set it.
    shift_ms: AtomicI64,
    offset: outages::Offset,
    /// Whether the server has JSON_TABLE; [`Store::migrate`] asks it.
    json_table: AtomicBool,
    metrics: Arc<Metrics>,
    install_id: OnceLock<String>,
    /// SQLite: the database's file, as configured.
    file: Option<PathBuf>,
    /// SQLite: held for as long as the store lives, so that no second process opens the file.
    _file_lock: Option<std::fs::File>,
}

impl Inner {
    /// SQL text of the database's clock, as shifted by a test.
    fn now_expr(&self) -> String {
        let now = self.dialect.now();
        match self.shift_ms.load(Ordering::Relaxed) {
            0 => now.to_owned(),
            shift => format!("({now} + ({shift}))"),
        }
    }

    /// [`Dialect::json_update`], where the server understands it.
    fn json_update(&self, table: &str, columns: &[&str]) -> Option<String> {
        let has = self.json_table.load(Ordering::Relaxed);
        has.then(|| self.dialect.json_update(table, columns)).flatten()
    }

    /// [`Dialect::json_insert`], where the server understands it.
    fn json_insert(&self, table: &str, numbers: &[&str], word: &str) -> Option<String> {
        let has = self.json_table.load(Ordering::Relaxed);
        has.then(|| self.dialect.json_insert(table, numbers, word)).flatten()
    }
}

impl Store {
    /// Prepares the store at `url` (`sqlite:///path/gotel.db`, `mysql://user:password@host/database`).
    /// Connects to nothing yet, except that an SQLite file is locked for this process.
    ///
    /// # Errors
    /// [`StoreError::Schema`] for a URL of another kind; [`StoreError::Unavailable`] when another process
    /// holds the SQLite file or its folder cannot be written.
    pub fn open(url: &str, metrics: Arc<Metrics>) -> Result<Self> {
        Self::open_any(&[url], metrics)
    }

    /// The same at several servers of one replicated MySQL or MariaDB: whichever takes writes is used.
    ///
    /// # Errors
    /// As [`Store::open`]; and [`StoreError::Schema`] for an SQLite file among several, or none at all.
    pub fn open_any(urls: &[&str], metrics: Arc<Metrics>) -> Result<Self> {
        static DRIVERS: std::sync::Once = std::sync::Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let mut dialect = None;
        for url in urls {
            let Some(of_this) = Dialect::of_url(url) else {
                return Err(StoreError::Schema(
                    "database-url must begin with sqlite:// or mysql:// (for example sqlite:///var/lib/gotel/gotel.db)"
                        .into(),
                ));
            };
            if of_this == Dialect::Sqlite && urls.len() > 1 {
                return Err(StoreError::Schema(
                    "an SQLite file cannot be one of several endpoints: name one file, or servers of one MySQL".into(),
                ));
            }
            dialect = Some(of_this);
        }
        let Some(dialect) = dialect else {
            return Err(StoreError::Schema("no database is named".into()));
        };
        let mut urls: Vec<String> = urls.iter().map(|url| mysql(url)).collect();
        let (mut file, mut file_lock) = (None, None);
        if let (Dialect::Sqlite, [url]) = (dialect, &mut urls[..]) {
            let path = sqlite_path(url)?;
            file_lock = Some(lock_file(&path)?);
            file = Some(path);
            if !url.contains("mode=") {
                url.push_str(if url.contains('?') { "&mode=rwc" } else { "?mode=rwc" });
            }
        }
        let inner = Inner {
            endpoints: Endpoints::new(&urls)?,
            dialect,
            pool: pool::Pool::new(POOL_SIZE),
            write_turn: (dialect == Dialect::Sqlite).then(Arc::default),
            shift_ms: AtomicI64::new(0),
            offset: outages::Offset::default(),
            json_table: AtomicBool::new(dialect == Dialect::MySql),
            metrics,
            install_id: OnceLock::new(),
            file,
            _file_lock: file_lock,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Other users, passwords or parameters for the same servers, for the connections that are made from now on.
    /// Ok(false): nothing is new.
    ///
    /// # Errors
    /// A sentence that says what is wrong: they are other servers, or no URLs. Then nothing has changed.
    pub fn renew(&self, urls: &[&str]) -> std::result::Result<bool, String> {
        let urls: Vec<String> = urls.iter().map(|url| mysql(url)).collect();
        self.inner.endpoints.renew(&urls)
    }

    /// Which family of databases this is.
    pub fn dialect(&self) -> Dialect {
        self.inner.dialect
    }

    /// Moves this store's idea of the database's clock by `shift_ms` from the true one. For tests.
    pub fn shift_clock(&self, shift_ms: i64) {
        self.inner.shift_ms.store(shift_ms, Ordering::Relaxed);
    }

    /// Whether bulk writes travel as one JSON text. MySQL and MariaDB can; TiDB and servers of their age cannot.
    pub fn has_json_table(&self) -> bool {
        self.inner.json_table.load(Ordering::Relaxed)
    }

    /// Writes as to a server without JSON_TABLE. For tests.
    pub fn forget_json_table(&self) {
        self.inner.json_table.store(false, Ordering::Relaxed);
    }

    /// SQLite: whether the database's file or its write-ahead log was deleted while in use. Ask only after a
    /// successful write. What is written from then on is in files without a name, and reaches the database
    /// only if every connection is closed in order.
    pub fn file_was_deleted(&self) -> bool {
        let Some(file) = &self.inner.file else { return false };
        let Ok(mut log) = std::fs::canonicalize(file).map(PathBuf::into_os_string) else { return true };
        log.push("-wal");
        !Path::new(&log).exists()
    }

    /// The installation's identity, known once [`Store::migrate`] has run.
    pub fn install_id(&self) -> &str {
        self.inner.install_id.get().map_or("", String::as_str)
    }

    /// The database's clock.
    pub async fn now_ms(&self) -> Result<i64> {
        transact!(self.pooled().await?, Rule::reading("now"), |tx| { tx.now_ms().await })
    }
}

/// The driver knows one name for the two.
fn mysql(url: &str) -> String {
    url.replacen("mariadb:", "mysql:", 1)
}

/// The file behind an `sqlite:` URL.
fn sqlite_path(url: &str) -> Result<PathBuf> {
    let rest = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
    let path = rest.split('?').next().unwrap_or(rest);
    if path.is_empty() || path.contains(":memory:") || url.contains("mode=memory") {
        return Err(StoreError::Schema(
            "an SQLite database must be a file (sqlite:///var/lib/gotel/gotel.db): one in memory would forget \
             every reservation"
                .into(),
        ));
    }
    Ok(PathBuf::from(path))
}

/// Takes the exclusive lock beside the database file.
fn lock_file(database: &Path) -> Result<std::fs::File> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        StoreError::Unavailable(format!("cannot {what} {}: {e}", database.display()))
    };
    if let Some(folder) = database.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| failed("make the folder of", &e))?;
    }
    // By its true name: a symbolic link to a database in use is that database.
    let database = &std::fs::canonicalize(database).unwrap_or_else(|_| database.to_path_buf());
    let mut lock_path = database.as_os_str().to_owned();
    lock_path.push(".lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .map_err(|e| failed("lock", &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(format!(
            "another gotel is using {}: an SQLite database serves one process; stop the other one, or use MySQL \
             for several",
            database.display()
        ))),
        Err(std::fs::TryLockError::Error(e)) => Err(failed("lock", &e)),
    }
}
