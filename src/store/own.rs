//! Claims of notices about GoTel itself, by statements that do not touch `reservation`.
//!
//! The usual claim asks that table whether somebody has snoozed. While it is locked (`LOCK TABLES`, DDL), that
//! claim waits in vain, and just then there is something to tell: that nothing is evaluated.

use super::error::Result;
use super::outbox::{self, Claimed};
use super::session::{Rule, Session, sql, transact};
use sqlx::Row;

/// Nobody snoozes GoTel: the age of its notices counts from their making. (With the parameter that `take` binds.)
const AGED_FROM: &str = "COALESCE(d.created_ms, ?)";

impl Session {
    /// As [`Session::claim`], of notices about GoTel itself only.
    /// `addressed`: the alerter sends to addresses, and cannot send what names none yet.
    pub async fn claim_own(&mut self, alerter: &str, limit: usize, addressed: bool) -> Result<Vec<Claimed>> {
        let token = uuid::Uuid::new_v4().to_string();
        transact!(&mut *self, Rule::named("outbox_claim_own").tries(1), |tx| {
            let now = tx.now_ms().await?;
            let which = if addressed { "AND d.recipient <> ''" } else { "" };
            let text = format!(
                "SELECT d.id FROM delivery d JOIN incident i ON i.id = d.incident_id \
                        WHERE d.state = 'pending' AND d.alerter = ? AND d.next_ms <= ? {which} AND i.reservation_id IS NULL \
                        AND NOT EXISTS (SELECT 1 FROM delivery e WHERE e.incident_id = d.incident_id \
                        AND e.alerter = d.alerter AND e.recipient = d.recipient AND e.event_no < d.event_no \
                        AND e.state IN ('pending', 'inflight')) ORDER BY d.next_ms, d.id LIMIT ?"
            );
            let due = sql(text).bind(alerter.to_owned()).bind(now).bind(i64::try_from(limit).unwrap_or(1));
            let mut ids = Vec::new();
            for row in tx.all(due).await? {
                ids.push(row.try_get(0)?);
            }
            outbox::take(tx, &ids, &token, now, AGED_FROM).await
        })
    }
}
