//! Which objects are sent to have their status shown, and when. Pure; time is an argument.
//!
//! Promises: what changed in kind goes first; mere times of one object go at most so often, the longest waiting first,
//! and through a bucket. Only so many are on their way at a time, so that an object whose spec is new, which does not
//! come through here, finds room at once, however many others are to be shown.

use super::bucket::Bucket;
use super::context::AT_A_TIME;
use std::collections::{HashMap, VecDeque};

/// Objects that may be on their way at a time: half of those that are looked at at a time.
const WINDOW: usize = AT_A_TIME as usize / 2;
/// One that is not heard of again for so long is on its way no more.
const FORGOTTEN_MS: i64 = 30_000;

/// An object that is to be looked at: its uid, and what sends it.
pub(super) type Due<T> = (String, T);

/// Objects that are still to be sent.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    transitions: VecDeque<Due<T>>,
    times: VecDeque<Due<T>>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { transitions: VecDeque::new(), times: VecDeque::new() }
    }
}

impl<T> Waiting<T> {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.transitions.len() + self.times.len()
    }
}

pub(super) struct Queue {
    bucket: Bucket,
    times_every_ms: i64,
    /// Uid → when its status was last sent to be refreshed.
    shown: HashMap<String, i64>,
}

impl Queue {
    pub(super) fn new(per_second: u32, times_every_ms: i64, boot_ms: i64) -> Self {
        Self { bucket: Bucket::new(per_second, boot_ms), times_every_ms, shown: HashMap::new() }
    }

    /// Whether an object's times may be refreshed again.
    pub(super) fn may_refresh(&self, uid: &str, boot_ms: i64) -> bool {
        self.shown.get(uid).is_none_or(|since_ms| since_ms + self.times_every_ms <= boot_ms)
    }

    /// Forgets the objects that are not there any more; nobody looks at those of `sent`.
    pub(super) fn keep(&mut self, sent: &mut HashMap<String, i64>, is_there: impl Fn(&str) -> bool) {
        self.shown.retain(|uid, _| is_there(uid));
        sent.retain(|uid, _| is_there(uid));
    }

    /// What a look found, in the order in which it is to be sent.
    pub(super) fn line_up<T>(&self, transitions: Vec<Due<T>>, mut times: Vec<Due<T>>) -> Waiting<T> {
        times.sort_by_key(|(uid, _)| self.shown.get(uid).copied().unwrap_or(i64::MIN));
        Waiting { transitions: transitions.into(), times: times.into() }
    }

    /// Those to send now; `sent`: what is on its way, and since when. What is neither chosen nor on its way goes
    /// on waiting.
    pub(super) fn take<T>(
        &mut self,
        sent: &mut HashMap<String, i64>,
        waiting: &mut Waiting<T>,
        boot_ms: i64,
    ) -> Vec<T> {
        sent.retain(|_, since_ms| *since_ms + FORGOTTEN_MS > boot_ms);
        let mut chosen = Vec::new();
        loop {
            let first = !waiting.transitions.is_empty();
            let line = if first { &mut waiting.transitions } else { &mut waiting.times };
            let Some((uid, _)) = line.front() else { break };
            if !sent.contains_key(uid) {
                if sent.len() >= WINDOW || !(first || self.bucket.take(boot_ms)) {
                    break;
                }
                sent.insert(uid.clone(), boot_ms);
                self.shown.insert(uid.clone(), boot_ms);
                chosen.extend(line.pop_front().map(|(_, due)| due));
            } else {
                line.pop_front();
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn due(names: std::ops::Range<usize>) -> Vec<Due<usize>> {
        names.map(|n| (format!("u{n}"), n)).collect()
    }

    /// What is sent, each being looked at before the next look.
    fn looked(
        queue: &mut Queue,
        transitions: Vec<Due<usize>>,
        times: Vec<Due<usize>>,
        at_ms: i64,
    ) -> Vec<usize> {
        let times = times.into_iter().filter(|(uid, _)| queue.may_refresh(uid, at_ms)).collect();
        let mut waiting = queue.line_up(transitions, times);
        queue.take(&mut HashMap::new(), &mut waiting, at_ms)
    }

    #[test]
    fn times_of_an_object_are_refreshed_once_a_minute_and_a_transition_at_once() {
        let mut queue = Queue::new(10, MINUTE, 0);
        assert_eq!(looked(&mut queue, vec![], due(0..1), 0), [0]);
        for at_ms in [1, 2000, MINUTE - 1] {
            assert_eq!(looked(&mut queue, vec![], due(0..1), at_ms), [0usize; 0]);
        }
        assert_eq!(looked(&mut queue, vec![], due(0..1), MINUTE), [0]);
        assert_eq!(looked(&mut queue, due(0..1), vec![], MINUTE + 1), [0]);
        assert_eq!(looked(&mut queue, vec![], due(0..1), 2 * MINUTE), [0usize; 0], "it was shown since");
        assert_eq!(looked(&mut queue, vec![], due(0..1), 2 * MINUTE + 1), [0]);
    }

    #[test]
    fn refreshes_go_through_the_bucket_each_in_its_turn_and_behind_transitions() {
        let mut queue = Queue::new(1, MINUTE, 0);
        let all = || due(0..1000);
        assert_eq!(looked(&mut queue, due(500..503), all(), 0), [500, 501, 502, 0, 1, 2, 3, 4]);
        let mut seen: Vec<usize> = (0..5).collect();
        for second in 1..=120 {
            let now = looked(&mut queue, vec![], all(), second * 1000);
            assert_eq!(now.len(), 1, "at {second} s");
            seen.extend(now);
        }
        // Those of the first seconds may be refreshed again by now, and wait for the others all the same.
        let (count, distinct) = (seen.len(), seen.iter().collect::<std::collections::HashSet<_>>().len());
        assert_eq!((count, distinct), (125, 125));
    }

    #[test]
    fn only_so_many_are_on_their_way_until_they_are_heard_of() {
        let (mut queue, mut sent) = (Queue::new(1000, MINUTE, 0), HashMap::new());
        let mut waiting = queue.line_up(due(0..200), due(200..300));
        let first = queue.take(&mut sent, &mut waiting, 0);
        assert_eq!((first.len(), waiting.len()), (WINDOW, 300 - WINDOW));
        assert_eq!(queue.take(&mut sent, &mut waiting, 1).len(), 0);
        sent.remove("u3");
        assert_eq!(queue.take(&mut sent, &mut waiting, 2), [WINDOW], "the next, without another look");
        assert_eq!(waiting.len(), 299 - WINDOW);
        let again = queue.take(&mut sent, &mut waiting, FORGOTTEN_MS);
        assert_eq!(again.len(), WINDOW - 1, "all but the one that was sent later");
        queue.keep(&mut sent, |_| false);
        let more = queue.take(&mut sent, &mut waiting, FORGOTTEN_MS);
        assert_eq!(more.len(), WINDOW, "those that are gone take no room");
    }

    #[test]
    fn what_is_on_its_way_is_not_sent_again_and_does_not_wait() {
        let (mut queue, mut sent) = (Queue::new(1000, MINUTE, 0), HashMap::new());
        sent.extend(due(0..5).into_iter().map(|(uid, _)| (uid, 0)));
        let mut waiting = queue.line_up(due(3..8), due(0..3));
        assert_eq!(queue.take(&mut sent, &mut waiting, 1), [5, 6, 7]);
        assert_eq!(waiting.len(), 0);
    }
}
