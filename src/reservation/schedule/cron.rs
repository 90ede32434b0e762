//! Cron lines: the one place that knows the cron library.
//!
//! Promises: the search for a slot is bounded (a line is checked against the days of ten years before it is
//! accepted), and each slot lies strictly after the moment it was asked for. Adds one rule to the library's: lists
//! and ranges of fixed times are fixed times too, in the gap and in the fold of a clock change.

use crate::reservation::{Invalid, invalid::shown};
use croner::{Cron, JobType, Weekday, parser::CronParser, parser::Seconds, parser::Year};
use jiff::{Span, Timestamp, Zoned, tz::TimeZone};

/// Longest line, in characters: each of five fields may list all its values.
pub(crate) const LINE_MAX: usize = 255;
/// A line must have a day in this many days from now. Ten years hold every 29 February, also around the year 2100.
const SEARCH_DAYS: i32 = 3_660;
/// Longest gap of a clock change that is looked through, in minutes (the longest known are whole days).
const GAP_MINUTES: i32 = 24 * 60;

/// A cron line and its zone, ready to be asked.
pub(super) struct Line {
    cron: Cron,
    zone: TimeZone,
    /// Minutes or hours are listed rather than starred, and there is more than one slot a day.
    listed: bool,
}

/// Checks what a client wrote; gives the line as written (trimmed) and the zone's canonical name.
pub(super) fn parse(expression: &str, zone: Option<&str>, now_ms: i64) -> Result<(String, String), Invalid> {
    let expression = expression.trim();
    let line = Line::new(expression, zone.map_or("UTC", str::trim))?;
    let name = line.zone.iana_name().unwrap_or("UTC").to_owned();
    line.require_a_day(expression, now_ms)?;
    // A day alone is not a slot: the time of day may fall into a gap of the zone every time.
    line.next(now_ms)?;
    Ok((expression.to_owned(), name))
}

impl Line {
    /// Understands a line; errors name `cron` or `time_zone`.
    pub(super) fn new(expression: &str, zone: &str) -> Result<Self, Invalid> {
        if expression.chars().count() > LINE_MAX || expression.chars().any(char::is_control) {
            let message = format!("{} is too long or has control characters", shown(expression));
            return Err(Invalid::new("cron", format!("{message}: give five fields, as `30 2 * * *`")));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| {
            let message = format!("{} is no cron line ({error})", shown(expression));
            Invalid::new("cron", format!("{message}: give five fields, as `30 2 * * *` for 02:30 each day"))
        })?;
        let unknown = || {
            let message = format!("{} is no IANA time zone: write `Europe/Dublin` or `UTC`", shown(zone));
            Invalid::new("time_zone", message)
        };
        let zone = TimeZone::get(zone).map_err(|_| unknown())?;
        if zone.is_unknown() || zone.iana_name().is_none() {
            return Err(unknown());
        }
        let mut fields = cron.pattern.as_str().split_whitespace();
        let starred = fields.by_ref().take(2).any(|field| field.contains(['*', '/', '?']));
        let listed = !starred && cron.determine_job_type() == JobType::IntervalWildcard;
        Ok(Self { cron, zone, listed })
    }

    /// The first slot strictly after `after_ms`.
    pub(super) fn next(&self, after_ms: i64) -> Result<i64, Invalid> {
        // Slots lie on whole seconds, so the part of a second never matters, and the library looks at seconds only.
        let after = Timestamp::from_millisecond(after_ms.div_euclid(1_000).saturating_mul(1_000))
            .map_err(|_| no_slot())?
            .to_zoned(self.zone.clone());
        let mut slot = self.search(&after)?;
        if self.listed {
            while self.repeated(&slot) {
                slot = self.search(&slot)?;
            }
            if let Some(end_of_gap) = self.skipped_in_gap(after.timestamp(), slot.timestamp()) {
                return Ok(end_of_gap.as_millisecond());
            }
        }
        let slot_ms = slot.timestamp().as_millisecond();
        // A slot that does not move on would make the caller's deadline stand still for ever.
        if slot_ms <= after_ms { Err(no_slot()) } else { Ok(slot_ms) }
    }

    fn search(&self, after: &Zoned) -> Result<Zoned, Invalid> {
        self.cron.find_next_occurrence(after, false).map_err(|_| no_slot())
    }

    /// Whether this wall clock time was already there an hour (or so) before.
    fn repeated(&self, slot: &Zoned) -> bool {
        let ambiguous = self.zone.to_ambiguous_timestamp(slot.datetime());
        ambiguous.is_ambiguous()
            && ambiguous.earlier().is_ok_and(|earlier| {
                earlier < slot.timestamp() && self.zone.to_datetime(earlier) == slot.datetime()
            })
    }

    /// The end of a gap between two moments in which the line had a slot.
    fn skipped_in_gap(&self, after: Timestamp, before: Timestamp) -> Option<Timestamp> {
        for change in self.zone.following(after).take_while(|change| change.timestamp() < before) {
            let end = self.zone.to_datetime(change.timestamp());
            let earlier = change.timestamp().checked_sub(Span::new().nanoseconds(1)).ok()?;
            let offset = self.zone.to_offset(earlier);
            let skipped = (change.offset().seconds() - offset.seconds()) / 60;
            for minute in 1..=skipped.min(GAP_MINUTES) {
                let wall = end.checked_sub(Span::new().minutes(minute)).ok()?;
                if self.cron.is_time_matching(&wall).is_ok_and(|matches| matches) {
                    return Some(change.timestamp());
                }
            }
        }
        None
    }

    /// Refuses a line that has no day in the next ten years.
    fn require_a_day(&self, expression: &str, now_ms: i64) -> Result<(), Invalid> {
        let now = Timestamp::from_millisecond(now_ms).map_err(|_| no_slot())?;
        let mut day = self.zone.to_datetime(now).date();
        for _ in 0..SEARCH_DAYS {
            let (year, month, of_month) = (i32::from(day.year()), day.month() as u32, day.day() as u32);
            let weekday = Weekday::from_days_from_sunday(day.weekday().to_sunday_zero_offset() as u32);
            let fits = self.cron.pattern.month_match(month).unwrap_or(false)
                && self.cron.pattern.day_match(year, month, of_month, weekday).unwrap_or(false);
            if fits {
                return Ok(());
            }
            day = day.tomorrow().map_err(|_| no_slot())?;
        }
        let message = format!("{} can never fire: no day in the next ten years fits", shown(expression));
        Err(Invalid::new("cron", format!("{message} its day and month fields; give a day that exists")))
    }
}

fn no_slot() -> Invalid {
    Invalid::new("cron", "has no further slot inside the calendar: give a line that fires again")
}
