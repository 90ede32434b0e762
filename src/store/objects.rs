//! Reservations that belong to Kubernetes objects: claimed, changed and let go by them alone.
//!
//! Promises: a reservation has one owner; the first claim wins, and no other object changes, ends or frees it,
//! whichever cluster it is in. A spec of an older generation never replaces that of a newer one. What an object
//! holds is found by (cluster, namespace, name), of which there is one at a time: another uid under the same name
//! means that the former object is gone.
//!
//! Does not promise that the object exists: it may have gone unseen. Its row is then an orphan, and stays watched
//! until the sweep lets it go ([`list`]).
//!
//! Races: two objects claim one reservation: both lock its row, or the unique key lets one insert; the other's
//! transaction runs again and finds it held. A replica that was overtaken writes late: what it writes is guarded by
//! uid and generation, and what ends something by the lease's fence.

mod apply;
mod clusters;
mod list;
mod view;

pub(super) use clusters::last_heard;
pub use clusters::{Identity, controller_scope};
pub use list::OwnedRow;

pub(super) use view::{HELD, held};

use super::error::StoreError;
use super::views::ReservationView;
use crate::reservation::Settings;
use crate::reservation::duration::{DAY_MS, YEAR_MS};
use crate::reservation::outage::Outage;

/// A snooze that suspends lasts as long as any may, and is renewed when it has less than this left. So what a lost
/// cluster has suspended is watched again one day.
pub const RENEW_BELOW_MS: i64 = YEAR_MS - 30 * DAY_MS;

/// One Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// Cluster, as GoTel calls it.
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Another one for each object that ever had the name.
    pub uid: String,
}

impl ObjectId {
    /// Whether both are, or were, the object of one name.
    pub fn same_name(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.namespace == other.namespace && self.name == other.name
    }
}

/// What becomes of a reservation when its object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reclaim {
    /// It is checked out.
    Delete,
    /// It stays watched, and belongs to the API.
    Retain,
}

impl Reclaim {
    fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Retain => "retain",
        }
    }

    /// What is not known is kept.
    fn parse(text: &str) -> Self {
        if text == Self::Delete.as_str() { Self::Delete } else { Self::Retain }
    }
}

/// How an object holds its reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The object.
    pub object: ObjectId,
    /// Generation of the spec that the settings were made from.
    pub generation: i64,
    /// What becomes of it.
    pub reclaim: Reclaim,
    /// Whether its snooze is the object's own.
    pub suspended: bool,
    /// Since when the object was missing.
    pub orphaned_ms: Option<i64>,
}

/// What an object asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The object.
    pub object: &'a ObjectId,
    /// Generation of its spec.
    pub generation: i64,
    /// What is to be agreed.
    pub settings: &'a Settings,
    /// What becomes of it.
    pub reclaim: Reclaim,
    /// Whether alerting is to be paused.
    pub suspend: bool,
    /// Whether it is likely to be stored just so, or to be another's: then it is looked at before anything is locked.
    pub likely_kept: bool,
}

/// A reservation as a wish finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The stored form of its settings.
    pub settings: String,
    /// Whether it was ended.
    pub checked_out: bool,
    /// End of its snooze, past or to come.
    pub snooze_until_ms: Option<i64>,
    /// The database's clock.
    pub now_ms: i64,
    /// Who holds it; None: the API.
    pub held: Option<Held>,
}

/// What is to be done about a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// It is as wished.
    Keep,
    /// To be made, taken, or changed.
    Write,
    /// The row knows a newer spec of this object.
    Stale,
    /// It was made by the API and must be adopted.
    HeldByApi,
    /// Another object was first.
    HeldByObject(ObjectId),
}

/// What came of a wish.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What was done.
    pub plan: Plan,
    /// Whether it belonged to the API before.
    pub adopted: bool,
    /// The reservation now; None unless the object holds it.
    pub view: Option<ObjectView>,
}

/// How the notices of the latest incident fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alerts {
    /// Accepted by their receivers.
    pub sent: i64,
    /// On their way, without a failure so far.
    pub waiting: i64,
    /// Given up, or failed and tried again.
    pub failed: i64,
}

impl Alerts {
    pub(super) fn add(&mut self, state: &str, count: i64, failed: bool) {
        match state {
            "done" | "digested" => self.sent += count,
            "dead" => self.failed += count,
            "pending" | "inflight" if failed => self.failed += count,
            "pending" | "inflight" => self.waiting += count,
            // Nobody needs to hear it any more.
            _ => {}
        }
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A reservation as its object shows it.
#[derive(Debug, Clone)]
pub struct ObjectView {
    /// The reservation.
    pub reservation: ReservationView,
    /// Its owner.
    pub held: Held,
    /// Its latest incident's notices.
    pub alerts: Alerts,
    /// What may move its deadline.
    pub outages: Vec<Outage>,
    /// The database's clock.
    pub now_ms: i64,
}

/// A row that was just written or read is gone: another transaction was in between.
fn nothing_there() -> StoreError {
    StoreError::Contended("the reservation changed meanwhile".into())
}
