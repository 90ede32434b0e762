//! Making reservations and looking at them.

use gotel::reservation::{Draft, JobKey, Settings};
use gotel::store::{ObjectId, Plan, Reclaim, Wish};
use serde_json::json;

use crate::util::app::TestApp;
use crate::util::db::{TestDb, on_every_database};

on_every_database!(a_reservation_is_shown_with_all_that_is_known_of_it);
async fn a_reservation_is_shown_with_all_that_is_known_of_it(db: TestDb) {
    let app = TestApp::on(db).await;
    let more = json!({
        "cron": "30 2 * * *", "time_zone": "Europe/Dublin", "grace": "90m", "max_runtime": "1h",
        "owner": "jane@example.org", "notify": ["jane@example.org", "ops"], "alert_msg": "{app} is late",
        "escalation": [{"after": "30m", "alerters": ["mail"]}], "labels": {"team": "a"}
    });
    app.reserve("billing", "nightly", more).await;
    app.get("/checkin/billing/nightly/start?rid=r1").await;
    app.post("/checkin/billing/nightly/3?rid=r1", "disk full").await;
    let shown = app.get("/reservation/billing/nightly").await.shown();
    insta::allow_duplicates! {
        insta::assert_snapshot!(shown, @r#"
        200
        {
          "result": {
            "alert_msg": "{app} is late",
            "app": "billing",
            "checkins": [
              {
                "at": "[time]",
                "exit_code": 3,
                "kind": "fail",
                "notes": "disk full",
                "rid": "r1"
              },
              {
                "at": "[time]",
                "exit_code": null,
                "kind": "start",
                "notes": null,
                "rid": "r1"
              }
            ],
            "component": "nightly",
            "created": "[time]",
            "deadline": "[time]",
            "deadline_ms": "[time]",
            "failing_sla": false,
            "fails": 1,
            "frequency": null,
            "incident": null,
            "incidents": [],
            "job_id": 1,
            "last_checkin": null,
            "last_checkin_str": "",
            "notify": "jane@example.org,ops",
            "number_of_checkins": 2,
            "owner": "jane@example.org",
            "runs": [
              {
                "ended": "[time]",
                "exit_code": 3,
                "outcome": "fail",
                "rid": "r1",
                "started": "[time]",
                "took_ms": "[time]"
              }
            ],
            "schedule": "30 2 * * * Europe/Dublin",
            "settings": {
              "alert_msg": "{app} is late",
              "alerters": [],
              "cron": "30 2 * * *",
              "escalation": [
                {
                  "after": "30m",
                  "alerters": [
                    "mail"
                  ]
                }
              ],
              "grace": "1h 30m",
              "labels": {
                "team": "a"
              },
              "max_runtime": "1h",
              "notify": [
                "jane@example.org",
                "ops"
              ],
              "owner": "jane@example.org",
              "realert": "6h",
              "time_zone": "Europe/Dublin",
              "tolerance": 1
            },
            "snooze_by": null,
            "snooze_reason": null,
            "snoozed_until": null,
            "state": "waiting",
            "time_since_last_checkin": "",
            "time_units": "",
            "upcoming": [
              "[time]",
              "[time]",
              "[time]",
              "[time]",
              "[time]"
            ],
            "updated": "[time]"
          },
          "success": true
        }
        "#);
    }
    app.finish().await;
}

#[tokio::test]
async fn the_list_is_filtered_and_paged() {
    let app = TestApp::new().await;
    for n in 0..5 {
        let owner = if n % 2 == 0 { "jane" } else { "joe" };
        app.reserve(&format!("app-{n}"), "job_%", json!({ "owner": owner })).await;
    }
    app.sql("UPDATE reservation SET state = 'on_time' WHERE app = 'app-1'").await;
    app.post("/snooze", r#"{"app":"app-2","component":"job_%","duration":"1h"}"#).await;
    let apps = async |query: &str| {
        let answer = app.get(&format!("/reservation?{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let json = answer.json();
        let apps: Vec<_> = json["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["app"].as_str().unwrap().to_owned())
            .collect();
        (apps.join(" "), json["next"].as_str().map(str::to_owned))
    };
    assert_eq!(apps("").await, ("app-0 app-1 app-2 app-3 app-4".into(), None));
    assert_eq!(apps("owner=joe").await.0, "app-1 app-3");
    assert_eq!(apps("state=on_time").await.0, "app-1");
    assert_eq!(apps("state=waiting&owner=jane").await.0, "app-0 app-2 app-4");
    assert_eq!(apps("state=snoozed").await.0, "app-2");
    assert_eq!(apps("state=bad").await.0, "");
    assert_eq!(apps("app=app-3").await.0, "app-3");
    assert_eq!(apps("q=APP-4").await.0, "app-4");
    assert_eq!(apps("q=_%25").await.0, "app-0 app-1 app-2 app-3 app-4");
    assert_eq!(apps("q=a%25p").await.0, "");
    let (first, next) = apps("limit=2").await;
    let (second, more) = apps(&format!("limit=2&cursor={}", next.unwrap())).await;
    let (third, end) = apps(&format!("limit=2&cursor={}", more.unwrap())).await;
    assert_eq!([first, second, third].join(" "), "app-0 app-1 app-2 app-3 app-4");
    assert_eq!(end, None);
    app.finish().await;
}

#[tokio::test]
async fn making_a_reservation_again_changes_it_and_its_owner() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({"owner": "jane", "notify": "x@example.org, ops"})).await;
    app.reserve("a", "b", json!({"owner": "joe", "frequency": 7})).await;
    let list = app.get("/reservation").await.json();
    assert_eq!(list["result"].as_array().unwrap().len(), 1);
    assert_eq!(list["result"][0]["owner"], "joe");
    assert_eq!(list["result"][0]["frequency"], 7);
    assert_eq!(list["result"][0]["notify"], "");
    app.finish().await;
}

#[tokio::test]
async fn settings_can_be_posted_back_as_they_are_shown() {
    let app = TestApp::new().await;
    let more =
        json!({"every": "90m", "grace": "1h 1s", "tolerance": 2, "realert": "0s", "alerters": ["mail"]});
    app.reserve("a", "b", more).await;
    let shown = app.get("/reservation/a/b").await.json()["result"]["settings"].clone();
    app.reserve("a", "copy", shown.clone()).await;
    assert_eq!(app.get("/reservation/a/copy").await.json()["result"]["settings"], shown);
    app.finish().await;
}

#[tokio::test]
async fn names_are_any_text_and_addresses_percent_encode_them() {
    let app = TestApp::new().await;
    let (name, component) = ("a/b c+%", "ünïcödé?#&");
    app.reserve(name, component, json!({})).await;
    let path = "a%2Fb%20c+%25/%C3%BCn%C3%AFc%C3%B6d%C3%A9%3F%23%26";
    assert_eq!(app.get(&format!("/checkin/{path}")).await.body, "OK");
    let shown = app.get(&format!("/reservation/{path}")).await.json();
    assert_eq!((&shown["result"]["app"], &shown["result"]["component"]), (&json!(name), &json!(component)));
    assert_eq!(app.get(&format!("/status/{path}")).await.status, 200);
    app.finish().await;
}

on_every_database!(histories_come_in_pages_that_neither_repeat_nor_skip);
async fn histories_come_in_pages_that_neither_repeat_nor_skip(db: TestDb) {
    let app = TestApp::on(db).await;
    app.reserve("a", "b", json!({})).await;
    for n in 0..5 {
        app.post("/checkin/a/b", format!("note {n}")).await;
    }
    for n in 0..5 {
        // Two of a moment, to be told apart by their ids.
        let at = 1000 * (n / 2 + 1);
        app.sql(&format!(
            "INSERT INTO incident (id, reservation_id, gen, app, component, reason, dedup_key, deadline_ms, opened_ms, \
             closed_ms, ending, event_no, escalated, term) \
             SELECT 'id-{n}', id, 1, app, component, 'missed', 'd', {at}, {at}, {at}, 'recovered', 1, 0, 1 FROM reservation"
        ))
        .await;
    }
    for (kind, field, expected) in [
        ("checkins", "notes", "note 4,note 3,note 2,note 1,note 0"),
        ("incidents", "id", "id-4,id-3,id-2,id-1,id-0"),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = app.get(&format!("/reservation/a/b/{kind}?limit=2&cursor={cursor}")).await.json();
            let items = page["result"].as_array().unwrap();
            seen.extend(items.iter().map(|item| item[field].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen.join(","), expected);
        assert_eq!(app.get(&format!("/reservation/a/b/{kind}?cursor=x")).await.status, 400);
        assert_eq!(app.get(&format!("/reservation/a/c/{kind}")).await.status, 404);
    }
    app.finish().await;
}

#[tokio::test]
async fn what_a_kubernetes_object_has_made_is_changed_there_and_the_answer_says_where() {
    let app = TestApp::new().await;
    let draft = Draft { every: Some("1h".into()), ..Draft::default() };
    let settings = Settings::parse(&draft, &[], 0).unwrap();
    let object =
        ObjectId { cluster: "eu-1".into(), namespace: "billing".into(), name: "n".into(), uid: "u".into() };
    let key = JobKey::parse("billing", "nightly").unwrap();
    for suspend in [false, true] {
        let reclaim = Reclaim::Delete;
        let wish = Wish {
            object: &object,
            generation: 1,
            settings: &settings,
            reclaim,
            suspend,
            likely_kept: false,
        };
        app.store.apply_object(&key, wish, |_| Plan::Write).await.unwrap();
        let body = r#"{"app":"billing","component":"nightly","every":"2h"}"#;
        let job = r#"{"app":"billing","component":"nightly"}"#;
        let snooze = r#"{"app":"billing","component":"nightly","duration":"2h"}"#;
        for (path, body) in [("/reservation", body), ("/checkout", job)] {
            let answer = app.post(path, body).await;
            assert_eq!(answer.status, 409, "{}", answer.body);
            assert!(answer.body.contains("billing/n in cluster eu-1"), "{}", answer.body);
            assert!(
                answer.body.contains("kubectl -n billing edit reservations.gotel.dev n"),
                "{}",
                answer.body
            );
        }
        assert_eq!(app.post("/checkin", job).await.status, 200);
        for (path, body) in [("/snooze", snooze), ("/unsnooze", job)] {
            let answer = app.post(path, body).await;
            assert_eq!(answer.status, if suspend { 409 } else { 200 }, "{}", answer.body);
        }
    }
    assert_eq!(app.post("/reservation", r#"{"app":"own","component":"job","every":"1h"}"#).await.status, 200);
    let owner = r#""object":{"cluster":"eu-1","namespace":"billing","name":"n"}"#;
    for (path, shown) in
        [("/reservation", 1), ("/reservation/billing/nightly", 1), ("/reservation/own/job", 0)]
    {
        let answer = app.get(path).await;
        assert_eq!(answer.body.matches(owner).count(), shown, "{path}: {}", answer.body);
        assert_eq!(answer.body.matches(r#""object":"#).count(), shown, "{path}: {}", answer.body);
    }
    let page = app.get("/status/billing/nightly").await.body;
    assert!(
        page.contains("Kubernetes object <span class=\"wrap\">billing/n</span> in cluster eu-1"),
        "{page}"
    );
    assert!(!app.get("/status/own/job").await.body.contains("Kubernetes object"));
    app.finish().await;
}
