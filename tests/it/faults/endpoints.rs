//! Receivers that hang, refuse, drop and throttle, by way of a configuration file: rows 36 to 39.

use std::time::Duration;

use serde_json::{Value, json};

use super::SOON;
use super::invariants::{Known, events_of, hold};
use super::world::World;
use crate::util::db::{Backend, TestDb};
use crate::util::receiver::{Answer, Receiver};
use crate::util::smtp::{Encryption, Fault, SmtpSink};
use crate::util::wait::eventually;

/// 32 characters, as PagerDuty's keys have.
const ROUTING_KEY: &str = "0123456789abcdef0123456789abcdef";

/// GoTel with a mail server, and a webhook that hears of everything else.
async fn with_mail() -> (World, SmtpSink, Receiver) {
    let sink = SmtpSink::start(Encryption::None, None).await;
    let hook = Receiver::webhook().await;
    let yaml = format!(
        "alerters:\n  - {{name: mail, type: smtp, host: 127.0.0.1, port: {}, tls: none, \
         from: gotel@example.org, to: [ops@example.org]}}\n  - {{name: hook, type: webhook, url: \"{}\"}}\n",
        sink.addr().port(),
        hook.url("/hook")
    );
    let db = TestDb::new(Backend::Sqlite).await.unwrap();
    (World::start(db, &yaml).await, sink, hook)
}

async fn with_pagerduty() -> (World, Receiver, Receiver) {
    let (pagerduty, hook) = (Receiver::pagerduty().await, Receiver::webhook().await);
    let yaml = format!(
        "alerters:\n  - {{name: pager, type: pagerduty, url: \"{}\", routingKey: \"${{PD}}\"}}\n  \
         - {{name: hook, type: webhook, url: \"{}\"}}\n",
        pagerduty.url("/v2/enqueue"),
        hook.url("/hook")
    );
    let db = TestDb::new(Backend::Sqlite).await.unwrap();
    let url = db.url().to_owned();
    (World::start_at(db, url, &yaml, &[("PD", ROUTING_KEY)]).await, pagerduty, hook)
}

/// The next tries are due now.
async fn hurry(world: &World, alerter: &str) {
    let due = format!("UPDATE delivery SET next_ms = 0 WHERE alerter = '{alerter}' AND state = 'pending'");
    world.sql(&due).await;
}

fn failed(alerter: &str, state: &str) -> String {
    format!("SELECT COUNT(*) FROM delivery WHERE alerter = '{alerter}' AND state = '{state}'")
}

/// Waits until the webhook has heard of this trouble of GoTel's own.
async fn heard_of(hook: &Receiver, trouble: &str) {
    eventually(SOON, format!("{trouble} to be told over the webhook"), async || {
        let heard = events_of(hook);
        if heard.iter().any(|one| one.system && one.component == trouble) {
            Ok(())
        } else {
            Err(format!("{heard:?}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_36_a_mail_server_that_never_answers_delays_its_own_mail_and_nothing_else() {
    let (world, sink, hook) = with_mail().await;
    sink.fault(Fault::HangAfterAccept);
    for n in 0..3 {
        world.reserve("billing", &n.to_string(), Value::Null).await;
        world.signal("billing", &n.to_string(), "/fail").await;
    }
    eventually(SOON, "the mail server to be called", async || sink.connections() > 0).await;
    // While mail hangs, the other way works, and so do evaluation and check-ins.
    hook.received(3, SOON).await;
    for n in 0..3 {
        world.signal("billing", &n.to_string(), "").await;
    }
    hook.received(6, SOON).await;
    assert_eq!(sink.mails().len(), 0);
    assert_eq!(world.get("/livez").await.0, 200);
    // A new miss, and the server answers again: what hung is tried again.
    world.signal("billing", "0", "/fail").await;
    hook.received(7, SOON).await;
    sink.heal();
    eventually(SOON, "the mail of the open incident", async || {
        hurry(&world, "mail").await;
        !sink.mails().is_empty()
    })
    .await;
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_37_one_bad_recipient_of_three_keeps_nothing_from_the_others() {
    let (world, sink, hook) = with_mail().await;
    sink.fault(Fault::Recipient("slow@example.org".into(), "451 4.3.0 try later".into()));
    sink.fault(Fault::Recipient("gone@example.org".into(), "550 5.1.1 no such user".into()));
    let notify = json!({ "notify": "good@example.org,slow@example.org,gone@example.org" });
    world.reserve("billing", "nightly", notify).await;
    world.signal("billing", "nightly", "/fail").await;
    let mails = sink.received(1, SOON).await;
    assert_eq!(mails[0].to, ["good@example.org"]);
    world.becomes(&failed("mail", "dead"), 1).await;
    heard_of(&hook, "dead-letter/mail").await;
    let slow = "SELECT COUNT(*) FROM delivery WHERE recipient = 'slow@example.org' AND state = 'pending' AND \
                attempts > 0";
    world.becomes(slow, 1).await;

    // Once the server likes the second one, it is told, too; nobody is told twice.
    sink.heal();
    hurry(&world, "mail").await;
    world
        .becomes("SELECT COUNT(*) FROM delivery WHERE recipient = 'slow@example.org' AND state = 'done'", 1)
        .await;
    let to = |address: &str| sink.mails().iter().filter(|mail| mail.to == [address.to_owned()]).count();
    assert_eq!((to("good@example.org"), to("slow@example.org"), to("gone@example.org")), (1, 1, 0));
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_38_a_drop_after_the_final_dot_is_tried_again_under_the_same_message_id() {
    let (world, sink, hook) = with_mail().await;
    sink.fault_times(Fault::DropAfterFinalDot, 1);
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    sink.received(1, SOON).await;
    world
        .becomes(
            "SELECT COUNT(*) FROM delivery WHERE alerter = 'mail' AND state = 'pending' AND attempts = 1",
            1,
        )
        .await;
    hurry(&world, "mail").await;
    let mails = sink.received(2, SOON).await;
    let id = |data: &[u8]| {
        let text = String::from_utf8_lossy(data).into_owned();
        let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with("message-id:"));
        line.expect("a mail has a Message-ID").to_owned()
    };
    assert_eq!(id(&mails[0].data), id(&mails[1].data));
    world.becomes(&failed("mail", "done"), 1).await;
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
    assert_eq!(sink.mails().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_39_pagerduty_is_waited_for_as_long_as_it_asks() {
    let (world, pagerduty, hook) = with_pagerduty().await;
    pagerduty.next([Answer::RetryAfter(429, "9")]);
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    let requests = pagerduty.received(2, SOON).await;
    let waited = requests[1].at - requests[0].at;
    // Unasked it would come back after about 5 s.
    assert!(waited >= Duration::from_secs(8), "asked to wait 9 s, it came back after {waited:?}");
    assert_eq!(requests[0].json()["dedup_key"], requests[1].json()["dedup_key"]);
    world.signal("billing", "nightly", "").await;
    eventually(SOON, "PagerDuty's incident to close", async || {
        pagerduty.requests().len() >= 3 && pagerduty.open_incidents().is_empty()
    })
    .await;
    hold(&world, &Known { hooks: &[("hook", &hook)], secrets: &[ROUTING_KEY], ..Known::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_39_pagerdutys_failures_are_tried_through_and_its_refusal_is_told_elsewhere() {
    let (world, pagerduty, hook) = with_pagerduty().await;
    pagerduty.next([500, 502, 503].map(Answer::Status));
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    eventually(SOON, "the event to be taken", async || {
        hurry(&world, "pager").await;
        !pagerduty.open_incidents().is_empty()
    })
    .await;
    assert_eq!(pagerduty.requests().len(), 4);
    world.becomes(&failed("pager", "done"), 1).await;

    pagerduty.next([Answer::Status(400)]);
    world.reserve("billing", "weekly", Value::Null).await;
    world.signal("billing", "weekly", "/fail").await;
    world.becomes(&failed("pager", "dead"), 1).await;
    heard_of(&hook, "dead-letter/pager").await;
    hold(&world, &Known { hooks: &[("hook", &hook)], secrets: &[ROUTING_KEY], ..Known::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_13_pagerduty_hears_of_a_send_that_a_crash_cut_short_again_under_the_same_key() {
    let (mut world, pagerduty, hook) = with_pagerduty().await;
    pagerduty.next([Answer::Hang]);
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    pagerduty.received(1, SOON).await;
    hook.received(1, SOON).await;
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state = 'done'", 1).await;
    world.kill9();
    world.start_again().await;
    world.sql("UPDATE delivery SET claim_until_ms = claim_until_ms - 90000 WHERE state = 'inflight'").await;
    let requests = pagerduty.received(2, SOON).await;
    assert_eq!(requests[0].body, requests[1].body);
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state = 'done'", 2).await;
    assert_eq!(pagerduty.open_incidents().len(), 1, "one, however often it heard of it");
    world.signal("billing", "nightly", "").await;
    eventually(SOON, "its end", async || pagerduty.open_incidents().is_empty()).await;
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
}
