use super::*;
use crate::alert::fixtures::{digest, late, recovered};

fn pretty(notice: &Notice) -> String {
    serde_json::to_string_pretty(&message(notice, "hook", "https://gotel.example.org")).unwrap()
}

#[test]
fn a_late_job_fires() {
    insta::assert_snapshot!(pretty(&late()), @r#"
    {
      "version": "4",
      "groupKey": "{}:{alertname=\"GotelReservationLate\", app=\"billing\", component=\"nightly\"}",
      "truncatedAlerts": 0,
      "status": "firing",
      "receiver": "hook",
      "groupLabels": {
        "alertname": "GotelReservationLate",
        "app": "billing",
        "component": "nightly"
      },
      "commonLabels": {
        "_9_x": "y",
        "alertname": "GotelReservationLate",
        "app": "billing",
        "component": "nightly",
        "severity": "error",
        "team": "money"
      },
      "commonAnnotations": {
        "description": "App: [billing] Component: [nightly] failed checkin on IP [a-1]. Contact owner [ada]",
        "owner": "ada",
        "remarks": "Noticed 2 min late.",
        "schedule": "every day at 01:00 UTC",
        "summary": "LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)"
      },
      "externalURL": "https://gotel.example.org",
      "alerts": [
        {
          "status": "firing",
          "labels": {
            "_9_x": "y",
            "alertname": "GotelReservationLate",
            "app": "billing",
            "component": "nightly",
            "severity": "error",
            "team": "money"
          },
          "annotations": {
            "description": "App: [billing] Component: [nightly] failed checkin on IP [a-1]. Contact owner [ada]",
            "owner": "ada",
            "remarks": "Noticed 2 min late.",
            "schedule": "every day at 01:00 UTC",
            "summary": "LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)"
          },
          "startsAt": "2026-01-02T02:00:00.000Z",
          "endsAt": "0001-01-01T00:00:00Z",
          "generatorURL": "https://gotel.example.org/status/billing/nightly",
          "fingerprint": "bbfaf8abc2a5e753"
        }
      ]
    }
    "#);
}

#[test]
fn a_recovery_resolves_the_alert_with_the_same_labels() {
    let (fired, resolved) = (single(&late()), single(&recovered()));
    assert_eq!(fired.labels, resolved.labels);
    assert_eq!(fired.fingerprint, resolved.fingerprint);
    assert_eq!(fired.starts_at, resolved.starts_at);
    assert_eq!(fired.ends_at, NO_TIME);
    assert_eq!(resolved.ends_at, "2026-01-02T03:30:00.000Z");
    assert_eq!(message(&recovered(), "hook", "").status, Status::Resolved);
}

#[test]
fn a_digest_is_several_alerts() {
    insta::assert_snapshot!(pretty(&digest()), @r#"
    {
      "version": "4",
      "groupKey": "{}:{alertname=\"GotelReservationLate\", app=\"billing\"}",
      "truncatedAlerts": 10,
      "status": "firing",
      "receiver": "hook",
      "groupLabels": {
        "alertname": "GotelReservationLate",
        "app": "billing"
      },
      "commonLabels": {
        "alertname": "GotelReservationLate",
        "app": "billing",
        "severity": "error"
      },
      "commonAnnotations": {
        "owner": "ada"
      },
      "externalURL": "https://gotel.example.org",
      "alerts": [
        {
          "status": "firing",
          "labels": {
            "alertname": "GotelReservationLate",
            "app": "billing",
            "component": "nightly",
            "severity": "error"
          },
          "annotations": {
            "owner": "ada",
            "summary": "LATE billing/nightly"
          },
          "startsAt": "2026-01-02T02:00:00.000Z",
          "endsAt": "0001-01-01T00:00:00Z",
          "generatorURL": "",
          "fingerprint": "bd872091f2b8314a"
        },
        {
          "status": "resolved",
          "labels": {
            "alertname": "GotelReservationLate",
            "app": "billing",
            "component": "hourly",
            "severity": "error"
          },
          "annotations": {
            "owner": "ada",
            "summary": "RECOVERED billing/hourly"
          },
          "startsAt": "2026-01-02T02:00:00.000Z",
          "endsAt": "2026-01-02T02:02:10.000Z",
          "generatorURL": "",
          "fingerprint": "6389c18f5dfd0e1b"
        }
      ]
    }
    "#);
}

#[test]
fn a_reservations_labels_cannot_replace_ours() {
    let mut notice = late();
    notice.labels.insert("alertname".into(), "Watchdog".into());
    notice.labels.insert("se-verity".into(), "none".into());
    let alert = single(&notice);
    assert_eq!(alert.labels["alertname"], "GotelReservationLate");
    assert_eq!(alert.labels["se_verity"], "none");
}

#[test]
fn an_end_told_alone_matches_what_a_digest_told() {
    let others = Notice { component: "hourly".into(), labels: Default::default(), ..late() };
    let storm = Notice::digest(&[late(), others], "d-1", 0, "a-1");
    let storm = message(&storm, "hook", "");
    let end = message(&recovered(), "hook", "");
    assert_eq!(storm.alerts[0].labels, end.alerts[0].labels);
    assert_eq!(storm.alerts[0].fingerprint, end.alerts[0].fingerprint);
    assert_eq!(storm.alerts[0].labels["team"], "money");
    assert!(!storm.common_labels.contains_key("team"), "the other one has none");
}
