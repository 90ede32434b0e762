//! Checking in, by JSON and by address.

use reqwest::Method;
use serde_json::{Value, json};

use crate::util::app::TestApp;
use crate::util::db::{TestDb, on_every_database};
use crate::util::wait::eventually;

/// Long enough for anything on a busy machine.
const SOON: std::time::Duration = std::time::Duration::from_secs(20);

async fn newest(app: &TestApp) -> Value {
    app.get("/reservation/a/b/checkins?limit=1").await.json()["result"][0].clone()
}

on_every_database!(an_address_alone_checks_in_by_every_method);
async fn an_address_alone_checks_in_by_every_method(db: TestDb) {
    let app = TestApp::on(db).await;
    app.reserve("a", "b", json!({})).await;
    for (path, kind, code) in [
        ("", "ok", json!(null)),
        ("/start", "start", json!(null)),
        ("/fail", "fail", json!(null)),
        ("/log", "log", json!(null)),
        ("/0", "ok", json!(0)),
        ("/255", "fail", json!(255)),
    ] {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            let request =
                app.client.request(method.clone(), app.url(&format!("/checkin/a/b{path}?rid=r-{kind}")));
            let answer = app.send(request).await;
            let body = if method == Method::HEAD { "" } else { "OK" };
            assert_eq!((answer.status, answer.body.as_str()), (200, body), "{method} {path}");
            let stored = newest(&app).await;
            assert_eq!((&stored["kind"], &stored["exit_code"]), (&json!(kind), &code), "{method} {path}");
            assert_eq!(stored["rid"], format!("r-{kind}"));
        }
    }
    assert_eq!(app.get("/reservation").await.json()["result"][0]["number_of_checkins"], 18);
    app.finish().await;
}

#[tokio::test]
async fn json_says_kind_exit_code_and_run() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    for (more, kind) in [
        (json!({"kind": "start", "rid": "1"}), "start"),
        (json!({"exit_code": 0, "rid": "1"}), "ok"),
        (json!({"exit_code": 7}), "fail"),
        (json!({"kind": "log", "notes": null}), "log"),
    ] {
        let mut body = json!({"app": "a", "component": "b"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(app.post("/checkin", body.to_string()).await.status, 200, "{body}");
        assert_eq!(newest(&app).await["kind"], kind);
    }
    app.finish().await;
}

on_every_database!(the_last_bytes_of_a_piped_log_are_kept_in_any_encoding);
async fn the_last_bytes_of_a_piped_log_are_kept_in_any_encoding(db: TestDb) {
    let app = TestApp::on(db).await;
    app.reserve("a", "b", json!({})).await;
    let mut log = vec![b'x'; 3_000_000];
    log.extend(b"\0\xff\xfe the end");
    assert_eq!(app.post("/checkin/a/b", log).await.status, 200);
    let notes = newest(&app).await["notes"].as_str().unwrap().to_owned();
    assert!(notes.ends_with("\0\u{fffd}\u{fffd} the end"), "{:?}", &notes[notes.len() - 20..]);
    assert_eq!(notes.chars().count(), 10_000);

    let long = json!({"app": "a", "component": "b", "notes": format!("{}the end", "é".repeat(10_000))});
    assert_eq!(app.post("/checkin", long.to_string()).await.status, 200);
    let notes = newest(&app).await["notes"].as_str().unwrap().to_owned();
    assert!(
        notes.len() <= 10_000 && notes.len() > 9_990 && notes.starts_with('é') && notes.ends_with("the end")
    );
    app.finish().await;
}

#[tokio::test]
async fn a_log_above_16_mb_is_413_and_nothing_is_stored() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    let answer = app.post("/checkin/a/b", vec![b'x'; 16 * 1024 * 1024 + 1]).await;
    assert_eq!(answer.status, 413);
    assert!(newest(&app).await.is_null());
    app.finish().await;
}

#[tokio::test]
async fn a_checked_out_reservation_is_404_until_it_is_made_again() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    assert_eq!(app.post("/checkout", r#"{"app":"a","component":"b"}"#).await.status, 200);
    for path in ["/checkin/a/b", "/checkin/a/b/start", "/reservation/a/b", "/status/a/b"] {
        assert_eq!(app.get(path).await.status, 404, "{path}");
    }
    app.reserve("a", "b", json!({})).await;
    assert_eq!(app.get("/checkin/a/b").await.status, 200);
    app.finish().await;
}

#[tokio::test]
async fn a_replica_on_its_way_out_refuses_with_retry_after() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    // Not ready any more, but still here: whoever comes is served.
    app.loops.drain();
    assert_eq!(app.get("/checkin/a/b").await.status, 200);
    // The writers have closed.
    app.close_writers();
    let answer = eventually(SOON, "the writers to refuse", async || {
        let answer = app.get("/checkin/a/b").await;
        if answer.status == 503 { Ok(answer) } else { Err(answer.status) }
    })
    .await;
    assert!((1..=3).contains(&answer.header("retry-after").parse::<u8>().unwrap()));
    assert_eq!(answer.header("connection"), "close");
    assert!(!answer.message().is_empty());
    app.finish().await;
}
