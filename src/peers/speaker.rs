//! What this replica says of itself.

use super::Telling;
use super::beat::{Seen, Watched};
use super::sight::Said;
use crate::store::{Leading, Store};
use tokio::sync::watch;

/// Puts it together.
#[derive(Clone)]
pub struct Speaker {
    /// Random per process.
    pub incarnation: String,
    /// The database, for its installation's identity.
    pub store: Store,
    /// What the beats came to.
    pub seen: watch::Receiver<Seen>,
    /// The last look at all others.
    pub watched: Watched,
    /// Whether this replica leads.
    pub leads: watch::Receiver<Option<Leading>>,
    /// What was told without the database.
    pub told: Telling,
}

impl std::fmt::Debug for Speaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Speaker").field("incarnation", &self.incarnation).finish_non_exhaustive()
    }
}

impl Speaker {
    /// As of `boot_ms`.
    pub fn said(&self, boot_ms: i64) -> Said {
        let seen = self.seen.borrow().clone();
        let db_ok = seen.db_ok(boot_ms);
        let roll = seen.roll.as_ref();
        let install_id =
            roll.map_or_else(|| self.store.install_id().to_owned(), |(r, _)| r.install_id.clone());
        let eval_age_ms = roll.and_then(|(roll, at)| {
            let age = roll.lease.as_ref()?.eval_age_ms?;
            Some(age + (boot_ms - at))
        });
        Said {
            heard_boot_ms: boot_ms,
            incarnation: self.incarnation.clone(),
            db_ok,
            db_lost_age_ms: seen.lost_since_boot_ms.filter(|_| !db_ok).map(|since| boot_ms - since),
            seq: seen.seq,
            install_id,
            leads_term: self.leads.borrow().as_ref().map(Leading::term),
            eval_age_ms,
            watch_age_ms: self.watched.age_ms(boot_ms),
            outbox_oldest_ms: seen.outbox.map(|(age, at)| age + (boot_ms - at)),
            told: (self.told)(),
        }
    }
}
