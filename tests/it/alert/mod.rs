//! The alerters against real servers that refuse, hang, throttle and cut; the dispatcher against a real
//! store. Rows are those of the fault matrix (reliability, 5b).

mod dispatch;
mod mail;
mod mail_reader;
mod pagerduty;
mod webhook;

use gotel::alert::config::{Written, parse};
use gotel::alert::{Alerter, Context, Delivery, Outcome, build};
use gotel::reservation::{Event, Notice, Reason};
use std::collections::BTreeMap;
use std::time::Duration;

/// Long enough that only a fault exceeds it, also on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// 2026-01-02 02:00:00 UTC.
const DEADLINE: i64 = 1_767_319_200_000;

/// The alerter `a` of a configuration with these lines; `${SECRET}` is `s3cret`, `${KEY}` 32 characters.
fn alerter(lines: &str) -> Box<dyn Alerter> {
    let mut yaml = "- name: a\n".to_owned();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        yaml.push_str(&format!("  {line}\n"));
    }
    let written: Vec<Written> = serde_yaml::from_str(&yaml).unwrap();
    let env = |name: &str| match name {
        "SECRET" => Some("s3cret".to_owned()),
        "KEY" => Some("0123456789abcdef0123456789abcdef".to_owned()),
        _ => None,
    };
    let config = parse(written, &env).unwrap().remove(0);
    build(&config, &Context::default()).unwrap()
}

/// A notice of a job that was due at [`DEADLINE`].
fn notice(event: Event, event_no: i64) -> Notice {
    let ended = matches!(event, Event::Resolve | Event::Recovered);
    Notice {
        version: 1,
        event,
        reason: Reason::Missed,
        incident: "0198c0de-0000-7000-8000-000000000001".into(),
        dedup_key: "gotel/1b2c/billing/nightly/1767319200000".into(),
        event_no,
        app: "billing".into(),
        component: "nightly".into(),
        owner: "ada".into(),
        notify: vec!["ada@example.org".into()],
        labels: BTreeMap::new(),
        schedule: "every day at 01:00 UTC".into(),
        deadline_ms: DEADLINE,
        noticed_ms: DEADLINE,
        at_ms: DEADLINE,
        last_ok_ms: ended.then_some(DEADLINE + 60_000),
        checkins: 41,
        exit_code: None,
        rid: None,
        down_ms: ended.then_some(60_000),
        message: "The nightly bill is late.".into(),
        output: None,
        srv: "a-1".into(),
        url: None,
        remarks: Vec::new(),
        digest: None,
    }
}

/// A delivery of `notice` to `recipient`.
fn to(recipient: &str, notice: Notice) -> Delivery {
    Delivery { idem_key: format!("feed{:04}", notice.event_no), recipient: recipient.into(), notice }
}

/// Sends, and stops the clock of the runtime as soon as `stuck` holds: what now waits for an answer that
/// never comes runs into its own limit at once.
async fn send_until_limit(
    alerter: Box<dyn Alerter>,
    delivery: Delivery,
    what: &'static str,
    mut stuck: impl FnMut() -> bool,
) -> Outcome {
    let sending = tokio::spawn(async move { alerter.send(&delivery).await });
    crate::util::wait::eventually(SOON, what, async || stuck()).await;
    tokio::time::pause();
    let outcome = sending.await.unwrap();
    tokio::time::resume();
    outcome
}
