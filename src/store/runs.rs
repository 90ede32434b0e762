//! Runs that announced their start: found, begun and ended inside the check-in transaction.

use super::checkins::{CheckIn, Targets, kind};
use super::dialect::{chunks, marks};
use super::error::Result;
use super::session::{Tx, sql};
use crate::reservation::{Signal, SignalKind};
use sqlx::Row;
use std::collections::BTreeMap;

/// One change of a run.
pub(super) struct Write {
    reservation_id: i64,
    rid: String,
    started_ms: i64,
    ended_ms: Option<i64>,
    outcome: Option<&'static str>,
    exit_code: Option<u8>,
}

impl Write {
    pub(super) fn start(reservation_id: i64, signal: &Signal) -> Self {
        Self {
            reservation_id,
            rid: signal.rid.clone(),
            started_ms: signal.at_ms,
            ended_ms: None,
            outcome: None,
            exit_code: None,
        }
    }

    pub(super) fn end(reservation_id: i64, signal: &Signal, started_ms: i64) -> Self {
        Self {
            reservation_id,
            rid: signal.rid.clone(),
            started_ms,
            ended_ms: Some(signal.at_ms),
            outcome: Some(kind(signal.kind)),
            exit_code: signal.exit_code,
        }
    }
}

/// Looks up the open runs that the items may end. Reservations that never told a start cost nothing.
pub(super) async fn find(tx: &mut Tx, items: &[(CheckIn, i64)], targets: &mut Targets<'_>) -> Result<()> {
    let mut wanted: Vec<i64> = items
        .iter()
        .filter(|(item, _)| matches!(item.kind, SignalKind::Ok | SignalKind::Fail))
        .filter_map(|(item, _)| {
            targets.get(item.rkey.as_str()).filter(|t| t.uses_runs()).map(super::checkins::Target::id)
        })
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut open: BTreeMap<i64, Vec<(String, i64)>> = BTreeMap::new();
    for range in chunks(wanted.len()) {
        let mut query = sql(format!(
            "SELECT reservation_id, rid, started_ms FROM run WHERE ended_ms IS NULL AND reservation_id IN ({})",
            marks(range.len())
        ));
        for id in &wanted[range] {
            query = query.bind(*id);
        }
        for row in tx.all(query).await? {
            open.entry(row.try_get(0)?).or_default().push((row.try_get(1)?, row.try_get(2)?));
        }
    }
    for target in targets.values_mut() {
        for (rid, started_ms) in open.remove(&target.id()).unwrap_or_default() {
            target.add_run(rid, started_ms);
        }
    }
    Ok(())
}

/// Writes the changes; the last one of a run wins. A run id used again is a new run in the same row.
pub(super) async fn write(tx: &mut Tx, writes: &[Write]) -> Result<()> {
    let mut last: BTreeMap<(i64, &str), &Write> = BTreeMap::new();
    for write in writes {
        last.insert((write.reservation_id, &write.rid), write);
    }
    let writes: Vec<&Write> = last.into_values().collect();
    let upsert =
        tx.inner().dialect.upsert("reservation_id, rid", &["started_ms", "ended_ms", "outcome", "exit_code"]);
    for range in chunks(writes.len()) {
        let mut query = sql(format!(
            "INSERT INTO run (reservation_id, rid, started_ms, ended_ms, outcome, exit_code) VALUES {}{upsert}",
            vec!["(?, ?, ?, ?, ?, ?)"; range.len()].join(", ")
        ));
        for write in &writes[range] {
            query = query
                .bind(write.reservation_id)
                .bind(write.rid.clone())
                .bind(write.started_ms)
                .bind(write.ended_ms)
                .bind(write.outcome)
                .bind(write.exit_code.map(i64::from));
        }
        tx.run(query).await?;
    }
    Ok(())
}
