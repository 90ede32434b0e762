//! When a reservation is late: a pure function of settings, evidence, snooze and outages (design 2.3).
//!
//! The deadline is the next expected moment after the last good run (or after the reservation was made) plus grace.
//! What may move it, and only ever later:
//! 1. an edit: not before `rearm_ms`, see [`rearm_after_edit`];
//! 2. a snooze, active or past: not before its end + min(period, 15 min) + grace;
//! 3. GoTel's own outages, and jumps of the database's clock: see [`super::outage::shift`].
//!
//! Promises: with what moves it unchanged, a check-in never makes the deadline earlier, with two exceptions that are
//! meant: the first good run ends a `first_within`, however long that was; and a cron job that checks in after a
//! snooze or an outage is due at its next slot, which may come before the time those had given it (`decide` looks
//! early enough for that). Does not decide what to tell: that is `decide`.

use super::{
    Evidence, Invalid, Settings,
    duration::MINUTE_MS,
    outage::{Outage, shift},
};

/// The longest a job is given to run again after an edit or a snooze, before grace, in milliseconds.
pub const REARM_MAX_MS: i64 = 15 * MINUTE_MS;

/// A deadline and what moved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// the moment after which the job is late
    pub at_ms: i64,
    /// the moment the alert is due (differs with tolerance > 1)
    pub alert_ms: i64,
    /// the outage that moved `alert_ms`, if one did
    pub moved_by: Option<Outage>,
    /// nobody ever checked in
    pub first: bool,
}

/// The deadline as the job's own settings and runs give it, with an edit's floor but no snooze and no outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    /// What both count from.
    pub(super) since_ms: i64,
    pub(super) at_ms: i64,
    pub(super) alert_ms: i64,
    pub(super) period_ms: i64,
}

/// The deadline that follows from everything known. Both moments still count as in time: the job is late, and the
/// alert due, from the next millisecond on.
///
/// Errors when the schedule cannot be computed.
pub fn deadline(settings: &Settings, evidence: &Evidence, outages: &[Outage]) -> Result<Deadline, Invalid> {
    Ok(moved(&own(settings, evidence)?, settings, evidence, outages))
}

/// What a snooze and outages make of the job's own deadline.
pub(super) fn moved(own: &Own, settings: &Settings, evidence: &Evidence, outages: &[Outage]) -> Deadline {
    let floor = match evidence.snooze {
        Some(snooze) => snooze.until_ms.saturating_add(again_ms(own.period_ms, settings)),
        None => i64::MIN,
    };
    let shift = |ms: i64| shift(own.since_ms, ms.max(floor), own.period_ms, settings.grace_ms, outages);
    let ((at_ms, at_by), (alert_ms, alert_by)) = (shift(own.at_ms), shift(own.alert_ms));
    // The later of the two may lie just behind an outage that moved the earlier one beyond it.
    let (alert_ms, moved_by) = if at_ms > alert_ms { (at_ms, at_by) } else { (alert_ms, alert_by) };
    Deadline { at_ms, alert_ms, moved_by, first: evidence.last_ok_ms.is_none() }
}

/// See [`Own`].
pub(super) fn own(settings: &Settings, evidence: &Evidence) -> Result<Own, Invalid> {
    let base = evidence.last_ok_ms.unwrap_or(evidence.created_ms);
    let period_ms = settings.schedule.period_ms(base)?;
    let (at_ms, alert_ms) = match (evidence.last_ok_ms, settings.first_within_ms) {
        (None, Some(within)) => {
            let at = base.saturating_add(within);
            (at, at)
        }
        _ => {
            let nth = |n| Ok(settings.schedule.nth_after(base, n)?.saturating_add(settings.grace_ms));
            let at = nth(1)?;
            (at, if settings.tolerance > 1 { nth(settings.tolerance)? } else { at })
        }
    };
    let floor = evidence.rearm_ms;
    Ok(Own { since_ms: base, at_ms: at_ms.max(floor), alert_ms: alert_ms.max(floor), period_ms })
}

/// What `rearm_ms` becomes when settings that [`Settings::reschedules`] are stored at `now_ms`:
/// now + min(period, 15 min) + grace.
///
/// Grace alone would not do: with the usual grace of 0 the edit itself would page at once for a job whose old
/// deadline lay further ahead, and an edit never pages by itself (design 1, promise 2).
///
/// Errors when the schedule cannot be computed.
pub fn rearm_after_edit(settings: &Settings, now_ms: i64) -> Result<i64, Invalid> {
    let period_ms = settings.schedule.period_ms(now_ms)?;
    Ok(now_ms.saturating_add(again_ms(period_ms, settings)))
}

/// When the edit that set `rearm_ms` was made; None when there was none.
///
/// Only the floor is stored, so this turns [`rearm_after_edit`] around. It is exact as long as the period is
/// steady or at least 15 min long, and at worst 15 min off.
pub(super) fn edited_ms(settings: &Settings, evidence: &Evidence, period_ms: i64) -> Option<i64> {
    (evidence.rearm_ms > 0).then(|| evidence.rearm_ms.saturating_sub(again_ms(period_ms, settings)))
}

/// The time a job is given to run once more.
fn again_ms(period_ms: i64, settings: &Settings) -> i64 {
    period_ms.min(REARM_MAX_MS).saturating_add(settings.grace_ms)
}

/// The next `n` expected moments after `after_ms` (for pages and the API), without grace. Those of an `every`
/// schedule count from the last good run. Fewer, or none, when the schedule leads outside the calendar.
pub fn upcoming(settings: &Settings, evidence: &Evidence, after_ms: i64, n: usize) -> Vec<i64> {
    use super::schedule::Schedule;
    let mut from = after_ms;
    if let Schedule::Every { .. } = settings.schedule
        && let Ok(period) = settings.schedule.period_ms(after_ms)
    {
        // The last expected moment at or before `after_ms`, on the grid that the last good run began.
        let base = evidence.last_ok_ms.unwrap_or(evidence.created_ms);
        let passed = after_ms.saturating_sub(base).max(0) / period;
        from = base.saturating_add(passed.saturating_mul(period));
    }
    let mut moments = Vec::new();
    while moments.len() < n {
        match settings.schedule.nth_after(from, 1) {
            Ok(moment) if moment > from => {
                moments.push(moment);
                from = moment;
            }
            _ => break,
        }
    }
    moments
}

#[cfg(test)]
mod tests;
