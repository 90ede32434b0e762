//! Small looks at the database, for those who only want to know how it is.

use super::Store;
use super::dialect::Dialect;
use super::error::{Result, StoreError};
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
}

impl Store {
    /// Age of the oldest notice that is due and not delivered, in milliseconds; 0: none waits.
    pub async fn oldest_undelivered_ms(&self) -> Result<i64> {
        transact!(self.pooled().await?, Rule::reading("oldest_undelivered"), |tx| {
            let now = tx.now_ms().await?;
            // As in the totals: one held back on purpose is not old before its time.
            let oldest = "SELECT MIN(CASE WHEN attempts > 0 THEN created_ms ELSE next_ms END) FROM delivery \
                          WHERE state IN ('pending', 'inflight')";
            let since: Option<i64> = tx.one(sql(oldest)).await?.try_get(0)?;
            Ok(since.map_or(0, |since| (now - since).max(0)))
        })
    }
}
