//! Forgetting what is old, in small bites, under the fence.

use super::dialect::{chunks, marks};
use super::error::Result;
use super::lease::{Leading, check_belief, fence};
use super::outages;
use super::session::{Rule, Session, Tx, sql, transact};
use sqlx::Row;
use sqlx::any::AnyRow;

/// Rows deleted in one transaction: small enough that no check-in waits for it.
pub const BITE: usize = 1000;

/// How long things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Check-ins, ended runs, and open ones without a limit.
    pub history_ms: i64,
    /// Closed incidents and their deliveries, and reservations that were checked out.
    pub incidents_ms: i64,
}

/// What one bite took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Rows deleted.
    pub rows: u64,
    /// Whether there may be more.
    pub more: bool,
}

/// How long outages, and runs that never told their end, are kept: longer than any schedule.
const FOR_EVER_MS: i64 = 400 * 86_400_000;

/// One kind of thing to delete.
struct Work {
    table: &'static str,
    /// Its key.
    key: &'static str,
    /// The indexed moment that makes it old.
    age: &'static str,
    /// What else must hold.
    condition: &'static str,
    /// What must hold still when the row is deleted, besides its age.
    still: &'static str,
    keep_ms: i64,
}

/// A reservation that was checked out, once nothing of its past is left.
const NOTHING_LEFT: &str = "NOT EXISTS (SELECT 1 FROM incident i WHERE i.reservation_id = reservation.id) \
     AND NOT EXISTS (SELECT 1 FROM checkin c WHERE c.reservation_id = reservation.id) \
     AND NOT EXISTS (SELECT 1 FROM run r WHERE r.reservation_id = reservation.id)";

fn work(keep: Retention) -> [Work; 8] {
    let of =
        |table, key, age, condition, keep_ms| Work { table, key, age, condition, still: "1 = 1", keep_ms };
    [
        of("checkin", "id", "at_ms", "1 = 1", keep.history_ms),
        of("run", "id", "started_ms", "ended_ms IS NOT NULL", keep.history_ms),
        // Nobody waits for the end of a run that may take as long as it likes.
        of(
            "run",
            "id",
            "started_ms",
            "ended_ms IS NULL AND NOT EXISTS (SELECT 1 FROM reservation r WHERE r.id = run.reservation_id \
             AND r.max_runtime_ms IS NOT NULL AND r.checked_out_ms IS NULL)",
            keep.history_ms,
        ),
        of(
            "run",
            "id",
            "started_ms",
            "NOT EXISTS (SELECT 1 FROM incident i WHERE i.reservation_id = run.reservation_id \
             AND i.closed_ms IS NULL)",
            FOR_EVER_MS.max(keep.history_ms),
        ),
        of(
            "delivery",
            "id",
            "created_ms",
            "state NOT IN ('pending', 'inflight') \
             AND NOT EXISTS (SELECT 1 FROM incident i WHERE i.id = delivery.incident_id AND i.closed_ms IS NULL)",
            keep.incidents_ms,
        ),
        of("incident", "id", "closed_ms", "1 = 1", keep.incidents_ms),
        of("outage", "from_ms", "to_ms", "1 = 1", FOR_EVER_MS),
        Work {
            // It may be made again at any moment, and then begins a new life.
            still: NOTHING_LEFT,
            ..of("reservation", "id", "checked_out_ms", NOTHING_LEFT, keep.incidents_ms)
        },
    ]
}

/// How long reminders of an incident that goes on are kept: an incident reminded of each minute for months must not
/// grow for months.
const REMINDERS_MS: i64 = 86_400_000;

impl Session {
    /// Deletes one bite of each kind; nothing while a jump of the clock may have made things look old.
    pub async fn purge(&mut self, leading: &Leading, keep: Retention) -> Result<Purged> {
        let mut purged = Purged::default();
        let doubt = Rule::reading("purge");
        if transact!(&mut *self, doubt, |tx| { outages::clock_is_in_doubt(tx).await })? {
            return Ok(purged);
        }
        for work in work(keep) {
            let rows = transact!(&mut *self, Rule::named("purge"), |tx| {
                check_belief(tx, leading)?;
                let before = tx.now_ms().await? - work.keep_ms;
                let rows = bite(tx, &work, before).await?;
                fence(tx, leading).await?;
                Ok(rows)
            })?;
            purged.take(rows);
        }
        purged.take(transact!(&mut *self, Rule::named("purge"), |tx| {
            check_belief(tx, leading)?;
            let before = tx.now_ms().await? - REMINDERS_MS;
            let found = tx.all(sql(REMINDERS).bind(before)).await?;
            let still = "state NOT IN ('pending', 'inflight') AND created_ms < ?";
            let rows = delete(tx, "delivery", "id", still, &found, before).await?;
            fence(tx, leading).await?;
            Ok(rows)
        })?);
        Ok(purged)
    }
}

impl Purged {
    fn take(&mut self, rows: u64) {
        self.rows += rows;
        self.more |= rows >= BITE as u64;
    }
}

/// Finished reminders of open incidents, but for the last one to each target. Dead letters stay, for a person to see.
const REMINDERS: &str = "SELECT d.id FROM incident i JOIN delivery d ON d.incident_id = i.id \
     WHERE i.open_key IS NOT NULL AND d.event = 'remind' AND d.state IN ('done', 'superseded', 'digested') \
     AND d.created_ms < ? AND EXISTS (SELECT 1 FROM delivery l WHERE l.incident_id = d.incident_id \
     AND l.alerter = d.alerter AND l.recipient = d.recipient AND l.event_no > d.event_no AND l.event = 'remind') \
     LIMIT 1000";

/// Finds the keys first, without locks, and deletes by them: one statement for both makes MariaDB walk, and
/// lock, the whole table.
async fn bite(tx: &mut Tx, work: &Work, before_ms: i64) -> Result<u64> {
    let Work { table, key, age, condition, still, .. } = work;
    let find =
        format!("SELECT {key} FROM {table} WHERE {age} < ? AND {condition} ORDER BY {age} LIMIT {BITE}");
    let found = tx.all(sql(find).bind(before_ms)).await?;
    // The age again: a run id that was used anew meanwhile is young.
    delete(tx, table, key, &format!("{age} < ? AND {still}"), &found, before_ms).await
}

/// Deletes what was found, as far as `condition`, which binds the age, still holds.
async fn delete(
    tx: &mut Tx,
    table: &str,
    key: &str,
    condition: &str,
    found: &[AnyRow],
    before_ms: i64,
) -> Result<u64> {
    let mut rows = 0;
    for range in chunks(found.len()) {
        let text = format!("DELETE FROM {table} WHERE {key} IN ({}) AND {condition}", marks(range.len()));
        let mut query = sql(text);
        for row in &found[range] {
            query = match row.try_get::<i64, _>(0) {
                Ok(number) => query.bind(number),
                Err(_) => query.bind(row.try_get::<String, _>(0)?),
            };
        }
        rows += tx.run(query.bind(before_ms)).await?.rows_affected();
    }
    Ok(rows)
}
