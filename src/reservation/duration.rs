//! Durations as people write them: `90s`, `5 minutes`, `1h30m`, `2 days`, `PT5M`.
//!
//! Promises: what is accepted has one fixed length (a day is 24 hours, a week 7 days) between 0 and 366 days; what
//! is refused is refused with the way to write it. Months and years have no fixed length and a bare number has no
//! unit, so neither is guessed at.

use super::{Invalid, invalid::shown};
use std::borrow::Cow;

/// One second, in milliseconds.
pub const SECOND_MS: i64 = 1_000;
/// One minute, in milliseconds.
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
/// One hour, in milliseconds.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
/// One day of 24 hours, in milliseconds.
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// The longest duration anywhere in GoTel: 366 days, so that "a year" always fits. In milliseconds.
pub const YEAR_MS: i64 = 366 * DAY_MS;

/// What every refusal ends with.
const REMEDY: &str = "write `90s`, `5m`, `1h30m` or `2 days`";

/// Parses to milliseconds (parts of a millisecond are dropped). A bare number and calendar units without a fixed
/// length are refused, naming the remedy, and so are negative lengths and those over 366 days.
pub fn parse_ms(field: impl Into<Cow<'static, str>>, text: &str) -> Result<i64, Invalid> {
    let refuse = |why: &str| Invalid::new(field, format!("{} {why}: {REMEDY}", shown(text)));
    let text = text.trim();
    if text.is_empty() {
        return Err(refuse("is no duration"));
    }
    if text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+')) {
        return Err(refuse("has no unit"));
    }
    let Ok(span) = text.parse::<jiff::Span>() else {
        return Err(refuse("is no duration"));
    };
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(refuse("has no fixed length, as months and years differ"));
    }
    if span.is_negative() {
        return Err(refuse("is negative"));
    }
    let ms = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .ok()
        .and_then(|length| i64::try_from(length.as_millis()).ok());
    match ms {
        Some(ms) if ms <= YEAR_MS => Ok(ms),
        _ => Err(refuse("is longer than a year (366 days)")),
    }
}

/// Short human form of a length: `1h 30m`, `45s`, `2d`. The largest unit and the one below it; a finer rest is
/// dropped. Less than a second is told in milliseconds, a negative length as its absolute value.
pub fn human(ms: i64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (DAY_MS.unsigned_abs(), "d"),
        (HOUR_MS.unsigned_abs(), "h"),
        (MINUTE_MS.unsigned_abs(), "m"),
        (SECOND_MS.unsigned_abs(), "s"),
    ];
    let ms = ms.unsigned_abs();
    for (n, (unit, letter)) in UNITS.iter().enumerate() {
        if ms < *unit {
            continue;
        }
        let whole = format!("{}{letter}", ms / unit);
        let rest = UNITS.get(n + 1).map(|(below, letter)| (ms % unit / below, letter));
        return match rest {
            Some((count, letter)) if count > 0 => format!("{whole} {count}{letter}"),
            _ => whole,
        };
    }
    if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("90s", 90 * SECOND_MS)]
    #[case("5m", 5 * MINUTE_MS)]
    #[case("5 minutes", 5 * MINUTE_MS)]
    #[case("1h30m", 90 * MINUTE_MS)]
    #[case("1 hour, 30 minutes", 90 * MINUTE_MS)]
    #[case("2 days", 2 * DAY_MS)]
    #[case("1 week", 7 * DAY_MS)]
    #[case("PT5M", 5 * MINUTE_MS)]
    #[case("P1D", DAY_MS)]
    #[case("  10s ", 10 * SECOND_MS)]
    #[case("1.5h", 90 * MINUTE_MS)]
    #[case("0s", 0)]
    #[case("100ms", 100)]
    #[case("366 days", YEAR_MS)]
    fn a_duration_with_a_unit_is_understood(#[case] text: &str, #[case] ms: i64) {
        assert_eq!(parse_ms("grace", text), Ok(ms));
    }

    #[rstest]
    #[case::empty("", "no duration")]
    #[case::blank("   ", "no duration")]
    #[case::bare("5", "no unit")]
    #[case::bare_fraction("1.5", "no unit")]
    #[case::bare_negative("-5", "no unit")]
    #[case::month("1 month", "no fixed length")]
    #[case::year("1 year", "no fixed length")]
    #[case::iso_month("P1M", "no fixed length")]
    #[case::negative("-5m", "negative")]
    #[case::ago("5m ago", "negative")]
    #[case::too_long("367 days", "longer than a year")]
    #[case::overflow("1000000000000000000s", "")]
    #[case::huge("9223372036854775807ms", "")]
    #[case::words("soon", "no duration")]
    #[case::injection("5m\r\nX: y", "no duration")]
    fn anything_else_is_refused_with_the_remedy(#[case] text: &str, #[case] why: &str) {
        let error = parse_ms("grace", text).unwrap_err();
        assert_eq!(error.field, "grace");
        assert!(error.message.contains(why), "{error}");
        assert!(error.message.contains("`1h30m`"), "{error}");
        assert!(!error.message.contains('\r'), "{error}");
    }

    #[rstest]
    #[case(0, "0s")]
    #[case(250, "250ms")]
    #[case(45 * SECOND_MS, "45s")]
    #[case(90 * SECOND_MS, "1m 30s")]
    #[case(90 * MINUTE_MS, "1h 30m")]
    #[case(14 * MINUTE_MS + 999, "14m")]
    #[case(2 * DAY_MS, "2d")]
    #[case(DAY_MS + 5 * MINUTE_MS, "1d")]
    #[case(-5 * MINUTE_MS, "5m")]
    #[case(i64::MIN, "106751991167d 7h")]
    fn a_length_is_told_in_two_units_at_most(#[case] ms: i64, #[case] text: &str) {
        assert_eq!(human(ms), text);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn parsing_never_panics_and_stays_within_a_year(text in any::<String>()) {
            if let Ok(ms) = parse_ms("grace", &text) {
                prop_assert!((0..=YEAR_MS).contains(&ms));
            }
        }
    }
}
