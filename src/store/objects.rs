//! Reservations that belong to Kubernetes objects: claimed, changed and let go by them alone.
//!
//! Promises: a reservation has one owner; the first claim wins, and no other object changes, ends or frees it,
//! whichever cluster it is in. A spec of an older generation never replaces that of a newer one. What an object
//! holds is found by (cluster, namespace, name), of which there is one at a time: another uid under the same name
//! means that the former object is gone.
//!
//! Does not promise that the object exists: it may have gone unseen. Its row is then an orphan, and stays watched
//! until the sweep lets it go ([`list`]).
//!
//! Races: two objects claim one reservation: both lock its row, or the unique key lets one insert; the other's
//! transaction runs again and finds it held. A replica that was overtaken writes late: what it writes is guarded by
//! uid and generation, and what ends something by the lease's fence.

mod clusters;
mod list;

pub use clusters::{Identity, controller_scope};
pub use list::OwnedRow;

use super::Store;
use super::error::{Result, StoreError};
use super::reservations::{self, Locked, edit, insert, lock, revive, wake};
use super::session::{Rule, Tx, sql, transact};
use super::views::{self, ReservationView};
use crate::reservation::duration::{DAY_MS, YEAR_MS};
use crate::reservation::outage::Outage;
use crate::reservation::{JobKey, Settings};
use sqlx::Row;
use sqlx::any::AnyRow;

/// A snooze that suspends lasts as long as any may, and is renewed when it has less than this left. So what a lost
/// cluster has suspended is watched again one day.
pub const RENEW_BELOW_MS: i64 = YEAR_MS - 30 * DAY_MS;

/// One Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// Cluster, as GoTel calls it.
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Another one for each object that ever had the name.
    pub uid: String,
}

impl ObjectId {
    /// Whether both are, or were, the object of one name.
    pub fn same_name(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.namespace == other.namespace && self.name == other.name
    }
}

/// What becomes of a reservation when its object goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reclaim {
    /// It is checked out.
    Delete,
    /// It stays watched, and belongs to the API.
    Retain,
}

impl Reclaim {
    fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Retain => "retain",
        }
    }

    /// What is not known is kept.
    fn parse(text: &str) -> Self {
        if text == Self::Delete.as_str() { Self::Delete } else { Self::Retain }
    }
}

/// How an object holds its reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The object.
    pub object: ObjectId,
    /// Generation of the spec that the settings were made from.
    pub generation: i64,
    /// What becomes of it.
    pub reclaim: Reclaim,
    /// Whether its snooze is the object's own.
    pub suspended: bool,
    /// Since when the object was missing.
    pub orphaned_ms: Option<i64>,
}

/// What an object asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The object.
    pub object: &'a ObjectId,
    /// Generation of its spec.
    pub generation: i64,
    /// What is to be agreed.
    pub settings: &'a Settings,
    /// What becomes of it.
    pub reclaim: Reclaim,
    /// Whether alerting is to be paused.
    pub suspend: bool,
}

/// A reservation as a wish finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The stored form of its settings.
    pub settings: String,
    /// Whether it was ended.
    pub checked_out: bool,
    /// End of its snooze, past or to come.
    pub snooze_until_ms: Option<i64>,
    /// The database's clock.
    pub now_ms: i64,
    /// Who holds it; None: the API.
    pub held: Option<Held>,
}

/// What is to be done about a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// It is as wished.
    Keep,
    /// To be made, taken, or changed.
    Write,
    /// The row knows a newer spec of this object.
    Stale,
    /// It was made by the API and must be adopted.
    HeldByApi,
    /// Another object was first.
    HeldByObject(ObjectId),
}

/// What came of a wish.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What was done.
    pub plan: Plan,
    /// Whether it belonged to the API before.
    pub adopted: bool,
    /// The reservation now; None unless the object holds it.
    pub view: Option<ObjectView>,
}

/// How the notices of the latest incident fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alerts {
    /// Accepted by their receivers.
    pub sent: i64,
    /// On their way, without a failure so far.
    pub waiting: i64,
    /// Given up, or failed and tried again.
    pub failed: i64,
}

impl Alerts {
    pub(super) fn add(&mut self, state: &str, count: i64, failed: bool) {
        match state {
            "done" | "digested" => self.sent += count,
            "dead" => self.failed += count,
            "pending" | "inflight" if failed => self.failed += count,
            "pending" | "inflight" => self.waiting += count,
            // Nobody needs to hear it any more.
            _ => {}
        }
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A reservation as its object shows it.
#[derive(Debug, Clone)]
pub struct ObjectView {
    /// The reservation.
    pub reservation: ReservationView,
    /// Its owner.
    pub held: Held,
    /// Its latest incident's notices.
    pub alerts: Alerts,
    /// What may move its deadline.
    pub outages: Vec<Outage>,
    /// The database's clock.
    pub now_ms: i64,
}

/// Columns of [`held`], in its order.
pub(super) const HELD: &str =
    "o.cluster, o.namespace, o.name, o.uid, o.generation, o.reclaim, o.suspended, o.orphaned_ms";

/// Reads [`HELD`] from column `at` on; None where nothing was joined.
pub(super) fn held(row: &AnyRow, at: usize) -> Result<Option<Held>> {
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
    /// Does what `plan` makes of the reservation `key` for an object: looks first, and opens a transaction only where
    /// there is something to write.
    pub async fn apply_object(
        &self,
        key: &JobKey,
        wish: Wish<'_>,
        plan: impl Fn(Option<&Stored>) -> Plan + Sync,
    ) -> Result<Applied> {
        let looked = transact!(self.pooled().await?, Rule::reading("object_look"), |tx| {
            let row = reservations::look(tx, key).await?;
            let planned = plan(row.as_ref().map(Stored::from).as_ref());
            match (&planned, row) {
                (Plan::Write, _) => Ok(None),
                (Plan::Keep | Plan::Stale, Some(row)) => {
                    Ok(Some(Applied { plan: planned, adopted: false, view: Some(view(tx, row.id).await?) }))
                }
                _ => Ok(Some(Applied { plan: planned, adopted: false, view: None })),
            }
        })?;
        if let Some(applied) = looked {
            return Ok(applied);
        }
        transact!(self.pooled().await?, Rule::named("object_apply"), |tx| {
            let stored = wish.settings.to_stored();
            let row = lock(tx, key).await?;
            let planned = plan(row.as_ref().map(Stored::from).as_ref());
            match &planned {
                Plan::Write => {}
                Plan::HeldByApi | Plan::HeldByObject(_) => {
                    return Ok(Applied { plan: planned, adopted: false, view: None });
                }
                Plan::Keep | Plan::Stale => {
                    let Some(row) = row else { return Err(nothing_there()) };
                    let view = Some(view(tx, row.id).await?);
                    return Ok(Applied { plan: planned, adopted: false, view });
                }
            }
            let adopted = row.as_ref().is_some_and(|row| !row.checked_out && row.held.is_none());
            let row = match row {
                Some(row) => {
                    match row.checked_out {
                        true => revive(tx, &row, wish.settings, &stored).await?,
                        false => {
                            edit(tx, &row, wish.settings, &stored).await?;
                        }
                    }
                    row
                }
                None => {
                    insert(tx, key, wish.settings, &stored).await?;
                    lock(tx, key).await?.ok_or_else(nothing_there)?
                }
            };
            suspend(tx, &row, wish).await?;
            own(tx, &row, wish).await?;
            Ok(Applied { plan: planned, adopted, view: Some(view(tx, row.id).await?) })
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

/// A row that was just written or read is gone: another transaction was in between.
fn nothing_there() -> StoreError {
    StoreError::Contended("the reservation changed meanwhile".into())
}

/// Takes the row away from its object.
async fn free(tx: &mut Tx, id: i64, reclaim: Reclaim, now_ms: i64) -> Result<()> {
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

/// Writes down who owns the row. What an earlier object of this name held is let go: it is gone.
async fn own(tx: &mut Tx, row: &Locked, wish: Wish<'_>) -> Result<()> {
    let object = wish.object;
    let others = "SELECT reservation_id, reclaim FROM kube_object WHERE cluster = ? AND namespace = ? AND name = ? \
                  AND reservation_id <> ?";
    for other in tx.all(named(sql(others), object).bind(row.id)).await? {
        let reclaim = Reclaim::parse(&other.try_get::<String, _>(1)?);
        free(tx, other.try_get(0)?, reclaim, row.now_ms).await?;
    }
    let known = tx.inner().dialect.upsert(
        "reservation_id",
        &["cluster", "namespace", "name", "uid", "generation", "reclaim", "suspended", "orphaned_ms"],
    );
    let text = format!(
        "INSERT INTO kube_object (reservation_id, cluster, namespace, name, uid, generation, reclaim, suspended, \
         orphaned_ms, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, ?){known}"
    );
    tx.run(
        named(sql(text).bind(row.id), object)
            .bind(object.uid.clone())
            .bind(wish.generation)
            .bind(wish.reclaim.as_str())
            .bind(i32::from(wish.suspend))
            .bind(row.now_ms),
    )
    .await?;
    Ok(())
}

/// Everything that an object shows of the row `id`.
async fn view(tx: &mut Tx, id: i64) -> Result<ObjectView> {
    let now_ms = tx.now_ms().await?;
    let text = format!(
        "SELECT {}, {HELD} FROM reservation r LEFT JOIN incident i ON i.reservation_id = r.id AND i.closed_ms IS NULL \
         JOIN kube_object o ON o.reservation_id = r.id WHERE r.id = ?",
        views::reservation_columns()
    );
    let Some(row) = tx.maybe(sql(text).bind(id)).await? else { return Err(nothing_there()) };
    let Some(held) = held(&row, views::RESERVATION_COLUMNS)? else { return Err(nothing_there()) };
    let mut alerts = Alerts::default();
    let told = "SELECT d.state, COUNT(*), MAX(CASE WHEN d.error IS NULL THEN 0 ELSE 1 END) FROM delivery d \
                WHERE d.incident_id = (SELECT i.id FROM incident i JOIN reservation r ON r.id = i.reservation_id \
                AND r.gen = i.gen WHERE i.reservation_id = ? ORDER BY i.opened_ms DESC LIMIT 1) GROUP BY d.state";
    for told in tx.all(sql(told).bind(id)).await? {
        alerts.add(&told.try_get::<String, _>(0)?, told.try_get(1)?, told.try_get::<i64, _>(2)? != 0);
    }
    Ok(ObjectView {
        reservation: views::reservation(&row)?,
        held,
        alerts,
        outages: super::outages::load(tx).await?,
        now_ms,
    })
}
