//! What pages and the API show. Reads only, each in one or two statements, each answer with the
//! database's time so that ages are right wherever they are shown.

use super::Store;
use super::decode::{EVIDENCE, OPEN_INCIDENT, evidence, open_incident};
use super::dialect::marks;
use super::error::Result;
use super::held;
use super::objects::ObjectId;
use super::outbox::OutboxState;
use super::session::{Rule, Tx, sql, transact};
use crate::reservation::incident::{Ending, OpenIncident, Reason};
use crate::reservation::{Event, Evidence, JobKey, Settings, State, outage::Outage};
use sqlx::any::AnyRow;
use sqlx::{Row, query::Query};

/// Which reservations to list. Empty = all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this state.
    pub state: Option<State>,
    /// Only late, failed and overrun ones, and those with an open incident.
    pub bad: bool,
    /// Only snoozed ones.
    pub snoozed: bool,
    /// Exactly this application.
    pub app: Option<String>,
    /// Applications beginning with this (a token's prefix).
    pub app_prefix: Option<String>,
    /// Exactly this owner.
    pub owner: Option<String>,
    /// Part of application, component or owner.
    pub q: Option<String>,
}

/// One page of an answer.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The database's time of the answer.
    pub now_ms: i64,
    /// Where the next page begins; None = this is the last.
    pub next: Option<i64>,
}

/// A reservation as shown.
#[derive(Debug, Clone)]
pub struct ReservationView {
    /// Row id; also the cursor.
    pub id: i64,
    /// Application.
    pub app: String,
    /// Component.
    pub component: String,
    /// What was agreed; Err says why it cannot be read.
    pub settings: std::result::Result<Settings, String>,
    /// State.
    pub state: State,
    /// What is known of its runs.
    pub evidence: Evidence,
    /// Why it is snoozed, as told.
    pub snooze_reason: Option<String>,
    /// Who snoozed it, as told.
    pub snooze_by: Option<String>,
    /// Last change of settings.
    pub updated_ms: i64,
    /// The open incident: its id and content.
    pub incident: Option<(String, OpenIncident)>,
    /// The Kubernetes object that it belongs to; None: the API's own.
    pub object: Option<ObjectId>,
}

/// One check-in of the history.
#[derive(Debug, Clone)]
pub struct CheckInView {
    /// Row id; also the cursor.
    pub id: i64,
    /// Received.
    pub at_ms: i64,
    /// `start`, `ok`, `fail`, `log`.
    pub kind: String,
    /// Exit code, if told.
    pub exit_code: Option<u8>,
    /// Run id, if told.
    pub rid: Option<String>,
    /// Notes or output, the last bytes; shown lossily where it is not UTF-8.
    pub note: Option<String>,
}

/// One run of the history.
#[derive(Debug, Clone)]
pub struct RunView {
    /// Run id; "" when none was given.
    pub rid: String,
    /// Began.
    pub started_ms: i64,
    /// Ended; None = still running, as far as anybody told.
    pub ended_ms: Option<i64>,
    /// `ok`, `fail`, `abandoned`.
    pub outcome: Option<String>,
    /// Exit code, if told.
    pub exit_code: Option<u8>,
}

/// One incident.
#[derive(Debug, Clone)]
pub struct IncidentView {
    /// Id.
    pub id: String,
    /// Application (`gotel` for GoTel's own).
    pub app: String,
    /// Component.
    pub component: String,
    /// Why.
    pub reason: Reason,
    /// The run concerned, if any.
    pub rid: Option<String>,
    /// The exact moment that was missed.
    pub deadline_ms: i64,
    /// Noticed.
    pub opened_ms: i64,
    /// Closed; None = open.
    pub closed_ms: Option<i64>,
    /// How it ended.
    pub ending: Option<Ending>,
    /// Text of a system incident.
    pub detail: Option<String>,
    /// Whom we told, and whether it arrived.
    pub deliveries: Vec<DeliveryView>,
}

/// One outbox row.
#[derive(Debug, Clone)]
pub struct DeliveryView {
    /// What.
    pub event: Event,
    /// Over what.
    pub alerter: String,
    /// To whom; "" for an alerter with one target.
    pub recipient: String,
    /// Whether it arrived.
    pub state: OutboxState,
    /// Made.
    pub created_ms: i64,
    /// Arrived or given up.
    pub done_ms: Option<i64>,
    /// Tries so far.
    pub attempts: i64,
    /// Next try.
    pub next_ms: i64,
    /// What went wrong last.
    pub error: Option<String>,
}

/// How many of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// By state, of those not checked out.
    pub by_state: Vec<(State, i64)>,
    /// Snoozed now.
    pub snoozed: i64,
    /// Per alerter: rows pending or in flight, and the age of the oldest that is due.
    pub outbox: Vec<(String, i64, i64)>,
    /// Dead letters.
    pub dead: i64,
}

/// The coordinator's lease as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseView {
    /// Term.
    pub term: i64,
    /// Holder; empty when nobody leads.
    pub holder: String,
    /// Age of the last renewal.
    pub age_ms: i64,
    /// How long a renewal is good for.
    pub lease_ms: i64,
    /// Age of the last complete evaluation; None = never.
    pub eval_age_ms: Option<i64>,
}

impl LeaseView {
    /// Whether `replica` holds it, and has renewed it in time by the database's clock.
    pub fn is_held_by(&self, replica: &str) -> bool {
        self.holder == replica && self.age_ms <= self.lease_ms
    }
}

pub(super) const RULE: Rule = Rule::reading("view");

pub(super) type Sql = Query<'static, sqlx::Any, sqlx::any::AnyArguments>;

/// Conditions and their binds, joined by AND.
#[derive(Default)]
pub(super) struct Where {
    pub(super) text: String,
    binds: Vec<Bind>,
}

pub(super) enum Bind {
    Text(String),
    Number(i64),
}

impl Where {
    pub(super) fn and(&mut self, condition: &str, binds: impl IntoIterator<Item = Bind>) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
        self.binds.extend(binds);
    }

    pub(super) fn bind(self, mut query: Sql) -> Sql {
        for bind in self.binds {
            query = match bind {
                Bind::Text(text) => query.bind(text),
                Bind::Number(number) => query.bind(number),
            };
        }
        query
    }
}

/// Escapes LIKE's wildcards; the statements say `ESCAPE '!'`.
fn like(text: &str) -> String {
    text.chars().flat_map(|c| if matches!(c, '%' | '_' | '!') { vec!['!', c] } else { vec![c] }).collect()
}

impl Filter {
    pub(super) fn conditions(&self, now: &str) -> Where {
        let mut w = Where::default();
        if let Some(state) = self.state {
            w.and("r.state = ?", [Bind::Text(state.as_str().into())]);
        }
        if self.bad {
            w.and("(r.state IN ('late', 'failed', 'overrun') OR i.id IS NOT NULL)", []);
        }
        if self.snoozed {
            w.and(&format!("r.snooze_until_ms > {now}"), []);
        }
        if let Some(app) = &self.app {
            w.and("r.app = ?", [Bind::Text(app.clone())]);
        }
        if let Some(prefix) = &self.app_prefix {
            // Both: SQLite's LIKE takes a for A, MySQL's = takes "a" for "a ". A token's prefix must be exact.
            w.and(
                &format!("r.app LIKE ? ESCAPE '!' AND SUBSTR(r.app, 1, {}) = ?", prefix.chars().count()),
                [Bind::Text(format!("{}%", like(prefix))), Bind::Text(prefix.clone())],
            );
        }
        if let Some(owner) = &self.owner {
            w.and("r.owner = ?", [Bind::Text(owner.clone())]);
        }
        if let Some(q) = &self.q {
            // As written, too: SQLite's LOWER knows ASCII only.
            let (lower, written) = (format!("%{}%", like(&q.to_lowercase())), format!("%{}%", like(q)));
            let columns = ["r.app", "r.component", "r.owner"];
            let any = columns.map(|c| format!("LOWER({c}) LIKE ? ESCAPE '!' OR {c} LIKE ? ESCAPE '!'"));
            let binds = columns.iter().flat_map(|_| [lower.clone(), written.clone()]).map(Bind::Text);
            w.and(&format!("({})", any.join(" OR ")), binds.collect::<Vec<_>>());
        }
        w
    }
}

/// How many columns [`reservation_columns`] names.
pub(super) const RESERVATION_COLUMNS: usize = 31;

pub(super) fn reservation_columns() -> String {
    let prefixed = |list: &str, alias: &str| {
        list.split(',').map(|c| format!("{alias}.{}", c.trim())).collect::<Vec<_>>().join(", ")
    };
    format!(
        "r.id, r.app, r.component, r.settings, r.state, r.updated_ms, r.snooze_reason, r.snooze_by, i.id AS incident, {}, {}, \
         o.cluster, o.namespace, o.name, o.uid",
        prefixed(EVIDENCE, "r"),
        prefixed(OPEN_INCIDENT, "i")
    )
}

pub(super) fn reservation(row: &AnyRow) -> Result<ReservationView> {
    let incident: Option<String> = row.try_get(8)?;
    // What cannot be read is shown as such, and never keeps the other rows from the page.
    let word: String = row.try_get(4)?;
    let known = State::parse(&word);
    let mut settings = Settings::from_stored(&row.try_get::<String, _>(3)?);
    if known.is_none() {
        settings = Err(format!("unknown state {word:?}"));
    }
    Ok(ReservationView {
        id: row.try_get(0)?,
        app: row.try_get(1)?,
        component: row.try_get(2)?,
        settings,
        state: known.unwrap_or(State::Waiting),
        updated_ms: row.try_get(5)?,
        snooze_reason: row.try_get(6)?,
        snooze_by: row.try_get(7)?,
        evidence: evidence(row, 9)?,
        incident: match incident {
            Some(id) => Some((id, open_incident(row, 20)?)),
            None => None,
        },
        object: match row.try_get(27)? {
            Some(cluster) => Some(ObjectId {
                cluster,
                namespace: row.try_get(28)?,
                name: row.try_get(29)?,
                uid: row.try_get(30)?,
            }),
            None => None,
        },
    })
}

/// `FROM` of [`reservation_columns`]: reservations not checked out, with their open incident and their owner.
pub(super) const FROM_OWNED: &str = "FROM reservation r LEFT JOIN incident i ON i.reservation_id = r.id AND i.closed_ms IS NULL \
     LEFT JOIN kube_object o ON o.reservation_id = r.id WHERE r.checked_out_ms IS NULL";

/// `FROM` of every count over them.
pub(super) const FROM: &str = "FROM reservation r LEFT JOIN incident i ON i.reservation_id = r.id AND i.closed_ms IS NULL \
     WHERE r.checked_out_ms IS NULL";

impl Store {
    /// Reservations matching `filter`, by id, after the cursor.
    pub async fn list(
        &self,
        filter: &Filter,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Page<ReservationView>> {
        transact!(self.pooled().await?, RULE, |tx| {
            let now_ms = tx.now_ms().await?;
            let mut w = filter.conditions(&now_ms.to_string());
            if let Some(after) = after {
                w.and("r.id > ?", [Bind::Number(after)]);
            }
            let text = format!(
                "SELECT {} {FROM_OWNED}{} ORDER BY r.id LIMIT {}",
                reservation_columns(),
                w.text,
                limit + 1
            );
            let rows = tx.all(w.bind(sql(text))).await?;
            let more = rows.len() > limit;
            let items = rows.iter().take(limit).map(reservation).collect::<Result<Vec<_>>>()?;
            let next = if more { items.last().map(|r| r.id) } else { None };
            Ok(Page { items, now_ms, next })
        })
    }

    /// One reservation; None: unknown or checked out.
    pub async fn reservation(&self, key: &JobKey) -> Result<Option<(ReservationView, i64)>> {
        transact!(self.pooled().await?, RULE, |tx| {
            let now_ms = tx.now_ms().await?;
            let text = format!("SELECT {} {FROM_OWNED} AND r.rkey = ?", reservation_columns());
            let row = tx.maybe(sql(text).bind(key.digest())).await?;
            row.as_ref().map(|row| Ok((reservation(row)?, now_ms))).transpose()
        })
    }

    /// Check-ins of a reservation, newest first, before the cursor.
    pub async fn checkins(&self, id: i64, before: Option<i64>, limit: usize) -> Result<Page<CheckInView>> {
        transact!(self.pooled().await?, RULE, |tx| {
            let now_ms = tx.now_ms().await?;
            let rows = tx
                .all(
                    sql(format!(
                        "SELECT id, at_ms, kind, exit_code, rid, note FROM checkin WHERE reservation_id = ? AND id < ? \
                         ORDER BY id DESC LIMIT {}",
                        limit + 1
                    ))
                    .bind(id)
                    .bind(before.unwrap_or(i64::MAX)),
                )
                .await?;
            let more = rows.len() > limit;
            let mut items = Vec::with_capacity(rows.len());
            for row in rows.iter().take(limit) {
                items.push(CheckInView {
                    id: row.try_get(0)?,
                    at_ms: row.try_get(1)?,
                    kind: row.try_get(2)?,
                    exit_code: exit_code(row, 3)?,
                    rid: row.try_get(4)?,
                    note: row
                        .try_get::<Option<Vec<u8>>, _>(5)?
                        .map(|b| String::from_utf8_lossy(&b).into_owned()),
                });
            }
            let next = if more { items.last().map(|c| c.id) } else { None };
            Ok(Page { items, now_ms, next })
        })
    }

    /// The newest runs of a reservation.
    pub async fn runs(&self, id: i64, limit: usize) -> Result<Vec<RunView>> {
        transact!(self.pooled().await?, RULE, |tx| {
            let rows = tx
                .all(
                    sql(format!(
                        "SELECT rid, started_ms, ended_ms, outcome, exit_code FROM run WHERE reservation_id = ? \
                         ORDER BY started_ms DESC LIMIT {limit}"
                    ))
                    .bind(id),
                )
                .await?;
            rows.iter()
                .map(|row| {
                    Ok(RunView {
                        rid: row.try_get(0)?,
                        started_ms: row.try_get(1)?,
                        ended_ms: row.try_get(2)?,
                        outcome: row.try_get(3)?,
                        exit_code: exit_code(row, 4)?,
                    })
                })
                .collect()
        })
    }

    /// The newest incidents of a reservation, with their deliveries.
    pub async fn incidents(&self, id: i64, limit: usize) -> Result<Vec<IncidentView>> {
        transact!(self.pooled().await?, RULE, |tx| {
            let text = format!("{INCIDENT} WHERE reservation_id = ? ORDER BY opened_ms DESC LIMIT {limit}");
            let rows = tx.all(sql(text).bind(id)).await?;
            with_deliveries(tx, &rows).await
        })
    }

    /// Incidents by id, with their deliveries.
    pub async fn incidents_by_id(&self, ids: &[String]) -> Result<Vec<IncidentView>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        transact!(self.pooled().await?, RULE, |tx| {
            let mut query = sql(format!("{INCIDENT} WHERE id IN ({})", marks(ids.len())));
            for id in ids {
                query = query.bind(id.clone());
            }
            let rows = tx.all(query).await?;
            with_deliveries(tx, &rows).await
        })
    }

    /// GoTel's own open incidents, oldest first.
    pub async fn system_incidents(&self) -> Result<Vec<IncidentView>> {
        transact!(self.pooled().await?, RULE, |tx| {
            let text = format!("{INCIDENT} WHERE open_key LIKE 's/%' ORDER BY opened_ms LIMIT 100");
            let rows = tx.all(sql(text)).await?;
            with_deliveries(tx, &rows).await
        })
    }

    /// All outages still remembered, oldest first.
    pub async fn outages(&self) -> Result<Vec<Outage>> {
        transact!(self.pooled().await?, RULE, |tx| { super::outages::load(tx).await })
    }

    /// Totals for metrics and the head of the status page.
    pub async fn counts(&self) -> Result<Counts> {
        transact!(self.pooled().await?, RULE, |tx| {
            let now = tx.now_ms().await?;
            let mut counts = Counts::default();
            let by_state =
                "SELECT state, COUNT(*) FROM reservation WHERE checked_out_ms IS NULL GROUP BY state";
            for row in tx.all(sql(by_state)).await? {
                if let Some(state) = State::parse(&row.try_get::<String, _>(0)?) {
                    counts.by_state.push((state, row.try_get(1)?));
                }
            }
            let snoozed =
                "SELECT COUNT(*) FROM reservation WHERE checked_out_ms IS NULL AND snooze_until_ms > ?";
            counts.snoozed = tx.one(sql(snoozed).bind(now)).await?.try_get(0)?;
            let outbox = format!(
                "SELECT d.alerter, COUNT(*), MIN({}) FROM delivery d WHERE d.state IN ('pending', 'inflight') \
                 GROUP BY d.alerter",
                held::waits_since(&tx.inner().now_expr())
            );
            for row in tx.all(sql(outbox)).await? {
                let since: Option<i64> = row.try_get(2)?;
                let age_ms = since.map_or(0, |since| (now - since).max(0));
                counts.outbox.push((row.try_get(0)?, row.try_get(1)?, age_ms));
            }
            let dead = "SELECT COUNT(*) FROM delivery WHERE state = 'dead'";
            counts.dead = tx.one(sql(dead)).await?.try_get(0)?;
            Ok(counts)
        })
    }

    /// Who coordinates.
    pub async fn lease(&self, scope: &'static str) -> Result<Option<LeaseView>> {
        transact!(self.pooled().await?, RULE, |tx| {
            let now = tx.now_ms().await?;
            let text = "SELECT term, holder, renewed_ms, eval_ms, lease_ms FROM lease WHERE scope = ?";
            let Some(row) = tx.maybe(sql(text).bind(scope)).await? else { return Ok(None) };
            let eval: i64 = row.try_get(3)?;
            Ok(Some(LeaseView {
                term: row.try_get(0)?,
                holder: row.try_get(1)?,
                age_ms: now - row.try_get::<i64, _>(2)?,
                lease_ms: row.try_get(4)?,
                eval_age_ms: (eval > 0).then_some(now - eval),
            }))
        })
    }
}

pub(super) const INCIDENT: &str =
    "SELECT id, app, component, reason, rid, deadline_ms, opened_ms, closed_ms, ending, detail FROM incident";

pub(super) async fn with_deliveries(tx: &mut Tx, rows: &[AnyRow]) -> Result<Vec<IncidentView>> {
    let mut incidents = Vec::with_capacity(rows.len());
    for row in rows {
        let reason: String = row.try_get(3)?;
        let ending: Option<String> = row.try_get(8)?;
        incidents.push(IncidentView {
            id: row.try_get(0)?,
            app: row.try_get(1)?,
            component: row.try_get(2)?,
            reason: Reason::parse(&reason).unwrap_or(Reason::System),
            rid: row.try_get(4)?,
            deadline_ms: row.try_get(5)?,
            opened_ms: row.try_get(6)?,
            closed_ms: row.try_get(7)?,
            ending: ending.as_deref().and_then(Ending::parse),
            detail: row.try_get(9)?,
            deliveries: Vec::new(),
        });
    }
    if incidents.is_empty() {
        return Ok(incidents);
    }
    let mut query = sql(format!(
        "SELECT incident_id, event, alerter, recipient, state, created_ms, done_ms, attempts, next_ms, error \
         FROM delivery WHERE incident_id IN ({}) ORDER BY id LIMIT 5000",
        marks(incidents.len())
    ));
    for incident in &incidents {
        query = query.bind(incident.id.clone());
    }
    for row in tx.all(query).await? {
        let of: String = row.try_get(0)?;
        let (event, state): (String, String) = (row.try_get(1)?, row.try_get(4)?);
        let (Some(event), Some(state)) = (Event::parse(&event), OutboxState::parse(&state)) else { continue };
        if let Some(incident) = incidents.iter_mut().find(|i| i.id == of) {
            incident.deliveries.push(DeliveryView {
                event,
                alerter: row.try_get(2)?,
                recipient: row.try_get(3)?,
                state,
                created_ms: row.try_get(5)?,
                done_ms: row.try_get(6)?,
                attempts: row.try_get(7)?,
                next_ms: row.try_get(8)?,
                error: row.try_get(9)?,
            });
        }
    }
    Ok(incidents)
}

fn exit_code(row: &AnyRow, at: usize) -> Result<Option<u8>> {
    Ok(row.try_get::<Option<i64>, _>(at)?.and_then(|c| u8::try_from(c).ok()))
}
