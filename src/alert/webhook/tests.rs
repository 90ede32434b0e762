use super::*;
use crate::alert::fixtures::{digest, failed, hostile, recovered, to};
use rstest::rstest;

fn webhook(format: Format) -> Webhook {
    let config = WebhookConfig {
        url: Secret::written("https://hooks.example.org/s3cret-path".into()),
        format,
        secret: Some(Secret::written("s3cret".into())),
        headers: vec![("x-team".into(), Secret::written("s3cret-header".into()))],
        ca_file: None,
    };
    let context = Context { external_url: Some("https://gotel.example.org".into()) };
    Webhook::new("hook".into(), &config, &context).unwrap()
}

fn pretty(format: Format, notice: Notice) -> String {
    let body = webhook(format).body(&to("", notice)).unwrap();
    serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&body).unwrap()).unwrap()
}

#[test]
fn a_failed_job_in_gotels_own_format() {
    insta::assert_snapshot!(pretty(Format::GoTel, failed()), @r#"
    {
      "app": "billing",
      "at": "2026-01-02T02:02:05.000Z",
      "checkins": 41,
      "component": "nightly",
      "deadline": "2026-01-02T02:00:00.000Z",
      "dedup_key": "gotel/1b2c/billing/nightly/1767319200000",
      "digest": null,
      "down_seconds": null,
      "event": "trigger",
      "event_no": 0,
      "exit_code": 3,
      "id": "9f86d081884c7d65",
      "incident": "0198c0de-0000-7000-8000-000000000001",
      "labels": {
        "9-x": "y",
        "team": "money"
      },
      "last_ok": "2026-01-01T02:00:00.000Z",
      "message": "App: [billing] Component: [nightly] failed checkin on IP [a-1]. Contact owner [ada]",
      "noticed": "2026-01-02T02:00:00.000Z",
      "notify": [
        "ada@example.org"
      ],
      "output": "line 1\nline 2",
      "owner": "ada",
      "reason": "failed",
      "remarks": [],
      "rid": "run-7",
      "schedule": "every day at 01:00 UTC",
      "srv": "a-1",
      "status": "firing",
      "title": "FAILED billing/nightly: exit code 3 at 02:00:00 UTC (2026-01-02)",
      "url": "https://gotel.example.org/status/billing/nightly",
      "version": 1
    }
    "#);
}

#[test]
fn a_digest_in_gotels_own_format() {
    insta::assert_snapshot!(pretty(Format::GoTel, digest()), @r#"
    {
      "app": "gotel",
      "at": "2026-01-02T02:02:10.000Z",
      "checkins": 0,
      "component": "digest",
      "deadline": "2026-01-02T02:00:00.000Z",
      "dedup_key": "0198c0de-0000-7000-8000-0000000000d1",
      "digest": {
        "alerts": [
          {
            "app": "billing",
            "component": "nightly",
            "deadline": "2026-01-02T02:00:00.000Z",
            "event": "trigger",
            "incident": "i",
            "owner": "ada",
            "reason": "missed"
          },
          {
            "app": "billing",
            "component": "hourly",
            "deadline": "2026-01-02T02:00:00.000Z",
            "event": "resolve",
            "incident": "i",
            "owner": "ada",
            "reason": "missed"
          }
        ],
        "count": 12
      },
      "down_seconds": null,
      "event": "digest",
      "event_no": 0,
      "exit_code": null,
      "id": "9f86d081884c7d65",
      "incident": "0198c0de-0000-7000-8000-0000000000d1",
      "labels": {},
      "last_ok": null,
      "message": "12 alerts: billing/nightly, billing/hourly, …",
      "noticed": "2026-01-02T02:02:05.000Z",
      "notify": [],
      "output": null,
      "owner": "ada",
      "reason": "missed",
      "remarks": [
        "… and 10 more"
      ],
      "rid": null,
      "schedule": "",
      "srv": "a-1",
      "status": "firing",
      "title": "12 alerts: billing/nightly, billing/hourly, …",
      "url": "https://gotel.example.org/badguests",
      "version": 1
    }
    "#);
}

#[test]
fn hostile_text_arrives_as_it_is_inside_json() {
    let body = webhook(Format::GoTel).body(&to("", hostile())).unwrap();
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["app"], hostile().app);
    assert!(!json["title"].as_str().unwrap().chars().any(char::is_control));
}

#[test]
fn a_signature_can_be_checked_by_anybody_who_knows_the_secret() {
    // printf '1767319200.{"a":1}' | openssl dgst -sha256 -hmac s3cret
    let secret = Secret::written("s3cret".into());
    insta::assert_snapshot!(signature(&secret.value(), 1_767_319_200, r#"{"a":1}"#), @"t=1767319200,v1=4eec7980dfaae4d84048913fd6a002f0a74c79dcb4eb7bc822d7288658c876e0");
}

#[test]
fn neither_the_url_nor_a_header_nor_the_secret_is_printed() {
    assert_eq!(format!("{:?}", webhook(Format::GoTel)), r#"Webhook { name: "hook", .. }"#);
}

#[rstest]
#[case(204, "accepted")]
#[case(307, "refused")]
#[case(400, "refused")]
#[case(401, "broken")]
#[case(403, "broken")]
#[case(404, "broken")]
#[case(408, "retry")]
#[case(410, "refused")]
#[case(425, "retry")]
#[case(429, "retry")]
#[case(502, "retry")]
fn each_answer_means_something(#[case] status: u16, #[case] kind: &str) {
    let status = reqwest::StatusCode::from_u16(status).unwrap();
    let answer = Answer { status, retry_after_ms: None, body: b"s3cret-header".to_vec() };
    let outcome = judge("hooks.example.org", &answer);
    assert_eq!(outcome.as_str(), kind);
    assert!(!outcome.why().unwrap_or("").contains("s3cret"));
}

#[test]
fn an_end_does_not_repeat_the_alarm() {
    let end = to("", recovered());
    assert_eq!(v1(&end).message, "The job ran well again. It was down for 1h 30m.");
    let cancel = to("", Notice { event: Event::Cancel, down_ms: None, ..recovered() });
    assert_eq!(v1(&cancel).message, "The reservation was checked out.");
}
