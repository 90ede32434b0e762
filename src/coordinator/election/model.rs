//! Every order of events around two or three replicas and one row, tried on the very state machine that runs
//! in production. A world is the replicas, what they have sent, and the row; an action is one thing that may
//! happen next. `search` tries all of them from every world that can be reached, in `tests`.
//!
//! What may happen: requests are answered, lost, lost after they took effect, or take effect long after they
//! were given up; processes crash, are paused anywhere and go on later, or end in order; a clock runs 30 %
//! slow; a fail-over forgets the last commits. A coordinator's transaction may be committed any length of time
//! after it was begun in good faith, and anything may happen between what it read then and the fence, which is its
//! last statement. (From the fence to the commit the row is locked, so those two are one action.)
//!
//! Time is counted in ticks of one period. A replica that is not paused does what is due before the next tick.

mod canon;
mod search;
mod tests;
mod world;

use super::*;

/// In a tick, a clock that is right counts 10.
const TICK: i64 = 10;

/// The relations of [`Timers::SHARED`], scaled: V may run at 70 % of L's speed and is still over first.
const TIMERS: Timers = Timers { period_ms: 10, op_ms: 10, valid_ms: 33, lease_ms: 50, alone: false };

/// Commits that a fail-over may forget.
const FORGETS: usize = 2;

/// What is tried, and what is left out of the protocol to see that the search finds it.
#[derive(Debug, Clone, Copy)]
struct Plan {
    timers: Timers,
    fence: Fence,
    /// Crashes, pauses, orderly ends and lost messages; None: any number.
    faults: Option<u8>,
    /// What each clock counts in a tick.
    rates: [i64; 3],
    failover: bool,
    /// Whether what is not lost is answered within the tick.
    prompt: bool,
    /// Whether the row's age is kept, which a process looks at that has just started.
    ages: bool,
}

/// How a coordinator's transaction makes sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fence {
    /// As it is: a write under term and token.
    Write,
    /// A write under the term alone.
    TermOnly,
    /// A read under term and token, and later the write.
    Read,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Request {
    Observe,
    Take { term: i64, beat: i64, token: Uuid },
    Fence { term: i64, token: Uuid },
    Release { term: i64, token: Uuid },
}

/// An operation on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Op {
    request: Request,
    /// By the clock of the replica.
    age: i64,
    /// Done, and the answer is on its way back.
    reply: Option<Event>,
}

/// A coordinator's transaction on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Work {
    term: i64,
    token: Uuid,
    checked: bool,
    /// Another's was committed since this one read what it decides by.
    overlooks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Replica {
    /// Its clock is always at 0, and the past behind it.
    election: Election,
    wake_in: i64,
    op: Option<Op>,
    /// Given up by the replica, and not yet by the network.
    ghost: Option<Request>,
    work: Option<Work>,
    paused: bool,
}

/// The row, and the last (term, token) under which a coordinator's transaction was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Db {
    row: Row,
    last: Option<(i64, Uuid)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct World<const N: usize> {
    db: Db,
    /// Where a fail-over may go back to; nothing once it happened.
    past: [Option<Db>; FORGETS],
    failover: bool,
    faults: Option<u8>,
    replicas: [Replica; N],
}

/// What may happen next. The number is the replica's place, and places may be exchanged after each action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Tick,
    /// The request takes effect.
    Arrive(usize),
    /// The answer is received.
    Answer(usize),
    /// The connection breaks, or the time is over; what was not done yet may still be.
    Fail(usize),
    /// What was given up takes effect.
    Haunt(usize),
    Begin(usize),
    Check(usize),
    Commit(usize),
    Crash(usize),
    End(usize),
    Pause(usize),
    Resume(usize),
    FailOver(usize),
}

/// Things worth having reached, and things that must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sight {
    Taken(&'static str),
    Proven,
    StaleWorkRefused,
    LateBidWon,
    SteppedDown(&'static str),
    Broken(&'static str),
}

const MIXED: Sight = Sight::Broken("two tokens wrote in one term");
const BACKWARDS: Sight = Sight::Broken("a term went back");
const STALE: Sight = Sight::Broken("a stale holder wrote");
const OVERLOOKED: Sight = Sight::Broken("decided by what another has changed since");
const OVERLAP: Sight = Sight::Broken("two replicas believed at once");

const NOW: Now = Now { boot_ms: 0, evaluation_age_ms: 0, barred: false };

impl<const N: usize> World<N> {
    fn new(plan: &Plan) -> Self {
        let row = Row {
            term: 0,
            beat: 0,
            vacant: true,
            token: Uuid::nil(),
            lease_ms: plan.timers.lease_ms,
            age_ms: 0,
        };
        let replica = Replica {
            election: Election::new(plan.timers),
            wake_in: 0,
            op: None,
            ghost: None,
            work: None,
            paused: false,
        };
        let db = Db { row, last: None };
        let mut world = Self {
            db,
            past: [None; FORGETS],
            failover: plan.failover,
            faults: plan.faults,
            replicas: [replica; N],
        };
        for i in 0..N {
            world.feed(i, Event::Woken, &mut Vec::new());
        }
        world
    }

    fn actions(&self, plan: &Plan, out: &mut Vec<Action>) {
        use Action::*;
        let faulty = self.faults != Some(0);
        let mut calm = true;
        for (i, r) in self.replicas.iter().enumerate() {
            if let Some(op) = r.op {
                calm &= r.paused || !plan.prompt && op.age < plan.timers.op_ms;
                match op.reply {
                    None => out.push(Arrive(i)),
                    Some(_) if !r.paused => out.push(Answer(i)),
                    Some(_) => {}
                }
                if !r.paused && faulty {
                    out.push(Fail(i));
                }
            }
            if r.ghost.is_some() {
                out.push(Haunt(i));
            }
            match r.work {
                None if !r.paused && r.election.believes(0) => out.push(Begin(i)),
                None => {}
                Some(work) if plan.fence == Fence::Read && !work.checked => out.push(Check(i)),
                Some(_) => out.push(Commit(i)),
            }
            if faulty {
                out.extend([Crash(i), if r.paused { Resume(i) } else { Pause(i) }]);
                if !r.paused && r.op.is_none() {
                    out.push(End(i));
                }
            } else if r.paused {
                out.push(Resume(i));
            }
        }
        if calm {
            out.push(Tick);
        }
        for (n, past) in self.past.iter().enumerate() {
            if past.is_some() {
                out.push(FailOver(n));
            }
        }
    }
}
