//! A pause of alerting, with an end.
//!
//! Promises: every snooze ends, at most a year ahead. While it is active nothing is opened, reminded, escalated or
//! resolved (`decide`); check-ins are still recorded and do not end it (design 2.2). After its end it still moves
//! the deadline, so that the end itself never pages (design 2.3).

use super::{Invalid, duration, duration::YEAR_MS, invalid::shown, schedule::TimeUnits};

/// Alerting is paused in `[from_ms, until_ms)`. Kept after its end: it still moves the deadline (design 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snooze {
    /// When it was asked for.
    pub from_ms: i64,
    /// The first moment at which alerting is on again.
    pub until_ms: i64,
}

/// A snooze as a client wrote it: exactly one of `amount` with `time_units`, `duration`, `until`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SnoozeDraft {
    /// The number in the original API's `duration`.
    #[serde(default)]
    pub amount: Option<i64>,
    /// Its unit: `seconds`, `minutes` or `hours`.
    #[serde(default)]
    pub time_units: Option<String>,
    /// A duration as text: `2h`.
    #[serde(default)]
    pub duration: Option<String>,
    /// An end, RFC 3339: `2026-01-02T03:04:05Z`.
    #[serde(default)]
    pub until: Option<String>,
}

impl Snooze {
    /// Whether alerting is paused at `now_ms`.
    pub fn active(&self, now_ms: i64) -> bool {
        self.from_ms <= now_ms && now_ms < self.until_ms
    }

    /// Parses a client's request, made at `now_ms`. The end must lie in the future and at most a year ahead.
    pub fn parse(draft: &SnoozeDraft, now_ms: i64) -> Result<Self, Invalid> {
        let until_ms = match (draft.amount, &draft.time_units, &draft.duration, &draft.until) {
            (Some(amount), units, None, None) => {
                let units = units.as_deref().ok_or_else(|| {
                    Invalid::new("time_units", "is missing: give `seconds`, `minutes` or `hours`")
                })?;
                let unit_ms = TimeUnits::parse("time_units", units)?.ms();
                let length = amount.checked_mul(unit_ms);
                now_ms.saturating_add(in_range(
                    "duration",
                    length.unwrap_or(i64::MAX.saturating_mul(amount.signum())),
                )?)
            }
            (None, None, Some(text), None) => {
                now_ms.saturating_add(in_range("duration", duration::parse_ms("duration", text)?)?)
            }
            (None, None, None, Some(text)) => {
                let until = text.trim().parse::<jiff::Timestamp>().map_err(|_| {
                    let why = "is no moment: write it as `2026-01-02T03:04:05Z`, with the offset";
                    Invalid::new("until", format!("{} {why}", shown(text)))
                })?;
                let until_ms = until.as_millisecond();
                if until_ms <= now_ms {
                    return Err(Invalid::new(
                        "until",
                        format!("{} lies in the past: give a moment to come", shown(text)),
                    ));
                }
                in_range("until", until_ms.saturating_sub(now_ms))?;
                until_ms
            }
            (None, Some(_), _, _) => {
                return Err(Invalid::new(
                    "time_units",
                    "stands without a number: give `duration` as a number with it",
                ));
            }
            (None, None, None, None) => {
                return Err(Invalid::new("duration", "is missing: say how long, as `2h`, or give `until`"));
            }
            _ => return Err(Invalid::new("duration", "and `until` exclude each other: give one end only")),
        };
        Ok(Self { from_ms: now_ms, until_ms })
    }
}

/// A length that a snooze may have.
fn in_range(field: &'static str, length_ms: i64) -> Result<i64, Invalid> {
    if length_ms <= 0 {
        return Err(Invalid::new(field, "is zero or negative: a snooze lasts at least a moment, as `30m`"));
    }
    if length_ms > YEAR_MS {
        let message = "is longer than a year (366 days): check the reservation out if it is no longer needed";
        return Err(Invalid::new(field, message));
    }
    Ok(length_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// 2026-01-02T03:04:05Z
    const NOW: i64 = 1_767_323_045_000;

    fn draft(
        amount: Option<i64>,
        units: Option<&str>,
        duration: Option<&str>,
        until: Option<&str>,
    ) -> SnoozeDraft {
        let text = |text: Option<&str>| text.map(str::to_owned);
        SnoozeDraft { amount, time_units: text(units), duration: text(duration), until: text(until) }
    }

    #[rstest]
    #[case::original_api(draft(Some(5), Some("minutes"), None, None), NOW + 300_000)]
    #[case::text(draft(None, None, Some("2h"), None), NOW + 7_200_000)]
    #[case::until(draft(None, None, None, Some("2026-01-02T04:04:05+01:00")), -1)]
    #[case::until_utc(draft(None, None, None, Some("2026-01-02T03:05:05Z")), NOW + 60_000)]
    #[case::a_year(draft(None, None, Some("366 days"), None), NOW + YEAR_MS)]
    fn a_snooze_ends_when_asked(#[case] draft: SnoozeDraft, #[case] until_ms: i64) {
        let parsed = Snooze::parse(&draft, NOW);
        if until_ms < 0 {
            // 04:04:05+01:00 is this very moment, so it is not in the future.
            assert_eq!(parsed.unwrap_err().field, "until");
        } else {
            assert_eq!(parsed, Ok(Snooze { from_ms: NOW, until_ms }));
        }
    }

    #[rstest]
    #[case::nothing(draft(None, None, None, None), "duration")]
    #[case::zero(draft(Some(0), Some("hours"), None, None), "duration")]
    #[case::negative(draft(Some(-1), Some("hours"), None, None), "duration")]
    #[case::overflow(draft(Some(i64::MAX), Some("hours"), None, None), "duration")]
    #[case::underflow(draft(Some(i64::MIN), Some("hours"), None, None), "duration")]
    #[case::no_units(draft(Some(1), None, None, None), "time_units")]
    #[case::unknown_units(draft(Some(1), Some("fortnights"), None, None), "time_units")]
    #[case::units_alone(draft(None, Some("hours"), None, None), "time_units")]
    #[case::units_with_text(draft(None, Some("hours"), Some("2h"), None), "time_units")]
    #[case::zero_text(draft(None, None, Some("0s"), None), "duration")]
    #[case::bare_number(draft(None, None, Some("5"), None), "duration")]
    #[case::two_ends(draft(None, None, Some("2h"), Some("2027-01-01T00:00:00Z")), "duration")]
    #[case::past(draft(None, None, None, Some("2025-01-01T00:00:00Z")), "until")]
    #[case::too_far(draft(None, None, None, Some("2028-01-01T00:00:00Z")), "until")]
    #[case::no_offset(draft(None, None, None, Some("2026-06-01T00:00:00")), "until")]
    #[case::no_moment(draft(None, None, None, Some("tomorrow")), "until")]
    fn a_snooze_without_one_sensible_end_is_refused(#[case] draft: SnoozeDraft, #[case] field: &str) {
        assert_eq!(Snooze::parse(&draft, NOW).unwrap_err().field, field);
    }

    #[test]
    fn the_end_itself_is_no_longer_snoozed() {
        let snooze = Snooze { from_ms: 10, until_ms: 20 };
        assert_eq!([9, 10, 19, 20].map(|now| snooze.active(now)), [false, true, true, false]);
    }
}
