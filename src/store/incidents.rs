//! GoTel's own troubles, told like any other incident: `gotel/<kind>`.
//!
//! One open row a (kind, subject), however many replicas find it: the unique `open_key` sees to that.
//! Any replica may report; reporting needs no leadership.

use super::error::Result;
use super::outbox::{self, NewDelivery};
use super::session::{Rule, Tx, sql, transact};
use super::{OutboxState, Store};
use crate::reservation::incident::{Ending, Event, Reason};
use crate::reservation::routing::Target;
use crate::reservation::{Notice, incident};
use sha2::{Digest as _, Sha256};
use sqlx::Row;
use std::collections::{BTreeMap, HashSet};

/// Kinds of own trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemKind {
    /// A reservation's stored data cannot be evaluated; it was set aside.
    Undecidable,
    /// An alerter does not deliver.
    DeliveryFailing,
    /// Reservations cannot be evaluated, while the database takes this.
    Stalled,
    /// A notice was given up.
    DeadLetter,
    /// GoTel itself was down.
    Outage,
    /// A replica is dead, or fully cut off.
    PeerDead,
    /// A replica lives and does not reach the database.
    PeerNoDb,
    /// A replica lives and does not do its work.
    PeerStuck,
    /// The database takes no writes from anybody.
    DbGone,
    /// Two replicas write into two databases.
    SplitDb,
    /// Two processes use one replica id.
    DuplicateId,
    /// The database's clock jumped.
    ClockJump,
    /// Many Kubernetes objects are missing at once, and not believed to be gone.
    SweepBraked,
    /// Two Kubernetes clusters have one name.
    ClusterConflict,
}

/// How long a trouble lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Open until somebody finds that it is over; further reports of it tell nobody.
    UntilWithdrawn,
    /// Told once, each time: it has no end that could be noticed.
    Once,
    /// Already over: told as such, and paging nobody.
    Over,
}

impl SystemKind {
    /// Its word in keys, pages and notices.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecidable => "undecidable",
            Self::DeliveryFailing => "delivery-failing",
            Self::Stalled => "coordinator-stalled",
            Self::DeadLetter => "dead-letter",
            Self::Outage => "outage",
            Self::PeerDead => "peer-dead",
            Self::PeerNoDb => "peer-no-db",
            Self::PeerStuck => "peer-stuck",
            Self::DbGone => "db-gone",
            Self::SplitDb => "split-db",
            Self::DuplicateId => "duplicate-id",
            Self::ClockJump => "clock-jump",
            Self::SweepBraked => "sweep-braked",
            Self::ClusterConflict => "cluster-conflict",
        }
    }
}

/// A trouble to report.
#[derive(Debug, Clone)]
pub struct SystemReport {
    /// What.
    pub kind: SystemKind,
    /// Of what: an alerter's name, a reservation.
    pub subject: String,
    /// What it means and what to do, for a tired person.
    pub text: String,
    /// When it began (database time).
    pub since_ms: i64,
    /// Who is told.
    pub targets: Vec<Target>,
    /// This replica.
    pub srv: String,
    /// Whether it stays open.
    pub life: Life,
}

impl Store {
    /// Opens a system incident and queues its notices. False: it is open already.
    pub async fn report_system(&self, report: &SystemReport) -> Result<bool> {
        transact!(self.pooled().await?, Rule::named("report_system"), |tx| {
            let now = tx.now_ms().await?;
            self::report(tx, now, report).await
        })
    }

    /// Closes a system incident, telling those who were told of it. False: none is open.
    pub async fn withdraw_system(&self, kind: SystemKind, subject: &str, srv: &str) -> Result<bool> {
        transact!(self.pooled().await?, Rule::named("withdraw_system"), |tx| {
            let now = tx.now_ms().await?;
            withdraw(tx, now, kind, subject, Some(srv)).await
        })
    }
}

/// Two subjects never share a key, however long they are.
fn open_key(kind: SystemKind, subject: &str) -> String {
    let key = format!("s/{}/{subject}", kind.as_str());
    if key.chars().count() <= 190 {
        return key;
    }
    let start: String = key.chars().take(120).collect();
    format!("{start}/{}", hex::encode(Sha256::digest(key.as_bytes())))
}

/// The subject of a reservation's [`SystemKind::Undecidable`]. Names may hold slashes: the one that parts the two is the
/// first one, so that no two reservations have the same.
pub fn undecidable_subject(app: &str, component: &str) -> String {
    format!("{}/{component}", app.replace('%', "%25").replace('/', "%2F"))
}

/// Withdraws what was reported of reservations that could be decided now.
pub(super) async fn withdraw_decided<'s>(
    tx: &mut Tx,
    now: i64,
    decided: impl Iterator<Item = (&'s str, &'s str)>,
) -> Result<()> {
    let prefix = open_key(SystemKind::Undecidable, "");
    let dialect = tx.inner().dialect;
    let word = |text: &str| dialect.word(text);
    let (first, end) = (word(&prefix), word(&format!("{}0", prefix.trim_end_matches('/'))));
    let text =
        format!("SELECT open_key FROM incident WHERE open_key >= {first} AND open_key < {end} LIMIT 1000");
    let mut open = HashSet::new();
    for row in tx.all_plain(text).await? {
        open.insert(row.try_get::<String, _>(0)?);
    }
    if open.is_empty() {
        return Ok(());
    }
    for (app, component) in decided {
        let subject = undecidable_subject(app, component);
        if open.contains(&open_key(SystemKind::Undecidable, &subject)) {
            withdraw(tx, now, SystemKind::Undecidable, &subject, None).await?;
        }
    }
    Ok(())
}

async fn is_open(tx: &mut Tx, report: &SystemReport) -> Result<bool> {
    let key = open_key(report.kind, &report.subject);
    Ok(tx.maybe(sql("SELECT id FROM incident WHERE open_key = ?").bind(key)).await?.is_some())
}

/// Opens the incident unless it is open already: then false.
pub(super) async fn report(tx: &mut Tx, now: i64, report: &SystemReport) -> Result<bool> {
    let stays = report.life == Life::UntilWithdrawn;
    let over = report.life == Life::Over;
    if stays && is_open(tx, report).await? {
        return Ok(false);
    }
    let id = uuid::Uuid::now_v7().to_string();
    let name = match report.subject.as_str() {
        "" => report.kind.as_str().to_owned(),
        subject => format!("{}/{subject}", report.kind.as_str()),
    };
    let install = tx.inner().install_id.get().cloned().unwrap_or_default();
    // Of the whole name: two long ones may begin alike.
    let dedup_key = incident::dedup_key(&install, "gotel", &name, report.since_ms, None);
    let component: String = name.chars().take(150).collect();
    tx.run(
        sql("INSERT INTO incident (id, open_key, reservation_id, gen, app, component, reason, rid, dedup_key, \
             deadline_ms, opened_ms, closed_ms, ending, event_no, next_remind_ms, escalated, term, detail) \
             VALUES (?, ?, NULL, 0, 'gotel', ?, ?, NULL, ?, ?, ?, ?, ?, 0, NULL, 0, 0, ?)")
        .bind(id.clone())
        .bind(stays.then(|| open_key(report.kind, &report.subject)))
        .bind(component.clone())
        .bind(Reason::System.as_str())
        .bind(dedup_key.clone())
        .bind(report.since_ms)
        .bind(now)
        .bind((!stays).then_some(now))
        .bind((!stays).then(|| Ending::Recovered.as_str()))
        .bind(report.text.clone()),
    )
    .await?;
    let notice = Notice {
        version: 1,
        event: if over { Event::Recovered } else { Event::Trigger },
        reason: Reason::System,
        incident: id,
        dedup_key,
        event_no: 0,
        app: "gotel".into(),
        component,
        owner: String::new(),
        notify: Vec::new(),
        labels: BTreeMap::new(),
        schedule: String::new(),
        deadline_ms: report.since_ms,
        noticed_ms: now,
        at_ms: now,
        last_ok_ms: None,
        checkins: 0,
        exit_code: None,
        rid: None,
        down_ms: over.then_some(now - report.since_ms),
        message: report.text.clone(),
        output: None,
        srv: report.srv.clone(),
        url: None,
        remarks: Vec::new(),
        digest: None,
    };
    let rows: Vec<NewDelivery> = report
        .targets
        .iter()
        .map(|t| NewDelivery {
            alerter: t.alerter.clone(),
            recipient: t.recipient.clone(),
            notice: notice.clone(),
            not_before_ms: 0,
            group: None,
        })
        .collect();
    outbox::insert(tx, now, &rows).await?;
    Ok(true)
}

pub(super) async fn withdraw(
    tx: &mut Tx,
    now: i64,
    kind: SystemKind,
    subject: &str,
    srv: Option<&str>,
) -> Result<bool> {
    let text =
        format!("SELECT id, event_no FROM incident WHERE open_key = ?{}", tx.inner().dialect.for_update());
    let Some(row) = tx.maybe(sql(text).bind(open_key(kind, subject))).await? else { return Ok(false) };
    let (id, event_no): (String, i64) = (row.try_get(0)?, row.try_get::<i64, _>(1)? + 1);
    let close = "UPDATE incident SET open_key = NULL, closed_ms = ?, ending = ?, event_no = ? WHERE id = ?";
    tx.run(sql(close).bind(now).bind(Ending::Recovered.as_str()).bind(event_no).bind(id.clone())).await?;
    let told = "SELECT alerter, recipient, payload, state, digest FROM delivery \
         WHERE incident_id = ? AND event = 'trigger'";
    let mut rows = Vec::new();
    for row in tx.all(sql(told).bind(id.clone())).await? {
        let (payload, state): (String, String) = (row.try_get(2)?, row.try_get(3)?);
        // Who was never told of the trouble need not hear of its end.
        if OutboxState::parse(&state).is_none_or(|s| matches!(s, OutboxState::Dead | OutboxState::Superseded))
        {
            continue;
        }
        let Ok(mut notice) = serde_json::from_str::<Notice>(&payload) else { continue };
        // The last incident of a digest ends the alert that stands for it; a receiver that knows no keys is told
        // all the same.
        if let Some(digest) = row.try_get::<Option<String>, _>(4)?
            && !is_any_open(tx, &digest).await?
        {
            notice.dedup_key = digest;
        }
        notice.event = Event::Resolve;
        notice.event_no = event_no;
        notice.at_ms = now;
        notice.down_ms = Some(now - notice.deadline_ms);
        if let Some(srv) = srv {
            notice.srv = srv.to_owned();
        }
        rows.push(NewDelivery {
            alerter: row.try_get(0)?,
            recipient: row.try_get(1)?,
            notice,
            not_before_ms: 0,
            group: None,
        });
    }
    outbox::insert(tx, now, &rows).await?;
    Ok(true)
}

/// Whether an incident of this digest is open. They are locked: of two that close at once, one sees that it is
/// the last.
async fn is_any_open(tx: &mut Tx, digest: &str) -> Result<bool> {
    let text = format!(
        "SELECT i.id FROM delivery d JOIN incident i ON i.id = d.incident_id WHERE d.digest = ? \
         AND i.closed_ms IS NULL{}",
        tx.inner().dialect.for_update()
    );
    Ok(!tx.all(sql(text).bind(digest.to_owned())).await?.is_empty())
}
