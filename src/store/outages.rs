//! GoTel's own outages: intervals in which no replica reached the database, so no check-in could be
//! accepted.
//!
//! Each replica moves one shared mark (`meta.alive_ms`). The first to find it old writes the interval
//! and moves the mark in the same transaction: exactly once, whoever comes back first.
//!
//! The mark says that a check-in could be stored, so moving it asks for the tables that one needs: while
//! somebody has locked them (`LOCK TABLES`, a dump, DDL) or they are damaged, it stays.
//!
//! Does not promise: to see a queue that overflows while the database works.

use super::error::Result;
use super::incidents::{self, SystemReport};
use super::session::{Rule, Session, Tx, sql, transact};
use crate::reservation::outage::{OUTAGE_AFTER_MS, Outage};
use sqlx::Row;

/// Outages older than this move no deadline any more (the longest schedule is a year).
const REMEMBERED_MS: i64 = 400 * 86_400_000;

pub(super) async fn alive_ms(tx: &mut Tx) -> Result<i64> {
    Ok(tx.one(sql("SELECT alive_ms FROM meta WHERE id = 1")).await?.try_get(0)?)
}

pub(super) async fn load(tx: &mut Tx) -> Result<Vec<Outage>> {
    let now = tx.inner().now_expr();
    let text =
        format!("SELECT from_ms, to_ms FROM outage WHERE to_ms > {now} - {REMEMBERED_MS} ORDER BY from_ms");
    tx.all(sql(text))
        .await?
        .iter()
        .map(|r| Ok(Outage { from_ms: r.try_get(0)?, to_ms: r.try_get(1)? }))
        .collect()
}

impl Session {
    /// Marks that the database is reached. Some: it had not been for longer than 30 s; the interval is
    /// recorded, and `report` says what is told of it.
    pub async fn mark_alive(&mut self, report: impl Fn(Outage) -> SystemReport) -> Result<Option<Outage>> {
        transact!(&mut *self, Rule::named("mark_alive"), |tx| {
            // No row has id 0. A statement that changes nothing still waits for whoever keeps writers out.
            tx.run(sql("UPDATE reservation SET checkins = checkins WHERE id = 0")).await?;
            tx.run(sql("DELETE FROM checkin WHERE id = 0")).await?;
            let now = tx.now_ms().await?;
            let text = format!("SELECT alive_ms FROM meta WHERE id = 1{}", tx.inner().dialect.for_update());
            let alive: i64 = tx.one(sql(text)).await?.try_get(0)?;
            let mut outage = None;
            if now - alive > OUTAGE_AFTER_MS {
                let found = Outage { from_ms: alive, to_ms: now };
                let known = tx.inner().dialect.or_nothing("from_ms");
                let text = format!("INSERT INTO outage (from_ms, to_ms) VALUES (?, ?){known}");
                tx.run(sql(text).bind(alive).bind(now)).await?;
                incidents::report(tx, now, &report(found)).await?;
                outage = Some(found);
            }
            if now > alive {
                tx.run(sql("UPDATE meta SET alive_ms = ? WHERE id = 1").bind(now)).await?;
            }
            Ok(outage)
        })
    }
}
