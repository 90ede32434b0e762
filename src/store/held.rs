//! What is not sent although it is due: notices of a reservation that is snoozed, or that was checked out and whose
//! open incident is about to be cancelled.
//!
//! Promises: a notice that was queued before the snooze (it waits for its next try, for a breaker, for its time) is
//! not sent in it; its age counts from the end of the snooze, so that snoozed time makes no dead letter.
//!
//! Does not promise: to take back a send that has begun, or to take a reservation out of a digest that was made
//! before its snooze.

/// A condition on a row of `delivery d` at `now`, an expression of the database's clock: true unless it is held, or
/// was until `rest_ms` ago.
pub(super) fn free(now: &str, rest_ms: i64) -> String {
    // A value, not an EXISTS: MySQL and MariaDB would read every incident there is to answer that once for all.
    format!(
        "COALESCE((SELECT CASE WHEN r.checked_out_ms IS NULL \
         THEN r.snooze_from_ms <= {now} AND r.snooze_until_ms > {now} - {rest_ms} ELSE i.closed_ms IS NULL END \
         FROM incident i JOIN reservation r ON r.id = i.reservation_id WHERE i.id = d.incident_id), 0) = 0"
    )
}

/// Since when a row of `delivery d` waits at `now`; NULL while it is held. One that was tried is as old as it is; one
/// that is to wait is not old before its time.
pub(super) fn waits_since(now: &str) -> String {
    let (free, aged) = (free(now, 0), AGED_FROM.replace('?', now));
    format!(
        "CASE WHEN {free} THEN CASE WHEN d.attempts = 0 AND d.next_ms > {aged} THEN d.next_ms ELSE {aged} END END"
    )
}

/// From when the age of a row of `delivery d` counts, at the time that is bound: from its making, or from the
/// end of the snooze that held it.
pub(super) const AGED_FROM: &str = "COALESCE((SELECT CASE WHEN r.snooze_until_ms > d.created_ms AND \
     r.snooze_until_ms <= ? THEN r.snooze_until_ms ELSE d.created_ms END FROM incident i \
     JOIN reservation r ON r.id = i.reservation_id WHERE i.id = d.incident_id), d.created_ms)";
