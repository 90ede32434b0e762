//! What the HTTP check-ins are held against: D, H and S.

use super::db::{Db, key};
use super::timing::Latencies;
use gotel::checkin::{self, Queue};
use gotel::clock;
use gotel::http::{self, App, Auth};
use gotel::lifecycle::{Loops, Tasks};
use gotel::metrics::Metrics;
use gotel::replica;
use gotel::reservation::SignalKind;
use gotel::reservation::routing::Routes;
use gotel::store::dialect::Dialect;
use gotel::store::{CheckIn, Store};
use sqlx::{AnyConnection, AssertSqlSafe, Executor};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// What a baseline came to.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    /// Check-ins a second.
    pub rate: f64,
    /// The middle one's time, in microseconds.
    pub p50_us: f64,
}

/// How long each is measured, after a warm-up of a quarter of it.
fn span(run: Duration) -> (i64, i64) {
    let begin_us = clock::boot_us() + run.as_micros() as i64 / 4;
    (begin_us, begin_us + run.as_micros() as i64)
}

async fn gather(mut tasks: JoinSet<Latencies>, run: Duration) -> Figure {
    let mut all = Latencies::default();
    while let Some(seen) = tasks.join_next().await {
        all.absorb(seen.expect("a submitter does not panic"));
    }
    Figure { rate: all.len() as f64 / run.as_secs_f64(), p50_us: f64::from(all.quantile(0.5)) }
}

/// D: the batched writer and the queue in front of it, fed by `clients` tasks of this process.
pub async fn writer(db: &Db, clients: usize, jobs: usize, run: Duration) -> Figure {
    let store = db.store();
    let (mut tasks, loops, metrics) =
        (Tasks::default(), Arc::new(Loops::default()), Arc::new(Metrics::new()));
    let queue = checkin::start(&store, replica::writers(store.dialect()), &mut tasks, &loops, &metrics);
    let checkins: Arc<Vec<CheckIn>> =
        Arc::new((0..jobs).map(|n| CheckIn::new(&key(n), SignalKind::Ok)).collect());
    let (begin_us, end_us) = span(run);
    let mut submitters = JoinSet::new();
    for n in 0..clients {
        submitters.spawn(submit(queue.clone(), Arc::clone(&checkins), n, begin_us, end_us));
    }
    let figure = gather(submitters, run).await;
    tasks.finish(Duration::from_secs(10)).await;
    figure
}

async fn submit(
    queue: Queue,
    checkins: Arc<Vec<CheckIn>>,
    n: usize,
    begin_us: i64,
    end_us: i64,
) -> Latencies {
    let mut seen = Latencies::default();
    let mut job = n * 7919 % checkins.len();
    loop {
        let sent_us = clock::boot_us();
        if sent_us >= end_us {
            return seen;
        }
        queue.submit(checkins[job].clone()).await.expect("the check-in is stored");
        job = (job + 1) % checkins.len();
        let now_us = clock::boot_us();
        if (begin_us..end_us).contains(&now_us) {
            seen.push(now_us - sent_us);
        }
    }
}

/// S: one transaction a check-in, over `connections` connections, as plain as it can be: the update and
/// the history row, no lookup. SQLite has one writer and an unfair lock, so there they take turns.
pub async fn single(db: &Db, connections: usize, jobs: usize, run: Duration) -> Figure {
    let keys: Arc<Vec<String>> = Arc::new((0..jobs).map(|n| key(n).digest()).collect());
    let turn = (db.dialect() == Dialect::Sqlite).then(Arc::<Mutex<()>>::default);
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(db.connect().await);
    }
    let (begin_us, end_us) = span(run);
    let mut tasks = JoinSet::new();
    for (n, conn) in open.into_iter().enumerate() {
        tasks.spawn(transactions(conn, db.dialect(), Arc::clone(&keys), n, turn.clone(), (begin_us, end_us)));
    }
    gather(tasks, run).await
}

async fn transactions(
    mut conn: AnyConnection,
    dialect: Dialect,
    keys: Arc<Vec<String>>,
    n: usize,
    turn: Option<Arc<Mutex<()>>>,
    (begin_us, end_us): (i64, i64),
) -> Latencies {
    let now = dialect.now();
    let update: &str = &format!(
        "UPDATE reservation SET last_ok_ms = {now}, last_ok_started_ms = {now}, last_seen_ms = {now}, \
         checkins = checkins + 1, fails = 0 WHERE rkey = ? AND checked_out_ms IS NULL"
    );
    let insert: &str = &format!(
        "INSERT INTO checkin (reservation_id, at_ms, kind) SELECT id, {now}, 'ok' FROM reservation WHERE rkey = ?"
    );
    let mut seen = Latencies::default();
    let mut job = n * 7919 % keys.len();
    loop {
        let sent_us = clock::boot_us();
        if sent_us >= end_us {
            return seen;
        }
        let my_turn = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        conn.execute(dialect.begin()).await.expect("a transaction");
        for text in [update, insert] {
            let query = sqlx::query(AssertSqlSafe(text)).bind(keys[job].clone());
            query.execute(&mut conn).await.expect("it is stored");
        }
        conn.execute("COMMIT").await.expect("it is committed");
        drop(my_turn);
        job = (job + 1) % keys.len();
        let now_us = clock::boot_us();
        if (begin_us..end_us).contains(&now_us) {
            seen.push(now_us - sent_us);
        }
    }
}

/// H: a process with the same HTTP server, whose queue answers at once and stores nothing.
pub fn child() {
    gotel::telemetry::start(gotel::telemetry::LogFormat::Text);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = http::listen(([127, 0, 0, 1], 0).into()).expect("a port");
        println!("http://{}", listener.local_addr().expect("an address"));
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let (loops, metrics) = (Arc::new(Loops::default()), Arc::new(Metrics::new()));
        let url = format!("sqlite://{}", folder.path().join("unused.db").display());
        let mut tasks = Tasks::default();
        let app = App {
            // Opened, and never asked anything.
            store: Store::open(&url, Arc::clone(&metrics)).expect("the store opens"),
            checkins: checkin::sink(replica::writers(Dialect::MySql), &mut tasks, &metrics),
            routes: Arc::new(Routes::new(Vec::new())),
            auth: Auth::open(),
            external_url: None,
            replica: "sink".into(),
            metrics,
            loops,
            max_body: http::MAX_BODY,
            counted: Default::default(),
            board: Default::default(),
            bar: Default::default(),
            secrets: Default::default(),
        };
        http::serve(listener, http::router(Arc::new(app)), tasks.stop()).await;
    });
}
