//! Moments and lengths, as people and programs read them.

use crate::reservation::duration;

/// RFC 3339 in UTC.
pub(super) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms since 1970"), |t| t.to_string())
}

/// `5m ago`, `in 2h`, `now`.
pub(super) fn relative(ms: i64, now_ms: i64) -> String {
    match ms.saturating_sub(now_ms) {
        -999..=999 => "now".into(),
        ahead @ 1000.. => format!("in {}", duration::human(ahead)),
        behind => format!("{} ago", duration::human(behind)),
    }
}

/// A length with nothing dropped, as `duration::parse_ms` reads it back: `1h 30m 5s`.
pub(super) fn exact(ms: i64) -> String {
    let mut rest = ms;
    let mut parts = Vec::new();
    for (unit, letter) in [
        (duration::DAY_MS, "d"),
        (duration::HOUR_MS, "h"),
        (duration::MINUTE_MS, "m"),
        (duration::SECOND_MS, "s"),
        (1, "ms"),
    ] {
        if rest >= unit {
            parts.push(format!("{}{letter}", rest / unit));
            rest %= unit;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, "0s")]
    #[case(1, "1ms")]
    #[case(5_400_000, "1h 30m")]
    #[case(90_061_001, "1d 1h 1m 1s 1ms")]
    fn an_exact_length_reads_back_as_itself(#[case] ms: i64, #[case] text: &str) {
        assert_eq!(exact(ms), text);
        assert_eq!(duration::parse_ms("grace", text), Ok(ms));
    }

    #[rstest]
    #[case(1000, 1500, "now")]
    #[case(0, 90_000, "1m 30s ago")]
    #[case(7_200_000, 0, "in 2h")]
    fn a_moment_is_told_from_now(#[case] ms: i64, #[case] now_ms: i64, #[case] text: &str) {
        assert_eq!(relative(ms, now_ms), text);
    }

    #[test]
    fn a_moment_is_written_in_utc() {
        assert_eq!(rfc3339(1_767_323_045_123), "2026-01-02T03:04:05.123Z");
    }
}
