//! Small looks at the database, for those who only want to know how it is.

use super::Store;
use super::dialect::Dialect;
use super::error::{Result, StoreError};
use super::held;
use super::session::{Rule, Session, sql, transact};
use sqlx::Row;

impl Session {
    /// Whether the database may take writes, whatever its schema: it begins and commits a transaction, and says
    /// that it is not read-only. It is not written to: what a full disk does shows at the first real write.
    pub async fn probe(&mut self) -> Result<()> {
        transact!(&mut *self, Rule::named("probe").tries(1), |tx| {
            if tx.inner().dialect == Dialect::MySql {
                let row = tx.one(sql("SELECT CAST(@@read_only AS SIGNED)")).await?;
                if row.try_get::<i64, _>(0)? != 0 {
                    return Err(StoreError::Unavailable("the server is read-only".into()));
                }
            }
            Ok(())
        })
    }

    /// Whether the table of check-ins has room: a disk that is full goes on taking what changes rows in their place,
    /// and nothing that is new. Writes one large row and takes it back; nothing of it is committed.
    pub async fn room(&mut self) -> Result<()> {
        transact!(&mut *self, Rule::named("room").tries(1), |tx| {
            tx.run_plain("SAVEPOINT room").await?;
            let row = "INSERT INTO checkin (reservation_id, at_ms, kind, note) VALUES (0, 0, 'room', ?)";
            tx.run(sql(row).bind(vec![0_u8; ROOM])).await?;
            tx.run_plain("ROLLBACK TO SAVEPOINT room").await?;
            Ok(())
        })
    }
}

/// Bytes that do not fit into pages that are in use: four pages of InnoDB's usual size.
const ROOM: usize = 60_000;

impl Store {
    /// Age of the oldest notice that is due and not delivered, in milliseconds; 0: none waits, or none that is a
    /// minute old. What a snooze holds back does not wait.
    pub async fn oldest_undelivered_ms(&self) -> Result<i64> {
        transact!(self.pooled().await?, Rule::reading("oldest_undelivered"), |tx| {
            let now = tx.now_ms().await?;
            // In a storm very many are young, and need not be looked at.
            let oldest = format!(
                "SELECT MIN({}) FROM delivery d WHERE d.state IN ('pending', 'inflight') AND d.created_ms <= ?",
                held::waits_since(&tx.inner().now_expr())
            );
            let since: Option<i64> = tx.one(sql(oldest).bind(now - 60_000)).await?.try_get(0)?;
            Ok(since.map_or(0, |since| (now - since).max(0)))
        })
    }
}
