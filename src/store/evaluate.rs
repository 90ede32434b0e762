//! The coordinator's transaction: load what is due, let the rules decide, write everything they said.
//!
//! Promises: states, incidents and outbox rows of a batch are committed together or not at all, under
//! the fence. A check-in that commits first is seen (its row is locked here too). `plan` is given the
//! database's time and must be pure: the transaction may run again.
//!
//! Races: GoTel frozen or cut off for a while: before anything is judged, the mark that says when a
//! check-in could last be accepted is read *in this transaction*; if it is old, [`StoreError::Gap`]
//! comes back and the outage must be recorded first. So it is when the database's clock is not where this
//! machine's boot clock expects it: a jump is recorded first, too.

use super::decode::{EVIDENCE, EVIDENCE_COLUMNS, evidence};
use super::dialect::{chunks, chunks_of, marks, number, text};
use super::error::{Result, StoreError};
use super::incidents::{self, SystemReport};
use super::lease::{Leading, check_belief, fence};
use super::objects::last_heard;
use super::outages;
use super::outbox::{self, NewDelivery, OutboxState, clip};
use super::runs;
use super::session::{Rule, Session, Tx, sql, transact};
use super::told;
use crate::clock;
use crate::failpoint;
use crate::reservation::evidence::OpenRun;
use crate::reservation::incident::{Ending, OpenIncident, Reason};
use crate::reservation::outage::{OUTAGE_AFTER_MS, Outage};
use crate::reservation::{Event, Evidence, Settings, State};
use sqlx::Row;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// Everything one decision rests on.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Row id.
    pub id: i64,
    /// Application.
    pub app: String,
    /// Component.
    pub component: String,
    /// Raised by each new reservation after a checkout.
    pub generation: i64,
    /// What was agreed; Err: cannot be read.
    pub settings: std::result::Result<Settings, String>,
    /// State.
    pub state: State,
    /// What is known of its runs.
    pub evidence: Evidence,
    /// Whether it has been checked out.
    pub checked_out: bool,
    /// Runs that have not ended, oldest first; none where their length does not matter.
    pub runs: Vec<OpenRun>,
    /// Whether there are more of them than were read.
    pub more_runs: bool,
    /// The open incident.
    pub open: Option<Open>,
    /// End of the output of the last failure, where one may have to be told.
    pub output: Option<String>,
    /// The cluster of the Kubernetes object that it belongs to, and when that was last heard of (0: never).
    pub cluster: Option<(String, i64)>,
}

/// An open incident with what was told of it.
#[derive(Debug, Clone)]
pub struct Open {
    /// Its id.
    pub id: String,
    /// Generation of the reservation it belongs to.
    pub generation: i64,
    /// Its key at the receivers.
    pub dedup_key: String,
    /// What the rules need.
    pub incident: OpenIncident,
    /// Its outbox rows, however many reminders there were.
    pub told: Vec<Told>,
}

/// One outbox row of an open incident; one that is finished stands for all that differ in nothing told here.
#[derive(Debug, Clone)]
pub struct Told {
    /// Row id.
    pub id: i64,
    /// Alerter.
    pub alerter: String,
    /// Recipient.
    pub recipient: String,
    /// What.
    pub event: Event,
    /// Whether it arrived.
    pub state: OutboxState,
    /// Tries so far.
    pub attempts: i64,
    /// The digest that told it; None for a reminder, as no alert stands for reminders.
    pub digest: Option<String>,
}

/// A batch, loaded and locked.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The database's time of this transaction.
    pub now_ms: i64,
    /// Own outages, oldest first.
    pub outages: Vec<Outage>,
    /// The rows that are due.
    pub subjects: Vec<Subject>,
    /// The digests that told of the subjects' incidents.
    pub digests: BTreeMap<String, Digested>,
}

/// What a digest stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digested {
    /// How many of its incidents are open.
    pub open: i64,
    /// Whether it never arrived, and never will.
    pub given_up: bool,
}

/// What to write for one subject.
#[derive(Debug, Clone)]
pub struct Change {
    /// Row id.
    pub id: i64,
    /// New state.
    pub state: State,
    /// Next moment of attention.
    pub due_ms: i64,
    /// Closes the open incident.
    pub closing: Option<Closing>,
    /// Opens a new one (after the closing).
    pub opening: Option<Opening>,
    /// Moves the open incident on: id, event number, next reminder, escalation steps told.
    pub progress: Option<(String, i64, Option<i64>, u32)>,
    /// Runs no longer waited for.
    pub abandon: Vec<String>,
    /// Outbox rows no longer worth telling.
    pub supersede: Vec<i64>,
}

/// How an incident is closed.
#[derive(Debug, Clone)]
pub struct Closing {
    /// Its id.
    pub id: String,
    /// How.
    pub ending: Ending,
    /// When.
    pub at_ms: i64,
    /// Number of the closing event.
    pub event_no: i64,
}

/// A new incident.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Its id.
    pub id: String,
    /// Generation of the reservation.
    pub generation: i64,
    /// Application.
    pub app: String,
    /// Component.
    pub component: String,
    /// Why.
    pub reason: Reason,
    /// The run concerned.
    pub rid: Option<String>,
    /// Key at the receivers.
    pub dedup_key: String,
    /// The exact moment that was missed.
    pub deadline_ms: i64,
    /// Next reminder.
    pub next_remind_ms: Option<i64>,
}

/// What `plan` decided for a batch.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// One entry a subject.
    pub changes: Vec<Change>,
    /// Outbox rows.
    pub deliveries: Vec<NewDelivery>,
    /// GoTel's own troubles (rows set aside).
    pub reports: Vec<SystemReport>,
}

/// A row that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRow {
    /// Its key.
    pub rkey: String,
    /// Its id.
    pub id: i64,
    /// Application.
    pub app: String,
    /// Component.
    pub component: String,
    /// The database's time.
    pub now_ms: i64,
}

/// What a batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batch {
    /// Rows looked at.
    pub examined: usize,
    /// Incidents opened.
    pub opened: usize,
    /// Incidents closed.
    pub closed: usize,
    /// Notices queued.
    pub queued: usize,
    /// Rows that could not be decided.
    pub set_aside: usize,
}

/// A miss is a dozen round trips, and a few more on a new connection, where what carries texts is prepared first. Shorter
/// than the half minute without a complete evaluation after which the lease is given up.
const RULE: Rule = Rule::named("evaluate")
    .within(Duration::from_secs(22))
    .each_within(Duration::from_secs(8))
    .connecting_apart();

const LOOK: Rule = Rule::reading("due").within(Duration::from_secs(3)).connecting_apart();

/// Characters of a failed run's output in its notice.
const OUTPUT_MAX: usize = 4000;

impl Session {
    /// Whether anything is due: a read that costs next to nothing when nothing is.
    pub async fn anything_due(&mut self) -> Result<bool> {
        transact!(&mut *self, LOOK, |tx| {
            let now = tx.inner().now_expr();
            let text = format!("SELECT id FROM reservation WHERE due_ms <= {now} ORDER BY due_ms LIMIT 1");
            Ok(tx.first(text).await?.is_some())
        })
    }

    /// The row that is due first.
    pub async fn first_due(&mut self) -> Result<Option<DueRow>> {
        transact!(&mut *self, LOOK, |tx| {
            let now = tx.inner().now_expr();
            let text = format!(
                "SELECT rkey, id, app, component, {now} AS now_ms FROM reservation WHERE due_ms <= {now} \
                 ORDER BY due_ms, id LIMIT 1"
            );
            let Some(row) = tx.first(text).await? else { return Ok(None) };
            Ok(Some(DueRow {
                rkey: row.try_get(0)?,
                id: row.try_get(1)?,
                app: row.try_get(2)?,
                component: row.try_get(3)?,
                now_ms: row.try_get(4)?,
            }))
        })
    }

    /// Evaluates at most `limit` due rows.
    pub async fn evaluate(
        &mut self,
        leading: &Leading,
        limit: usize,
        plan: impl Fn(&Loaded) -> Outcome,
    ) -> Result<Batch> {
        self.evaluate_some(leading, limit, None, plan).await
    }

    /// Evaluates one row, and no other.
    pub async fn evaluate_row(
        &mut self,
        leading: &Leading,
        row: &DueRow,
        plan: impl Fn(&Loaded) -> Outcome,
    ) -> Result<Batch> {
        self.evaluate_some(leading, 1, Some(&row.rkey), plan).await
    }

    async fn evaluate_some(
        &mut self,
        leading: &Leading,
        limit: usize,
        only: Option<&str>,
        plan: impl Fn(&Loaded) -> Outcome,
    ) -> Result<Batch> {
        transact!(&mut *self, RULE, |tx| {
            check_belief(tx, leading)?;
            let (now, alive_ms) = outages::now_and_alive_ms(tx).await?;
            let believed = tx.inner().offset.believes(now, clock::boot_ms());
            if !believed || now - alive_ms > OUTAGE_AFTER_MS {
                return Err(StoreError::Gap { alive_ms });
            }
            let keys = match only {
                Some(rkey) => vec![rkey.to_owned()],
                None => due(tx, now, limit).await?,
            };
            if keys.is_empty() {
                return Ok(Batch::default());
            }
            failpoint::reach("evaluate_transaction").await;
            let loaded = load(tx, now, &keys).await?;
            let outcome = plan(&loaded);
            let mut batch = Batch {
                examined: loaded.subjects.len(),
                queued: outcome.deliveries.len(),
                set_aside: outcome.reports.len(),
                ..Batch::default()
            };
            batch.opened = outcome.changes.iter().filter(|c| c.opening.is_some()).count();
            batch.closed = outcome.changes.iter().filter(|c| c.closing.is_some()).count();
            apply(tx, now, leading, &loaded, &outcome).await?;
            fence(tx, leading).await?;
            Ok(batch)
        })
    }

    /// Sets a row aside until `now + for_ms`, under the fence: it cannot be read, or written as decided.
    pub async fn set_aside(
        &mut self,
        leading: &Leading,
        id: i64,
        for_ms: i64,
        report: &SystemReport,
    ) -> Result<()> {
        transact!(&mut *self, RULE, |tx| {
            check_belief(tx, leading)?;
            let now = tx.now_ms().await?;
            tx.run(sql("UPDATE reservation SET due_ms = ? WHERE id = ?").bind(now + for_ms).bind(id)).await?;
            incidents::report(tx, now, report).await?;
            fence(tx, leading).await
        })
    }
}

async fn due(tx: &mut Tx, now: i64, limit: usize) -> Result<Vec<String>> {
    let text =
        format!("SELECT rkey FROM reservation WHERE due_ms <= {now} ORDER BY due_ms, id LIMIT {limit}");
    let mut keys = Vec::new();
    for row in tx.all_plain(text).await? {
        keys.push(row.try_get(0)?);
    }
    // One lock order for everybody: check-ins lock by key, too.
    keys.sort_unstable();
    Ok(keys)
}

async fn load(tx: &mut Tx, now_ms: i64, keys: &[String]) -> Result<Loaded> {
    let mut subjects: BTreeMap<i64, Subject> = BTreeMap::new();
    let mut running = Vec::new();
    for range in chunks(keys.len()) {
        let dialect = tx.inner().dialect;
        let (by_key, for_update) = (dialect.by_key(), dialect.for_update());
        let keys: Vec<String> = keys[range].iter().map(|key| dialect.word(key)).collect();
        let text = format!(
            "SELECT id, app, component, gen, settings, state, checked_out_ms, uses_runs, \
             max_runtime_ms, {EVIDENCE}, \
             (SELECT o.cluster FROM kube_object o WHERE o.reservation_id = reservation.id) AS cluster \
             FROM reservation{by_key} WHERE rkey IN ({}) ORDER BY rkey{for_update}",
            keys.join(", "),
        );
        for row in tx.all_plain(text).await? {
            let id: i64 = row.try_get(0)?;
            let stored: String = row.try_get(4)?;
            if row.try_get::<i64, _>(7)? != 0 && row.try_get::<Option<i64>, _>(8)?.is_some() {
                running.push(id);
            }
            // The state follows from the rest: a word that cannot be read is written anew.
            let state = State::parse(&row.try_get::<String, _>(5)?).unwrap_or(State::Waiting);
            let evidence = evidence(&row, 9);
            subjects.insert(
                id,
                Subject {
                    id,
                    app: row.try_get(1)?,
                    component: row.try_get(2)?,
                    generation: row.try_get(3)?,
                    settings: match &evidence {
                        Ok(_) => Settings::from_stored(&stored),
                        Err(e) => Err(e.to_string()),
                    },
                    state,
                    evidence: evidence.unwrap_or_default(),
                    checked_out: row.try_get::<Option<i64>, _>(6)?.is_some(),
                    runs: Vec::new(),
                    more_runs: false,
                    open: None,
                    output: None,
                    cluster: row.try_get::<Option<String>, _>(9 + EVIDENCE_COLUMNS)?.map(|name| (name, 0)),
                },
            );
        }
    }
    load_runs(tx, &running, &mut subjects).await?;
    let ids: Vec<i64> = subjects.keys().copied().collect();
    let digests = told::load(tx, &ids, &mut subjects).await?;
    load_output(tx, &mut subjects).await?;
    load_clusters(tx, &mut subjects).await?;
    let outages = outages::load(tx).await?;
    Ok(Loaded { now_ms, outages, subjects: subjects.into_values().collect(), digests })
}

async fn load_runs(tx: &mut Tx, ids: &[i64], subjects: &mut BTreeMap<i64, Subject>) -> Result<()> {
    for (id, open) in runs::open(tx, ids).await? {
        if let Some(subject) = subjects.get_mut(&id) {
            subject.more_runs = open.len() >= runs::OPEN_MAX;
            subject.runs = open;
        }
    }
    Ok(())
}

/// When the subjects' clusters were last heard of: one trip, and none where there are no clusters.
async fn load_clusters(tx: &mut Tx, subjects: &mut BTreeMap<i64, Subject>) -> Result<()> {
    let heard = last_heard(tx, subjects.values().filter_map(|s| Some(&s.cluster.as_ref()?.0))).await?;
    for (name, heard_ms) in subjects.values_mut().filter_map(|s| s.cluster.as_mut()) {
        *heard_ms = heard.get(name).copied().unwrap_or_default();
    }
    Ok(())
}

/// The output of a failure that has not been told yet.
async fn load_output(tx: &mut Tx, subjects: &mut BTreeMap<i64, Subject>) -> Result<()> {
    for subject in subjects.values_mut() {
        if subject.evidence.fails == 0 || subject.open.is_some() || subject.checked_out {
            continue;
        }
        let text =
            "SELECT note FROM checkin WHERE reservation_id = ? AND kind = 'fail' ORDER BY id DESC LIMIT 1";
        if let Some(row) = tx.maybe(sql(text).bind(subject.id)).await? {
            let note: Option<Vec<u8>> = row.try_get(0)?;
            subject.output = note.as_deref().map(shown);
        }
    }
    Ok(())
}

/// The end of an output as it is told: printable, and short beside the 10 kB that are kept.
fn shown(note: &[u8]) -> String {
    let text = String::from_utf8_lossy(note);
    let text: Vec<char> = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    text[text.len().saturating_sub(OUTPUT_MAX)..].iter().collect()
}

async fn apply(tx: &mut Tx, now: i64, leading: &Leading, loaded: &Loaded, outcome: &Outcome) -> Result<()> {
    let changes = &outcome.changes;
    let dialect = tx.inner().dialect;
    for range in chunks(changes.len()) {
        let mut query =
            sql(dialect.bulk_update("reservation", &[text("state"), number("due_ms")], range.len()));
        for change in &changes[range] {
            query = query.bind(change.id).bind(change.state.as_str()).bind(change.due_ms);
        }
        tx.run(query).await?;
    }
    for change in changes {
        runs::abandon(tx, now, change.id, &change.abandon).await?;
        if let Some((id, event_no, next_remind_ms, escalated)) = &change.progress {
            let text = "UPDATE incident SET event_no = ?, next_remind_ms = ?, escalated = ? WHERE id = ?";
            tx.run(
                sql(text).bind(*event_no).bind(*next_remind_ms).bind(i64::from(*escalated)).bind(id.clone()),
            )
            .await?;
        }
        if let Some(closing) = &change.closing {
            let text = "UPDATE incident SET open_key = NULL, closed_ms = ?, ending = ?, event_no = ?, \
                 next_remind_ms = NULL WHERE id = ? AND closed_ms IS NULL";
            let query = sql(text).bind(closing.at_ms).bind(closing.ending.as_str()).bind(closing.event_no);
            tx.run(query.bind(closing.id.clone())).await?;
        }
        for range in chunks(change.supersede.len()) {
            let mut query = sql(format!(
                "UPDATE delivery SET state = 'superseded', done_ms = ? WHERE state = 'pending' AND id IN ({})",
                marks(range.len())
            ))
            .bind(now);
            for id in &change.supersede[range] {
                query = query.bind(*id);
            }
            tx.run(query).await?;
        }
    }
    open(tx, now, leading, changes).await?;
    outbox::insert(tx, now, &outcome.deliveries).await?;
    for report in &outcome.reports {
        incidents::report(tx, now, report).await?;
    }
    let reported: HashSet<&str> = outcome.reports.iter().map(|r| r.subject.as_str()).collect();
    let decided = loaded.subjects.iter().map(|s| (s.app.as_str(), s.component.as_str()));
    let decided = decided.filter(|(app, component)| {
        !reported.contains(incidents::undecidable_subject(app, component).as_str())
    });
    incidents::withdraw_decided(tx, now, decided).await
}

async fn open(tx: &mut Tx, now: i64, leading: &Leading, changes: &[Change]) -> Result<()> {
    let openings: Vec<(i64, &Opening)> =
        changes.iter().filter_map(|c| c.opening.as_ref().map(|o| (c.id, o))).collect();
    for range in chunks_of(32, openings.len()) {
        let row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, ?)";
        let mut query = sql(format!(
            "INSERT INTO incident (id, open_key, reservation_id, gen, app, component, reason, rid, dedup_key, \
             deadline_ms, opened_ms, event_no, next_remind_ms, escalated, term) VALUES {}",
            vec![row; range.len()].join(", ")
        ));
        for (id, opening) in &openings[range] {
            query = query
                .bind(opening.id.clone())
                .bind(open_key(*id))
                .bind(*id)
                .bind(opening.generation)
                .bind(opening.app.clone())
                .bind(opening.component.clone())
                .bind(opening.reason.as_str())
                .bind(opening.rid.as_deref().map(clip))
                .bind(opening.dedup_key.clone())
                .bind(opening.deadline_ms)
                .bind(now)
                .bind(opening.next_remind_ms)
                .bind(leading.term());
        }
        tx.run(query).await?;
    }
    Ok(())
}

pub(super) fn open_key(id: i64) -> String {
    format!("r/{id}")
}
