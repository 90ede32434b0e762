//! The decision: state and evidence in, state and actions out (design 2.3).
//!
//! Promises, each of them tested against random histories (`simulation`):
//! - at most one incident is open; a second cause waits until the first is gone, and is then told;
//! - deciding again with the outcome applied does nothing;
//! - a check-in received by its deadline never alerts; exactly at the deadline is in time;
//! - nothing is told while snoozed; what is still wrong at the end of the snooze, or was mended during it, is told then;
//! - one reminder however many intervals passed unattended, as a restart must not repeat pages;
//! - every miss is told, when decided at or after the `due_ms` of the decision before;
//! - two different incidents never share reason, run and `own_ms`, whatever was snoozed, edited or away between them.
//!
//! Races and their answers:
//! - A check-in received before its deadline but stored after the alert: the incident resolves as recovered.
//! - A failure after a recovery that nobody decided on yet: the old incident resolves first, then a new one opens.
//! - A snooze or an outage that becomes known after the incident opened keeps it open: only a good run, or an edit,
//!   ends an incident that was told.
//!
//! Asks of whoever stores check-ins: `due_ms` drops to 0 with each of them, save a note, a good run while the state is
//! `on_time`, and a start without a `max_runtime` (design 3.2: those touch no index). The same for edits, snoozes and
//! outages. Nothing is lost when it does not drop, only seen later.
//!
//! Does not deliver, and does not know how incidents are stored: the actions are applied in order, in one
//! transaction, by the caller.

mod cause;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use super::{
    Evidence, Settings, deadline,
    evidence::OpenRun,
    incident::{Ending, OpenIncident, Reason},
    outage::Outage,
};
use cause::Causes;

/// What a reservation is, apart from being snoozed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No good run yet, and none overdue.
    Waiting,
    /// The last run went well and the next is not overdue.
    OnTime,
    /// The next good run is overdue.
    Late,
    /// The last run went wrong.
    Failed,
    /// A run takes longer than it may.
    Overrun,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::OnTime, Self::Late, Self::Failed, Self::Overrun];

    /// the database's and the wire's word
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::OnTime => "on_time",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Overrun => "overrun",
        }
    }

    /// reads it back
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Everything a decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What was agreed.
    pub settings: &'a Settings,
    /// The state decided last. The rules need no memory of it; it lets a caller tell a change.
    pub state: State,
    /// What is known.
    pub evidence: &'a Evidence,
    /// The open incident, if there is one.
    pub open: Option<&'a OpenIncident>,
    /// Runs that started and did not end, oldest first.
    pub runs: &'a [OpenRun],
    /// Oldest first.
    pub outages: &'a [Outage],
}

/// One thing to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open an incident and tell (event 0).
    Open {
        /// Why.
        reason: Reason,
        /// The exact deadline missed, the failure's receipt, the run's limit.
        deadline_ms: i64,
        /// The same moment as the job's own settings and runs give it, moved by no snooze and no outage. It names the
        /// incident to its receivers, and so must not depend on what GoTel itself has gone through since.
        own_ms: i64,
        /// The run, if one is named.
        rid: Option<String>,
        /// When to tell again; None = never.
        next_remind_ms: Option<i64>,
        /// the deadline had been moved by this outage: its notices go out as one digest
        after_outage: Option<Outage>,
    },
    /// Tell again.
    Remind {
        /// Number of this event.
        event_no: i64,
        /// When to tell again; None = never.
        next_remind_ms: Option<i64>,
    },
    /// Tell the alerters of escalation step `step` (0-based).
    Escalate {
        /// Number of this event.
        event_no: i64,
        /// Index into `Settings::escalation`.
        step: u32,
    },
    /// Close the incident and tell.
    Resolve {
        /// Number of this event.
        event_no: i64,
        /// When it ended.
        at_ms: i64,
        /// How.
        ending: Ending,
    },
    /// A run is no longer waited for (a later good run began after this one had overrun).
    AbandonRun {
        /// The run.
        rid: String,
    },
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What the reservation is now.
    pub state: State,
    /// A lower bound of the next moment this reservation needs attention, always after now; `i64::MAX` = never by itself.
    pub due_ms: i64,
    /// What to do, in order.
    pub actions: Vec<Action>,
}

/// Why nothing could be decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Undecidable(pub String);

/// Decides. Pure; idempotent (deciding again with the outcome applied does nothing).
///
/// Errors when the schedule cannot be computed; the caller reports that as an incident of GoTel's own.
pub fn decide(case: &Case<'_>, now_ms: i64) -> Result<Decision, Undecidable> {
    let settings = case.settings;
    let mut causes = Causes::find(case, now_ms).map_err(|error| Undecidable(error.to_string()))?;
    let ending = case.open.and_then(|incident| causes.ending_of(case, incident, now_ms));
    let lasting = case.open.filter(|_| ending.is_none());
    if let Some(incident) = lasting {
        causes.note_lasting(incident);
    }
    let state = causes.state(case.evidence);
    let mut actions: Vec<Action> =
        causes.abandoned.iter().map(|rid| Action::AbandonRun { rid: (*rid).to_owned() }).collect();
    if let Some(snooze) = case.evidence.snooze
        && snooze.active(now_ms)
    {
        return Ok(Decision { state, due_ms: snooze.until_ms, actions });
    }

    let mut due = Due { now_ms, next_ms: i64::MAX };
    if let (Some(incident), Some((at_ms, ending))) = (case.open, ending) {
        actions.push(Action::Resolve { event_no: incident.event_no + 1, at_ms, ending });
    }
    match lasting {
        Some(incident) => keep_telling(settings, incident, now_ms, &mut actions, &mut due),
        None => tell(settings, &causes, now_ms, &mut actions, &mut due),
    }
    causes.turn_after.iter().for_each(|moment| due.after(*moment));
    Ok(Decision { state, due_ms: due.next_ms, actions })
}

/// Opens an incident if there is a cause, or notes when there may be one.
fn tell(settings: &Settings, causes: &Causes<'_>, now_ms: i64, actions: &mut Vec<Action>, due: &mut Due) {
    let Some(cause) = causes.to_tell() else {
        causes.tell_after.iter().for_each(|moment| due.after(*moment));
        return;
    };
    let next_remind_ms = remind_after(settings, now_ms);
    due.at(next_remind_ms.unwrap_or(i64::MAX));
    if let Some(first) = settings.escalation.first() {
        due.at(now_ms.saturating_add(first.after_ms));
    }
    actions.push(Action::Open {
        reason: cause.reason,
        deadline_ms: cause.deadline_ms,
        own_ms: cause.own_ms,
        rid: cause.rid.map(str::to_owned),
        next_remind_ms,
        after_outage: cause.moved_by,
    });
}

/// Reminders and escalation steps of an incident that stays open.
fn keep_telling(
    settings: &Settings,
    incident: &OpenIncident,
    now_ms: i64,
    actions: &mut Vec<Action>,
    due: &mut Due,
) {
    let mut event_no = incident.event_no;
    for (step, escalation) in (0u32..).zip(&settings.escalation).skip(incident.escalated as usize) {
        let at_ms = incident.opened_ms.saturating_add(escalation.after_ms);
        if now_ms < at_ms {
            due.at(at_ms);
            break;
        }
        event_no += 1;
        actions.push(Action::Escalate { event_no, step });
    }
    // An edit may have turned reminders on (none is noted yet) or off (one is still noted).
    let next_ms = remind_after(settings, incident.opened_ms)
        .map(|from_opening| incident.next_remind_ms.unwrap_or(from_opening));
    if let Some(mut next_ms) = next_ms {
        if next_ms <= now_ms {
            // From now, not from when it was due: one reminder, however many were missed.
            let next_remind_ms = remind_after(settings, now_ms);
            actions.push(Action::Remind { event_no: event_no + 1, next_remind_ms });
            next_ms = next_remind_ms.unwrap_or(i64::MAX);
        }
        due.at(next_ms);
    }
}

/// One reminder interval after `from_ms`; None when there are to be none.
fn remind_after(settings: &Settings, from_ms: i64) -> Option<i64> {
    (settings.realert_ms > 0).then(|| from_ms.saturating_add(settings.realert_ms))
}

/// Collects the next moment that needs attention; moments that passed need none any more.
struct Due {
    now_ms: i64,
    next_ms: i64,
}

impl Due {
    fn at(&mut self, moment_ms: i64) {
        if moment_ms > self.now_ms {
            self.next_ms = self.next_ms.min(moment_ms);
        }
    }

    /// Something counts as late only after `moment_ms`.
    fn after(&mut self, moment_ms: i64) {
        self.at(moment_ms.saturating_add(1));
    }
}
