//! From a draft to settings: every rule of design 2.1, one refusal each.

use super::{Draft, Escalation, Settings};
use crate::reservation::{
    Invalid,
    duration::{self, HOUR_MS, MINUTE_MS, SECOND_MS},
    invalid::shown,
    notify::NotifyList,
    schedule::{PERIOD_MIN_MS, Schedule},
};
use std::collections::BTreeMap;

/// Most misses that can be tolerated.
pub(crate) const TOLERANCE_MAX: i64 = 100;
/// Grace of a cron schedule without its own.
const CRON_GRACE_MS: i64 = HOUR_MS;
/// Reminder interval without its own.
const REALERT_MS: i64 = 6 * HOUR_MS;
/// Shortest limit of a run, shortest interval of reminders, and earliest escalation step, in milliseconds.
pub(crate) const RUNTIME_MIN_MS: i64 = SECOND_MS;
pub(crate) const REALERT_MIN_MS: i64 = MINUTE_MS;
pub(crate) const STEP_MIN_MS: i64 = MINUTE_MS;
/// Most alerters of one list.
pub(crate) const ALERTERS_MAX: usize = 20;
/// Longest name of an alerter.
pub(crate) const ALERTER_MAX: usize = 63;
/// Most escalation steps.
pub(crate) const STEPS_MAX: usize = 10;
/// Longest template, in characters.
pub(crate) const ALERT_MSG_MAX: usize = 2_000;
/// Longest owner, in characters.
pub(crate) const OWNER_MAX: usize = 254;
/// Most labels, and their longest key and value in characters.
pub(crate) const LABELS_MAX: usize = 32;
const LABEL_KEY_MAX: usize = 63;
pub(crate) const LABEL_VALUE_MAX: usize = 255;

/// See [`Settings::parse`].
pub(super) fn settings(draft: &Draft, known: &[String], now_ms: i64) -> Result<Settings, Invalid> {
    let schedule = schedule(draft, now_ms)?;
    let grace_ms = match (&draft.grace, &schedule) {
        (Some(text), _) => duration::parse_ms("grace", text)?,
        (None, Schedule::Every { .. }) => 0,
        (None, Schedule::Cron { .. }) => CRON_GRACE_MS,
    };
    let settings = Settings {
        grace_ms,
        first_within_ms: at_least(
            "first_within",
            draft.first_within.as_deref(),
            PERIOD_MIN_MS,
            "10 seconds",
        )?,
        max_runtime_ms: at_least("max_runtime", draft.max_runtime.as_deref(), RUNTIME_MIN_MS, "1 second")?,
        tolerance: tolerance(draft.tolerance)?,
        realert_ms: realert(draft.realert.as_deref())?,
        alerters: match &draft.alerters {
            Some(names) => alerters("alerters", names, known)?,
            None => Vec::new(),
        },
        escalation: escalation(draft, known)?,
        alert_msg: alert_msg(draft.alert_msg.as_deref())?,
        owner: owner(draft.owner.as_deref())?,
        notify: NotifyList::parse(draft.notify.as_deref().unwrap_or_default())?,
        labels: labels(draft.labels.as_ref())?,
        schedule,
    };
    // Every moment the rules will compute must lie inside the calendar, so that nothing is stored that can later
    // not be decided.
    settings.schedule.nth_after(now_ms, settings.tolerance)?;
    Ok(settings)
}

/// Exactly one of the three ways to say when.
fn schedule(draft: &Draft, now_ms: i64) -> Result<Schedule, Invalid> {
    let original = draft.frequency.is_some() || draft.time_units.is_some();
    let ways = [original, draft.every.is_some(), draft.cron.is_some()].into_iter().filter(|way| *way).count();
    if ways > 1 {
        let (field, others) = match (&draft.cron, &draft.every) {
            (Some(_), Some(_)) => ("cron", "`every`"),
            (Some(_), None) => ("cron", "`frequency` with `time_units`"),
            _ => ("every", "`frequency` with `time_units`"),
        };
        return Err(Invalid::new(field, format!("and {others} exclude each other: give one of them")));
    }
    if draft.time_zone.is_some() && draft.cron.is_none() {
        let message = "has no meaning without `cron`, as a period is the same everywhere: leave it out";
        return Err(Invalid::new("time_zone", message));
    }
    if let Some(expression) = &draft.cron {
        return Schedule::cron(expression, draft.time_zone.as_deref(), now_ms);
    }
    if let Some(text) = &draft.every {
        return Schedule::every_text(text);
    }
    match (draft.frequency, &draft.time_units) {
        (Some(frequency), Some(units)) => Schedule::every(frequency, units),
        (Some(_), None) => Err(Invalid::new(
            "time_units",
            "is missing: give `seconds`, `minutes` or `hours` with `frequency`",
        )),
        (None, Some(_)) => Err(Invalid::new("frequency", "is missing: give how many `time_units`")),
        (None, None) => Err(Invalid::new(
            "frequency",
            "is missing: say when a check-in is expected, by `frequency` with `time_units`, `every` or `cron`",
        )),
    }
}

/// An optional duration with a lower bound.
fn at_least(
    field: &'static str,
    text: Option<&str>,
    least_ms: i64,
    least: &str,
) -> Result<Option<i64>, Invalid> {
    let Some(text) = text else { return Ok(None) };
    let ms = duration::parse_ms(field, text)?;
    if ms < least_ms {
        return Err(Invalid::new(field, format!("{} is too short: give at least {least}", shown(text))));
    }
    Ok(Some(ms))
}

fn tolerance(misses: Option<i64>) -> Result<u32, Invalid> {
    let misses = misses.unwrap_or(1);
    match u32::try_from(misses) {
        Ok(count) if (1..=TOLERANCE_MAX).contains(&misses) => Ok(count),
        _ => Err(Invalid::new(
            "tolerance",
            format!("{misses} is out of range: give 1 (alert at the first miss) to {TOLERANCE_MAX}"),
        )),
    }
}

fn realert(text: Option<&str>) -> Result<i64, Invalid> {
    let Some(text) = text else { return Ok(REALERT_MS) };
    if matches!(text.trim(), "0" | "never") {
        return Ok(0);
    }
    let ms = duration::parse_ms("realert", text)?;
    if ms != 0 && ms < REALERT_MIN_MS {
        let message = format!("{} is too short: give at least 1 minute, or `never`", shown(text));
        return Err(Invalid::new("realert", message));
    }
    Ok(ms)
}

/// Names of alerters that exist, each once.
fn alerters(field: &str, names: &[String], known: &[String]) -> Result<Vec<String>, Invalid> {
    if names.len() > ALERTERS_MAX {
        let message = format!("has more than {ALERTERS_MAX} names: give fewer");
        return Err(Invalid::new(field.to_owned(), message));
    }
    for (n, name) in names.iter().enumerate() {
        let wrong = |message: String| Err(Invalid::new(format!("{field}[{n}]"), message));
        if !known.contains(name) {
            let choice = match known {
                [] => "no alerter is configured, so leave the list out".to_owned(),
                known => format!("choose from {}", known.join(", ")),
            };
            return wrong(format!("{} is no configured alerter: {choice}", shown(name)));
        }
        if names[..n].contains(name) {
            return wrong(format!("{} is named twice: name each alerter once", shown(name)));
        }
    }
    Ok(names.to_vec())
}

fn escalation(draft: &Draft, known: &[String]) -> Result<Vec<Escalation>, Invalid> {
    let written = draft.escalation.as_deref().unwrap_or_default();
    if written.len() > STEPS_MAX {
        return Err(Invalid::new("escalation", format!("has more than {STEPS_MAX} steps: give fewer")));
    }
    let mut steps: Vec<Escalation> = Vec::new();
    for (n, step) in written.iter().enumerate() {
        let field = format!("escalation[{n}].after");
        let after_ms = duration::parse_ms(field.clone(), &step.after)?;
        if after_ms < STEP_MIN_MS {
            let message = format!("{} is too soon: give at least 1 minute", shown(&step.after));
            return Err(Invalid::new(field, message));
        }
        if steps.last().is_some_and(|before| after_ms <= before.after_ms) {
            let message =
                format!("{} is not later than the step before: give the steps in order", shown(&step.after));
            return Err(Invalid::new(field, message));
        }
        let field = format!("escalation[{n}].alerters");
        if step.alerters.is_empty() {
            return Err(Invalid::new(field, "is empty, so nobody would hear of it: name an alerter"));
        }
        steps.push(Escalation { after_ms, alerters: alerters(&field, &step.alerters, known)? });
    }
    Ok(steps)
}

/// A blank template counts as none: GoTel 0.1's clients send one.
fn alert_msg(text: Option<&str>) -> Result<Option<String>, Invalid> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    if text.chars().count() > ALERT_MSG_MAX {
        let message = format!("is too long: give at most {ALERT_MSG_MAX} characters");
        return Err(Invalid::new("alert_msg", message));
    }
    if text.contains('\0') {
        return Err(Invalid::new("alert_msg", "has a NUL character: remove it"));
    }
    Ok(Some(text.to_owned()))
}

fn owner(text: Option<&str>) -> Result<String, Invalid> {
    let owner = text.unwrap_or_default();
    if owner.chars().any(char::is_control) {
        let message = format!("{} has a control character: use printable characters only", shown(owner));
        return Err(Invalid::new("owner", message));
    }
    if owner.chars().count() > OWNER_MAX {
        return Err(Invalid::new("owner", format!("is too long: give at most {OWNER_MAX} characters")));
    }
    Ok(owner.trim().to_owned())
}

fn labels(written: Option<&BTreeMap<String, String>>) -> Result<BTreeMap<String, String>, Invalid> {
    let Some(labels) = written else { return Ok(BTreeMap::new()) };
    if labels.len() > LABELS_MAX {
        return Err(Invalid::new("labels", format!("has more than {LABELS_MAX} entries: give fewer")));
    }
    for (key, value) in labels {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
        if !(1..=LABEL_KEY_MAX).contains(&key.len()) || !key.chars().all(fits) {
            let message =
                format!("{} is no label key: use 1 to {LABEL_KEY_MAX} of A-Z a-z 0-9 . _ / -", shown(key));
            return Err(Invalid::new("labels", message));
        }
        if value.chars().count() > LABEL_VALUE_MAX || value.chars().any(char::is_control) {
            let rule = format!("use at most {LABEL_VALUE_MAX} printable characters");
            return Err(Invalid::new(
                format!("labels.{key}"),
                format!("{} is no label value: {rule}", shown(value)),
            ));
        }
    }
    Ok(labels.clone())
}
