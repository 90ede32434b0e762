//! GoTel's own outages: intervals in which no check-in could be accepted.
//!
//! Promises: a deadline that fell while GoTel could not listen is moved to a moment by which the job could have
//! checked in again (design 2.3); no deadline is ever moved back. Deadlines before the outage stay: those jobs were
//! late already. A gap of the evaluator alone is no outage and moves nothing, as check-ins were accepted.

use super::duration::MINUTE_MS;

/// `[from_ms, to_ms]`, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// The last moment GoTel was known to accept check-ins.
    pub from_ms: i64,
    /// The first moment it was known to accept them again.
    pub to_ms: i64,
}

/// A silence of the database's `alive` mark longer than this is an outage, in milliseconds.
pub const OUTAGE_AFTER_MS: i64 = 30_000;
/// Longest time a job is given after an outage, in milliseconds.
pub const OUTAGE_GRACE_MS: i64 = 10 * MINUTE_MS;

/// Moves a deadline that lies inside an outage (oldest first) to `to + min(period, 10 min) + grace`; says which outage moved it last.
///
/// A moved deadline may fall into the next outage and is then moved again.
pub fn shift(deadline_ms: i64, period_ms: i64, grace_ms: i64, outages: &[Outage]) -> (i64, Option<Outage>) {
    let again = period_ms.clamp(0, OUTAGE_GRACE_MS).saturating_add(grace_ms.max(0));
    outages.iter().fold((deadline_ms, None), |(deadline, by), outage| {
        if (outage.from_ms..=outage.to_ms).contains(&deadline) {
            (outage.to_ms.saturating_add(again), Some(*outage))
        } else {
            (deadline, by)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const FIRST: Outage = Outage { from_ms: 1_000_000, to_ms: 2_000_000 };
    const SECOND: Outage = Outage { from_ms: 2_050_000, to_ms: 3_000_000 };

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
        assert_eq!(shift(deadline, 60_000, 0, &[FIRST]), (moved, by));
    }

    #[test]
    fn a_minutely_job_gets_a_minute_and_a_daily_one_ten() {
        assert_eq!(shift(1_500_000, 60_000, 5_000, &[FIRST]).0, 2_065_000);
        assert_eq!(shift(1_500_000, 86_400_000, 5_000, &[FIRST]).0, 2_605_000);
    }

    #[test]
    fn a_moved_deadline_may_be_moved_again() {
        assert_eq!(shift(1_500_000, 60_000, 0, &[FIRST, SECOND]), (3_060_000, Some(SECOND)));
        assert_eq!(shift(1_500_000, 10_000, 0, &[FIRST, SECOND]), (2_010_000, Some(FIRST)));
    }

    #[test]
    fn nothing_overflows() {
        let forever = Outage { from_ms: 0, to_ms: i64::MAX };
        assert_eq!(shift(5, i64::MAX, i64::MAX, &[forever]).0, i64::MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_deadline_is_moved_back(
            deadline in 0..10_000_000i64, period in 10_000..100_000_000i64, grace in 0..1_000_000i64,
            ends in proptest::collection::vec((0..10_000_000i64, 0..1_000_000i64), 0..4),
        ) {
            let outages: Vec<Outage> =
                ends.iter().map(|(from, long)| Outage { from_ms: *from, to_ms: from + long }).collect();
            let (moved, by) = shift(deadline, period, grace, &outages);
            prop_assert!(moved >= deadline);
            prop_assert_eq!(by.is_none(), moved == deadline);
        }
    }
}
