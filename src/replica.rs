//! One replica: every part wired, started in order, and ended in order.
//!
//! Promises: once [`Replica::start`] returns, check-ins are accepted and every loop runs. While it waits for a
//! database that is away, the listener answers and the direct path tells (`arrive`). Ending it goes
//! from the outside in: first nobody is sent here any more (`/readyz`), then requests in flight are
//! answered, then the check-in queue is flushed and sends in flight end, and last the lease is given back.
//! A task that ends by itself ends the process: half a monitor is none. The replica's row goes last of all,
//! so that the others miss it only if this order was not kept.

mod arrive;
mod direct;
mod heartbeat;
mod kubernetes;
mod secrets;
mod trouble;

use crate::alert::dispatch::{Dispatcher, Parts};
use crate::alert::{self, Alerter, Reporter, orphans};
use crate::board::Board;
use crate::checkin;
use crate::clock;
use crate::config::Config;
use crate::coordinator::{self, Context, Coordinator, Timers};
use crate::http::{self, App, Auth};
use crate::lifecycle::{Bar, Loops, Tasks};
use crate::metrics::Metrics;
use crate::peers::direct::{Parts as Telling, Standing, Teller, Unwritten};
use crate::peers::external::{Cycles, Heartbeat};
use crate::peers::solo::Solo;
use crate::peers::{self, Peers};
use crate::reservation::Invalid;
use crate::reservation::routing::{Card, Routes};
use crate::secret::watch::{Rack, Watch};
use crate::store::dialect::Dialect;
use crate::store::{ORPHAN_AFTER_MS, Session, Store, StoreError};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use trouble::Trouble;

/// How long ending may take once the HTTP server is done: the queue's flush and the sends' farewell.
const END_LIMIT: Duration = Duration::from_secs(15);

/// How long taking the own row away may take after that: one operation under its limit, and what was begun.
const ROW_LIMIT: Duration = Duration::from_secs(5);

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
    /// Ends last.
    row: Tasks,
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
    /// A part that runs already has ended by itself.
    #[error("{0}")]
    Ended(String),
}

impl Replica {
    /// Starts everything on `listener`.
    ///
    /// # Errors
    /// A setting that only shows now, a schema that is not ours, or no database where waiting mends nothing.
    pub async fn start(config: &Config, listener: TcpListener) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let store = Store::open_any(&config.database_urls(), Arc::clone(&metrics))?;
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
        let mut alerters: Vec<Arc<dyn Alerter>> = Vec::new();
        for alerter in &config.alerters {
            alerters.push(alert::build(alerter, &alert_context)?.into());
        }
        let cluster = kubernetes::find(&config.kubernetes).await?;
        let loops = Arc::new(Loops::default());
        let (mut core, mut edge, mut row) = (Tasks::default(), Tasks::default(), Tasks::default());
        let (wake, bar, board) = (Arc::new(Notify::new()), Arc::new(Bar::default()), Board::default());
        let (publish, leads) = watch::channel(None);

        // What needs no database: it may take long to be there.
        let (solo, alone) = Solo::new(&config.replica, clock::boot_ms());
        let (standing, unwritten) = (Standing::default(), Unwritten::default());
        let mut sight = alone;
        if let Some(peers) = &config.peers {
            let listener = http::listen(peers.listen).map_err(|e| {
                Invalid::new("peers.listen", format!("cannot listen on {}: {e}", peers.listen))
            })?;
            let told = standing.clone();
            let parts = peers::Parts {
                store: store.clone(),
                config: peers.clone(),
                replica: config.replica.clone(),
                routes: routes.clone(),
                leads,
                client: alert::client(None).map_err(|e| Invalid::new("peers", e))?,
                metrics: Arc::clone(&metrics),
                loops: Arc::clone(&loops),
                board: board.clone(),
                bar: Arc::clone(&bar),
                mark: sight.clone(),
                wake: Arc::clone(&wake),
                told: Arc::new(move || told.told(clock::wall_ms())),
                unwritten: unwritten.clone(),
            };
            let Peers { sight: seen, router } = peers::start(parts, &mut row);
            edge.spawn("peers", http::serve_few(listener, router, edge.stop()));
            sight = seen;
        }
        let rack = Rack::default();
        let groups = secrets::groups(config, &auth, &store);
        if !groups.is_empty() {
            let pulse = loops.register("secrets", Duration::from_secs(30));
            let watch = Watch::new(groups, rack.clone(), Arc::clone(&metrics), pulse);
            core.spawn("secrets", watch.run(core.stop()));
        }
        let teller = Teller::new(Telling {
            store: store.clone(),
            sight: sight.clone(),
            unwritten: unwritten.clone(),
            direct: Arc::new(direct::Alerters::new(&alerters, &routes, alert_context.clone())),
            folder: config.state_dir.clone(),
            replica: config.replica.clone(),
            unnamed: direct::name_of_database(config.database_urls().first().copied().unwrap_or_default()),
            pulse: loops.register("direct", Duration::from_secs(30)),
            standing: standing.clone(),
        });
        core.spawn_apart("direct", teller.run(core.stop()));
        let checkins = checkin::start(&store, writers(store.dialect()), &mut core, &loops, &metrics);
        let app = App {
            store: store.clone(),
            checkins,
            routes: Arc::new(routes.clone()),
            auth,
            external_url: config.external_url.clone(),
            replica: config.replica.clone(),
            metrics: Arc::clone(&metrics),
            loops: Arc::clone(&loops),
            max_body: http::MAX_BODY,
            counted: Default::default(),
            board,
            bar: Arc::clone(&bar),
            secrets: rack,
        };
        let mut arrival = arrive::Arrival::new(&store, solo.clone());
        let arrived = arrival.soon().await?;
        loops.set_waiting(!arrived);
        edge.spawn("http", http::serve(listener, http::router(Arc::new(app)), edge.stop()));
        if !arrived {
            tracing::warn!("listening on http://{addr}: check-ins get 503 until the database is there");
            let mut outcome = Ok(());
            core.until(async { outcome = arrival.wait().await }).await.map_err(StartError::Ended)?;
            outcome?;
            loops.set_waiting(false);
        }
        if store.dialect() == Dialect::Sqlite && config.coordination != Timers::SHARED {
            tracing::warn!(
                "coordination: is for several replicas on MySQL or MariaDB; it has no effect on SQLite, which serves one \
                 process"
            );
        }
        warn_of_losses(&store).await;
        let mut last = store.session();
        last.checkpoint().await?;

        let ((evaluated, evaluations), (cards, others)) = (watch::channel(None), watch::channel(Vec::new()));
        let witness = direct::Findings {
            solo,
            sight: sight.clone(),
            standing,
            unwritten: unwritten.clone(),
            evaluated,
        };
        let context = Context {
            routes: routes.clone(),
            srv: config.replica.clone(),
            install_id: store.install_id().to_owned(),
            external_url: config.external_url.clone(),
        };
        let coordinator = Coordinator {
            store: store.clone(),
            context: Arc::new(context),
            replica: config.replica.clone(),
            timers: config.coordination.on(store.dialect()),
            keep: config.retention,
            metrics: Arc::clone(&metrics),
            loops: Arc::clone(&loops),
            bar,
            wake: Arc::clone(&wake),
            witness: Arc::new(witness),
            elsewhere: others,
        };
        coordinator::start(&coordinator, publish, &mut core);
        if let Some(cluster) = cluster {
            kubernetes::start(cluster, config, &coordinator, routes.clone(), &mut core).await?;
        }
        let reporter: Arc<dyn Reporter> = Arc::new(Trouble {
            store: store.clone(),
            routes: routes.clone(),
            srv: config.replica.clone(),
            unwritten,
        });
        for alerter in alerters {
            let pulse = loops.register(format!("alerter/{}", alerter.name()), Duration::from_secs(60));
            let dispatcher = Dispatcher::new(Parts {
                alerter,
                session: store.session(),
                metrics: Arc::clone(&metrics),
                reporter: Arc::clone(&reporter),
                wake: Arc::clone(&wake),
                beat: Arc::new(move || pulse.beat()),
                srv: config.replica.clone(),
                context: alert_context.clone(),
            });
            core.spawn("alerter", dispatcher.run(core.stop()));
        }
        core.spawn("orphans", adopt(store.clone(), routes.clone(), cards, core.stop()));
        let urls = [
            ("heartbeatUrl", &config.heartbeat, Cycles::Evaluations(evaluations, store.clone())),
            ("replicaHeartbeatUrl", &config.replica_heartbeat, Cycles::Watch(sight)),
        ];
        for (field, url, cycles) in urls {
            let Some(url) = url else { continue };
            let name = format!("heartbeat/{}", cycles.scope());
            let (ping, pulse) =
                (heartbeat::Url::new(field, url)?, loops.register(name, Duration::from_secs(30)));
            let heartbeat = Heartbeat::new(cycles, Arc::new(ping), Arc::clone(&metrics), pulse);
            core.spawn("heartbeat", heartbeat.run(core.stop()));
        }
        if config.heartbeat.is_none() && config.replica_heartbeat.is_none() && config.peers.is_none() {
            tracing::info!(
                "nobody watches this GoTel itself: if this machine dies, no alert comes. heartbeatUrl in the \
                 configuration names a page to call while all is well (docs/configuration.md#who-watches-gotel)"
            );
        }
        Ok(Self { addr, store, metrics, loops, edge, core, row, last })
    }

    /// Waits until `ask` is done; Err: a part of the replica has ended by itself.
    pub async fn until(&mut self, ask: impl Future<Output = ()>) -> Result<(), String> {
        let core = self.core.until(std::future::pending());
        let edge = self.edge.until(std::future::pending());
        let row = async {
            match self.row.is_empty() {
                true => std::future::pending().await,
                false => self.row.until(std::future::pending()).await,
            }
        };
        tokio::select! {
            () = ask => Ok(()),
            ended = core => ended,
            ended = edge => ended,
            ended = row => ended,
        }
    }

    /// Ends: not ready for `linger`, then from the outside in. False: something had to be cut off.
    pub async fn stop(mut self, linger: Duration) -> bool {
        self.loops.drain();
        tokio::time::sleep(linger).await;
        let edge = self.edge.finish(http::DRAIN + Duration::from_secs(1)).await;
        let core = self.core.finish(END_LIMIT).await;
        let row = self.row.finish(ROW_LIMIT).await;
        // A file that can be copied as it is, and that needs none of those beside it.
        if let Err(e) = self.last.checkpoint().await {
            tracing::warn!(error = %e, "the write-ahead log stays beside the database");
        }
        edge && core && row
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

/// Says once what the database server is set to that can lose acknowledged check-ins.
async fn warn_of_losses(store: &Store) {
    match store.durability_warnings().await {
        Ok(warnings) => {
            for warning in warnings {
                tracing::warn!("the database may lose what it has acknowledged: {warning}");
            }
        }
        // Not worth a failed start: whoever may not look is told so.
        Err(e) => {
            tracing::warn!(error = %e, "could not look whether the database keeps what it acknowledges")
        }
    }
}

/// Notes the alerters that all replicas have, as their rows say, and returns those of the live ones; without `peers:`
/// there are no rows.
async fn elsewhere(store: &Store, cards: &watch::Sender<Vec<Card>>) -> Result<Vec<String>, StoreError> {
    let rows = store.replicas().await?;
    let live = rows.iter().filter(|row| row.beat_age_ms <= ORPHAN_AFTER_MS);
    let names = live.flat_map(|row| row.alerters.iter().map(|card| card.name.clone())).collect();
    let all: Vec<Card> = rows.into_iter().flat_map(|row| row.alerters).collect();
    cards.send_if_modified(|known| std::mem::replace(known, all.clone()) != all);
    Ok(names)
}

/// Looks for notices whose alerter nobody has.
async fn adopt(
    store: Store,
    routes: Routes,
    cards: watch::Sender<Vec<Card>>,
    stop: tokio_util::sync::CancellationToken,
) {
    let mut session = store.session();
    // What the others have is known at once; what they have not, only once they had time to start.
    let _ = elsewhere(&store, &cards).await;
    loop {
        tokio::select! {
            () = tokio::time::sleep(ORPHANS_EVERY) => {}
            () = stop.cancelled() => return,
        }
        let outcome = match elsewhere(&store, &cards).await {
            Ok(elsewhere) => orphans::step(&mut session, &routes, &elsewhere).await,
            Err(e) => Err(e),
        };
        match outcome {
            Ok(names) if names.is_empty() => {}
            Ok(names) => {
                tracing::warn!(alerters = names.join(", "), "no replica has these alerters: others told")
            }
            // The database's absence is told by the loops whose work it is.
            Err(e) => tracing::debug!(error = %e, "notices without an alerter were not looked for"),
        }
    }
}
