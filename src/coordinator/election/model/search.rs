//! The search: breadth first, so that the first way to a sight is a shortest one.

use super::*;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// What a search came to.
pub(super) struct Found {
    /// Different worlds.
    pub(super) worlds: usize,
    /// Whether there was no other.
    pub(super) complete: bool,
    /// Everything seen, each with a shortest way to it.
    pub(super) sights: BTreeMap<Sight, Vec<Action>>,
    /// The most ticks without any fault until exactly one replica leads.
    pub(super) longest: u32,
}

impl Found {
    /// The first thing that must never be, and how it came about.
    pub(super) fn broken(&self) -> Option<(&Sight, &Vec<Action>)> {
        self.sights.iter().find(|(sight, _)| matches!(sight, Sight::Broken(_)))
    }
}

/// When to stop before everything was tried.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// After so many worlds.
    Worlds(usize),
    /// When this is seen.
    Seen(Sight),
}

pub(super) fn search<const N: usize>(plan: &Plan, until: Until) -> Found {
    let mut found = Found { worlds: 0, complete: false, sights: BTreeMap::new(), longest: 0 };
    let first = World::<N>::new(plan).canonical(plan);
    let mut known = HashMap::from([(first.fingerprint(), None)]);
    let mut waits = HashMap::new();
    let mut queue = VecDeque::from([first]);
    let (mut actions, mut seen) = (Vec::new(), Vec::new());
    while let Some(world) = queue.pop_front() {
        found.worlds += 1;
        if matches!(until, Until::Worlds(most) if found.worlds >= most) {
            return found;
        }
        let from = world.fingerprint();
        if plan.fence == Fence::Write {
            found.longest = found.longest.max(wait(world, plan, &mut waits));
        }
        actions.clear();
        world.actions(plan, &mut actions);
        for action in &actions {
            let mut next = world;
            seen.clear();
            next.apply(*action, plan, &mut seen);
            for sight in &seen {
                found.sights.entry(*sight).or_insert_with(|| way(&known, from, *action));
                if matches!(until, Until::Seen(wanted) if wanted == *sight) {
                    return found;
                }
            }
            let next = next.canonical(plan);
            if let Entry::Vacant(entry) = known.entry(next.fingerprint()) {
                entry.insert(Some((from, *action)));
                queue.push_back(next);
            }
        }
    }
    found.complete = true;
    found
}

fn way(known: &HashMap<u64, Option<(u64, Action)>>, mut from: u64, last: Action) -> Vec<Action> {
    let mut way = vec![last];
    while let Some(Some((before, action))) = known.get(&from) {
        way.push(*action);
        from = *before;
    }
    way.reverse();
    way
}

/// Ticks until exactly one leads, if from now on nothing goes wrong.
fn wait<const N: usize>(mut world: World<N>, plan: &Plan, waits: &mut HashMap<u64, u32>) -> u32 {
    let mut on_the_way = Vec::new();
    let known = loop {
        world = world.calmed(plan).canonical(plan);
        let at = world.fingerprint();
        if let Some(known) = waits.get(&at) {
            break *known;
        }
        on_the_way.push(at);
        if world.is_led() {
            break 0;
        }
        assert!(on_the_way.len() < 100, "nobody leads: {world:#?}");
        world.apply(Action::Tick, plan, &mut Vec::new());
    };
    let led = u32::from(world.is_led());
    let mut ticks = known;
    for (n, at) in on_the_way.into_iter().rev().enumerate() {
        ticks = known + n as u32 + (1 - led);
        waits.insert(at, ticks);
    }
    ticks
}

impl<const N: usize> World<N> {
    /// What was on its way takes effect, nobody is paused, and every answer comes at once.
    fn calmed(mut self, plan: &Plan) -> Self {
        let seen = &mut Vec::new();
        for i in 0..N {
            self.apply(Action::Haunt(i), plan, seen);
            self.apply(Action::Commit(i), plan, seen);
            if self.replicas[i].paused {
                self.apply(Action::Resume(i), plan, seen);
            }
        }
        while let Some(i) = self.replicas.iter().position(|r| r.op.is_some()) {
            if self.replicas[i].op.is_some_and(|op| op.reply.is_none()) {
                self.apply(Action::Arrive(i), plan, seen);
            }
            self.apply(Action::Answer(i), plan, seen);
        }
        self
    }

    fn is_led(&self) -> bool {
        let mut believers = self.replicas.iter().filter(|r| r.election.believes(0));
        let row = self.db.row;
        let holds =
            |r: &Replica| r.election.claim.is_some_and(|c| (c.term, c.token) == (row.term, row.token));
        believers.next().is_some_and(holds) && believers.next().is_none() && !row.vacant
    }
}
