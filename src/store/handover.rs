//! Outbox rows that the replica which planned them could not address, and rows for alerters that nobody has.
//!
//! Promises: replicas may have different alerters. A row stays with the replicas that have its alerter, however
//! long these wait for its receiver; only when no live replica has it, the default alerters tell it instead, once.
//!
//! Races: two replicas hand the same row over: each first marks it as superseded where it is still waiting, one of
//! them changes a row, and the other inserts nothing.

use super::dialect::marks;
use super::error::Result;
use super::held::free;
use super::outbox::{NewDelivery, OutboxState, bury, clip, insert};
use super::session::{Rule, Session, Tx, sql, transact};
use crate::reservation::Notice;
use sqlx::Row;

/// A row nobody claimed for this long falls to the default alerters.
pub const ORPHAN_AFTER_MS: i64 = 60_000;

impl Session {
    /// Hands rows whose alerter no replica has claimed for a minute to others: `replace` says what to send
    /// instead. `known`: every alerter that a live replica has, this one included; rows of these are left alone
    /// however long they wait, as their owner is busy with them, or waits for a receiver that fails. Returns the
    /// names of the alerters nobody has.
    pub async fn adopt_orphans(
        &mut self,
        known: &[String],
        replace: impl Fn(&str, &Notice) -> Vec<NewDelivery>,
    ) -> Result<Vec<String>> {
        transact!(&mut *self, Rule::named("outbox_orphans"), |tx| {
            let now = tx.now_ms().await?;
            // A claim that ran out counts, too: whoever made it no longer has the alerter, or no longer runs.
            let mut query = sql(format!(
                "SELECT d.id, d.alerter, d.payload FROM delivery d WHERE d.alerter NOT IN ({}) \
                 AND ((d.state = 'pending' AND d.next_ms < ?) OR (d.state = 'inflight' AND d.claim_until_ms < ?)) \
                 AND NOT EXISTS (SELECT 1 FROM delivery e WHERE e.incident_id = d.incident_id \
                 AND e.alerter = d.alerter AND e.recipient = d.recipient \
                 AND e.event_no < d.event_no AND e.state IN ('pending', 'inflight')) \
                 AND {} ORDER BY d.id LIMIT 200",
                marks(known.len().max(1)),
                // Nobody could claim what was held.
                free(&tx.inner().now_expr(), ORPHAN_AFTER_MS)
            ));
            if known.is_empty() {
                query = query.bind("");
            }
            for name in known {
                query = query.bind(name.clone());
            }
            let before = now - ORPHAN_AFTER_MS;
            let mut names = Vec::new();
            for row in tx.all(query.bind(before).bind(before)).await? {
                let (id, alerter, payload): (i64, String, String) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                adopt(tx, now, id, &payload, |notice| replace(&alerter, notice)).await?;
                if !names.contains(&alerter) {
                    names.push(alerter);
                }
            }
            Ok(names)
        })
    }
}

/// Replaces one orphan, unless there is nothing to replace it with: then it stays, for everybody to see.
async fn adopt(
    tx: &mut Tx,
    now: i64,
    id: i64,
    payload: &str,
    replace: impl FnOnce(&Notice) -> Vec<NewDelivery>,
) -> Result<()> {
    let (state, why, rows) = match serde_json::from_str::<Notice>(payload) {
        Ok(notice) => {
            let why = "no replica has this alerter: told by the default alerters instead".to_owned();
            (OutboxState::Superseded, why, replace(&notice))
        }
        Err(e) => (OutboxState::Dead, format!("the stored notice cannot be read: {e}"), Vec::new()),
    };
    if rows.is_empty() && state == OutboxState::Superseded {
        return Ok(());
    }
    let text = "UPDATE delivery SET state = ?, done_ms = ?, error = ?, claim_token = NULL, claim_until_ms = NULL \
         WHERE id = ? AND (state = 'pending' OR (state = 'inflight' AND claim_until_ms < ?))";
    let query = sql(text).bind(state.as_str()).bind(now).bind(clip(&why)).bind(id);
    if tx.run(query.bind(now - ORPHAN_AFTER_MS)).await?.rows_affected() == 1 {
        insert(tx, now, &rows).await?;
    }
    Ok(())
}

/// Rows for an alerter that sends to addresses, planned by a replica without that alerter: it could not know that
/// there are addresses, and left the recipient empty. One row for each address takes their place.
pub(super) async fn spread(tx: &mut Tx, alerter: &str, fallback: &[String], now: i64) -> Result<()> {
    let text = "SELECT id, payload, grp FROM delivery WHERE state = 'pending' AND alerter = ? AND recipient = '' \
         AND next_ms <= ? ORDER BY id LIMIT 200";
    for row in tx.all(sql(text).bind(alerter.to_owned()).bind(now)).await? {
        let (id, payload): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let notice = match serde_json::from_str::<Notice>(&payload) {
            Ok(notice) => notice,
            Err(e) => {
                bury(tx, id, now, &e).await?;
                continue;
            }
        };
        let text = "UPDATE delivery SET state = 'superseded', done_ms = ?, error = ? WHERE id = ? AND state = 'pending'";
        let query = sql(text).bind(now).bind("told to each address").bind(id);
        if tx.run(query).await?.rows_affected() != 1 {
            continue;
        }
        let named: Vec<_> = notice.notify.iter().filter(|entry| entry.contains('@')).cloned().collect();
        let addresses = if named.is_empty() { fallback } else { &named };
        let group: Option<String> = row.try_get(2)?;
        let to = |recipient: &String| NewDelivery {
            alerter: alerter.to_owned(),
            recipient: recipient.clone(),
            notice: notice.clone(),
            not_before_ms: 0,
            group: group.clone(),
        };
        let rows: Vec<_> = addresses.iter().map(to).collect();
        insert(tx, now, &rows).await?;
    }
    Ok(())
}
