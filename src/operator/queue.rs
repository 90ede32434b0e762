//! Which objects are sent to have their status shown, and when. Pure; time is an argument.
//!
//! Promises: what changed in kind goes first; mere times of one object go at most so often, the longest waiting first,
//! and through a bucket. Only so many are on their way at a time, so that an object whose spec is new, which does not
//! come through here, never waits behind thousands of refreshes.

use super::bucket::Bucket;
use std::collections::HashMap;

/// Objects that may be on their way at a time.
const WINDOW: usize = 64;
/// One that is not heard of again for so long is on its way no more.
const FORGOTTEN_MS: i64 = 30_000;

/// An object that is to be looked at: its uid, and what sends it.
pub(super) type Due<T> = (String, T);

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

    /// Forgets the objects that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.shown.retain(|uid, _| is_there(uid));
    }

    /// Those to send now, and how many are left; `sent`: what is on its way, and since when.
    pub(super) fn take<T>(
        &mut self,
        sent: &mut HashMap<String, i64>,
        transitions: Vec<Due<T>>,
        mut times: Vec<Due<T>>,
        boot_ms: i64,
    ) -> (Vec<T>, usize) {
        let all = transitions.len() + times.len();
        sent.retain(|_, since_ms| *since_ms + FORGOTTEN_MS > boot_ms);
        times.sort_by_key(|(uid, _)| self.shown.get(uid).copied().unwrap_or(i64::MIN));
        let first = transitions.len();
        let (mut chosen, mut gone) = (Vec::new(), 0);
        for (n, (uid, due)) in transitions.into_iter().chain(times).enumerate() {
            if sent.contains_key(&uid) {
                gone += 1;
                continue;
            }
            if sent.len() >= WINDOW || (n >= first && !self.bucket.take(boot_ms)) {
                break;
            }
            gone += 1;
            sent.insert(uid.clone(), boot_ms);
            self.shown.insert(uid, boot_ms);
            chosen.push(due);
        }
        (chosen, all - gone)
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
        queue.take(&mut HashMap::new(), transitions, times, at_ms).0
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
        let (first, left) = queue.take(&mut sent, due(0..200), due(200..300), 0);
        assert_eq!((first.len(), left), (WINDOW, 300 - WINDOW));
        assert_eq!(queue.take(&mut sent, due(0..200), vec![], 1).0.len(), 0);
        sent.remove("u7");
        assert_eq!(queue.take(&mut sent, due(64..200), vec![], 2).0, [64]);
        let (again, _) = queue.take(&mut sent, due(0..200), vec![], FORGOTTEN_MS);
        assert_eq!(again.len(), WINDOW - 1, "all but the one that was sent later");
    }
}
