//! A state as a page shows it: a word, a shape and a colour.

use crate::reservation::{Event, Reason, State};
use crate::store::OutboxState;

/// A state as shown. The shape and the colour follow the class; the word stands beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Badge {
    /// What people read.
    pub word: &'static str,
    /// `waiting`, `ok`, `late`, `failed`, `overrun`, `snoozed`, `busy`.
    pub class: &'static str,
}

const fn badge(word: &'static str, class: &'static str) -> Badge {
    Badge { word, class }
}

pub(super) const SNOOZED: Badge = badge("Snoozed", "snoozed");

/// Of a reservation.
pub(super) fn state(state: State) -> Badge {
    match state {
        State::Waiting => badge("Waiting", "waiting"),
        State::OnTime => badge("On time", "ok"),
        State::Late => badge("Late", "late"),
        State::Failed => badge("Failed", "failed"),
        State::Overrun => badge("Overrun", "overrun"),
    }
}

/// Of a check-in.
pub(super) fn kind(kind: &str) -> Badge {
    match kind {
        "ok" => badge("OK", "ok"),
        "start" => badge("Start", "busy"),
        "fail" => badge("Fail", "failed"),
        _ => badge("Log", "waiting"),
    }
}

/// Of a run.
pub(super) fn outcome(outcome: Option<&str>) -> Badge {
    match outcome {
        None => badge("Running", "busy"),
        Some("ok") => badge("OK", "ok"),
        Some("fail") => badge("Fail", "failed"),
        Some(_) => badge("Abandoned", "overrun"),
    }
}

/// Of a notice.
pub(super) fn delivery(state: OutboxState) -> Badge {
    match state {
        OutboxState::Pending => badge("Waiting", "waiting"),
        OutboxState::Inflight => badge("Sending", "busy"),
        OutboxState::Done => badge("Delivered", "ok"),
        OutboxState::Dead => badge("Not delivered", "failed"),
        OutboxState::Superseded => badge("Superseded", "waiting"),
        OutboxState::Digested => badge("In a digest", "ok"),
    }
}

/// Why an incident is open, as a sentence.
pub(super) fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Missed => "It did not check in by its deadline.",
        Reason::NeverCheckedIn => "It has never checked in.",
        Reason::Failed => "It reported a failure.",
        Reason::Overrun => "A run takes longer than agreed.",
        Reason::System => "GoTel itself is in trouble.",
    }
}

/// What was told.
pub(super) fn event(event: Event) -> &'static str {
    match event {
        Event::Trigger => "Alert",
        Event::Remind => "Reminder",
        Event::Escalate => "Escalation",
        Event::Resolve => "Recovery",
        Event::Cancel => "Cancelled",
        Event::Digest => "Digest",
        Event::Recovered => "Missed and recovered",
        Event::Test => "Test",
    }
}
