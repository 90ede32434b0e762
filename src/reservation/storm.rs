//! When many notices for one target become one digest (design 3.4).
//!
//! Promises: a person gets at most ten single notices in any half minute, and no notice is dropped: what does not
//! go alone goes in the digest. A single waiting notice always goes alone, as a digest of one would only be vaguer.

/// Length of the sliding window of the rule, in milliseconds.
pub const WINDOW_MS: i64 = 30_000;
/// More than this many in a window become one digest.
pub const LIMIT: usize = 10;

/// What to do with the notices waiting for one (alerter, recipient).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// send each
    Each,
    /// fold all that wait into one
    Digest,
}

/// `sent_in_window` were sent in the last 30 s, `waiting` are due now.
pub fn plan(sent_in_window: usize, waiting: usize) -> Plan {
    if waiting >= 2 && sent_in_window.saturating_add(waiting) > LIMIT { Plan::Digest } else { Plan::Each }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing(0, 0, Plan::Each)]
    #[case::one(0, 1, Plan::Each)]
    #[case::ten_are_still_single(0, 10, Plan::Each)]
    #[case::eleven_are_a_storm(0, 11, Plan::Digest)]
    #[case::sent_ones_count(9, 1, Plan::Each)]
    #[case::sent_ones_count_too(9, 2, Plan::Digest)]
    #[case::one_more_goes_alone(500, 1, Plan::Each)]
    #[case::no_overflow(usize::MAX, usize::MAX, Plan::Digest)]
    fn more_than_ten_in_half_a_minute_become_one(
        #[case] sent: usize,
        #[case] waiting: usize,
        #[case] expected: Plan,
    ) {
        assert_eq!(plan(sent, waiting), expected);
    }
}
