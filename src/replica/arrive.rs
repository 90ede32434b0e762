//! The start while the database is away.
//!
//! Promises: what can be done without a database is done while waiting for it: after 10 s the listener answers, 503
//! and `Retry-After` but for `/livez`, `/metrics`, `/nodes` and the document; `/readyz` says what it waits for;
//! and the direct path tells that the database is gone, as at any other time. Waiting has no end on MySQL and
//! MariaDB: a process that gives up and is started again would say less. A schema that is not ours, a wrong
//! URL, and everything that SQLite says ends the start at once: there a person has to act, and nobody else
//! will.
//!
//! Races: the database goes again between the first look and the migration: that is one more failed try. A
//! migration of another replica takes minutes: the database takes writes meanwhile, and is not called gone.

use crate::clock;
use crate::peers::solo::Solo;
use crate::store::dialect::Dialect;
use crate::store::{Session, Store, StoreError};
use std::time::Duration;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// A database that is only slow to come is waited for so long before the listener answers: whoever connects
/// meanwhile waits in the kernel's queue and is served, instead of hearing 503.
const PATIENCE_MS: i64 = 10_000;

/// Between two lines that say the same.
const SAY_AGAIN_MS: i64 = 60_000;

/// Tries to reach the database and to bring its schema up to date.
pub(super) struct Arrival {
    store: Store,
    session: Session,
    solo: Solo,
    said: Option<(String, i64)>,
}

impl Arrival {
    pub(super) fn new(store: &Store, solo: Solo) -> Self {
        Self { store: store.clone(), session: store.session(), solo, said: None }
    }

    /// One try; false: worth another one.
    ///
    /// # Errors
    /// What waiting does not mend.
    async fn step(&mut self) -> Result<bool, StoreError> {
        let outcome = self.try_once().await;
        if matches!(&outcome, Err(e) if !may_pass(e) || self.store.dialect() == Dialect::Sqlite) {
            return outcome.map(|()| false);
        }
        // By now the database has taken a write, or has not.
        self.solo.saw(outcome.is_ok(), clock::boot_ms());
        if let Err(e) = &outcome {
            self.say(e);
        }
        Ok(outcome.is_ok())
    }

    /// Tries for a little while; false: the database is away.
    ///
    /// # Errors
    /// As [`Arrival::step`].
    pub(super) async fn soon(&mut self) -> Result<bool, StoreError> {
        let started = clock::boot_ms();
        while !self.step().await? {
            if clock::boot_ms() - started >= PATIENCE_MS {
                return Ok(false);
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(true)
    }

    /// Tries until the database is there.
    ///
    /// # Errors
    /// As [`Arrival::step`].
    pub(super) async fn wait(&mut self) -> Result<(), StoreError> {
        loop {
            tokio::time::sleep(PAUSE).await;
            if self.step().await? {
                tracing::info!("the database is reached: starting");
                return Ok(());
            }
        }
    }

    async fn try_once(&mut self) -> Result<(), StoreError> {
        // A quick look first: a migration may rightly take minutes, a database that is away may not.
        if self.store.dialect() == Dialect::MySql {
            self.session.probe().await?;
            self.solo.saw(true, clock::boot_ms());
        }
        let migrated = self.store.migrate().await?;
        if migrated.applied > 0 {
            let (version, applied) = (migrated.version, migrated.applied);
            tracing::info!(version, applied, "the schema is up to date");
        }
        Ok(())
    }

    /// Says what it waits for when that is new, and each minute.
    fn say(&mut self, error: &StoreError) {
        let (text, now) = (error.to_string(), clock::boot_ms());
        let known = |(said, at): &(String, i64)| *said == text && now - at < SAY_AGAIN_MS;
        if !self.said.as_ref().is_some_and(known) {
            tracing::warn!(error = text, "waiting for the database");
            self.said = Some((text, now));
        }
    }
}

/// Whether the same may work later.
fn may_pass(error: &StoreError) -> bool {
    !matches!(
        error,
        StoreError::Schema(_) | StoreError::InUse(_) | StoreError::Data(_) | StoreError::Other(_)
    )
}
