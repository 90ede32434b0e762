//! Health, figures, the API's description, and the end of a server.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::util::app::TestApp;
use crate::util::wait::eventually;

#[tokio::test]
async fn livez_names_the_loops_that_are_stuck() {
    let app = TestApp::new().await;
    insta::assert_snapshot!(app.get("/livez").await.shown(), @r#"
    200
    {
      "stale": [],
      "success": true
    }
    "#);
    let _stuck = app.loops.register("evaluate", Duration::ZERO);
    let answer = eventually(Duration::from_secs(5), "a stuck loop", async || {
        Some(app.get("/livez").await).filter(|a| a.status == 503)
    })
    .await
    .json();
    assert_eq!((&answer["success"], &answer["stale"][0]["name"]), (&json!(false), &json!("evaluate")));
    assert_eq!(answer["stale"].as_array().unwrap().len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn readyz_says_no_from_the_drain_on_and_livez_does_not() {
    let app = TestApp::new().await;
    insta::assert_snapshot!(app.get("/readyz").await.shown(), @r#"
    200
    {
      "message": "ready",
      "success": true
    }
    "#);
    app.loops.drain();
    let answer = app.get("/readyz").await;
    insta::assert_snapshot!(answer.shown(), @r#"
    503
    {
      "message": "this replica is shutting down",
      "success": false
    }
    "#);
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(app.get("/livez").await.status, 200);
    app.finish().await;
}

#[tokio::test]
async fn figures_count_routes_states_and_loops() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    app.get("/checkin/a/b").await;
    app.get("/checkin/secret-name/b").await;
    app.get("/secret-path").await;
    app.send(app.client.request("BREW".parse().unwrap(), app.url("/status"))).await;
    let answer = app.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    for line in [
        r#"gotel_http_requests_total{route="/checkin/{app}/{component}",method="GET",code="200"} 1"#,
        r#"gotel_http_requests_total{route="/checkin/{app}/{component}",method="GET",code="404"} 1"#,
        r#"gotel_http_requests_total{route="unknown",method="GET",code="404"} 1"#,
        r#"gotel_http_requests_total{route="/status",method="other",code="405"} 1"#,
        r#"gotel_checkins_total{code="200"} 1"#,
        r#"gotel_checkins_total{code="404"} 1"#,
        r#"gotel_reservations{state="waiting"} 1"#,
        r#"gotel_reservations{state="late"} 0"#,
        r#"gotel_outbox_pending{channel="mail"} 0"#,
        r#"gotel_loop_age_seconds{name="checkin-0"}"#,
    ] {
        assert!(answer.body.contains(line), "{line}\n{}", answer.body);
    }
    assert!(!answer.body.contains("secret"));
    app.finish().await;
}

#[tokio::test]
async fn the_description_is_the_file_in_the_repository() {
    let app = TestApp::new().await;
    let answer = app.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.body, gotel::http::openapi::document());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    if std::env::var_os("GOTEL_UPDATE_OPENAPI").is_some() {
        std::fs::write(file, &answer.body).unwrap();
    }
    let stored = std::fs::read_to_string(file).unwrap_or_default();
    assert!(stored == answer.body, "openapi.json is out of date: run this test with GOTEL_UPDATE_OPENAPI=1");
    app.finish().await;
}

#[tokio::test]
async fn an_unknown_address_is_json() {
    let app = TestApp::new().await;
    insta::assert_snapshot!(app.get("/nowhere").await.shown(), @r#"
    404
    {
      "message": "there is nothing at this address: see /openapi.json for what there is",
      "success": false
    }
    "#);
    insta::assert_snapshot!(app.post("/livez", "").await.shown(), @r#"
    405
    {
      "message": "this address does not take this method: the Allow header lists those it takes",
      "success": false
    }
    "#);
    app.finish().await;
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let app = TestApp::new().await;
    for path in ["/status", "/livez", "/reservation", "/openapi.json", "/metrics"] {
        let head = app.send(app.client.head(app.url(path))).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    app.finish().await;
}

/// Reads one answer from a raw connection.
async fn answer_of(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_request_in_flight_is_answered_when_the_server_stops() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    let mut slow = TcpStream::connect(app.addr).await.unwrap();
    slow.write_all(b"POST /checkin/a/b HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nno").await.unwrap();
    let idle = app.client.get(app.url("/livez")).send().await.unwrap();
    drop(idle.bytes().await);
    // The first half of the body has arrived once the server polls for the rest of it.
    eventually(Duration::from_secs(5), "both connections", async || {
        app.get("/metrics").await.body.contains(r#"route="/livez""#)
    })
    .await;
    app.stop.cancel();
    slow.write_all(b"te").await.unwrap();
    let text = answer_of(&mut slow).await;
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("OK"), "{text}");
    eventually(Duration::from_secs(5), "the listener to close", async || {
        TcpStream::connect(app.addr).await.is_err()
    })
    .await;
    assert_eq!(app.store.counts().await.unwrap().by_state.len(), 1);
    app.finish().await;
}

#[tokio::test]
async fn garbage_on_the_wire_is_answered_and_harms_nobody() {
    let app = TestApp::new().await;
    for garbage in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0\0\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(app.addr).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        assert!(text.is_empty() || text.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&text));
    }
    let mut stream = TcpStream::connect(app.addr).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let _ = stream.write_all(head.as_bytes()).await;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    assert!(text.is_empty() || text.starts_with(b"HTTP/1.1 431"), "{:?}", String::from_utf8_lossy(&text));
    assert_eq!(app.get("/livez").await.status, 200);
    app.finish().await;
}
