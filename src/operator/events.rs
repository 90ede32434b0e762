//! What is worth an event: a condition that became another. Pure.

use super::crd::ReservationStatus;
use super::status::condition;
use super::words::{ALERTS_DELIVERED, ON_TIME, READY};
use kube_runtime::events::EventType;

/// An event to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) note: String,
}

impl Told {
    pub(super) fn type_(&self) -> EventType {
        if self.warning { EventType::Warning } else { EventType::Normal }
    }
}

/// What going from `old` to `new` is worth. That a new object is watched, and how it began, is not.
pub(super) fn between(old: Option<&ReservationStatus>, new: &ReservationStatus) -> Vec<Told> {
    let mut told = Vec::new();
    for type_ in [READY, ON_TIME, ALERTS_DELIVERED] {
        let Some(now) = condition(Some(new), type_) else { continue };
        let was = condition(old, type_);
        if was.is_some_and(|was| was.status == now.status && was.reason == now.reason) {
            continue;
        }
        let bad = now.status == "False";
        let mended = now.status == "True" && was.is_some_and(|was| was.status == "False");
        if bad || mended {
            told.push(Told { warning: bad, reason: now.reason.clone(), note: now.message.clone() });
        }
    }
    told
}
