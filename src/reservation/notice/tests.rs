//! Titles that a tired person understands, and stored notices that keep reading.

use super::*;
use proptest::prelude::*;
use rstest::rstest;

/// 2026-01-02T02:00:00Z
const DEADLINE: i64 = 1_767_319_200_000;

fn notice(event: Event, reason: Reason) -> Notice {
    Notice {
        version: 1,
        event,
        reason,
        incident: "i-1".into(),
        dedup_key: "gotel/k".into(),
        event_no: 0,
        app: "billing".into(),
        component: "nightly".into(),
        owner: "ann".into(),
        notify: vec!["a@example.org".into()],
        labels: [("team".to_owned(), "money".to_owned())].into(),
        schedule: "every hour".into(),
        deadline_ms: DEADLINE,
        noticed_ms: DEADLINE + 1,
        at_ms: DEADLINE + 1,
        last_ok_ms: None,
        checkins: 0,
        exit_code: None,
        rid: None,
        down_ms: None,
        message: "first line\nsecond".into(),
        output: None,
        srv: "node-1".into(),
        url: None,
        remarks: vec![],
        digest: None,
    }
}

fn with(mut notice: Notice, change: impl FnOnce(&mut Notice)) -> Notice {
    change(&mut notice);
    notice
}

use Event::{Cancel, Escalate, Recovered, Remind, Resolve, Test, Trigger};
use Reason::{Failed, Missed, NeverCheckedIn, Overrun, System};

#[rstest]
#[case(notice(Trigger, Missed), "LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)")]
#[case(
    notice(Trigger, NeverCheckedIn),
    "NEVER CHECKED IN billing/nightly: expected by 02:00:00 UTC (2026-01-02)"
)]
#[case(with(notice(Trigger, NeverCheckedIn), |n| n.checkins = 3), "LATE billing/nightly: no good run ever, expected by 02:00:00 UTC (2026-01-02)")]
#[case(with(notice(Trigger, Failed), |n| n.exit_code = Some(3)), "FAILED billing/nightly: exit code 3 at 02:00:00 UTC (2026-01-02)")]
#[case(notice(Trigger, Failed), "FAILED billing/nightly: at 02:00:00 UTC (2026-01-02)")]
#[case(with(notice(Trigger, Overrun), |n| n.rid = Some("r1".into())), "OVERRUN billing/nightly: run r1 still going after its limit, 02:00:00 UTC (2026-01-02)")]
#[case(with(notice(Trigger, Overrun), |n| n.rid = Some("".into())), "OVERRUN billing/nightly: still running after its limit, 02:00:00 UTC (2026-01-02)")]
#[case(with(notice(Trigger, System), |n| n.component = "mail".into()), "GOTEL TROUBLE mail: first line")]
#[case(notice(Remind, Missed), "STILL LATE billing/nightly: since 02:00:00 UTC (2026-01-02)")]
#[case(
    notice(Remind, NeverCheckedIn),
    "STILL NEVER CHECKED IN billing/nightly: since 02:00:00 UTC (2026-01-02)"
)]
#[case(notice(Remind, Failed), "STILL FAILED billing/nightly: since 02:00:00 UTC (2026-01-02)")]
#[case(notice(Remind, Overrun), "STILL RUNNING billing/nightly: since 02:00:00 UTC (2026-01-02)")]
#[case(notice(Escalate, Missed), "ESCALATED: LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)")]
#[case(with(notice(Resolve, Missed), |n| { n.last_ok_ms = Some(DEADLINE + 840_000); n.down_ms = Some(840_000); }), "RECOVERED billing/nightly after 14m")]
#[case(notice(Resolve, Missed), "CLOSED billing/nightly: no longer late")]
#[case(with(notice(Resolve, Overrun), |n| n.down_ms = Some(5_400_000)), "CLOSED billing/nightly: no longer overdue, after 1h 30m")]
#[case(with(notice(Resolve, System), |n| n.component = "mail".into()), "GOTEL OK mail")]
#[case(notice(Cancel, Missed), "CLOSED billing/nightly (checked out)")]
#[case(
    notice(Recovered, Missed),
    "RECOVERED billing/nightly: missed 02:00:00 UTC (2026-01-02), mended before it could be told"
)]
#[case(notice(Test, System), "TEST of the alerter for billing/nightly: nothing is wrong")]
fn a_title_says_what_is_wrong_with_what_since_when(#[case] notice: Notice, #[case] title: &str) {
    assert_eq!(notice.title(), title);
}

#[test]
fn an_end_is_told_in_a_sentence() {
    let recovered = with(notice(Resolve, Missed), |notice| {
        notice.last_ok_ms = Some(DEADLINE);
        notice.down_ms = Some(840_000);
    });
    assert_eq!(recovered.resolved_text().unwrap(), "The job ran well again. It was down for 14m.");
    assert_eq!(
        notice(Resolve, Failed).resolved_text().unwrap(),
        "The incident was closed: no longer failed."
    );
    assert_eq!(notice(Cancel, Missed).resolved_text().unwrap(), "The reservation was checked out.");
    assert_eq!(notice(Trigger, Missed).resolved_text(), None);
}

#[test]
fn a_title_is_one_printable_line_of_bounded_length() {
    let nasty = with(notice(Trigger, System), |notice| notice.message = "a\u{7}b\tc\u{85}".into());
    assert!(!nasty.title().contains(char::is_control));
    let long = with(notice(Trigger, Missed), |notice| {
        notice.app = "漢".repeat(150);
        notice.component = "🦀".repeat(150);
    });
    assert_eq!(long.title().chars().count(), TITLE_MAX);
    assert!(long.title().ends_with('…'));
}

#[test]
fn a_digest_counts_all_and_lists_fifty() {
    let members: Vec<Notice> = (0..120)
        .map(|n| with(notice(Trigger, Missed), |notice| notice.component = format!("c{n}")))
        .collect();
    let digest = Notice::digest(&members, "d-1", DEADLINE + 9, "node-2");
    let inner = digest.digest.as_ref().unwrap();
    assert_eq!((inner.count, inner.lines.len()), (120, 50));
    assert_eq!(inner.lines[49].component, "c49");
    assert_eq!(digest.remarks, ["… and 70 more"]);
    assert_eq!(digest.title(), "120 alerts: billing/c0, billing/c1, billing/c2, …");
    assert_eq!(
        (digest.dedup_key.as_str(), digest.srv.as_str(), digest.owner.as_str()),
        ("d-1", "node-2", "ann")
    );
    assert_eq!((digest.event, digest.at_ms, digest.deadline_ms), (Event::Digest, DEADLINE + 9, DEADLINE));
}

#[test]
fn a_small_digest_lists_all_and_keeps_each_remark_once() {
    let late =
        with(notice(Trigger, Missed), |notice| notice.remarks = vec!["not seen since the outage".into()]);
    let other = with(late.clone(), |notice| notice.owner = "bob".into());
    let digest = Notice::digest(&[late, other], "d-1", DEADLINE, "node-2");
    assert_eq!(digest.remarks, ["not seen since the outage"]);
    assert_eq!(digest.owner, "");
    assert_eq!(digest.title(), "2 alerts: billing/nightly, billing/nightly");
}

#[test]
fn a_digest_of_recoveries_does_not_look_like_an_alarm() {
    let well = notice(Resolve, Missed);
    let digest = Notice::digest(&[well.clone(), well.clone()], "d-1", DEADLINE, "n");
    assert!(digest.title().starts_with("2 recoveries"));
    let mixed = Notice::digest(&[well, notice(Trigger, Missed)], "d-1", DEADLINE, "n");
    assert!(mixed.title().starts_with("2 alerts"));
}

#[test]
fn digests_unfold_into_digests() {
    let members: Vec<Notice> = (0..60).map(|_| notice(Trigger, Missed)).collect();
    let inner = Notice::digest(&members, "d-1", DEADLINE, "n");
    let outer = Notice::digest(&[inner, notice(Trigger, Missed)], "d-2", DEADLINE, "n");
    let digest = outer.digest.unwrap();
    assert_eq!((digest.count, digest.lines.len()), (61, 50));
    assert_eq!(outer.remarks, ["… and 11 more"]);
}

#[test]
fn a_digest_leads_to_the_page_of_all_that_are_bad() {
    let at = |base: &str| {
        with(notice(Trigger, Missed), |notice| notice.url = Some(format!("{base}/status/billing/a%2Fb")))
    };
    for base in ["https://gotel.example.org", "https://example.org/ops/gotel"] {
        let inner = Notice::digest(&[notice(Trigger, Missed), at(base)], "d-1", DEADLINE, "n");
        assert_eq!(inner.url, Some(format!("{base}/badguests")));
        assert_eq!(Notice::digest(&[inner.clone(), at(base)], "d-2", DEADLINE, "n").url, inner.url);
    }
    assert_eq!(Notice::digest(&[notice(Trigger, Missed)], "d-1", DEADLINE, "n").url, None);
}

#[test]
fn a_digest_of_nothing_does_not_panic() {
    let digest = Notice::digest(&[], "d-1", DEADLINE, "n");
    assert_eq!(digest.digest.unwrap().count, 0);
    assert!(with(notice(Event::Digest, Missed), |n| n.digest = None).title().starts_with("0 alerts"));
}

#[test]
fn a_stored_notice_of_an_older_version_still_reads() {
    let old =
        r#"{"event":"trigger","reason":"missed","incident":"i","dedup_key":"k","app":"a","component":"b"}"#;
    let read: Notice = serde_json::from_str(old).unwrap();
    assert_eq!((read.version, read.event_no, read.digest), (1, 0, None));
}

#[test]
fn a_notice_survives_storage() {
    let full = with(notice(Resolve, Overrun), |notice| {
        notice.down_ms = Some(5);
        notice.output = Some("\u{1}binary?".into());
        notice.exit_code = Some(255);
    });
    let digest = Notice::digest(std::slice::from_ref(&full), "d", DEADLINE, "n");
    for notice in [full, digest] {
        let stored = serde_json::to_string(&notice).unwrap();
        assert_eq!(serde_json::from_str::<Notice>(&stored).unwrap(), notice);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn whatever_it_holds_a_title_fits_a_subject(
        app in any::<String>(), message in any::<String>(), rid in any::<Option<String>>(), deadline: i64,
        down in any::<Option<i64>>(), event in prop::sample::select(Event::ALL.to_vec()),
        reason in prop::sample::select(Reason::ALL.to_vec()),
    ) {
        let notice = with(notice(event, reason), |notice| {
            notice.app = app;
            notice.message = message;
            notice.rid = rid;
            notice.deadline_ms = deadline;
            notice.down_ms = down;
        });
        let title = notice.title();
        prop_assert!(!title.is_empty());
        prop_assert!(title.chars().count() <= TITLE_MAX);
        prop_assert!(!title.contains(char::is_control));
    }
}
