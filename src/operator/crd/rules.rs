//! The rules that the API server evaluates (CEL), one function each, and what it says when one is broken.
//!
//! A length written in Go's own units can be compared here; `2d` and `1w` cannot, and are left to the controller.

use crate::reservation::duration::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, YEAR_MS};
use crate::reservation::name::SYSTEM_APP;
use crate::reservation::settings::REALERT_MIN_MS;
use kube::core::{Reason, Rule};

/// A length: numbers with units.
const DURATION: &str = r"^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d|w))+$";

/// One that CEL's `duration` understands.
const GO: &str = r"^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$";

/// A length in the largest of Go's units that it is a whole number of.
fn go(ms: i64) -> String {
    let units = [(HOUR_MS, "h"), (MINUTE_MS, "m"), (SECOND_MS, "s"), (1, "ms")];
    let unit = units.into_iter().find(|(unit, _)| ms % unit == 0);
    unit.map_or_else(String::new, |(unit, name)| format!("{}{name}", ms / unit))
}

fn rule(text: String, message: String, field: &str) -> Rule {
    Rule::new(text).message(message.as_str()).field_path(format!(".{field}"))
}

pub(super) fn immutable() -> Rule {
    Rule::new("self.app == oldSelf.app && self.component == oldSelf.component")
        .message(
            "`app` and `component` must stay as they are, as they name the reservation; delete this object and create \
             another",
        )
        .reason(Reason::FieldValueForbidden)
}

pub(super) fn name(field: &str) -> Rule {
    rule(
        // Not `\s` at its ends, nor a control character anywhere.
        format!(r"!self.{field}.matches('^\\s|\\s$|[\\x00-\\x1f\\x7f]')"),
        format!("`{field}` must not begin or end with a space or have control characters; remove them"),
        field,
    )
}

pub(super) fn reserved() -> Rule {
    let message = format!("`app` must not be `{SYSTEM_APP}`, which is GoTel itself; choose another name");
    rule(format!("self.app != '{SYSTEM_APP}'"), message, "app")
}

pub(super) fn duration(field: &str) -> Rule {
    rule(
        format!("!has(self.{field}) || self.{field}.matches('{DURATION}')"),
        format!("`{field}` must be a length of time; write it as `90s`, `5m`, `1h30m` or `2d`"),
        field,
    )
}

pub(super) fn at_least(field: &str, least_ms: i64) -> Rule {
    let least = go(least_ms);
    rule(
        format!(
            "!has(self.{field}) || !self.{field}.matches('{GO}') || duration(self.{field}) >= duration('{least}')"
        ),
        format!("`{field}` must be {least} or more; lengthen it"),
        field,
    )
}

pub(super) fn at_most(field: &str) -> Rule {
    let most = go(YEAR_MS);
    rule(
        format!(
            "!has(self.{field}) || !self.{field}.matches('{GO}') || duration(self.{field}) <= duration('{most}')"
        ),
        format!("`{field}` must be {most} ({} days) or less; shorten it", YEAR_MS / DAY_MS),
        field,
    )
}

pub(super) fn realert() -> Rule {
    rule(
        format!("!has(self.realert) || self.realert in ['0', 'never'] || self.realert.matches('{DURATION}')"),
        "`realert` must be a length of time or `never`; write it as `30m`, `6h` or `never`".into(),
        "realert",
    )
}

pub(super) fn realert_at_least() -> Rule {
    let least = go(REALERT_MIN_MS);
    rule(
        format!(
            "!has(self.realert) || !self.realert.matches('{GO}') || duration(self.realert) == duration('0s') || \
             duration(self.realert) >= duration('{least}')"
        ),
        format!("`realert` must be {least} or more, or `never`; lengthen it"),
        "realert",
    )
}

pub(super) fn notify() -> Rule {
    rule(
        r"!has(self.notify) || self.notify.all(n, !n.contains(',') && !n.matches('[\\x00-\\x1f\\x7f]'))"
            .into(),
        "`notify` must hold one address or label an entry, on one line; give each entry on its own".into(),
        "notify",
    )
}

pub(super) fn owner() -> Rule {
    rule(
        r"!has(self.owner) || !self.owner.matches('[\\x00-\\x1f\\x7f]')".into(),
        "`owner` must be one line; remove its control characters".into(),
        "owner",
    )
}

pub(super) fn one_schedule() -> Rule {
    Rule::new("has(self.every) != has(self.cron)").message("exactly one of `every` and `cron` must be set")
}

pub(super) fn zone() -> Rule {
    rule(
        "!has(self.timeZone) || has(self.cron)".into(),
        "`timeZone` must only be set together with `cron`, as a period is the same everywhere; remove it"
            .into(),
        "timeZone",
    )
}

pub(super) fn cron() -> Rule {
    rule(
        r"!has(self.cron) || self.cron.matches('^\\s*(@[a-z]+|\\S+(\\s+\\S+){4})\\s*$')".into(),
        "`cron` must be five fields; write `30 2 * * *` for 02:30 each day".into(),
        "cron",
    )
}
