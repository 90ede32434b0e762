//! The outbox: what is to be told, to whom, and whether it arrived.
//!
//! Promises: one row per (incident, event, alerter, recipient), inserted in the transaction that made
//! the event, so neither exists without the other; a unique key, so that no retry, restart or second
//! replica inserts it twice; the payload is frozen at insert.
//!
//! Delivery is at least once: a claim that is not finished in time is claimed again. Finishing is
//! guarded by the claim token, not by leadership, so that a replica which lost the lease while sending
//! can still record its success and spare a duplicate.
//!
//! Order: an event waits while an earlier event of the same incident, or the digest that tells it, is
//! still to be sent to the same recipient. What is held back altogether: [`super::held`].

use super::dialect::{by_bytes, chunks, marks};
use super::error::{Result, StoreError};
use super::handover;
use super::held::{self, free};
use super::payload::payload;
use super::session::{Rule, Session, Tx, sql, transact};
use crate::reservation::storm::{self, Plan};
use crate::reservation::{Event, Notice};
use sha2::{Digest as _, Sha256};
use sqlx::Row;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a claim is good for: longer than the longest send (30 s), shorter than patience.
pub const CLAIM_MS: i64 = 90_000;

/// A row to insert.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDelivery {
    /// Name of the alerter.
    pub alerter: String,
    /// Address, or "" for an alerter with one fixed target.
    pub recipient: String,
    /// What is told.
    pub notice: Notice,
    /// Not sent before this (database time); 0 = at once.
    pub not_before_ms: i64,
    /// Rows of one group become one digest even when few.
    pub group: Option<String>,
}

/// State of an outbox row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// To be sent, now or later.
    Pending,
    /// Being sent.
    Inflight,
    /// Accepted by the receiver.
    Done,
    /// Given up.
    Dead,
    /// No longer worth telling.
    Superseded,
    /// Told as part of a digest.
    Digested,
}

impl OutboxState {
    /// The database's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Inflight => "inflight",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Superseded => "superseded",
            Self::Digested => "digested",
        }
    }

    /// Reads it back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Inflight, Self::Done, Self::Dead, Self::Superseded, Self::Digested]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}

/// A row this replica may send now.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Row id.
    pub id: i64,
    /// Proof of the claim.
    pub token: String,
    /// Stable over all tries: Message-ID, Idempotency-Key.
    pub idem_key: String,
    /// Address, or "".
    pub recipient: String,
    /// This try included.
    pub attempts: i64,
    /// Since the row was made, or since the end of a snooze that held it.
    pub age_ms: i64,
    /// What to tell.
    pub notice: Notice,
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// Accepted.
    Done,
    /// Try again in `after_ms`.
    Retry {
        /// Milliseconds from now.
        after_ms: i64,
        /// What went wrong, without secrets.
        error: String,
    },
    /// Given up.
    Dead {
        /// Why, without secrets.
        error: String,
    },
}

/// The stable name of one delivery.
pub fn idem_key(notice: &Notice, alerter: &str, recipient: &str) -> String {
    let mut hash = Sha256::new();
    for part in [
        notice.incident.as_str(),
        notice.dedup_key.as_str(),
        notice.event.as_str(),
        &notice.event_no.to_string(),
        alerter,
        recipient,
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

/// Inserts rows; those already there stay as they are.
pub(super) async fn insert(tx: &mut Tx, now_ms: i64, rows: &[NewDelivery]) -> Result<()> {
    let known = tx.inner().dialect.or_nothing("idem_key");
    let mut payloads = Vec::with_capacity(rows.len());
    for delivery in rows {
        payloads.push((delivery, payload(&delivery.notice)?));
    }
    for run in by_bytes(&payloads, |(_, payload)| payload.len() + 300) {
        for range in chunks(run.len()) {
            let row = "(?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, 0, ?)";
            let text = format!(
                "INSERT INTO delivery (idem_key, incident_id, event, event_no, alerter, recipient, payload, state, \
                 created_ms, next_ms, attempts, grp) VALUES {}{known}",
                vec![row; range.len()].join(", ")
            );
            let mut query = sql(text);
            for (delivery, payload) in &run[range] {
                let notice = &delivery.notice;
                query = query
                    .bind(idem_key(notice, &delivery.alerter, &delivery.recipient))
                    .bind(notice.incident.clone())
                    .bind(notice.event.as_str())
                    .bind(notice.event_no)
                    .bind(delivery.alerter.clone())
                    .bind(delivery.recipient.clone())
                    .bind(payload.clone())
                    .bind(now_ms)
                    .bind(delivery.not_before_ms.max(now_ms))
                    .bind(delivery.group.clone());
            }
            tx.run(query).await?;
        }
    }
    Ok(())
}

/// What may be folded: all but digests.
const ALL: &str = "event <> 'digest'";
/// What may be folded where alerts are closed by their keys: what opens one. An end in a digest would close
/// nothing, and a reminder in a digest would open, and page for, an alert beside those that are open already.
const OPENING: &str = "event IN ('trigger', 'escalate')";

impl Session {
    /// Whether `alerter` has anything to send, or to take back from a claim that ran out: a read, so that an
    /// idle dispatcher costs no transaction.
    pub async fn anything_to_send(&mut self, alerter: &str) -> Result<bool> {
        transact!(&mut *self, Rule::reading("outbox_look"), |tx| {
            let now = tx.inner().now_expr();
            let text = format!(
                "SELECT d.id FROM delivery d WHERE d.alerter = ? AND ((d.state = 'pending' AND d.next_ms <= {now} \
                 AND {}) OR (d.state = 'inflight' AND d.claim_until_ms <= {now})) LIMIT 1",
                free(&now, 0)
            );
            Ok(tx.maybe(sql(text).bind(alerter.to_owned())).await?.is_some())
        })
    }

    /// Claims at most `limit` rows of `alerter` that are due, oldest first. Claims that ran out are due
    /// again.
    pub async fn claim(&mut self, alerter: &str, limit: usize) -> Result<Vec<Claimed>> {
        let token = uuid::Uuid::new_v4().to_string();
        transact!(&mut *self, Rule::named("outbox_claim"), |tx| {
            let now = tx.now_ms().await?;
            release_expired(tx, alerter, now).await?;
            let ids = due(tx, alerter, now, limit, false).await?;
            take(tx, &ids, &token, now, held::AGED_FROM).await
        })
    }

    /// [`Session::fold_storms`] and [`Session::claim`] as one, so that nothing leaves alone that was written
    /// between the two and belongs into a digest. `ends_stay`: as in [`Session::fold_storms_but_ends`].
    /// `fallback`: Some for an alerter that sends to addresses, and then those for notices that name none; rows
    /// without a recipient are spread first (`handover`). Returns how many were folded; their digest is claimed by the next
    /// call.
    pub async fn fold_and_claim(
        &mut self,
        alerter: &str,
        limit: usize,
        srv: &str,
        ends_stay: bool,
        fallback: Option<&[String]>,
    ) -> Result<(usize, Vec<Claimed>)> {
        let token = uuid::Uuid::new_v4().to_string();
        transact!(&mut *self, Rule::named("outbox_claim").within(Duration::from_secs(10)), |tx| {
            let now = tx.now_ms().await?;
            release_expired(tx, alerter, now).await?;
            if let Some(fallback) = fallback {
                handover::spread(tx, alerter, fallback, now).await?;
            }
            let ids = due(tx, alerter, now, limit, fallback.is_some()).await?;
            if ids.is_empty() {
                return Ok((0, Vec::new()));
            }
            // Folding sees at least what `due` saw; what it takes is no longer pending.
            let which = if ends_stay { OPENING } else { ALL };
            let folded = fold_all(tx, alerter, srv, now, which, fallback.is_some()).await?;
            Ok((folded, take(tx, &ids, &token, now, held::AGED_FROM).await?))
        })
    }

    /// Records how a try ended. False: the claim had run out and somebody else has the row now.
    pub async fn finish(&mut self, claimed: &Claimed, finish: &Finish) -> Result<bool> {
        transact!(&mut *self, Rule::named("outbox_finish").within(Duration::from_secs(10)), |tx| {
            let now = tx.now_ms().await?;
            let (state, next_ms, done_ms, error) = match finish {
                Finish::Done => (OutboxState::Done, now, Some(now), None),
                Finish::Retry { after_ms, error } => {
                    (OutboxState::Pending, now + after_ms, None, Some(clip(error)))
                }
                Finish::Dead { error } => (OutboxState::Dead, now, Some(now), Some(clip(error))),
            };
            let done = tx
                .run(
                    sql("UPDATE delivery SET state = ?, next_ms = ?, done_ms = ?, error = ?, claim_token = NULL, \
                         claim_until_ms = NULL WHERE id = ? AND claim_token = ?")
                    .bind(state.as_str())
                    .bind(next_ms)
                    .bind(done_ms)
                    .bind(error)
                    .bind(claimed.id)
                    .bind(claimed.token.clone()),
                )
                .await?;
            Ok(done.rows_affected() == 1)
        })
    }

    /// What `alerter` has tried and is to try again is due now. Returns how many there are.
    pub async fn hurry(&mut self, alerter: &str) -> Result<u64> {
        transact!(&mut *self, Rule::named("outbox_hurry"), |tx| {
            let now = tx.now_ms().await?;
            let hurried = tx
                .run(
                    sql("UPDATE delivery SET next_ms = ? WHERE state = 'pending' AND alerter = ? AND next_ms > ? \
                         AND attempts > 0")
                    .bind(now)
                    .bind(alerter.to_owned())
                    .bind(now),
                )
                .await?;
            Ok(hurried.rows_affected())
        })
    }

    /// Folds what waits for each recipient of `alerter` into a digest where the storm rule asks for it.
    /// Returns how many notices were folded.
    pub async fn fold_storms(&mut self, alerter: &str, srv: &str) -> Result<usize> {
        self.fold_where(alerter, srv, ALL).await
    }

    /// The same for an alerter whose receiver closes alerts by their keys (PagerDuty): only what opens an
    /// alert is folded, and only for incidents whose end will be told of the digest.
    pub async fn fold_storms_but_ends(&mut self, alerter: &str, srv: &str) -> Result<usize> {
        self.fold_where(alerter, srv, OPENING).await
    }

    async fn fold_where(&mut self, alerter: &str, srv: &str, which: &'static str) -> Result<usize> {
        transact!(&mut *self, Rule::named("outbox_fold").within(Duration::from_secs(10)), |tx| {
            let now = tx.now_ms().await?;
            fold_all(tx, alerter, srv, now, which, false).await
        })
    }
}

async fn release_expired(tx: &mut Tx, alerter: &str, now: i64) -> Result<()> {
    tx.run(
        sql("UPDATE delivery SET state = 'pending', claim_token = NULL, claim_until_ms = NULL \
             WHERE state = 'inflight' AND alerter = ? AND claim_until_ms <= ?")
        .bind(alerter.to_owned())
        .bind(now),
    )
    .await?;
    Ok(())
}

/// An event waits for the digest that tells its incident's earlier news.
const DIGEST_FIRST: &str = "AND NOT EXISTS (SELECT 1 FROM delivery m JOIN delivery g ON g.incident_id = m.digest \
     AND g.alerter = m.alerter AND g.recipient = m.recipient WHERE m.incident_id = d.incident_id \
     AND m.alerter = d.alerter AND m.recipient = d.recipient AND m.event_no < d.event_no \
     AND m.state = 'digested' AND g.state IN ('pending', 'inflight'))";

/// What is due, oldest first; `addressed`: without what has no recipient (yet, see [`super::handover`]).
async fn due(tx: &mut Tx, alerter: &str, now: i64, limit: usize, addressed: bool) -> Result<Vec<i64>> {
    let which = if addressed { "AND d.recipient <> ''" } else { "" };
    let free = free(&tx.inner().now_expr(), 0);
    let rows = tx
        .all(
            sql(format!(
                "SELECT d.id FROM delivery d WHERE d.state = 'pending' AND d.alerter = ? AND d.next_ms <= ? {which} \
                 AND NOT EXISTS (SELECT 1 FROM delivery e WHERE e.incident_id = d.incident_id \
                 AND e.alerter = d.alerter AND e.recipient = d.recipient AND e.event_no < d.event_no \
                 AND e.state IN ('pending', 'inflight')) AND {free} \
                 {DIGEST_FIRST} ORDER BY d.next_ms, d.id LIMIT ?"
            ))
            .bind(alerter.to_owned())
            .bind(now)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX)),
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Claims those of `ids` that are still pending. `aged_from`: from when their age counts.
pub(super) async fn take(
    tx: &mut Tx,
    ids: &[i64],
    token: &str,
    now: i64,
    aged_from: &str,
) -> Result<Vec<Claimed>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = sql(format!(
        "UPDATE delivery SET state = 'inflight', claim_token = ?, claim_until_ms = ?, attempts = attempts + 1 \
         WHERE state = 'pending' AND id IN ({})",
        marks(ids.len())
    ))
    .bind(token.to_owned())
    .bind(now + CLAIM_MS);
    for id in ids {
        query = query.bind(*id);
    }
    tx.run(query).await?;
    let mut query = sql(format!(
        "SELECT d.id, d.idem_key, d.recipient, d.attempts, {aged_from}, d.payload FROM delivery d \
         WHERE d.id IN ({}) AND d.claim_token = ? ORDER BY d.id",
        marks(ids.len())
    ))
    .bind(now);
    for id in ids {
        query = query.bind(*id);
    }
    let rows = tx.all(query.bind(token.to_owned())).await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in rows {
        let payload: String = row.try_get(5)?;
        let id: i64 = row.try_get(0)?;
        match serde_json::from_str(&payload) {
            Ok(notice) => claimed.push(Claimed {
                id,
                token: token.to_owned(),
                idem_key: row.try_get(1)?,
                recipient: row.try_get(2)?,
                attempts: row.try_get(3)?,
                age_ms: now - row.try_get::<i64, _>(4)?,
                notice,
            }),
            // Written by a newer program, or damaged: visible as a dead letter, in nobody's way.
            Err(e) => bury(tx, id, now, &e).await?,
        }
    }
    Ok(claimed)
}

/// Gives up a row whose payload cannot be read.
pub(super) async fn bury(tx: &mut Tx, id: i64, now: i64, e: &serde_json::Error) -> Result<()> {
    let dead = "UPDATE delivery SET state = 'dead', done_ms = ?, error = ? WHERE id = ?";
    let why = format!("the stored notice cannot be read: {e}");
    tx.run(sql(dead).bind(now).bind(clip(&why)).bind(id)).await?;
    Ok(())
}

/// Folds for each recipient of `alerter` where the storm rule asks for it; `addressed`: as in [`due`].
async fn fold_all(
    tx: &mut Tx,
    alerter: &str,
    srv: &str,
    now: i64,
    which: &'static str,
    addressed: bool,
) -> Result<usize> {
    let text = format!(
        "SELECT d.recipient, COUNT(*), COUNT(d.grp) FROM delivery d WHERE d.state = 'pending' AND d.alerter = ? \
         AND d.next_ms <= ? AND d.{which} AND {} GROUP BY d.recipient HAVING COUNT(*) > 1",
        free(&tx.inner().now_expr(), 0)
    );
    let waiting = tx.all(sql(text).bind(alerter.to_owned()).bind(now)).await?;
    let mut folded = 0;
    for row in waiting {
        let (recipient, count, grouped): (String, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if addressed && recipient.is_empty() {
            continue;
        }
        let sent: i64 = tx
            .one(
                sql("SELECT COUNT(*) FROM delivery WHERE alerter = ? AND recipient = ? AND done_ms > ? \
                     AND state = 'done'")
                .bind(alerter.to_owned())
                .bind(recipient.clone())
                .bind(now - storm::WINDOW_MS),
            )
            .await?
            .try_get(0)?;
        let sent = usize::try_from(sent).unwrap_or(0);
        let count = usize::try_from(count).unwrap_or(0);
        if grouped >= 2 || storm::plan(sent, count) == Plan::Digest {
            folded += fold(tx, alerter, &recipient, now, srv, which).await?;
        }
    }
    Ok(folded)
}

/// Replaces everything that waits for one recipient by one digest row.
async fn fold(
    tx: &mut Tx,
    alerter: &str,
    recipient: &str,
    now: i64,
    srv: &str,
    which: &'static str,
) -> Result<usize> {
    // Not those that must wait for an earlier event which is being sent, or is to be sent later: the digest
    // would overtake it.
    let free = free(&tx.inner().now_expr(), 0);
    let text = format!(
        "SELECT d.id, d.payload, d.incident_id FROM delivery d WHERE d.state = 'pending' AND d.alerter = ? \
         AND d.recipient = ? AND d.next_ms <= ? AND d.{which} \
         AND NOT EXISTS (SELECT 1 FROM delivery e WHERE e.incident_id = d.incident_id AND e.alerter = d.alerter \
         AND e.recipient = d.recipient AND e.event_no < d.event_no \
         AND (e.state = 'inflight' OR (e.state = 'pending' AND e.next_ms > ?))) AND {free} {DIGEST_FIRST} \
         ORDER BY d.id LIMIT 2000"
    );
    let rows =
        tx.all(sql(text).bind(alerter.to_owned()).bind(recipient.to_owned()).bind(now).bind(now)).await?;
    let mut ids = Vec::with_capacity(rows.len());
    let mut notices = Vec::with_capacity(rows.len());
    let incidents = rows.iter().map(|row| Ok(row.try_get(2)?)).collect::<Result<BTreeSet<String>>>()?;
    let kept = if which == OPENING { lock_unended(tx, incidents).await? } else { incidents };
    for row in &rows {
        if !kept.contains(&row.try_get::<String, _>(2)?) {
            continue;
        }
        if let Ok(notice) = serde_json::from_str::<Notice>(&row.try_get::<String, _>(1)?) {
            ids.push(row.try_get::<i64, _>(0)?);
            notices.push(notice);
        }
    }
    if ids.len() < 2 {
        return Ok(0);
    }
    let digest = uuid::Uuid::now_v7().to_string();
    let notice = Notice::digest(&notices, &digest, now, srv);
    debug_assert_eq!(notice.event, Event::Digest);
    for range in chunks(ids.len()) {
        let mut query = sql(format!(
            "UPDATE delivery SET state = 'digested', digest = ?, done_ms = ? WHERE state = 'pending' AND id IN ({})",
            marks(range.len())
        ))
        .bind(digest.clone())
        .bind(now);
        for id in &ids[range.clone()] {
            query = query.bind(*id);
        }
        if tx.run(query).await?.rows_affected() != range.len() as u64 {
            // Another replica claimed one of them meanwhile: look again.
            return Err(StoreError::Contended("outbox rows were claimed while being folded".into()));
        }
    }
    let row = NewDelivery {
        alerter: alerter.to_owned(),
        recipient: recipient.to_owned(),
        notice,
        not_before_ms: 0,
        group: None,
    };
    insert(tx, now, &[row]).await?;
    Ok(ids.len())
}

/// Those of `incidents` whose end is still to come, or that have none (told once, as event 0), locked: the end of
/// the others was queued under their own keys, and would not end a digest. An incident that closes meanwhile
/// does so after this transaction, and sees what it folded.
async fn lock_unended(tx: &mut Tx, incidents: BTreeSet<String>) -> Result<BTreeSet<String>> {
    let incidents: Vec<String> = incidents.into_iter().collect();
    let mut kept = BTreeSet::new();
    for range in chunks(incidents.len()) {
        let for_update = tx.inner().dialect.for_update();
        let mut query = sql(format!(
            "SELECT id, closed_ms, event_no FROM incident WHERE id IN ({}) ORDER BY id{for_update}",
            marks(range.len())
        ));
        for id in &incidents[range] {
            query = query.bind(id.clone());
        }
        for row in tx.all(query).await? {
            let (closed_ms, event_no): (Option<i64>, i64) = (row.try_get(1)?, row.try_get(2)?);
            if closed_ms.is_none() || event_no == 0 {
                kept.insert(row.try_get(0)?);
            }
        }
    }
    Ok(kept)
}

/// Cuts an error text to its column.
pub(super) fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').take(500).collect()
}
