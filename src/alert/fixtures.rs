//! Notices for the unit tests of the alerters.

use super::Delivery;
use crate::reservation::notice::{Digest, DigestLine};
use crate::reservation::{Event, Notice, Reason};
use std::collections::BTreeMap;

/// 2026-01-02 02:00:00 UTC.
pub const DEADLINE: i64 = 1_767_319_200_000;

/// A nightly job that is late.
pub fn late() -> Notice {
    Notice {
        version: 1,
        event: Event::Trigger,
        reason: Reason::Missed,
        incident: "0198c0de-0000-7000-8000-000000000001".into(),
        dedup_key: "gotel/1b2c/billing/nightly/1767319200000".into(),
        event_no: 0,
        app: "billing".into(),
        component: "nightly".into(),
        owner: "ada".into(),
        notify: vec!["ada@example.org".into()],
        labels: BTreeMap::from([("team".into(), "money".into()), ("9-x".into(), "y".into())]),
        schedule: "every day at 01:00 UTC".into(),
        deadline_ms: DEADLINE,
        noticed_ms: DEADLINE + 125_000,
        at_ms: DEADLINE + 125_000,
        last_ok_ms: Some(DEADLINE - 86_400_000),
        checkins: 41,
        exit_code: None,
        rid: None,
        down_ms: None,
        message: "App: [billing] Component: [nightly] failed checkin on IP [a-1]. Contact owner [ada]".into(),
        output: None,
        srv: "a-1".into(),
        url: Some("https://gotel.example.org/status/billing/nightly".into()),
        remarks: vec!["Noticed 2 min late.".into()],
        digest: None,
    }
}

/// The same job, well again.
pub fn recovered() -> Notice {
    Notice {
        event: Event::Resolve,
        event_no: 2,
        at_ms: DEADLINE + 5_400_000,
        last_ok_ms: Some(DEADLINE + 5_400_000),
        down_ms: Some(5_400_000),
        remarks: Vec::new(),
        ..late()
    }
}

/// A failed run with output.
pub fn failed() -> Notice {
    Notice {
        reason: Reason::Failed,
        exit_code: Some(3),
        rid: Some("run-7".into()),
        output: Some("line 1\nline 2".into()),
        noticed_ms: DEADLINE,
        remarks: Vec::new(),
        ..late()
    }
}

/// Many in one: one late, one recovered, and some that are not listed.
pub fn digest() -> Notice {
    let line = |event, component: &str| DigestLine {
        event,
        reason: Reason::Missed,
        app: "billing".into(),
        component: component.into(),
        owner: "ada".into(),
        labels: BTreeMap::new(),
        deadline_ms: DEADLINE,
        incident: "i".into(),
    };
    let mut notice =
        Notice::digest(&[late()], "0198c0de-0000-7000-8000-0000000000d1", DEADLINE + 130_000, "a-1");
    let lines = vec![line(Event::Trigger, "nightly"), line(Event::Resolve, "hourly")];
    notice.digest = Some(Digest { count: 12, lines });
    notice.remarks = vec!["… and 10 more".into()];
    notice.message = notice.title();
    notice
}

/// Every text holds what could act: line breaks and headers, HTML, template braces, terminal escapes.
pub fn hostile() -> Notice {
    let nasty = |name: &str| {
        format!(
            "{name}\r\nBcc: evil@example.org\r\n\r\n.\r\n<script>alert('{name}')</script>{{{{7*7}}}}{{app}}\u{1b}[2J\u{202e}\"=?utf-8?q?=0D=0A?="
        )
    };
    Notice {
        app: nasty("app"),
        component: nasty("component"),
        owner: nasty("owner"),
        notify: vec![nasty("notify")],
        labels: BTreeMap::from([(nasty("label"), nasty("value"))]),
        schedule: nasty("schedule"),
        message: nasty("message"),
        output: Some(nasty("output")),
        rid: Some(nasty("rid")),
        srv: nasty("srv"),
        url: Some("javascript:alert(1)".into()),
        remarks: vec![nasty("remark")],
        dedup_key: nasty("dedup"),
        ..late()
    }
}

/// A delivery of `notice`.
pub fn to(recipient: &str, notice: Notice) -> Delivery {
    Delivery { idem_key: "9f86d081884c7d65".into(), recipient: recipient.into(), notice }
}
