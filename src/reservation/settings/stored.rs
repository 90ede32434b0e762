//! The stored form of settings: one JSON object with `"v":1`.
//!
//! The shape is written out here, apart from `Settings`, so that a renamed field in the code cannot silently change
//! what rows mean. Lengths are milliseconds.

use super::{Escalation, NotifyList, Schedule, Settings, TimeUnits, parse::TOLERANCE_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version this program writes, and the only one it reads.
const VERSION: u32 = 1;

/// Read first, so that a newer form is named as such rather than as damage.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    v: u32,
    schedule: StoredSchedule,
    grace_ms: i64,
    first_within_ms: Option<i64>,
    max_runtime_ms: Option<i64>,
    tolerance: u32,
    realert_ms: i64,
    alerters: Vec<String>,
    escalation: Vec<Escalation>,
    alert_msg: Option<String>,
    owner: String,
    notify: Vec<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredSchedule {
    Every { frequency: i64, units: TimeUnits },
    Cron { expression: String, zone: String },
}

/// See [`Settings::to_stored`].
pub(super) fn write(settings: &Settings) -> String {
    let stored = Stored {
        v: VERSION,
        schedule: match &settings.schedule {
            Schedule::Every { frequency, units } => {
                StoredSchedule::Every { frequency: *frequency, units: *units }
            }
            Schedule::Cron { expression, zone } => {
                StoredSchedule::Cron { expression: expression.clone(), zone: zone.clone() }
            }
        },
        grace_ms: settings.grace_ms,
        first_within_ms: settings.first_within_ms,
        max_runtime_ms: settings.max_runtime_ms,
        tolerance: settings.tolerance,
        realert_ms: settings.realert_ms,
        alerters: settings.alerters.clone(),
        escalation: settings.escalation.clone(),
        alert_msg: settings.alert_msg.clone(),
        owner: settings.owner.clone(),
        notify: settings.notify.entries().to_vec(),
        labels: settings.labels.clone(),
    };
    // Cannot fail: strings, numbers and maps with string keys always have a JSON form.
    serde_json::to_string(&stored).expect("settings have a JSON form")
}

/// See [`Settings::from_stored`].
pub(super) fn read(text: &str) -> Result<Settings, String> {
    let damaged = |error: serde_json::Error| format!("stored settings are damaged: {error}");
    let Versioned { v } = serde_json::from_str(text).map_err(damaged)?;
    if v != VERSION {
        return Err(format!(
            "stored settings have form {v}, this program reads form {VERSION}: run the newer one"
        ));
    }
    let stored: Stored = serde_json::from_str(text).map_err(damaged)?;
    let settings = Settings {
        schedule: match stored.schedule {
            StoredSchedule::Every { frequency, units } => Schedule::Every { frequency, units },
            StoredSchedule::Cron { expression, zone } => Schedule::Cron { expression, zone },
        },
        grace_ms: stored.grace_ms,
        first_within_ms: stored.first_within_ms,
        max_runtime_ms: stored.max_runtime_ms,
        tolerance: stored.tolerance,
        realert_ms: stored.realert_ms,
        alerters: stored.alerters,
        escalation: stored.escalation,
        alert_msg: stored.alert_msg,
        owner: stored.owner,
        notify: NotifyList::from_stored(stored.notify),
        labels: stored.labels,
    };
    check(&settings)?;
    Ok(settings)
}

/// Refuses numbers that no draft could have given and that would mislead the rules. Cron lines are left to
/// `decide`, which says itself that it cannot compute one.
fn check(settings: &Settings) -> Result<(), String> {
    let lengths = [Some(settings.grace_ms), settings.first_within_ms, settings.max_runtime_ms];
    let sane = (1..=TOLERANCE_MAX).contains(&i64::from(settings.tolerance))
        && settings.realert_ms >= 0
        && lengths.iter().flatten().all(|length| *length >= 0)
        && settings.escalation.iter().all(|step| step.after_ms >= 0);
    if !sane {
        return Err("stored settings are damaged: a length or the tolerance is out of range".to_owned());
    }
    if let every @ Schedule::Every { .. } = &settings.schedule {
        every.period_ms(0).map_err(|error| format!("stored settings are damaged: {error}"))?;
    }
    Ok(())
}
