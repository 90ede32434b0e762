//! Alerts that need no database: what is told when the database itself is the trouble.
//!
//! Promises:
//! - A database that takes no writes from this process for [`LOST_MS`] is told through the alerters of the
//!   configuration, without any part that waits for a database; what a replica found and could not write down
//!   for [`UNWRITTEN_MS`] as well.
//! - Each is tried until at least one recipient has accepted it, and then for the others as long as it lasts,
//!   a day at most. The end is told to those who accepted the beginning, [`BACK_MS`] after the database takes
//!   writes again, under the same key.
//! - A process that was restarted meanwhile tells nothing again: what was told stands in a small file
//!   (`state`). A file that cannot be written costs that, and never an alert.
//!
//! Who speaks: replica number r waits r times [`RANK_MS`] longer and stays silent while a peer that is heard
//! says that it has told the same; nobody is waited for beyond that. A replica that hears from a peer that the
//! database serves others is cut off itself: the peer tells that (`PEER_NO_DB`), and only if it has not done
//! so after [`CUT_OFF_MS`] this replica does.
//!
//! Does not promise one page: replicas that do not hear each other tell each for itself. They use one key,
//! `gotel/<install id>/<kind>`, by which PagerDuty and Alertmanager fold them into one. A replica that was never
//! told the id, by database, file or peer, takes a digest of the database's address in its place.
//!
//! Races and their answers:
//! - The process dies between a send and its note in the file: it is sent again under the same
//!   `Idempotency-Key`, `Message-ID` and dedup key.
//! - The database comes back while a trigger is on its way: if it is accepted after all, its end follows.
//! - The database goes again before all have heard that it is back: those who have are told anew, with a new
//!   event number; the others go on waiting for the end. A resolve that arrives late is taken into account.
//! - The process was frozen: a sight older than [`FRESH_MS`] decides nothing.

mod ledger;
mod state;
mod teller;
mod words;

pub use ledger::{At, Ledger, Message, Trouble};
pub use state::StateFile;
pub use teller::{Parts, Teller};

use super::sight::{Sight, Told};
use crate::reservation::Notice;
use crate::reservation::routing::Target;
use crate::store::SystemKind;
use futures::future::BoxFuture;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A database that takes no writes for this long is told.
pub const LOST_MS: i64 = 60_000;
/// How much longer each further replica waits.
pub const RANK_MS: i64 = 30_000;
/// How long a replica that is cut off waits for a peer to tell of it.
pub const CUT_OFF_MS: i64 = 180_000;
/// A finding that could not be written down for this long is told without the database.
pub const UNWRITTEN_MS: i64 = 120_000;
/// The database must take writes for this long before its return is told.
pub const BACK_MS: i64 = 30_000;
/// A finding must be absent for this long before its end is told: a restart has to find it again first.
pub const ABSENT_MS: i64 = 300_000;
/// A sight older than this decides nothing.
pub const FRESH_MS: i64 = 15_000;
/// A peer that said nothing for this long is not heard.
pub const HEARD_MS: i64 = 15_000;

/// Alerters that need no database.
pub trait Direct: Send + Sync {
    /// Who is told.
    fn targets(&self) -> Vec<Target>;

    /// Tells one of them, once, within a limit. `idem_key` is the same on every try. Err says why not, without
    /// a secret.
    fn tell<'a>(
        &'a self,
        target: &'a Target,
        idem_key: &'a str,
        notice: &'a Notice,
    ) -> BoxFuture<'a, Result<(), String>>;
}

/// Whether this replica has to tell, now, that the database is away: the kind of trouble, and of whom.
pub fn due(sight: &Sight, boot_ms: i64) -> Option<(SystemKind, String)> {
    let lost_ms = boot_ms - sight.db_lost_since_boot_ms?;
    if boot_ms - sight.boot_ms > FRESH_MS {
        return None;
    }
    let heard = || {
        let said = sight.peers.iter().filter_map(|peer| peer.said.as_ref());
        said.filter(|said| boot_ms - said.heard_boot_ms <= HEARD_MS)
    };
    let (kind, subject, wait_ms) = if heard().any(|said| said.db_ok) {
        (SystemKind::PeerNoDb, sight.replica.clone(), CUT_OFF_MS)
    } else {
        let rank = i64::try_from(sight.rank).unwrap_or(i64::MAX / RANK_MS);
        (SystemKind::DbGone, String::new(), LOST_MS.saturating_add(rank.saturating_mul(RANK_MS)))
    };
    let told = heard().any(|said| said.told.iter().any(|told| told.is(kind, &subject)));
    (lost_ms >= wait_ms && !told).then_some((kind, subject))
}

/// Something a replica found and could not write down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: SystemKind,
    /// Of whom or what.
    pub subject: String,
    /// What it means and what to do, for a tired person.
    pub text: String,
    /// Since when it could not be written down.
    pub since_boot_ms: i64,
}

/// What could not be written down, shared by those who find and the one who tells.
#[derive(Debug, Clone, Default)]
pub struct Unwritten(Arc<Mutex<Vec<Finding>>>);

impl Unwritten {
    /// This could not be written down; say so again with every try.
    pub fn failed(&self, kind: SystemKind, subject: &str, text: &str, boot_ms: i64) {
        let mut findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !findings.iter().any(|f| f.kind == kind && f.subject == subject) {
            let (subject, text) = (subject.to_owned(), text.to_owned());
            findings.push(Finding { kind, subject, text, since_boot_ms: boot_ms });
        }
    }

    /// It was written down, or is no longer so.
    pub fn settled(&self, kind: SystemKind, subject: &str) {
        let mut findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        findings.retain(|f| f.kind != kind || f.subject != subject);
    }

    /// All of them.
    pub fn read(&self) -> Vec<Finding> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What stands told without the database, for heartbeats, pages and the notice of an outage.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<RwLock<Vec<Trouble>>>);

impl Standing {
    fn show(&self, troubles: &[Trouble]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = troubles.to_vec();
    }

    fn read<T>(&self, look: impl Fn(&Trouble) -> Option<T>) -> Vec<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().filter_map(look).collect()
    }

    /// What this replica has told and what is open, for its heartbeats.
    pub fn told(&self, wall_ms: i64) -> Vec<Told> {
        self.read(|t| {
            let told_ms = t.told_ms.filter(|_| t.over_ms.is_none())?;
            let age_ms = (wall_ms - told_ms).max(0);
            Some(Told { kind: t.kind.clone(), subject: t.subject.clone(), age_ms })
        })
    }

    /// One sentence each, for the page of nodes.
    pub fn sentences(&self) -> Vec<String> {
        self.read(|t| t.over_ms.is_none().then(|| words::standing(t)))
    }

    /// Whether `target` heard without the database that it is away, and has still to hear of its return.
    pub fn heard_of_outage(&self, target: &Target) -> bool {
        let heard = |t: &Trouble| {
            (t.is_about_database() && t.over_ms.is_none() && t.accepted.contains(target)).then_some(())
        };
        !self.read(heard).is_empty()
    }
}

#[cfg(test)]
mod tests;
