//! What this replica knows of the others, in words: written by `peers`, read by the pages.
//!
//! Promises: reading never waits for the database or the network; what is shown says how old it is.

use std::sync::{Arc, PoisonError, RwLock};

/// A board that both sides share.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<RwLock<Shown>>);

/// What stands on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Every replica that is configured or has a row, this one included, ordered by id.
    pub replicas: Vec<ReplicaCard>,
    /// Trouble that was told without the database and is open, one sentence each.
    pub direct: Vec<String>,
    /// Boot time of the watch cycle that wrote this; 0: none yet.
    pub boot_ms: i64,
    /// This replica sees that the database serves others and not it: requests are better sent elsewhere.
    pub cut_off: bool,
}

/// One replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaCard {
    /// Its id.
    pub id: String,
    /// Whether it is this process.
    pub here: bool,
    /// Whether the configuration names it, or only a row in the database.
    pub configured: bool,
    /// `coordinator`, `worker`, or "" when not known.
    pub role: &'static str,
    /// Term, while it coordinates.
    pub term: Option<i64>,
    /// Its verdict in a word or two: `healthy`, `dead`, `cut from the database` …
    pub verdict: &'static str,
    /// Whether that is good.
    pub healthy: bool,
    /// The evidence, in a sentence or two for a tired person.
    pub evidence: String,
    /// Age of its row's last move, its last evaluation, its last watch cycle.
    pub beat_age_ms: Option<i64>,
    /// See above.
    pub eval_age_ms: Option<i64>,
    /// See above.
    pub watch_age_ms: Option<i64>,
    /// Its version, as its row says.
    pub version: String,
}

impl Board {
    /// Replaces what stands on it.
    pub fn show(&self, shown: Shown) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// Whether the database serves others and not this replica.
    pub fn is_cut_off(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).cut_off
    }

    /// A copy of what stands on it.
    pub fn read(&self) -> Shown {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
