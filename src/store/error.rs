//! What can go wrong in the store, told apart by what the caller can do about it.

use sqlx::mysql::MySqlDatabaseError;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be reached, is shutting down, or has no room: try again later.
    #[error("the database is not reachable: {0}")]
    Unavailable(String),
    /// This server takes no writes: read-only, demoted, or cut off from its cluster. Nothing was written; another
    /// server may take it.
    #[error("the database server takes no writes: {0}")]
    ReadOnly(String),
    /// An operation took longer than its limit. Whether it was committed is unknown.
    #[error("the database did not answer within {0:?} ({1})")]
    Timeout(std::time::Duration, &'static str),
    /// Other transactions were in the way (deadlock, lock wait, certification) on every try.
    #[error("the database is busy: {0}")]
    Contended(String),
    /// The lease belongs to somebody else by now: nothing was written.
    #[error("this replica no longer leads: nothing was written")]
    Fenced,
    /// GoTel itself was silent for too long: the outage must be recorded before anything is judged.
    #[error("no check-in could be accepted since {alive_ms}: the outage is not recorded yet")]
    Gap {
        /// When the database was last known to be reached.
        alive_ms: i64,
    },
    /// The data does not fit (too long, out of range): the item is at fault, not the database.
    #[error("the data does not fit: {0}")]
    Data(String),
    /// Somebody else inserted the same key first.
    #[error("already there: {0}")]
    Duplicate(String),
    /// Another process has the SQLite file.
    #[error("{0}")]
    InUse(String),
    /// The schema is not the one this program knows.
    #[error("{0}")]
    Schema(String),
    /// Anything else: a bug, or a database that answers nonsense.
    #[error("the database failed: {0}")]
    Other(String),
}

/// Result of a store operation.
pub type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    /// Whether the whole transaction may simply be run again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Contended(_) | Self::Duplicate(_))
    }

    /// Whether the item, not the database, is at fault.
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Data(_))
    }

    /// Short word for metrics and logs.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::ReadOnly(_) => "read_only",
            Self::Timeout(..) => "timeout",
            Self::Contended(_) => "contended",
            Self::Fenced => "fenced",
            Self::Gap { .. } => "gap",
            Self::Data(_) => "data",
            Self::Duplicate(_) => "duplicate",
            Self::InUse(_) => "in_use",
            Self::Schema(_) => "schema",
            Self::Other(_) => "other",
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        match &error {
            sqlx::Error::Database(db) => {
                if db.is_unique_violation() {
                    return Self::Duplicate(text);
                }
                match db.try_downcast_ref::<MySqlDatabaseError>() {
                    Some(mysql) => from_mysql(mysql.number(), text),
                    None => from_sqlite(db.code().as_deref().unwrap_or(""), text),
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed => Self::Unavailable(text),
            sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) => Self::Unavailable(text),
            _ => Self::Other(text),
        }
    }
}

/// MySQL and MariaDB error numbers, by what can be done about them.
fn from_mysql(number: u16, text: String) -> StoreError {
    match number {
        // Lock wait, deadlock, Group Replication conflict, error during commit, TiDB write conflicts.
        1205 | 1213 | 3101 | 1180 | 8022 | 9007 => StoreError::Contended(text),
        // A table or InnoDB opened for reading only, Galera without a quorum, --read-only, a read-only
        // transaction by default, read-only mode.
        1036 | 1047 | 1290 | 1792 | 1836 | 1874 => StoreError::ReadOnly(text),
        // Too many connections, shutdown, access, disk full, and connections that the server ended (killed, or silent for too long: MySQL says so before it closes).
        1040
        | 1041
        | 1044
        | 1045
        | 1046
        | 1049
        | 1053
        | 1129
        | 1130
        | 1158..=1161
        | 1203
        | 1226
        | 2006
        | 2013
        | 1184
        | 1927
        | 3024
        | 3169
        | 4031
        | 1317
        | 1021
        | 1114
        | 3
        | 28 => StoreError::Unavailable(text),
        // Out of range, truncated, too long, wrong value, wrong string, NULL, a CHECK, a trigger's SIGNAL.
        1048 | 1264 | 1265 | 1292 | 1300 | 1364 | 1366 | 1406 | 1644 | 1690 | 3140 | 3819 | 4025 => {
            StoreError::Data(text)
        }
        _ => StoreError::Other(text),
    }
}

/// SQLite result codes; the primary code is the low byte of the extended one.
fn from_sqlite(code: &str, text: String) -> StoreError {
    match code.parse::<i32>().unwrap_or(0) & 0xff {
        5 | 6 => StoreError::Contended(text),
        // read-only, I/O, full, cannot open, not a database / damaged.
        8 | 10 | 13 | 14 | 11 | 26 => StoreError::Unavailable(text),
        // Too big, a constraint (unique ones were told apart above), wrong type, out of range.
        18 | 19 | 20 | 25 => StoreError::Data(text),
        _ => StoreError::Other(text),
    }
}
