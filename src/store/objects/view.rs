//! What an object shows of its reservation, in as few trips as it can be.
//!
//! Promises: no trip for a reservation that was made just now, one for one that was never told of; one more each where
//! notices or outages are there.

use super::{Alerts, Held, ObjectId, ObjectView, Reclaim, Wish, nothing_there};
use crate::reservation::{Evidence, JobKey, State};
use crate::store::error::Result;
use crate::store::session::{Tx, sql};
use crate::store::views::ReservationView;
use crate::store::{outages, views};
use sqlx::Row;
use sqlx::any::AnyRow;

/// Columns of [`held`], in its order.
pub(in crate::store) const HELD: &str =
    "o.cluster, o.namespace, o.name, o.uid, o.generation, o.reclaim, o.suspended, o.orphaned_ms";

/// How many they are.
const HELD_COLUMNS: usize = 8;

/// Reads [`HELD`] from column `at` on; None where nothing was joined.
pub(in crate::store) fn held(row: &AnyRow, at: usize) -> Result<Option<Held>> {
    let Some(cluster) = row.try_get::<Option<String>, _>(at)? else { return Ok(None) };
    Ok(Some(Held {
        object: ObjectId {
            cluster,
            namespace: row.try_get(at + 1)?,
            name: row.try_get(at + 2)?,
            uid: row.try_get(at + 3)?,
        },
        generation: row.try_get(at + 4)?,
        reclaim: Reclaim::parse(&row.try_get::<String, _>(at + 5)?),
        suspended: row.try_get::<i64, _>(at + 6)? != 0,
        orphaned_ms: row.try_get(at + 7)?,
    }))
}

/// Everything that an object shows of the row `id`.
pub(super) async fn view(tx: &mut Tx, id: i64) -> Result<ObjectView> {
    let now = tx.inner().now_expr();
    let text = format!(
        "SELECT {}, {HELD}, {now} AS now_ms, \
         (SELECT l.id FROM incident l WHERE l.reservation_id = r.id AND l.gen = r.gen ORDER BY l.opened_ms DESC LIMIT 1) \
         AS latest, (SELECT COUNT(*) FROM outage WHERE {}) AS outages \
         FROM reservation r LEFT JOIN incident i ON i.reservation_id = r.id AND i.closed_ms IS NULL \
         JOIN kube_object o ON o.reservation_id = r.id WHERE r.id = ?",
        views::reservation_columns(),
        outages::remembered(tx),
    );
    let Some(row) = tx.maybe(sql(text).bind(id)).await? else { return Err(nothing_there()) };
    let at = views::RESERVATION_COLUMNS;
    let Some(held) = held(&row, at)? else { return Err(nothing_there()) };
    let at = at + HELD_COLUMNS;
    let alerts = match row.try_get::<Option<String>, _>(at + 1)? {
        Some(incident) => alerts(tx, incident).await?,
        None => Alerts::default(),
    };
    let outages = match row.try_get::<i64, _>(at + 2)? {
        0 => Vec::new(),
        _ => outages::load(tx).await?,
    };
    Ok(ObjectView { reservation: views::reservation(&row)?, held, alerts, outages, now_ms: row.try_get(at)? })
}

/// What [`view`] would find of the row `id`, which was made a moment ago: nothing has happened to it yet, and no outage
/// that is over moves a deadline that counts from now.
pub(super) fn new(id: i64, key: &JobKey, wish: Wish<'_>, now_ms: i64) -> ObjectView {
    let reservation = ReservationView {
        id,
        app: key.app.as_str().to_owned(),
        component: key.component.as_str().to_owned(),
        settings: Ok(wish.settings.clone()),
        state: State::Waiting,
        evidence: Evidence { created_ms: now_ms, ..Evidence::default() },
        snooze_reason: None,
        snooze_by: None,
        updated_ms: now_ms,
        incident: None,
        object: Some(wish.object.clone()),
    };
    let held = Held {
        object: wish.object.clone(),
        generation: wish.generation,
        reclaim: wish.reclaim,
        suspended: wish.suspend,
        orphaned_ms: None,
    };
    ObjectView { reservation, held, alerts: Alerts::default(), outages: Vec::new(), now_ms }
}

/// How the notices of this incident fared.
async fn alerts(tx: &mut Tx, incident: String) -> Result<Alerts> {
    let told = "SELECT d.state, COUNT(*), MAX(CASE WHEN d.error IS NULL THEN 0 ELSE 1 END) FROM delivery d \
                WHERE d.incident_id = ? GROUP BY d.state";
    let mut alerts = Alerts::default();
    for told in tx.all(sql(told).bind(incident)).await? {
        alerts.add(&told.try_get::<String, _>(0)?, told.try_get(1)?, told.try_get::<i64, _>(2)? != 0);
    }
    Ok(alerts)
}
