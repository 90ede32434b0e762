//! The words of the election: what can happen, what can be done about it, and why.

use uuid::Uuid;

/// Without a complete evaluation for this long the lease is given up.
pub const STUCK_MS: i64 = 30_000;

/// The row, as far as the election goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// Raised by one with each take-over.
    pub term: i64,
    /// Raised with every write.
    pub beat: i64,
    /// Released, or never held.
    pub vacant: bool,
    /// Random per acquisition.
    pub token: Uuid,
    /// How long the holder asks candidates to wait.
    pub lease_ms: i64,
    /// Age of the last renewal by the database's clock.
    pub age_ms: i64,
}

/// What has just happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The process starts, or the rest is over.
    Woken,
    /// The row was read. A bid that follows from it carries `fresh`, a token that was never used before.
    Read {
        /// The row.
        row: Row,
        /// The token.
        fresh: Uuid,
    },
    /// The bid won.
    Taken,
    /// The bid matched no row: somebody moved it first.
    Beaten,
    /// The renewal, or the proof, matched the row.
    Renewed,
    /// It did not: the row is somebody else's.
    Fenced,
    /// The lease was given back.
    Released,
    /// No answer in time, or none that says whether it was done.
    Failed,
}

/// What to do next. Everything but [`Step::Rest`] is one operation within the limit T.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read the row.
    Observe,
    /// Take the lease over, by compare-and-set on the (term, beat) just read.
    Take {
        /// The token to put there.
        token: Uuid,
        /// Why this is allowed.
        grounds: Grounds,
    },
    /// Renew as the bid whose token was found in the row.
    Prove,
    /// Renew what is held.
    Renew,
    /// Give back what the last bid took.
    Release,
    /// Do nothing for a while.
    Rest {
        /// How long.
        for_ms: i64,
    },
}

/// What changed for everybody else in this process; to be acted upon before the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum News {
    /// It leads.
    Leads,
    /// It no longer does.
    SteppedDown(Reason),
}

/// Why the lease may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grounds {
    /// One process alone has the database.
    Alone,
    /// Released, or never held.
    Vacant,
    /// This process's own token stands in the row: a step-down too many.
    Mine,
    /// No sign of life for the holder's declared time.
    Expired,
    /// This process has just started and the row is far too old by the database's clock.
    ColdStart,
}

impl Grounds {
    /// The word in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Vacant => "vacant",
            Self::Mine => "mine",
            Self::Expired => "expired",
            Self::ColdStart => "cold_start",
        }
    }
}

/// Why a holder stepped down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Another replica has the row.
    Overtaken,
    /// V passed without a successful renewal.
    NotRenewed,
    /// No complete evaluation for [`STUCK_MS`].
    Stuck,
    /// Something forbids this replica to lead.
    Barred,
}

/// The replica's own circumstances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Now {
    /// Its boot clock.
    pub boot_ms: i64,
    /// Since the evaluator last completed a look at what is due, or had nothing to do.
    pub evaluation_age_ms: i64,
    /// Whether something forbids it to lead.
    pub barred: bool,
}

impl Now {
    pub(super) fn permits(&self) -> bool {
        !self.barred && self.evaluation_age_ms <= STUCK_MS
    }
}

/// What comes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Next {
    /// What changed, if anything.
    pub news: Option<News>,
    /// What to do.
    pub step: Step,
}

impl Next {
    pub(super) fn step(step: Step) -> Self {
        Self { news: None, step }
    }
}
