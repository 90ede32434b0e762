//! The resource `reservations.gotel.dev/v1alpha1`: its types, and from them the definition that a cluster is given.
//!
//! Promises: every setting that HTTP has, under the same limits, as these come from the same constants; what a rule
//! can see is refused by `kubectl apply` with a sentence that names the remedy. Every string and list is bounded, so
//! that the API server can bound the rules' cost. Nothing has a default in the schema: tools that compare what they
//! applied with what is stored find no difference.
//!
//! Does not promise that what the schema accepts can be watched: time zones, impossible dates and names of alerters
//! are known to the controller alone, which says so in the condition `Ready`.
//!
//! Unknown fields are not refused when an object is read: a newer definition's object must not stop an older
//! program.

#![expect(clippy::duplicated_attributes, reason = "two columns of one type are not written twice")]

mod rules;
mod status;
#[cfg(test)]
mod tests;

pub use status::{Phase, ReservationStatus};

use crate::reservation::name::NAME_MAX;
use crate::reservation::notify::{ENTRY_MAX, NOTIFY_MAX};
use crate::reservation::schedule::{CRON_MAX, PERIOD_MIN_MS};
use crate::reservation::settings::{
    ALERT_MSG_MAX, ALERTER_MAX, ALERTERS_MAX, LABEL_VALUE_MAX, LABELS_MAX, OWNER_MAX, RUNTIME_MIN_MS,
    STEP_MIN_MS, STEPS_MAX, TOLERANCE_MAX,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest duration as text, and longest name of a time zone. HTTP has no such limits: no length and no zone that it
/// takes needs more.
const DURATION_MAX: usize = 32;
const ZONE_MAX: usize = 64;

/// What is promised, and who is told when the promise is broken.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "gotel.dev",
    version = "v1alpha1",
    kind = "Reservation",
    plural = "reservations",
    singular = "reservation",
    shortname = "rsv",
    category = "gotel",
    namespaced,
    status = "ReservationStatus",
    derive = "PartialEq",
    doc = "A scheduled job's promise to check in. GoTel alerts when it does not.",
    selectable = ".spec.app",
    selectable = ".spec.component",
    selectable = ".spec.owner",
    selectable = ".status.phase",
    printcolumn(name = "App", type_ = "string", json_path = ".spec.app"),
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.component"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Last Checkin", type_ = "date", json_path = ".status.lastCheckinTime"),
    printcolumn(name = "Deadline", type_ = "string", json_path = ".status.nextDeadlineTime"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = "1"
    ),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[cfg_attr(test, kube(cel))]
#[x_kube(
    validation = rules::immutable(),
    validation = rules::name("app"),
    validation = rules::name("component"),
    validation = rules::reserved(),
    validation = rules::duration("firstWithin"),
    validation = rules::at_least("firstWithin", PERIOD_MIN_MS),
    validation = rules::duration("maxRuntime"),
    validation = rules::at_least("maxRuntime", RUNTIME_MIN_MS),
    validation = rules::realert(),
    validation = rules::realert_at_least(),
    validation = rules::notify(),
    validation = rules::owner()
)]
#[serde(rename_all = "camelCase")]
pub struct ReservationSpec {
    /// The application. With `component` it names the reservation, as in `/checkin/<app>/<component>`.
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub app: String,
    /// The part of the application that is scheduled.
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub component: String,
    /// When a check-in is expected.
    pub schedule: ScheduleSpec,
    /// How soon the first check-in must come; a period and the grace without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 2, max = DURATION_MAX))]
    pub first_within: Option<String>,
    /// How long a run may take, from its start signal; no limit without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 2, max = DURATION_MAX))]
    pub max_runtime: Option<String>,
    /// How many misses, or failures in a row, are an incident; 1 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = TOLERANCE_MAX as i32))]
    pub tolerance: Option<i64>,
    /// How often an open incident is told again; 6h without, `never` for not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = DURATION_MAX))]
    pub realert: Option<String>,
    /// Whom to tell: mail addresses, and labels (texts without `@`), which are shown only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = NOTIFY_MAX), inner(length(min = 1, max = ENTRY_MAX)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub notify: Vec<String>,
    /// Names of alerters of GoTel's configuration; the default ones without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = ALERTERS_MAX), inner(length(min = 1, max = ALERTER_MAX)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub alerters: Vec<String>,
    /// Who else hears of an incident when it lasts, in order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = STEPS_MAX))]
    pub escalation: Vec<EscalationSpec>,
    /// Who answers for the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = OWNER_MAX))]
    pub owner: Option<String>,
    /// Text of the alert, with placeholders such as `{app}`, `{component}`, `{since}`; GoTel's own without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = ALERT_MSG_MAX))]
    pub message: Option<String>,
    /// Free labels, passed on to the alerters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub labels: BTreeMap<String, String>,
    /// Pauses alerting for as long as it is true. Check-ins are taken and shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub suspend: Option<bool>,
    /// What deleting this object does to the reservation: `Delete` (the usual) checks it out, `Retain` leaves it
    /// watched and free to be adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ReclaimPolicy")]
    pub reclaim_policy: Option<ReclaimPolicy>,
}

/// Exactly one of `every` and `cron`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(
    validation = rules::one_schedule(),
    validation = rules::zone(),
    validation = rules::cron(),
    validation = rules::duration("every"),
    validation = rules::at_least("every", PERIOD_MIN_MS),
    validation = rules::duration("grace"),
    validation = rules::at_most("every"),
    validation = rules::at_most("grace")
)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleSpec {
    /// A check-in at least each so long: `90s`, `5m`, `24h`; 10s to 366d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 2, max = DURATION_MAX))]
    pub every: Option<String>,
    /// Five cron fields, as in a CronJob: `0 3 * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = CRON_MAX))]
    pub cron: Option<String>,
    /// IANA zone of `cron`, as in a CronJob: `Europe/Amsterdam`; UTC without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = ZONE_MAX))]
    pub time_zone: Option<String>,
    /// How much later than expected is still in time; none for `every`, 1h for `cron` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 2, max = DURATION_MAX))]
    pub grace: Option<String>,
}

/// One step of an escalation.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = rules::duration("after"), validation = rules::at_least("after", STEP_MIN_MS))]
#[serde(rename_all = "camelCase")]
pub struct EscalationSpec {
    /// So long after the alert: `30m`; 1m or more.
    #[schemars(length(min = 2, max = DURATION_MAX))]
    pub after: String,
    /// Names of alerters of GoTel's configuration.
    #[schemars(length(min = 1, max = ALERTERS_MAX), inner(length(min = 1, max = ALERTER_MAX)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub alerters: Vec<String>,
}

/// What deleting the object does to the reservation.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReclaimPolicy {
    /// Checks it out.
    #[default]
    Delete,
    /// Leaves it watched.
    Retain,
}

fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": LABELS_MAX,
        "additionalProperties": { "type": "string", "maxLength": LABEL_VALUE_MAX },
    })
}

/// The definition, as a cluster takes it. (Derived, the status may be null, which is one more way to say nothing.)
pub fn definition() -> CustomResourceDefinition {
    let mut definition = Reservation::crd();
    for version in &mut definition.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let properties = schema.and_then(|schema| schema.properties.as_mut());
        if let Some(status) = properties.and_then(|properties| properties.get_mut("status")) {
            status.nullable = None;
        }
    }
    definition
}

/// The definition as YAML.
///
/// # Errors
/// A definition that cannot be written so.
pub fn yaml() -> anyhow::Result<String> {
    Ok(serde_yaml::to_string(&definition())?)
}
