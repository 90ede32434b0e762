//! The election as a state machine: what this replica knows, what it has just learnt and what time it is,
//! and so what it does next. Pure: no clock, no database, no chance; [`super::lease`] does what it asks for.
//!
//! Promises, by the replica's own boot clock:
//! - The lease is bid for only when it is vacant, when this replica itself held it last, or when its row was
//!   seen unchanged for the holder's declared time over consecutive successful reads. No wall clock takes part,
//!   but for a process that has just started and finds a row that is ancient by the database's clock.
//! - A holder believes in its lease until V after it *sent* its last successful renewal, and no longer.
//! - It renews only while evaluations are completed, and only while nothing bars it: a stuck evaluator loses
//!   the lease by itself, gives it back, and lets the others have it for L.
//!
//! Does not promise that nobody else believes the same: what is committed is guarded by the fence
//! (`store::lease`), whatever the clocks do.
//!
//! Races: a bid whose answer is lost may have been taken, or be taken later. Its token is kept and used again
//! while the row has not moved, so that both are one acquisition; once the row shows the token, a renewal
//! proves it, and belief counts from when that renewal was sent. An answer that arrives when the belief it
//! would give has run out already gives none.

mod words;

pub use words::*;

use super::timers::Timers;
use uuid::Uuid;

/// Consecutive reads of an unchanged row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Watch {
    term: i64,
    beat: i64,
    since_ms: i64,
    read_ms: i64,
}

/// The last acquisition this process tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Claim {
    term: i64,
    token: Uuid,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    /// Sent, from a row with this beat in the term before; what became of it is not known.
    Bid { beat: i64 },
    /// Held: the last successful renewal was sent then.
    Held { sent_ms: i64 },
    /// Held once; the row may still say so.
    Former,
}

/// One replica's part in the election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Election {
    timers: Timers,
    watch: Option<Watch>,
    /// Whether this process ever read the row.
    looked: bool,
    claim: Option<Claim>,
    /// When the last step was asked for, and whether it was a look at the row.
    sent_ms: i64,
    observing: bool,
    /// After giving up for want of evaluations: leave the lease to others until then.
    abstain_until_ms: Option<i64>,
}

impl Election {
    /// A process that has just started.
    pub fn new(timers: Timers) -> Self {
        Self {
            timers,
            watch: None,
            looked: false,
            claim: None,
            sent_ms: 0,
            observing: false,
            abstain_until_ms: None,
        }
    }

    /// Takes in what happened and says what to do. What it says is done before the next event is given.
    pub fn next(&mut self, event: Event, now: Now) -> Next {
        let next = if self.is_holder() { self.hold(event, now) } else { self.seek(event, now) };
        self.observing = next.step == Step::Observe;
        self.sent_ms = now.boot_ms;
        next
    }

    /// Whether this replica leads, as far as it can know: until V after its last successful renewal was sent.
    pub fn believes(&self, boot_ms: i64) -> bool {
        self.believes_until_ms().is_some_and(|until| boot_ms < until)
    }

    /// Whether the row may be this process's: something to give back at the end.
    pub fn has_claim(&self) -> bool {
        self.claim.is_some()
    }

    fn believes_until_ms(&self) -> Option<i64> {
        match self.claim?.stage {
            Stage::Held { sent_ms } => Some(sent_ms + self.timers.valid_ms),
            _ => None,
        }
    }

    fn is_holder(&self) -> bool {
        self.believes_until_ms().is_some()
    }

    fn hold(&mut self, event: Event, now: Now) -> Next {
        match event {
            Event::Renewed => self.stage(Stage::Held { sent_ms: self.sent_ms }),
            Event::Fenced => return self.step_down(Reason::Overtaken, now),
            _ => {}
        }
        if !self.believes(now.boot_ms) {
            return self.step_down(Reason::NotRenewed, now);
        }
        if now.barred {
            return self.step_down(Reason::Barred, now);
        }
        if !now.permits() {
            return self.step_down(Reason::Stuck, now);
        }
        let left_ms = self.believes_until_ms().map_or(0, |until| until - now.boot_ms);
        Next::step(match event {
            Event::Renewed => rest(self.timers.period_ms.min(left_ms)),
            Event::Failed => rest(self.rest_of_ms(self.try_again_ms(), now).min(left_ms)),
            _ => Step::Renew,
        })
    }

    fn step_down(&mut self, reason: Reason, now: Now) -> Next {
        match reason {
            Reason::Overtaken => self.claim = None,
            _ => self.stage(Stage::Former),
        }
        if reason == Reason::Stuck && !self.timers.alone {
            self.abstain_until_ms = Some(now.boot_ms + self.timers.lease_ms);
        }
        Next { news: Some(News::SteppedDown(reason)), step: Step::Observe }
    }

    fn seek(&mut self, event: Event, now: Now) -> Next {
        match event {
            Event::Woken => Next::step(Step::Observe),
            Event::Read { row, fresh } => Next::step(self.look(&row, fresh, now)),
            Event::Taken | Event::Renewed => self.begin(now),
            Event::Released | Event::Fenced => {
                self.claim = None;
                Next::step(rest(self.rest_of_ms(self.look_again_ms(), now)))
            }
            // Not even a bid that was beaten is forgotten: it may be its own earlier sending that won.
            Event::Beaten => Next::step(rest(self.rest_of_ms(self.look_again_ms(), now))),
            Event::Failed => {
                if self.observing {
                    // Silence heard since is the database's, not the holder's.
                    self.watch = None;
                }
                Next::step(rest(self.rest_of_ms(self.look_again_ms(), now)))
            }
        }
    }

    fn begin(&mut self, now: Now) -> Next {
        self.watch = None;
        self.stage(Stage::Held { sent_ms: self.sent_ms });
        if !self.believes(now.boot_ms) {
            self.stage(Stage::Former);
            return Next::step(Step::Observe);
        }
        Next { news: Some(News::Leads), step: rest(self.timers.period_ms) }
    }

    fn look(&mut self, row: &Row, fresh: Uuid, now: Now) -> Step {
        let first = !std::mem::replace(&mut self.looked, true);
        let since_ms = self.watch_on(row, now.boot_ms);
        let mine = !row.vacant && self.claim.is_some_and(|c| (c.term, c.token) == (row.term, row.token));
        if !mine && self.claim.is_some_and(|c| c.is_over(row)) {
            self.claim = None;
        }
        if self.abstain_until_ms.is_some_and(|until| now.boot_ms >= until) {
            self.abstain_until_ms = None;
        }
        if !now.permits() || self.abstain_until_ms.is_some() {
            // Nobody need wait for what is not going to be used.
            return if mine { Step::Release } else { rest(self.look_again_ms()) };
        }
        let bid = self.claim.filter(|c| matches!(c.stage, Stage::Bid { .. }));
        if mine && bid.is_some() {
            return Step::Prove;
        }
        let grounds = if self.timers.alone {
            Grounds::Alone
        } else if row.vacant {
            Grounds::Vacant
        } else if mine {
            Grounds::Mine
        } else if now.boot_ms - since_ms >= row.lease_ms {
            Grounds::Expired
        } else if first && row.age_ms > 2 * row.lease_ms {
            Grounds::ColdStart
        } else {
            return rest(self.look_again_ms());
        };
        let stage = Stage::Bid { beat: row.beat };
        // The same bid again: were it another, the first could win behind our back and its token be unknown.
        let again = bid.filter(|c| c.term == row.term + 1 && c.stage == stage);
        let token = again.map_or(fresh, |c| c.token);
        self.claim = Some(Claim { term: row.term + 1, token, stage });
        Step::Take { token, grounds }
    }

    /// Since when the row is seen unchanged. A gap between reads proves nothing about the holder: the database
    /// may have been away for both.
    fn watch_on(&mut self, row: &Row, boot_ms: i64) -> i64 {
        let gap_ms = self.timers.period_ms + self.timers.op_ms;
        let going_on =
            self.watch.filter(|w| (w.term, w.beat) == (row.term, row.beat) && boot_ms - w.read_ms <= gap_ms);
        let since_ms = going_on.map_or(boot_ms, |w| w.since_ms);
        self.watch = Some(Watch { term: row.term, beat: row.beat, since_ms, read_ms: boot_ms });
        since_ms
    }

    fn stage(&mut self, stage: Stage) {
        if let Some(claim) = &mut self.claim {
            claim.stage = stage;
        }
    }

    /// A holder that is alone renews seldom, and yet need not wait long to try again.
    fn try_again_ms(&self) -> i64 {
        self.timers.period_ms.min(Timers::SHARED.period_ms)
    }

    /// Candidates look twice in a period: a lease that is given back is taken within it, however the looks fall.
    fn look_again_ms(&self) -> i64 {
        self.try_again_ms() / 2
    }

    /// What a slow operation took of a rest is not waited for again.
    fn rest_of_ms(&self, rest_ms: i64, now: Now) -> i64 {
        (rest_ms - (now.boot_ms - self.sent_ms)).max(0)
    }
}

impl Claim {
    /// Whether the row, which does not show it, has gone past it for good. A row from before it is a stale
    /// read, or a database that was set back: the claim may yet show up.
    fn is_over(&self, row: &Row) -> bool {
        match self.stage {
            Stage::Bid { beat } => (row.term, row.beat) > (self.term - 1, beat),
            _ => row.term >= self.term,
        }
    }
}

fn rest(for_ms: i64) -> Step {
    Step::Rest { for_ms }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
