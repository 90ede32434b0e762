//! The `pagerduty` alerter against a receiver that judges events as PagerDuty does.

use super::{SOON, alerter, notice, send_until_limit, to};
use crate::util::chaos::{ChaosProxy, Cut};
use crate::util::receiver::{Answer, Receiver};
use crate::util::wait::eventually;
use gotel::alert::{Alerter, Outcome};
use gotel::reservation::Event;
use rstest::rstest;

fn pager(receiver: &Receiver) -> Box<dyn Alerter> {
    alerter(&format!("type: pagerduty\nroutingKey: ${{KEY}}\nurl: {}", receiver.url("/v2/enqueue")))
}

#[tokio::test]
async fn an_incident_is_opened_once_and_closed_with_the_same_key() {
    let receiver = Receiver::pagerduty().await;
    let pager = pager(&receiver);
    for (event_no, event) in [Event::Trigger, Event::Remind, Event::Escalate].into_iter().enumerate() {
        let delivery = to("", notice(event, i64::try_from(event_no).unwrap()));
        assert_eq!(pager.send(&delivery).await, Outcome::Accepted);
        assert_eq!(receiver.open_incidents().len(), 1);
    }
    assert_eq!(pager.send(&to("", notice(Event::Resolve, 3))).await, Outcome::Accepted);
    assert!(receiver.open_incidents().is_empty());
    let requests = receiver.requests();
    assert!(requests.iter().all(|r| r.json()["dedup_key"] == "gotel/1b2c/billing/nightly/1767319200000"));
    assert!(requests.iter().all(|r| r.header("user-agent").starts_with("gotel/")));
}

#[rstest]
#[case(Event::Cancel)]
#[case(Event::Recovered)]
#[tokio::test]
async fn what_is_over_wakes_nobody(#[case] event: Event) {
    let receiver = Receiver::pagerduty().await;
    assert_eq!(pager(&receiver).send(&to("", notice(event, 1))).await, Outcome::Accepted);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].json()["event_action"], "resolve");
}

#[tokio::test]
async fn a_test_leaves_nothing_open() {
    let receiver = Receiver::pagerduty().await;
    let pager = pager(&receiver);
    let notice = gotel::alert::test_notice("a", "0198c0de", 0, "a-1", None);
    let outcomes = gotel::alert::send_now(pager.as_ref(), &[String::new()], &notice).await;
    assert_eq!(outcomes, [(String::new(), Outcome::Accepted)]);
    assert_eq!(receiver.requests().len(), 2);
    assert_eq!(receiver.requests()[0].json()["payload"]["severity"], "info");
    assert!(receiver.open_incidents().is_empty());
}

/// Row 39.
#[tokio::test]
async fn throttling_and_trouble_mean_later_and_a_bad_event_means_never() {
    let receiver = Receiver::pagerduty().await;
    let pager = pager(&receiver);
    receiver.next([
        Answer::RetryAfter(429, "7"),
        Answer::Status(500),
        Answer::Status(400),
        Answer::Status(403),
    ]);
    let delivery = to("", notice(Event::Trigger, 0));
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        outcomes.push(pager.send(&delivery).await);
    }
    let kinds: Vec<_> = outcomes.iter().map(Outcome::as_str).collect();
    assert_eq!(kinds, ["retry", "retry", "refused", "broken", "accepted"], "{outcomes:?}");
    assert!(matches!(outcomes[0], Outcome::Retry { after_ms: Some(7_000), .. }), "{outcomes:?}");
    assert_eq!(receiver.open_incidents().len(), 1);
    let bodies: Vec<_> = receiver.requests().into_iter().map(|r| r.body).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "each try is the same event");
}

#[tokio::test]
async fn a_wrong_key_is_the_alerters_fault_and_is_not_shown() {
    let receiver = Receiver::pagerduty().await;
    let lines = format!("type: pagerduty\nroutingKey: ${{SECRET}}\nurl: {}", receiver.url("/v2/enqueue"));
    let outcome = alerter(&lines).send(&to("", notice(Event::Trigger, 0))).await;
    assert_eq!(outcome.as_str(), "broken", "{outcome:?}");
    assert!(!outcome.why().unwrap().contains("s3cret"), "{outcome:?}");
}

#[tokio::test]
async fn silence_and_a_closed_port_are_tried_again() {
    let receiver = Receiver::pagerduty().await;
    receiver.always(Answer::Hang);
    let hung = send_until_limit(
        pager(&receiver),
        to("", notice(Event::Trigger, 0)),
        "the request to arrive",
        || receiver.requests().len() == 1,
    )
    .await;
    assert_eq!(hung, Outcome::Retry { why: "127.0.0.1 did not answer within 20 s".into(), after_ms: None });
    let pager = pager(&receiver);
    drop(receiver);
    let closed = pager.send(&to("", notice(Event::Trigger, 0))).await;
    assert_eq!(closed.as_str(), "retry", "{closed:?}");
}

#[tokio::test]
async fn a_cut_before_the_answer_and_a_refused_connection_are_tried_again_as_the_same() {
    let receiver = Receiver::pagerduty().await;
    let proxy = ChaosProxy::start(receiver.addr()).await;
    let lines = format!("type: pagerduty\nroutingKey: ${{KEY}}\nurl: http://{}/v2/enqueue", proxy.addr());
    let hook = alerter(&lines);
    let delivery = to("", notice(Event::Trigger, 0));
    // It has the notice, and we cannot know.
    proxy.cut_on(b"POST", Cut::BeforeReply);
    assert_eq!(hook.send(&delivery).await.as_str(), "retry");
    proxy.heal();
    proxy.refuse();
    proxy.cut();
    assert_eq!(hook.send(&delivery).await.as_str(), "retry");
    proxy.heal();
    // The port is listened on again a moment later.
    eventually(SOON, "it to be accepted", async || match hook.send(&delivery).await {
        Outcome::Accepted => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let bodies: Vec<_> = receiver.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
}
