//! From decisions to what is written: states, incidents, and a notice for each target.
//!
//! Pure: a loaded batch in, an outcome out. A subject that cannot be decided, even one that makes the
//! rules panic, is set aside with a system incident and never stops the others.

use crate::reservation::decide::{Action, Case, Decision, Undecidable};
use crate::reservation::incident::{self, Ending, Event, Reason};
use crate::reservation::message::{self, Facts, Values};
use crate::reservation::outage::{Cause, Outage};
use crate::reservation::routing::{Routes, Target};
use crate::reservation::{JobKey, Notice, Settings, decide, duration};
use crate::store::{
    Change, Closing, Digested, Life, Loaded, NewDelivery, Open, Opening, OutboxState, Outcome, Subject,
    SystemKind, SystemReport, Told, undecidable_subject,
};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A row that cannot be decided is looked at again after this long.
pub const SET_ASIDE_MS: i64 = 3_600_000;

/// One that could not be looked at in time is tried again after this long.
pub const SLOW_ASIDE_MS: i64 = 300_000;

/// A cluster that was not heard of for so long is spoken of. Longer than a restart, or a change of replicas, may take.
const SILENT_MS: i64 = 900_000;

/// Noticed this much after its deadline, a miss says so.
const LATE_NOTICE_MS: i64 = 60_000;

/// What notices are made from.
#[derive(Debug, Clone)]
pub struct Context {
    /// The configured alerters.
    pub routes: Routes,
    /// This replica, as `{srv}`.
    pub srv: String,
    /// Identity of the installation.
    pub install_id: String,
    /// Where people reach the pages, without a slash at the end.
    pub external_url: Option<String>,
}

/// Plans a whole batch.
pub fn plan(context: &Context, loaded: &Loaded) -> Outcome {
    plan_by(context, loaded, decide)
}

/// The rules, handed in so that a test can hand in others.
type Rules = fn(&Case<'_>, i64) -> Result<Decision, Undecidable>;

fn plan_by(context: &Context, loaded: &Loaded, rules: Rules) -> Outcome {
    let mut outcome = Outcome::default();
    let mut digests = loaded.digests.clone();
    for subject in &loaded.subjects {
        let planned = catch_unwind(AssertUnwindSafe(|| {
            let mut one =
                Planner { context, rules, loaded, subject, digests: digests.clone(), deliveries: Vec::new() };
            let change = one.plan()?;
            Ok::<_, String>((change, one.deliveries, one.digests))
        }));
        match planned {
            Ok(Ok((change, deliveries, left))) => {
                outcome.changes.push(change);
                outcome.deliveries.extend(deliveries);
                digests = left;
            }
            failed => {
                let why = match failed {
                    Ok(Err(why)) => why,
                    _ => "the rules failed on it (a bug in GoTel: please report it)".to_owned(),
                };
                tracing::error!(
                    app = subject.app,
                    component = subject.component,
                    why,
                    "a reservation was set aside"
                );
                outcome.changes.push(unchanged(subject, loaded.now_ms + SET_ASIDE_MS));
                let (app, component) = (&subject.app, &subject.component);
                let report = undecidable(context, app, component, loaded.now_ms, &why, SET_ASIDE_MS);
                outcome.reports.push(report);
            }
        }
    }
    outcome
}

/// The system incident for a reservation that was set aside.
pub fn undecidable(
    context: &Context,
    app: &str,
    component: &str,
    now_ms: i64,
    why: &str,
    again_ms: i64,
) -> SystemReport {
    SystemReport {
        kind: SystemKind::Undecidable,
        subject: undecidable_subject(app, component),
        text: format!(
            "The reservation {app}/{component} cannot be evaluated: {why}. It is NOT being watched. Make the reservation \
             again (POST /reservation); it is looked at again after {}.",
            duration::human(again_ms)
        ),
        since_ms: now_ms,
        targets: context.routes.defaults(&[], None),
        srv: context.srv.clone(),
        life: Life::UntilWithdrawn,
    }
}

fn unchanged(subject: &Subject, due_ms: i64) -> Change {
    Change {
        id: subject.id,
        state: subject.state,
        due_ms,
        closing: None,
        opening: None,
        progress: None,
        abandon: Vec::new(),
        supersede: Vec::new(),
    }
}

/// Plans one subject.
struct Planner<'a> {
    context: &'a Context,
    rules: Rules,
    loaded: &'a Loaded,
    subject: &'a Subject,
    /// What the digests still stand for, as closings of this batch are counted off.
    digests: BTreeMap<String, Digested>,
    deliveries: Vec<NewDelivery>,
}

impl Planner<'_> {
    fn plan(&mut self) -> Result<Change, String> {
        let subject = self.subject;
        let now_ms = self.loaded.now_ms;
        let mut change = unchanged(subject, i64::MAX);
        if subject.checked_out {
            if let Some(open) = &subject.open {
                self.close(
                    &mut change,
                    open,
                    Event::Cancel,
                    Ending::CheckedOut,
                    open.incident.event_no + 1,
                    now_ms,
                );
            }
            return Ok(change);
        }
        let settings = subject.settings.as_ref().map_err(Clone::clone)?;
        let mut open = subject.open.as_ref();
        // Checked out and made again before anybody looked: the old incident ends with the old generation.
        if let Some(old) = open.filter(|o| o.generation != subject.generation) {
            self.close(
                &mut change,
                old,
                Event::Cancel,
                Ending::CheckedOut,
                old.incident.event_no + 1,
                now_ms,
            );
            open = None;
        }
        let case = Case {
            settings,
            state: subject.state,
            evidence: &subject.evidence,
            open: open.map(|o| &o.incident),
            runs: &subject.runs,
            outages: &self.loaded.outages,
        };
        let decision = (self.rules)(&case, now_ms).map_err(|e| e.to_string())?;
        change.state = decision.state;
        change.due_ms = decision.due_ms;
        for action in decision.actions {
            self.act(&mut change, settings, open, action);
        }
        // Of very many open runs only the oldest were looked at: once these are let go, the next ones are.
        if subject.more_runs && !change.abandon.is_empty() {
            change.due_ms = now_ms;
        }
        Ok(change)
    }

    fn act(&mut self, change: &mut Change, settings: &Settings, open: Option<&Open>, action: Action) {
        match (action, open) {
            (Action::Open { reason, deadline_ms, own_ms, rid, next_remind_ms, after_outage }, _) => {
                self.open(change, settings, reason, deadline_ms, own_ms, rid, next_remind_ms, after_outage);
            }
            (Action::Remind { event_no, next_remind_ms }, Some(open)) => {
                let escalated = change.progress.as_ref().map_or(open.incident.escalated, |p| p.3);
                change.progress = Some((open.id.clone(), event_no, next_remind_ms, escalated));
                let mut notice = self.notice_of(settings, open, Event::Remind, event_no);
                notice.remarks.extend(self.silence());
                let mut targets = self.context.routes.targets(settings);
                targets.retain(|target| !self.stands_in_a_digest(open, target));
                // One that still waits would say the same once more.
                let waits = |t: &&Told| t.event == Event::Remind && t.state == OutboxState::Pending;
                change.supersede.extend(open.told.iter().filter(waits).map(|t| t.id));
                self.tell(targets, &notice, 0, None);
            }
            (Action::Escalate { event_no, step }, Some(open)) => {
                let next = change.progress.as_ref().map_or(open.incident.next_remind_ms, |p| p.2);
                change.progress = Some((open.id.clone(), event_no, next, step + 1));
                let mut notice = self.notice_of(settings, open, Event::Escalate, event_no);
                notice.remarks.extend(self.silence());
                let targets = self.context.routes.escalation(settings, step as usize);
                self.tell(targets, &notice, 0, None);
            }
            (Action::Resolve { event_no, at_ms, ending }, Some(open)) => {
                let event = if ending == Ending::CheckedOut { Event::Cancel } else { Event::Resolve };
                self.close(change, open, event, ending, event_no, at_ms);
            }
            (Action::AbandonRun { rid }, _) => change.abandon.push(rid),
            // The rules name an incident only when they were given one.
            (_, None) => debug_assert!(false, "an action on an incident that is not open"),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one action, spelled out")]
    fn open(
        &mut self,
        change: &mut Change,
        settings: &Settings,
        reason: Reason,
        deadline_ms: i64,
        own_ms: i64,
        rid: Option<String>,
        next_remind_ms: Option<i64>,
        after_outage: Option<Outage>,
    ) {
        let (subject, now_ms) = (self.subject, self.loaded.now_ms);
        let opening = Opening {
            id: uuid::Uuid::now_v7().to_string(),
            generation: subject.generation,
            app: subject.app.clone(),
            component: subject.component.clone(),
            reason,
            rid: rid.clone(),
            dedup_key: incident::dedup_key(
                &self.context.install_id,
                &subject.app,
                &subject.component,
                own_ms,
                cause_word(reason, rid.as_deref()).as_deref(),
            ),
            deadline_ms,
            next_remind_ms,
        };
        let mut notice =
            self.notice(Some(settings), reason, &opening.id, &opening.dedup_key, deadline_ms, now_ms);
        notice.rid = rid;
        notice.output.clone_from(&subject.output);
        if now_ms - deadline_ms > LATE_NOTICE_MS {
            notice
                .remarks
                .push(format!("Noticed {} after the deadline.", duration::human(now_ms - deadline_ms)));
        }
        notice.remarks.extend(self.silence());
        // Survivors of one outage go out together once every job has had its time.
        let (not_before_ms, group) = match after_outage {
            Some(outage) => {
                let (from, to) = (message::utc(outage.from_ms), message::utc(outage.to_ms));
                notice.remarks.push(match outage.cause {
                    Cause::Away => format!("Not seen since GoTel's own outage ({from} to {to})."),
                    Cause::ClockJump => {
                        format!("Not seen since the database's clock jumped (from {from} to {to}).")
                    }
                });
                let until_ms = outage.to_ms + outage.patience_ms();
                (until_ms, Some(format!("outage/{}", outage.from_ms)))
            }
            None => (0, None),
        };
        let targets = self.context.routes.targets(settings);
        self.tell(targets, &notice, not_before_ms, group);
        change.opening = Some(opening);
    }

    /// What may be the reason of it all: the job's cluster is gone.
    fn silence(&self) -> Option<String> {
        let (cluster, heard_ms) = self.subject.cluster.as_ref()?;
        let silent_ms = self.loaded.now_ms - heard_ms;
        (*heard_ms > 0 && silent_ms > SILENT_MS).then(|| {
            format!(
                "GoTel in cluster {cluster}, where the reservation's object is, was last heard of {} ago: the cluster may \
                 be gone.",
                duration::human(silent_ms)
            )
        })
    }

    /// Whether one alert at a receiver that closes by key stands for this incident among others: it is open as
    /// long as the incident, so a reminder beside it would only open, and page for, a second one. A digest
    /// that never arrived stands for nothing.
    fn stands_in_a_digest(&self, open: &Open, target: &Target) -> bool {
        let told = |digest: &String| self.digests.get(digest).is_some_and(|d| !d.given_up);
        self.context.routes.folds(&target.alerter)
            && open.told.iter().any(|t| {
                t.alerter == target.alerter
                    && t.recipient == target.recipient
                    && t.digest.as_ref().is_some_and(told)
            })
    }

    /// Closes an incident and tells everybody who was told of it.
    fn close(
        &mut self,
        change: &mut Change,
        open: &Open,
        event: Event,
        ending: Ending,
        event_no: i64,
        at_ms: i64,
    ) {
        change.closing = Some(Closing { id: open.id.clone(), ending, at_ms, event_no });
        // A later progress of the same incident would reopen nothing, but say nothing true either.
        change.progress = None;
        let settings = self.subject.settings.as_ref().ok();
        let mut notice = self.closing_notice(settings, open, event, event_no, at_ms);
        let mut pairs: BTreeMap<Target, Vec<&Told>> = BTreeMap::new();
        for told in &open.told {
            let target = Target { alerter: told.alerter.clone(), recipient: told.recipient.clone() };
            pairs.entry(target).or_default().push(told);
        }
        // One alert stands for all of a digest: it ends with the last of its incidents.
        let over = self.count_off(open);
        for (target, mut rows) in pairs {
            let folds = self.context.routes.folds(&target.alerter);
            if folds {
                let mut ended: Vec<&String> = rows.iter().filter_map(|r| r.digest.as_ref()).collect();
                ended.sort_unstable();
                ended.dedup();
                for digest in ended.into_iter().filter(|digest| over.contains(*digest)) {
                    let mut last = notice.clone();
                    last.dedup_key.clone_from(digest);
                    self.tell(vec![target.clone()], &last, 0, None);
                }
                // What went alone opened an alert under the incident's own key, which ends by itself.
                rows.retain(|r| r.digest.is_none());
            }
            let heard = rows.iter().any(|r| {
                matches!(r.state, OutboxState::Done | OutboxState::Inflight | OutboxState::Digested)
            });
            let tried = rows.iter().any(|r| r.state == OutboxState::Pending && r.attempts > 0);
            // Still to be sent: only a trigger is, as the code below drops the others.
            let fresh = rows
                .iter()
                .any(|r| r.state == OutboxState::Pending && r.attempts == 0 && r.event == Event::Trigger);
            for row in &rows {
                // Reminders that were not sent in time say nothing any more; neither does a trigger that could
                // not be delivered, nor one of a reservation that is gone.
                let stale =
                    row.event != Event::Trigger || event == Event::Cancel || (tried && !folds && !heard);
                if row.state == OutboxState::Pending && stale {
                    change.supersede.push(row.id);
                }
            }
            match (heard, tried, fresh) {
                (true, _, _) => self.tell(vec![target], &notice, 0, None),
                (false, _, _) if event == Event::Cancel => {}
                (false, true, _) if !folds => {
                    notice.event = Event::Recovered;
                    self.tell(vec![target], &notice, 0, None);
                    notice.event = event;
                }
                (false, true, _) | (false, false, true) => self.tell(vec![target], &notice, 0, None),
                // Given up, or handed to others: those were told.
                (false, false, false) => {}
            }
        }
    }

    /// Counts a closing incident off each digest that told of it, and returns those that have none left open.
    fn count_off(&mut self, open: &Open) -> BTreeSet<String> {
        let told: BTreeSet<String> = open.told.iter().filter_map(|t| t.digest.clone()).collect();
        let ends = |digest: &String| {
            let digest = self.digests.entry(digest.clone()).or_default();
            digest.open -= 1;
            digest.open <= 0
        };
        told.into_iter().filter(ends).collect()
    }

    fn closing_notice(
        &self,
        settings: Option<&Settings>,
        open: &Open,
        event: Event,
        event_no: i64,
        at_ms: i64,
    ) -> Notice {
        let incident = &open.incident;
        let (reason, deadline, opened) = (incident.reason, incident.deadline_ms, incident.opened_ms);
        let mut notice = self.notice(settings, reason, &open.id, &open.dedup_key, deadline, opened);
        notice.event = event;
        notice.event_no = event_no;
        notice.rid.clone_from(&incident.rid);
        notice.down_ms = Some((at_ms - deadline).max(0));
        notice
    }

    /// A further notice of an open incident.
    fn notice_of(&self, settings: &Settings, open: &Open, event: Event, event_no: i64) -> Notice {
        let incident = &open.incident;
        let (reason, deadline, opened) = (incident.reason, incident.deadline_ms, incident.opened_ms);
        let mut notice = self.notice(Some(settings), reason, &open.id, &open.dedup_key, deadline, opened);
        notice.event = event;
        notice.event_no = event_no;
        notice.rid.clone_from(&incident.rid);
        notice
    }

    fn notice(
        &self,
        settings: Option<&Settings>,
        reason: Reason,
        incident: &str,
        dedup_key: &str,
        deadline_ms: i64,
        noticed_ms: i64,
    ) -> Notice {
        let (subject, now_ms) = (self.subject, self.loaded.now_ms);
        let evidence = &subject.evidence;
        let page = ["status", &subject.app, &subject.component];
        let url = self.context.external_url.as_deref().map(|base| message::page(base, &page));
        let message =
            settings.zip(JobKey::parse(&subject.app, &subject.component).ok()).map(|(settings, key)| {
                let values = Values::new(&Facts {
                    jobid: &subject.id.to_string(),
                    key: &key,
                    owner: &settings.owner,
                    notify: &settings.notify,
                    schedule: &settings.schedule,
                    last_ms: evidence.last_ok_ms,
                    checkins: evidence.checkins,
                    srv: &self.context.srv,
                    deadline_ms,
                    reason,
                    incident,
                    url: url.as_deref(),
                    now_ms,
                });
                message::render(settings.alert_msg.as_deref().unwrap_or(message::DEFAULT), &values)
            });
        Notice {
            version: 1,
            event: Event::Trigger,
            reason,
            incident: incident.to_owned(),
            dedup_key: dedup_key.to_owned(),
            event_no: 0,
            app: subject.app.clone(),
            component: subject.component.clone(),
            owner: settings.map_or_else(String::new, |s| s.owner.clone()),
            notify: settings.map_or_else(Vec::new, |s| s.notify.entries().to_vec()),
            labels: settings.map_or_else(BTreeMap::new, |s| s.labels.clone()),
            schedule: settings.map_or_else(String::new, |s| s.schedule.describe()),
            deadline_ms,
            noticed_ms,
            at_ms: now_ms,
            last_ok_ms: evidence.last_ok_ms,
            checkins: evidence.checkins,
            exit_code: evidence.last_exit_code.filter(|_| reason == Reason::Failed),
            rid: None,
            down_ms: None,
            message: message.unwrap_or_default(),
            output: None,
            srv: self.context.srv.clone(),
            url,
            remarks: Vec::new(),
            digest: None,
        }
    }

    fn tell(&mut self, targets: Vec<Target>, notice: &Notice, not_before_ms: i64, group: Option<String>) {
        for target in targets {
            self.deliveries.push(NewDelivery {
                alerter: target.alerter,
                recipient: target.recipient,
                notice: notice.clone(),
                not_before_ms,
                group: group.clone(),
            });
        }
    }
}

/// What tells causes apart that may share a moment; a miss is named by its deadline alone.
fn cause_word(reason: Reason, rid: Option<&str>) -> Option<String> {
    match reason {
        Reason::Missed | Reason::NeverCheckedIn | Reason::System => None,
        Reason::Failed | Reason::Overrun => Some(format!("{}/{}", reason.as_str(), rid.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reservation::{Draft, Evidence, State};

    fn subject(id: i64, app: &str) -> Subject {
        let draft = Draft { every: Some("1h".into()), ..Draft::default() };
        Subject {
            id,
            app: app.into(),
            component: "job".into(),
            generation: 1,
            settings: Ok(Settings::parse(&draft, &[], 0).unwrap()),
            state: State::OnTime,
            evidence: Evidence { last_ok_ms: Some(id), ..Evidence::default() },
            checked_out: false,
            runs: Vec::new(),
            more_runs: false,
            open: None,
            output: None,
            cluster: None,
        }
    }

    #[test]
    fn a_subject_that_makes_the_rules_panic_is_set_aside_and_stops_no_other() {
        let rules: Rules = |case, now_ms| {
            assert_ne!(case.evidence.last_ok_ms, Some(2), "a bug in the rules");
            decide(case, now_ms)
        };
        let context = Context {
            routes: Routes::default(),
            srv: "srv".into(),
            install_id: "id".into(),
            external_url: None,
        };
        let subjects = vec![subject(1, "a"), subject(2, "b"), subject(3, "c")];
        let loaded = Loaded { now_ms: 1000, outages: Vec::new(), subjects, digests: BTreeMap::new() };
        let outcome = plan_by(&context, &loaded, rules);
        let due: Vec<_> = outcome.changes.iter().map(|c| (c.id, c.due_ms)).collect();
        assert_eq!(due, [(1, 3_600_002), (2, 1000 + SET_ASIDE_MS), (3, 3_600_004)]);
        assert_eq!(outcome.reports.len(), 1);
        assert_eq!(
            (outcome.reports[0].kind, outcome.reports[0].subject.as_str()),
            (SystemKind::Undecidable, "b/job")
        );
        assert!(outcome.reports[0].text.contains("NOT being watched"));
    }
}
