//! When a job is expected: every so often, or by a cron line in a time zone.
//!
//! Promises: a schedule that was accepted fires, at least each ten years and at most each 10 seconds; its moments
//! strictly grow. Cron slots are found on the wall clock of the zone and handed out in UTC, so whatever is added to
//! them later is plain arithmetic (design 2.3).
//!
//! What the clocks' changes do (design 1, promise 2: none of them pages by itself):
//! - A slot at a fixed time that falls into a gap (02:30 when 02:00 becomes 03:00) comes once, right after the gap.
//! - A slot at a fixed time that comes twice (01:30 when 02:00 becomes 01:00) is expected once, the first time.
//! - Slots with `*` or a step in the minute or hour keep running: none in the gap, both halves of the fold.
//! - Lists and ranges (`0 1,2 * * *`) count as fixed times, as classic cron has it.
//!
//! Does not promise that a stored cron line is understood by an older build of its parser: [`Schedule::nth_after`]
//! can fail, and says so.

mod cron;

pub(crate) use cron::LINE_MAX as CRON_MAX;

use super::{Invalid, duration, duration::YEAR_MS};

/// Shortest period, in milliseconds.
pub const PERIOD_MIN_MS: i64 = 10_000;

/// Unit of the original API's `frequency`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnits {
    /// s
    Seconds,
    /// min
    Minutes,
    /// h
    Hours,
}

impl TimeUnits {
    /// the wire's word
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
        }
    }

    /// Reads the word a client wrote in `field`: `seconds`, `minutes` or `hours`, in any case, also without the `s`.
    pub fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
        let word = text.trim().to_ascii_lowercase();
        [Self::Seconds, Self::Minutes, Self::Hours]
            .into_iter()
            .find(|units| word == units.as_str() || word == units.one())
            .ok_or_else(|| {
                let text = super::invalid::shown(text);
                Invalid::new(field, format!("{text} is no unit: give `seconds`, `minutes` or `hours`"))
            })
    }

    /// Its length in milliseconds.
    pub fn ms(self) -> i64 {
        match self {
            Self::Seconds => duration::SECOND_MS,
            Self::Minutes => duration::MINUTE_MS,
            Self::Hours => duration::HOUR_MS,
        }
    }

    /// The word for one of it.
    fn one(self) -> &'static str {
        match self {
            Self::Seconds => "second",
            Self::Minutes => "minute",
            Self::Hours => "hour",
        }
    }
}

/// An expectation that is known to fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// A check-in at least each `frequency` `units` (10 s or more).
    Every {
        /// how many
        frequency: i64,
        /// of what
        units: TimeUnits,
    },
    /// Five cron fields in an IANA zone.
    Cron {
        /// as written
        expression: String,
        /// IANA name
        zone: String,
    },
}

impl Schedule {
    /// Parses the original API's form: a number and its unit. 10 seconds to 366 days.
    pub fn every(frequency: i64, time_units: &str) -> Result<Self, Invalid> {
        let units = TimeUnits::parse("time_units", time_units)?;
        // An overflow is as far out of range as its sign says.
        let period = frequency.checked_mul(units.ms()).unwrap_or(if frequency < 0 { -1 } else { i64::MAX });
        check_period("frequency", period)?;
        Ok(Self::Every { frequency, units })
    }

    /// Parses a period given as text (`5m`, `1h30m`). Whole seconds, 10 seconds to 366 days.
    pub fn every_text(text: &str) -> Result<Self, Invalid> {
        let period = duration::parse_ms("every", text)?;
        check_period("every", period)?;
        let units = [TimeUnits::Hours, TimeUnits::Minutes, TimeUnits::Seconds]
            .into_iter()
            .find(|units| period % units.ms() == 0)
            .ok_or_else(|| Invalid::new("every", "has parts of a second: give whole seconds"))?;
        Ok(Self::Every { frequency: period / units.ms(), units })
    }

    /// Parses a cron line of five fields (or `@daily` and the like) in an IANA zone (None = UTC). `now_ms` is where
    /// the search for its first slots begins: a line without a slot in the ten years from there is refused.
    pub fn cron(expression: &str, zone: Option<&str>, now_ms: i64) -> Result<Self, Invalid> {
        let (expression, zone) = cron::parse(expression, zone, now_ms)?;
        Ok(Self::Cron { expression, zone })
    }

    /// The `n`-th (1-based) expected moment strictly after `after_ms`, in milliseconds UTC. `n` = 0 counts as 1.
    ///
    /// Errors when a stored cron line or zone is not understood, or the moment lies outside the calendar.
    pub fn nth_after(&self, after_ms: i64, n: u32) -> Result<i64, Invalid> {
        let n = n.max(1);
        match self {
            Self::Every { frequency, units } => frequency
                .checked_mul(units.ms())
                .filter(|period| *period > 0)
                .and_then(|period| period.checked_mul(i64::from(n)))
                .and_then(|delta| after_ms.checked_add(delta))
                .ok_or_else(|| Invalid::new("frequency", "leads outside the calendar")),
            Self::Cron { expression, zone } => {
                let line = cron::Line::new(expression, zone)?;
                let mut slot = after_ms;
                for _ in 0..n {
                    slot = line.next(slot)?;
                }
                Ok(slot)
            }
        }
    }

    /// The period around `at_ms` in milliseconds: the frequency, or the distance between the next two cron slots.
    ///
    /// Errors as [`Schedule::nth_after`].
    pub fn period_ms(&self, at_ms: i64) -> Result<i64, Invalid> {
        match self {
            Self::Every { .. } => Ok(self.nth_after(0, 1)?),
            Self::Cron { expression, zone } => {
                let line = cron::Line::new(expression, zone)?;
                let first = line.next(at_ms)?;
                Ok(line.next(first)?.saturating_sub(first))
            }
        }
    }

    /// `every 5 minutes`, `30 2 * * * Europe/Dublin`.
    pub fn describe(&self) -> String {
        match self {
            Self::Every { frequency: 1, units } => format!("every {}", units.one()),
            Self::Every { frequency, units } => format!("every {frequency} {}", units.as_str()),
            Self::Cron { expression, zone } => format!("{expression} {zone}"),
        }
    }
}

/// Refuses a period that nobody can mean.
fn check_period(field: &'static str, period_ms: i64) -> Result<(), Invalid> {
    if period_ms <= 0 {
        return Err(Invalid::new(field, "is zero or negative: give at least 10 seconds"));
    }
    if period_ms < PERIOD_MIN_MS {
        return Err(Invalid::new(field, "is too short to watch: give at least 10 seconds"));
    }
    if period_ms > YEAR_MS {
        return Err(Invalid::new(field, "is longer than a year: give at most 366 days"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
