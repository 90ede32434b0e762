//! The open incidents of a batch, and what was told of them.
//!
//! Promises: what is brought here from the database does not grow with the number of reminders: rows that wait or
//! are being sent come singly, finished ones in groups.

use super::decode::{OPEN_INCIDENT, open_incident};
use super::dialect::{chunks, marks};
use super::error::Result;
use super::evaluate::{Digested, Open, Subject, Told, open_key};
use super::outbox::OutboxState;
use super::session::{Tx, sql};
use crate::reservation::Event;
use sqlx::Row;
use std::collections::BTreeMap;

/// The outbox rows of these incidents, each with the digest whose alert may stand for it.
const TOLD: &str = "SELECT incident_id, MAX(id), alerter, recipient, event, state, MAX(attempts), alert FROM \
     (SELECT incident_id, id, alerter, recipient, event, state, attempts, \
     CASE WHEN event = 'remind' THEN NULL ELSE digest END AS alert, \
     CASE WHEN state IN ('pending', 'inflight') THEN id ELSE 0 END AS single FROM delivery \
     WHERE incident_id IN";
/// Its other half.
const TOLD_BY: &str = ") d GROUP BY incident_id, alerter, recipient, event, state, alert, single";

/// Locks the open incidents of these reservations, and fills them in. Returns the digests that stand for them.
pub(super) async fn load(
    tx: &mut Tx,
    ids: &[i64],
    subjects: &mut BTreeMap<i64, Subject>,
) -> Result<BTreeMap<String, Digested>> {
    let mut incidents: Vec<String> = Vec::new();
    for range in chunks(ids.len()) {
        let keys: Vec<String> = ids[range].iter().map(|id| format!("'{}'", open_key(*id))).collect();
        let text = format!("SELECT id FROM incident WHERE open_key IN ({})", keys.join(", "));
        for row in tx.all_plain(text).await? {
            incidents.push(row.try_get(0)?);
        }
    }
    // Locked, and in this order, as `outbox::fold` does: what is folded meanwhile is seen, or not folded.
    incidents.sort_unstable();
    let mut open: BTreeMap<String, i64> = BTreeMap::new();
    for range in chunks(incidents.len()) {
        let for_update = tx.inner().dialect.for_update();
        let mut query = sql(format!(
            "SELECT id, reservation_id, gen, dedup_key, {OPEN_INCIDENT} FROM incident WHERE id IN ({}) \
             ORDER BY id{for_update}",
            marks(range.len())
        ));
        for id in &incidents[range] {
            query = query.bind(id.clone());
        }
        for row in tx.all(query).await? {
            let (id, of): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let Some(subject) = subjects.get_mut(&of) else { continue };
            match open_incident(&row, 4) {
                Ok(incident) => {
                    subject.open = Some(Open {
                        id: id.clone(),
                        generation: row.try_get(2)?,
                        dedup_key: row.try_get(3)?,
                        incident,
                        told: Vec::new(),
                    });
                    open.insert(id, of);
                }
                Err(e) => subject.settings = Err(e.to_string()),
            }
        }
    }
    let mut digests = BTreeMap::new();
    for range in chunks(incidents.len()) {
        let mut query = sql(format!("{TOLD} ({}) {TOLD_BY} ORDER BY 2", marks(range.len())));
        for id in &incidents[range] {
            query = query.bind(id.clone());
        }
        for row in tx.all(query).await? {
            let (event, state): (String, String) = (row.try_get(4)?, row.try_get(5)?);
            let (Some(event), Some(state)) = (Event::parse(&event), OutboxState::parse(&state)) else {
                continue;
            };
            let told = Told {
                id: row.try_get(1)?,
                alerter: row.try_get(2)?,
                recipient: row.try_get(3)?,
                event,
                state,
                attempts: row.try_get(6)?,
                digest: row.try_get(7)?,
            };
            if let Some(digest) = &told.digest {
                digests.insert(digest.clone(), Digested::default());
            }
            let subject = open.get(&row.try_get::<String, _>(0)?).and_then(|id| subjects.get_mut(id));
            if let Some(open) = subject.and_then(|s| s.open.as_mut()) {
                open.told.push(told);
            }
        }
    }
    load_digests(tx, &mut digests).await?;
    Ok(digests)
}

/// How many open incidents each digest stands for, and whether it arrived.
async fn load_digests(tx: &mut Tx, digests: &mut BTreeMap<String, Digested>) -> Result<()> {
    let ids: Vec<String> = digests.keys().cloned().collect();
    for range in chunks(ids.len()) {
        let marks = marks(range.len());
        let mut members = sql(format!(
            "SELECT d.digest, COUNT(DISTINCT i.id) FROM delivery d JOIN incident i ON i.id = d.incident_id \
             WHERE d.digest IN ({marks}) AND i.closed_ms IS NULL GROUP BY d.digest"
        ));
        let mut lost = sql(format!(
            "SELECT incident_id FROM delivery WHERE incident_id IN ({marks}) AND state IN ('dead', 'superseded')"
        ));
        for id in &ids[range] {
            members = members.bind(id.clone());
            lost = lost.bind(id.clone());
        }
        for row in tx.all(members).await? {
            if let Some(digest) = digests.get_mut(&row.try_get::<String, _>(0)?) {
                digest.open = row.try_get(1)?;
            }
        }
        for row in tx.all(lost).await? {
            if let Some(digest) = digests.get_mut(&row.try_get::<String, _>(0)?) {
                digest.given_up = true;
            }
        }
    }
    Ok(())
}
