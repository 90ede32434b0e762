//! One replica: every part wired, started in order, and ended in order.
//!
//! Promises: once [`Replica::start`] returns, check-ins are accepted and every loop runs. Ending it goes
//! from the outside in: first nobody is sent here any more (`/readyz`), then requests in flight are
//! answered, then the check-in queue is flushed and sends in flight end, and last the lease is given back.
//! A task that ends by itself ends the process: half a monitor is none.

use crate::alert::dispatch::{Dispatcher, Parts};
use crate::alert::{self, Reporter, orphans};
use crate::checkin;
use crate::clock;
use crate::config::Config;
use crate::coordinator::{self, Context, Coordinator, lease::Timers};
use crate::http::{self, App, Auth};
use crate::lifecycle::{Loops, Tasks};
use crate::metrics::Metrics;
use crate::reservation::Invalid;
use crate::reservation::routing::Routes;
use crate::store::dialect::Dialect;
use crate::store::{Life, Session, Store, StoreError, SystemKind, SystemReport};
use futures::future::BoxFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// How long a start waits for its database.
const DATABASE_WAIT: Duration = Duration::from_secs(60);

/// How long ending may take once the HTTP server is done: the queue's flush and the sends' farewell.
const END_LIMIT: Duration = Duration::from_secs(15);

/// Between two looks for notices whose alerter nobody has.
const ORPHANS_EVERY: Duration = Duration::from_secs(15);

/// A running replica.
#[derive(Debug)]
pub struct Replica {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its database.
    pub store: Store,
    /// Its figures.
    pub metrics: Arc<Metrics>,
    /// Its loops.
    pub loops: Arc<Loops>,
    edge: Tasks,
    core: Tasks,
    /// Connected from the start, for the last word.
    last: Session,
}

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting does not serve.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The database does not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Replica {
    /// Starts everything on `listener`.
    ///
    /// # Errors
    /// A setting that only shows now, a schema that is not ours, or no database within a minute.
    pub async fn start(config: &Config, listener: TcpListener) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let store = Store::open(config.database_url(), Arc::clone(&metrics))?;
        Self::start_on(config, listener, store, metrics).await
    }

    /// The same on a store that is open already.
    ///
    /// # Errors
    /// As [`Replica::start`].
    pub async fn start_on(
        config: &Config,
        listener: TcpListener,
        store: Store,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let addr =
            listener.local_addr().map_err(|e| Invalid::new("listen", format!("cannot be used: {e}")))?;
        let auth = Auth::decide(config.listen, config.auth_mode, &config.auth)?;
        let routes = Routes::new(config.alerters.iter().map(alert::AlerterConfig::card).collect());
        let alert_context = alert::Context { external_url: config.external_url.clone() };
        let mut alerters = Vec::new();
        for alerter in &config.alerters {
            alerters.push(alert::build(alerter, &alert_context)?);
        }
        migrate(&store).await?;
        let mut last = store.session();
        last.checkpoint().await?;

        let loops = Arc::new(Loops::default());
        let mut core = Tasks::default();
        let context = Context {
            routes: routes.clone(),
            srv: config.replica.clone(),
            install_id: store.install_id().to_owned(),
            external_url: config.external_url.clone(),
        };
        let wake = Arc::new(Notify::new());
        let coordinator = Coordinator {
            store: store.clone(),
            context: Arc::new(context),
            replica: config.replica.clone(),
            timers: Timers::of(store.dialect()),
            keep: config.retention,
            metrics: Arc::clone(&metrics),
            loops: Arc::clone(&loops),
            wake: Arc::clone(&wake),
        };
        coordinator::start(&coordinator, &mut core);
        let reporter: Arc<dyn Reporter> =
            Arc::new(Trouble { store: store.clone(), routes: routes.clone(), srv: config.replica.clone() });
        for alerter in alerters {
            let pulse = loops.register(format!("alerter/{}", alerter.name()), Duration::from_secs(60));
            let dispatcher = Dispatcher::new(Parts {
                alerter: alerter.into(),
                session: store.session(),
                metrics: Arc::clone(&metrics),
                reporter: Arc::clone(&reporter),
                wake: Arc::clone(&wake),
                beat: Arc::new(move || pulse.beat()),
                srv: config.replica.clone(),
            });
            core.spawn("alerter", dispatcher.run(core.stop()));
        }
        core.spawn("orphans", adopt(store.clone(), routes.clone(), core.stop()));
        let checkins = checkin::start(&store, writers(store.dialect()), &mut core, &loops, &metrics);

        let app = App {
            store: store.clone(),
            checkins,
            routes: Arc::new(routes),
            auth,
            external_url: config.external_url.clone(),
            replica: config.replica.clone(),
            metrics: Arc::clone(&metrics),
            loops: Arc::clone(&loops),
            max_body: http::MAX_BODY,
            counted: Default::default(),
        };
        let mut edge = Tasks::default();
        edge.spawn("http", http::serve(listener, http::router(Arc::new(app)), edge.stop()));
        Ok(Self { addr, store, metrics, loops, edge, core, last })
    }

    /// Waits until `ask` is done; Err: a part of the replica has ended by itself.
    pub async fn until(&mut self, ask: impl Future<Output = ()>) -> Result<(), String> {
        let core = self.core.until(std::future::pending());
        let edge = self.edge.until(std::future::pending());
        tokio::select! {
            () = ask => Ok(()),
            ended = core => ended,
            ended = edge => ended,
        }
    }

    /// Ends: not ready for `linger`, then from the outside in. False: something had to be cut off.
    pub async fn stop(mut self, linger: Duration) -> bool {
        self.loops.drain();
        tokio::time::sleep(linger).await;
        let edge = self.edge.finish(http::DRAIN + Duration::from_secs(1)).await;
        let core = self.core.finish(END_LIMIT).await;
        // A file that can be copied as it is, and that needs none of those beside it.
        if let Err(e) = self.last.checkpoint().await {
            tracing::warn!(error = %e, "the write-ahead log stays beside the database");
        }
        edge && core
    }
}

/// Check-in writers that a database can use.
pub fn writers(dialect: Dialect) -> usize {
    match dialect {
        // One at a time is all that it takes.
        Dialect::Sqlite => 1,
        Dialect::MySql => 2,
    }
}

/// Waits for the database, for a bounded while, and brings its schema up to date.
async fn migrate(store: &Store) -> Result<(), StoreError> {
    let started_us = clock::boot_us();
    loop {
        let waited = clock::since_us(started_us);
        match store.migrate().await {
            Ok(migrated) if migrated.applied > 0 => {
                tracing::info!(
                    version = migrated.version,
                    applied = migrated.applied,
                    "the schema is up to date"
                );
                return Ok(());
            }
            Ok(_) => return Ok(()),
            Err(
                e @ (StoreError::Schema(_)
                | StoreError::InUse(_)
                | StoreError::Data(_)
                | StoreError::Other(_)),
            ) => return Err(e),
            Err(e) if waited >= DATABASE_WAIT || store.dialect() == Dialect::Sqlite => return Err(e),
            Err(e) => {
                tracing::warn!(error = %e, "waiting for the database");
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }
}

/// Looks for notices whose alerter nobody has.
async fn adopt(store: Store, routes: Routes, stop: tokio_util::sync::CancellationToken) {
    let mut session = store.session();
    loop {
        tokio::select! {
            () = tokio::time::sleep(ORPHANS_EVERY) => {}
            () = stop.cancelled() => return,
        }
        match orphans::step(&mut session, &routes, &[]).await {
            Ok(names) if names.is_empty() => {}
            Ok(names) => {
                tracing::warn!(alerters = names.join(", "), "no replica has these alerters: others told")
            }
            // The database's absence is told by the loops whose work it is.
            Err(e) => tracing::debug!(error = %e, "notices without an alerter were not looked for"),
        }
    }
}

/// Tells of an alerter that does not deliver, over the others.
struct Trouble {
    store: Store,
    routes: Routes,
    srv: String,
}

impl Trouble {
    fn report(&self, kind: SystemKind, alerter: &str, text: String, now_ms: i64) -> SystemReport {
        SystemReport {
            kind,
            subject: alerter.to_owned(),
            text,
            since_ms: now_ms,
            targets: self.routes.defaults(&[], Some(alerter)),
            srv: self.srv.clone(),
            life: if kind == SystemKind::DeadLetter { Life::Once } else { Life::UntilWithdrawn },
        }
    }
}

impl Reporter for Trouble {
    fn failing<'a>(&'a self, alerter: &'a str, why: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let text = format!(
                "The alerter {alerter} does not deliver: {why}. Its notices are kept and tried again for 24 hours. Until \
                 it works, nobody hears over it: look at its server and its settings, then try `gotel alerter test \
                 {alerter}`."
            );
            let now_ms = self.store.now_ms().await?;
            self.store
                .report_system(&self.report(SystemKind::DeliveryFailing, alerter, text, now_ms))
                .await?;
            Ok(())
        })
    }

    fn dead_letter<'a>(
        &'a self,
        alerter: &'a str,
        recipient: &'a str,
        title: &'a str,
        why: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let to = if recipient.is_empty() { String::new() } else { format!(" to {recipient}") };
            let text = format!(
                "A notice was given up: \"{title}\" did not get through{to} over {alerter}: {why}. Tell them yourself, \
                 and correct the address or the alerter."
            );
            let now_ms = self.store.now_ms().await?;
            self.store.report_system(&self.report(SystemKind::DeadLetter, alerter, text, now_ms)).await?;
            Ok(())
        })
    }

    fn works<'a>(&'a self, alerter: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.store.withdraw_system(SystemKind::DeliveryFailing, alerter, &self.srv).await?;
            Ok(())
        })
    }
}
