//! GoTel's own outages: intervals in which no replica reached the database, so no check-in could be
//! accepted; and jumps of the database's clock, which are intervals that never were.
//!
//! Each replica moves one shared mark (`meta.alive_ms`). The first to find it old, or ahead of the clock, writes
//! what it made of that and moves the mark in the same transaction: exactly once, whoever comes first. What it
//! wrote holds for every replica, also for one that takes over a moment later.
//!
//! The mark says that a check-in could be stored, so moving it asks for the tables that one needs: while
//! somebody has locked them (`LOCK TABLES`, a dump, DDL) or they are damaged, it stays. Whether they have room is
//! looked at apart from it ([`Session::room`]).
//!
//! Does not promise: to see a queue that overflows while the database works.

use super::error::{Result, StoreError};
use super::incidents::{self, SystemReport};
use super::session::{Rule, Session, Tx, sql, transact};
use crate::clock;
use crate::reservation::outage::{CLOCK_JUMP_MS, Cause, OUTAGE_AFTER_MS, Outage};
use sqlx::Row;
use std::sync::Mutex;
use std::time::Duration;

/// Outages older than this move no deadline any more (the longest schedule is a year).
const REMEMBERED_MS: i64 = 400 * 86_400_000;

/// One look at the database's clock and at the mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The database's clock.
    pub now_ms: i64,
    /// When the mark was last moved, by any replica.
    pub alive_ms: i64,
    /// The clock was read between these two moments of boot time.
    pub sent_boot_ms: i64,
    /// See above.
    pub heard_boot_ms: i64,
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// Check-ins could not be accepted for this long.
    pub outage: Option<Outage>,
    /// The clock jumped by so much, forward or (negative) back; 0: it did not.
    pub jump_ms: i64,
}

impl Found {
    /// What the mark's age says by itself.
    pub fn by_age(mark: &Mark) -> Self {
        let old = mark.now_ms - mark.alive_ms > OUTAGE_AFTER_MS;
        Self { outage: old.then(|| Outage::away(mark.alive_ms, mark.now_ms)), jump_ms: 0 }
    }
}

/// Where the database's clock stands beside this machine's boot clock.
///
/// Whoever judges deadlines compares: a clock that has just jumped is not believed before the jump is recorded.
/// Two connections may reach servers whose clocks differ (a balancer in front of a cluster); so disbelief ends by
/// itself, as it must not keep misses silent.
#[derive(Debug, Default)]
pub(super) struct Offset(Mutex<Standing>);

#[derive(Debug, Default, Clone, Copy)]
struct Standing {
    offset_ms: Option<i64>,
    off_since_boot_ms: Option<i64>,
}

/// For how long a clock that jumped may wait for being recorded.
const DISBELIEF_MS: i64 = 15_000;

impl Offset {
    fn stands(&self, mark: &Mark) {
        *self.standing() =
            Standing { offset_ms: Some(mark.now_ms - mark.heard_boot_ms), off_since_boot_ms: None };
    }

    /// Whether a reading of the clock, heard at `boot_ms`, may be judged by.
    pub(super) fn believes(&self, now_ms: i64, boot_ms: i64) -> bool {
        let mut standing = self.standing();
        let off = standing.offset_ms.is_some_and(|offset| (now_ms - boot_ms - offset).abs() > CLOCK_JUMP_MS);
        if !off {
            standing.off_since_boot_ms = None;
            return true;
        }
        let since = *standing.off_since_boot_ms.get_or_insert(boot_ms);
        boot_ms - since > DISBELIEF_MS
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The database's clock and the mark, in one trip.
pub(super) async fn now_and_alive_ms(tx: &mut Tx) -> Result<(i64, i64)> {
    let now = tx.inner().now_expr();
    let row = tx.one_plain(format!("SELECT {now} AS now_ms, alive_ms FROM meta WHERE id = 1")).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Which outages [`load`] gives.
pub(super) fn remembered(tx: &Tx) -> String {
    format!("to_ms > {} - {REMEMBERED_MS}", tx.inner().now_expr())
}

pub(super) async fn load(tx: &mut Tx) -> Result<Vec<Outage>> {
    let text = format!("SELECT from_ms, to_ms, cause FROM outage WHERE {} ORDER BY from_ms", remembered(tx));
    let rows = tx.all_plain(text).await?;
    let outage = |row: &sqlx::any::AnyRow| {
        let cause = Cause::parse(&row.try_get::<String, _>(2)?);
        Ok(Outage { from_ms: row.try_get(0)?, to_ms: row.try_get(1)?, cause })
    };
    rows.iter().map(outage).collect()
}

/// A mark is moved within this, in seven round trips; stored moments that lie ahead of a clock that was set back need longer.
const LIMIT: Duration = Duration::from_secs(5);
const LIMIT_BACK: Duration = Duration::from_secs(25);

impl Session {
    /// Marks that the database is reached. Some: it had not been for longer than 30 s; the interval is
    /// recorded, and `report` says what is told of it.
    pub async fn mark_alive(&mut self, report: impl Fn(Outage) -> SystemReport) -> Result<Option<Outage>> {
        let reports = |_: &Mark, found: &Found| found.outage.map(&report).into_iter().collect();
        Ok(self.mark(LIMIT, Found::by_age, reports).await?.1.outage)
    }

    /// The same with an eye on the clock: `judge` says what a look means, `reports` what is told of it.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] also when the server is read-only and this user could write nevertheless.
    pub async fn watch_alive(
        &mut self,
        judge: impl Fn(&Mark) -> Found,
        reports: impl Fn(&Mark, &Found) -> Vec<SystemReport>,
    ) -> Result<(Mark, Found)> {
        let mut done = self.mark(LIMIT, &judge, &reports).await?;
        if done.1.jump_ms < 0 {
            done = self.mark(LIMIT_BACK, &judge, &reports).await?;
        }
        self.inner().offset.stands(&done.0);
        Ok(done)
    }

    /// One look. A jump back is only recorded with the longer limit; with the shorter, nothing is written.
    async fn mark(
        &mut self,
        limit: Duration,
        judge: impl Fn(&Mark) -> Found,
        reports: impl Fn(&Mark, &Found) -> Vec<SystemReport>,
    ) -> Result<(Mark, Found)> {
        transact!(&mut *self, Rule::named("mark_alive").within(limit).connecting_apart(), |tx| {
            let mark = look(tx).await?;
            let found = judge(&mark);
            if found.jump_ms < 0 && limit < LIMIT_BACK {
                return Ok((mark, found));
            }
            let now = mark.now_ms;
            if let Some(outage) = found.outage {
                insert(tx, outage).await?;
            }
            if found.jump_ms > 0 {
                insert(tx, Outage::clock_jump(now - found.jump_ms, now)).await?;
            }
            if found.jump_ms < 0 {
                set_back(tx, now, -found.jump_ms).await?;
            }
            for report in reports(&mark, &found) {
                incidents::report(tx, now, &report).await?;
            }
            if now > mark.alive_ms || found.jump_ms < 0 {
                tx.run_plain(format!("UPDATE meta SET alive_ms = {now} WHERE id = 1")).await?;
            }
            Ok((mark, found))
        })
    }
}

async fn look(tx: &mut Tx) -> Result<Mark> {
    // No row has id 0. A statement that changes nothing still waits for whoever keeps writers out.
    tx.run_plain("UPDATE reservation SET checkins = checkins WHERE id = 0").await?;
    tx.run_plain("DELETE FROM checkin WHERE id = 0").await?;
    let (now, read_only) = (tx.inner().now_expr(), tx.inner().dialect.read_only().unwrap_or("0"));
    let sent_boot_ms = clock::boot_ms();
    let row = tx.one_plain(format!("SELECT {now} AS now_ms, {read_only} AS read_only")).await?;
    let heard_boot_ms = clock::boot_ms();
    if row.try_get::<i64, _>(1)? != 0 {
        return Err(StoreError::ReadOnly("read_only was set".into()));
    }
    let now_ms = row.try_get(0)?;
    let text = format!("SELECT alive_ms FROM meta WHERE id = 1{}", tx.inner().dialect.for_update());
    let alive_ms = tx.one_plain(text).await?.try_get(0)?;
    Ok(Mark { now_ms, alive_ms, sent_boot_ms, heard_boot_ms })
}

async fn insert(tx: &mut Tx, outage: Outage) -> Result<()> {
    let known = tx.inner().dialect.or_nothing("from_ms");
    let text = format!("INSERT INTO outage (from_ms, to_ms, cause) VALUES (?, ?, ?){known}");
    tx.run(sql(text).bind(outage.from_ms).bind(outage.to_ms).bind(outage.cause.as_str())).await?;
    Ok(())
}

/// After the clock was set back: what happened cannot lie ahead, and what is to be told soon must not wait for the
/// clock to come round again.
async fn set_back(tx: &mut Tx, now: i64, by_ms: i64) -> Result<()> {
    let past = |columns: &[&str]| {
        let set = columns.iter().map(|c| format!("{c} = CASE WHEN {c} > {now} THEN {now} ELSE {c} END"));
        set.collect::<Vec<_>>().join(", ")
    };
    let seen =
        ["last_ok_ms", "last_ok_started_ms", "last_fail_ms", "last_seen_ms", "created_ms", "snooze_from_ms"];
    let texts = [
        // Every row is looked at again: one may wait for a moment that only the clock of before would have reached.
        format!("UPDATE reservation SET {}, due_ms = 0 WHERE checked_out_ms IS NULL", past(&seen)),
        format!("UPDATE run SET {} WHERE ended_ms IS NULL AND started_ms > {now}", past(&["started_ms"])),
        format!(
            "UPDATE incident SET {} WHERE closed_ms IS NULL AND opened_ms > {now}",
            past(&["deadline_ms", "opened_ms"])
        ),
        format!(
            "UPDATE incident SET next_remind_ms = next_remind_ms - {by_ms} WHERE closed_ms IS NULL AND \
             next_remind_ms > {now}"
        ),
        format!(
            "UPDATE delivery SET next_ms = next_ms - {by_ms} WHERE state = 'pending' AND next_ms > {now}"
        ),
        format!(
            "UPDATE delivery SET claim_until_ms = claim_until_ms - {by_ms} WHERE state = 'inflight' AND \
             claim_until_ms > {now}"
        ),
    ];
    for text in texts {
        tx.run(sql(text)).await?;
    }
    // An interval that has not been yet would swallow every deadline until it has.
    tx.run(sql(format!("DELETE FROM outage WHERE from_ms >= {now}"))).await?;
    tx.run(sql(format!("UPDATE outage SET to_ms = {now} WHERE to_ms > {now}"))).await?;
    Ok(())
}

/// Whether the clock jumped forward within the last day: a person may still set it right.
pub(super) async fn clock_is_in_doubt(tx: &mut Tx) -> Result<bool> {
    let now = tx.inner().now_expr();
    let text = format!("SELECT COUNT(*) FROM outage WHERE cause = ? AND to_ms > {now} - 86400000");
    Ok(tx.one(sql(text).bind(Cause::ClockJump.as_str())).await?.try_get::<i64, _>(0)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumped_is_disbelieved_until_it_is_recorded_or_for_fifteen_seconds() {
        let offset = Offset::default();
        assert!(offset.believes(1_000_000, 0), "nothing is known yet");
        offset.stands(&Mark { now_ms: 1_000_000, alive_ms: 0, sent_boot_ms: 0, heard_boot_ms: 10 });
        assert!(offset.believes(1_060_000, 60_000));
        assert!(!offset.believes(1_666_000, 66_000), "ten minutes ahead");
        assert!(!offset.believes(481_000, 81_000), "ten minutes behind");
        assert!(offset.believes(1_681_100, 81_100), "nobody records it");
        offset.stands(&Mark { now_ms: 1_682_000, alive_ms: 0, sent_boot_ms: 82_000, heard_boot_ms: 82_000 });
        assert!(offset.believes(1_683_000, 83_000));
        assert!(!offset.believes(1_090_000, 90_000), "back again");
    }
}
