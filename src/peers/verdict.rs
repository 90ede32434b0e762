//! What the evidence on one peer means. Pure.
//!
//! Promises: one verdict for each combination of what can be seen, by the table below; a verdict is believed
//! only after it stood for a while without a break, and paged after a longer while.
//!
//! | my database | its row moves | it speaks HTTP | it says its database is fine | verdict |
//! |---|---|---|---|---|
//! | fine | yes | yes | | healthy |
//! | fine | yes | no | | unreachable from here: the database proves that it lives |
//! | fine | no | yes | no | cut from the database |
//! | fine | no | yes | yes | split database if its beats are not the ones here, else stuck |
//! | fine | no | no | | dead |
//! | gone | | yes | no | database gone |
//! | gone | | yes | yes | I am cut off |
//! | gone | | no | | isolated |
//!
//! A row that left in order is no reason for anything. Progress counts, not life: a replica that moves its
//! row and has not looked at the others for a minute is stuck.

use super::sight::Said;
use crate::store::SystemKind;

/// Without a look at all others for this long a replica is stuck.
const WATCH_MS: i64 = 60_000;

/// A row that moves may trail what its replica says by the age of both readings. Beats beyond that are not
/// in this database.
const TRAILS: i64 = 15;

/// What is seen of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence<'e> {
    /// Whether the database takes this replica's writes.
    pub db_ok: bool,
    /// Identity of the installation in this replica's database; "": not known.
    pub install_id: &'e str,
    /// The peer's row, as last read.
    pub row: Option<RowSeen<'e>>,
    /// What it said lately.
    pub said: Option<&'e Said>,
    /// Whether it left in order, and was not heard of since.
    pub left: bool,
    /// Whether anybody here calls it: a replica that is not configured is known by its row alone.
    pub called: bool,
}

/// A peer's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSeen<'e> {
    /// Whose it is.
    pub incarnation: &'e str,
    /// Its beat.
    pub seq: i64,
    /// Whether it moves.
    pub moves: bool,
    /// Age of its last look at all others.
    pub watch_age_ms: Option<i64>,
}

/// What it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All is well.
    Healthy,
    /// It left in order.
    Left,
    /// It lives, and cannot be reached from here.
    UnreachableFromHere,
    /// It lives, and does not reach the database.
    CutFromDatabase,
    /// It lives, and does not do its work.
    Stuck,
    /// It writes into another database.
    SplitDatabase,
    /// It is dead, or cut off from everything.
    Dead,
    /// The database takes writes from neither of us.
    DatabaseGone,
    /// The database takes its writes and not mine.
    IAmCutOff,
    /// Neither the database nor it can be reached from here.
    Isolated,
}

impl Verdict {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Healthy,
        Self::Left,
        Self::UnreachableFromHere,
        Self::CutFromDatabase,
        Self::Stuck,
        Self::SplitDatabase,
        Self::Dead,
        Self::DatabaseGone,
        Self::IAmCutOff,
        Self::Isolated,
    ];

    /// The word in figures and rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Left => "left",
            Self::UnreachableFromHere => "unreachable_from_here",
            Self::CutFromDatabase => "cut_from_database",
            Self::Stuck => "stuck",
            Self::SplitDatabase => "split_database",
            Self::Dead => "dead",
            Self::DatabaseGone => "database_gone",
            Self::IAmCutOff => "i_am_cut_off",
            Self::Isolated => "isolated",
        }
    }

    /// The words on the page.
    pub fn words(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Left => "left in order",
            Self::UnreachableFromHere => "unreachable from here",
            Self::CutFromDatabase => "cut from the database",
            Self::Stuck => "stuck",
            Self::SplitDatabase => "other database",
            Self::Dead => "dead",
            Self::DatabaseGone => "no database either",
            Self::IAmCutOff => "has the database",
            Self::Isolated => "not seen",
        }
    }

    /// Whether the peer does what it is for, as far as can be seen.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Healthy | Self::Left | Self::UnreachableFromHere)
    }

    /// What is told by way of the database; None: nothing.
    pub fn kind(self) -> Option<SystemKind> {
        match self {
            Self::CutFromDatabase => Some(SystemKind::PeerNoDb),
            Self::Stuck => Some(SystemKind::PeerStuck),
            Self::SplitDatabase => Some(SystemKind::SplitDb),
            Self::Dead => Some(SystemKind::PeerDead),
            _ => None,
        }
    }
}

/// The table.
pub fn verdict(e: &Evidence<'_>) -> Verdict {
    if !e.db_ok {
        return match e.said {
            None => Verdict::Isolated,
            Some(said) if said.db_ok => Verdict::IAmCutOff,
            Some(_) => Verdict::DatabaseGone,
        };
    }
    if e.left {
        return Verdict::Left;
    }
    let moving = e.row.filter(|row| row.moves);
    match (moving, e.said) {
        (_, Some(said)) if is_split(e, said) => Verdict::SplitDatabase,
        (Some(row), said) if is_behind(row, said) => Verdict::Stuck,
        (Some(_), None) if e.called => Verdict::UnreachableFromHere,
        (Some(_), _) => Verdict::Healthy,
        (None, Some(said)) if said.db_ok => Verdict::Stuck,
        (None, Some(_)) => Verdict::CutFromDatabase,
        (None, None) => Verdict::Dead,
    }
}

/// Whether the peer's committed beats are not the ones in this database, although both call theirs fine.
fn is_split(e: &Evidence<'_>, said: &Said) -> bool {
    if !said.db_ok {
        return false;
    }
    if !said.install_id.is_empty() && !e.install_id.is_empty() && said.install_id != e.install_id {
        return true;
    }
    match e.row {
        // It has committed nothing yet: it starts, or it is the second process of its id.
        _ if said.seq == 0 => false,
        None => true,
        Some(row) if row.incarnation != said.incarnation => !row.moves,
        Some(row) if row.moves => said.seq > row.seq + TRAILS,
        Some(row) => said.seq > row.seq,
    }
}

/// Whether it has not looked at the others for long. Either way of hearing of it counts, as each may be late.
fn is_behind(row: RowSeen<'_>, said: Option<&Said>) -> bool {
    let ages = [row.watch_age_ms, said.and_then(|said| said.watch_age_ms)];
    ages.into_iter().flatten().min().is_some_and(|age| age > WATCH_MS)
}

/// How long a verdict has stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    confirm_ms: i64,
    page_ms: i64,
    now: Option<Standing>,
    /// The last one that stood long enough.
    firm: Option<Verdict>,
    /// Since when there was no good verdict.
    bad_since_boot_ms: Option<i64>,
    /// What was paged since then.
    paged: Option<Verdict>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    verdict: Verdict,
    since_boot_ms: i64,
    looked_boot_ms: i64,
}

/// A longer gap between two looks proves nothing about what was in between.
const GAP_MS: i64 = 6_000;

/// A verdict and what may be made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// What it looks like now.
    pub verdict: Verdict,
    /// Since when.
    pub since_boot_ms: i64,
    /// What is believed: the last verdict that stood long enough; None: none yet.
    pub firm: Option<Verdict>,
    /// Whether the present one is what is believed.
    pub is_firm: bool,
    /// Whether somebody is to be told of the present one.
    pub page: bool,
}

impl Confirm {
    /// Nothing seen yet.
    pub fn new(confirm_ms: i64, page_ms: i64) -> Self {
        Self { confirm_ms, page_ms, now: None, firm: None, bad_since_boot_ms: None, paged: None }
    }

    /// Takes in what it looks like at `boot_ms`.
    pub fn see(&mut self, verdict: Verdict, boot_ms: i64) -> Finding {
        let unbroken = self.now.filter(|now| boot_ms - now.looked_boot_ms <= GAP_MS);
        let since_boot_ms = match unbroken {
            Some(now) if now.verdict == verdict => now.since_boot_ms,
            _ => boot_ms,
        };
        self.now = Some(Standing { verdict, since_boot_ms, looked_boot_ms: boot_ms });
        let bad = !verdict.is_good() && verdict.kind().is_some();
        self.bad_since_boot_ms = match self.bad_since_boot_ms {
            _ if !bad => None,
            Some(since) if unbroken.is_some() => Some(since),
            _ => Some(boot_ms),
        };
        let stood_ms = boot_ms - since_boot_ms;
        let is_firm = stood_ms >= self.confirm_ms;
        if is_firm {
            self.firm = Some(verdict);
        }
        // One that changes its face all the time is not well either, and must not be silent for that. Whatever of it was
        // paged is enough: a dead one that is started shows several faces before it is well.
        let untold = self.paged.is_none_or(|paged| paged == verdict);
        let changing = self.bad_since_boot_ms.is_some_and(|since| boot_ms - since >= 2 * self.page_ms);
        let page = bad && (stood_ms >= self.page_ms || (changing && untold));
        if page || !bad {
            self.paged = page.then_some(verdict);
        }
        Finding { verdict, since_boot_ms, firm: self.firm, is_firm, page }
    }
}

#[cfg(test)]
mod tests;
