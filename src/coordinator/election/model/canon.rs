//! Worlds that differ in nothing that matters are made equal, so that there are finitely many of them
//! although time, terms, beats and tokens go on for ever.
//!
//! What matters of a time is its distance from now, up to the longest that a rule asks for; of a term or a
//! beat, its order among the others and which of them follow one another; of a token, which others are equal.

use super::*;
use std::hash::{Hash, Hasher};

enum Part<'a> {
    Term(&'a mut i64),
    Beat(&'a mut i64),
    Token(&'a mut Uuid),
}

/// A hasher for words. The standard one takes most of the time of a search that is not optimised.
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        // SplitMix64, once a word.
        let mut z = (self.0.rotate_left(23) ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = z ^ (z >> 31);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        rest.iter().for_each(|byte| self.mix((*byte).into()));
    }

    fn write_u8(&mut self, n: u8) {
        self.mix(n.into());
    }

    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    fn write_i64(&mut self, n: i64) {
        self.mix(n.cast_unsigned());
    }

    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.mix(n as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a value stands for from now on.
type Names = Vec<(i64, i64)>;

/// Where the numbering of what may still come begins.
const BASE: i64 = 1000;

impl Election {
    /// Lets time pass: now is 0 again.
    pub(super) fn pass(&mut self, ms: i64) {
        let t = self.timers;
        if let Some(watch) = &mut self.watch {
            watch.since_ms = (watch.since_ms - ms).max(-t.lease_ms);
            watch.read_ms -= ms;
        }
        // A gap that is too long breaks the watch, however long it is.
        self.watch = self.watch.filter(|w| -w.read_ms <= t.period_ms + t.op_ms);
        self.sent_ms = (self.sent_ms - ms).max(-t.valid_ms);
        if let Some(Claim { stage: Stage::Held { sent_ms }, .. }) = &mut self.claim {
            *sent_ms = (*sent_ms - ms).max(-t.valid_ms);
        }
    }
}

impl<const N: usize> World<N> {
    /// The same world in its plainest form.
    pub(super) fn canonical(mut self, plan: &Plan) -> Self {
        self.forget();
        if plan.rates == [plan.rates[0]; 3] {
            self.replicas.sort_by_cached_key(Replica::looks);
        }
        let live = || std::iter::once(&self.db).chain(self.past.iter().flatten()).map(|db| db.row);
        let term = live().map(|row| row.term).min().unwrap_or(0);
        let beat = live().map(|row| row.beat).min().unwrap_or(0);
        let (mut terms, mut beats, mut tokens) = (Vec::new(), Vec::new(), vec![Uuid::nil()]);
        self.each(&mut |part| match part {
            Part::Term(n) => terms.push(*n),
            Part::Beat(n) => beats.push(*n),
            Part::Token(token) if !tokens.contains(token) => tokens.push(*token),
            Part::Token(_) => {}
        });
        let (terms, beats) = (names(terms, term), names(beats, beat));
        self.each(&mut |part| match part {
            Part::Term(n) => *n = named(&terms, *n),
            Part::Beat(n) => *n = named(&beats, *n),
            Part::Token(token) => {
                let n = tokens.iter().position(|t| t == token).unwrap_or(0);
                *token = Uuid::from_u128(n as u128);
            }
        });
        self
    }

    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = Mixer(0);
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// A token that is nowhere to be found.
    pub(super) fn fresh(&self) -> Uuid {
        let mut highest = 0;
        let mut world = *self;
        world.each(&mut |part| {
            if let Part::Token(token) = part {
                highest = highest.max(token.as_u128());
            }
        });
        Uuid::from_u128(highest + 1)
    }

    /// Forgets what can have no effect any more.
    fn forget(&mut self) {
        let live: Vec<Row> =
            std::iter::once(&self.db).chain(self.past.iter().flatten()).map(|db| db.row).collect();
        let gone = |term: i64, beat: i64| live.iter().all(|row| (term, beat) < (row.term, row.beat));
        for r in &mut self.replicas {
            let t = r.election.timers;
            r.wake_in = r.wake_in.max(0);
            match &mut r.op {
                Some(op) => op.age = op.age.min(t.op_ms),
                None => (r.election.sent_ms, r.election.observing) = (0, false),
            }
            // A row that is not coming back, unless this very replica is about to read of it.
            let reads = |w: &Watch| match r.op {
                Some(Op { reply: Some(Event::Read { row, .. }), .. }) => {
                    (row.term, row.beat) == (w.term, w.beat)
                }
                _ => false,
            };
            r.election.watch = r.election.watch.filter(|w| reads(w) || !gone(w.term, w.beat));
            let told = |token: Uuid| match r.op {
                Some(Op { reply: Some(Event::Read { row, .. }), .. }) => row.token == token,
                Some(Op { request: Request::Take { token: t, .. }, .. }) => t == token,
                _ => false,
            };
            let haunts = |token: Uuid| matches!(r.ghost, Some(Request::Take { token: t, .. }) if t == token);
            let held = |c: &Claim| matches!(c.stage, Stage::Held { .. });
            // An acquisition that is lost, and of which nothing more will be heard, is as good as none.
            r.election.claim = r.election.claim.filter(|c| {
                held(c)
                    || told(c.token)
                    || haunts(c.token)
                    || live.iter().any(|row| row.token == c.token)
                    || matches!(c.stage, Stage::Bid { beat } if !gone(c.term - 1, beat))
            });
            r.ghost = r.ghost.filter(|ghost| match *ghost {
                Request::Observe => false,
                Request::Take { term, beat, .. } => !gone(term, beat),
                Request::Fence { token, .. } | Request::Release { token, .. } => {
                    let bid = |op: &Op| matches!(op.request, Request::Take { token: t, .. } if t == token);
                    live.iter().any(|row| row.token == token) || r.op.as_ref().is_some_and(bid)
                }
            });
        }
        let last_term = live.iter().map(|row| row.term).min();
        for db in std::iter::once(&mut self.db).chain(self.past.iter_mut().flatten()) {
            // What was written in a term before cannot be mixed up any more.
            db.last = db.last.filter(|(term, _)| last_term.is_some_and(|least| *term >= least));
        }
        let oldest_ms = self.replicas.first().map_or(0, |r| 2 * r.election.timers.lease_ms + 1);
        self.each_row(&mut |row| row.age_ms = row.age_ms.min(oldest_ms));
    }

    fn each_row(&mut self, f: &mut dyn FnMut(&mut Row)) {
        f(&mut self.db.row);
        for db in self.past.iter_mut().flatten() {
            f(&mut db.row);
        }
        for r in &mut self.replicas {
            if let Some(Op { reply: Some(Event::Read { row, .. }), .. }) = &mut r.op {
                f(row);
            }
        }
    }

    fn each(&mut self, f: &mut dyn FnMut(Part<'_>)) {
        self.each_row(&mut |row| {
            f(Part::Term(&mut row.term));
            f(Part::Beat(&mut row.beat));
            f(Part::Token(&mut row.token));
        });
        for db in std::iter::once(&mut self.db).chain(self.past.iter_mut().flatten()) {
            if let Some((term, token)) = &mut db.last {
                f(Part::Term(term));
                f(Part::Token(token));
            }
        }
        for r in &mut self.replicas {
            if let Some(watch) = &mut r.election.watch {
                f(Part::Term(&mut watch.term));
                f(Part::Beat(&mut watch.beat));
            }
            if let Some(claim) = &mut r.election.claim {
                f(Part::Term(&mut claim.term));
                f(Part::Token(&mut claim.token));
                if let Stage::Bid { beat } = &mut claim.stage {
                    f(Part::Beat(beat));
                }
            }
            for request in r.op.as_mut().map(|op| &mut op.request).into_iter().chain(&mut r.ghost) {
                match request {
                    Request::Observe => {}
                    Request::Take { term, beat, token } => {
                        f(Part::Term(term));
                        f(Part::Beat(beat));
                        f(Part::Token(token));
                    }
                    Request::Fence { term, token } | Request::Release { term, token } => {
                        f(Part::Term(term));
                        f(Part::Token(token));
                    }
                }
            }
            if let Some(work) = &mut r.work {
                f(Part::Term(&mut work.term));
                f(Part::Token(&mut work.token));
            }
        }
    }
}

impl Replica {
    /// What sets it apart, whatever its numbers and tokens are called.
    fn looks(&self) -> u64 {
        let Self { election, wake_in, op, ghost, work, paused } = *self;
        let Election { watch, looked, claim, sent_ms, observing, .. } = election;
        let stage = claim.map(|c| match c.stage {
            Stage::Bid { .. } => Stage::Bid { beat: 0 },
            stage => stage,
        });
        let kind = |request: &Request| std::mem::discriminant(request);
        let op =
            op.map(|op| (kind(&op.request), op.age, op.reply.map(|reply| std::mem::discriminant(&reply))));
        let watch = watch.map(|w| (w.since_ms, w.read_ms));
        let mut hasher = Mixer(0);
        (wake_in, op, ghost.as_ref().map(kind), work.is_some(), paused).hash(&mut hasher);
        (watch, looked, stage, sent_ms, observing).hash(&mut hasher);
        hasher.finish()
    }
}

/// Numbers from `base` on keep their distances, as more of them may come; of those below only the order
/// matters, and which follow one another.
fn names(mut values: Vec<i64>, base: i64) -> Names {
    values.push(base);
    values.sort_unstable();
    values.dedup();
    let mut names: Names = values.iter().filter(|v| **v >= base).map(|v| (*v, BASE + v - base)).collect();
    let (mut above, mut name) = (base, BASE);
    for value in values.into_iter().rev().filter(|v| *v < base) {
        name -= (above - value).min(2);
        above = value;
        names.push((value, name));
    }
    names
}

fn named(names: &Names, value: i64) -> i64 {
    names.iter().find(|(v, _)| *v == value).map_or(value, |(_, name)| *name)
}
