//! What is told of a reservation in its object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What GoTel knows of the job. Nobody else writes it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ReservationStatus {
    /// The generation of the spec that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// The conditions in one word, for people and field selectors; programs read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Phase")]
    pub phase: Option<Phase>,
    /// When the last good run checked in. Written at most once a minute, and more seldom with thousands of objects;
    /// `GET /reservation` has the exact time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub last_checkin_time: Option<Time>,
    /// After this the job is late. Written as seldom as `lastCheckinTime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub next_deadline_time: Option<Time>,
    /// `Ready`: GoTel watches the job. `OnTime`: the job is well. `AlertsDelivered`: those to be told were told.
    /// `Stalled`: a person must act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The conditions in one word.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Watched; nobody has checked in yet.
    Pending,
    /// In time.
    OnTime,
    /// A deadline was missed.
    Late,
    /// The job said that it failed.
    Failed,
    /// A run takes too long.
    Overrun,
    /// Alerting is paused by a snooze.
    Snoozed,
    /// Alerting is paused by `suspend`.
    Suspended,
    /// The spec is not watched as it is; the condition `Ready` says why.
    Rejected,
}
