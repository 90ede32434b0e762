//! GoTel's own outages: intervals in which no check-in could be accepted.
//!
//! Promises: a deadline that fell while GoTel could not listen is moved to a moment by which the job could have
//! checked in again (design 2.3); no deadline is ever moved back. Deadlines before the outage stay: those jobs were
//! late already. A gap of the evaluator alone is no outage and moves nothing, as check-ins were accepted.
//!
//! A clock that jumped forward is an outage of another kind: the time it jumped over never was, so nobody could check
//! in during it, and what counts from before the jump comes due early by its length.

use super::duration::MINUTE_MS;

/// `[from_ms, to_ms]`, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// The last moment GoTel was known to accept check-ins; of a clock that jumped: what it would show without.
    pub from_ms: i64,
    /// The first moment it was known to accept them again; of a clock that jumped: what it showed instead.
    pub to_ms: i64,
    /// What became of the time in between.
    pub cause: Cause,
}

/// Why jobs could not check in between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nobody could listen to them.
    Away,
    /// There was no such time: the database's clock jumped forward over it.
    ClockJump,
}

impl Cause {
    /// The database's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::ClockJump => "clock_jump",
        }
    }

    /// Reads it back; a word of a later version means no more than that nobody could listen.
    pub fn parse(text: &str) -> Self {
        if text == Self::ClockJump.as_str() { Self::ClockJump } else { Self::Away }
    }
}

/// A silence of the database's `alive` mark longer than this is an outage, in milliseconds.
pub const OUTAGE_AFTER_MS: i64 = 30_000;
/// Longest time a job is given after an outage, in milliseconds.
pub const OUTAGE_GRACE_MS: i64 = 10 * MINUTE_MS;
/// The database's clock has jumped when it is further off than this, in milliseconds.
pub const CLOCK_JUMP_MS: i64 = 5000;

impl Outage {
    /// One in which nobody could listen.
    pub const fn away(from_ms: i64, to_ms: i64) -> Self {
        Self { from_ms, to_ms, cause: Cause::Away }
    }

    /// A jump of the clock to `to_ms`, where it should have shown `from_ms`.
    pub const fn clock_jump(from_ms: i64, to_ms: i64) -> Self {
        Self { from_ms, to_ms, cause: Cause::ClockJump }
    }

    /// How long after its end jobs that were to check in during it may still be waited for.
    pub fn patience_ms(&self) -> i64 {
        match self.cause {
            Cause::Away => OUTAGE_GRACE_MS,
            Cause::ClockJump => self.to_ms.saturating_sub(self.from_ms).clamp(0, OUTAGE_GRACE_MS),
        }
    }

    /// Where a deadline that counts from `since_ms` goes, if it moves; `again_ms`: the time to run once more.
    fn moves(&self, since_ms: i64, deadline_ms: i64, again_ms: i64) -> Option<i64> {
        let inside = (self.from_ms..=self.to_ms).contains(&deadline_ms);
        let behind = inside.then(|| self.to_ms.saturating_add(again_ms));
        // What counts from before a jump comes too early by it, also behind it. No more than ten minutes are given
        // for that: it may be this clock that is right now.
        let early = self.cause == Cause::ClockJump && since_ms <= self.from_ms && deadline_ms >= self.from_ms;
        let held = early.then(|| {
            let jump_ms = self.to_ms.saturating_sub(self.from_ms);
            deadline_ms
                .saturating_add(jump_ms)
                .min(deadline_ms.max(self.to_ms).saturating_add(OUTAGE_GRACE_MS))
        });
        behind.max(held).filter(|moved| *moved > deadline_ms)
    }
}

/// Moves a deadline that lies inside an outage (oldest first) to `to + min(period, 10 min) + grace`, and one that
/// counts from `since_ms`, before a jump of the clock, by the jump (10 min at most); says which one moved it last.
///
/// A moved deadline may fall into the next outage and is then moved again.
pub fn shift(
    since_ms: i64,
    deadline_ms: i64,
    period_ms: i64,
    grace_ms: i64,
    outages: &[Outage],
) -> (i64, Option<Outage>) {
    let again_ms = period_ms.clamp(0, OUTAGE_GRACE_MS).saturating_add(grace_ms.max(0));
    outages.iter().fold((deadline_ms, None), |(deadline, by), outage| {
        match outage.moves(since_ms, deadline, again_ms) {
            Some(moved) => (moved, Some(*outage)),
            None => (deadline, by),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const FIRST: Outage = Outage::away(1_000_000, 2_000_000);
    const SECOND: Outage = Outage::away(2_050_000, 3_000_000);

    #[rstest]
    #[case::late_already(999_999, 999_999, None)]
    #[case::at_its_start(1_000_000, 2_060_000, Some(FIRST))]
    #[case::inside(1_500_000, 2_060_000, Some(FIRST))]
    #[case::at_its_end(2_000_000, 2_060_000, Some(FIRST))]
    #[case::after_it(2_000_001, 2_000_001, None)]
    fn a_deadline_inside_an_outage_moves_behind_it(
        #[case] deadline: i64,
        #[case] moved: i64,
        #[case] by: Option<Outage>,
    ) {
        assert_eq!(shift(0, deadline, 60_000, 0, &[FIRST]), (moved, by));
    }

    #[test]
    fn a_minutely_job_gets_a_minute_and_a_daily_one_ten() {
        assert_eq!(shift(0, 1_500_000, 60_000, 5_000, &[FIRST]).0, 2_065_000);
        assert_eq!(shift(0, 1_500_000, 86_400_000, 5_000, &[FIRST]).0, 2_605_000);
    }

    #[test]
    fn a_moved_deadline_may_be_moved_again() {
        assert_eq!(shift(0, 1_500_000, 60_000, 0, &[FIRST, SECOND]), (3_060_000, Some(SECOND)));
        assert_eq!(shift(0, 1_500_000, 10_000, 0, &[FIRST, SECOND]), (2_010_000, Some(FIRST)));
    }

    #[test]
    fn nothing_overflows() {
        let forever = Outage::away(0, i64::MAX);
        assert_eq!(shift(0, 5, i64::MAX, i64::MAX, &[forever]).0, i64::MAX);
    }

    /// The clock showed 1,000 s and then 1,300 s: five minutes that never were.
    const JUMP: Outage = Outage::clock_jump(1_000_000, 1_300_000);

    #[rstest]
    #[case::late_already(0, 999_999, 3_600_000, 999_999)]
    #[case::inside_by_the_jump(0, 1_100_000, 3_600_000, 1_900_000)]
    #[case::inside_of_a_short_period(990_000, 1_050_000, 60_000, 1_360_000)]
    #[case::behind_by_the_jump(0, 1_400_000, 3_600_000, 1_700_000)]
    #[case::long_after_by_the_jump(0, 90_000_000, 86_400_000, 90_300_000)]
    #[case::counted_from_after_it(1_300_000, 1_400_000, 100_000, 1_400_000)]
    fn what_counts_from_before_a_jump_is_held_for_its_length(
        #[case] since: i64,
        #[case] deadline: i64,
        #[case] period: i64,
        #[case] moved: i64,
    ) {
        assert_eq!(shift(since, deadline, period, 0, &[JUMP]).0, moved);
    }

    #[test]
    fn no_jump_holds_anything_for_more_than_ten_minutes() {
        let hours = Outage::clock_jump(0, 5 * 3_600_000);
        let end = hours.to_ms;
        assert_eq!(shift(-1000, 60_000, 86_400_000, 0, &[hours]).0, end + OUTAGE_GRACE_MS);
        assert_eq!(shift(-1000, end + 60_000, 86_400_000, 0, &[hours]).0, end + 60_000 + OUTAGE_GRACE_MS);
        assert_eq!(hours.patience_ms(), OUTAGE_GRACE_MS);
        assert_eq!(JUMP.patience_ms(), 300_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// A job that is on time by a clock that did not jump is on time by one that did.
        #[test]
        fn a_jump_of_ten_minutes_makes_nobody_late(
            since in 0..5_000_000i64, period in 10_000..100_000_000i64, grace in 0..1_000_000i64,
            tolerance in 1..4i64, jumped_at in 0..5_000_000i64, length in CLOCK_JUMP_MS..=OUTAGE_GRACE_MS,
        ) {
            let jump = Outage::clock_jump(jumped_at, jumped_at + length);
            let deadline = since + period * tolerance + grace;
            prop_assume!(since <= jumped_at && deadline >= jumped_at);
            // The last moment in time, as the clock that jumped shows it.
            prop_assert!(shift(since, deadline, period, grace, &[jump]).0 >= deadline + length);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_deadline_is_moved_back(
            deadline in 0..10_000_000i64, period in 10_000..100_000_000i64, grace in 0..1_000_000i64,
            ends in proptest::collection::vec((0..10_000_000i64, 0..1_000_000i64), 0..4),
        ) {
            let outages: Vec<Outage> =
                ends.iter().map(|(from, long)| Outage::away(*from, from + long)).collect();
            let (moved, by) = shift(0, deadline, period, grace, &outages);
            prop_assert!(moved >= deadline);
            prop_assert_eq!(by.is_none(), moved == deadline);
        }
    }
}
