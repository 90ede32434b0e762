//! Every sentence of design 2.3 as a case: what is open, when it is told, when it ends.

use super::*;
use crate::reservation::{Draft, settings::DraftEscalation, snooze::Snooze};
use rstest::rstest;

const MIN: i64 = 60_000;
const HOUR: i64 = 60 * MIN;
const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

/// A check-in each 5 minutes, and a minute of grace.
fn settings(with: impl FnOnce(&mut Draft)) -> Settings {
    let mut draft = Draft { every: Some("5m".into()), grace: Some("1m".into()), ..Draft::default() };
    with(&mut draft);
    Settings::parse(&draft, &["pager".to_owned()], NOW).unwrap()
}

fn plain() -> Settings {
    settings(|_| ())
}

/// Last good run at NOW, late after NOW + 6 min.
fn ok_now() -> Evidence {
    Evidence {
        created_ms: NOW - HOUR,
        last_ok_ms: Some(NOW),
        last_ok_started_ms: Some(NOW),
        ..Evidence::default()
    }
}

fn failed(fails: i64, at: i64) -> Evidence {
    Evidence { last_fail_ms: Some(NOW + at), fails, ..ok_now() }
}

fn incident(reason: Reason, deadline: i64) -> OpenIncident {
    OpenIncident {
        reason,
        deadline_ms: NOW + deadline,
        opened_ms: NOW + deadline + 1,
        rid: None,
        event_no: 0,
        next_remind_ms: Some(NOW + deadline + 1 + 6 * HOUR),
        escalated: 0,
    }
}

fn missed() -> OpenIncident {
    incident(Reason::Missed, 6 * MIN)
}

/// A run and the incident about it, started at NOW with a limit of 10 minutes.
fn overrun() -> (OpenRun, OpenIncident) {
    let incident = OpenIncident { rid: Some("r1".into()), ..incident(Reason::Overrun, 10 * MIN) };
    (OpenRun { rid: "r1".into(), started_ms: NOW }, incident)
}

fn limited() -> Settings {
    settings(|draft| {
        draft.every = Some("1 day".into());
        draft.max_runtime = Some("10m".into());
    })
}

/// Decides at NOW + `at`.
fn at(settings: &Settings, evidence: &Evidence, open: Option<&OpenIncident>, at: i64) -> Decision {
    with(settings, evidence, open, &[], &[], at)
}

fn with(
    settings: &Settings,
    evidence: &Evidence,
    open: Option<&OpenIncident>,
    runs: &[OpenRun],
    outages: &[Outage],
    at: i64,
) -> Decision {
    let case = Case { settings, state: State::OnTime, evidence, open, runs, outages };
    decide(&case, NOW + at).unwrap()
}

fn open(reason: Reason, deadline: i64, now: i64) -> Action {
    Action::Open {
        reason,
        deadline_ms: NOW + deadline,
        own_ms: NOW + deadline,
        rid: None,
        next_remind_ms: Some(NOW + now + 6 * HOUR),
        after_outage: None,
    }
}

fn resolve(at: i64, ending: Ending) -> Action {
    Action::Resolve { event_no: 1, at_ms: NOW + at, ending }
}

#[test]
fn every_state_reads_back() {
    for state in State::ALL {
        assert_eq!(State::parse(state.as_str()), Some(state));
    }
    assert_eq!(State::parse("down"), None);
}

#[test]
fn a_new_job_waits_until_its_first_deadline() {
    let new = Evidence { created_ms: NOW, ..Evidence::default() };
    let waiting = at(&plain(), &new, None, MIN);
    assert_eq!(waiting, Decision { state: State::Waiting, due_ms: NOW + 6 * MIN + 1, actions: vec![] });
    let late = at(&plain(), &new, None, 6 * MIN + 1);
    assert_eq!(late.state, State::Late);
    assert_eq!(late.actions, [open(Reason::NeverCheckedIn, 6 * MIN, 6 * MIN + 1)]);
}

#[test]
fn first_within_gives_a_new_job_its_own_time() {
    let settings = settings(|draft| draft.first_within = Some("1h".into()));
    let new = Evidence { created_ms: NOW, ..Evidence::default() };
    assert!(at(&settings, &new, None, HOUR).actions.is_empty());
    assert_eq!(at(&settings, &new, None, HOUR + 1).actions, [open(Reason::NeverCheckedIn, HOUR, HOUR + 1)]);
}

#[rstest]
#[case::at_once(0, State::OnTime, false)]
#[case::before(6 * MIN - 1, State::OnTime, false)]
#[case::exactly_at_the_deadline(6 * MIN, State::OnTime, false)]
#[case::a_millisecond_late(6 * MIN + 1, State::Late, true)]
#[case::much_later(3 * HOUR, State::Late, true)]
fn late_begins_after_the_deadline(#[case] now: i64, #[case] state: State, #[case] told: bool) {
    let decision = at(&plain(), &ok_now(), None, now);
    assert_eq!(decision.state, state);
    let expected = if told { vec![open(Reason::Missed, 6 * MIN, now)] } else { vec![] };
    assert_eq!(
        decision.actions, expected,
        "stamped with the exact deadline, not with the moment it was noticed"
    );
}

#[test]
fn an_on_time_job_is_looked_at_right_after_its_deadline() {
    assert_eq!(at(&plain(), &ok_now(), None, MIN).due_ms, NOW + 6 * MIN + 1);
}

#[test]
fn a_late_job_is_told_once() {
    let decision = at(&plain(), &ok_now(), Some(&missed()), 7 * MIN);
    assert_eq!((decision.state, decision.actions), (State::Late, vec![]));
    assert_eq!(decision.due_ms, missed().next_remind_ms.unwrap());
}

#[test]
fn tolerated_misses_make_a_job_late_but_tell_nobody() {
    let settings = settings(|draft| draft.tolerance = Some(3));
    let tolerated = at(&settings, &ok_now(), None, 7 * MIN);
    assert_eq!(tolerated, Decision { state: State::Late, due_ms: NOW + 16 * MIN + 1, actions: vec![] });
    assert_eq!(
        at(&settings, &ok_now(), None, 16 * MIN + 1).actions,
        [open(Reason::Missed, 16 * MIN, 16 * MIN + 1)]
    );
}

#[test]
fn a_failure_is_told_at_once_without_grace() {
    let decision = at(&plain(), &failed(1, MIN), None, MIN);
    assert_eq!((decision.state, decision.actions), (State::Failed, vec![open(Reason::Failed, MIN, MIN)]));
}

#[test]
fn a_first_run_that_fails_is_a_failure() {
    let evidence = Evidence { created_ms: NOW, last_ok_ms: None, last_ok_started_ms: None, ..failed(1, MIN) };
    assert_eq!(at(&plain(), &evidence, None, MIN).actions, [open(Reason::Failed, MIN, MIN)]);
}

#[rstest]
#[case(1, false)]
#[case(2, false)]
#[case(3, true)]
#[case(4, true)]
fn tolerated_failures_tell_nobody(#[case] fails: i64, #[case] told: bool) {
    let settings = settings(|draft| draft.tolerance = Some(3));
    let decision = at(&settings, &failed(fails, MIN), None, MIN);
    assert_eq!((decision.state, !decision.actions.is_empty()), (State::Failed, told));
}

#[test]
fn a_run_that_takes_too_long_is_told_with_its_id() {
    let (run, _) = overrun();
    let runs = [run];
    let running = with(&limited(), &ok_now(), None, &runs, &[], 10 * MIN);
    assert_eq!(running, Decision { state: State::OnTime, due_ms: NOW + 10 * MIN + 1, actions: vec![] });
    let over = with(&limited(), &ok_now(), None, &runs, &[], 10 * MIN + 1);
    assert_eq!(over.state, State::Overrun);
    assert!(
        matches!(&over.actions[..], [Action::Open { reason: Reason::Overrun, deadline_ms, rid: Some(rid), .. }]
        if *deadline_ms == NOW + 10 * MIN && rid == "r1")
    );
}

#[test]
fn without_a_limit_a_run_may_take_for_ever() {
    let runs = [OpenRun { rid: "r1".into(), started_ms: NOW - 100 * 24 * HOUR }];
    assert_eq!(with(&plain(), &ok_now(), None, &runs, &[], MIN).state, State::OnTime);
}

#[test]
fn a_run_is_abandoned_when_a_later_good_run_began_after_its_limit() {
    let runs = [OpenRun { rid: "lost".into(), started_ms: NOW - HOUR }];
    let decision = with(&limited(), &ok_now(), None, &runs, &[], MIN);
    assert_eq!(decision.actions, [Action::AbandonRun { rid: "lost".into() }]);
    assert_eq!(decision.state, State::OnTime);
    // One that began before the limit passed says nothing about the first.
    let overlapping = Evidence { last_ok_started_ms: Some(NOW - HOUR + 10 * MIN), ..ok_now() };
    assert_eq!(with(&limited(), &overlapping, None, &runs, &[], MIN).state, State::Overrun);
}

#[test]
fn an_abandoned_runs_incident_recovers() {
    let (run, incident) = overrun();
    let evidence =
        Evidence { last_ok_ms: Some(NOW + 30 * MIN), last_ok_started_ms: Some(NOW + 20 * MIN), ..ok_now() };
    let decision = with(&limited(), &evidence, Some(&incident), &[run], &[], 31 * MIN);
    assert_eq!(
        decision.actions,
        [Action::AbandonRun { rid: "r1".into() }, resolve(30 * MIN, Ending::Recovered)]
    );
}

#[test]
fn each_concurrent_run_is_tracked_on_its_own() {
    let (run, incident) = overrun();
    let other = OpenRun { rid: "r2".into(), started_ms: NOW + 5 * MIN };
    // A good run meanwhile does not end the incident of the one that hangs.
    let evidence =
        Evidence { last_ok_ms: Some(NOW + 12 * MIN), last_ok_started_ms: Some(NOW + 9 * MIN), ..ok_now() };
    let decision = with(&limited(), &evidence, Some(&incident), &[run, other.clone()], &[], 13 * MIN);
    assert_eq!((decision.state, decision.actions.len()), (State::Overrun, 0));
    // Once it ends, the second one is told on its own.
    let decision = with(&limited(), &evidence, Some(&incident), &[other], &[], 16 * MIN);
    assert_eq!(decision.actions[0], resolve(12 * MIN, Ending::Recovered));
    assert!(matches!(&decision.actions[1], Action::Open { rid: Some(rid), deadline_ms, .. }
        if rid == "r2" && *deadline_ms == NOW + 15 * MIN));
}

#[test]
fn a_run_that_overran_and_then_failed_is_told_again() {
    let (_, incident) = overrun();
    let decision = at(&limited(), &failed(1, 20 * MIN), Some(&incident), 20 * MIN);
    assert_eq!(
        decision.actions,
        [resolve(20 * MIN, Ending::Recovered), open(Reason::Failed, 20 * MIN, 20 * MIN)]
    );
}

#[rstest]
#[case::failure_first(5 * MIN, Reason::Failed, 5 * MIN)]
#[case::miss_first(7 * MIN, Reason::Missed, 6 * MIN)]
#[case::tie(6 * MIN, Reason::Failed, 6 * MIN)]
fn of_several_causes_the_earliest_is_told(#[case] fail: i64, #[case] reason: Reason, #[case] deadline: i64) {
    let decision = at(&plain(), &failed(1, fail), None, 8 * MIN);
    assert_eq!(decision.actions, [open(reason, deadline, 8 * MIN)]);
    assert_eq!(decision.state, State::Failed, "the state shows the gravest");
}

#[test]
fn a_good_run_recovers_and_says_when() {
    let evidence = Evidence { last_ok_ms: Some(NOW + 9 * MIN), ..ok_now() };
    let decision = at(&plain(), &evidence, Some(&missed()), 10 * MIN);
    assert_eq!(
        (decision.state, decision.actions),
        (State::OnTime, vec![resolve(9 * MIN, Ending::Recovered)])
    );
    assert_eq!(decision.due_ms, NOW + 15 * MIN + 1);
}

#[test]
fn a_check_in_received_in_time_but_stored_after_the_alert_recovers() {
    let evidence = Evidence { last_ok_ms: Some(NOW + 6 * MIN - 5), ..ok_now() };
    let decision = at(&plain(), &evidence, Some(&missed()), 6 * MIN + 2);
    assert_eq!(decision.actions, [resolve(6 * MIN + 2, Ending::Recovered)]);
}

#[test]
fn a_failure_during_a_miss_is_the_same_incident() {
    let decision = at(&plain(), &failed(1, 8 * MIN), Some(&missed()), 9 * MIN);
    assert_eq!((decision.state, decision.actions), (State::Failed, vec![]));
}

#[test]
fn a_start_or_note_does_not_recover() {
    let evidence = Evidence { last_seen_ms: Some(NOW + 8 * MIN), checkins: 9, ..ok_now() };
    assert!(at(&plain(), &evidence, Some(&missed()), 9 * MIN).actions.is_empty());
}

#[test]
fn a_failure_right_after_recovery_tells_again() {
    let open_incident = incident(Reason::Failed, MIN);
    let evidence = Evidence { last_ok_ms: Some(NOW + 2 * MIN), ..failed(1, 3 * MIN) };
    let decision = at(&plain(), &evidence, Some(&open_incident), 4 * MIN);
    assert_eq!(
        decision.actions,
        [resolve(2 * MIN, Ending::Recovered), open(Reason::Failed, 3 * MIN, 4 * MIN)]
    );
}

#[test]
fn a_second_failure_without_a_good_run_is_the_same_incident() {
    assert!(
        at(&plain(), &failed(2, 3 * MIN), Some(&incident(Reason::Failed, MIN)), 4 * MIN).actions.is_empty()
    );
}

#[test]
fn a_miss_after_an_unnoticed_recovery_tells_again() {
    let evidence = Evidence { last_ok_ms: Some(NOW + 10 * MIN), ..ok_now() };
    let decision = at(&plain(), &evidence, Some(&missed()), HOUR);
    assert_eq!(
        decision.actions,
        [resolve(10 * MIN, Ending::Recovered), open(Reason::Missed, 16 * MIN, HOUR)]
    );
}

#[rstest]
#[case::ok_last(0, vec![resolve(MIN, Ending::Recovered)])]
#[case::fail_last(1, vec![])]
fn in_the_same_millisecond_the_last_word_counts(#[case] fails: i64, #[case] expected: Vec<Action>) {
    let evidence = Evidence { last_ok_ms: Some(NOW + MIN), ..failed(fails, MIN) };
    assert_eq!(at(&plain(), &evidence, Some(&incident(Reason::Failed, MIN)), 2 * MIN).actions, expected);
}

#[test]
fn an_edit_that_gives_more_time_closes_the_incident_as_reconfigured() {
    let longer = settings(|draft| draft.every = Some("1h".into()));
    let rearm_ms = deadline::rearm_after_edit(&longer, NOW + 7 * MIN).unwrap();
    let decision = at(&longer, &Evidence { rearm_ms, ..ok_now() }, Some(&missed()), 7 * MIN);
    assert_eq!(
        (decision.state, decision.actions),
        (State::OnTime, vec![resolve(7 * MIN, Ending::Reconfigured)])
    );
}

#[test]
fn a_miss_of_the_edited_deadline_is_told_on_its_own() {
    // Nobody decided between the edit and the miss of the deadline that it moved.
    let longer = settings(|draft| draft.every = Some("1h".into()));
    let decision = at(&longer, &ok_now(), Some(&missed()), 2 * HOUR);
    assert_eq!(
        decision.actions,
        [resolve(2 * HOUR, Ending::Reconfigured), open(Reason::Missed, HOUR + MIN, 2 * HOUR)]
    );
}

#[test]
fn an_edit_never_pages_by_itself() {
    let shorter = settings(|draft| {
        draft.every = Some("10s".into());
        draft.grace = None;
    });
    let rearm_ms = deadline::rearm_after_edit(&shorter, NOW + 5 * MIN).unwrap();
    let evidence = Evidence { rearm_ms, ..ok_now() };
    let edited = at(&shorter, &evidence, None, 5 * MIN);
    assert_eq!((edited.state, edited.actions), (State::OnTime, vec![]));
    assert_eq!(edited.due_ms, NOW + 5 * MIN + 10_001);
    assert_eq!(
        at(&shorter, &evidence, None, 5 * MIN + 10_001).actions,
        [open(Reason::Missed, 5 * MIN + 10_000, 5 * MIN + 10_001)]
    );
}

#[test]
fn a_shortened_limit_does_not_page_by_itself_for_runs_from_before() {
    let shorter = settings(|draft| {
        draft.every = Some("1 day".into());
        draft.max_runtime = Some("1m".into());
    });
    let rearm_ms = deadline::rearm_after_edit(&shorter, NOW + 5 * MIN).unwrap(); // + 15 min + 1 min
    let evidence = Evidence { rearm_ms, ..ok_now() };
    let before = [OpenRun { rid: "r1".into(), started_ms: NOW }];
    let after = [OpenRun { rid: "r2".into(), started_ms: NOW + 6 * MIN }];
    assert!(with(&shorter, &evidence, None, &before, &[], 8 * MIN).actions.is_empty());
    assert_eq!(with(&shorter, &evidence, None, &before, &[], 21 * MIN + 1).state, State::Overrun);
    assert_eq!(with(&shorter, &evidence, None, &after, &[], 8 * MIN).state, State::Overrun);
}

#[test]
fn a_raised_or_removed_limit_closes_an_overrun_as_reconfigured() {
    let (run, incident) = overrun();
    for limit in [Some("1h".to_owned()), None] {
        let raised = settings(|draft| {
            draft.every = Some("1 day".into());
            draft.max_runtime = limit;
        });
        let rearm_ms = deadline::rearm_after_edit(&raised, NOW + 11 * MIN).unwrap();
        let evidence = Evidence { rearm_ms, ..ok_now() };
        let decision = with(&raised, &evidence, Some(&incident), std::slice::from_ref(&run), &[], 11 * MIN);
        assert_eq!(decision.actions, [resolve(11 * MIN, Ending::Reconfigured)]);
    }
}

#[test]
fn evidence_made_anew_closes_incidents_as_reconfigured() {
    let anew = Evidence { created_ms: NOW + 9 * MIN, ..Evidence::default() };
    for open_incident in [missed(), incident(Reason::Failed, 6 * MIN)] {
        let decision = at(&plain(), &anew, Some(&open_incident), 10 * MIN);
        assert_eq!(
            (decision.state, decision.actions),
            (State::Waiting, vec![resolve(10 * MIN, Ending::Reconfigured)])
        );
    }
}

fn snoozed(evidence: Evidence, from: i64, until: i64) -> Evidence {
    Evidence { snooze: Some(Snooze { from_ms: NOW + from, until_ms: NOW + until }), ..evidence }
}

#[test]
fn nothing_is_opened_while_snoozed() {
    for evidence in [ok_now(), failed(3, MIN)] {
        let decision = at(&plain(), &snoozed(evidence, MIN, HOUR), None, 30 * MIN);
        assert_eq!((decision.actions, decision.due_ms), (vec![], NOW + HOUR));
    }
}

#[test]
fn nothing_is_reminded_escalated_or_resolved_while_snoozed() {
    let settings = settings(|draft| {
        draft.realert = Some("1m".into());
        draft.escalation = Some(vec![DraftEscalation { after: "2m".into(), alerters: vec!["pager".into()] }]);
    });
    let recovered = Evidence { last_ok_ms: Some(NOW + 10 * MIN), ..ok_now() };
    for evidence in [ok_now(), recovered] {
        let decision = at(&settings, &snoozed(evidence, 7 * MIN, HOUR), Some(&missed()), 30 * MIN);
        assert_eq!((decision.actions, decision.due_ms), (vec![], NOW + HOUR));
    }
}

#[test]
fn a_recovery_during_a_snooze_is_told_when_it_ends() {
    let evidence = snoozed(Evidence { last_ok_ms: Some(NOW + 58 * MIN), ..ok_now() }, 7 * MIN, HOUR);
    let decision = at(&plain(), &evidence, Some(&missed()), HOUR);
    assert_eq!(decision.actions, [resolve(58 * MIN, Ending::Recovered)]);
}

#[test]
fn an_open_incident_outlives_a_snooze() {
    let evidence = snoozed(ok_now(), 7 * MIN, HOUR);
    let decision = at(&plain(), &evidence, Some(&missed()), HOUR);
    assert_eq!((decision.state, decision.actions), (State::Late, vec![]));
}

#[test]
fn the_end_of_a_snooze_does_not_page_by_itself() {
    let evidence = snoozed(ok_now(), MIN, HOUR);
    let ended = at(&plain(), &evidence, None, HOUR);
    assert_eq!((ended.state, ended.actions), (State::OnTime, vec![]));
    // min(5 min, 15 min) + 1 min of grace after its end
    assert_eq!(ended.due_ms, NOW + HOUR + 6 * MIN + 1);
    let late = at(&plain(), &evidence, None, HOUR + 6 * MIN + 1);
    assert!(matches!(late.actions[..], [Action::Open { reason: Reason::Missed, deadline_ms, own_ms, .. }]
        if (deadline_ms, own_ms) == (NOW + HOUR + 6 * MIN, NOW + 6 * MIN)));
}

#[test]
fn a_failure_during_a_snooze_is_told_when_it_ends() {
    let evidence = snoozed(failed(1, 30 * MIN), MIN, HOUR);
    assert_eq!(at(&plain(), &evidence, None, HOUR).actions, [open(Reason::Failed, 30 * MIN, HOUR)]);
}

#[test]
fn a_deadline_inside_an_outage_is_told_later_and_with_the_outage() {
    let outage = Outage::away(NOW + 5 * MIN, NOW + 20 * MIN);
    let given = with(&plain(), &ok_now(), None, &[], &[outage], 20 * MIN);
    assert_eq!(given, Decision { state: State::OnTime, due_ms: NOW + 26 * MIN + 1, actions: vec![] });
    let late = with(&plain(), &ok_now(), None, &[], &[outage], 26 * MIN + 1);
    assert!(matches!(late.actions[..], [Action::Open { deadline_ms, own_ms, after_outage: Some(by), .. }]
        if (deadline_ms, own_ms) == (NOW + 26 * MIN, NOW + 6 * MIN) && by == outage));
}

#[test]
fn a_cron_job_is_looked_at_by_its_next_slot_after_an_outage() {
    let settings = settings(|draft| {
        (draft.every, draft.cron) = (None, Some("*/5 * * * *".into()));
        draft.grace = Some("0s".into());
    });
    let outage = Outage::away(NOW + 4 * MIN, NOW + 12 * MIN);
    let evidence = Evidence { last_ok_ms: Some(NOW + 1), ..ok_now() };
    // Its deadline moved from 5 to 17 min, but a check-in at 13 min would make it 15 min, and move nothing else.
    let decision = with(&settings, &evidence, None, &[], &[outage], 12 * MIN);
    assert_eq!((decision.state, decision.due_ms), (State::OnTime, NOW + 15 * MIN + 1));
}

#[test]
fn a_job_that_was_late_before_the_outage_is_told_at_once() {
    let outage = Outage::away(NOW + 7 * MIN, NOW + 20 * MIN);
    let late = with(&plain(), &ok_now(), None, &[], &[outage], 20 * MIN);
    assert_eq!(late.actions, [open(Reason::Missed, 6 * MIN, 20 * MIN)]);
}

#[test]
fn a_run_whose_limit_lies_in_an_outage_gets_time_to_end() {
    let (run, _) = overrun();
    let outage = Outage::away(NOW + 5 * MIN, NOW + 20 * MIN);
    let runs = [run];
    assert!(with(&limited(), &ok_now(), None, &runs, &[outage], 20 * MIN).actions.is_empty());
    assert_eq!(with(&limited(), &ok_now(), None, &runs, &[outage], 31 * MIN + 1).state, State::Overrun);
}

#[test]
fn an_outage_that_becomes_known_later_does_not_close_an_incident() {
    let outage = Outage::away(NOW + 5 * MIN, NOW + 20 * MIN);
    let decision = with(&plain(), &ok_now(), Some(&missed()), &[], &[outage], 20 * MIN);
    assert_eq!((decision.state, decision.actions), (State::Late, vec![]));
}

#[test]
fn one_reminder_is_sent_however_many_were_missed() {
    let decision = at(&plain(), &ok_now(), Some(&missed()), 100 * HOUR);
    assert_eq!(decision.actions, [Action::Remind { event_no: 1, next_remind_ms: Some(NOW + 106 * HOUR) }]);
    assert_eq!(decision.due_ms, NOW + 106 * HOUR);
}

#[test]
fn a_restart_does_not_remind_again() {
    let told = OpenIncident { event_no: 1, next_remind_ms: Some(NOW + 106 * HOUR), ..missed() };
    assert!(at(&plain(), &ok_now(), Some(&told), 100 * HOUR + 1).actions.is_empty());
}

#[test]
fn reminders_that_are_off_are_never_due() {
    let off = settings(|draft| draft.realert = Some("never".into()));
    let opened = at(&off, &ok_now(), None, HOUR);
    assert!(matches!(opened.actions[..], [Action::Open { next_remind_ms: None, .. }]));
    let quiet = at(&off, &ok_now(), Some(&missed()), 100 * HOUR);
    assert_eq!((quiet.actions, quiet.due_ms), (vec![], i64::MAX));
}

#[test]
fn reminders_turned_on_later_count_from_the_opening() {
    let open_incident = OpenIncident { next_remind_ms: None, ..missed() };
    let decision = at(&plain(), &ok_now(), Some(&open_incident), HOUR);
    assert_eq!((decision.actions, decision.due_ms), (vec![], open_incident.opened_ms + 6 * HOUR));
}

#[test]
fn each_escalation_step_is_told_once() {
    let step = |after: &str| DraftEscalation { after: after.into(), alerters: vec!["pager".into()] };
    let settings = settings(|draft| draft.escalation = Some(vec![step("10m"), step("20m"), step("2h")]));
    let opened = at(&settings, &ok_now(), None, 6 * MIN + 1);
    assert_eq!(opened.due_ms, NOW + 16 * MIN + 1);
    let before = at(&settings, &ok_now(), Some(&missed()), 16 * MIN);
    assert_eq!((before.actions, before.due_ms), (vec![], NOW + 16 * MIN + 1));
    let first = at(&settings, &ok_now(), Some(&missed()), 16 * MIN + 1);
    assert_eq!(first.actions, [Action::Escalate { event_no: 1, step: 0 }]);
    let both = at(&settings, &ok_now(), Some(&missed()), 30 * MIN);
    assert_eq!(
        both.actions,
        [Action::Escalate { event_no: 1, step: 0 }, Action::Escalate { event_no: 2, step: 1 }]
    );
    let told = OpenIncident { escalated: 2, event_no: 2, ..missed() };
    let rest = at(&settings, &ok_now(), Some(&told), 31 * MIN);
    assert_eq!((rest.actions, rest.due_ms), (vec![], NOW + 6 * MIN + 1 + 2 * HOUR));
}

#[test]
fn steps_and_a_reminder_in_one_go_are_numbered_on() {
    let step = DraftEscalation { after: "10m".into(), alerters: vec!["pager".into()] };
    let settings = settings(|draft| draft.escalation = Some(vec![step]));
    let told = OpenIncident { event_no: 4, ..missed() };
    let decision = at(&settings, &ok_now(), Some(&told), 100 * HOUR);
    assert_eq!(decision.actions[0], Action::Escalate { event_no: 5, step: 0 });
    assert!(matches!(decision.actions[1], Action::Remind { event_no: 6, .. }));
}

#[test]
fn gotels_own_incidents_are_left_alone() {
    let own = OpenIncident { next_remind_ms: None, ..incident(Reason::System, 0) };
    assert!(at(&plain(), &ok_now(), Some(&own), MIN).actions.is_empty());
}

#[test]
fn a_schedule_that_cannot_be_computed_is_undecidable() {
    let mut settings = plain();
    settings.schedule =
        crate::reservation::schedule::Schedule::Cron { expression: "?!".into(), zone: "UTC".into() };
    let evidence = ok_now();
    let case = Case {
        settings: &settings,
        state: State::OnTime,
        evidence: &evidence,
        open: None,
        runs: &[],
        outages: &[],
    };
    assert!(decide(&case, NOW).unwrap_err().to_string().contains("cron"));
}
