use super::*;
use crate::reservation::name::JobKey;
use crate::reservation::snooze::Snooze;
use crate::reservation::{Draft, Evidence, Settings};
use crate::store::{Alerts, Held, ObjectId, Reclaim, ReservationView};
use rstest::rstest;

const NOW: i64 = 1_767_323_045_678;
const HOUR: i64 = 3_600_000;

fn held(suspended: bool) -> Held {
    let object = ObjectId {
        cluster: "eu-1".into(),
        namespace: "team-a".into(),
        name: "nightly".into(),
        uid: "u1".into(),
    };
    Held { object, generation: 3, reclaim: Reclaim::Delete, suspended, orphaned_ms: None }
}

fn view(state: State) -> ObjectView {
    let key = JobKey::parse("billing", "nightly").unwrap();
    let settings =
        Settings::parse(&Draft { every: Some("1h".into()), ..Draft::default() }, &[], NOW).unwrap();
    let last_ok_ms = (state != State::Waiting).then_some(NOW - 1000);
    ObjectView {
        reservation: ReservationView {
            id: 1,
            app: key.app.to_string(),
            component: key.component.to_string(),
            settings: Ok(settings),
            state,
            evidence: Evidence { created_ms: NOW - HOUR, last_ok_ms, ..Evidence::default() },
            snooze_reason: None,
            snooze_by: None,
            updated_ms: NOW,
            incident: None,
            object: None,
        },
        held: held(false),
        alerts: Alerts::default(),
        outages: Vec::new(),
        now_ms: NOW,
    }
}

fn row(view: &ObjectView) -> OwnedRow {
    OwnedRow {
        id: 1,
        held: view.held.clone(),
        state: Some(view.reservation.state),
        last_ok_ms: view.reservation.evidence.last_ok_ms,
        snooze: view.reservation.evidence.snooze,
        alerts: view.alerts,
    }
}

fn says(status: &ReservationStatus, type_: &str) -> String {
    condition(Some(status), type_).map_or_else(String::new, |c| format!("{}/{}", c.status, c.reason))
}

fn kept(view: &ObjectView, old: Option<&ReservationStatus>) -> ReservationStatus {
    status(Some(3), Verdict::Kept, Some(view), old, view.now_ms)
}

fn object(status: ReservationStatus) -> Reservation {
    let mut object = Reservation::new("nightly", Default::default());
    object.metadata.generation = Some(3);
    object.status = Some(status);
    object
}

#[rstest]
#[case::waiting(State::Waiting, "Unknown/AwaitingFirstCheckin", Phase::Pending)]
#[case::on_time(State::OnTime, "True/CheckedIn", Phase::OnTime)]
#[case::late(State::Late, "False/DeadlineMissed", Phase::Late)]
#[case::failed(State::Failed, "False/JobFailed", Phase::Failed)]
#[case::overrun(State::Overrun, "False/RunTooLong", Phase::Overrun)]
fn a_job_in_any_state_is_watched_and_shown(
    #[case] state: State,
    #[case] on_time: &str,
    #[case] phase: Phase,
) {
    let mut view = view(state);
    let status = kept(&view, None);
    assert_eq!((says(&status, READY).as_str(), says(&status, ON_TIME).as_str()), ("True/Watching", on_time));
    assert_eq!(
        (status.phase, says(&status, STALLED), says(&status, ALERTS_DELIVERED)),
        (Some(phase), "".into(), "".into())
    );
    assert_eq!(status.observed_generation, Some(3));
    assert!(status.conditions.iter().all(|c| c.observed_generation == Some(3)));

    view.reservation.evidence.snooze = Some(Snooze { from_ms: NOW - 1, until_ms: NOW + HOUR });
    let snoozed = kept(&view, Some(&status));
    assert_eq!((says(&snoozed, ON_TIME).as_str(), snoozed.phase), ("Unknown/Snoozed", Some(Phase::Snoozed)));
    view.held.suspended = true;
    let suspended = kept(&view, Some(&status));
    assert_eq!(
        (says(&suspended, READY).as_str(), suspended.phase),
        ("True/Suspended", Some(Phase::Suspended))
    );
    assert_eq!(suspended.next_deadline_time, None);
}

#[rstest]
#[case::none(0, 0, 0, "")]
#[case::waiting(1, 1, 0, "Unknown/Sending")]
#[case::sent(2, 0, 0, "True/Sent")]
#[case::failed(1, 1, 1, "False/DeliveryFailed")]
fn what_became_of_the_notices_is_shown(
    #[case] sent: i64,
    #[case] waiting: i64,
    #[case] failed: i64,
    #[case] right: &str,
) {
    let view = ObjectView { alerts: Alerts { sent, waiting, failed }, ..view(State::Late) };
    assert_eq!(says(&kept(&view, None), ALERTS_DELIVERED), right);
    // Long after the incident nothing is known of it any more, and what was said stays.
    let told = ObjectView { alerts: Alerts { sent: 1, waiting: 0, failed: 0 }, ..view.clone() };
    let told = kept(&told, None);
    let later = kept(&ObjectView { alerts: Alerts::default(), ..view }, Some(&told));
    assert_eq!(says(&later, ALERTS_DELIVERED), "True/Sent");
}

#[test]
fn the_same_knowledge_gives_an_equal_status_and_a_time_of_transition_stays() {
    let first = view(State::OnTime);
    let status = kept(&first, None);
    let later = ObjectView { now_ms: NOW + HOUR, ..first.clone() };
    assert_eq!(kept(&later, Some(&status)), status);
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<ReservationStatus>(&text).unwrap(), status, "as the API gives it back");

    let late = ObjectView { now_ms: NOW + HOUR, ..view(State::Late) };
    let late = kept(&late, Some(&status));
    let since = |status: &ReservationStatus, type_| {
        condition(Some(status), type_).unwrap().last_transition_time.clone()
    };
    assert_eq!(since(&late, READY), since(&status, READY));
    assert_ne!(since(&late, ON_TIME), since(&status, ON_TIME));
}

#[test]
fn a_refused_spec_is_stalled_and_the_job_is_still_shown() {
    let refusal =
        Refusal { reason: Reason::InvalidSchedule, message: "`schedule.cron` is no cron line".into() };
    let job = view(State::Late);
    let refused = status(Some(4), Verdict::Refused(&refusal), Some(&job), None, NOW);
    assert_eq!(says(&refused, READY), "False/InvalidSchedule");
    assert_eq!(
        (says(&refused, STALLED), refused.phase),
        ("True/InvalidSchedule".into(), Some(Phase::Rejected))
    );
    assert_eq!(says(&refused, ON_TIME), "False/DeadlineMissed");
    let never = status(Some(4), Verdict::Refused(&refusal), None, None, NOW);
    assert_eq!((says(&never, ON_TIME).as_str(), never.last_checkin_time), ("Unknown/NotWatched", None));
    assert_eq!(says(&kept(&job, Some(&refused)), STALLED), "", "it ends with its cause");
    let unknown = status(Some(1), Verdict::Unknown, None, None, NOW);
    assert_eq!(says(&unknown, READY), "Unknown/DatabaseUnavailable");
}

#[test]
fn a_status_is_stale_by_what_it_says_or_by_its_times_alone() {
    let on_time = view(State::OnTime);
    let shown = object(kept(&on_time, None));
    assert_eq!(staleness(&shown, Some(&row(&on_time)), NOW), Staleness::Fresh);
    let again = OwnedRow { last_ok_ms: Some(NOW + 5000), ..row(&on_time) };
    assert_eq!(staleness(&shown, Some(&again), NOW), Staleness::Times);
    let same_second = OwnedRow { last_ok_ms: Some(NOW - 700), ..row(&on_time) };
    assert_eq!(staleness(&shown, Some(&same_second), NOW), Staleness::Fresh);
    assert_eq!(staleness(&shown, Some(&row(&view(State::Late))), NOW), Staleness::Transition);
    let told = OwnedRow { alerts: Alerts { sent: 1, waiting: 0, failed: 0 }, ..row(&on_time) };
    assert_eq!(staleness(&shown, Some(&told), NOW), Staleness::Transition);
    let snoozed = OwnedRow { snooze: Some(Snooze { from_ms: NOW, until_ms: NOW + 1 }), ..row(&on_time) };
    assert_eq!(staleness(&shown, Some(&snoozed), NOW), Staleness::Transition);
    assert_eq!(staleness(&shown, Some(&snoozed), NOW + 1), Staleness::Fresh, "it has ended");
    assert_eq!(staleness(&shown, None, NOW), Staleness::Transition, "its row is gone");

    let mut edited = shown.clone();
    edited.metadata.generation = Some(4);
    assert_eq!(staleness(&edited, Some(&again), NOW), Staleness::Fresh, "the watch brings it anyway");
    edited.status = None;
    assert_eq!(staleness(&edited, None, NOW), Staleness::Fresh);
    let refusal = Refusal { reason: Reason::Conflict, message: "taken".into() };
    let loser = object(status(Some(3), Verdict::Refused(&refusal), None, None, NOW));
    assert_eq!(staleness(&loser, None, NOW), Staleness::Fresh, "a loser is not looked at each time");
}
