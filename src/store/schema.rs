//! Migrations, and the refusal to work on a schema that this program does not know.
//!
//! The same connection asks the server once whether it has JSON_TABLE, on which the quickest bulk writes rest.
//!
//! Two replicas starting at once: a row gives the turn, also between the nodes of a cluster (Galera, Group
//! Replication), as of two that write it one only can commit. (Named locks end at the node; two that ran one migration
//! on two nodes would leave it half done for ever.) Who dies with the turn holds it for two minutes at most. An SQLite
//! file is locked by its one process. A replica that finds nothing to do runs no DDL, so its
//! database user needs no such right.
//!
//! A newer program migrates while this one runs (a rolling update): each migration leaves the program before it
//! working, so one step ahead is fine, and more is not ([`Store::steps_ahead`]). A start is refused either way.

use super::dialect::Dialect;
use super::error::{Result, StoreError};
use super::session::{Rule, sql, transact};
use super::{Inner, Store};
use crate::clock;
use sqlx::Row;
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

// sqlx takes a named lock otherwise, which does not lock on a cluster and is refused by Percona's.
static MYSQL: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("migrations/mysql");
    migrator.set_locking(false);
    migrator
});
static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");

/// Long enough for one replica to wait while another migrates.
const LIMIT: Duration = Duration::from_secs(120);

/// How long to wait for another replica's migration before the caller is told.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a migration run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// Migrations applied by this call.
    pub applied: usize,
    /// The schema's version now.
    pub version: i64,
}

impl Store {
    /// Brings the schema to the version this program knows, and reads the installation's identity.
    ///
    /// # Errors
    /// [`StoreError::Schema`] when the database is newer than this program, or a migration broke off.
    pub async fn migrate(&self) -> Result<Migrated> {
        let run = async {
            let migrator = migrator(self.inner.dialect);
            let newest = migrator.iter().map(|m| m.version).max().unwrap_or(0);
            let mut conn = self.inner.connect().await?.conn;
            let missing = pending(&self.inner, &mut conn, migrator).await?;
            if missing > 0 {
                let me = uuid::Uuid::new_v4().to_string();
                let shared = self.inner.dialect == Dialect::MySql;
                if shared && !take_turn(&self.inner, &mut conn, &me).await? {
                    return Err(StoreError::Contended("another replica is migrating the schema".into()));
                }
                let outcome = migrator.run(&mut conn).await.map_err(|e| explain(e, newest));
                let ended = if shared { end_turn(&mut conn, &me).await } else { Ok(()) };
                outcome.and(ended)?;
            }
            if self.inner.dialect == Dialect::MySql && !has_json_table(&mut conn).await? {
                self.inner.json_table.store(false, Ordering::Relaxed);
            }
            Ok::<_, StoreError>(Migrated { applied: missing, version: newest })
        };
        let migrated = match tokio::time::timeout(LIMIT, run).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(StoreError::Timeout(LIMIT, "migrate")),
        };
        self.read_identity().await?;
        Ok(migrated)
    }

    /// How many migrations newer than this program the database has had.
    pub async fn steps_ahead(&self) -> Result<i64> {
        let newest = migrator(self.inner.dialect).iter().map(|m| m.version).max().unwrap_or(0);
        transact!(self.pooled().await?, Rule::reading("steps_ahead"), |tx| {
            let text = "SELECT COUNT(*) FROM _sqlx_migrations WHERE version > ?";
            Ok(tx.one(sql(text).bind(newest)).await?.try_get(0)?)
        })
    }

    /// Reads the installation's identity, making it on the very first start.
    async fn read_identity(&self) -> Result<()> {
        let ours = uuid::Uuid::new_v4().to_string();
        let id = transact!(self.pooled().await?, Rule::named("identity"), |tx| {
            let (dialect, now) = (tx.inner().dialect, tx.inner().now_expr());
            let known = dialect.or_nothing("id");
            let insert = format!("INSERT INTO meta (id, install_id, alive_ms) VALUES (1, ?, {now}){known}");
            tx.run(sql(insert).bind(ours.clone())).await?;
            let known = dialect.or_nothing("scope");
            let lease = format!(
                "INSERT INTO lease (scope, term, beat, holder, token, lease_ms, renewed_ms, acquired_ms, eval_ms) \
                 VALUES ('coordinator', 0, 0, '', '', 0, 0, 0, 0){known}"
            );
            tx.run(sql(lease)).await?;
            match tx.maybe(sql("SELECT install_id FROM meta WHERE id = 1")).await? {
                Some(row) => Ok(row.try_get::<String, _>(0)?),
                // Galera, when another node inserts it in the same moment: our transaction is undone without a word.
                None => Err(StoreError::Contended("another replica writes the identity".into())),
            }
        })?;
        // A second call finds the same identity.
        let _ = self.inner.install_id.set(id);
        Ok(())
    }
}

/// Waits for the turn to migrate; false: another replica has it, and keeps it.
async fn take_turn(inner: &Inner, conn: &mut sqlx::AnyConnection, me: &str) -> Result<bool> {
    // DDL waits for whoever is at work on the old tables, and for other databases' DDL: a migration that gives up
    // is left half done.
    sqlx::query("SET SESSION lock_wait_timeout = 60, innodb_lock_wait_timeout = 60")
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS migration_turn (id SMALLINT NOT NULL PRIMARY KEY, holder VARCHAR(36) NOT NULL, \
         until_ms BIGINT NOT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
    )
    .execute(&mut *conn)
    .await
    .map_err(|e| explain(MigrateError::Execute(e), 0))?;
    let began_us = clock::boot_us();
    while !try_turn(inner, conn, me).await? {
        if clock::since_us(began_us) >= PATIENCE {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(true)
}

async fn try_turn(inner: &Inner, conn: &mut sqlx::AnyConnection, me: &str) -> Result<bool> {
    let (now, known) = (inner.now_expr(), inner.dialect.or_nothing("id"));
    let row = format!("INSERT INTO migration_turn (id, holder, until_ms) VALUES (1, '', 0){known}");
    let take = format!(
        "UPDATE migration_turn SET holder = ?, until_ms = {now} + ? WHERE id = 1 AND until_ms < {now}"
    );
    let turn_ms = i64::try_from(LIMIT.as_millis()).unwrap_or(i64::MAX);
    let mut tried = sql(row).execute(&mut *conn).await;
    if tried.is_ok() {
        tried = sql(take).bind(me.to_owned()).bind(turn_ms).execute(&mut *conn).await;
    }
    match tried.map_err(StoreError::from) {
        Ok(done) => Ok(done.rows_affected() == 1),
        // Of two nodes' writes one was refused: look again.
        Err(StoreError::Contended(_)) => Ok(false),
        Err(e) => Err(e),
    }
}

async fn end_turn(conn: &mut sqlx::AnyConnection, me: &str) -> Result<()> {
    let text = "UPDATE migration_turn SET until_ms = 0 WHERE holder = ?";
    sql(text).bind(me.to_owned()).execute(conn).await?;
    Ok(())
}

/// Whether the server has JSON_TABLE (MySQL 8, MariaDB 10.6; TiDB does not).
async fn has_json_table(conn: &mut sqlx::AnyConnection) -> Result<bool> {
    let probe = "SELECT COUNT(*) FROM JSON_TABLE('[[1]]', '$[*]' COLUMNS (k BIGINT PATH '$[0]')) v";
    understood(sqlx::query(probe).fetch_one(conn).await.map(drop).map_err(StoreError::from))
}

/// Whether a server knows a statement. One that does not says so with an error of no other meaning.
fn understood(outcome: Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(StoreError::Other(_)) => Ok(false),
        Err(e) => Err(e),
    }
}

fn migrator(dialect: Dialect) -> &'static Migrator {
    match dialect {
        Dialect::Sqlite => &SQLITE,
        Dialect::MySql => &MYSQL,
    }
}

/// How many known migrations are not applied yet; refuses a schema that is newer than this program, or
/// of another build. One that broke off counts as not applied: it may be another replica's, at work just
/// now, and only the migrator knows, once it has the lock.
async fn pending(inner: &Inner, conn: &mut sqlx::AnyConnection, migrator: &Migrator) -> Result<usize> {
    let known: HashMap<i64, &[u8]> = migrator.iter().map(|m| (m.version, &*m.checksum)).collect();
    let exists = match inner.dialect {
        Dialect::Sqlite => {
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'"
        }
        Dialect::MySql => {
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'"
        }
    };
    let exists: i64 = sqlx::query(exists).fetch_one(&mut *conn).await?.try_get(0)?;
    if exists == 0 {
        return Ok(known.len());
    }
    let applied = conn.list_applied_migrations("_sqlx_migrations").await.map_err(|e| explain(e, 0))?;
    let newest = known.keys().max().copied().unwrap_or(0);
    if let Some(newer) = applied.iter().map(|m| m.version).filter(|v| !known.contains_key(v)).max() {
        return Err(StoreError::Schema(format!(
            "the database's schema is version {newer}, newer than this program knows ({newest}): nothing was written; \
             start the newer gotel, or restore the database that belongs to this one"
        )));
    }
    if let Some(other) = applied.iter().find(|m| known.get(&m.version) != Some(&&*m.checksum)) {
        return Err(explain(MigrateError::VersionMismatch(other.version), newest));
    }
    let dirty = conn.dirty_version("_sqlx_migrations").await.map_err(|e| explain(e, newest))?;
    Ok(known.len() - applied.len() + usize::from(dirty.is_some()))
}

fn explain(error: MigrateError, newest: i64) -> StoreError {
    match error {
        MigrateError::Dirty(version) => StoreError::Schema(format!(
            "migration {version} broke off half-way in an earlier start: restore the database from its backup, or \
             empty it, and run `gotel migrate` again"
        )),
        MigrateError::VersionMissing(version) => StoreError::Schema(format!(
            "the database's schema is version {version}, newer than this program knows ({newest}): nothing was written; \
             start the newer gotel"
        )),
        MigrateError::VersionMismatch(version) => StoreError::Schema(format!(
            "migration {version} in the database is not the one this program carries: the schema was made by another \
             build; nothing was written"
        )),
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => match StoreError::from(e) {
            StoreError::Other(text) => StoreError::Schema(format!(
                "the migration failed: {text}; does the database user have the rights to create tables?"
            )),
            other => other,
        },
        other => StoreError::Schema(format!("the migration failed: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_refuses_the_statement_lacks_it_and_one_that_is_away_has_said_nothing() {
        assert!(understood(Ok(())).unwrap());
        let syntax = "You have an error in your SQL syntax (1064)";
        assert!(!understood(Err(StoreError::Other(syntax.into()))).unwrap());
        assert!(understood(Err(StoreError::Unavailable("gone".into()))).is_err());
        assert!(understood(Err(StoreError::Contended("1213".into()))).is_err());
    }
}
