//! From rows to the rules' values.

use super::error::{Result, StoreError};
use crate::reservation::Evidence;
use crate::reservation::evidence::OpenRun;
use crate::reservation::incident::{OpenIncident, Reason};
use crate::reservation::snooze::Snooze;
use sqlx::Row;
use sqlx::any::AnyRow;

/// Columns of [`evidence`], in its order.
pub(super) const EVIDENCE: &str = "created_ms, last_ok_ms, last_ok_started_ms, last_fail_ms, last_exit_code, fails, \
     last_seen_ms, checkins, rearm_ms, snooze_from_ms, snooze_until_ms";

/// How many they are.
pub(super) const EVIDENCE_COLUMNS: usize = 11;

/// Reads [`EVIDENCE`] from column `at` on.
pub(super) fn evidence(row: &AnyRow, at: usize) -> Result<Evidence> {
    let snooze = match (row.try_get::<Option<i64>, _>(at + 9)?, row.try_get::<Option<i64>, _>(at + 10)?) {
        (Some(from_ms), Some(until_ms)) => Some(Snooze { from_ms, until_ms }),
        _ => None,
    };
    Ok(Evidence {
        created_ms: row.try_get(at)?,
        last_ok_ms: row.try_get(at + 1)?,
        last_ok_started_ms: row.try_get(at + 2)?,
        last_fail_ms: row.try_get(at + 3)?,
        last_exit_code: row.try_get::<Option<i64>, _>(at + 4)?.and_then(|c| u8::try_from(c).ok()),
        fails: row.try_get(at + 5)?,
        last_seen_ms: row.try_get(at + 6)?,
        checkins: row.try_get(at + 7)?,
        rearm_ms: row.try_get(at + 8)?,
        snooze,
    })
}

/// Columns of [`merged`], in its order.
pub(super) const MERGED: &str =
    "last_ok_ms, last_ok_started_ms, last_fail_ms, last_exit_code, fails, last_seen_ms, checkins";

/// Reads [`MERGED`] from column `at` on: what [`Evidence::merge`] looks at and changes, and nothing else,
/// as each column of each row has its price on the write path.
pub(super) fn merged(row: &AnyRow, at: usize) -> Result<Evidence> {
    Ok(Evidence {
        last_ok_ms: row.try_get(at)?,
        last_ok_started_ms: row.try_get(at + 1)?,
        last_fail_ms: row.try_get(at + 2)?,
        last_exit_code: row.try_get::<Option<i64>, _>(at + 3)?.and_then(|c| u8::try_from(c).ok()),
        fails: row.try_get(at + 4)?,
        last_seen_ms: row.try_get(at + 5)?,
        checkins: row.try_get(at + 6)?,
        ..Evidence::default()
    })
}

/// Columns of [`open_incident`], in its order.
pub(super) const OPEN_INCIDENT: &str =
    "reason, deadline_ms, opened_ms, rid, event_no, next_remind_ms, escalated";

/// Reads [`OPEN_INCIDENT`] from column `at` on.
pub(super) fn open_incident(row: &AnyRow, at: usize) -> Result<OpenIncident> {
    let reason: String = row.try_get(at)?;
    Ok(OpenIncident {
        reason: Reason::parse(&reason)
            .ok_or_else(|| StoreError::Other(format!("unknown reason {reason:?} in the database")))?,
        deadline_ms: row.try_get(at + 1)?,
        opened_ms: row.try_get(at + 2)?,
        rid: row.try_get(at + 3)?,
        event_no: row.try_get(at + 4)?,
        next_remind_ms: row.try_get(at + 5)?,
        escalated: row.try_get::<i64, _>(at + 6)?.try_into().unwrap_or(u32::MAX),
    })
}

/// Reads `rid, started_ms` from column `at` on.
pub(super) fn open_run(row: &AnyRow, at: usize) -> Result<OpenRun> {
    Ok(OpenRun { rid: row.try_get(at)?, started_ms: row.try_get(at + 1)? })
}
