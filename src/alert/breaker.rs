//! When an alerter that keeps failing is left alone.
//!
//! A pure state machine: closed → open after 5 failures in a row, for 30 s → half-open, which lets one try
//! through → closed or open again. While it is open nothing is claimed, so that notices keep their turn and
//! their number of tries, and another replica may take them.
//!
//! An alerter that is set up wrongly opens it at once and for longer: five wrong passwords a minute lock
//! accounts.

/// Failures in a row that open it (design 3.4).
pub const FAILURES: u32 = 5;
/// How long it stays open then, in milliseconds.
pub const OPEN_MS: i64 = 30_000;
/// How long it stays open for an alerter that is set up wrongly, in milliseconds.
pub const BROKEN_MS: i64 = 300_000;

/// How many tries may be made at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// As many as there are slots.
    Any,
    /// One, to see whether the receiver is back.
    One,
    /// None.
    Nothing,
}

/// The state of one alerter. Times are `clock::boot_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    failures: u32,
    /// Opened because the alerter is set up wrongly.
    broken: bool,
    open_until_ms: Option<i64>,
}

impl Breaker {
    /// What may be tried at `now_ms`. The caller counts tries in flight against [`Allowed::One`].
    pub fn allowed(&self, now_ms: i64) -> Allowed {
        match self.open_until_ms {
            None => Allowed::Any,
            Some(until) if now_ms < until => Allowed::Nothing,
            Some(_) => Allowed::One,
        }
    }

    /// The receiver answered as it should, or refused one notice: it lives.
    pub fn lives(&mut self) {
        *self = Self::default();
    }

    /// A try failed for want of the receiver.
    pub fn fails(&mut self, now_ms: i64) {
        self.failures = self.failures.saturating_add(1);
        // Half-open: the one try settles it.
        if self.failures >= FAILURES || self.open_until_ms.is_some() {
            self.open(now_ms + OPEN_MS);
        }
    }

    /// A try showed that the alerter is set up wrongly.
    pub fn breaks(&mut self, now_ms: i64) {
        self.failures = self.failures.saturating_add(1);
        self.broken = true;
        self.open(now_ms + BROKEN_MS);
    }

    /// Its set-up has changed: where that was what is wrong, one try may show at once whether it still is.
    pub fn mended(&mut self, now_ms: i64) {
        if self.broken {
            self.broken = false;
            self.open_until_ms = Some(now_ms);
        }
    }

    /// Tries that were already under way when it opened must not shorten it.
    fn open(&mut self, until_ms: i64) {
        self.open_until_ms = Some(self.open_until_ms.map_or(until_ms, |earlier| earlier.max(until_ms)));
    }

    /// Whether it is open or half-open.
    pub fn is_open(&self) -> bool {
        self.open_until_ms.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Allowed::{Any, Nothing, One};
    use super::*;
    use rstest::rstest;

    /// `f`ails, `b`reaks, `l`ives, `m`ended: one event per 10 ms; then what is allowed at some time.
    #[rstest]
    #[case::fresh("", 0, Any)]
    #[case::four_failures("ffff", 1_000, Any)]
    #[case::five_failures("fffff", 50 + OPEN_MS - 1, Nothing)]
    #[case::half_open("fffff", 50 + OPEN_MS, One)]
    #[case::a_success_between("ffffl ffff", 1_000, Any)]
    #[case::sixth_in_flight_keeps_it_open("ffffff", 60 + OPEN_MS - 1, Nothing)]
    #[case::success_in_flight_closes("fffffl", 100, Any)]
    #[case::broken_at_once("b", 10 + BROKEN_MS - 1, Nothing)]
    #[case::broken_half_open("b", 10 + BROKEN_MS, One)]
    #[case::broken_is_not_shortened("bf", 10 + BROKEN_MS - 1, Nothing)]
    #[case::repaired("bl", 100, Any)]
    #[case::mended_may_be_tried("bm", 20, One)]
    #[case::mended_and_broken_still("bmb", 30 + BROKEN_MS - 1, Nothing)]
    #[case::mended_and_well("bml", 100, Any)]
    #[case::mended_does_not_bring_a_receiver_back("fffffm", 50 + OPEN_MS - 1, Nothing)]
    #[case::nothing_to_mend("m", 20, Any)]
    fn it_opens_and_closes(#[case] events: &str, #[case] at_ms: i64, #[case] expected: Allowed) {
        let mut breaker = Breaker::default();
        for (n, event) in events.chars().filter(|c| *c != ' ').enumerate() {
            let now_ms = (i64::try_from(n).unwrap() + 1) * 10;
            match event {
                'f' => breaker.fails(now_ms),
                'b' => breaker.breaks(now_ms),
                'm' => breaker.mended(now_ms),
                _ => breaker.lives(),
            }
        }
        assert_eq!(breaker.allowed(at_ms), expected);
    }

    #[test]
    fn a_failed_trial_opens_it_again_for_the_full_time() {
        let mut breaker = Breaker::default();
        (0..5).for_each(|_| breaker.fails(0));
        assert_eq!(breaker.allowed(OPEN_MS), One);
        breaker.fails(OPEN_MS + 1);
        assert_eq!(breaker.allowed(2 * OPEN_MS), Nothing);
        assert_eq!(breaker.allowed(2 * OPEN_MS + 1), One);
        breaker.lives();
        assert!(!breaker.is_open());
    }
}
