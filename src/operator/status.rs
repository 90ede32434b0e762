//! What an object's status should say, and whether what it says is still so. Pure.
//!
//! Promises: the same knowledge gives an equal status, so that nothing is written twice: a condition keeps its time of
//! transition as long as its status stays, and no text holds a moving time. A late job never makes `Ready` false:
//! whoever waits for a roll-out waits for GoTel to watch, not for the job to be well.

use super::crd::{Phase, Reservation, ReservationStatus};
use super::spec::Refusal;
use super::words::{self, ALERTS_DELIVERED, ON_TIME, READY, Reason, STALLED, Truth};
use crate::reservation::{State, deadline};
use crate::store::{ObjectView, OwnedRow};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What became of the spec.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'a> {
    /// It is what is stored.
    Kept,
    /// It is not, because of this; what was stored before goes on.
    Refused(&'a Refusal),
    /// Nobody knows yet: the database is away.
    Unknown,
}

/// Whole seconds, as the API keeps them.
fn time(ms: i64) -> Option<Time> {
    Timestamp::from_second(ms.div_euclid(1000)).ok().map(Time)
}

/// The condition of this type.
pub fn condition<'a>(status: Option<&'a ReservationStatus>, type_: &str) -> Option<&'a Condition> {
    status?.conditions.iter().find(|c| c.type_ == type_)
}

/// The status of an object of this generation; `view`: what is stored for it; `old`: what it says now.
pub fn status(
    generation: Option<i64>,
    verdict: Verdict<'_>,
    view: Option<&ObjectView>,
    old: Option<&ReservationStatus>,
    now_ms: i64,
) -> ReservationStatus {
    let mut conditions = Vec::new();
    let mut add = |type_: &str, truth: Truth, reason: Reason, message: &str| {
        let kept = condition(old, type_).filter(|c| c.status == truth.as_str());
        let since = kept.map(|c| c.last_transition_time.clone());
        conditions.push(Condition {
            type_: type_.into(),
            status: truth.as_str().into(),
            reason: reason.as_str().into(),
            message: message.into(),
            observed_generation: generation,
            last_transition_time: since.or_else(|| time(now_ms)).unwrap_or(Time(Timestamp::UNIX_EPOCH)),
        });
    };
    let suspended = view.is_some_and(|v| v.held.suspended);
    match verdict {
        Verdict::Kept if suspended => {
            let text = "alerting is paused by `suspend`; check-ins are taken";
            add(READY, Truth::True, Reason::Suspended, text);
        }
        Verdict::Kept => add(READY, Truth::True, Reason::Watching, "GoTel watches this job"),
        Verdict::Refused(refusal) => add(READY, Truth::False, refusal.reason, &refusal.message),
        Verdict::Unknown => {
            let text = "the database does not answer: nothing is known yet";
            add(READY, Truth::Unknown, Reason::DatabaseUnavailable, text);
        }
    }
    let (truth, reason) = match view {
        Some(view) => words::on_time(Some(view.reservation.state), suspended, snoozed(view)),
        None => (Truth::Unknown, Reason::NotWatched),
    };
    add(ON_TIME, truth, reason, &about(reason, view));
    match view.and_then(|view| words::alerts(view.alerts)) {
        Some((truth, reason)) => add(ALERTS_DELIVERED, truth, reason, told(reason)),
        None => {
            if let Some(c) = condition(old, ALERTS_DELIVERED).filter(|_| view.is_some()) {
                let truth = [Truth::True, Truth::False].into_iter().find(|t| t.as_str() == c.status);
                let reason =
                    [Reason::Sent, Reason::DeliveryFailed].into_iter().find(|r| r.as_str() == c.reason);
                if let (Some(truth), Some(reason)) = (truth, reason) {
                    add(ALERTS_DELIVERED, truth, reason, told(reason));
                }
            }
        }
    }
    if let Verdict::Refused(refusal) = verdict {
        add(STALLED, Truth::True, refusal.reason, &refusal.message);
    }
    let phase = match (verdict, view) {
        (Verdict::Refused(_), _) => Phase::Rejected,
        (_, None) => Phase::Pending,
        (_, Some(_)) if suspended => Phase::Suspended,
        (_, Some(view)) if snoozed(view) => Phase::Snoozed,
        (_, Some(view)) => phase(view.reservation.state),
    };
    ReservationStatus {
        observed_generation: generation,
        phase: Some(phase),
        last_checkin_time: view.and_then(|v| v.reservation.evidence.last_ok_ms).and_then(time),
        next_deadline_time: view.filter(|_| !suspended).and_then(deadline_ms).and_then(time),
        conditions,
    }
}

fn snoozed(view: &ObjectView) -> bool {
    view.reservation.evidence.snooze.is_some_and(|s| s.active(view.now_ms))
}

fn deadline_ms(view: &ObjectView) -> Option<i64> {
    let settings = view.reservation.settings.as_ref().ok()?;
    Some(deadline::deadline(settings, &view.reservation.evidence, &view.outages).ok()?.at_ms)
}

fn phase(state: State) -> Phase {
    match state {
        State::Waiting => Phase::Pending,
        State::OnTime => Phase::OnTime,
        State::Late => Phase::Late,
        State::Failed => Phase::Failed,
        State::Overrun => Phase::Overrun,
    }
}

fn about(reason: Reason, view: Option<&ObjectView>) -> String {
    let missed = view.and_then(|v| v.reservation.incident.as_ref()).and_then(|(_, i)| time(i.deadline_ms));
    match (reason, missed) {
        (Reason::DeadlineMissed, Some(missed)) => format!("no check-in came by {}", missed.0),
        (Reason::DeadlineMissed, None) => "no check-in came in time".into(),
        (Reason::JobFailed, _) => "the job said that it failed".into(),
        (Reason::RunTooLong, _) => "a run takes longer than `maxRuntime`".into(),
        (Reason::CheckedIn, _) => "the last run was good and in time".into(),
        (Reason::AwaitingFirstCheckin, _) => "nobody has checked in yet".into(),
        (Reason::Snoozed, _) => "alerting is paused by a snooze".into(),
        (Reason::Suspended, _) => "alerting is paused by `suspend`".into(),
        _ => "nothing is watched for this object".into(),
    }
}

fn told(reason: Reason) -> &'static str {
    match reason {
        Reason::DeliveryFailed => "a notice did not get through; the reservation's page in GoTel says which",
        Reason::Sending => "notices are on their way",
        _ => "the receivers have taken every notice",
    }
}

/// Whether the object says that its spec, as it is now, is what is stored, or lost against another: then nothing is
/// likely to be written.
pub fn is_settled(object: &Reservation) -> bool {
    let status = object.status.as_ref();
    let settled = |c: &Condition| c.status == Truth::True.as_str() || c.reason == Reason::Conflict.as_str();
    status.and_then(|s| s.observed_generation) == object.metadata.generation
        && condition(status, READY).is_some_and(settled)
}

/// How an object's status stands beside its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staleness {
    /// As it is.
    Fresh,
    /// Its times are old, and nothing else.
    Times,
    /// It says something that is no longer so.
    Transition,
}

/// Whether the status of `object` still says what its row does. An object that was not looked at yet counts as fresh:
/// somebody is about to.
pub fn staleness(object: &Reservation, row: Option<&OwnedRow>, now_ms: i64) -> Staleness {
    let status = object.status.as_ref();
    let Some(ready) = condition(status, READY) else { return Staleness::Fresh };
    if status.and_then(|s| s.observed_generation) != object.metadata.generation {
        return Staleness::Fresh;
    }
    let Some(row) = row else {
        return if ready.status == Truth::True.as_str() { Staleness::Transition } else { Staleness::Fresh };
    };
    let snoozed = row.snooze.is_some_and(|s| s.active(now_ms));
    let says = |type_: &str, (truth, reason): (Truth, Reason)| {
        condition(status, type_).is_some_and(|c| c.status == truth.as_str() && c.reason == reason.as_str())
    };
    let on_time = says(ON_TIME, words::on_time(row.state, row.held.suspended, snoozed));
    let alerts = words::alerts(row.alerts).is_none_or(|told| says(ALERTS_DELIVERED, told));
    if !on_time || !alerts {
        return Staleness::Transition;
    }
    let last = row.last_ok_ms.and_then(time);
    if last != status.and_then(|s| s.last_checkin_time.clone()) { Staleness::Times } else { Staleness::Fresh }
}

#[cfg(test)]
mod tests;
