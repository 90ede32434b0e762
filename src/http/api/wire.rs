//! What the API says of reservations and their history. Rows of tables never go on the wire.

use super::super::time::{exact, relative, rfc3339};
use crate::reservation::outage::Outage;
use crate::reservation::schedule::Schedule;
use crate::reservation::{Settings, State, deadline};
use crate::store::{CheckInView, DeliveryView, IncidentView, ReservationView, RunView};
use std::collections::BTreeMap;

/// A reservation. The fields up to `number_of_checkins` are those of GoTel 0.1.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct ReservationOut {
    /// Number of the reservation.
    #[schema(example = 1)]
    pub job_id: i64,
    /// Who answers for it.
    #[schema(example = "jane@example.org")]
    pub owner: String,
    /// Whom to tell, comma-separated.
    #[schema(example = "jane@example.org,ops@example.org")]
    pub notify: String,
    /// Text of the alert; "" for the default one.
    #[schema(example = "")]
    pub alert_msg: String,
    /// The application.
    #[schema(example = "billing")]
    pub app: String,
    /// The part of it that is scheduled.
    #[schema(example = "nightly")]
    pub component: String,
    /// A check-in at least each so many `time_units`; null for a cron line.
    #[schema(example = 5)]
    pub frequency: Option<i64>,
    /// `seconds`, `minutes`, `hours`; "" for a cron line.
    #[schema(example = "minutes")]
    pub time_units: String,
    /// Last good run, seconds since 1970; null: none yet.
    #[schema(example = 1_767_323_045)]
    pub last_checkin: Option<i64>,
    /// The same as RFC 3339; "" for none.
    #[schema(example = "2026-01-02T03:04:05Z")]
    pub last_checkin_str: String,
    /// The same, from now; "" for none.
    #[schema(example = "4m 2s ago")]
    pub time_since_last_checkin: String,
    /// Whether it is late, failed or overrun.
    #[schema(example = false)]
    pub failing_sla: bool,
    /// All signals so far.
    #[schema(example = 12)]
    pub number_of_checkins: i64,
    /// `waiting`, `on_time`, `late`, `failed` or `overrun`.
    #[schema(example = "on_time")]
    pub state: &'static str,
    /// When it is expected, in words.
    #[schema(example = "every 5 minutes")]
    pub schedule: String,
    /// After this it is late, RFC 3339; null when its settings cannot be read.
    #[schema(example = "2026-01-02T03:09:05Z")]
    pub deadline: Option<String>,
    /// The same, milliseconds since 1970.
    #[schema(example = 1_767_323_345_000_i64)]
    pub deadline_ms: Option<i64>,
    /// The end of its snooze, RFC 3339; null: not snoozed.
    pub snoozed_until: Option<String>,
    /// Why it is snoozed, as told.
    pub snooze_reason: Option<String>,
    /// Who snoozed it, as told.
    pub snooze_by: Option<String>,
    /// The open incident; null: none.
    pub incident: Option<OpenOut>,
    /// The Kubernetes object that it belongs to, and that alone changes and ends it; absent: it was made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectOut>,
    /// Why its settings cannot be read; absent when they can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// A Kubernetes object.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct ObjectOut {
    /// The cluster, as GoTel calls it.
    #[schema(example = "eu-1")]
    pub cluster: String,
    /// Its namespace.
    #[schema(example = "billing")]
    pub namespace: String,
    /// Its name.
    #[schema(example = "nightly-invoices")]
    pub name: String,
}

/// An open incident, in brief.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct OpenOut {
    /// Id.
    pub id: String,
    /// `missed`, `never_checked_in`, `failed` or `overrun`.
    #[schema(example = "missed")]
    pub reason: &'static str,
    /// The exact moment that was missed, RFC 3339.
    pub deadline: String,
    /// When it was noticed, RFC 3339.
    pub opened: String,
}

impl ReservationOut {
    /// `view` as of `now_ms`.
    pub fn new(view: &ReservationView, outages: &[Outage], now_ms: i64) -> Self {
        let settings = view.settings.as_ref();
        let (frequency, time_units) = match settings.map(|s| &s.schedule) {
            Ok(Schedule::Every { frequency, units }) => (Some(*frequency), units.as_str()),
            _ => (None, ""),
        };
        let deadline_ms = settings
            .ok()
            .and_then(|s| deadline::deadline(s, &view.evidence, outages).ok())
            .map(|deadline| deadline.at_ms);
        let snooze = view.evidence.snooze.filter(|s| s.active(now_ms));
        let told = |text: &Option<String>| snooze.and_then(|_| text.clone());
        let last = view.evidence.last_ok_ms;
        Self {
            job_id: view.id,
            owner: settings.map_or_else(|_| String::new(), |s| s.owner.clone()),
            notify: settings.map_or_else(|_| String::new(), |s| s.notify.joined()),
            alert_msg: settings.ok().and_then(|s| s.alert_msg.clone()).unwrap_or_default(),
            app: view.app.clone(),
            component: view.component.clone(),
            frequency,
            time_units: time_units.into(),
            last_checkin: last.map(|ms| ms.div_euclid(1000)),
            last_checkin_str: last.map(rfc3339).unwrap_or_default(),
            time_since_last_checkin: last.map(|ms| relative(ms, now_ms)).unwrap_or_default(),
            failing_sla: matches!(view.state, State::Late | State::Failed | State::Overrun),
            number_of_checkins: view.evidence.checkins,
            state: view.state.as_str(),
            schedule: settings.map_or_else(|_| "unreadable".into(), |s| s.schedule.describe()),
            deadline: deadline_ms.map(rfc3339),
            deadline_ms,
            snoozed_until: snooze.map(|s| rfc3339(s.until_ms)),
            snooze_reason: told(&view.snooze_reason),
            snooze_by: told(&view.snooze_by),
            incident: view.incident.as_ref().map(|(id, open)| OpenOut {
                id: id.clone(),
                reason: open.reason.as_str(),
                deadline: rfc3339(open.deadline_ms),
                opened: rfc3339(open.opened_ms),
            }),
            object: view.object.as_ref().map(|o| ObjectOut {
                cluster: o.cluster.clone(),
                namespace: o.namespace.clone(),
                name: o.name.clone(),
            }),
            unreadable: settings.err().cloned(),
        }
    }
}

/// Settings, as `POST /reservation` takes them.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct SettingsOut {
    /// Check-in at least each so many `time_units`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency: Option<i64>,
    /// Unit of `frequency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_units: Option<&'static str>,
    /// Five cron fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Zone of `cron`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How much later than expected is still in time.
    #[schema(example = "5m")]
    pub grace: String,
    /// How soon the first check-in must come; absent: a period and the grace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_within: Option<String>,
    /// How long a run may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_runtime: Option<String>,
    /// How many misses in a row are an incident.
    pub tolerance: u32,
    /// How often an open incident is told again; `0s` = never.
    #[schema(example = "6h")]
    pub realert: String,
    /// Names of alerters; empty: the default ones.
    pub alerters: Vec<String>,
    /// Who hears of it later.
    pub escalation: Vec<EscalationOut>,
    /// Text of the alert; absent: the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_msg: Option<String>,
    /// Who answers for it.
    pub owner: String,
    /// Whom to tell.
    pub notify: Vec<String>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// One step of an escalation.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct EscalationOut {
    /// After the alert.
    #[schema(example = "30m")]
    pub after: String,
    /// Names of alerters.
    pub alerters: Vec<String>,
}

impl From<&Settings> for SettingsOut {
    fn from(s: &Settings) -> Self {
        let (frequency, time_units, cron, time_zone) = match &s.schedule {
            Schedule::Every { frequency, units } => (Some(*frequency), Some(units.as_str()), None, None),
            Schedule::Cron { expression, zone } => (None, None, Some(expression.clone()), Some(zone.clone())),
        };
        Self {
            frequency,
            time_units,
            cron,
            time_zone,
            grace: exact(s.grace_ms),
            first_within: s.first_within_ms.map(exact),
            max_runtime: s.max_runtime_ms.map(exact),
            tolerance: s.tolerance,
            realert: exact(s.realert_ms),
            alerters: s.alerters.clone(),
            escalation: s
                .escalation
                .iter()
                .map(|e| EscalationOut { after: exact(e.after_ms), alerters: e.alerters.clone() })
                .collect(),
            alert_msg: s.alert_msg.clone(),
            owner: s.owner.clone(),
            notify: s.notify.entries().to_vec(),
            labels: s.labels.clone(),
        }
    }
}

/// One check-in.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct CheckInOut {
    /// Received, RFC 3339.
    pub at: String,
    /// `start`, `ok`, `fail` or `log`.
    #[schema(example = "ok")]
    pub kind: String,
    /// Exit code, if told.
    pub exit_code: Option<u8>,
    /// Run id, if told.
    pub rid: Option<String>,
    /// Notes or output; what is not UTF-8 is shown as U+FFFD.
    pub notes: Option<String>,
}

impl From<&CheckInView> for CheckInOut {
    fn from(view: &CheckInView) -> Self {
        Self {
            at: rfc3339(view.at_ms),
            kind: view.kind.clone(),
            exit_code: view.exit_code,
            rid: view.rid.clone().filter(|rid| !rid.is_empty()),
            notes: view.note.clone(),
        }
    }
}

/// One run that announced its start.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct RunOut {
    /// Run id, if told.
    pub rid: Option<String>,
    /// Began, RFC 3339.
    pub started: String,
    /// Ended; null: still running, as far as anybody told.
    pub ended: Option<String>,
    /// How long it took.
    pub took_ms: Option<i64>,
    /// `ok`, `fail`, `abandoned`; null: still running.
    pub outcome: Option<String>,
    /// Exit code, if told.
    pub exit_code: Option<u8>,
}

impl From<&RunView> for RunOut {
    fn from(view: &RunView) -> Self {
        Self {
            rid: Some(view.rid.clone()).filter(|rid| !rid.is_empty()),
            started: rfc3339(view.started_ms),
            ended: view.ended_ms.map(rfc3339),
            took_ms: view.ended_ms.map(|ended| ended - view.started_ms),
            outcome: view.outcome.clone(),
            exit_code: view.exit_code,
        }
    }
}

/// One incident.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct IncidentOut {
    /// Id.
    pub id: String,
    /// `missed`, `never_checked_in`, `failed`, `overrun` or `system`.
    #[schema(example = "missed")]
    pub reason: &'static str,
    /// The run concerned, if any.
    pub rid: Option<String>,
    /// The exact moment that was missed, RFC 3339.
    pub deadline: String,
    /// Noticed, RFC 3339.
    pub opened: String,
    /// Closed, RFC 3339; null: open.
    pub closed: Option<String>,
    /// `recovered`, `reconfigured` or `checked_out`; null: open.
    pub ending: Option<&'static str>,
    /// What else is known.
    pub detail: Option<String>,
    /// Whom we told, and whether it arrived.
    pub deliveries: Vec<DeliveryOut>,
}

impl From<&IncidentView> for IncidentOut {
    fn from(view: &IncidentView) -> Self {
        Self {
            id: view.id.clone(),
            reason: view.reason.as_str(),
            rid: view.rid.clone(),
            deadline: rfc3339(view.deadline_ms),
            opened: rfc3339(view.opened_ms),
            closed: view.closed_ms.map(rfc3339),
            ending: view.ending.map(crate::reservation::incident::Ending::as_str),
            detail: view.detail.clone(),
            deliveries: view.deliveries.iter().map(DeliveryOut::from).collect(),
        }
    }
}

/// One notice to one recipient.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub struct DeliveryOut {
    /// `trigger`, `remind`, `escalate`, `resolve`, `cancel` …
    #[schema(example = "trigger")]
    pub event: &'static str,
    /// Over which alerter.
    #[schema(example = "ops-mail")]
    pub alerter: String,
    /// To whom; "" for an alerter with one target.
    #[schema(example = "jane@example.org")]
    pub recipient: String,
    /// `pending`, `inflight`, `done`, `dead` …
    #[schema(example = "done")]
    pub state: &'static str,
    /// Made, RFC 3339.
    pub created: String,
    /// Arrived or given up, RFC 3339.
    pub done: Option<String>,
    /// Tries so far.
    pub attempts: i64,
    /// What went wrong last.
    pub error: Option<String>,
}

impl From<&DeliveryView> for DeliveryOut {
    fn from(view: &DeliveryView) -> Self {
        Self {
            event: view.event.as_str(),
            alerter: view.alerter.clone(),
            recipient: view.recipient.clone(),
            state: view.state.as_str(),
            created: rfc3339(view.created_ms),
            done: view.done_ms.map(rfc3339),
            attempts: view.attempts,
            error: view.error.clone(),
        }
    }
}
