//! An incident as a page shows it: why, since when, whom we told, and whether it arrived.

use super::badge::{self, Badge};
use super::moment::Moment;
use crate::reservation::Reason;
use crate::reservation::duration::human;
use crate::reservation::incident::Ending;
use crate::store::{DeliveryView, IncidentView};

/// One incident.
pub(super) struct Incident {
    pub id: String,
    /// Why, as a sentence.
    pub reason: &'static str,
    pub rid: Option<String>,
    /// What `deadline` is the moment of.
    pub what: &'static str,
    pub deadline: Moment,
    /// How long it has been going on.
    pub lasts: String,
    pub opened: Moment,
    /// When and how it ended; None: open.
    pub closed: Option<(Moment, String)>,
    pub detail: Option<String>,
    pub deliveries: Vec<Delivery>,
    /// Notices that did not arrive.
    pub undelivered: usize,
}

/// One notice to one recipient.
pub(super) struct Delivery {
    pub event: &'static str,
    pub alerter: String,
    pub recipient: String,
    pub badge: Badge,
    pub at: Moment,
    pub attempts: i64,
    pub error: Option<String>,
}

impl Incident {
    pub(super) fn new(view: &IncidentView, now_ms: i64) -> Self {
        let ending = |closed_ms: i64| match view.ending {
            Some(Ending::Recovered) => format!("recovered after {}", human(closed_ms - view.deadline_ms)),
            Some(Ending::Reconfigured) => "closed by a change of its settings".into(),
            Some(Ending::CheckedOut) => "closed by its checkout".into(),
            None => "closed".into(),
        };
        let deliveries: Vec<_> = view.deliveries.iter().map(|d| Delivery::new(d, now_ms)).collect();
        Self {
            id: view.id.clone(),
            reason: badge::reason(view.reason),
            rid: view.rid.clone().filter(|rid| !rid.is_empty()),
            what: match view.reason {
                Reason::Missed | Reason::NeverCheckedIn => "Deadline missed",
                Reason::Failed => "Failure reported",
                Reason::Overrun => "Limit passed",
                Reason::System => "Began",
            },
            deadline: Moment::new(view.deadline_ms, now_ms),
            lasts: human(view.closed_ms.unwrap_or(now_ms) - view.deadline_ms),
            opened: Moment::new(view.opened_ms, now_ms),
            closed: view.closed_ms.map(|ms| (Moment::new(ms, now_ms), ending(ms))),
            detail: view.detail.clone(),
            undelivered: deliveries.iter().filter(|d| d.badge.class == "failed").count(),
            deliveries,
        }
    }
}

impl Delivery {
    fn new(view: &DeliveryView, now_ms: i64) -> Self {
        Self {
            event: badge::event(view.event),
            alerter: view.alerter.clone(),
            recipient: view.recipient.clone(),
            badge: badge::delivery(view.state),
            at: Moment::new(view.done_ms.unwrap_or(view.created_ms), now_ms),
            attempts: view.attempts,
            error: view.error.clone().filter(|e| !e.is_empty()),
        }
    }
}
