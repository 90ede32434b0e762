//! An object takes, changes and lets go its reservation.

use super::view::{new, view};
use super::{Applied, ObjectId, ObjectView, Plan, RENEW_BELOW_MS, Reclaim, Stored, Wish, nothing_there};
use crate::reservation::JobKey;
use crate::reservation::duration::YEAR_MS;
use crate::store::Store;
use crate::store::error::{Result, StoreError};
use crate::store::reservations::{self, Locked, edit, insert, lock, revive, wake};
use crate::store::session::{Rule, Tx, sql, transact};
use sqlx::Row;

impl From<&Locked> for Stored {
    fn from(row: &Locked) -> Self {
        Self {
            settings: row.settings.clone(),
            checked_out: row.checked_out,
            snooze_until_ms: row.snooze_until_ms,
            now_ms: row.now_ms,
            held: row.held.clone(),
        }
    }
}

impl Store {
    /// Does what `plan` makes of the reservation `key` for an object. Nothing is locked for what is likely as it was
    /// wished, and nothing is looked at twice for what is not: with thousands of new objects each trip counts.
    pub async fn apply_object(
        &self,
        key: &JobKey,
        wish: Wish<'_>,
        plan: impl Fn(Option<&Stored>) -> Plan + Sync,
    ) -> Result<Applied> {
        if wish.likely_kept {
            let looked = transact!(self.pooled().await?, Rule::reading("object_look"), |tx| {
                let row = reservations::look(tx, key).await?;
                let planned = plan(row.as_ref().map(Stored::from).as_ref());
                match planned {
                    Plan::Write => Ok(None),
                    _ => Ok(Some(untouched(tx, planned, row).await?)),
                }
            })?;
            if let Some(applied) = looked {
                return Ok(applied);
            }
        }
        transact!(self.pooled().await?, Rule::named("object_apply"), |tx| {
            let stored = wish.settings.to_stored();
            let (now_ms, row) = lock(tx, key).await?;
            let planned = plan(row.as_ref().map(Stored::from).as_ref());
            if planned != Plan::Write {
                return untouched(tx, planned, row).await;
            }
            let adopted = row.as_ref().is_some_and(|row| !row.checked_out && row.held.is_none());
            let held = row.as_ref().is_some_and(|row| row.held.is_some());
            let id = match row {
                Some(row) => {
                    match row.checked_out {
                        true => revive(tx, &row, wish.settings, &stored).await?,
                        false => {
                            edit(tx, &row, wish.settings, &stored).await?;
                        }
                    }
                    suspend(tx, &row, wish).await?;
                    row.id
                }
                None => match insert(tx, key, wish.settings, &stored, now_ms).await? {
                    Some(id) if !wish.suspend => {
                        own(tx, id, wish).await?;
                        let view = Some(new(id, key, wish, now_ms));
                        return Ok(Applied { plan: planned, adopted: false, view });
                    }
                    _ => {
                        let row = lock(tx, key).await?.1.ok_or_else(nothing_there)?;
                        suspend(tx, &row, wish).await?;
                        row.id
                    }
                },
            };
            match held {
                true => update(tx, id, wish).await?,
                false => own(tx, id, wish).await?,
            }
            Ok(Applied { plan: planned, adopted, view: Some(view(tx, id).await?) })
        })
    }

    /// The reservation that the object of this name holds, if any.
    pub async fn object(&self, object: &ObjectId) -> Result<Option<ObjectView>> {
        transact!(self.pooled().await?, Rule::reading("object_view"), |tx| {
            let text =
                "SELECT reservation_id FROM kube_object WHERE cluster = ? AND namespace = ? AND name = ?";
            match tx.maybe(named(sql(text), object)).await? {
                Some(row) => Ok(Some(view(tx, row.try_get(0)?).await?)),
                None => Ok(None),
            }
        })
    }

    /// Lets go what the object holds, as it said. None: this object holds nothing (any more).
    pub async fn release_object(&self, object: &ObjectId) -> Result<Option<Reclaim>> {
        transact!(self.pooled().await?, Rule::named("object_release"), |tx| {
            let lock = tx.inner().dialect.for_update();
            let text = format!(
                "SELECT reservation_id, reclaim FROM kube_object WHERE cluster = ? AND namespace = ? AND name = ? \
                 AND uid = ?{lock}"
            );
            let Some(row) = tx.maybe(named(sql(text), object).bind(object.uid.clone())).await? else {
                return Ok(None);
            };
            let reclaim = Reclaim::parse(&row.try_get::<String, _>(1)?);
            let now_ms = tx.now_ms().await?;
            free(tx, row.try_get(0)?, reclaim, now_ms).await?;
            Ok(Some(reclaim))
        })
    }
}

type Sql = sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments>;

fn named(query: Sql, object: &ObjectId) -> Sql {
    query.bind(object.cluster.clone()).bind(object.namespace.clone()).bind(object.name.clone())
}

/// Nothing is to be written: the row as its object shows it, if it holds it.
async fn untouched(tx: &mut Tx, plan: Plan, row: Option<Locked>) -> Result<Applied> {
    let view = match (&plan, row) {
        (Plan::Keep | Plan::Stale, Some(row)) => Some(view(tx, row.id).await?),
        _ => None,
    };
    Ok(Applied { plan, adopted: false, view })
}

/// Takes the row away from its object.
pub(super) async fn free(tx: &mut Tx, id: i64, reclaim: Reclaim, now_ms: i64) -> Result<()> {
    tx.run(sql("DELETE FROM kube_object WHERE reservation_id = ?").bind(id)).await?;
    match reclaim {
        Reclaim::Delete => reservations::end(tx, id, now_ms).await,
        Reclaim::Retain => Ok(()),
    }
}

/// Makes the reservation's snooze what the object says.
async fn suspend(tx: &mut Tx, row: &Locked, wish: Wish<'_>) -> Result<()> {
    let suspended = row.held.as_ref().is_some_and(|held| held.suspended) && !row.checked_out;
    if !wish.suspend {
        return if suspended { wake(tx, row).await } else { Ok(()) };
    }
    let lasts = row.snooze_until_ms.is_some_and(|until| until - row.now_ms >= RENEW_BELOW_MS);
    if suspended && lasts {
        return Ok(());
    }
    let from = if suspended { "COALESCE(snooze_from_ms, ?)" } else { "?" };
    let object = wish.object;
    let reason = format!("suspended by {}/{} in {}", object.namespace, object.name, object.cluster);
    tx.run(
        sql(format!(
            "UPDATE reservation SET snooze_from_ms = {from}, snooze_until_ms = ?, snooze_reason = ?, snooze_by = NULL, \
             updated_ms = ?, due_ms = 0 WHERE id = ?"
        ))
        .bind(row.now_ms)
        .bind(row.now_ms + YEAR_MS)
        .bind(reason)
        .bind(row.now_ms)
        .bind(row.id),
    )
    .await?;
    Ok(())
}

/// Writes down how the object that holds the row, or one made again under its name, holds it now.
async fn update(tx: &mut Tx, id: i64, wish: Wish<'_>) -> Result<()> {
    let text = "UPDATE kube_object SET uid = ?, generation = ?, reclaim = ?, suspended = ?, orphaned_ms = NULL \
                WHERE reservation_id = ?";
    let query = sql(text)
        .bind(wish.object.uid.clone())
        .bind(wish.generation)
        .bind(wish.reclaim.as_str())
        .bind(i32::from(wish.suspend))
        .bind(id);
    tx.run(query).await?;
    Ok(())
}

/// Writes down who owns the row that nobody holds. What the object, or an earlier one of its name, held is let go.
async fn own(tx: &mut Tx, id: i64, wish: Wish<'_>) -> Result<()> {
    match take(tx, id, wish).await {
        // An object has one row.
        Err(StoreError::Duplicate(_)) => {}
        taken => return taken,
    }
    let others =
        "SELECT reservation_id, reclaim FROM kube_object WHERE cluster = ? AND namespace = ? AND name = ?";
    for other in tx.all(named(sql(others), wish.object)).await? {
        let (reclaim, now_ms) = (Reclaim::parse(&other.try_get::<String, _>(1)?), tx.now_ms().await?);
        free(tx, other.try_get(0)?, reclaim, now_ms).await?;
    }
    take(tx, id, wish).await
}

async fn take(tx: &mut Tx, id: i64, wish: Wish<'_>) -> Result<()> {
    let now = tx.inner().now_expr();
    let text = format!(
        "INSERT INTO kube_object (reservation_id, cluster, namespace, name, uid, generation, reclaim, suspended, \
         orphaned_ms, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, {now})"
    );
    let query = named(sql(text).bind(id), wish.object)
        .bind(wish.object.uid.clone())
        .bind(wish.generation)
        .bind(wish.reclaim.as_str())
        .bind(i32::from(wish.suspend));
    tx.run(query).await?;
    Ok(())
}
