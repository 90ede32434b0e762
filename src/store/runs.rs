//! Runs that announced their start: found, begun and ended inside the check-in transaction, and looked at by
//! the evaluator.
//!
//! Promises: a client that leaves its runs open (a new run id with each start, none with the end) makes neither
//! a check-in nor an evaluation read more than it needs.

use super::checkins::{CheckIn, Targets, kind};
use super::decode::open_run;
use super::dialect::{CHUNK, by_bytes, chunks, chunks_of, marks};
use super::error::Result;
use super::session::{Tx, sql};
use crate::reservation::evidence::OpenRun;
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

/// Looks up the open runs that the items end, and only those: how many others a client left open does not
/// matter. Reservations that never told a start cost nothing.
pub(super) async fn find(tx: &mut Tx, items: &[(CheckIn, i64)], targets: &mut Targets<'_>) -> Result<()> {
    let mut wanted: BTreeMap<(i64, &str), &str> = BTreeMap::new();
    for (item, _) in items {
        let ends_run = matches!(item.kind, SignalKind::Ok | SignalKind::Fail);
        if let Some(target) = targets.get(item.rkey.as_str()).filter(|t| ends_run && t.uses_runs()) {
            wanted.insert((target.id(), &item.rid), &item.rkey);
        }
    }
    let pairs: Vec<(i64, &str)> = wanted.keys().copied().collect();
    for some in by_bytes(&pairs, |(_, rid)| rid.len() + 16).flat_map(|run| run.chunks(CHUNK)) {
        // Filled up, as in `checkins::lookup`: few texts to prepare.
        let places = some.len().next_power_of_two();
        let by_rid = tx.inner().dialect.by_index("run_rid");
        let mut query = sql(format!(
            "SELECT reservation_id, rid, started_ms FROM run{by_rid} WHERE ended_ms IS NULL AND ({})",
            vec!["(reservation_id = ? AND rid = ?)"; places].join(" OR ")
        ));
        for (id, rid) in some.iter().chain(std::iter::repeat_n(&some[some.len() - 1], places - some.len())) {
            query = query.bind(*id).bind((*rid).to_owned());
        }
        for row in tx.all(query).await? {
            let (id, rid): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            if let Some(target) = wanted.get(&(id, rid.as_str())).and_then(|rkey| targets.get_mut(*rkey)) {
                target.add_run(rid, row.try_get(2)?);
            }
        }
    }
    Ok(())
}

/// Of one reservation no more open runs than this are looked at at once.
pub(super) const OPEN_MAX: usize = 1000;

/// The open runs of these reservations, oldest first, of each at most the [`OPEN_MAX`] that were begun first.
pub(super) async fn open(tx: &mut Tx, ids: &[i64]) -> Result<BTreeMap<i64, Vec<OpenRun>>> {
    let mut open: BTreeMap<i64, Vec<OpenRun>> = BTreeMap::new();
    for range in chunks_of(32, ids.len()) {
        let by_open = tx.inner().dialect.by_index("run_open");
        // By id: the index holds them in that order, so that no more are read than wanted.
        let of = |n: usize| {
            format!(
                "SELECT * FROM (SELECT reservation_id, rid, started_ms FROM run{by_open} WHERE reservation_id = ? \
                 AND ended_ms IS NULL ORDER BY id LIMIT {OPEN_MAX}) r{n}"
            )
        };
        let parts: Vec<String> = (0..range.len()).map(of).collect();
        let mut query = sql(parts.join(" UNION ALL "));
        for id in &ids[range] {
            query = query.bind(*id);
        }
        for row in tx.all(query).await? {
            open.entry(row.try_get(0)?).or_default().push(open_run(&row, 1)?);
        }
    }
    open.values_mut().for_each(|runs| runs.sort_by_key(|run| run.started_ms));
    Ok(open)
}

/// Ends runs that are no longer waited for.
pub(super) async fn abandon(tx: &mut Tx, now: i64, reservation_id: i64, rids: &[String]) -> Result<()> {
    for range in chunks(rids.len()) {
        let by_rid = tx.inner().dialect.by_index("run_rid");
        let mut query = sql(format!(
            "UPDATE run{by_rid} SET ended_ms = ?, outcome = 'abandoned' WHERE reservation_id = ? AND rid IN ({})",
            marks(range.len())
        ))
        .bind(now)
        .bind(reservation_id);
        for rid in &rids[range] {
            query = query.bind(rid.clone());
        }
        tx.run(query).await?;
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
