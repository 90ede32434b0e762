//! Connections, and the only two ways to use one.
//!
//! Promises:
//! - A connection whose work did not finish (error on the wire, time limit, cancelled future) is
//!   closed, never used again. It is *moved out* of its owner for the duration of the work, so there is
//!   no path on which it could be forgotten. (sqlx #4349: a pool whose connections were dropped in the
//!   middle of a query on a silent network never recovers.)
//! - A transaction has a name, a time limit, a retry rule and a metric.
//! - A dedicated connection that is not made within one operation's limit goes on being made, and the next
//!   operation finds it further on: a database that is far away is reached at last. It is given up after
//!   [`CONNECT_LIMIT`] in all.
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
use futures::TryStreamExt;
use sqlx::any::{AnyArguments, AnyQueryResult, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Executor};
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// How long connecting may take, session set-up included.
/// It is six round trips, and two or three more with TLS.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(8);

/// How an operation behaves when it fails.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its name in metrics and logs.
    pub name: &'static str,
    /// Everything included: waiting for the write turn, connecting (but see [`Rule::connecting_apart`]), every try.
    pub limit: Duration,
    /// Each trip by itself: how long a connection may be silent; and how long new tries are begun. Shorter than `limit`
    /// where many trips may be slow.
    each: Duration,
    /// Tries on contention (deadlock, lock wait, certification conflict, lost insert race).
    pub tries: u32,
    /// Waits for its turn to write, where writers take turns.
    pub writes: bool,
    /// A transaction, or single statements that commit by themselves.
    transaction: bool,
    /// Whether connecting has the same limit once more: see [`Rule::connecting_apart`].
    connects_apart: bool,
    /// On SQLite the transaction is opened by the block's first statement: see [`Rule::in_few_trips`].
    few_trips: bool,
}

impl Rule {
    /// The usual transaction: 5 s, 4 tries.
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            limit: Duration::from_secs(5),
            each: Duration::from_secs(5),
            tries: 4,
            writes: true,
            transaction: true,
            connects_apart: false,
            few_trips: false,
        }
    }

    /// Reads outside any transaction: 5 s; tried once more on a fresh connection if an idle one was stale.
    pub const fn reading(name: &'static str) -> Self {
        Self { tries: 2, writes: false, transaction: false, ..Self::named(name) }
    }

    /// A single write that commits by itself, in one trip: 5 s. With more tries than one it may be done twice, as an
    /// idle connection that breaks may have carried it.
    pub const fn writing(name: &'static str) -> Self {
        Self { tries: 1, transaction: false, ..Self::named(name) }
    }

    /// The same, where a connection has to be made first, with the limit for that alone, and again for the rest.
    pub const fn connecting_apart(mut self) -> Self {
        self.connects_apart = true;
        self
    }

    /// The same with another time limit.
    pub const fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self.each = limit;
        self
    }

    /// The same with a limit for each trip: a network that fell silent is not waited for as long as one that is slow.
    pub const fn each_within(mut self, each: Duration) -> Self {
        self.each = each;
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
    rule: Rule,
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
        heard(self.rule, query.execute(&mut self.link.conn)).await
    }

    /// Runs a text as it is, without preparing it: one trip, also on a new connection. For numbers, tokens and
    /// [`Dialect::word`]s of our own only, and for what MySQL does not prepare (`SAVEPOINT`).
    pub(super) async fn run_plain(&mut self, text: impl Into<String>) -> Result<AnyQueryResult> {
        heard(self.rule, (&mut self.link.conn).execute(AssertSqlSafe(text.into()))).await
    }

    /// The one row of a text as in [`Tx::run_plain`].
    pub(super) async fn one_plain(&mut self, text: String) -> Result<AnyRow> {
        heard(self.rule, (&mut self.link.conn).fetch_one(AssertSqlSafe(text))).await
    }

    /// The rows of a text as in [`Tx::run_plain`].
    pub(super) async fn all_plain(&mut self, text: String) -> Result<Vec<AnyRow>> {
        heard(self.rule, (&mut self.link.conn).fetch_all(AssertSqlSafe(text))).await
    }

    pub(super) async fn all(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<Vec<AnyRow>> {
        heard(self.rule, query.fetch_all(&mut self.link.conn)).await
    }

    /// What `read` makes of each row, one after the other: as the driver keeps them, thousands take tens of megabytes.
    pub(super) async fn each<T>(
        &mut self,
        query: Query<'_, Any, AnyArguments>,
        read: impl Fn(&AnyRow) -> Result<Option<T>>,
    ) -> Result<Vec<T>> {
        let made = async {
            let mut rows = query.fetch(&mut self.link.conn);
            let mut made = Vec::new();
            while let Some(row) = rows.try_next().await? {
                match read(&row) {
                    Ok(one) => made.extend(one),
                    Err(e) => return Ok(Err(e)),
                }
            }
            Ok(Ok(made))
        };
        heard(self.rule, made).await?
    }

    pub(super) async fn one(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<AnyRow> {
        heard(self.rule, query.fetch_one(&mut self.link.conn)).await
    }

    pub(super) async fn maybe(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<Option<AnyRow>> {
        heard(self.rule, query.fetch_optional(&mut self.link.conn)).await
    }

    /// The first row of a text without binds: prepared on SQLite, where that costs no trip, and plain elsewhere.
    pub(super) async fn first(&mut self, text: String) -> Result<Option<AnyRow>> {
        match self.inner.dialect {
            Dialect::Sqlite => self.maybe(sql(text)).await,
            Dialect::MySql => Ok(self.all_plain(text).await?.into_iter().next()),
        }
    }

    /// The database's clock.
    pub(super) async fn now_ms(&mut self) -> Result<i64> {
        let now = self.inner.now_expr();
        let row = self.one_plain(format!("SELECT {now} AS now_ms")).await?;
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
    /// The connection that is being made, and until when it is waited for, by the boot clock.
    coming: Option<(Coming, i64)>,
}

type Coming = Pin<Box<dyn Future<Output = Result<Link>> + Send>>;

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
            let limit = self.left().min(self.rule.each);
            let outcome = match tokio::time::timeout(limit, open(self.session, self.rule)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(StoreError::Timeout(self.rule.limit, self.rule.name)),
            };
            match outcome {
                // One that refuses is left, but where there is only one, it need not be asked again at once.
                Err(e)
                    if self.may_try()
                        && (e.is_retryable()
                            || is_passing(&e) && self.session.inner.endpoints.are_several()) =>
                {
                    self.pause().await;
                }
                Err(e) => {
                    self.record(Some(&e));
                    return Err(e);
                }
                Ok(tx) => {
                    if !tx.reused && std::mem::take(&mut self.rule.connects_apart) {
                        self.started_us = clock::boot_us();
                    }
                    return Ok(tx);
                }
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
        let settled = match self.rule.transaction {
            true => tokio::time::timeout(self.left().min(self.rule.each), settle(tx, outcome)).await,
            false => {
                if let Err(StoreError::ReadOnly(_)) = &outcome {
                    tx.inner.endpoints.leave(&tx.link);
                }
                Ok((outcome.as_ref().err().is_none_or(leaves_clean).then_some(tx.link), outcome))
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
            && self.may_try()
        {
            // An idle connection that the server has closed meanwhile is replaced without a word.
            let stale = reused && !self.rule.transaction && matches!(e, StoreError::Unavailable(_));
            if stale {
                return None;
            }
            if is_passing(e) {
                self.pause().await;
                return None;
            }
        }
        self.record(outcome.as_ref().err());
        Some(outcome)
    }

    fn may_try(&self) -> bool {
        self.tries_left > 0 && clock::since_us(self.started_us) < self.rule.each
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

/// One trip, or two where the statement is prepared first.
async fn heard<T>(rule: Rule, trip: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    match tokio::time::timeout(rule.each, trip).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(StoreError::Timeout(rule.each, rule.name)),
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
    let tx = |link, reused| Tx {
        link,
        inner: Arc::clone(&inner),
        rule,
        reused,
        opening,
        committed: false,
        _turn: turn,
    };
    if let Some(mut link) = session.conn.take().filter(|link| inner.endpoints.is_current(link)) {
        if !rule.transaction || rides {
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
    let mut link = session.connect().await?;
    if rule.transaction
        && !rides
        && let Err(e) = (&mut link.conn).execute(begin).await.map_err(StoreError::from)
    {
        // A Galera node without a majority lets everybody in, and refuses this.
        if let StoreError::ReadOnly(_) = &e {
            inner.endpoints.leave(&link);
        }
        return Err(e);
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
            let clean = leaves_clean(&e) && (&mut link.conn).execute("ROLLBACK").await.is_ok();
            (clean, e)
        }
    };
    let (clean, e) = outcome;
    if let StoreError::ReadOnly(_) = &e {
        inner.endpoints.leave(&link);
    }
    (clean.then_some(link), Err(e))
}

/// Whether the next try may go better. A server that refuses writes has committed nothing, and is left: another may
/// take them.
fn is_passing(error: &StoreError) -> bool {
    error.is_retryable() || matches!(error, StoreError::ReadOnly(_))
}

/// Whether a connection may be used again after this.
fn leaves_clean(error: &StoreError) -> bool {
    !matches!(
        error,
        StoreError::Unavailable(_) | StoreError::Timeout(..) | StoreError::ReadOnly(_) | StoreError::Other(_)
    )
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

    /// A fresh connection. Cut short, it goes on being made with the next call.
    async fn connect(&mut self) -> Result<Link> {
        let now_ms = clock::boot_ms();
        // One that nobody asked for in time is no longer what the network is like.
        let going_on = self.coming.take().filter(|(_, until_ms)| now_ms < *until_ms);
        let (coming, _) = self.coming.insert(going_on.unwrap_or_else(|| {
            let inner = Arc::clone(&self.inner);
            let limit_ms = i64::try_from(CONNECT_LIMIT.as_millis()).unwrap_or(0);
            (Box::pin(async move { inner.connect().await }), now_ms + limit_ms)
        }));
        let link = coming.await;
        self.coming = None;
        link
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
        Session { inner: Arc::clone(&self.inner), conn: None, coming: None }
    }

    /// A connection shared by API calls and pages, waiting at most 3 s for one.
    pub(super) async fn pooled(&self) -> Result<Pooled<'_>> {
        let permit = self.inner.pool.take(Duration::from_secs(3)).await?;
        let conn = permit.current(&self.inner.endpoints);
        let was_idle = conn.is_some();
        let session = Session { inner: Arc::clone(&self.inner), conn, coming: None };
        Ok(Pooled { permit, session, was_idle })
    }
}
