//! Every sentence about expectations in design 2.1 and 2.3, and what clocks do to them.

use super::*;
use proptest::prelude::*;
use rstest::rstest;

fn ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

fn utc(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
}

fn cron(expression: &str, zone: &str) -> Schedule {
    Schedule::cron(expression, Some(zone), ms("2026-01-01T00:00:00Z")).unwrap()
}

fn slots(schedule: &Schedule, after: &str, n: u32) -> Vec<String> {
    (1..=n).map(|n| utc(schedule.nth_after(ms(after), n).unwrap())).collect()
}

#[rstest]
#[case::seconds(10, "seconds", 10_000)]
#[case::minutes(5, "minutes", 300_000)]
#[case::hours(24, "hours", 86_400_000)]
#[case::capital(5, "Minutes", 300_000)]
#[case::singular(1, "hour", 3_600_000)]
#[case::a_year(8_784, "hours", 366 * 86_400_000)]
fn a_period_is_the_frequency_times_its_unit(
    #[case] frequency: i64,
    #[case] units: &str,
    #[case] period: i64,
) {
    let schedule = Schedule::every(frequency, units).unwrap();
    assert_eq!(schedule.period_ms(12_345), Ok(period));
    assert_eq!(schedule.nth_after(1_000, 3), Ok(1_000 + 3 * period));
}

#[rstest]
#[case::below_ten_seconds(9, "seconds", "at least 10 seconds")]
#[case::zero(0, "minutes", "at least 10 seconds")]
#[case::negative(-5, "minutes", "at least 10 seconds")]
#[case::huge(1_000_000_000_000_000_000, "seconds", "at most 366 days")]
#[case::overflow(i64::MAX, "hours", "at most 366 days")]
#[case::underflow(i64::MIN, "hours", "at least 10 seconds")]
#[case::over_a_year(8_785, "hours", "at most 366 days")]
fn a_period_out_of_range_is_refused_with_the_bound(
    #[case] frequency: i64,
    #[case] units: &str,
    #[case] remedy: &str,
) {
    let error = Schedule::every(frequency, units).unwrap_err();
    assert_eq!(error.field, "frequency");
    assert!(error.message.contains(remedy), "{error}");
}

#[test]
fn an_unknown_unit_is_refused_with_the_known_ones() {
    let error = Schedule::every(5, "days").unwrap_err();
    assert_eq!(error.field, "time_units");
    assert!(error.message.contains("`hours`"), "{error}");
}

#[rstest]
#[case("90s", 90, TimeUnits::Seconds)]
#[case("5 minutes", 5, TimeUnits::Minutes)]
#[case("2 days", 48, TimeUnits::Hours)]
#[case("1h30m", 90, TimeUnits::Minutes)]
fn a_period_as_text_takes_the_largest_unit_that_fits(
    #[case] text: &str,
    #[case] frequency: i64,
    #[case] units: TimeUnits,
) {
    assert_eq!(Schedule::every_text(text), Ok(Schedule::Every { frequency, units }));
}

#[rstest]
#[case("9s")]
#[case("0s")]
#[case("10500ms")]
#[case("10")]
#[case("1 year")]
fn an_unusable_period_as_text_is_refused(#[case] text: &str) {
    assert_eq!(Schedule::every_text(text).unwrap_err().field, "every");
}

#[rstest]
#[case::gap_dublin("30 1 * * *", "Europe/Dublin", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"])]
#[case::fold_dublin("30 1 * * *", "Europe/Dublin", "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"])]
#[case::gap_new_york("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", &["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"])]
#[case::fold_new_york("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", &["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"])]
#[case::gap_lord_howe("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", &["2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"])]
#[case::fold_lord_howe("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"])]
#[case::gap_casablanca("30 2 * * *", "Africa/Casablanca", "2026-03-21T12:00:00Z", &["2026-03-22T02:00:00Z", "2026-03-23T01:30:00Z"])]
#[case::fold_casablanca("30 2 * * *", "Africa/Casablanca", "2026-02-14T12:00:00Z", &["2026-02-15T01:30:00Z", "2026-02-16T02:30:00Z"])]
#[case::gap_at_midnight("0 0 * * *", "Asia/Beirut", "2026-03-28T12:00:00Z", &["2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"])]
#[case::whole_gap_hour_daily("0 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", &["2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"])]
fn a_fixed_time_comes_once_whatever_the_clocks_do(
    #[case] expression: &str,
    #[case] zone: &str,
    #[case] after: &str,
    #[case] expected: &[&str],
) {
    assert_eq!(slots(&cron(expression, zone), after, expected.len() as u32), expected);
}

#[rstest]
#[case::gap("0 1,2 * * *", "2026-03-08T05:30:00Z", &["2026-03-08T06:00:00Z", "2026-03-08T07:00:00Z", "2026-03-09T05:00:00Z"])]
#[case::gap_next_to_a_slot("0 2,3 * * *", "2026-03-08T05:30:00Z", &["2026-03-08T07:00:00Z", "2026-03-09T06:00:00Z"])]
#[case::fold("0 1,2 * * *", "2026-11-01T04:30:00Z", &["2026-11-01T05:00:00Z", "2026-11-01T07:00:00Z", "2026-11-02T06:00:00Z"])]
#[case::fold_asked_inside("0 1,2 * * *", "2026-11-01T05:30:00Z", &["2026-11-01T07:00:00Z"])]
#[case::range("15 1-2 * * *", "2026-03-08T06:00:00Z", &["2026-03-08T06:15:00Z", "2026-03-08T07:00:00Z", "2026-03-09T05:15:00Z"])]
fn a_list_of_fixed_times_is_fixed_times(
    #[case] expression: &str,
    #[case] after: &str,
    #[case] expected: &[&str],
) {
    assert_eq!(slots(&cron(expression, "America/New_York"), after, expected.len() as u32), expected);
}

#[test]
fn a_step_keeps_running_through_gap_and_fold() {
    let half_hours = cron("*/30 * * * *", "America/New_York");
    assert_eq!(
        slots(&half_hours, "2026-11-01T04:59:00Z", 5),
        [
            "2026-11-01T05:00:00Z",
            "2026-11-01T05:30:00Z",
            "2026-11-01T06:00:00Z",
            "2026-11-01T06:30:00Z",
            "2026-11-01T07:00:00Z"
        ]
    );
    assert_eq!(
        slots(&half_hours, "2026-03-08T06:00:00Z", 3),
        ["2026-03-08T06:30:00Z", "2026-03-08T07:00:00Z", "2026-03-08T07:30:00Z"]
    );
    let lord_howe = cron("*/15 * * * *", "Australia/Lord_Howe");
    assert_eq!(
        slots(&lord_howe, "2026-04-04T14:45:00Z", 3),
        ["2026-04-04T15:00:00Z", "2026-04-04T15:15:00Z", "2026-04-04T15:30:00Z"]
    );
}

#[rstest]
#[case::leap_day("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z")]
#[case::no_leap_year_2100("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z")]
#[case::year_boundary("59 23 31 12 *", "2026-12-31T23:58:59.999Z", "2026-12-31T23:59:00Z")]
#[case::new_year("0 0 1 1 *", "2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00Z")]
#[case::end_of_32_bits("14 3 19 1 *", "2038-01-19T03:13:59Z", "2038-01-19T03:14:00Z")]
#[case::after_32_bits("15 3 * * *", "2038-01-19T03:14:08Z", "2038-01-19T03:15:00Z")]
#[case::workdays("0 9 * * MON-FRI", "2026-01-02T09:00:00Z", "2026-01-05T09:00:00Z")]
#[case::sunday_is_zero_and_seven("0 9 * * 7", "2026-01-02T09:00:00Z", "2026-01-04T09:00:00Z")]
#[case::last_day("0 0 L * *", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00Z")]
#[case::nickname("@daily", "2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z")]
#[case::strictly_after("0 2 * * *", "2026-02-01T02:00:00Z", "2026-02-02T02:00:00Z")]
#[case::a_millisecond_before("0 2 * * *", "2026-02-01T01:59:59.999Z", "2026-02-01T02:00:00Z")]
#[case::a_millisecond_after("0 2 * * *", "2026-02-01T02:00:00.001Z", "2026-02-02T02:00:00Z")]
fn calendars_are_followed(#[case] expression: &str, #[case] after: &str, #[case] next: &str) {
    assert_eq!(slots(&cron(expression, "UTC"), after, 1), [next]);
}

#[test]
fn a_period_crosses_the_end_of_32_bits() {
    let after = ms("2038-01-19T03:14:07Z");
    assert_eq!(
        utc(Schedule::every(1, "minutes").unwrap().nth_after(after, 1).unwrap()),
        "2038-01-19T03:15:07Z"
    );
}

#[rstest]
#[case::no_such_day("0 0 30 2 *", "never fire")]
#[case::no_such_day_of_several("0 0 31 2,4,6,9,11 *", "never fire")]
#[case::seconds("0 0 2 * * *", "five fields")]
#[case::years("0 2 * * * 2030", "five fields")]
#[case::four_fields("0 2 * *", "five fields")]
#[case::empty("", "five fields")]
#[case::out_of_range("61 2 * * *", "five fields")]
#[case::reboot("@reboot", "five fields")]
#[case::words("every day", "five fields")]
#[case::two_lines("0 2 * * *\n0 3 * * *", "five fields")]
fn an_unusable_line_is_refused_with_why(#[case] expression: &str, #[case] why: &str) {
    let error = Schedule::cron(expression, None, ms("2026-01-01T00:00:00Z")).unwrap_err();
    assert_eq!(error.field, "cron");
    assert!(error.message.contains(why), "{error}");
}

#[rstest]
#[case("Europe/Atlantis")]
#[case("")]
#[case("Etc/Unknown")]
#[case("EST5EDT,M3.2.0,M11.1.0")]
#[case("../../etc/passwd")]
#[case("+01:00")]
fn an_unknown_zone_is_refused(#[case] zone: &str) {
    let error = Schedule::cron("0 2 * * *", Some(zone), 0).unwrap_err();
    assert_eq!(error.field, "time_zone");
    assert!(error.message.contains("Europe/Dublin"), "{error}");
}

#[test]
fn the_zone_is_utc_without_one_and_spelled_as_iana_spells_it() {
    assert_eq!(Schedule::cron(" 0 2 * * * ", None, 0).unwrap().describe(), "0 2 * * * UTC");
    assert_eq!(cron("30 2 * * *", "europe/dublin").describe(), "30 2 * * * Europe/Dublin");
}

#[rstest]
#[case(5, "minutes", "every 5 minutes")]
#[case(1, "hours", "every hour")]
#[case(90, "seconds", "every 90 seconds")]
fn a_period_is_told_in_words(#[case] frequency: i64, #[case] units: &str, #[case] words: &str) {
    assert_eq!(Schedule::every(frequency, units).unwrap().describe(), words);
}

#[test]
fn the_period_of_a_cron_line_is_the_distance_of_its_next_two_slots() {
    let workdays = cron("0 9 * * MON-FRI", "UTC");
    assert_eq!(workdays.period_ms(ms("2026-01-05T10:00:00Z")), Ok(86_400_000));
    assert_eq!(workdays.period_ms(ms("2026-01-02T08:00:00Z")), Ok(3 * 86_400_000));
}

#[test]
fn damaged_schedules_say_so_instead_of_panicking() {
    let bad_line = Schedule::Cron { expression: "nonsense".into(), zone: "UTC".into() };
    let bad_zone = Schedule::Cron { expression: "0 2 * * *".into(), zone: "Nowhere".into() };
    let zero = Schedule::Every { frequency: 0, units: TimeUnits::Hours };
    for schedule in [bad_line, bad_zone, zero] {
        assert!(schedule.nth_after(0, 1).is_err());
        assert!(schedule.period_ms(0).is_err());
    }
    assert!(Schedule::every(1, "hours").unwrap().nth_after(i64::MAX, 1).is_err());
    assert!(cron("0 2 * * *", "UTC").nth_after(i64::MAX, 1).is_err());
    assert!(cron("0 2 * * *", "UTC").nth_after(ms("9999-12-30T00:00:00Z"), 5).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn slots_strictly_grow(
        line in prop::sample::select(vec!["*/7 * * * *", "30 1 * * *", "0 1,2 * * *", "5 */3 * * *", "0 0 * * 0", "59 1-3 * * *"]),
        zone in prop::sample::select(vec!["UTC", "Europe/Dublin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]),
        // 2026 to 2027
        after in 1_767_225_600_000i64..1_830_297_600_000,
    ) {
        let schedule = cron(line, zone);
        let first = schedule.nth_after(after, 1).unwrap();
        prop_assert!(first > after);
        let second = schedule.nth_after(after, 2).unwrap();
        prop_assert!(second > first);
        prop_assert_eq!(schedule.nth_after(first, 1).unwrap(), second);
        // Asking any later moment before the slot gives the same slot.
        prop_assert_eq!(schedule.nth_after(first - 1, 1).unwrap(), first);
        prop_assert_eq!(schedule.nth_after(after + (first - after) / 2, 1).unwrap(), first);
    }

    #[test]
    fn whatever_is_accepted_can_be_computed(line in "[0-9*/,L#W?-]{1,4}( [0-9*/,L#W?-]{1,4}){4}") {
        let now = ms("2026-01-01T00:00:00Z");
        if let Ok(schedule) = Schedule::cron(&line, Some("Europe/Dublin"), now) {
            prop_assert!(schedule.nth_after(now, 1).unwrap() > now);
        }
    }

    #[test]
    fn no_text_panics(line in any::<String>(), zone in any::<String>()) {
        let _ = Schedule::cron(&line, None, 0);
        let _ = Schedule::cron("0 2 * * *", Some(&zone), 0);
    }
}
