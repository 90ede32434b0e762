//! `/nodes`: all replicas as this one sees them, its own loops, and who coordinates.
//!
//! Promises: shows what this process knows of itself even when the database is down, with 503 then.

use super::super::auth::Caller;
use super::super::{App, Error};
use super::{Frame, html};
use crate::board::ReplicaCard;
use crate::clock;
use crate::lifecycle::LoopAge;
use crate::reservation::duration::human;
use crate::secret::watch as secret;
use crate::store::dialect::Dialect;
use crate::store::lease::COORDINATOR;
use crate::store::{Counts, LeaseView, StoreError};
use askama::Template;
use axum::extract::{OriginalUri, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "nodes.html")]
struct NodesPage {
    frame: Frame,
    replica: String,
    role: &'static str,
    draining: bool,
    open: bool,
    database: &'static str,
    install_id: String,
    loops: Vec<Loop>,
    stuck: usize,
    /// All replicas; empty when this one is alone.
    replicas: Vec<Card>,
    /// How many of them are not well.
    unwell: usize,
    /// Whose secrets are read again from files.
    secrets: Vec<Kept>,
    /// How many of them cannot be.
    stale: usize,
    /// What was told without the database.
    direct: Vec<String>,
    /// None: the database does not answer.
    shared: Option<Shared>,
}

/// What the database knows.
struct Shared {
    lease: Option<Lease>,
    outbox: Vec<Waiting>,
    dead: i64,
}

struct Lease {
    term: i64,
    holder: String,
    age: String,
    eval_age: Option<String>,
}

/// What waits for an alerter.
struct Waiting {
    alerter: String,
    pending: i64,
    oldest: String,
    /// Whether this replica has the alerter.
    known: bool,
}

/// A replica as the board shows it.
struct Card {
    id: String,
    here: bool,
    configured: bool,
    role: &'static str,
    term: Option<i64>,
    verdict: &'static str,
    /// Class of its badge.
    class: &'static str,
    evidence: String,
    beat: String,
    eval: String,
    watch: String,
    version: String,
}

impl Card {
    /// `late_ms` have passed since the board was written.
    fn new(card: ReplicaCard, late_ms: i64) -> Self {
        let age = |ms: Option<i64>| ms.map_or_else(String::new, |ms| ago(ms + late_ms));
        let class = match (card.healthy, card.verdict) {
            (true, "healthy") => "ok",
            (true, _) => "waiting",
            (false, _) => "failed",
        };
        Self {
            id: card.id,
            here: card.here,
            configured: card.configured,
            role: card.role,
            term: card.term,
            verdict: card.verdict,
            class,
            evidence: card.evidence,
            beat: age(card.beat_age_ms),
            eval: age(card.eval_age_ms),
            watch: age(card.watch_age_ms),
            version: card.version,
        }
    }
}

fn ago(ms: i64) -> String {
    if ms < 1000 { "just now".into() } else { format!("{} ago", human(ms)) }
}

/// A secret that is read again: never what it is.
struct Kept {
    name: String,
    files: String,
    /// None: what the files hold is in use.
    trouble: Option<String>,
}

impl From<secret::Card> for Kept {
    fn from(card: secret::Card) -> Self {
        Self { name: card.name, files: card.files.join(", "), trouble: card.trouble }
    }
}

struct Loop {
    name: String,
    age: String,
    limit: String,
    note: String,
    healthy: bool,
}

impl From<LoopAge> for Loop {
    fn from(age: LoopAge) -> Self {
        let healthy = age.is_healthy();
        Self { name: age.name, age: ago(age.age_ms), limit: human(age.limit_ms), note: age.note, healthy }
    }
}

async fn shared(app: &App) -> Result<(Option<LeaseView>, Counts, i64), StoreError> {
    Ok((app.store.lease(COORDINATOR).await?, app.store.counts().await?, app.store.now_ms().await?))
}

/// This replica and what it shares.
pub(super) async fn nodes(
    State(app): State<Arc<App>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Error> {
    caller.sees_all()?;
    let (known, now_ms) = match shared(&app).await {
        Ok((lease, counts, now_ms)) => (Some((lease, counts)), Some(now_ms)),
        Err(e) => {
            tracing::warn!(error = %e, "the page of nodes has no database: {e}");
            (None, None)
        }
    };
    let role = match &known {
        None => "unknown",
        Some((Some(lease), _)) if lease.is_held_by(&app.replica) => "coordinator",
        Some(_) => "worker",
    };
    let shown = app.board.read();
    let late_ms = clock::boot_ms() - shown.boot_ms;
    let replicas: Vec<Card> = shown.replicas.into_iter().map(|card| Card::new(card, late_ms)).collect();
    let loops: Vec<Loop> = app.loops.ages().into_iter().map(Loop::from).collect();
    let secrets: Vec<Kept> = app.secrets.read().into_iter().map(Kept::from).collect();
    let page = NodesPage {
        frame: Frame::new("nodes", &uri, now_ms),
        replica: app.replica.clone(),
        role,
        draining: app.loops.is_draining(),
        open: app.auth.is_open(),
        database: match app.store.dialect() {
            Dialect::Sqlite => "SQLite, embedded",
            Dialect::MySql => "MySQL or MariaDB, shared",
        },
        install_id: app.store.install_id().to_owned(),
        stale: secrets.iter().filter(|kept| kept.trouble.is_some()).count(),
        secrets,
        stuck: loops.iter().filter(|l| !l.healthy).count(),
        loops,
        unwell: replicas.iter().filter(|card| card.class == "failed").count(),
        replicas,
        direct: shown.direct,
        shared: known.map(|(lease, counts)| Shared::new(&app, lease, counts)),
    };
    let code = if page.shared.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((code, html(&page)?).into_response())
}

impl Shared {
    fn new(app: &App, lease: Option<LeaseView>, counts: Counts) -> Self {
        let names = app.routes.names();
        let mut outbox: Vec<_> = names
            .iter()
            .filter(|name| !counts.outbox.iter().any(|(alerter, ..)| alerter == *name))
            .map(|name| Waiting { alerter: name.clone(), pending: 0, oldest: String::new(), known: true })
            .collect();
        outbox.extend(counts.outbox.iter().map(|(alerter, pending, oldest_ms)| Waiting {
            alerter: alerter.clone(),
            pending: *pending,
            oldest: if *oldest_ms > 0 { human(*oldest_ms) } else { String::new() },
            known: names.contains(alerter),
        }));
        outbox.sort_by(|a, b| a.alerter.cmp(&b.alerter));
        Self {
            lease: lease.filter(|l| !l.holder.is_empty()).map(|l| Lease {
                term: l.term,
                holder: l.holder,
                age: ago(l.age_ms),
                eval_age: l.eval_age_ms.map(ago),
            }),
            outbox,
            dead: counts.dead,
        }
    }
}
