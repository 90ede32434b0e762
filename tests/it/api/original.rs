//! The calls of GoTel 0.1's README, word for word, with the success bodies they always had.

use crate::util::app::TestApp;
use crate::util::db::{TestDb, on_every_database};

const RESERVATION: &str = r#"
{
  "app": "testapp",
  "component": "requests",
  "notify": "[email protected]",
  "frequency": 5,
  "time_units": "minutes",
  "owner": "[email protected]"
}
"#;

const CHECKIN: &str = r#"
{
  "app": "testapp",
  "component": "requests",
  "notes": "all is well"
}
"#;

const SNOOZE: &str = r#"
{
  "app": "testapp",
  "component": "requests",
  "duration": 10,
  "time_units": "hours"
}
"#;

const CHECKOUT: &str = r#"
{
  "app": "testapp",
  "component": "requests"
}
"#;

on_every_database!(the_calls_of_the_original_readme_answer_as_they_always_did);
async fn the_calls_of_the_original_readme_answer_as_they_always_did(db: TestDb) {
    let app = TestApp::on(db).await;
    for content_type in ["application/json", "application/x-www-form-urlencoded"] {
        let post = async |path: &str, body: &'static str| {
            let request = app.client.post(app.url(path)).header("content-type", content_type).body(body);
            let answer = app.send(request).await;
            assert!(answer.header("content-type").starts_with("application/json"));
            (answer.status, answer.body)
        };
        assert_eq!(post("/reservation", RESERVATION).await, (200, r#""OK""#.into()));
        let done = r#"{"success":true,"message":"Application checked in: testapp"}"#;
        assert_eq!(post("/checkin", CHECKIN).await, (200, done.into()));
        let done = r#"{"success":true,"message":"Application alerting paused: testapp"}"#;
        assert_eq!(post("/snooze", SNOOZE).await, (200, done.into()));

        let list = app.get("/reservation").await;
        assert_eq!(list.status, 200);
        let job = &list.json()["result"][0];
        for (field, value) in
            [("owner", "[email protected]"), ("notify", "[email protected]"), ("app", "testapp")]
        {
            assert_eq!(job[field], value);
        }
        for (field, value) in [("frequency", 5), ("number_of_checkins", 1)] {
            assert_eq!(job[field], value);
        }
        assert_eq!(job["failing_sla"], false);
        assert!(
            job["job_id"].is_i64() && job["last_checkin"].is_i64() && job["last_checkin_str"].is_string()
        );

        let page = app.get("/status").await;
        assert!(page.status == 200 && page.body.contains("testapp"));
        let done = r#"{"success":true,"message":"Application Removed [testapp/requests] "}"#;
        assert_eq!(post("/checkout", CHECKOUT).await, (200, done.into()));
        assert_eq!(app.get("/reservation").await.body, r#"{"success":true,"result":[]}"#);
    }
    assert_eq!(app.get("/is-coordinator").await.body, "false");
    app.finish().await;
}

on_every_database!(what_the_original_answered_200_without_doing_it_is_an_error);
async fn what_the_original_answered_200_without_doing_it_is_an_error(db: TestDb) {
    let app = TestApp::on(db).await;
    for (path, body) in
        [("/checkin", CHECKIN), ("/snooze", SNOOZE), ("/checkout", CHECKOUT), ("/unsnooze", CHECKOUT)]
    {
        let answer = app.post(path, body).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["success"], false);
    }
    assert_eq!(app.post("/chekin", CHECKIN).await.status, 404);
    app.finish().await;
}
