//! Pausing alerting, and ending the pause.

use serde_json::json;

use crate::util::app::TestApp;
use crate::util::db::{TestDb, on_every_database};

on_every_database!(a_snooze_is_shown_with_its_end_reason_and_author_and_can_be_ended);
async fn a_snooze_is_shown_with_its_end_reason_and_author_and_can_be_ended(db: TestDb) {
    let app = TestApp::on(db).await;
    app.reserve("a", "b", json!({})).await;
    let until = "2027-01-01T00:00:00+01:00";
    let now = app.store.now_ms().await.unwrap();
    let target: jiff::Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    app.store.shift_clock(target.as_millisecond() - now);
    let body = json!({"app": "a", "component": "b", "until": until, "reason": "new disk", "by": "jane"});
    let answer = app.post("/snooze", body.to_string()).await;
    assert_eq!(answer.body, r#"{"success":true,"message":"Application alerting paused: a"}"#);
    let shown = app.get("/reservation/a/b").await.json()["result"].clone();
    assert_eq!(shown["snoozed_until"], "2026-12-31T23:00:00Z");
    assert_eq!((&shown["snooze_reason"], &shown["snooze_by"]), (&json!("new disk"), &json!("jane")));

    let answer = app.post("/unsnooze", r#"{"app":"a","component":"b"}"#).await;
    assert_eq!(answer.body, r#"{"success":true,"message":"Application alerting resumed: a"}"#);
    let shown = app.get("/reservation/a/b").await.json()["result"].clone();
    assert_eq!((&shown["snoozed_until"], &shown["snooze_reason"]), (&json!(null), &json!(null)));
    assert_eq!(
        app.post("/unsnooze", r#"{"app":"a","component":"b"}"#).await.status,
        200,
        "nothing to end is no error"
    );
    app.finish().await;
}

#[tokio::test]
async fn a_later_snooze_replaces_an_earlier_one_and_a_check_in_does_not_end_it() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    for body in [
        r#"{"app":"a","component":"b","duration":10,"time_units":"hours"}"#,
        r#"{"app":"a","component":"b","duration":"90m"}"#,
    ] {
        assert_eq!(app.post("/snooze", body).await.status, 200);
        app.get("/checkin/a/b").await;
        assert!(app.get("/reservation/a/b").await.json()["result"]["snoozed_until"].is_string());
    }
    app.finish().await;
}
