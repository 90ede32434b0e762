//! Design 2.3: `deadline = next expected moment + grace`, and what moves it.

use super::*;
use crate::reservation::{Draft, snooze::Snooze};
use proptest::prelude::*;
use rstest::rstest;

const MIN: i64 = MINUTE_MS;
const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

fn every(period: &str, with: impl FnOnce(&mut Draft)) -> Settings {
    let mut draft = Draft { every: Some(period.to_owned()), ..Draft::default() };
    with(&mut draft);
    Settings::parse(&draft, &[], NOW).unwrap()
}

fn cron(line: &str, zone: &str) -> Settings {
    let draft = Draft { cron: Some(line.into()), time_zone: Some(zone.into()), ..Draft::default() };
    Settings::parse(&draft, &[], NOW).unwrap()
}

fn ok_at(last_ok_ms: i64) -> Evidence {
    Evidence { created_ms: NOW - 1_000 * MIN, last_ok_ms: Some(last_ok_ms), ..Evidence::default() }
}

fn new() -> Evidence {
    Evidence { created_ms: NOW, ..Evidence::default() }
}

fn at(settings: &Settings, evidence: &Evidence, outages: &[Outage]) -> (i64, i64) {
    let deadline = deadline(settings, evidence, outages).unwrap();
    (deadline.at_ms - NOW, deadline.alert_ms - NOW)
}

#[test]
fn the_deadline_is_the_next_expected_moment_and_grace() {
    let settings = every("5m", |draft| draft.grace = Some("30s".into()));
    assert_eq!(at(&settings, &ok_at(NOW), &[]), (5 * MIN + 30_000, 5 * MIN + 30_000));
}

#[test]
fn the_first_deadline_counts_from_the_reservation() {
    let settings = every("5m", |draft| draft.grace = Some("30s".into()));
    assert_eq!(at(&settings, &new(), &[]).0, 5 * MIN + 30_000);
    assert!(deadline(&settings, &new(), &[]).unwrap().first);
    assert!(!deadline(&settings, &ok_at(NOW), &[]).unwrap().first);
}

#[test]
fn first_within_decides_the_first_deadline_only() {
    let settings = every("5m", |draft| {
        draft.first_within = Some("1h".into());
        draft.tolerance = Some(3);
    });
    assert_eq!(at(&settings, &new(), &[]), (60 * MIN, 60 * MIN));
    assert_eq!(at(&settings, &ok_at(NOW), &[]), (5 * MIN, 15 * MIN));
}

#[test]
fn tolerance_moves_the_alert_and_not_the_lateness() {
    let settings = every("5m", |draft| {
        draft.tolerance = Some(3);
        draft.grace = Some("1m".into());
    });
    assert_eq!(at(&settings, &ok_at(NOW), &[]), (6 * MIN, 16 * MIN));
    assert_eq!(at(&settings, &new(), &[]), (6 * MIN, 16 * MIN));
}

#[test]
fn a_cron_slot_is_in_utc_before_grace_is_added() {
    // 30 March 2026 is the day after Dublin's clocks went ahead: 01:30 there is 00:30 UTC, and one hour of grace is
    // one hour, also across the gap.
    let settings = cron("30 1 * * *", "Europe/Dublin");
    let utc = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let deadline_after = |text: &str| deadline(&settings, &ok_at(utc(text)), &[]).unwrap().at_ms;
    assert_eq!(deadline_after("2026-03-28T01:31:00Z"), utc("2026-03-29T02:00:00Z"));
    assert_eq!(deadline_after("2026-03-29T01:05:00Z"), utc("2026-03-30T01:30:00Z"));
    assert_eq!(deadline_after("2026-10-25T00:31:00Z"), utc("2026-10-26T02:30:00Z"));
}

#[test]
fn an_edit_gives_at_least_a_period_up_to_a_quarter_of_an_hour_and_grace() {
    let short = every("5m", |draft| draft.grace = Some("1m".into()));
    let long = every("1 day", |_| ());
    assert_eq!(rearm_after_edit(&short, NOW).unwrap() - NOW, 6 * MIN);
    assert_eq!(rearm_after_edit(&long, NOW).unwrap() - NOW, 15 * MIN);
    let evidence = Evidence { rearm_ms: rearm_after_edit(&short, NOW).unwrap(), ..ok_at(NOW - 100 * MIN) };
    assert_eq!(at(&short, &evidence, &[]), (6 * MIN, 6 * MIN));
}

#[test]
fn an_edit_never_shortens_a_deadline() {
    let settings = every("1 day", |_| ());
    let evidence = Evidence { rearm_ms: NOW + 15 * MIN, ..ok_at(NOW) };
    assert_eq!(at(&settings, &evidence, &[]).0, 24 * 60 * MIN);
}

#[rstest]
#[case::short_period("5m", 5)]
#[case::long_period("1 day", 15)]
fn the_end_of_a_snooze_rearms(#[case] period: &str, #[case] minutes: i64) {
    let settings = every(period, |draft| draft.grace = Some("1m".into()));
    let snooze = Some(Snooze { from_ms: NOW - MIN, until_ms: NOW });
    let evidence = Evidence { snooze, ..ok_at(NOW - 3 * 24 * 60 * MIN) };
    assert_eq!(at(&settings, &evidence, &[]), ((minutes + 1) * MIN, (minutes + 1) * MIN));
}

#[test]
fn a_past_snooze_does_not_touch_later_deadlines() {
    let settings = every("1h", |_| ());
    let snooze = Some(Snooze { from_ms: NOW - 100 * MIN, until_ms: NOW - 90 * MIN });
    assert_eq!(at(&settings, &Evidence { snooze, ..ok_at(NOW) }, &[]).0, 60 * MIN);
}

#[test]
fn a_deadline_inside_an_outage_moves_behind_it() {
    let settings = every("1 day", |draft| draft.grace = Some("2m".into()));
    let evidence = ok_at(NOW - 24 * 60 * MIN); // due at NOW + 2 min
    let outage = Outage::away(NOW, NOW + 20 * MIN);
    let moved = deadline(&settings, &evidence, &[outage]).unwrap();
    assert_eq!((moved.at_ms - NOW, moved.moved_by), (32 * MIN, Some(outage)));
    let before = Outage::away(NOW - 20 * MIN, NOW);
    assert_eq!(deadline(&settings, &evidence, &[before]).unwrap().moved_by, None);
}

#[test]
fn the_alert_is_never_before_the_lateness() {
    // The first miss lies inside the outage, the second just behind it.
    let settings = every("10s", |draft| {
        draft.tolerance = Some(2);
        draft.grace = Some("5m".into());
    });
    let evidence = ok_at(NOW - 5 * MIN - 10_000); // late at NOW, alert at NOW + 10 s
    let outage = Outage::away(NOW - MIN, NOW + 9_000);
    let moved = deadline(&settings, &evidence, &[outage]).unwrap();
    assert_eq!((moved.at_ms, moved.alert_ms), (NOW + 319_000, NOW + 319_000));
    assert_eq!(moved.moved_by, Some(outage));
}

#[test]
fn upcoming_moments_of_a_period_lie_on_its_grid() {
    let settings = every("10m", |draft| draft.grace = Some("1m".into()));
    let minutes = |after: i64, n: usize| -> Vec<i64> {
        upcoming(&settings, &ok_at(NOW), NOW + after, n).iter().map(|moment| (moment - NOW) / MIN).collect()
    };
    assert_eq!(minutes(0, 3), [10, 20, 30]);
    assert_eq!(minutes(25 * MIN, 2), [30, 40]);
    assert_eq!(minutes(30 * MIN, 1), [40]);
    assert_eq!(minutes(-5 * MIN, 1), [10]);
    assert!(minutes(0, 0).is_empty());
}

#[test]
fn upcoming_moments_of_a_cron_line_are_its_slots() {
    let settings = cron("0 * * * *", "UTC");
    assert_eq!(upcoming(&settings, &new(), NOW + 1, 2), [NOW + 60 * MIN, NOW + 120 * MIN]);
}

#[test]
fn upcoming_ends_where_the_calendar_does() {
    let settings = cron("0 0 31 12 *", "UTC");
    let end = "9998-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
    assert!(upcoming(&settings, &new(), end, 10).len() <= 2);
    assert!(upcoming(&settings, &new(), i64::MAX, 10).is_empty());
}

#[test]
fn the_moment_of_an_edit_is_found_again() {
    for settings in [every("5m", |_| ()), every("2h", |_| ()), cron("0 2 * * *", "Europe/Dublin")] {
        let rearm_ms = rearm_after_edit(&settings, NOW).unwrap();
        let evidence = Evidence { rearm_ms, ..new() };
        let period_ms = settings.schedule.period_ms(NOW).unwrap();
        assert_eq!(edited_ms(&settings, &evidence, period_ms), Some(NOW));
    }
    assert_eq!(edited_ms(&every("5m", |_| ()), &new(), 5 * MIN), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_check_in_never_makes_a_deadline_earlier(
        period in 10..100_000i64, grace in 0..10_000i64, tolerance in 1..5i64,
        first in 0..1_000_000i64, second in 0..1_000_000i64,
        rearm in 0..2_000_000i64, until in 0..2_000_000i64, has_ok: bool,
    ) {
        let settings = every(&format!("{period}s"), |draft| {
            draft.grace = Some(format!("{grace}s"));
            draft.tolerance = Some(tolerance);
        });
        let (first, second) = (NOW + first.min(second), NOW + first.max(second));
        let before = Evidence {
            created_ms: first,
            last_ok_ms: has_ok.then_some(first),
            rearm_ms: NOW + rearm,
            snooze: Some(Snooze { from_ms: NOW, until_ms: NOW + until }),
            ..Evidence::default()
        };
        let after = Evidence { last_ok_ms: Some(second), ..before.clone() };
        let (before, after) =
            (deadline(&settings, &before, &[]).unwrap(), deadline(&settings, &after, &[]).unwrap());
        prop_assert!(after.at_ms >= before.at_ms);
        prop_assert!(after.alert_ms >= before.alert_ms);
        prop_assert!(after.alert_ms >= after.at_ms);
    }
}
