//! What is known about a reservation's runs, and how a signal changes it.
//!
//! Promises: times only grow (`max`), so a duplicate or a signal that arrives out of order never makes a job look
//! worse or older than it is (design 2.2); only `checkins` counts every one. A failure counts until a good run that
//! is not older than it is known. Of an `ok` and a `fail` in the same millisecond the one merged last decides,
//! as that is their order of arrival.

use super::outage::CLOCK_JUMP_MS;

/// Kind of a check-in (design 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalKind {
    /// a run began
    Start,
    /// a run went well
    Ok,
    /// a run went wrong
    Fail,
    /// a note only
    Log,
}

impl SignalKind {
    /// the database's and the wire's word
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Log => "log",
        }
    }

    /// reads it back
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Start, Self::Ok, Self::Fail, Self::Log].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One check-in as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// What it says.
    pub kind: SignalKind,
    /// time of receipt by the database's clock
    pub at_ms: i64,
    /// process exit code, if told
    pub exit_code: Option<u8>,
    /// run id; "" when none was given
    pub rid: String,
}

/// The hot columns of a reservation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// When the reservation (this generation of it) was made.
    pub created_ms: i64,
    /// The newest good run's check-in.
    pub last_ok_ms: Option<i64>,
    /// When the run behind the last `ok` had started (its `start` signal, else the moment of the `ok`).
    pub last_ok_started_ms: Option<i64>,
    /// The newest failure.
    pub last_fail_ms: Option<i64>,
    /// Exit code of the newest failure, if it named one.
    pub last_exit_code: Option<u8>,
    /// Failures since the last good run.
    pub fails: i64,
    /// Last signal of any kind.
    pub last_seen_ms: Option<i64>,
    /// All signals of this generation.
    pub checkins: i64,
    /// Deadlines never fall before this (set by an edit of the schedule, see `deadline::rearm_after_edit`).
    pub rearm_ms: i64,
    /// The snooze asked for last, active or past.
    pub snooze: Option<super::snooze::Snooze>,
}

/// A run that has started and not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// Run id; "" when none was given.
    pub rid: String,
    /// Receipt of its `start`.
    pub started_ms: i64,
}

impl Evidence {
    /// This evidence after one more signal. `run_started_ms` is the start of the run that `signal` ends, if known.
    /// Idempotent in its times (`max`), so duplicates and reordering do no harm; only `checkins` counts them.
    pub fn merge(&mut self, signal: &Signal, run_started_ms: Option<i64>) {
        let at = signal.at_ms;
        self.last_seen_ms = self.last_seen_ms.max(Some(at));
        self.checkins = self.checkins.saturating_add(1);
        match signal.kind {
            SignalKind::Start | SignalKind::Log => {}
            SignalKind::Ok => {
                if self.last_ok_ms.is_none_or(|newest| at >= newest) {
                    self.last_ok_ms = Some(at);
                    self.last_ok_started_ms = Some(run_started_ms.unwrap_or(at).min(at));
                }
                if self.last_fail_ms.is_none_or(|fail| at >= fail) {
                    self.fails = 0;
                }
            }
            SignalKind::Fail => {
                if self.last_fail_ms.is_none_or(|newest| at >= newest) {
                    self.last_fail_ms = Some(at);
                    self.last_exit_code = signal.exit_code;
                }
                if self.last_ok_ms.is_none_or(|ok| at >= ok) {
                    self.fails = self.fails.saturating_add(1);
                }
            }
        }
    }

    /// Moments further ahead of `now_ms` than a clock may be off become `to_ms`: they were written before the
    /// database's clock was set back, and would make whatever comes next look old. True: there were some.
    pub fn clamp(&mut self, now_ms: i64, to_ms: i64) -> bool {
        let limit_ms = now_ms.saturating_add(CLOCK_JUMP_MS);
        let moments = [
            &mut self.last_ok_ms,
            &mut self.last_ok_started_ms,
            &mut self.last_fail_ms,
            &mut self.last_seen_ms,
        ];
        let mut any = false;
        for ms in moments.into_iter().flatten().filter(|ms| **ms > limit_ms) {
            *ms = to_ms;
            any = true;
        }
        any
    }

    /// Whether the newest run that ended went wrong.
    pub fn failing(&self) -> bool {
        self.fails > 0 && self.last_fail_ms.is_some() && self.last_fail_ms >= self.last_ok_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[test]
    fn a_failure_after_the_clock_was_set_back_counts() {
        let mut evidence =
            Evidence { last_ok_ms: Some(600_000), last_seen_ms: Some(600_000), ..Evidence::default() };
        assert!(!evidence.clamp(595_000, 594_000), "that far apart two transactions may see the clock");
        assert!(evidence.clamp(300_000, 299_000));
        assert_eq!((evidence.last_ok_ms, evidence.last_seen_ms), (Some(299_000), Some(299_000)));
        evidence.merge(&signal(SignalKind::Fail, 299_000), None);
        assert!(evidence.failing());
    }

    fn signal(kind: SignalKind, at_ms: i64) -> Signal {
        Signal { kind, at_ms, exit_code: (kind == SignalKind::Fail).then_some(3), rid: String::new() }
    }

    fn after(signals: &[(SignalKind, i64)]) -> Evidence {
        let mut evidence = Evidence::default();
        for (kind, at) in signals {
            evidence.merge(&signal(*kind, *at), None);
        }
        evidence
    }

    use SignalKind::{Fail, Log, Ok, Start};

    #[rstest]
    #[case::start(Start)]
    #[case::log(Log)]
    fn a_start_or_a_note_only_shows_life(#[case] kind: SignalKind) {
        let expected = Evidence { last_seen_ms: Some(5), checkins: 1, ..Evidence::default() };
        assert_eq!(after(&[(kind, 5)]), expected);
    }

    #[test]
    fn an_ok_clears_older_failures() {
        let evidence = after(&[(Fail, 1), (Fail, 2), (Ok, 3)]);
        assert_eq!((evidence.fails, evidence.failing()), (0, false));
        assert_eq!((evidence.last_ok_ms, evidence.last_ok_started_ms), (Some(3), Some(3)));
        assert_eq!((evidence.last_fail_ms, evidence.last_exit_code), (Some(2), Some(3)));
    }

    #[test]
    fn failures_count_since_the_last_good_run() {
        assert_eq!(after(&[(Fail, 1), (Ok, 2), (Fail, 3), (Fail, 4)]).fails, 2);
    }

    #[rstest]
    #[case::late_ok_does_not_hide_a_newer_failure(&[(Fail, 10), (Ok, 5)], 1, Some(5))]
    #[case::late_failure_does_not_undo_a_newer_ok(&[(Ok, 10), (Fail, 5)], 0, Some(10))]
    #[case::same_moment_ok_last(&[(Fail, 10), (Ok, 10)], 0, Some(10))]
    #[case::same_moment_fail_last(&[(Ok, 10), (Fail, 10)], 1, Some(10))]
    #[case::older_ok_changes_nothing(&[(Ok, 10), (Ok, 5)], 0, Some(10))]
    fn reordering_does_no_harm(
        #[case] signals: &[(SignalKind, i64)],
        #[case] fails: i64,
        #[case] last_ok: Option<i64>,
    ) {
        let evidence = after(signals);
        assert_eq!((evidence.fails, evidence.last_ok_ms), (fails, last_ok));
        assert_eq!(evidence.checkins, 2);
        assert_eq!(evidence.last_seen_ms, Some(10));
    }

    #[test]
    fn the_exit_code_is_the_newest_failures() {
        let mut evidence = Evidence::default();
        let fail = |at_ms, exit_code| Signal { kind: Fail, at_ms, exit_code, rid: String::new() };
        evidence.merge(&fail(10, Some(1)), None);
        evidence.merge(&fail(5, Some(2)), None);
        assert_eq!(evidence.last_exit_code, Some(1));
        evidence.merge(&fail(11, None), None);
        assert_eq!(evidence.last_exit_code, None);
    }

    #[test]
    fn the_start_of_the_newest_good_run_is_kept() {
        let mut evidence = Evidence::default();
        evidence.merge(&signal(Ok, 100), Some(40));
        assert_eq!(evidence.last_ok_started_ms, Some(40));
        evidence.merge(&signal(Ok, 90), Some(80));
        assert_eq!(evidence.last_ok_started_ms, Some(40));
        evidence.merge(&signal(Ok, 110), None);
        assert_eq!(evidence.last_ok_started_ms, Some(110));
    }

    #[test]
    fn every_kind_reads_back() {
        for kind in [Start, Ok, Fail, Log] {
            assert_eq!(SignalKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(SignalKind::parse("OK"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn times_do_not_depend_on_the_order_or_on_repeats(
            times in proptest::collection::vec((0..4usize, 0..1000i64), 1..12), seed: u64,
        ) {
            let kinds = [Start, Ok, Fail, Log];
            let signals: Vec<_> = times.iter().map(|(kind, at)| (kinds[*kind], *at)).collect();
            let mut shuffled: Vec<_> = signals.iter().chain(&signals).copied().collect();
            let length = shuffled.len();
            for n in 0..length {
                shuffled.swap(n, (seed as usize).wrapping_mul(n + 7) % length);
            }
            let (one, two) = (after(&signals), after(&shuffled));
            prop_assert_eq!(one.last_ok_ms, two.last_ok_ms);
            prop_assert_eq!(one.last_fail_ms, two.last_fail_ms);
            prop_assert_eq!(one.last_seen_ms, two.last_seen_ms);
        }
    }
}
