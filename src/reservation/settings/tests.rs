//! Design 2.1: what is agreed, and what is refused with which field and which remedy.

use super::*;
use proptest::prelude::*;
use rstest::rstest;

const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

fn known() -> Vec<String> {
    ["mail", "pager", "chat"].map(str::to_owned).to_vec()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn hourly() -> Draft {
    Draft { every: some("1h"), ..Draft::default() }
}

fn parse(draft: &Draft) -> Result<Settings, Invalid> {
    Settings::parse(draft, &known(), NOW)
}

fn step(after: &str, alerters: &[&str]) -> DraftEscalation {
    DraftEscalation { after: after.to_owned(), alerters: names(alerters).unwrap() }
}

#[test]
fn a_period_alone_gets_the_designs_defaults() {
    let settings =
        parse(&Draft { frequency: Some(5), time_units: some("minutes"), ..Draft::default() }).unwrap();
    assert_eq!(
        settings,
        Settings {
            schedule: Schedule::Every { frequency: 5, units: TimeUnits::Minutes },
            grace_ms: 0,
            first_within_ms: None,
            max_runtime_ms: None,
            tolerance: 1,
            realert_ms: 6 * 3_600_000,
            alerters: vec![],
            escalation: vec![],
            alert_msg: None,
            owner: String::new(),
            notify: NotifyList::default(),
            labels: BTreeMap::new(),
        }
    );
}

#[test]
fn a_cron_line_gets_an_hour_of_grace_and_utc() {
    let settings = parse(&Draft { cron: some("0 2 * * *"), ..Draft::default() }).unwrap();
    assert_eq!(settings.grace_ms, 3_600_000);
    assert_eq!(settings.schedule.describe(), "0 2 * * * UTC");
}

#[test]
fn everything_that_can_be_said_is_kept() {
    let draft = Draft {
        cron: some("0 2 * * *"),
        time_zone: some("Europe/Dublin"),
        grace: some("10m"),
        first_within: some("2 days"),
        max_runtime: some("1h"),
        tolerance: Some(3),
        realert: some("30m"),
        alerters: names(&["pager", "mail"]),
        escalation: Some(vec![step("15m", &["chat"]), step("1h", &["pager", "chat"])]),
        alert_msg: some("{app} is late"),
        owner: some("ann"),
        notify: names(&["a@example.org", "ops"]),
        labels: Some([("team/name".to_owned(), "größe".to_owned())].into()),
        ..Draft::default()
    };
    let settings = parse(&draft).unwrap();
    assert_eq!(settings.grace_ms, 600_000);
    assert_eq!(settings.first_within_ms, Some(2 * 86_400_000));
    assert_eq!(settings.max_runtime_ms, Some(3_600_000));
    assert_eq!((settings.tolerance, settings.realert_ms), (3, 1_800_000));
    assert_eq!(settings.alerters, ["pager", "mail"]);
    assert_eq!(
        settings.escalation[1],
        Escalation { after_ms: 3_600_000, alerters: vec!["pager".into(), "chat".into()] }
    );
    assert_eq!((settings.alert_msg.as_deref(), settings.owner.as_str()), (Some("{app} is late"), "ann"));
    assert_eq!(settings.notify.joined(), "a@example.org,ops");
    assert_eq!(settings.labels["team/name"], "größe");
    assert_eq!(Settings::from_stored(&settings.to_stored()), Ok(settings));
}

#[rstest]
#[case::zero("0")]
#[case::zero_seconds("0s")]
#[case::never("never")]
fn reminders_can_be_turned_off(#[case] realert: &str) {
    assert_eq!(parse(&Draft { realert: some(realert), ..hourly() }).unwrap().realert_ms, 0);
}

#[test]
fn a_blank_template_is_the_default_one() {
    assert_eq!(parse(&Draft { alert_msg: some("  "), ..hourly() }).unwrap().alert_msg, None);
}

#[test]
fn an_empty_list_of_alerters_means_the_default_ones() {
    assert!(parse(&Draft { alerters: names(&[]), ..hourly() }).unwrap().alerters.is_empty());
}

#[rstest]
#[case::nothing(Draft::default(), "frequency", "`cron`")]
#[case::no_units(Draft { frequency: Some(5), ..Draft::default() }, "time_units", "`seconds`")]
#[case::no_frequency(Draft { time_units: some("hours"), ..Draft::default() }, "frequency", "missing")]
#[case::two_ways(Draft { frequency: Some(5), time_units: some("hours"), ..hourly() }, "every", "exclude")]
#[case::cron_and_every(Draft { cron: some("0 2 * * *"), ..hourly() }, "cron", "exclude")]
#[case::cron_and_frequency(Draft { cron: some("0 2 * * *"), frequency: Some(5), ..Draft::default() }, "cron", "exclude")]
#[case::too_often(Draft { frequency: Some(9), time_units: some("seconds"), ..Draft::default() }, "frequency", "10 seconds")]
#[case::never_fires(Draft { cron: some("0 0 30 2 *"), ..Draft::default() }, "cron", "never fire")]
#[case::zone_without_cron(Draft { time_zone: some("UTC"), ..hourly() }, "time_zone", "without `cron`")]
#[case::unknown_zone(Draft { cron: some("0 2 * * *"), time_zone: some("Mars/Base"), ..Draft::default() }, "time_zone", "IANA")]
#[case::grace_over_a_year(Draft { grace: some("367 days"), ..hourly() }, "grace", "longer than a year")]
#[case::grace_without_unit(Draft { grace: some("60"), ..hourly() }, "grace", "`90s`")]
#[case::first_within_too_short(Draft { first_within: some("9s"), ..hourly() }, "first_within", "10 seconds")]
#[case::max_runtime_too_short(Draft { max_runtime: some("500ms"), ..hourly() }, "max_runtime", "1 second")]
#[case::max_runtime_over_a_year(Draft { max_runtime: some("53 weeks"), ..hourly() }, "max_runtime", "longer than a year")]
#[case::no_tolerance(Draft { tolerance: Some(0), ..hourly() }, "tolerance", "1 (alert at the first miss)")]
#[case::negative_tolerance(Draft { tolerance: Some(-1), ..hourly() }, "tolerance", "100")]
#[case::too_tolerant(Draft { tolerance: Some(101), ..hourly() }, "tolerance", "100")]
#[case::tolerance_overflow(Draft { tolerance: Some(i64::MAX), ..hourly() }, "tolerance", "100")]
#[case::realert_too_short(Draft { realert: some("59s"), ..hourly() }, "realert", "1 minute")]
#[case::realert_without_unit(Draft { realert: some("6"), ..hourly() }, "realert", "`90s`")]
#[case::unknown_alerter(Draft { alerters: names(&["mail", "fax"]), ..hourly() }, "alerters[1]", "mail, pager, chat")]
#[case::alerter_twice(Draft { alerters: names(&["mail", "mail"]), ..hourly() }, "alerters[1]", "twice")]
#[case::too_many_alerters(Draft { alerters: Some(vec!["mail".into(); 21]), ..hourly() }, "alerters", "20")]
#[case::escalation_too_soon(Draft { escalation: Some(vec![step("59s", &["mail"])]), ..hourly() }, "escalation[0].after", "1 minute")]
#[case::escalation_out_of_order(Draft { escalation: Some(vec![step("2m", &["mail"]), step("2m", &["chat"])]), ..hourly() }, "escalation[1].after", "order")]
#[case::escalation_to_nobody(Draft { escalation: Some(vec![step("2m", &[])]), ..hourly() }, "escalation[0].alerters", "nobody")]
#[case::escalation_to_unknown(Draft { escalation: Some(vec![step("2m", &["fax"])]), ..hourly() }, "escalation[0].alerters[0]", "mail, pager, chat")]
#[case::too_many_steps(Draft { escalation: Some(vec![step("2m", &["mail"]); 11]), ..hourly() }, "escalation", "10")]
#[case::long_template(Draft { alert_msg: Some("x".repeat(2_001)), ..hourly() }, "alert_msg", "2000")]
#[case::nul_in_template(Draft { alert_msg: some("a\0"), ..hourly() }, "alert_msg", "NUL")]
#[case::long_owner(Draft { owner: Some("x".repeat(255)), ..hourly() }, "owner", "254")]
#[case::line_break_in_owner(Draft { owner: some("a\r\nBcc: b"), ..hourly() }, "owner", "control")]
#[case::bad_address(Draft { notify: names(&["a", "b@@c"]), ..hourly() }, "notify[1]", "mail address")]
#[case::bad_label_key(Draft { labels: Some([("a b".into(), "".into())].into()), ..hourly() }, "labels", "A-Z")]
#[case::empty_label_key(Draft { labels: Some([("".into(), "".into())].into()), ..hourly() }, "labels", "1 to 63")]
#[case::long_label_value(Draft { labels: Some([("a".into(), "x".repeat(256))].into()), ..hourly() }, "labels.a", "255")]
#[case::line_break_in_label(Draft { labels: Some([("a".into(), "x\n".into())].into()), ..hourly() }, "labels.a", "printable")]
#[case::too_many_labels(Draft { labels: Some((0..33).map(|n| (n.to_string(), String::new())).collect()), ..hourly() }, "labels", "32")]
fn a_contradiction_is_refused_with_field_and_remedy(
    #[case] draft: Draft,
    #[case] field: &str,
    #[case] remedy: &str,
) {
    let error = parse(&draft).unwrap_err();
    assert_eq!(error.field, field, "{error}");
    assert!(error.message.contains(remedy), "{error}");
    assert!(!error.to_string().contains(char::is_control), "{error}");
}

#[test]
fn without_any_alerter_the_refusal_does_not_offer_one() {
    let error = Settings::parse(&Draft { alerters: names(&["mail"]), ..hourly() }, &[], NOW).unwrap_err();
    assert!(error.message.contains("no alerter is configured"), "{error}");
}

#[rstest]
#[case::schedule(Draft { every: some("2h"), ..Draft::default() }, true)]
#[case::grace(Draft { grace: some("1m"), ..hourly() }, true)]
#[case::first_within(Draft { first_within: some("1m"), ..hourly() }, true)]
#[case::tolerance(Draft { tolerance: Some(2), ..hourly() }, true)]
#[case::max_runtime(Draft { max_runtime: some("1m"), ..hourly() }, true)]
#[case::nothing(hourly(), false)]
#[case::same_written_otherwise(Draft { every: some("60m"), ..Draft::default() }, false)]
#[case::realert(Draft { realert: some("1h"), ..hourly() }, false)]
#[case::owner(Draft { owner: some("ann"), ..hourly() }, false)]
#[case::alerters(Draft { alerters: names(&["mail"]), ..hourly() }, false)]
fn only_what_changes_a_due_time_reschedules(#[case] new: Draft, #[case] reschedules: bool) {
    assert_eq!(parse(&hourly()).unwrap().reschedules(&parse(&new).unwrap()), reschedules);
}

#[test]
fn the_stored_form_never_changes() {
    // Rows written by this form must read back for ever: a change needs a new version.
    let draft =
        Draft { cron: some("0 2 * * *"), escalation: Some(vec![step("2m", &["mail"])]), ..Draft::default() };
    insta::assert_snapshot!(parse(&draft).unwrap().to_stored(), @r#"{"v":1,"schedule":{"cron":{"expression":"0 2 * * *","zone":"UTC"}},"grace_ms":3600000,"first_within_ms":null,"max_runtime_ms":null,"tolerance":1,"realert_ms":21600000,"alerters":[],"escalation":[{"after_ms":120000,"alerters":["mail"]}],"alert_msg":null,"owner":"","notify":[],"labels":{}}"#);
    insta::assert_snapshot!(
        parse(&hourly()).unwrap().to_stored().split(",\"grace").next().unwrap(),
        @r#"{"v":1,"schedule":{"every":{"frequency":1,"units":"hours"}}"#
    );
}

#[test]
fn a_field_of_a_newer_version_is_ignored() {
    let stored = parse(&hourly()).unwrap().to_stored().replacen('{', "{\"colour\":\"red\",", 1);
    assert_eq!(Settings::from_stored(&stored), parse(&hourly()).map_err(|error| error.to_string()));
}

#[rstest]
#[case::newer_form("\"v\":1", "\"v\":2", "form 2")]
#[case::no_version("\"v\":1,", "", "damaged")]
#[case::zero_period("\"frequency\":1", "\"frequency\":0", "damaged")]
#[case::endless_period("\"frequency\":1", "\"frequency\":9223372036854775807", "damaged")]
#[case::no_tolerance("\"tolerance\":1", "\"tolerance\":0", "damaged")]
#[case::huge_tolerance("\"tolerance\":1", "\"tolerance\":4000000000", "damaged")]
#[case::negative_grace("\"grace_ms\":0", "\"grace_ms\":-1", "damaged")]
#[case::unknown_unit("\"hours\"", "\"moons\"", "damaged")]
#[case::cut_off("\"labels\":{}}", "", "damaged")]
fn what_cannot_be_understood_is_said(#[case] from: &str, #[case] to: &str, #[case] why: &str) {
    let stored = parse(&hourly()).unwrap().to_stored();
    assert!(stored.contains(from));
    let error = Settings::from_stored(&stored.replace(from, to)).unwrap_err();
    assert!(error.contains(why), "{error}");
}

fn text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(prop_oneof![
        any::<String>(),
        prop::sample::select(vec!["5m", "1h30m", "2 days", "0", "never", "90s", "*/5 * * * *", "UTC"])
            .prop_map(str::to_owned),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn settings_survive_storage(
        every in 10..1_000_000i64, grace in 0..1_000_000i64, tolerance in 1..=100i64,
        first in proptest::option::of(10..1_000_000i64), limit in proptest::option::of(1..1_000_000i64),
        owner in "\\PC{0,40}", message in "\\PC{1,40}", label in "\\PC{0,40}", alerters in prop::sample::subsequence(known(), 0..=3),
    ) {
        let seconds = |count: i64| format!("{count}s");
        let draft = Draft {
            every: Some(seconds(every)),
            grace: Some(seconds(grace)),
            tolerance: Some(tolerance),
            first_within: first.map(seconds),
            max_runtime: limit.map(seconds),
            owner: Some(owner),
            alert_msg: Some(message),
            labels: Some([("k".to_owned(), label)].into()),
            alerters: Some(alerters),
            ..Draft::default()
        };
        let settings = parse(&draft).unwrap();
        prop_assert_eq!(Settings::from_stored(&settings.to_stored()), Ok(settings));
    }

    #[test]
    fn no_draft_panics_and_what_is_agreed_can_be_computed(
        frequency in proptest::option::of(any::<i64>()), tolerance in proptest::option::of(any::<i64>()),
        texts in proptest::collection::vec(text(), 8),
    ) {
        let draft = Draft {
            frequency,
            time_units: frequency.map(|_| "minutes".to_owned()),
            every: texts[0].clone().filter(|_| frequency.is_none()),
            cron: texts[1].clone().filter(|_| frequency.is_none() && texts[0].is_none()),
            grace: texts[2].clone(),
            first_within: texts[3].clone(),
            max_runtime: texts[4].clone(),
            realert: texts[5].clone(),
            owner: texts[6].clone(),
            alert_msg: texts[7].clone(),
            tolerance,
            ..Draft::default()
        };
        if let Ok(settings) = parse(&draft) {
            prop_assert!(settings.schedule.nth_after(NOW, settings.tolerance).is_ok());
        }
    }

    #[test]
    fn no_stored_text_panics(text in any::<String>()) {
        prop_assert!(Settings::from_stored(&text).is_err());
    }
}
