//! One row a replica, moved each second.
//!
//! Promises: only the process whose incarnation stands in a row moves it; a row is taken over from another
//! incarnation by compare-and-set on what was seen of it, so of two processes of one id one has it; a row
//! leaves by [`Session::leave`] or [`Store::forget`] and in no other way.
//!
//! Does not promise: that whoever has a row lives. Watchers judge by whether it moves (`peers::verdict`).
//!
//! Races: two processes of one id start at once: one inserts, the other finds the row and is its rival. A
//! process that was frozen while its row was taken over: its next beat matches no row, and it is the rival.

use super::Store;
use super::error::Result;
use super::lease::COORDINATOR;
use super::session::{Rule, Session, Tx, sql, transact};
use super::views::LeaseView;
use crate::reservation::routing::Card;
use sqlx::Row;
use sqlx::any::AnyRow;
use std::time::Duration;

/// How long one beat may take, connecting included: the next one is due a second later.
const BEAT_LIMIT: Duration = Duration::from_secs(2);

/// A row as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRow {
    /// The replica's id.
    pub id: String,
    /// Random per process.
    pub incarnation: String,
    /// Raised with each beat.
    pub seq: i64,
    /// Ages by the database's clock: of the last beat, of the process.
    pub beat_age_ms: i64,
    /// See above.
    pub started_age_ms: i64,
    /// Age of its last look at all others; None: it never looked.
    pub watch_age_ms: Option<i64>,
    /// Age of the last beat of a second process of this id; None: never.
    pub rival_age_ms: Option<i64>,
    /// Its version.
    pub version: String,
    /// The alerters that it has.
    pub alerters: Vec<Card>,
    /// JSON: replica id -> its verdict.
    pub view: String,
}

/// What a replica says of itself with each beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnBeat {
    /// Its id.
    pub id: String,
    /// Random per process.
    pub incarnation: String,
    /// The alerters that it has.
    pub alerters: Vec<Card>,
    /// JSON: replica id -> its verdict.
    pub view: String,
    /// Age of its last look at all others.
    pub watch_age_ms: Option<i64>,
}

/// What to do with a row that is another incarnation's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Leave it alone.
    No,
    /// Take it if its last beat is older than this by the database's clock.
    OlderThan(i64),
    /// Take it if it is still exactly this one.
    From {
        /// Whose.
        incarnation: String,
        /// At which beat.
        seq: i64,
    },
    /// Say in it that a second process uses its id.
    Rival,
}

/// What the database shows in one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// All rows, ordered by id.
    pub rows: Vec<ReplicaRow>,
    /// Identity of the installation that this database holds now.
    pub install_id: String,
    /// The database's clock.
    pub now_ms: i64,
    /// Who coordinates.
    pub lease: Option<LeaseView>,
    /// Age of the oldest notice that waits, if it was asked for.
    pub outbox_oldest_ms: Option<i64>,
}

const COLUMNS: &str =
    "replica_id, incarnation, seq, beat_ms, started_ms, watch_ms, rival_ms, version, alerters, view";

impl Session {
    /// Moves the own row, making or claiming it if need be, and reads all. Whose the own row is stands in
    /// the roll.
    pub async fn beat(&mut self, own: &OwnBeat, claim: &Claim, with_outbox: bool) -> Result<Roll> {
        transact!(&mut *self, Rule::named("replica_beat").within(BEAT_LIMIT).tries(2), |tx| {
            let now = tx.now_ms().await?;
            if !move_own(tx, now, own).await? && !take(tx, now, own, claim).await? {
                let known = "SELECT seq FROM replica WHERE replica_id = ?";
                match tx.maybe(sql(known).bind(own.id.clone())).await? {
                    None => insert(tx, now, own).await?,
                    Some(_) if *claim == Claim::Rival => {
                        let rival =
                            "UPDATE replica SET rival_ms = ? WHERE replica_id = ? AND incarnation <> ?";
                        let rival = sql(rival).bind(now).bind(own.id.clone());
                        tx.run(rival.bind(own.incarnation.clone())).await?;
                    }
                    Some(_) => {}
                }
            }
            roll(tx, now, with_outbox).await
        })
    }

    /// Leaves in order: deletes the own row. False: it was another incarnation's, or gone.
    pub async fn leave(&mut self, id: &str, incarnation: &str) -> Result<bool> {
        transact!(&mut *self, Rule::named("replica_leave").within(BEAT_LIMIT).tries(2), |tx| {
            let text = "DELETE FROM replica WHERE replica_id = ? AND incarnation = ?";
            let done = tx.run(sql(text).bind(id.to_owned()).bind(incarnation.to_owned())).await?;
            Ok(done.rows_affected() > 0)
        })
    }
}

impl Store {
    /// All rows, ordered by id.
    pub async fn replicas(&self) -> Result<Vec<ReplicaRow>> {
        transact!(self.pooled().await?, Rule::reading("replicas"), |tx| {
            let now = tx.now_ms().await?;
            rows(tx, now).await
        })
    }

    /// Removes a row, whoever has it. False: there was none. A replica that lives makes it again at once.
    pub async fn forget(&self, id: &str) -> Result<bool> {
        transact!(self.pooled().await?, Rule::named("replica_forget"), |tx| {
            let done = tx.run(sql("DELETE FROM replica WHERE replica_id = ?").bind(id.to_owned())).await?;
            Ok(done.rows_affected() > 0)
        })
    }
}

/// `watch_ms` of an age.
fn watch_ms(now: i64, own: &OwnBeat) -> i64 {
    own.watch_age_ms.map_or(0, |age| now - age)
}

async fn move_own(tx: &mut Tx, now: i64, own: &OwnBeat) -> Result<bool> {
    let text = "UPDATE replica SET seq = seq + 1, beat_ms = ?, watch_ms = ?, view = ? \
                WHERE replica_id = ? AND incarnation = ?";
    let update = sql(text)
        .bind(now)
        .bind(watch_ms(now, own))
        .bind(own.view.clone())
        .bind(own.id.clone())
        .bind(own.incarnation.clone());
    Ok(tx.run(update).await?.rows_affected() == 1)
}

async fn take(tx: &mut Tx, now: i64, own: &OwnBeat, claim: &Claim) -> Result<bool> {
    let (condition, incarnation, number) = match claim {
        Claim::No | Claim::Rival => return Ok(false),
        Claim::OlderThan(ms) => ("incarnation <> ? AND beat_ms < ?", own.incarnation.clone(), now - ms),
        Claim::From { incarnation, seq } => ("incarnation = ? AND seq = ?", incarnation.clone(), *seq),
    };
    let text = format!(
        "UPDATE replica SET incarnation = ?, seq = seq + 1, beat_ms = ?, started_ms = ?, watch_ms = ?, rival_ms = 0, \
         version = ?, alerters = ?, view = ? WHERE replica_id = ? AND {condition}"
    );
    let update = sql(text)
        .bind(own.incarnation.clone())
        .bind(now)
        .bind(now)
        .bind(watch_ms(now, own))
        .bind(version())
        .bind(cards(own))
        .bind(own.view.clone())
        .bind(own.id.clone())
        .bind(incarnation)
        .bind(number);
    Ok(tx.run(update).await?.rows_affected() == 1)
}

async fn insert(tx: &mut Tx, now: i64, own: &OwnBeat) -> Result<()> {
    let text = format!("INSERT INTO replica ({COLUMNS}) VALUES (?, ?, 1, ?, ?, ?, 0, ?, ?, ?)");
    let insert = sql(text)
        .bind(own.id.clone())
        .bind(own.incarnation.clone())
        .bind(now)
        .bind(now)
        .bind(watch_ms(now, own))
        .bind(version())
        .bind(cards(own))
        .bind(own.view.clone());
    tx.run(insert).await?;
    Ok(())
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").chars().take(32).collect()
}

fn cards(own: &OwnBeat) -> String {
    // Strings and booleans: there is nothing that JSON could not hold.
    serde_json::to_string(&own.alerters).unwrap_or_default()
}

async fn roll(tx: &mut Tx, now: i64, with_outbox: bool) -> Result<Roll> {
    let text = "SELECT m.install_id, l.term, l.holder, l.renewed_ms, l.eval_ms, l.lease_ms FROM meta m \
                LEFT JOIN lease l ON l.scope = ? WHERE m.id = 1";
    let row = tx.one(sql(text).bind(COORDINATOR)).await?;
    let lease = match row.try_get::<Option<i64>, _>(1)? {
        None => None,
        Some(term) => {
            let eval: i64 = row.try_get(4)?;
            Some(LeaseView {
                term,
                holder: row.try_get(2)?,
                age_ms: now - row.try_get::<i64, _>(3)?,
                lease_ms: row.try_get(5)?,
                eval_age_ms: (eval > 0).then_some(now - eval),
            })
        }
    };
    let install_id = row.try_get(0)?;
    let outbox_oldest_ms = match with_outbox {
        false => None,
        true => {
            let oldest = "SELECT MIN(CASE WHEN attempts > 0 THEN created_ms ELSE next_ms END) \
                          FROM delivery WHERE state IN ('pending', 'inflight')";
            let since: Option<i64> = tx.one(sql(oldest)).await?.try_get(0)?;
            since.map(|since| (now - since).max(0))
        }
    };
    Ok(Roll { rows: rows(tx, now).await?, install_id, now_ms: now, lease, outbox_oldest_ms })
}

async fn rows(tx: &mut Tx, now: i64) -> Result<Vec<ReplicaRow>> {
    let text = format!("SELECT {COLUMNS} FROM replica ORDER BY replica_id");
    tx.all(sql(text)).await?.iter().map(|row| read(row, now)).collect()
}

fn read(row: &AnyRow, now: i64) -> Result<ReplicaRow> {
    let age = |at: usize| -> Result<Option<i64>> {
        let ms: i64 = row.try_get(at)?;
        Ok((ms > 0).then_some(now - ms))
    };
    let alerters: String = row.try_get(8)?;
    Ok(ReplicaRow {
        id: row.try_get(0)?,
        incarnation: row.try_get(1)?,
        seq: row.try_get(2)?,
        beat_age_ms: now - row.try_get::<i64, _>(3)?,
        started_age_ms: now - row.try_get::<i64, _>(4)?,
        watch_age_ms: age(5)?,
        rival_age_ms: age(6)?,
        version: row.try_get(7)?,
        // Of a version that writes something else there, nothing is known.
        alerters: serde_json::from_str(&alerters).unwrap_or_default(),
        view: row.try_get(9)?,
    })
}
