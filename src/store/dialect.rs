//! The few places where SQLite and MySQL (or MariaDB) need different words. Every other statement is
//! written once, in the form that all three accept.

use std::fmt::Write as _;

/// Which family of databases we talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Embedded SQLite.
    Sqlite,
    /// MySQL 8+, MariaDB 10.6+, and what speaks their protocol.
    MySql,
}

impl Dialect {
    /// Reads it off a database URL's scheme.
    pub fn of_url(url: &str) -> Option<Self> {
        let scheme = url.split(':').next()?;
        match scheme {
            "sqlite" => Some(Self::Sqlite),
            "mysql" | "mariadb" => Some(Self::MySql),
            _ => None,
        }
    }

    /// The database's clock in epoch milliseconds, independent of session zone and of 2038.
    pub fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Self::MySql => "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000)",
        }
    }

    /// Opens a transaction that intends to write. SQLite must take its write lock now: upgrading a read
    /// transaction later fails at once, whatever the busy timeout.
    pub fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::MySql => "START TRANSACTION",
        }
    }

    /// Locks the selected rows until the end of the transaction. SQLite has one writer: nothing to lock.
    pub fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::MySql => " FOR UPDATE",
        }
    }

    /// Reads `reservation` by way of its key, and so locks its rows in the order of the key. On a small
    /// table MySQL would rather scan, in another order, and so meet other transactions in a deadlock. SQLite
    /// takes `checked_out_ms IS NULL` for more telling than a long list of keys, and would read every row there is.
    pub fn by_key(self) -> &'static str {
        match self {
            Self::Sqlite => " INDEXED BY reservation_rkey",
            Self::MySql => " FORCE INDEX (reservation_rkey)",
        }
    }

    /// Reads a table by way of this index, whatever MySQL thinks of the rows it knows so far. SQLite takes the
    /// index that fits best.
    pub fn by_index(self, index: &str) -> String {
        match self {
            Self::Sqlite => String::new(),
            Self::MySql => format!(" FORCE INDEX ({index})"),
        }
    }

    /// Statements that a new connection runs first.
    pub fn session_setup(self) -> Vec<String> {
        match self {
            Self::Sqlite => vec![
                "PRAGMA busy_timeout = 2000".into(),
                "PRAGMA journal_mode = WAL".into(),
                // NORMAL may roll back an acknowledged commit when the power fails.
                "PRAGMA synchronous = FULL".into(),
                "PRAGMA temp_store = MEMORY".into(),
            ],
            Self::MySql => {
                // A process that is paused inside a transaction must not hold its row locks for hours: the
                // server ends a silent connection before a candidate's patience runs out. The second limit
                // is for LOCK TABLES and DDL; without it the server keeps what we gave up waiting for, and
                // they pile up. Strict, so that nothing is cut to fit a column without a word.
                vec![
                    // One trip. The isolation level's variable has another name in each family; what MySQL or
                    // MariaDB alone is to read stands in a comment of its kind.
                    "SET SESSION /*M!100000 tx_isolation *//*!80000 transaction_isolation */ = 'READ-COMMITTED', \
                     innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, wait_timeout = 10, \
                     sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"
                        .into(),
                ]
            }
        }
    }

    /// This text as a literal, for a statement that is not prepared.
    pub fn word(self, text: &str) -> String {
        let hex = hex::encode(text);
        match self {
            Self::Sqlite => format!("CAST(X'{hex}' AS TEXT)"),
            // A literal, and not an expression: its collation yields to the column's, and an index serves.
            Self::MySql => format!("_utf8mb4 X'{hex}'"),
        }
    }

    /// An expression that is not 0 on a server that takes no writes, even where this user could write all the
    /// same. None: there is no such server. (`super_read_only` implies `read_only`; a user with the right to
    /// ignore both would write into a server that was demoted, and lose it.)
    pub fn read_only(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            // By word: some versions know more than two values.
            Self::MySql => Some(
                "CASE WHEN CAST(@@global.read_only AS CHAR) IN ('0', 'OFF') \
                 AND CAST(@@global.innodb_read_only AS CHAR) IN ('0', 'OFF') THEN 0 ELSE 1 END",
            ),
        }
    }

    /// The tail of an INSERT that updates `columns` when the unique key `key` is already there.
    pub fn upsert(self, key: &str, columns: &[&str]) -> String {
        let mut tail = match self {
            Self::Sqlite => format!(" ON CONFLICT ({key}) DO UPDATE SET "),
            Self::MySql => " ON DUPLICATE KEY UPDATE ".into(),
        };
        for (i, column) in columns.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = match self {
                Self::Sqlite => write!(tail, "{comma}{column} = excluded.{column}"),
                // MariaDB knows no row alias; MySQL keeps VALUES() working: the one common form.
                Self::MySql => write!(tail, "{comma}{column} = VALUES({column})"),
            };
        }
        tail
    }

    /// The tail of an INSERT that leaves a row alone whose unique key `key` is already there. (Not `INSERT
    /// IGNORE`, which in MySQL also cuts what is too long and stores it.)
    pub fn or_nothing(self, key: &str) -> String {
        match self {
            Self::Sqlite => format!(" ON CONFLICT ({key}) DO NOTHING"),
            Self::MySql => format!(" ON DUPLICATE KEY UPDATE {key} = VALUES({key})"),
        }
    }

    /// One UPDATE of many rows by id, of integer columns without NULL, that binds them as one text:
    /// `[[id, value, …], …]`. Its own text is always the same, so it is prepared once, and the server
    /// reads it in two thirds of the time that [`Dialect::bulk_update`] takes. None: this database is
    /// quicker with that one.
    pub fn json_update(self, table: &str, columns: &[&str]) -> Option<String> {
        match self {
            Self::Sqlite => None,
            Self::MySql => {
                let mut cells = String::new();
                for (i, column) in columns.iter().enumerate() {
                    // Writing to a String cannot fail.
                    let _ = write!(cells, ", {column} BIGINT PATH '$[{}]'", i + 1);
                }
                let set: Vec<_> = columns.iter().map(|c| format!("t.{c} = v.{c}")).collect();
                Some(format!(
                    "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (k BIGINT PATH '$[0]'{cells})) v \
                     STRAIGHT_JOIN {table} t ON t.id = v.k SET {}",
                    set.join(", ")
                ))
            }
        }
    }

    /// One INSERT of many rows, bound as one text, `[[number, …, "word"], …]`; see [`Dialect::json_update`].
    pub fn json_insert(self, table: &str, numbers: &[&str], word: &str) -> Option<String> {
        match self {
            Self::Sqlite => None,
            Self::MySql => {
                let mut cells = String::new();
                for (i, column) in numbers.iter().enumerate() {
                    // Writing to a String cannot fail.
                    let _ = write!(cells, "{column} BIGINT PATH '$[{i}]', ");
                }
                let names = format!("{}, {word}", numbers.join(", "));
                Some(format!(
                    "INSERT INTO {table} ({names}) SELECT {names} FROM JSON_TABLE(?, '$[*]' COLUMNS ({cells}{word} \
                     VARCHAR(16) PATH '$[{}]')) v",
                    numbers.len()
                ))
            }
        }
    }

    /// One UPDATE of `rows` rows by id. Binds, row after row: the id, then a value for each of `columns`.
    pub fn bulk_update(self, table: &str, columns: &[Column], rows: usize) -> String {
        let names: String = columns.iter().map(|c| format!(", {}", c.name)).collect();
        match self {
            Self::Sqlite => {
                let row = format!("({})", vec!["?"; columns.len() + 1].join(", "));
                let set: Vec<_> = columns.iter().map(|c| format!("{0} = v.{0}", c.name)).collect();
                format!(
                    "WITH v (k{names}) AS (VALUES {}) UPDATE {table} SET {} FROM v WHERE {table}.id = v.k",
                    vec![row; rows].join(", "),
                    set.join(", ")
                )
            }
            Self::MySql => {
                let cells = |named: bool| {
                    let mut cells =
                        String::from(if named { "CAST(? AS SIGNED) AS k" } else { "CAST(? AS SIGNED)" });
                    for column in columns {
                        let cell = if column.number { "CAST(? AS SIGNED)" } else { "?" };
                        cells.push_str(", ");
                        cells.push_str(cell);
                        if named {
                            cells.push_str(" AS ");
                            cells.push_str(column.name);
                        }
                    }
                    cells
                };
                let mut values = format!("SELECT {}", cells(true));
                for _ in 1..rows {
                    values.push_str(" UNION ALL SELECT ");
                    values.push_str(&cells(false));
                }
                let set: Vec<_> = columns.iter().map(|c| format!("t.{0} = v.{0}", c.name)).collect();
                // STRAIGHT_JOIN: walk the few given rows and look each up, never the other way round.
                format!("UPDATE ({values}) v STRAIGHT_JOIN {table} t ON t.id = v.k SET {}", set.join(", "))
            }
        }
    }
}

/// A column of [`Dialect::bulk_update`].
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Whether it is an integer.
    pub number: bool,
}

/// An integer column.
pub const fn number(name: &'static str) -> Column {
    Column { name, number: true }
}

/// A text column.
pub const fn text(name: &'static str) -> Column {
    Column { name, number: false }
}

/// Rows of one statement at most. A statement of more than 16 kB leaves in two TLS records, and the driver
/// sends each by itself with Nagle's algorithm on: the second one waits 40 ms for the server's delayed
/// acknowledgement of the first. 128 keys of 64 characters are 9 kB.
pub const CHUNK: usize = 128;

/// Splits `n` rows into runs of powers of two, at most [`CHUNK`], so that a driver that caches prepared
/// statements by text sees at most eight of them per kind, whatever the batch sizes.
pub fn chunks(n: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    chunks_of(CHUNK, n)
}

/// The same with at most `most`, a power of two, rows: for rows wider than keys and numbers.
pub fn chunks_of(most: usize, n: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let left = n - start;
        if left == 0 {
            return None;
        }
        let size = 1usize << left.min(most).ilog2();
        let range = start..start + size;
        start += size;
        Some(range)
    })
}

/// Splits rows of very different sizes into runs that one TLS record holds (see [`CHUNK`]); a row that is
/// larger is a run by itself.
pub fn by_bytes<T>(rows: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    const RECORD: usize = 14_000;
    let mut left = rows;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = left.iter().take_while(|row| {
            sum += bytes(row);
            sum <= RECORD
        });
        let count = fits.count().max(1).min(left.len());
        let (run, rest) = left.split_at(count);
        left = rest;
        (!run.is_empty()).then_some(run)
    })
}

/// `?, ?, ?`.
pub fn marks(n: usize) -> String {
    vec!["?"; n].join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_every_row_once_in_powers_of_two() {
        for n in 0..1500 {
            let ranges: Vec<_> = chunks(n).collect();
            let mut next = 0;
            for range in &ranges {
                assert_eq!(range.start, next);
                assert!(range.len().is_power_of_two() && range.len() <= CHUNK);
                next = range.end;
            }
            assert_eq!(next, n);
        }
    }

    #[test]
    fn runs_by_size_cover_every_row_once() {
        let rows = [9_000, 5_000, 1, 20_000, 14_000, 1, 1];
        let runs: Vec<&[usize]> = by_bytes(&rows, |r| *r).collect();
        assert_eq!(runs, [&rows[..2], &rows[2..3], &rows[3..4], &rows[4..5], &rows[5..]]);
        assert_eq!(by_bytes(&[0usize; 0], |r| *r).count(), 0);
    }

    #[test]
    fn a_url_names_its_dialect() {
        assert_eq!(Dialect::of_url("sqlite:///x"), Some(Dialect::Sqlite));
        assert_eq!(Dialect::of_url("mysql://u:p@h/d"), Some(Dialect::MySql));
        assert_eq!(Dialect::of_url("mariadb://u:p@h/d"), Some(Dialect::MySql));
        assert_eq!(Dialect::of_url("postgres://h/d"), None);
    }
}
