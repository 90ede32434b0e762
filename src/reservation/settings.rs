//! What a client asks for (`Draft`) and what GoTel agreed to (`Settings`).
//!
//! Promises: `Settings` that exist make sense together and can fire; whatever contradicts itself was refused with
//! the field and the remedy (design 2.1). The stored form reads back to the same settings; fields that a newer
//! version added are ignored, so what must not be ignored raises the form's version.
//!
//! Does not promise that an alerter still exists later: the configuration may lose it, and delivery then falls back
//! to the default alerters.

mod parse;
mod stored;
#[cfg(test)]
mod tests;

pub(crate) use parse::{
    ALERT_MSG_MAX, ALERTER_MAX, ALERTERS_MAX, LABEL_VALUE_MAX, LABELS_MAX, OWNER_MAX, REALERT_MIN_MS,
    RUNTIME_MIN_MS, STEP_MIN_MS, STEPS_MAX, TOLERANCE_MAX,
};

use super::{
    Invalid,
    notify::NotifyList,
    schedule::{Schedule, TimeUnits},
};
use std::collections::BTreeMap;

/// A reservation as a client wrote it: nothing parsed, the same names on HTTP, in YAML and in the resource.
/// Durations are text (`10m`); `frequency`/`time_units` are the original API's form of `every`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Draft {
    /// With `time_units`: how many of them between two check-ins.
    pub frequency: Option<i64>,
    /// `seconds`, `minutes` or `hours`.
    pub time_units: Option<String>,
    /// The same as one duration.
    pub every: Option<String>,
    /// Five cron fields instead.
    pub cron: Option<String>,
    /// IANA zone of `cron`; UTC without.
    pub time_zone: Option<String>,
    /// How much later than expected is still in time; 0 for `every` and 1 h for `cron` without.
    pub grace: Option<String>,
    /// The first check-in must come within this of the reservation; period + grace without.
    pub first_within: Option<String>,
    /// The longest a run may take from its start signal; no limit without.
    pub max_runtime: Option<String>,
    /// Misses, or failures in a row, before alerting; 1 without.
    pub tolerance: Option<i64>,
    /// How often an open incident is told again; 6 h without, `0` or `never` for not at all.
    pub realert: Option<String>,
    /// Names of alerters; the default ones without.
    pub alerters: Option<Vec<String>>,
    /// Who else hears of it when it lasts.
    pub escalation: Option<Vec<DraftEscalation>>,
    /// Template of the message (design 2.4).
    pub alert_msg: Option<String>,
    /// Whom to ask.
    pub owner: Option<String>,
    /// Whom to tell: addresses and labels.
    pub notify: Option<Vec<String>>,
    /// Free key-value pairs.
    pub labels: Option<BTreeMap<String, String>>,
}

/// One escalation step as written.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DraftEscalation {
    /// Duration after the trigger.
    pub after: String,
    /// Names of alerters.
    pub alerters: Vec<String>,
}

/// One escalation step.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Escalation {
    /// after the trigger, in milliseconds
    pub after_ms: i64,
    /// who hears of it then
    pub alerters: Vec<String>,
}

/// Settings that are known to make sense together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// When a check-in is expected.
    pub schedule: Schedule,
    /// How much later is still in time, in milliseconds.
    pub grace_ms: i64,
    /// The first check-in must come within this of the reservation, in milliseconds; None = period + grace.
    pub first_within_ms: Option<i64>,
    /// The longest a run may take, in milliseconds.
    pub max_runtime_ms: Option<i64>,
    /// Misses, or failures in a row, before alerting: 1 to 100.
    pub tolerance: u32,
    /// How often an open incident is told again, in milliseconds; 0 = never.
    pub realert_ms: i64,
    /// Empty = the default alerters.
    pub alerters: Vec<String>,
    /// In order of time.
    pub escalation: Vec<Escalation>,
    /// Template of the message; None = the default text.
    pub alert_msg: Option<String>,
    /// Whom to ask; may be empty.
    pub owner: String,
    /// Whom to tell.
    pub notify: NotifyList,
    /// Free key-value pairs.
    pub labels: BTreeMap<String, String>,
}

impl Settings {
    /// Parses a draft. `known_alerters` are the names the configuration has; `now_ms` bounds the search for a cron line's next slots.
    ///
    /// Errors name the first field that is wrong and the remedy (design 2.1).
    pub fn parse(draft: &Draft, known_alerters: &[String], now_ms: i64) -> Result<Self, Invalid> {
        parse::settings(draft, known_alerters, now_ms)
    }

    /// The stored form (JSON, versioned, stable key order).
    pub fn to_stored(&self) -> String {
        stored::write(self)
    }

    /// Reads the stored form back; an error says what cannot be understood (a row of a newer version, or damage).
    pub fn from_stored(text: &str) -> Result<Self, String> {
        stored::read(text)
    }

    /// Whether going from `self` to `new` changes when a check-in is due (schedule, grace, first_within, tolerance, max_runtime).
    pub fn reschedules(&self, new: &Settings) -> bool {
        self.schedule != new.schedule
            || self.grace_ms != new.grace_ms
            || self.first_within_ms != new.first_within_ms
            || self.tolerance != new.tolerance
            || self.max_runtime_ms != new.max_runtime_ms
    }
}
