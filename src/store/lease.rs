//! Leadership as a row, and the proof that one holds it.
//!
//! Promises: a [`Leading`] exists only for a (term, token) that this process put into the row itself; a
//! transaction that begins with `fence` commits nothing once anybody else has taken over, whatever the
//! clocks do, because it writes the same row under `WHERE term = ? AND token = ?`.
//!
//! Does not promise: that the holder is alive or does its work (the coordinator gates its renewals on
//! work done).
//!
//! Races: two candidates: the take-over is a compare-and-set on (term, beat), one wins. A lost reply to
//! a take-over: the token in the row is ours; a renewal proves it. A deposed holder in the middle of a
//! transaction: either its fencing write came first (then its effects precede the take-over), or it
//! matches no row and everything rolls back.

use super::error::{Result, StoreError};
use super::session::{Rule, Session, Tx, sql, transact};
use crate::clock;
use sqlx::Row;
use std::time::Duration;

/// Scope of the one coordinator.
pub const COORDINATOR: &str = "coordinator";

/// The longest a lease operation may take (T): connect included.
pub const OP_LIMIT: Duration = Duration::from_secs(2);

/// The row as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Raised by one with each take-over.
    pub term: i64,
    /// Raised with every write of the row.
    pub beat: i64,
    /// Replica that holds it; empty when released.
    pub holder: String,
    /// Random per acquisition.
    pub token: String,
    /// How long the holder asked candidates to wait.
    pub lease_ms: i64,
    /// Age of the last renewal by the database's clock.
    pub age_ms: i64,
    /// Database time of the last complete evaluation.
    pub eval_ms: i64,
}

/// Proof that this process led when it last asked, and until when it may believe so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leading {
    scope: &'static str,
    term: i64,
    token: String,
    /// Boot time at which the last successful renewal was *sent*.
    sent_boot_ms: i64,
}

impl Leading {
    /// The term.
    pub fn term(&self) -> i64 {
        self.term
    }

    /// The random token of this acquisition.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether `valid_ms` have not passed since the last renewal was sent.
    pub fn is_valid(&self, boot_ms: i64, valid_ms: i64) -> bool {
        boot_ms - self.sent_boot_ms < valid_ms
    }
}

impl Session {
    /// S1: reads the row.
    pub async fn observe(&mut self, scope: &'static str) -> Result<Observed> {
        transact!(&mut *self, Rule::named("lease_observe").within(OP_LIMIT).tries(1), |tx| {
            let now = tx.inner().now_expr();
            let row = tx
                .one(
                    sql(format!(
                        "SELECT term, beat, holder, token, lease_ms, {now} - renewed_ms AS age_ms, eval_ms \
                         FROM lease WHERE scope = ?"
                    ))
                    .bind(scope),
                )
                .await?;
            Ok(Observed {
                term: row.try_get(0)?,
                beat: row.try_get(1)?,
                holder: row.try_get(2)?,
                token: row.try_get(3)?,
                lease_ms: row.try_get(4)?,
                age_ms: row.try_get(5)?,
                eval_ms: row.try_get(6)?,
            })
        })
    }

    /// S3: takes the lease over from exactly the state that was observed. None: somebody was faster.
    pub async fn take(
        &mut self,
        scope: &'static str,
        seen: &Observed,
        holder: &str,
        lease_ms: i64,
    ) -> Result<Option<Leading>> {
        self.take_as(scope, seen, holder, lease_ms, uuid::Uuid::new_v4().to_string()).await
    }

    /// [`Session::take`] with a token of the caller's, who so recognises the row as its own should the reply
    /// be lost. The token must never have been used before.
    pub async fn take_as(
        &mut self,
        scope: &'static str,
        seen: &Observed,
        holder: &str,
        lease_ms: i64,
        token: String,
    ) -> Result<Option<Leading>> {
        let sent_boot_ms = clock::boot_ms();
        let taken = transact!(&mut *self, Rule::named("lease_take").within(OP_LIMIT).tries(1), |tx| {
            let now = tx.inner().now_expr();
            let done = tx
                    .run(
                        sql(format!(
                            "UPDATE lease SET term = term + 1, beat = beat + 1, holder = ?, token = ?, lease_ms = ?, \
                             renewed_ms = {now}, acquired_ms = {now} WHERE scope = ? AND term = ? AND beat = ?"
                        ))
                        .bind(holder.to_owned())
                        .bind(token.clone())
                        .bind(lease_ms)
                        .bind(scope)
                        .bind(seen.term)
                        .bind(seen.beat),
                    )
                    .await?;
            Ok(done.rows_affected() == 1)
        })?;
        Ok(taken.then(|| Leading { scope, term: seen.term + 1, token, sent_boot_ms }))
    }

    /// S2: renews. [`StoreError::Fenced`] when the row is no longer ours.
    pub async fn renew(&mut self, leading: &Leading) -> Result<Leading> {
        let sent_boot_ms = clock::boot_ms();
        transact!(&mut *self, Rule::named("lease_renew").within(OP_LIMIT).tries(1), |tx| {
            fence(tx, leading).await
        })?;
        Ok(Leading { sent_boot_ms, ..leading.clone() })
    }

    /// S4: gives the lease back, so that another replica need not wait.
    pub async fn release(&mut self, leading: &Leading) -> Result<()> {
        transact!(&mut *self, Rule::named("lease_release").within(OP_LIMIT).tries(1), |tx| {
            tx.run(
                sql("UPDATE lease SET holder = '', beat = beat + 1 WHERE scope = ? AND term = ? AND token = ?")
                    .bind(leading.scope)
                    .bind(leading.term)
                    .bind(leading.token.clone()),
            )
            .await?;
            Ok(())
        })
    }

    /// Marks a complete evaluation.
    pub async fn evaluated(&mut self, leading: &Leading) -> Result<()> {
        transact!(&mut *self, Rule::named("lease_evaluated").within(OP_LIMIT).tries(2), |tx| {
            fence(tx, leading).await?;
            let now = tx.inner().now_expr();
            tx.run(sql(format!("UPDATE lease SET eval_ms = {now} WHERE scope = ?")).bind(leading.scope))
                .await?;
            Ok(())
        })
    }
}

/// S2 as the first statement of every coordinator transaction.
pub(super) async fn fence(tx: &mut Tx, leading: &Leading) -> Result<()> {
    let now = tx.inner().now_expr();
    let done = tx
        .run(
            sql(format!(
                "UPDATE lease SET beat = beat + 1, renewed_ms = {now} WHERE scope = ? AND term = ? AND token = ?"
            ))
            .bind(leading.scope)
            .bind(leading.term)
            .bind(leading.token.clone()),
        )
        .await?;
    if done.rows_affected() == 1 {
        return Ok(());
    }
    tx.inner().metrics.fenced_out();
    Err(StoreError::Fenced)
}
