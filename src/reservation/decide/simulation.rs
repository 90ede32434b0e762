//! Random histories: a job that checks in, fails, hangs, is edited and snoozed, and a GoTel that goes away, all
//! driven through `decide` as the evaluator drives it (at `due_ms`, and at once after what the check-in path marks
//! as due). What `decide` promises is asserted at each step.

use super::*;
use crate::reservation::{
    Draft, Signal, SignalKind, schedule::Schedule, settings::DraftEscalation, snooze::Snooze,
};
use proptest::prelude::*;
use std::collections::HashMap;

const SEC: i64 = 1_000;
const START: i64 = 1_774_000_000_000; // 2026-03-20, so that histories with cron lines cross Europe's clock change

#[derive(Debug, Clone)]
enum Step {
    Wait(i64),
    Ok,
    OkOfRun(u8),
    Fail,
    FailOfRun(u8),
    Start(u8),
    Log,
    Snooze(i64),
    Unsnooze,
    Edit(usize),
    /// GoTel accepts nothing and decides nothing.
    Outage(i64),
    /// Only the evaluator stops; check-ins go on.
    Gap(Vec<Step>),
}

struct World {
    now: i64,
    all: Vec<Settings>,
    settings: Settings,
    evidence: Evidence,
    runs: Vec<OpenRun>,
    open: Option<OpenIncident>,
    outages: Vec<Outage>,
    state: State,
    due: i64,
    /// The evaluator stands still.
    gap: bool,
    triggers: usize,
    resolves: usize,
    /// What has named each incident to its receivers, and when it was opened.
    named: HashMap<(&'static str, Option<String>, i64), i64>,
}

impl World {
    fn new(all: Vec<Settings>) -> Self {
        let settings = all[0].clone();
        Self {
            now: START,
            all,
            settings,
            evidence: Evidence { created_ms: START, ..Evidence::default() },
            runs: vec![],
            open: None,
            outages: vec![],
            state: State::Waiting,
            due: 0,
            gap: false,
            triggers: 0,
            resolves: 0,
            named: HashMap::new(),
        }
    }

    fn decide(&self) -> Decision {
        let case = Case {
            settings: &self.settings,
            state: self.state,
            evidence: &self.evidence,
            open: self.open.as_ref(),
            runs: &self.runs,
            outages: &self.outages,
        };
        decide(&case, self.now).unwrap()
    }

    fn snoozed(&self) -> bool {
        self.evidence.snooze.is_some_and(|snooze| snooze.active(self.now))
    }

    /// One look of the evaluator, with everything that must hold after it.
    fn evaluate(&mut self) {
        let decision = self.decide();
        assert!(decision.due_ms > self.now, "never a busy loop: {decision:?}");
        for action in &decision.actions {
            self.apply(action);
        }
        self.state = decision.state;
        self.due = decision.due_ms;

        let again = self.decide();
        assert!(again.actions.is_empty(), "deciding again does nothing: {again:?}");
        assert_eq!(again.state, decision.state);
        let deadline = deadline::deadline(&self.settings, &self.evidence, &self.outages).unwrap();
        let tellable =
            self.now > deadline.alert_ms || self.evidence.fails >= i64::from(self.settings.tolerance);
        if !self.snoozed() {
            assert!(!tellable || self.open.is_some(), "a miss or a failure is never silent");
            if self.open.is_some() {
                assert!(!matches!(self.state, State::OnTime | State::Waiting), "{:?}", self.open);
            }
        }
    }

    fn apply(&mut self, action: &Action) {
        if !matches!(action, Action::AbandonRun { .. }) {
            assert!(!self.snoozed(), "nothing is told while snoozed: {action:?}");
        }
        match action.clone() {
            Action::Open { reason, deadline_ms, own_ms, rid, next_remind_ms, .. } => {
                assert!(self.open.is_none(), "at most one open incident");
                assert!(own_ms <= deadline_ms);
                let missed = matches!(reason, Reason::Missed | Reason::NeverCheckedIn);
                let word = if missed { "missed" } else { reason.as_str() };
                let before = self.named.insert((word, rid.clone(), own_ms), self.now);
                // Only these cannot be told apart: a job that fails, is looked at, recovers and fails in one millisecond.
                let at_once = |at: i64| reason == Reason::Failed && at == own_ms;
                assert!(before.is_none_or(at_once), "two incidents with one name");
                assert!(deadline_ms <= self.now, "stamped with what is past");
                if matches!(reason, Reason::Missed | Reason::NeverCheckedIn) {
                    assert!(self.evidence.last_ok_ms.is_none_or(|ok| ok < deadline_ms));
                    assert_eq!(reason == Reason::NeverCheckedIn, self.evidence.last_ok_ms.is_none());
                    assert!(deadline_ms < self.now);
                }
                let opened_ms = self.now;
                self.triggers += 1;
                self.open = Some(OpenIncident {
                    reason,
                    deadline_ms,
                    opened_ms,
                    rid,
                    event_no: 0,
                    next_remind_ms,
                    escalated: 0,
                });
            }
            Action::Remind { event_no, next_remind_ms } => {
                let open = self.open.as_mut().expect("only an open incident is told again");
                assert_eq!(event_no, open.event_no + 1);
                (open.event_no, open.next_remind_ms) = (event_no, next_remind_ms);
            }
            Action::Escalate { event_no, step } => {
                let open = self.open.as_mut().expect("only an open incident escalates");
                assert_eq!((event_no, step), (open.event_no + 1, open.escalated));
                (open.event_no, open.escalated) = (event_no, step + 1);
            }
            Action::Resolve { event_no, at_ms, .. } => {
                let open = self.open.take().expect("a resolve never comes before its trigger");
                assert_eq!(event_no, open.event_no + 1);
                assert!(at_ms >= open.deadline_ms && at_ms <= self.now);
                self.resolves += 1;
            }
            Action::AbandonRun { rid } => self.runs.retain(|run| run.rid != rid),
        }
    }

    /// Time passes; the evaluator wakes when something is due and at no other moment, and nothing was to do between.
    fn wait(&mut self, ms: i64) {
        let end = self.now + ms;
        while !self.gap && self.due <= end {
            self.now = self.now.max(self.due);
            self.evaluate();
        }
        self.now = end;
        if !self.gap {
            let mut between = self.decide();
            // Letting go of a lost run can wait: nobody is told of it.
            between.actions.retain(|action| !matches!(action, Action::AbandonRun { .. }));
            assert!(between.actions.is_empty(), "due was no lower bound: {between:?}");
            assert!(self.snoozed() || between.state == self.state, "{:?} {:?}", between.state, self.state);
        }
    }

    fn signal(&mut self, kind: SignalKind, rid: Option<u8>) {
        let rid = rid.map(|rid| rid.to_string()).unwrap_or_default();
        let run = self.runs.iter().find(|run| run.rid == rid).map(|run| run.started_ms);
        if matches!(kind, SignalKind::Ok | SignalKind::Fail) {
            self.runs.retain(|run| run.rid != rid);
        }
        if kind == SignalKind::Start {
            self.runs.retain(|run| run.rid != rid);
            self.runs.push(OpenRun { rid: rid.clone(), started_ms: self.now });
        }
        let before = deadline::deadline(&self.settings, &self.evidence, &self.outages).unwrap();
        let first = self.evidence.last_ok_ms.is_none();
        self.evidence.merge(&Signal { kind, at_ms: self.now, exit_code: None, rid }, run);
        let after = deadline::deadline(&self.settings, &self.evidence, &self.outages).unwrap();
        // The two exceptions that `deadline` names.
        let moved = !self.outages.is_empty() || self.evidence.snooze.is_some();
        let cron = matches!(self.settings.schedule, Schedule::Cron { .. });
        if !(first && self.settings.first_within_ms.is_some() || moved && cron) {
            assert!(after.at_ms >= before.at_ms && after.alert_ms >= before.alert_ms, "deadlines only grow");
        }
        // What the check-in path does: what cannot need attention touches nothing.
        let lazy = match kind {
            SignalKind::Log => true,
            SignalKind::Ok => self.state == State::OnTime,
            SignalKind::Start => self.settings.max_runtime_ms.is_none(),
            SignalKind::Fail => false,
        };
        if !lazy {
            self.due = 0;
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Wait(seconds) => self.wait(seconds * SEC + 7),
            Step::Ok => self.signal(SignalKind::Ok, None),
            Step::OkOfRun(rid) => self.signal(SignalKind::Ok, Some(rid)),
            Step::Fail => self.signal(SignalKind::Fail, None),
            Step::FailOfRun(rid) => self.signal(SignalKind::Fail, Some(rid)),
            Step::Start(rid) => self.signal(SignalKind::Start, Some(rid)),
            Step::Log => self.signal(SignalKind::Log, None),
            Step::Snooze(seconds) => {
                self.evidence.snooze = Some(Snooze { from_ms: self.now, until_ms: self.now + seconds * SEC });
                self.due = 0;
            }
            Step::Unsnooze => {
                if let Some(snooze) = &mut self.evidence.snooze {
                    snooze.until_ms = snooze.until_ms.min(self.now);
                }
                self.due = 0;
            }
            Step::Edit(n) => {
                let new = self.all[n % self.all.len()].clone();
                if self.settings.reschedules(&new) {
                    self.evidence.rearm_ms = deadline::rearm_after_edit(&new, self.now).unwrap();
                    let late = deadline::deadline(&new, &self.evidence, &self.outages).unwrap();
                    assert!(late.at_ms > self.now, "an edit never pages by itself");
                }
                self.settings = new;
                self.due = 0;
            }
            Step::Outage(seconds) => {
                let from_ms = self.now;
                self.now += seconds * SEC;
                self.outages.push(Outage::away(from_ms, self.now));
                self.due = 0;
            }
            Step::Gap(steps) => {
                self.gap = true;
                steps.into_iter().for_each(|step| self.step(step));
                self.gap = false;
            }
        }
        if !self.gap {
            self.wait(0);
        }
    }
}

fn settings() -> Vec<Settings> {
    let parse = |draft: Draft| Settings::parse(&draft, &["pager".to_owned()], START).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let step = |after: &str| DraftEscalation { after: after.into(), alerters: vec!["pager".into()] };
    vec![
        parse(Draft { every: text("1m"), realert: text("1h"), ..Draft::default() }),
        parse(Draft { every: text("10s"), grace: text("5s"), max_runtime: text("30s"), ..Draft::default() }),
        parse(Draft {
            every: text("2m"),
            tolerance: Some(3),
            max_runtime: text("1m"),
            realert: text("never"),
            ..Draft::default()
        }),
        parse(Draft {
            every: text("5m"),
            first_within: text("1h"),
            escalation: Some(vec![step("1m"), step("3m")]),
            ..Draft::default()
        }),
        parse(Draft {
            cron: text("*/5 * * * *"),
            time_zone: text("Europe/Dublin"),
            grace: text("0s"),
            ..Draft::default()
        }),
        parse(Draft {
            cron: text("0 1,2 * * *"),
            time_zone: text("Europe/Dublin"),
            tolerance: Some(2),
            max_runtime: text("2h"),
            ..Draft::default()
        }),
        // Periods of one minute and of 59, so that what a snooze or an outage gives changes with each run.
        parse(Draft {
            cron: text("0,1 * * * *"),
            grace: text("0s"),
            realert: text("1h"),
            ..Draft::default()
        }),
    ]
}

fn simple() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..400i64).prop_map(Step::Wait),
        1 => (0..200_000i64).prop_map(Step::Wait),
        5 => Just(Step::Ok),
        2 => (0..3u8).prop_map(Step::OkOfRun),
        2 => Just(Step::Fail),
        1 => (0..3u8).prop_map(Step::FailOfRun),
        2 => (0..3u8).prop_map(Step::Start),
        1 => Just(Step::Log),
        1 => (1..900i64).prop_map(Step::Snooze),
        1 => Just(Step::Unsnooze),
        1 => (0..7usize).prop_map(Step::Edit),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => simple(),
        1 => (30..2_000i64).prop_map(Step::Outage),
        1 => proptest::collection::vec(simple(), 1..6).prop_map(Step::Gap),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_the_promises_hold(first in 0..7usize, history in steps()) {
        let mut all = settings();
        all.rotate_left(first);
        let mut world = World::new(all);
        history.into_iter().for_each(|step| world.step(step));
        // In the end, with no snooze and no sign of life, somebody is told.
        world.step(Step::Unsnooze);
        world.wait(3 * 24 * 3_600 * SEC);
        prop_assert!(world.open.is_some());
        prop_assert_eq!(world.triggers, world.resolves + 1);
    }

    #[test]
    fn a_job_that_checks_in_in_time_is_never_told(
        which in 0..7usize, waits in proptest::collection::vec(0..=100i64, 1..30), gaps: u64,
    ) {
        let mut all = settings();
        all.rotate_left(which);
        let settings = all[0].clone();
        let mut world = World::new(all);
        for (n, share) in waits.into_iter().enumerate() {
            // Up to the very millisecond of the deadline, and without an evaluator now and then.
            let deadline = deadline::deadline(&settings, &world.evidence, &[]).unwrap().at_ms;
            let ms = (deadline - world.now) * share / 100;
            world.gap = gaps >> (n % 64) & 1 == 1;
            world.wait(ms);
            world.signal(SignalKind::Ok, None);
            world.gap = false;
            world.wait(0);
        }
        prop_assert_eq!(world.triggers, 0);
    }

    #[test]
    fn fail_recover_fail_tells_twice(
        evaluated in proptest::collection::vec(any::<bool>(), 3), waits in proptest::collection::vec(1..30i64, 3),
    ) {
        let mut world = World::new(settings());
        world.step(Step::Ok);
        for ((kind, look), seconds) in
            [SignalKind::Fail, SignalKind::Ok, SignalKind::Fail].into_iter().zip(evaluated).zip(waits)
        {
            world.gap = true;
            world.wait(seconds * SEC);
            world.signal(kind, None);
            world.gap = false;
            // The first failure must be looked at before it recovers, or nobody ever knew of it.
            if look || world.triggers == 0 {
                world.wait(0);
            }
        }
        world.wait(0);
        prop_assert_eq!((world.triggers, world.resolves), (2, 1));
    }

    #[test]
    fn every_miss_is_told_within_a_millisecond_of_its_deadline(
        which in 0..7usize, oks in proptest::collection::vec(1..300i64, 0..10),
    ) {
        let mut all = settings();
        all.rotate_left(which);
        let mut world = World::new(all);
        for seconds in oks {
            world.step(Step::Wait(seconds));
            world.step(Step::Ok);
        }
        let deadline = deadline::deadline(&world.settings, &world.evidence, &[]).unwrap().alert_ms;
        let told = world.triggers;
        world.wait(deadline - world.now);
        prop_assert_eq!(world.triggers, told);
        world.wait(1);
        prop_assert_eq!(world.triggers, told + 1);
        prop_assert_eq!(world.open.unwrap().deadline_ms, deadline);
    }
}
