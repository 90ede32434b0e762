use super::*;
use crate::alert::fixtures::{digest, failed, hostile, late, recovered};
use rstest::rstest;

fn pagerduty() -> PagerDuty {
    let config = PagerDutyConfig {
        routing_key: Secret::written("R0123456789abcdefghijklmnopqrstu".into()),
        url: "https://events.eu.pagerduty.com/v2/enqueue".parse().unwrap(),
        severity: Severity::Critical,
    };
    let context = Context { external_url: Some("https://gotel.example.org".into()) };
    PagerDuty::new("pager".into(), &config, &context).unwrap()
}

fn json(notice: &Notice) -> serde_json::Value {
    let pagerduty = pagerduty();
    let body = pagerduty.body(&pagerduty.key.value(), notice, action(notice.event)).unwrap();
    serde_json::from_slice(&body).unwrap()
}

fn pretty(notice: &Notice) -> String {
    serde_json::to_string_pretty(&json(notice)).unwrap()
}

#[test]
fn a_late_job_triggers() {
    insta::assert_snapshot!(pretty(&late()), @r#"
    {
      "client": "GoTel",
      "client_url": "https://gotel.example.org/status/billing/nightly",
      "dedup_key": "gotel/1b2c/billing/nightly/1767319200000",
      "event_action": "trigger",
      "links": [
        {
          "href": "https://gotel.example.org/status/billing/nightly",
          "text": "In GoTel"
        }
      ],
      "payload": {
        "class": "missed",
        "component": "nightly",
        "custom_details": {
          "Deadline": "2026-01-02 02:00:00 UTC",
          "Event": "trigger",
          "Labels": "9-x=y, team=money",
          "Last good check-in": "2026-01-01 02:00:00 UTC",
          "Message": "App: [billing] Component: [nightly] failed checkin on IP [a-1]. Contact owner [ada]",
          "Noticed": "2026-01-02 02:02:05 UTC",
          "Noticed by": "a-1",
          "Owner": "ada",
          "Remarks": [
            "Noticed 2 min late."
          ],
          "Schedule": "every day at 01:00 UTC"
        },
        "group": "billing",
        "severity": "critical",
        "source": "a-1",
        "summary": "LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)",
        "timestamp": "2026-01-02T02:00:00.000Z"
      },
      "routing_key": "R0123456789abcdefghijklmnopqrstu"
    }
    "#);
}

#[test]
fn a_recovery_resolves_with_the_same_key_and_nothing_else() {
    insta::assert_snapshot!(pretty(&recovered()), @r#"
    {
      "dedup_key": "gotel/1b2c/billing/nightly/1767319200000",
      "event_action": "resolve",
      "routing_key": "R0123456789abcdefghijklmnopqrstu"
    }
    "#);
}

#[test]
fn a_digest_triggers_under_its_own_key() {
    insta::assert_snapshot!(pretty(&digest()), @r#"
    {
      "client": "GoTel",
      "client_url": "https://gotel.example.org/badguests",
      "dedup_key": "0198c0de-0000-7000-8000-0000000000d1",
      "event_action": "trigger",
      "links": [
        {
          "href": "https://gotel.example.org/badguests",
          "text": "In GoTel"
        }
      ],
      "payload": {
        "class": "missed",
        "component": "digest",
        "custom_details": {
          "Alerts": [
            "LATE billing/nightly (2026-01-02 02:00:00 UTC, ada)",
            "RECOVERED billing/hourly (2026-01-02 02:00:00 UTC, ada)"
          ],
          "Event": "digest",
          "Made by": "a-1",
          "Remarks": [
            "… and 10 more"
          ]
        },
        "group": "gotel",
        "severity": "critical",
        "source": "a-1",
        "summary": "12 alerts: billing/nightly, billing/hourly, …",
        "timestamp": "2026-01-02T02:00:00.000Z"
      },
      "routing_key": "R0123456789abcdefghijklmnopqrstu"
    }
    "#);
}

#[rstest]
#[case(Event::Trigger, Action::Trigger)]
#[case(Event::Remind, Action::Trigger)]
#[case(Event::Escalate, Action::Trigger)]
#[case(Event::Digest, Action::Trigger)]
#[case(Event::Test, Action::Trigger)]
#[case(Event::Resolve, Action::Resolve)]
#[case(Event::Cancel, Action::Resolve)]
#[case(Event::Recovered, Action::Resolve)]
fn each_event_has_its_action(#[case] event: Event, #[case] expected: Action) {
    assert_eq!(action(event), expected);
}

#[test]
fn a_test_is_informational_whatever_the_configured_severity() {
    let notice = Notice { event: Event::Test, ..late() };
    assert_eq!(json(&notice)["payload"]["severity"], "info");
}

#[test]
fn what_pagerduty_would_refuse_for_its_length_is_cut() {
    let long = Notice {
        app: "ä".repeat(3000),
        dedup_key: "k".repeat(256),
        output: Some("\u{1}".repeat(10) + &"o".repeat(600_000)),
        ..failed()
    };
    let pagerduty = pagerduty();
    let body = pagerduty.body(&pagerduty.key.value(), &long, Action::Trigger).unwrap();
    assert!(body.len() < EVENT_MAX);
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert!(json["payload"]["summary"].as_str().unwrap().chars().count() <= SUMMARY_MAX);
    assert_eq!(json["dedup_key"].as_str().unwrap().len(), 32);
    assert_eq!(json["payload"]["custom_details"], serde_json::json!({}));
}

#[test]
fn hostile_text_stays_text() {
    let json = json(&hostile());
    let summary = json["payload"]["summary"].as_str().unwrap();
    assert!(!summary.chars().any(char::is_control), "{summary:?}");
    assert_eq!(json["links"], serde_json::Value::Null);
    assert_eq!(json["client_url"], "https://gotel.example.org");
}

#[rstest]
#[case(202, "", "accepted", "")]
#[case(
    400,
    r#"{"message":"Event object is invalid","errors":["summary is missing"]}"#,
    "refused",
    "events.eu.pagerduty.com answered 400 Bad Request: Event object is invalid; summary is missing"
)]
#[case(
    400,
    r#"{"errors":["'routing_key' R0123456789abcdefghijklmnopqrstu is invalid"]}"#,
    "broken",
    "events.eu.pagerduty.com answered 400 Bad Request: 'routing_key' *** is invalid"
)]
#[case(403, "<html>", "broken", "events.eu.pagerduty.com answered 403 Forbidden")]
#[case(404, "", "broken", "events.eu.pagerduty.com answered 404 Not Found")]
#[case(413, "", "refused", "events.eu.pagerduty.com answered 413 Payload Too Large")]
#[case(301, "", "refused", "events.eu.pagerduty.com answered 301 Moved Permanently")]
#[case(429, "", "retry", "events.eu.pagerduty.com answered 429 Too Many Requests")]
#[case(500, "", "retry", "events.eu.pagerduty.com answered 500 Internal Server Error")]
fn each_answer_means_something(
    #[case] status: u16,
    #[case] body: &str,
    #[case] kind: &str,
    #[case] why: &str,
) {
    let status = reqwest::StatusCode::from_u16(status).unwrap();
    let pagerduty = pagerduty();
    let answer = Answer { status, retry_after_ms: None, body: body.as_bytes().to_vec() };
    let outcome = pagerduty.judge(&pagerduty.key.value(), &answer);
    assert_eq!((outcome.as_str(), outcome.why().unwrap_or("")), (kind, why));
}
