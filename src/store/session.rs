//! Connections, and the only two ways to use one.
//!
//! Promises:
//! - A connection whose work did not finish (error on the wire, time limit, cancelled future) is
//!   closed, never used again. It is *moved out* of its owner for the duration of the work, so there is
//!   no path on which it could be forgotten. (sqlx #4349: a pool whose connections were dropped in the
//!   middle of a query on a silent network never recovers.)
//! - A transaction has a name, a time limit, a retry rule and a metric.
//! - The loops that must not fail (lease, evaluator, outbox, check-in writers) own a [`Session`]: one
//!   dedicated connection each, never the pool's.
//!
//! Races: a transaction that timed out may or may not be committed. Callers answer "unknown" (503), and
//! every write is idempotent, so trying again is safe. SQLite has one writer and an unfair lock; a FIFO
//! mutex in front of it gives each writer its turn, so that a flood of check-ins cannot starve the
//! evaluator.

use super::dialect::Dialect;
use super::endpoints::Link;
use super::error::{Result, StoreError};
use super::{Inner, Store, pool};
use crate::clock;
use sqlx::any::{AnyArguments, AnyQueryResult, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Executor};
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// How long connecting may take, session set-up included.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How an operation behaves when it fails.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// Everything included: waiting for the write turn, connecting, every try.
    pub limit: Duration,
    /// Tries on contention (deadlock, lock wait, certification conflict, lost insert race).
    pub tries: u32,
    /// A transaction, or single reads.
    pub writes: bool,
    /// On SQLite the transaction is opened by the block's first statement: see [`Rule::in_few_trips`].
    few_trips: bool,
}

impl Rule {
    /// The usual transaction: 5 s, 4 tries.
    pub const fn named(name: &'static str) -> Self {
        Self { name, limit: Duration::from_secs(5), tries: 4, writes: true, few_trips: false }
    }

    /// Reads outside any transaction: 5 s; tried once more on a fresh connection if an idle one was stale.
    pub const fn reading(name: &'static str) -> Self {
        Self { name, limit: Duration::from_secs(5), tries: 2, writes: false, few_trips: false }
    }

    /// The same with another time limit.
    pub const fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same, for a block that puts [`Tx::opening`] before its first statement, a read, and may end with
    /// [`Tx::run_last`]. A trip to SQLite's driver thread costs as much as a statement, so BEGIN and COMMIT
    /// travel with others. Elsewhere nothing changes.
    pub(super) const fn in_few_trips(mut self) -> Self {
        self.few_trips = true;
        self
    }

    /// The same with another number of tries.
    pub const fn tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }
}

/// Runs a block under a [`Rule`] on a [`Session`]: `transact!(session, rule, |tx| { … Ok(value) })`.
///
/// The block sees `tx: &mut Tx`, may use `?`, and may run several times: it must not keep anything from
/// a try that failed. (A macro and not a closure: a future that borrows its surroundings through an
/// async closure cannot be proven `Send`.)
macro_rules! transact {
    ($session:expr, $rule:expr, |$tx:ident| $body:block) => {{
        let mut session = $session;
        let mut attempts = $crate::store::session::Attempts::new(&mut session, $rule);
        loop {
            let mut open = match attempts.begin().await {
                Ok(open) => open,
                Err(e) => break Err(e),
            };
            let outcome = attempts
                .bounded(async {
                    let $tx = &mut open;
                    $body
                })
                .await;
            if let Some(done) = attempts.settle(open, outcome).await {
                break done;
            }
        }
    }};
}
pub(super) use transact;

/// A statement built from our own text; values only ever travel as binds.
pub(super) fn sql(text: impl Into<String>) -> Query<'static, Any, AnyArguments> {
    sqlx::query(AssertSqlSafe(text.into()))
}

/// A connection at work, in a transaction unless the rule only reads.
pub(super) struct Tx {
    link: Link,
    inner: Arc<Inner>,
    reused: bool,
    /// Still to be said, by the first statement.
    opening: Option<&'static str>,
    /// The block has committed by itself.
    committed: bool,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Tx {
    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// What the first statement's text must begin with under [`Rule::in_few_trips`]; "" once it was asked for.
    pub(super) fn opening(&mut self) -> String {
        self.opening.take().map_or_else(String::new, |begin| format!("{begin}; "))
    }

    /// Runs a text whose last statement is COMMIT. For SQLite: the others take one statement a text.
    pub(super) async fn run_last(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<()> {
        self.run(query).await?;
        self.committed = true;
        Ok(())
    }

    pub(super) async fn run(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<AnyQueryResult> {
        Ok(query.execute(&mut self.link.conn).await?)
    }

    /// As plain text: MySQL prepares no `SAVEPOINT`.
    pub(super) async fn run_plain(&mut self, text: &'static str) -> Result<()> {
        (&mut self.link.conn).execute(text).await?;
        Ok(())
    }

    pub(super) async fn all(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<Vec<AnyRow>> {
        Ok(query.fetch_all(&mut self.link.conn).await?)
    }

    pub(super) async fn one(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<AnyRow> {
        Ok(query.fetch_one(&mut self.link.conn).await?)
    }

    pub(super) async fn maybe(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<Option<AnyRow>> {
        Ok(query.fetch_optional(&mut self.link.conn).await?)
    }

    /// The database's clock.
    pub(super) async fn now_ms(&mut self) -> Result<i64> {
        let now = self.inner.now_expr();
        let row = self.one(sql(format!("SELECT {now} AS now_ms"))).await?;
        Ok(sqlx::Row::try_get(&row, 0)?)
    }
}

/// A dedicated connection, made when first needed and re-made after any failure.
///
/// `conn` is `Some` only between operations, and then it is clean: no open transaction, no answer
/// outstanding.
pub struct Session {
    inner: Arc<Inner>,
    conn: Option<Link>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("connected", &self.conn.is_some()).finish_non_exhaustive()
    }
}

/// The tries of one operation.
pub(super) struct Attempts<'s> {
    session: &'s mut Session,
    rule: Rule,
    started_us: i64,
    tries_left: u32,
}

impl<'s> Attempts<'s> {
    pub(super) fn new(session: &'s mut Session, rule: Rule) -> Self {
        Self { session, rule, started_us: clock::boot_us(), tries_left: rule.tries }
    }

    /// A connection ready for the block; waits for contention to pass as often as the rule allows.
    pub(super) async fn begin(&mut self) -> Result<Tx> {
        loop {
            self.tries_left = self.tries_left.saturating_sub(1);
            let limit = self.left();
            let outcome = match tokio::time::timeout(limit, open(self.session, self.rule)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(StoreError::Timeout(self.rule.limit, self.rule.name)),
            };
            match outcome {
                Err(e) if e.is_retryable() && self.tries_left > 0 => self.pause().await,
                Err(e) => {
                    self.record(Some(&e));
                    return Err(e);
                }
                Ok(tx) => return Ok(tx),
            }
        }
    }

    /// The block, within what is left of the time.
    pub(super) async fn bounded<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.left(), work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Timeout(self.rule.limit, self.rule.name)),
        }
    }

    /// Commits or rolls back. None: try again.
    pub(super) async fn settle<T>(&mut self, tx: Tx, outcome: Result<T>) -> Option<Result<T>> {
        let reused = tx.reused;
        let settled = match self.rule.writes {
            true => tokio::time::timeout(self.left(), settle(tx, outcome)).await,
            false => {
                if let Err(StoreError::ReadOnly(_)) = &outcome {
                    tx.inner.endpoints.leave(&tx.link);
                }
                Ok((outcome.is_ok().then_some(tx.link), outcome))
            }
        };
        let outcome = match settled {
            Ok((conn, outcome)) => {
                self.session.conn = conn;
                outcome
            }
            Err(_) => Err(StoreError::Timeout(self.rule.limit, self.rule.name)),
        };
        if let Err(e) = &outcome
            && self.tries_left > 0
        {
            // An idle connection that the server has closed meanwhile is replaced without a word.
            let stale = reused && !self.rule.writes && matches!(e, StoreError::Unavailable(_));
            if stale {
                return None;
            }
            // A server that refuses writes has committed nothing, and is left: another may take them.
            if e.is_retryable() || matches!(e, StoreError::ReadOnly(_)) {
                self.pause().await;
                return None;
            }
        }
        self.record(outcome.as_ref().err());
        Some(outcome)
    }

    fn left(&self) -> Duration {
        self.rule.limit.saturating_sub(clock::since_us(self.started_us))
    }

    async fn pause(&mut self) {
        self.session.inner.metrics.db_retries(self.rule.name);
        let tried = self.rule.tries - self.tries_left;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=8) << tried.min(5))).await;
    }

    fn record(&self, error: Option<&StoreError>) {
        let took = clock::since_us(self.started_us);
        self.session.inner.metrics.db_op(self.rule.name, took, error.map(StoreError::class));
    }
}

/// Takes the session's connection, or makes one, and opens a transaction on it if asked to. An idle
/// connection that the server has closed meanwhile is replaced without a word.
async fn open(session: &mut Session, rule: Rule) -> Result<Tx> {
    let inner = Arc::clone(&session.inner);
    let turn = match &inner.write_turn {
        Some(turn) if rule.writes => Some(Arc::clone(turn).lock_owned().await),
        _ => None,
    };
    let begin = inner.dialect.begin();
    let rides = rule.few_trips && inner.dialect == Dialect::Sqlite;
    let opening = rides.then_some(begin);
    let tx =
        |link, reused| Tx { link, inner: Arc::clone(&inner), reused, opening, committed: false, _turn: turn };
    if let Some(mut link) = session.conn.take().filter(|link| inner.endpoints.is_current(link)) {
        if !rule.writes || rides {
            return Ok(tx(link, true));
        }
        match (&mut link.conn).execute(begin).await.map_err(StoreError::from) {
            Ok(_) => return Ok(tx(link, true)),
            Err(e @ StoreError::Contended(_)) => {
                session.conn = Some(link);
                return Err(e);
            }
            Err(_) => drop(link),
        }
    }
    let mut link = inner.connect().await?;
    if rule.writes && !rides {
        (&mut link.conn).execute(begin).await?;
    }
    Ok(tx(link, false))
}

/// Commits or rolls back; gives the connection back only if it is known to be clean.
async fn settle<T>(tx: Tx, outcome: Result<T>) -> (Option<Link>, Result<T>) {
    let Tx { mut link, inner, opening, committed, _turn, .. } = tx;
    let outcome = match outcome {
        // Nothing is open: committed already, or never begun.
        Ok(value) if committed || opening.is_some() => return (Some(link), Ok(value)),
        Ok(value) => match (&mut link.conn).execute("COMMIT").await {
            Ok(_) => return (Some(link), Ok(value)),
            Err(e) => {
                let e = StoreError::from(e);
                // A certification conflict at COMMIT has rolled back already; SQLite's BUSY has not.
                let clean = e.is_retryable() && (&mut link.conn).execute("ROLLBACK").await.is_ok();
                (clean, e)
            }
        },
        Err(e) => {
            let keep = !matches!(
                e,
                StoreError::Unavailable(_)
                    | StoreError::Timeout(..)
                    | StoreError::ReadOnly(_)
                    | StoreError::Other(_)
            );
            let clean = keep && (&mut link.conn).execute("ROLLBACK").await.is_ok();
            (clean, e)
        }
    };
    let (clean, e) = outcome;
    if let StoreError::ReadOnly(_) = &e {
        inner.endpoints.leave(&link);
    }
    (clean.then_some(link), Err(e))
}

/// A session borrowed from the pool.
pub(super) struct Pooled<'p> {
    permit: pool::Permit<'p>,
    session: Session,
    was_idle: bool,
}

impl Deref for Pooled<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Pooled<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        // Clean by the session's own invariant, also when the caller was cancelled half-way: then there is none.
        let conn = self.session.conn.take();
        if conn.is_none() && self.was_idle {
            // The other idle ones went through the same network: they need not each cost a time limit.
            self.permit.forget_idle();
        }
        self.permit.give_back(conn);
    }
}

impl Session {
    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// SQLite: writes what is in the write-ahead log into the database's file; elsewhere there is nothing to do.
    /// Kept connected, it does so even for a log that was deleted meanwhile.
    pub async fn checkpoint(&mut self) -> Result<()> {
        if self.inner.dialect != Dialect::Sqlite {
            return Ok(());
        }
        transact!(&mut *self, Rule::reading("checkpoint").tries(1), |tx| {
            tx.all(sql("PRAGMA wal_checkpoint(TRUNCATE)")).await?;
            Ok(())
        })
    }
}

impl Store {
    /// A dedicated connection for a loop that must not share one.
    pub fn session(&self) -> Session {
        Session { inner: Arc::clone(&self.inner), conn: None }
    }

    /// A connection shared by API calls and pages, waiting at most 3 s for one.
    pub(super) async fn pooled(&self) -> Result<Pooled<'_>> {
        let permit = self.inner.pool.take(Duration::from_secs(3)).await?;
        let conn = permit.current(&self.inner.endpoints);
        let was_idle = conn.is_some();
        Ok(Pooled { permit, session: Session { inner: Arc::clone(&self.inner), conn }, was_idle })
    }
}
