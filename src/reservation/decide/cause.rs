//! What is wrong with a reservation at a moment, and whether what an open incident was about still is.
//!
//! A *cause* is one thing that is wrong: a failure, a run that takes too long, a missed deadline. An incident is
//! about one cause and lives as long as that cause: a good run after it ends it even when something else is wrong
//! by then (that is a new incident, and told), and nothing but a good run or an edit ends it.

use super::{Case, Ending, OpenIncident, Outage, Reason, State, deadline};
use crate::reservation::{Evidence, Invalid, evidence::OpenRun, outage::shift, schedule::PERIOD_MIN_MS};

/// One thing that is wrong and is to be told.
pub(super) struct Cause<'a> {
    pub(super) reason: Reason,
    pub(super) deadline_ms: i64,
    /// The deadline without snooze and outages.
    pub(super) own_ms: i64,
    pub(super) rid: Option<&'a str>,
    pub(super) moved_by: Option<Outage>,
}

/// All that is wrong.
pub(super) struct Causes<'a> {
    failing: bool,
    overrunning: bool,
    late: bool,
    own: deadline::Own,
    edited_ms: Option<i64>,
    /// To be told now, in order of importance.
    tellable: Vec<Cause<'a>>,
    /// Runs no longer waited for.
    pub(super) abandoned: Vec<&'a str>,
    /// After these moments the state may turn.
    pub(super) turn_after: Vec<i64>,
    /// After these moments there may be something to tell, if nothing is being told yet.
    pub(super) tell_after: Vec<i64>,
}

impl<'a> Causes<'a> {
    /// Looks at everything. Errors when the schedule cannot be computed.
    pub(super) fn find(case: &Case<'a>, now_ms: i64) -> Result<Self, Invalid> {
        let (settings, evidence) = (case.settings, case.evidence);
        let own = deadline::own(settings, evidence)?;
        let deadline = deadline::moved(&own, settings, evidence, case.outages);
        let mut causes = Self {
            failing: evidence.failing(),
            overrunning: false,
            late: now_ms > deadline.at_ms,
            own,
            edited_ms: deadline::edited_ms(settings, evidence, own.period_ms),
            tellable: Vec::new(),
            abandoned: Vec::new(),
            turn_after: vec![deadline.at_ms],
            tell_after: vec![deadline.alert_ms],
        };
        if deadline.at_ms > own.at_ms && deadline.at_ms > now_ms {
            // A snooze or an outage gave the job time. A check-in now may give it a deadline before that one (see
            // `deadline`), and need not be looked at: so look no later than the first deadline it could give.
            let next_ms = settings.schedule.nth_after(now_ms, 1)?;
            causes.turn_after.push(next_ms.saturating_add(settings.grace_ms));
        }
        causes.find_failure(case);
        causes.find_overruns(case, now_ms);
        if now_ms > deadline.alert_ms {
            causes.tellable.push(Cause {
                reason: if deadline.first { Reason::NeverCheckedIn } else { Reason::Missed },
                deadline_ms: deadline.alert_ms,
                own_ms: own.alert_ms.max(own.at_ms),
                rid: None,
                moved_by: deadline.moved_by,
            });
        }
        Ok(causes)
    }

    /// A failure is told at once: without grace, and whatever edit was made since, as it is a fact and no deadline.
    /// Below the tolerance it is only a state.
    fn find_failure(&mut self, case: &Case<'a>) {
        if !self.failing || case.evidence.fails < i64::from(case.settings.tolerance) {
            return;
        }
        let Some(deadline_ms) = case.evidence.last_fail_ms else { return };
        let own_ms = deadline_ms;
        self.tellable.push(Cause { reason: Reason::Failed, deadline_ms, own_ms, rid: None, moved_by: None });
    }

    fn find_overruns(&mut self, case: &Case<'a>, now_ms: i64) {
        for run in case.runs {
            let Some(own_ms) = self.own_limit(case, run) else { continue };
            if is_abandoned(case, run) {
                self.abandoned.push(&run.rid);
                continue;
            }
            // A run that ended while GoTel could not listen had no way to say so.
            let (period_ms, grace_ms) = (self.own.period_ms, case.settings.grace_ms);
            let (limit_ms, moved_by) = shift(run.started_ms, own_ms, period_ms, grace_ms, case.outages);
            if now_ms > limit_ms {
                self.overrunning = true;
                self.tellable.push(Cause {
                    reason: Reason::Overrun,
                    deadline_ms: limit_ms,
                    own_ms,
                    rid: Some(&run.rid),
                    moved_by,
                });
            } else {
                self.turn_after.push(limit_ms);
            }
        }
    }

    /// When `run` is to have ended; None without a limit. A run from before an edit gets until the edit's floor, so
    /// that a shortened limit does not page by itself.
    fn own_limit(&self, case: &Case<'_>, run: &OpenRun) -> Option<i64> {
        let limit_ms = run.started_ms.saturating_add(case.settings.max_runtime_ms?);
        match self.edited_ms {
            Some(edited_ms) if run.started_ms < edited_ms => Some(limit_ms.max(case.evidence.rearm_ms)),
            _ => Some(limit_ms),
        }
    }

    /// The state must show what an incident that lasts is about, also while a snooze or an outage gives the job
    /// time: a check-in of a job that looks on time would not be looked at soon.
    pub(super) fn note_lasting(&mut self, incident: &OpenIncident) {
        match incident.reason {
            Reason::Missed | Reason::NeverCheckedIn => self.late = true,
            Reason::Overrun => self.overrunning = true,
            Reason::Failed | Reason::System => {}
        }
    }

    /// The state that follows.
    pub(super) fn state(&self, evidence: &Evidence) -> State {
        if self.failing {
            State::Failed
        } else if self.overrunning {
            State::Overrun
        } else if self.late {
            State::Late
        } else if evidence.last_ok_ms.is_none() {
            State::Waiting
        } else {
            State::OnTime
        }
    }

    /// The cause to tell: the one that came first. `min_by_key` keeps the first of equals, and they were looked for
    /// in order of importance.
    pub(super) fn to_tell(&self) -> Option<&Cause<'a>> {
        self.tellable.iter().min_by_key(|cause| cause.deadline_ms)
    }

    /// When and how the open incident ended; None while its cause lasts.
    pub(super) fn ending_of(
        &self,
        case: &Case<'_>,
        incident: &OpenIncident,
        now_ms: i64,
    ) -> Option<(i64, Ending)> {
        let evidence = case.evidence;
        let since = incident.deadline_ms;
        let newer_ok = evidence.last_ok_ms.filter(|ok| *ok > since);
        match incident.reason {
            // The deadline without snooze and outages: they give a job time before it is told about, but do not
            // mend what was told. Were it theirs, a snooze would close the incident and its end open it again.
            Reason::Missed | Reason::NeverCheckedIn => {
                let lasts = newer_ok.is_none() && now_ms > self.own.at_ms && self.own.alert_ms <= since;
                // A good run received up to 10 s before the deadline is newer than the run the deadline was
                // computed from, as no period is shorter: it was stored after the alert. (A cron slot may follow a
                // run sooner; then only this word is wrong.)
                let in_time = evidence.last_ok_ms.filter(|ok| *ok > since.saturating_sub(PERIOD_MIN_MS));
                match in_time {
                    _ if lasts => None,
                    Some(ok) => Some((if ok >= since { ok } else { now_ms }, Ending::Recovered)),
                    None => Some((now_ms, Ending::Reconfigured)),
                }
            }
            Reason::Failed => match newer_ok.or(evidence.last_ok_ms.filter(|ok| *ok == since)) {
                Some(ok) if newer_ok.is_some() || !self.failing => Some((ok, Ending::Recovered)),
                _ if self.failing => None,
                _ => Some((now_ms, Ending::Reconfigured)),
            },
            Reason::Overrun => self.ending_of_overrun(case, incident, now_ms),
            // Opened and closed by whoever found the trouble, never by these rules.
            Reason::System => None,
        }
    }

    fn ending_of_overrun(
        &self,
        case: &Case<'_>,
        incident: &OpenIncident,
        now_ms: i64,
    ) -> Option<(i64, Ending)> {
        let since = incident.deadline_ms;
        let run = case.runs.iter().find(|run| Some(&run.rid) == incident.rid.as_ref());
        let limit_ms = run.and_then(|run| self.own_limit(case, run));
        if let (Some(run), Some(limit_ms)) = (run, limit_ms)
            && !is_abandoned(case, run)
            && now_ms > limit_ms
            && limit_ms <= since
        {
            return None;
        }
        let edited = case.settings.max_runtime_ms.is_none()
            || self.edited_ms.is_some_and(|edited_ms| edited_ms >= incident.opened_ms)
            || case.evidence.created_ms > incident.opened_ms;
        Some(match case.evidence.last_ok_ms.filter(|ok| *ok >= since) {
            Some(ok) => (ok, Ending::Recovered),
            None if edited => (now_ms, Ending::Reconfigured),
            None => (now_ms, Ending::Recovered),
        })
    }
}

/// Whether a later good run began after this one had overrun (design 2.2: each run is tracked on its own, but a run
/// that never ends is not waited for for ever). An edit's floor plays no part: it delays telling, not this.
fn is_abandoned(case: &Case<'_>, run: &OpenRun) -> bool {
    let limit_ms = case.settings.max_runtime_ms.map(|limit| run.started_ms.saturating_add(limit));
    matches!((limit_ms, case.evidence.last_ok_started_ms), (Some(limit), Some(began)) if limit < began)
}
