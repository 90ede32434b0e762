//! Tests of [`crate::util::receiver`], with a real HTTP client.

use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use rstest::rstest;
use serde_json::{Value, json};

use super::{A_WHILE, SOON};
use crate::util::receiver::{Answer, Receiver};
use crate::util::wait::now;

fn client() -> Client {
    Client::builder().redirect(Policy::none()).timeout(SOON).no_proxy().build().unwrap()
}

async fn post(receiver: &Receiver, path: &str, body: &Value) -> reqwest::Result<Response> {
    client().post(receiver.url(path)).json(body).send().await
}

fn trigger() -> Value {
    json!({
        "routing_key": "0123456789abcdef0123456789abcdef",
        "event_action": "trigger",
        "dedup_key": "gotel/1",
        "payload": { "summary": "backup is late", "source": "gotel", "severity": "critical" },
    })
}

#[tokio::test]
async fn a_webhook_request_is_recorded_whole() {
    let webhook = Receiver::webhook().await;
    let sent = json!({ "hello": "Grüße" });
    let before = now();
    let reply =
        client().post(webhook.url("/hook?a=b")).header("x-mark", "7").json(&sent).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let requests = webhook.received(1, SOON).await;
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook?a=b"));
    assert_eq!((request.header("x-mark"), request.header("x-none"), request.json()), ("7", "", sent));
    assert!(before <= request.at && request.at <= now());
}

#[tokio::test]
async fn pagerduty_opens_an_incident_once_and_closes_it() {
    let pagerduty = Receiver::pagerduty().await;
    for _ in 0..2 {
        let reply = post(&pagerduty, "/v2/enqueue", &trigger()).await.unwrap();
        assert_eq!(reply.status(), 202);
        let body: Value = reply.json().await.unwrap();
        assert_eq!(
            body,
            json!({ "status": "success", "message": "Event processed", "dedup_key": "gotel/1" })
        );
    }
    assert_eq!(Vec::from_iter(pagerduty.open_incidents()), ["gotel/1"]);
    let mut resolve = trigger();
    resolve["event_action"] = "resolve".into();
    assert_eq!(post(&pagerduty, "/v2/enqueue", &resolve).await.unwrap().status(), 202);
    assert!(pagerduty.open_incidents().is_empty());
}

#[rstest]
#[case::key("/routing_key", json!("short"), "'routing_key' is missing or not 32 characters long")]
#[case::action("/event_action", json!("shout"), "'event_action' is not one of trigger, acknowledge, resolve")]
#[case::summary("/payload/summary", json!(" "), "'payload.summary' is missing or blank")]
#[case::long("/payload/summary", json!("x".repeat(1025)), "Length of 'payload.summary' exceeds 1024 characters")]
#[case::source("/payload/source", Value::Null, "'payload.source' is missing or blank")]
#[case::severity("/payload/severity", json!("bad"), "'payload.severity' is not one of critical, error, warning, info")]
#[case::dedup("/dedup_key", json!("x".repeat(256)), "Length of 'dedup_key' exceeds 255 characters")]
#[tokio::test]
async fn pagerduty_refuses_a_bad_event(#[case] field: &str, #[case] value: Value, #[case] complaint: &str) {
    let pagerduty = Receiver::pagerduty().await;
    let mut event = trigger();
    *event.pointer_mut(field).unwrap() = value;
    let reply = post(&pagerduty, "/v2/enqueue", &event).await.unwrap();
    assert_eq!(reply.status(), 400);
    let body: Value = reply.json().await.unwrap();
    assert_eq!((&body["status"], &body["errors"]), (&json!("invalid event"), &json!([complaint])));
    assert!(pagerduty.open_incidents().is_empty());
}

#[tokio::test]
async fn scripted_answers_are_used_up_and_then_the_usual_one_returns() {
    let webhook = Receiver::webhook().await;
    webhook.next([Answer::Status(500), Answer::RetryAfter(429, "7"), Answer::Usual]);
    assert_eq!(post(&webhook, "/", &json!({})).await.unwrap().status(), 500);
    let slow_down = post(&webhook, "/", &json!({})).await.unwrap();
    assert_eq!(
        (slow_down.status().as_u16(), &slow_down.headers()["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    assert_eq!(post(&webhook, "/", &json!({})).await.unwrap().status(), 200);

    webhook.next([Answer::Echo(400)]);
    let echo = post(&webhook, "/a-path", &json!({"b": "a-body"})).await.unwrap();
    assert_eq!(echo.status(), 400);
    let echo = echo.text().await.unwrap();
    assert!(["/a-path", "a-body", "application/json"].iter().all(|part| echo.contains(part)), "{echo}");

    webhook.always(Answer::Status(503));
    webhook.at("/elsewhere", Answer::Redirect("http://192.0.2.1/".into()));
    assert_eq!(post(&webhook, "/", &json!({})).await.unwrap().status(), 503);
    let redirect = post(&webhook, "/elsewhere", &json!({})).await.unwrap();
    assert_eq!(
        (redirect.status().as_u16(), &redirect.headers()["location"]),
        (307, &"http://192.0.2.1/".parse().unwrap())
    );
    assert_eq!(webhook.requests().len(), 6);
}

#[tokio::test]
async fn a_receiver_can_hang_and_break_off_and_never_stop_talking() {
    let webhook = Receiver::webhook().await;
    webhook.next([Answer::Hang, Answer::CutMidBody, Answer::Huge(30_000_001)]);
    let empty = json!({});
    {
        let mut hanging = std::pin::pin!(post(&webhook, "/", &empty));
        tokio::select! {
            _ = &mut hanging => panic!("a hanging receiver answered"),
            _ = webhook.received(1, SOON) => {}
        }
        assert!(tokio::time::timeout(A_WHILE, hanging).await.is_err(), "a hanging receiver answered");
    }
    assert_eq!(webhook.requests().len(), 1);
    let cut = post(&webhook, "/", &json!({})).await.unwrap();
    assert_eq!(cut.status(), 200);
    cut.bytes().await.unwrap_err();
    let huge = post(&webhook, "/", &json!({})).await.unwrap().bytes().await.unwrap();
    assert_eq!(huge.len(), 30_000_001);
}
