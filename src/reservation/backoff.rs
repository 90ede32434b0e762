//! When an undelivered notice is tried again: 5 s, 15 s, 30 s, 1 min, 2 min, then each 5 min, until 24 h (design 3.4).
//!
//! Promises: the wait never exceeds 10 minutes, so a receiver that comes back is noticed soon; a notice is never
//! given up before it is 24 hours old. Does not draw random numbers: the caller hands in the jitter.

use super::duration::{DAY_MS, MINUTE_MS, SECOND_MS};

/// Waits after the first, second, … failed try; the last one repeats.
const WAITS_MS: [i64; 6] =
    [5 * SECOND_MS, 15 * SECOND_MS, 30 * SECOND_MS, MINUTE_MS, 2 * MINUTE_MS, 5 * MINUTE_MS];
/// A notice of this age is given up.
pub const GIVE_UP_MS: i64 = DAY_MS;
/// The longest a receiver's `Retry-After` is obeyed.
pub const RETRY_AFTER_MAX_MS: i64 = 10 * MINUTE_MS;

/// After `attempts` failed tries, the wait before the next; None = give up (dead letter). `age_ms` is the row's age, `retry_after_ms` what the
/// receiver asked for (obeyed up to 10 min), `jitter` in [0, 1) spreads by ±20 %.
pub fn next_try_ms(attempts: i64, age_ms: i64, retry_after_ms: Option<i64>, jitter: f64) -> Option<i64> {
    if age_ms >= GIVE_UP_MS {
        return None;
    }
    let last = WAITS_MS.len() - 1;
    let step = usize::try_from(attempts.saturating_sub(1).max(0)).unwrap_or(last).min(last);
    // `clamp` keeps a NaN, so a jitter that is no number counts as the middle.
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.5 };
    let spread = (WAITS_MS[step] as f64 * (0.8 + 0.4 * jitter)) as i64;
    Some(spread.max(retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MAX_MS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case(1, 5_000)]
    #[case(2, 15_000)]
    #[case(3, 30_000)]
    #[case(4, 60_000)]
    #[case(5, 120_000)]
    #[case(6, 300_000)]
    #[case(7, 300_000)]
    #[case(i64::MAX, 300_000)]
    #[case(0, 5_000)]
    #[case(-3, 5_000)]
    fn waits_grow_to_five_minutes(#[case] attempts: i64, #[case] wait: i64) {
        assert_eq!(next_try_ms(attempts, 0, None, 0.5), Some(wait));
    }

    #[test]
    fn a_notice_is_given_up_after_a_day_and_not_before() {
        assert!(next_try_ms(300, GIVE_UP_MS - 1, None, 0.0).is_some());
        assert_eq!(next_try_ms(300, GIVE_UP_MS, None, 0.0), None);
    }

    #[rstest]
    #[case(Some(60_000), 60_000)]
    #[case(Some(1), 5_000)]
    #[case(Some(-1), 5_000)]
    #[case(Some(i64::MAX), 600_000)]
    fn retry_after_is_obeyed_up_to_ten_minutes(#[case] asked: Option<i64>, #[case] wait: i64) {
        assert_eq!(next_try_ms(1, 0, asked, 0.5), Some(wait));
    }

    #[test]
    fn jitter_spreads_by_a_fifth() {
        assert_eq!(next_try_ms(6, 0, None, 0.0), Some(240_000));
        assert_eq!(next_try_ms(6, 0, None, 1.0), Some(360_000));
        assert_eq!(next_try_ms(6, 0, None, f64::NAN), Some(300_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn a_wait_is_always_between_four_seconds_and_ten_minutes(
            attempts: i64, age in 0..GIVE_UP_MS, asked: Option<i64>, jitter: f64,
        ) {
            let wait = next_try_ms(attempts, age, asked, jitter).unwrap();
            prop_assert!((4_000..=RETRY_AFTER_MAX_MS).contains(&wait));
        }
    }
}
