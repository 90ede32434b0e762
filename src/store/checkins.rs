//! The write path's one transaction.
//!
//! Promises: every item of a batch is answered on its own: stored, unknown, or refused; times are the
//! database's time of receipt (its `now` minus the item's wait in our queue), so neither a client's nor
//! a replica's clock matters. Rows are locked in the order of their keys, so two batches never deadlock
//! on each other.
//!
//! Cost: a check-in of an on-time row touches no index of `reservation`: `due_ms` stays, as a lower bound.

use super::decode::{MERGED, merged};
use super::dialect::{CHUNK, Dialect, by_bytes, chunks, marks, number};
use super::error::Result;
use super::runs;
use super::session::{Rule, Session, Tx, sql, transact};
use crate::clock;
use crate::reservation::{Evidence, JobKey, Signal, SignalKind, State};
use sqlx::Row;
use std::collections::BTreeMap;

/// One check-in to store.
#[derive(Debug, Clone)]
pub struct CheckIn {
    /// Key of the reservation's row.
    pub rkey: String,
    /// What it says.
    pub kind: SignalKind,
    /// Exit code, if told.
    pub exit_code: Option<u8>,
    /// Run id; "" when none was given.
    pub rid: String,
    /// Notes or output: at most 10 kB, the last bytes, any encoding.
    pub note: Option<Vec<u8>>,
}

impl CheckIn {
    /// A check-in for `key`.
    pub fn new(key: &JobKey, kind: SignalKind) -> Self {
        Self { rkey: key.digest(), kind, exit_code: None, rid: String::new(), note: None }
    }
}

/// A check-in that is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Time of receipt by the database's clock.
    pub at_ms: i64,
}

/// A check-in that was not stored, while the batch was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No such reservation, or it is checked out.
    NotFound,
}

/// A reservation as the write path sees it.
pub(super) struct Target {
    id: i64,
    state: State,
    max_runtime_ms: Option<i64>,
    due_ms: i64,
    uses_runs: bool,
    evidence: Evidence,
    /// Runs looked up so far: rid → start.
    runs: BTreeMap<String, i64>,
    wakes: bool,
    /// Whether more has changed than [`ON_TIME`].
    whole: bool,
}

/// What a check-in of a job that runs well changes.
const ON_TIME: [&str; 4] = ["last_ok_ms", "last_ok_started_ms", "last_seen_ms", "checkins"];

/// Five round trips or six, and three or four more on a new connection. A little longer than a client waits: one whose
/// check-in is stored too late for its answer repeats it, and finds a connection that is ready. A silent network is
/// not waited for as long. A connection is made apart, so that the next batch finds it. Tried as often as the time
/// allows: on Galera, writers on two nodes meet at COMMIT only, and one of them always loses.
const RULE: Rule = Rule::named("checkin")
    .within(std::time::Duration::from_secs(6))
    .each_within(std::time::Duration::from_secs(4))
    .tries(40)
    .connecting_apart();

impl Session {
    /// Stores `items` (each with its wait in our queue, in milliseconds) in one transaction. The answer has
    /// one entry an item, in order.
    ///
    /// # Errors
    /// With any error nothing is known to be stored. [`super::StoreError::Data`]: one of the items is at
    /// fault; write them one by one.
    pub async fn write_checkins(
        &mut self,
        items: &[(CheckIn, i64)],
    ) -> Result<Vec<std::result::Result<Accepted, Refused>>> {
        let called_us = clock::boot_us();
        // In a batch the long look-up is the quicker the less is said with it.
        let rule = if items.len() == 1 { RULE.in_few_trips() } else { RULE };
        transact!(&mut *self, rule, |tx| {
            // Connecting, the write turn and earlier tries took time, too: receipt was before all of them.
            let spent_ms = (clock::boot_us() - called_us) / 1000;
            write(tx, items, spent_ms).await
        })
    }
}

async fn write(
    tx: &mut Tx,
    items: &[(CheckIn, i64)],
    spent_ms: i64,
) -> Result<Vec<std::result::Result<Accepted, Refused>>> {
    let (now, mut targets) = lookup(tx, items).await?;
    runs::find(tx, items, &mut targets).await?;
    let mut answers = Vec::with_capacity(items.len());
    let mut history = Vec::with_capacity(items.len());
    let mut run_writes = Vec::new();
    for (index, (item, waited_ms)) in items.iter().enumerate() {
        let Some(target) = targets.get_mut(item.rkey.as_str()) else {
            answers.push(Err(Refused::NotFound));
            continue;
        };
        let at_ms = now - waited_ms.max(&0) - spent_ms;
        let signal = Signal { kind: item.kind, at_ms, exit_code: item.exit_code, rid: item.rid.clone() };
        // Written before the clock was set back: else this one would look older than that.
        target.whole |= target.evidence.clamp(now, at_ms);
        apply(target, &signal, &mut run_writes);
        history.push((index, target.id, at_ms));
        answers.push(Ok(Accepted { at_ms }));
    }
    let changed: Vec<&Target> = targets.values().collect();
    if let ([(index, id, at_ms)], [target], true) = (&history[..], &changed[..], run_writes.is_empty())
        && let Some(row) =
            target.on_time().filter(|_| tx.inner().dialect == Dialect::Sqlite && !target.is_due())
    {
        write_one(tx, &items[*index].0, *id, *at_ms, &row).await?;
        return Ok(answers);
    }
    insert_history(tx, items, &history).await?;
    runs::write(tx, &run_writes).await?;
    update(tx, &changed).await?;
    Ok(answers)
}

/// A lone check-in of a job that is on time, on SQLite: both writes and their COMMIT in one trip.
async fn write_one(tx: &mut Tx, item: &CheckIn, id: i64, at_ms: i64, row: &[i64; 5]) -> Result<()> {
    let set = ON_TIME.map(|column| format!("{column} = ?")).join(", ");
    let mut query = sql(format!(
        "INSERT INTO checkin (reservation_id, at_ms, kind, exit_code, rid, note) VALUES (?, ?, ?, ?, ?, ?); \
         UPDATE reservation SET {set} WHERE id = ?; COMMIT"
    ))
    .bind(id)
    .bind(at_ms)
    .bind(kind(item.kind))
    .bind(item.exit_code.map(i64::from))
    .bind((!item.rid.is_empty()).then(|| item.rid.clone()))
    .bind(item.note.clone());
    let [id, values @ ..] = row;
    for value in values {
        query = query.bind(*value);
    }
    tx.run_last(query.bind(*id)).await
}

/// Merges one signal into a reservation, and notes what happens to its run.
fn apply(target: &mut Target, signal: &Signal, run_writes: &mut Vec<runs::Write>) {
    let ends_run = matches!(signal.kind, SignalKind::Ok | SignalKind::Fail);
    let started_ms = if ends_run { target.runs.remove(&signal.rid) } else { None };
    let failures = |e: &Evidence| (e.last_fail_ms, e.last_exit_code, e.fails);
    let before = failures(&target.evidence);
    target.evidence.merge(signal, started_ms);
    target.whole |= before != failures(&target.evidence);
    match signal.kind {
        SignalKind::Start => {
            target.whole |= !target.uses_runs;
            target.uses_runs = true;
            target.runs.insert(signal.rid.clone(), signal.at_ms);
            run_writes.push(runs::Write::start(target.id, signal));
            if let Some(limit) = target.max_runtime_ms {
                target.due_ms = target.due_ms.min(signal.at_ms.saturating_add(limit).saturating_add(1));
            }
        }
        SignalKind::Ok | SignalKind::Fail => {
            if let Some(started_ms) = started_ms {
                run_writes.push(runs::Write::end(target.id, signal, started_ms));
            }
        }
        SignalKind::Log => {}
    }
    // Whatever is not plainly on time wants the evaluator's eye within a second. (A start may begin the run
    // anew that an incident is about.)
    target.wakes |= match signal.kind {
        SignalKind::Fail => true,
        SignalKind::Ok => target.state != State::OnTime,
        SignalKind::Start => !matches!(target.state, State::OnTime | State::Waiting),
        SignalKind::Log => false,
    };
}

/// Finds and locks the reservations, and reads the database's clock, in one statement.
async fn lookup<'i>(tx: &mut Tx, items: &'i [(CheckIn, i64)]) -> Result<(i64, BTreeMap<&'i str, Target>)> {
    let mut keys: Vec<&str> = items.iter().map(|(item, _)| item.rkey.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut targets = BTreeMap::new();
    let mut now_ms = None;
    for keys_here in keys.chunks(CHUNK) {
        // A list filled up to a power of two with its last key finds the same rows: one statement a batch, and
        // few texts to prepare.
        let places = keys_here.len().next_power_of_two();
        let filling = std::iter::repeat_n(keys_here[keys_here.len() - 1], places - keys_here.len());
        let (now, by_key, for_update) =
            (tx.inner().now_expr(), tx.inner().dialect.by_key(), tx.inner().dialect.for_update());
        let opening = tx.opening();
        let mut query = sql(format!(
            "{opening}SELECT {now} AS now_ms, rkey, id, state, max_runtime_ms, due_ms, uses_runs, {MERGED} \
             FROM reservation{by_key} WHERE rkey IN ({}) AND checked_out_ms IS NULL ORDER BY rkey{for_update}",
            marks(places)
        ));
        for key in keys_here.iter().copied().chain(filling) {
            query = query.bind(key.to_owned());
        }
        for row in tx.all(query).await? {
            now_ms = Some(now_ms.unwrap_or(0).max(row.try_get::<i64, _>(0)?));
            let rkey: String = row.try_get(1)?;
            let Ok(found) = keys.binary_search(&rkey.as_str()) else { continue };
            let target = Target {
                id: row.try_get(2)?,
                // A word that cannot be read is the evaluator's to mend; it must not fail the others' check-ins.
                state: State::parse(&row.try_get::<String, _>(3)?).unwrap_or(State::Waiting),
                max_runtime_ms: row.try_get(4)?,
                due_ms: row.try_get(5)?,
                uses_runs: row.try_get::<i64, _>(6)? != 0,
                evidence: merged(&row, 7)?,
                runs: BTreeMap::new(),
                wakes: false,
                whole: false,
            };
            targets.insert(keys[found], target);
        }
    }
    // With no row found there is nothing to stamp.
    Ok((now_ms.unwrap_or(0), targets))
}

async fn insert_history(tx: &mut Tx, items: &[(CheckIn, i64)], rows: &[(usize, i64, i64)]) -> Result<()> {
    if let Some(insert) = tx.inner().json_insert("checkin", &["reservation_id", "at_ms"], "kind")
        && rows.len() > FEW
    {
        let (plain, told): (Vec<_>, Vec<_>) = rows.iter().copied().partition(|(index, ..)| {
            let item = &items[*index].0;
            item.exit_code.is_none() && item.rid.is_empty() && item.note.is_none()
        });
        // The ids of one reservation's rows must keep the order in which they came.
        let ids: std::collections::BTreeSet<i64> = told.iter().map(|(_, id, _)| *id).collect();
        if plain.iter().any(|(_, id, _)| ids.contains(id)) {
            return insert_told(tx, items, rows).await;
        }
        for rows in plain.chunks(CHUNK) {
            let rows: Vec<String> = rows
                .iter()
                .map(|(index, id, at)| format!("[{id},{at},\"{}\"]", kind(items[*index].0.kind)))
                .collect();
            tx.run(sql(insert.clone()).bind(format!("[{}]", rows.join(",")))).await?;
        }
        return insert_told(tx, items, &told).await;
    }
    insert_told(tx, items, rows).await
}

/// History rows with whatever was told: exit code, run id, notes.
async fn insert_told(tx: &mut Tx, items: &[(CheckIn, i64)], rows: &[(usize, i64, i64)]) -> Result<()> {
    for rows in by_bytes(rows, |(index, ..)| row_bytes(&items[*index].0)) {
        for range in chunks(rows.len()) {
            let mut query = sql(format!(
                "INSERT INTO checkin (reservation_id, at_ms, kind, exit_code, rid, note) VALUES {}",
                vec!["(?, ?, ?, ?, ?, ?)"; range.len()].join(", ")
            ));
            for (index, id, at_ms) in &rows[range] {
                let item = &items[*index].0;
                query = query
                    .bind(*id)
                    .bind(*at_ms)
                    .bind(kind(item.kind))
                    .bind(item.exit_code.map(i64::from))
                    .bind((!item.rid.is_empty()).then(|| item.rid.clone()))
                    .bind(item.note.clone());
            }
            tx.run(query).await?;
        }
    }
    Ok(())
}

/// About what a history row takes on its way.
fn row_bytes(item: &CheckIn) -> usize {
    48 + item.rid.len() + item.note.as_ref().map_or(0, Vec::len)
}

async fn update(tx: &mut Tx, targets: &[&Target]) -> Result<()> {
    let dialect = tx.inner().dialect;
    let (mut on_time, mut whole) = (Vec::with_capacity(targets.len()), Vec::new());
    for target in targets {
        match target.on_time() {
            Some(row) => on_time.push(row),
            None => whole.push(*target),
        }
    }
    update_on_time(tx, &on_time).await?;
    update_whole(tx, &whole).await?;
    // By itself, as `due_ms` is indexed: of most rows it stays.
    let due: Vec<(i64, i64)> = targets
        .iter()
        .filter(|t| t.is_due())
        // A start may bring the next moment of attention forward.
        .map(|t| (t.id, if t.wakes { 0 } else { t.due_ms }))
        .collect();
    for range in chunks(due.len()) {
        let mut query = sql(dialect.bulk_update("reservation", &[number("due_ms")], range.len()));
        for (id, due_ms) in &due[range] {
            query = query.bind(*id).bind(*due_ms);
        }
        tx.run(query).await?;
    }
    Ok(())
}

/// Up to so many rows one by one are quicker than all in one statement.
const FEW: usize = 3;

/// Rows of which only [`ON_TIME`] has changed.
async fn update_on_time(tx: &mut Tx, rows: &[[i64; 5]]) -> Result<()> {
    // A lone client's batch: the plainest statement is the quickest.
    if rows.len() <= FEW {
        for [id, values @ ..] in rows {
            let set = ON_TIME.map(|column| format!("{column} = ?")).join(", ");
            let mut query = sql(format!("UPDATE reservation SET {set} WHERE id = ?"));
            for value in values {
                query = query.bind(*value);
            }
            tx.run(query.bind(*id)).await?;
        }
        return Ok(());
    }
    let dialect = tx.inner().dialect;
    if let Some(text) = tx.inner().json_update("reservation", &ON_TIME) {
        for rows in rows.chunks(CHUNK) {
            let rows: Vec<String> = rows.iter().map(|r| format!("{r:?}")).collect();
            tx.run(sql(text.clone()).bind(format!("[{}]", rows.join(",")))).await?;
        }
        return Ok(());
    }
    for range in chunks(rows.len()) {
        let mut query = sql(dialect.bulk_update("reservation", &ON_TIME.map(number), range.len()));
        for value in rows[range].iter().flatten() {
            query = query.bind(*value);
        }
        tx.run(query).await?;
    }
    Ok(())
}

async fn update_whole(tx: &mut Tx, targets: &[&Target]) -> Result<()> {
    const COLUMNS: [super::dialect::Column; 8] = [
        number("last_ok_ms"),
        number("last_ok_started_ms"),
        number("last_fail_ms"),
        number("last_exit_code"),
        number("fails"),
        number("last_seen_ms"),
        number("checkins"),
        number("uses_runs"),
    ];
    for range in chunks(targets.len()) {
        let mut query = sql(tx.inner().dialect.bulk_update("reservation", &COLUMNS, range.len()));
        for target in &targets[range] {
            let e = &target.evidence;
            query = query
                .bind(target.id)
                .bind(e.last_ok_ms)
                .bind(e.last_ok_started_ms)
                .bind(e.last_fail_ms)
                .bind(e.last_exit_code.map(i64::from))
                .bind(e.fails)
                .bind(e.last_seen_ms)
                .bind(e.checkins)
                .bind(i64::from(target.uses_runs));
        }
        tx.run(query).await?;
    }
    Ok(())
}

/// The database's word for a kind.
pub(super) fn kind(kind: SignalKind) -> &'static str {
    match kind {
        SignalKind::Start => "start",
        SignalKind::Ok => "ok",
        SignalKind::Fail => "fail",
        SignalKind::Log => "log",
    }
}

impl Target {
    /// The row's id and [`ON_TIME`], if nothing else has changed.
    fn on_time(&self) -> Option<[i64; 5]> {
        let e = &self.evidence;
        match (e.last_ok_ms, e.last_ok_started_ms, e.last_seen_ms) {
            (Some(ok), Some(started), Some(seen)) if !self.whole => {
                Some([self.id, ok, started, seen, e.checkins])
            }
            _ => None,
        }
    }

    /// Whether `due_ms` has to be written.
    fn is_due(&self) -> bool {
        self.wakes || (self.uses_runs && self.max_runtime_ms.is_some())
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }

    pub(super) fn uses_runs(&self) -> bool {
        self.uses_runs
    }

    pub(super) fn add_run(&mut self, rid: String, started_ms: i64) {
        self.runs.insert(rid, started_ms);
    }
}

pub(super) type Targets<'i> = BTreeMap<&'i str, Target>;
