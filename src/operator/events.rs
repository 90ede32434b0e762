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

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use rstest::rstest;

    fn status(conditions: &[(&str, &str, &str)]) -> ReservationStatus {
        let condition = |(type_, status, reason): &(&str, &str, &str)| Condition {
            type_: (*type_).into(),
            status: (*status).into(),
            reason: (*reason).into(),
            message: "why".into(),
            observed_generation: None,
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
        };
        ReservationStatus { conditions: conditions.iter().map(condition).collect(), ..Default::default() }
    }

    #[rstest]
    #[case::new(&[], &[(READY, "True", "Watching"), (ON_TIME, "Unknown", "AwaitingFirstCheckin")], &[])]
    #[case::new_and_wrong(&[], &[(READY, "False", "InvalidSchedule")], &["Warning InvalidSchedule"])]
    #[case::first_run(&[(ON_TIME, "Unknown", "AwaitingFirstCheckin")], &[(ON_TIME, "True", "CheckedIn")], &[])]
    #[case::late(&[(ON_TIME, "True", "CheckedIn")], &[(ON_TIME, "False", "DeadlineMissed")], &["Warning DeadlineMissed"])]
    #[case::still_late(&[(ON_TIME, "False", "DeadlineMissed")], &[(ON_TIME, "False", "DeadlineMissed")], &[])]
    #[case::worse(&[(ON_TIME, "False", "DeadlineMissed")], &[(ON_TIME, "False", "JobFailed")], &["Warning JobFailed"])]
    #[case::mended(&[(ON_TIME, "False", "JobFailed")], &[(ON_TIME, "True", "CheckedIn")], &["Normal CheckedIn"])]
    #[case::snoozed(&[(ON_TIME, "False", "JobFailed")], &[(ON_TIME, "Unknown", "Snoozed")], &[])]
    #[case::told(&[(ALERTS_DELIVERED, "Unknown", "Sending")], &[(ALERTS_DELIVERED, "True", "Sent")], &[])]
    #[case::not_told(&[], &[(ALERTS_DELIVERED, "False", "DeliveryFailed")], &["Warning DeliveryFailed"])]
    #[case::freed(&[(READY, "False", "Conflict")], &[(READY, "True", "Watching")], &["Normal Watching"])]
    fn only_what_became_bad_or_good_again_is_an_event(
        #[case] old: &[(&str, &str, &str)],
        #[case] new: &[(&str, &str, &str)],
        #[case] right: &[&str],
    ) {
        let old = (!old.is_empty()).then(|| status(old));
        let told = between(old.as_ref(), &status(new));
        let told: Vec<_> = told
            .iter()
            .map(|told| format!("{} {}", if told.warning { "Warning" } else { "Normal" }, told.reason))
            .collect();
        assert_eq!(told, right);
    }
}
