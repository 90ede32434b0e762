//! Connections shared by API calls and pages.
//!
//! Not sqlx's pool: that one never recovers when the network falls silent while its connections are in
//! use (sqlx #4349), and its `acquire` cannot be trusted afterwards. This is a semaphore and a stack of
//! idle connections; a connection is given back only by work that finished, anything else drops it,
//! which closes the socket at once and frees the place.

use super::endpoints::Link;
use super::error::{Result, StoreError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A bounded set of connections.
pub(super) struct Pool {
    places: Semaphore,
    idle: Mutex<Vec<Link>>,
}

/// The right to use one connection.
pub(super) struct Permit<'p> {
    pool: &'p Pool,
    _place: SemaphorePermit<'p>,
}

impl Pool {
    pub(super) fn new(size: usize) -> Self {
        Self { places: Semaphore::new(size), idle: Mutex::new(Vec::with_capacity(size)) }
    }

    /// Waits at most `limit` for a place.
    pub(super) async fn take(&self, limit: Duration) -> Result<Permit<'_>> {
        match tokio::time::timeout(limit, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(Permit { pool: self, _place: place }),
            Ok(Err(_)) => Err(StoreError::Unavailable("the store is closed".into())),
            Err(_) => Err(StoreError::Timeout(limit, "waiting for a connection")),
        }
    }
}

impl Permit<'_> {
    /// An idle connection, if one is left over.
    pub(super) fn idle(&self) -> Option<Link> {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Closes every idle connection.
    pub(super) fn forget_idle(&self) {
        let idle = std::mem::take(&mut *self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    /// Keeps a connection that is known to be clean.
    pub(super) fn give_back(&self, conn: Option<Link>) {
        if let Some(conn) = conn {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        }
    }
}
