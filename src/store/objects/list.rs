//! All that a cluster's objects hold, at a glance; and the rows whose object is missing.

use super::apply::free;
use super::{Alerts, HELD, Held, Reclaim, held};
use crate::reservation::State;
use crate::reservation::snooze::Snooze;
use crate::store::dialect::{chunks, marks};
use crate::store::error::Result;
use crate::store::lease::fence;
use crate::store::session::{Rule, sql, transact};
use crate::store::{Leading, Store};
use sqlx::Row;
use sqlx::any::AnyRow;
use std::collections::HashMap;

/// What the status of an object is judged by, without its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRow {
    /// Row id of the reservation.
    pub id: i64,
    /// Its owner.
    pub held: Held,
    /// State; None: one that this program does not know.
    pub state: Option<State>,
    /// Its last good run.
    pub last_ok_ms: Option<i64>,
    /// Its snooze, past or present.
    pub snooze: Option<Snooze>,
    /// The notices of an incident that is open or has ended within the hour.
    pub alerts: Alerts,
}

/// Notices of an incident that ended longer ago are not looked at: they stay as they were shown.
const RECENT_MS: i64 = 3_600_000;

fn owned(row: &AnyRow) -> Result<Option<OwnedRow>> {
    let snooze = match (row.try_get(3)?, row.try_get(4)?) {
        (Some(from_ms), Some(until_ms)) => Some(Snooze { from_ms, until_ms }),
        _ => None,
    };
    let Some(held) = held(row, 5)? else { return Ok(None) };
    Ok(Some(OwnedRow {
        id: row.try_get(0)?,
        state: State::parse(&row.try_get::<String, _>(1)?),
        last_ok_ms: row.try_get(2)?,
        snooze,
        held,
        alerts: Alerts::default(),
    }))
}

impl Store {
    /// Everything that objects of `cluster` hold, and the database's clock.
    pub async fn owned(&self, cluster: &str) -> Result<(Vec<OwnedRow>, i64)> {
        transact!(self.pooled().await?, Rule::reading("objects"), |tx| {
            let now_ms = tx.now_ms().await?;
            let text = format!(
                "SELECT r.id, r.state, r.last_ok_ms, r.snooze_from_ms, r.snooze_until_ms, {HELD} FROM kube_object o \
                 JOIN reservation r ON r.id = o.reservation_id WHERE o.cluster = ?"
            );
            let mut rows = tx.each(sql(text).bind(cluster.to_owned()), owned).await?;
            let told = "SELECT i.reservation_id, i.opened_ms, d.state, COUNT(*), \
                        MAX(CASE WHEN d.error IS NULL THEN 0 ELSE 1 END) FROM incident i \
                        JOIN kube_object o ON o.reservation_id = i.reservation_id \
                        JOIN reservation r ON r.id = i.reservation_id AND r.gen = i.gen \
                        JOIN delivery d ON d.incident_id = i.id \
                        WHERE o.cluster = ? AND (i.closed_ms IS NULL OR i.closed_ms > ?) \
                        GROUP BY i.reservation_id, i.opened_ms, d.state";
            let mut latest: HashMap<i64, (i64, Alerts)> = HashMap::new();
            for row in tx.all(sql(told).bind(cluster.to_owned()).bind(now_ms - RECENT_MS)).await? {
                let opened_ms: i64 = row.try_get(1)?;
                let known = latest.entry(row.try_get(0)?).or_default();
                if opened_ms > known.0 {
                    *known = (opened_ms, Alerts::default());
                }
                if opened_ms == known.0 {
                    let failed = row.try_get::<i64, _>(4)? != 0;
                    known.1.add(&row.try_get::<String, _>(2)?, row.try_get(3)?, failed);
                }
            }
            for row in &mut rows {
                row.alerts = latest.get(&row.id).map(|(_, alerts)| *alerts).unwrap_or_default();
            }
            Ok((rows, now_ms))
        })
    }

    /// Notes that the objects of these rows are missing, since now; or are there again.
    pub async fn mark_orphans(&self, leading: &Leading, ids: &[i64], missing: bool) -> Result<()> {
        transact!(self.pooled().await?, Rule::named("orphans_mark"), |tx| {
            fence(tx, leading).await?;
            let now_ms = tx.now_ms().await?;
            for range in chunks(ids.len()) {
                let set = if missing { "COALESCE(orphaned_ms, ?)" } else { "NULL" };
                let text = format!(
                    "UPDATE kube_object SET orphaned_ms = {set} WHERE reservation_id IN ({})",
                    marks(range.len())
                );
                let mut query = sql(text);
                if missing {
                    query = query.bind(now_ms);
                }
                for id in &ids[range] {
                    query = query.bind(*id);
                }
                tx.run(query).await?;
            }
            Ok(())
        })
    }

    /// Lets an orphan go, if it still is one since before `before_ms`.
    pub async fn release_orphan(
        &self,
        leading: &Leading,
        row: &OwnedRow,
        before_ms: i64,
    ) -> Result<Option<Reclaim>> {
        transact!(self.pooled().await?, Rule::named("orphan_release"), |tx| {
            fence(tx, leading).await?;
            let now_ms = tx.now_ms().await?;
            let lock = tx.inner().dialect.for_update();
            let text = format!(
                "SELECT reclaim FROM kube_object WHERE reservation_id = ? AND uid = ? AND orphaned_ms <= ?{lock}"
            );
            let found = sql(text).bind(row.id).bind(row.held.object.uid.clone()).bind(before_ms);
            let Some(found) = tx.maybe(found).await? else { return Ok(None) };
            let reclaim = Reclaim::parse(&found.try_get::<String, _>(0)?);
            free(tx, row.id, reclaim, now_ms).await?;
            Ok(Some(reclaim))
        })
    }
}
