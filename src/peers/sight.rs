//! What one replica sees of the database and of its peers. Pure data; all times by this process's boot clock.
//!
//! `watch` writes one [`Sight`] a second; `direct` and `external` read it.

use crate::store::SystemKind;

/// Everything this replica sees, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// This replica's id.
    pub replica: String,
    /// Its place among the configured replicas, ordered by id; 0 speaks first.
    pub rank: usize,
    /// Boot time of the last write that the database took from this process; None: none since the start.
    pub db_ok_boot_ms: Option<i64>,
    /// Since when the database does not take writes from this process; None: it does.
    pub db_lost_since_boot_ms: Option<i64>,
    /// The peers, ordered by id; empty: this replica is alone.
    pub peers: Vec<PeerSight>,
    /// Database time of a write in the last cycle, in milliseconds since 1970.
    pub db_now_ms: Option<i64>,
    /// Whether this watch cycle was complete: the database answered and every peer was looked at.
    pub complete: bool,
    /// When this was seen.
    pub boot_ms: i64,
}

impl Sight {
    /// Before the first cycle.
    pub fn nothing(replica: String, rank: usize) -> Self {
        Self {
            replica,
            rank,
            db_ok_boot_ms: None,
            db_lost_since_boot_ms: None,
            peers: Vec::new(),
            db_now_ms: None,
            complete: false,
            boot_ms: 0,
        }
    }
}

/// One peer, as seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSight {
    /// Its id.
    pub replica: String,
    /// Its place among the configured replicas.
    pub rank: usize,
    /// Boot time at which its row was last seen to move; None: not since this process began.
    pub row_moved_boot_ms: Option<i64>,
    /// What it last said over HTTP.
    pub said: Option<Said>,
}

/// What a peer said of itself in a heartbeat, either way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Said {
    /// When it was heard here.
    #[serde(skip)]
    pub heard_boot_ms: i64,
    /// Random per process of the peer.
    pub incarnation: String,
    /// Whether the database takes its writes.
    pub db_ok: bool,
    /// Since when it does not, as an age when this was said.
    pub db_lost_age_ms: Option<i64>,
    /// The number of its last committed beat.
    pub seq: i64,
    /// Identity of the installation that its database holds; empty: not known yet.
    pub install_id: String,
    /// Whether it coordinates, and the term.
    pub leads_term: Option<i64>,
    /// Age of the last complete evaluation by anybody, as it sees it.
    pub eval_age_ms: Option<i64>,
    /// Age of its last complete watch cycle.
    pub watch_age_ms: Option<i64>,
    /// Age of the oldest notice that waits to be delivered, as it sees it.
    pub outbox_oldest_ms: Option<i64>,
    /// Troubles that it has told over its direct path and that are open.
    #[serde(default)]
    pub told: Vec<Told>,
}

/// A trouble told without the database.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Told {
    /// The word of its kind ([`SystemKind::as_str`]).
    pub kind: String,
    /// Of whom; "" for the database.
    pub subject: String,
    /// How long ago it was told.
    pub age_ms: i64,
}

impl Told {
    /// Whether it speaks of this trouble.
    pub fn is(&self, kind: SystemKind, subject: &str) -> bool {
        self.kind == kind.as_str() && self.subject == subject
    }
}
