//! Leadership as a row, and the proof that one holds it.
//!
//! Promises: a [`Leading`] exists only for a (term, token) that this process put into the row itself: its
//! token was drawn in a [`Claim`], which nothing else makes, and a statement that names both has matched the
//! row. A transaction that begins with `check_belief` is not begun once the holder's belief has run out by its boot
//! clock; one that ends with `fence` commits nothing once anybody else has taken over, whatever the clocks do,
//! because it writes the same row under its own term and token.
//!
//! Does not promise: that the holder is alive or does its work (the coordinator gates its renewals on
//! work done).
//!
//! Races: two candidates: the take-over is a compare-and-set on (term, beat), one wins. A lost reply to
//! a take-over: the token in the row is ours; [`Session::prove`] writes under it. A deposed holder in the
//! middle of a transaction: either its fencing write comes first (then its effects precede the take-over), or
//! it matches no row and everything rolls back. A holder paused in the middle of one: the server ends its
//! silent session after 10 seconds (`dialect`), and with it the locks of the rows, and of this one if it came so
//! far. Two transactions of one coordinator: both lock this row last.

use super::error::{Result, StoreError};
use super::session::{Rule, Session, Tx, transact};
use crate::clock;
use sqlx::Row;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// Scope of the one coordinator.
pub const COORDINATOR: &str = "coordinator";

/// How long a lease is good for, and how long its operations may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest one operation may take (T). Where a connection must be made first, that may take as long again.
    pub op: Duration,
    /// How long a renewal is good for (V), from when it was sent.
    pub valid_ms: i64,
    /// How long candidates are asked to wait for a sign of life (L).
    pub lease_ms: i64,
}

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

/// A take-over from exactly one observed state, by a token that was never used before. It may be tried
/// again: however often it is sent, it is one acquisition.
#[derive(Debug)]
pub struct Claim {
    scope: &'static str,
    term: i64,
    from_beat: i64,
    token: Uuid,
}

impl Claim {
    /// Draws the token.
    pub fn new(scope: &'static str, seen: &Observed) -> Self {
        Self { scope, term: seen.term + 1, from_beat: seen.beat, token: Uuid::new_v4() }
    }

    /// The token.
    pub fn token(&self) -> Uuid {
        self.token
    }

    fn hold(&self, limits: Limits, sent_boot_ms: i64) -> Leading {
        Leading {
            scope: self.scope,
            term: self.term,
            token: self.token.to_string(),
            limits,
            until_boot_ms: Arc::new(AtomicI64::new(sent_boot_ms + limits.valid_ms)),
        }
    }
}

/// Proof that this process led when it last asked, and until when it may believe so. All clones of one share
/// that moment: a renewal lengthens it for each of them, and the end is the end for each of them.
#[derive(Debug, Clone)]
pub struct Leading {
    scope: &'static str,
    term: i64,
    token: String,
    limits: Limits,
    until_boot_ms: Arc<AtomicI64>,
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

    /// Whether the last successful renewal was *sent* less than V ago, and nobody called an end.
    pub fn is_valid(&self, boot_ms: i64) -> bool {
        boot_ms < self.until_boot_ms.load(Ordering::Acquire)
    }

    /// The holder steps down.
    pub fn end(&self) {
        self.until_boot_ms.store(i64::MIN, Ordering::Release);
    }
}

/// A single statement of the lease: in one trip, so that T is enough for a database that is far away. Connecting is
/// not part of T: belief counts from before it, which is the safe side.
fn rule(name: &'static str, limit: Duration) -> Rule {
    Rule::writing(name).within(limit).connecting_apart()
}

impl Session {
    /// S1: reads the row.
    pub async fn observe(&mut self, scope: &'static str, limit: Duration) -> Result<Observed> {
        let rule = Rule::reading("lease_observe").within(limit).connecting_apart();
        transact!(&mut *self, rule, |tx| {
            let (now, scope) = (tx.inner().now_expr(), tx.inner().dialect.word(scope));
            let row = tx
                .one_plain(format!(
                    "SELECT term, beat, holder, token, lease_ms, {now} - renewed_ms AS age_ms, eval_ms \
                     FROM lease WHERE scope = {scope}"
                ))
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
    pub async fn take(&mut self, claim: &Claim, holder: &str, limits: Limits) -> Result<Option<Leading>> {
        let sent_boot_ms = clock::boot_ms();
        let taken = transact!(&mut *self, rule("lease_take", limits.op), |tx| {
            let (now, dialect) = (tx.inner().now_expr(), tx.inner().dialect);
            let (holder, scope) = (dialect.word(holder), dialect.word(claim.scope));
            let done = tx
                .run_plain(format!(
                    "UPDATE lease SET term = term + 1, beat = beat + 1, holder = {holder}, token = '{}', \
                     lease_ms = {}, renewed_ms = {now}, acquired_ms = {now} \
                     WHERE scope = {scope} AND term = {} AND beat = {}",
                    claim.token,
                    limits.lease_ms,
                    claim.term - 1,
                    claim.from_beat,
                ))
                .await?;
            Ok(done.rows_affected() == 1)
        })?;
        Ok(taken.then(|| claim.hold(limits, sent_boot_ms)))
    }

    /// S2 for a claim whose answer was lost. [`StoreError::Fenced`]: it did not win, or was lost since.
    pub async fn prove(&mut self, claim: &Claim, limits: Limits) -> Result<Leading> {
        let leading = claim.hold(limits, clock::boot_ms());
        transact!(&mut *self, rule("lease_prove", limits.op).tries(2), |tx| {
            write_fence(tx, &leading, "").await
        })?;
        Ok(leading)
    }

    /// S2: renews. [`StoreError::Fenced`] when the row is no longer ours.
    pub async fn renew(&mut self, leading: &Leading) -> Result<()> {
        let sent_boot_ms = clock::boot_ms();
        transact!(&mut *self, rule("lease_renew", leading.limits.op).tries(2), |tx| {
            write_fence(tx, leading, "").await
        })?;
        leading.until_boot_ms.fetch_max(sent_boot_ms + leading.limits.valid_ms, Ordering::AcqRel);
        Ok(())
    }

    /// S4: gives back what the claim took, if it did, so that another replica need not wait.
    pub async fn release(&mut self, claim: &Claim, limits: Limits) -> Result<()> {
        transact!(&mut *self, rule("lease_release", limits.op).tries(2), |tx| {
            let scope = tx.inner().dialect.word(claim.scope);
            tx.run_plain(format!(
                "UPDATE lease SET holder = '', beat = beat + 1 \
                 WHERE scope = {scope} AND term = {} AND token = '{}'",
                claim.term, claim.token
            ))
            .await?;
            Ok(())
        })
    }

    /// Marks a complete evaluation.
    pub async fn evaluated(&mut self, leading: &Leading) -> Result<()> {
        transact!(&mut *self, rule("lease_evaluated", leading.limits.op).tries(2), |tx| {
            check_belief(tx, leading)?;
            let now = tx.inner().now_expr();
            write_fence(tx, leading, &format!(", eval_ms = {now}")).await
        })
    }
}

/// The first thing in every coordinator transaction: whether this replica may still believe to lead.
pub(super) fn check_belief(tx: &Tx, leading: &Leading) -> Result<()> {
    if leading.is_valid(clock::boot_ms()) {
        return Ok(());
    }
    tx.inner().metrics.fenced_out();
    Err(StoreError::Fenced)
}

/// The last thing in every coordinator transaction: S2. Last, because the row stays locked from here to the commit
/// only: were it first, renewals would wait for as long as the whole transaction takes on a database that is far away.
pub(super) async fn fence(tx: &mut Tx, leading: &Leading) -> Result<()> {
    write_fence(tx, leading, "").await
}

/// S2, and what else is `set`.
async fn write_fence(tx: &mut Tx, leading: &Leading, set: &str) -> Result<()> {
    let (now, scope) = (tx.inner().now_expr(), tx.inner().dialect.word(leading.scope));
    let done = tx
        .run_plain(format!(
            "UPDATE lease SET beat = beat + 1, renewed_ms = {now}{set} \
             WHERE scope = {scope} AND term = {} AND token = '{}'",
            leading.term, leading.token
        ))
        .await?;
    if done.rows_affected() == 1 {
        return Ok(());
    }
    tx.inner().metrics.fenced_out();
    Err(StoreError::Fenced)
}
