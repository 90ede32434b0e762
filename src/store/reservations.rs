//! Making, changing, pausing and ending reservations.
//!
//! Promises: making one twice with the same settings changes nothing; every change sets `due_ms = 0`, so
//! that the evaluator looks at the row within a second. Incidents are not touched here: they and their
//! notices have one writer, the evaluator. What belongs to a Kubernetes object is changed and ended by it alone
//! ([`super::objects`]); the row is joined to its owner, so that both are locked together.
//!
//! Races: two clients making the same reservation at once: the unique key lets one insert, the other's
//! transaction runs again and finds it. A check-in meanwhile: both lock the row.

use super::Store;
use super::error::Result;
use super::objects::{self, Held, ObjectId};
use super::session::{Rule, Tx, sql, transact};
use crate::reservation::snooze::Snooze;
use crate::reservation::{JobKey, Settings, State, deadline};
use sqlx::Row;

/// What making a reservation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// It is new, or was checked out before.
    Created,
    /// Its settings were changed.
    Updated,
    /// It was there already, just like this.
    Unchanged,
    /// Nothing: it belongs to this Kubernetes object.
    Owned(ObjectId),
}

/// Whether the reservation a request names is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Done.
    Yes,
    /// No reservation of this name, or it is checked out.
    No,
    /// It is there, and this Kubernetes object alone may do that.
    Owned(ObjectId),
}

/// What a snooze came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snoozed {
    /// It is paused until then.
    Yes(Snooze),
    /// No reservation of this name, or it is checked out.
    No,
    /// It is paused by this Kubernetes object, for as long as that says so.
    Suspended(ObjectId),
}

/// A row that is to be changed, locked.
pub(super) struct Locked {
    pub(super) id: i64,
    pub(super) settings: String,
    pub(super) checked_out: bool,
    pub(super) snooze_until_ms: Option<i64>,
    pub(super) now_ms: i64,
    pub(super) held: Option<Held>,
}

impl Store {
    /// Makes or changes the reservation `key`.
    pub async fn reserve(&self, key: &JobKey, settings: &Settings) -> Result<Reserved> {
        transact!(self.pooled().await?, Rule::named("reserve"), |tx| {
            let stored = settings.to_stored();
            let (now_ms, row) = lock(tx, key).await?;
            let Some(row) = row else {
                insert(tx, key, settings, &stored, now_ms).await?;
                return Ok(Reserved::Created);
            };
            if let Some(held) = row.held {
                return Ok(Reserved::Owned(held.object));
            }
            if row.checked_out {
                revive(tx, &row, settings, &stored).await?;
                return Ok(Reserved::Created);
            }
            match edit(tx, &row, settings, &stored).await? {
                true => Ok(Reserved::Updated),
                false => Ok(Reserved::Unchanged),
            }
        })
    }

    /// Ends the reservation `key`.
    pub async fn checkout(&self, key: &JobKey) -> Result<Found> {
        transact!(self.pooled().await?, Rule::named("checkout"), |tx| {
            let Some(row) = in_use(tx, key).await? else { return Ok(Found::No) };
            if let Some(held) = row.held {
                return Ok(Found::Owned(held.object));
            }
            end(tx, row.id, row.now_ms).await?;
            Ok(Found::Yes)
        })
    }

    /// Pauses alerting; a later snooze replaces an earlier one.
    pub async fn snooze(
        &self,
        key: &JobKey,
        until: impl Fn(i64) -> Snooze,
        reason: Option<&str>,
        by: Option<&str>,
    ) -> Result<Snoozed> {
        transact!(self.pooled().await?, Rule::named("snooze"), |tx| {
            let Some(row) = in_use(tx, key).await? else { return Ok(Snoozed::No) };
            if let Some(held) = row.held.filter(|held| held.suspended) {
                return Ok(Snoozed::Suspended(held.object));
            }
            let snooze = until(row.now_ms);
            tx.run(
                sql("UPDATE reservation SET snooze_from_ms = ?, snooze_until_ms = ?, snooze_reason = ?, snooze_by = ?, \
                     updated_ms = ?, due_ms = 0 WHERE id = ?")
                .bind(snooze.from_ms)
                .bind(snooze.until_ms)
                .bind(reason.map(str::to_owned))
                .bind(by.map(str::to_owned))
                .bind(row.now_ms)
                .bind(row.id),
            )
            .await?;
            Ok(Snoozed::Yes(snooze))
        })
    }

    /// Ends a snooze now; one that has ended already stays as it was.
    pub async fn unsnooze(&self, key: &JobKey) -> Result<Found> {
        transact!(self.pooled().await?, Rule::named("unsnooze"), |tx| {
            let Some(row) = in_use(tx, key).await? else { return Ok(Found::No) };
            if let Some(held) = row.held.as_ref().filter(|held| held.suspended) {
                return Ok(Found::Owned(held.object.clone()));
            }
            wake(tx, &row).await?;
            Ok(Found::Yes)
        })
    }
}

/// The database's clock, and the row as it is, locked.
pub(super) async fn lock(tx: &mut Tx, key: &JobKey) -> Result<(i64, Option<Locked>)> {
    let for_update = tx.inner().dialect.for_update();
    read(tx, key, for_update).await
}

/// The row as it is.
pub(super) async fn look(tx: &mut Tx, key: &JobKey) -> Result<Option<Locked>> {
    Ok(read(tx, key, "").await?.1)
}

/// The row, locked, unless it is checked out.
async fn in_use(tx: &mut Tx, key: &JobKey) -> Result<Option<Locked>> {
    Ok(lock(tx, key).await?.1.filter(|row| !row.checked_out))
}

/// Asks for the clock where there is no row, too: whoever makes one needs it.
async fn read(tx: &mut Tx, key: &JobKey, for_update: &str) -> Result<(i64, Option<Locked>)> {
    let now = tx.inner().now_expr();
    let text = format!(
        "SELECT n.now_ms, r.id, r.settings, r.checked_out_ms, r.snooze_until_ms, {} FROM (SELECT {now} AS now_ms) n \
         LEFT JOIN reservation r ON r.rkey = ? LEFT JOIN kube_object o ON o.reservation_id = r.id{for_update}",
        objects::HELD
    );
    let row = tx.one(sql(text).bind(key.digest())).await?;
    let now_ms = row.try_get(0)?;
    let Some(id) = row.try_get(1)? else { return Ok((now_ms, None)) };
    let locked = Locked {
        id,
        settings: row.try_get(2)?,
        checked_out: row.try_get::<Option<i64>, _>(3)?.is_some(),
        snooze_until_ms: row.try_get(4)?,
        now_ms,
        held: objects::held(&row, 5)?,
    };
    Ok((now_ms, Some(locked)))
}

/// New settings for a row in use; false: they are what it has.
pub(super) async fn edit(tx: &mut Tx, row: &Locked, settings: &Settings, stored: &str) -> Result<bool> {
    if row.settings == stored {
        return Ok(false);
    }
    // Settings that cannot be read any more count as rescheduled: the row gets time to breathe.
    let reschedules = Settings::from_stored(&row.settings).map_or(true, |old| old.reschedules(settings));
    // Settings that were just parsed can be scheduled; without a period the grace alone must do.
    let rearm = match reschedules {
        true => deadline::rearm_after_edit(settings, row.now_ms).unwrap_or(row.now_ms + settings.grace_ms),
        false => 0,
    };
    tx.run(
        sql(
            "UPDATE reservation SET settings = ?, owner = ?, max_runtime_ms = ?, updated_ms = ?, due_ms = 0, \
             rearm_ms = CASE WHEN rearm_ms < ? THEN ? ELSE rearm_ms END WHERE id = ?",
        )
        .bind(stored.to_owned())
        .bind(settings.owner.clone())
        .bind(settings.max_runtime_ms)
        .bind(row.now_ms)
        .bind(rearm)
        .bind(rearm)
        .bind(row.id),
    )
    .await?;
    Ok(true)
}

/// Nothing is expected of it any more.
pub(super) async fn end(tx: &mut Tx, id: i64, now_ms: i64) -> Result<()> {
    tx.run(
        sql("UPDATE reservation SET checked_out_ms = ?, updated_ms = ?, due_ms = 0 WHERE id = ?")
            .bind(now_ms)
            .bind(now_ms)
            .bind(id),
    )
    .await?;
    Ok(())
}

/// Ends its snooze, if there is one.
pub(super) async fn wake(tx: &mut Tx, row: &Locked) -> Result<()> {
    if row.snooze_until_ms.is_some_and(|until| until > row.now_ms) {
        tx.run(
            sql("UPDATE reservation SET snooze_until_ms = ?, updated_ms = ?, due_ms = 0 WHERE id = ?")
                .bind(row.now_ms)
                .bind(row.now_ms)
                .bind(row.id),
        )
        .await?;
    }
    Ok(())
}

/// A new row; its id, where the database's driver tells it.
pub(super) async fn insert(
    tx: &mut Tx,
    key: &JobKey,
    settings: &Settings,
    stored: &str,
    now_ms: i64,
) -> Result<Option<i64>> {
    let made = tx
        .run(
            sql("INSERT INTO reservation (rkey, app, component, owner, gen, settings, max_runtime_ms, state, due_ms, \
                 created_ms, updated_ms, fails, checkins, uses_runs, rearm_ms) \
                 VALUES (?, ?, ?, ?, 1, ?, ?, ?, 0, ?, ?, 0, 0, 0, 0)")
            .bind(key.digest())
            .bind(key.app.as_str().to_owned())
            .bind(key.component.as_str().to_owned())
            .bind(settings.owner.clone())
            .bind(stored.to_owned())
            .bind(settings.max_runtime_ms)
            .bind(State::Waiting.as_str())
            .bind(now_ms)
            .bind(now_ms),
        )
        .await?;
    Ok(made.last_insert_id())
}

/// A reservation made again after its checkout starts from nothing: nothing of its past pages.
pub(super) async fn revive(tx: &mut Tx, row: &Locked, settings: &Settings, stored: &str) -> Result<()> {
    tx.run(
        sql("UPDATE reservation SET gen = gen + 1, checked_out_ms = NULL, settings = ?, owner = ?, max_runtime_ms = ?, \
             state = ?, due_ms = 0, created_ms = ?, updated_ms = ?, last_ok_ms = NULL, last_ok_started_ms = NULL, \
             last_fail_ms = NULL, last_exit_code = NULL, fails = 0, last_seen_ms = NULL, checkins = 0, uses_runs = 0, \
             rearm_ms = 0, snooze_from_ms = NULL, snooze_until_ms = NULL, snooze_reason = NULL, snooze_by = NULL \
             WHERE id = ?")
        .bind(stored.to_owned())
        .bind(settings.owner.clone())
        .bind(settings.max_runtime_ms)
        .bind(State::Waiting.as_str())
        .bind(row.now_ms)
        .bind(row.now_ms)
        .bind(row.id),
    )
    .await?;
    tx.run(sql("DELETE FROM run WHERE reservation_id = ? AND ended_ms IS NULL").bind(row.id)).await?;
    Ok(())
}
