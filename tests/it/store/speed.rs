//! What the hot paths read: their own rows, however many others there are. And, for the eye, a rate.

use gotel::coordinator::plan;
use gotel::reservation::{JobKey, SignalKind};
use gotel::store::CheckIn;
use sqlx::{Executor, Row};

use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::server::PrivateServer;
use crate::util::store::{Fixture, HOUR, every, key};
use crate::util::wait::now;

const ROWS: usize = 5000;

/// The fixture with [`ROWS`] reservations in time, each with a delivery that was made long ago.
async fn crowd(db: TestDb) -> (Fixture, Vec<JobKey>) {
    let mut f = Fixture::new(db).await;
    let first = f.reserve("a", every("1h")).await;
    f.check_in(&first, SignalKind::Ok).await;
    f.evaluate().await;
    let jobs: Vec<JobKey> = (0..ROWS).map(|n| key(&format!("job{n}"))).collect();
    for some in jobs.chunks(400) {
        let rows: Vec<String> = some
            .iter()
            .map(|job| format!("SELECT '{}' AS k, '{}' AS a", job.digest(), job.app.as_str()))
            .collect();
        let rows = rows.join(" UNION ALL ");
        f.sql(&format!(
            "INSERT INTO reservation (rkey, app, component, owner, gen, settings, state, due_ms, created_ms, \
             updated_ms, last_ok_ms, last_ok_started_ms, fails, checkins, uses_runs, rearm_ms) SELECT v.k, v.a, \
             r.component, r.owner, 1, r.settings, r.state, r.due_ms, r.created_ms, r.updated_ms, r.last_ok_ms, \
             r.last_ok_started_ms, 0, 0, 0, 0 FROM ({rows}) v, reservation r WHERE r.app = 'a'"
        ))
        .await;
        f.sql(&format!(
            "INSERT INTO delivery (idem_key, incident_id, event, event_no, alerter, recipient, payload, state, \
             created_ms, next_ms, attempts) SELECT v.k, v.a, 'trigger', 0, 'chat', '', '{{}}', 'done', \
             r.created_ms, 1, 1 FROM ({rows}) v, reservation r WHERE r.app = 'a'"
        ))
        .await;
    }
    if !f.is_embedded() {
        f.texts("ANALYZE TABLE reservation, delivery, incident").await;
    }
    (f, jobs)
}

/// `count` runs of `job` that began long ago, in the order of their ids, and did not end.
async fn leave_runs_open(f: &mut Fixture, job: &JobKey, max_runtime_ms: &str, count: usize) {
    let of = format!("WHERE rkey = '{}'", job.digest());
    f.sql(&format!("UPDATE reservation SET uses_runs = 1, max_runtime_ms = {max_runtime_ms} {of}")).await;
    let id = f.number(&format!("SELECT id FROM reservation {of}")).await;
    for first in (0..count).step_by(1000) {
        let rows: Vec<_> = (first..first + 1000).map(|n| format!("({id}, 'run-{n}', {n})")).collect();
        f.sql(&format!("INSERT INTO run (reservation_id, rid, started_ms) VALUES {}", rows.join(", "))).await;
    }
}

/// Rows that the server has read so far, by index or by scan; nobody else uses it.
async fn rows_read(f: &Fixture) -> i64 {
    let rows = f.db().admin().await.fetch_all("SHOW GLOBAL STATUS LIKE 'Handler_read%'").await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(1).parse::<i64>().unwrap()).sum()
}

/// What each step costs, against the most it may.
struct Meter {
    seen: i64,
    /// Reading the meter reads, too.
    own: i64,
    costs: Vec<(&'static str, i64, i64)>,
}

impl Meter {
    async fn new(f: &Fixture) -> Self {
        let first = rows_read(f).await;
        let seen = rows_read(f).await;
        Self { seen, own: seen - first, costs: Vec::new() }
    }

    async fn note(&mut self, f: &Fixture, what: &'static str, limit: i64) {
        let read = rows_read(f).await;
        self.costs.push((what, limit, read - self.seen - self.own));
        self.seen = read;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mariadb_nothing_on_the_watch_path_reads_more_than_its_own_rows() {
    reads_its_own_rows(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_nothing_on_the_watch_path_reads_more_than_its_own_rows() {
    reads_its_own_rows(Backend::MySql).await;
}

async fn reads_its_own_rows(backend: Backend) {
    let Some(server) = tokio::task::spawn_blocking(move || PrivateServer::start(backend)).await.unwrap()
    else {
        return;
    };
    let (mut f, jobs) = crowd(server.database().await).await;
    let (mut session, leading, context) = (f.store.session(), f.lead().await, f.context.clone());
    let evaluate = |loaded: &_| plan(&context, loaded);
    // Statements are prepared, and connections made, before anything is counted.
    session.anything_due().await.unwrap();
    f.session.evaluate(&leading, 500, evaluate).await.unwrap();
    let mut meter = Meter::new(&f).await;
    f.number("SELECT COUNT(*) FROM reservation WHERE owner = ''").await;
    meter.note(&f, "a scan", i64::MAX).await;
    assert!(meter.costs[0].2 >= ROWS as i64, "what is read is counted: {:?}", meter.costs);
    assert!(!session.anything_due().await.unwrap());
    meter.note(&f, "a look at nothing due", 50).await;
    f.session.evaluate(&leading, 500, evaluate).await.unwrap();
    meter.note(&f, "an evaluation of nothing", 50).await;
    let of = |kind, n| jobs[..n].iter().map(|job| (CheckIn::new(job, kind), 0)).collect::<Vec<_>>();
    session.write_checkins(&of(SignalKind::Ok, 256)).await.unwrap();
    meter.note(&f, "256 check-ins", 10 * 256).await;
    session.write_checkins(&of(SignalKind::Fail, 200)).await.unwrap();
    meter.note(&f, "200 failures", 14 * 200).await;
    f.session.evaluate(&leading, 500, evaluate).await.unwrap();
    meter.note(&f, "an evaluation of 200", 20 * 200).await;
    assert_eq!(f.session.claim("chat", 8).await.unwrap().len(), 8);
    meter.note(&f, "a claim of 8 of 200", 20 * 8).await;
    assert!(f.session.claim("mail", 8).await.unwrap().is_empty());
    meter.note(&f, "a claim of nothing", 50).await;
    f.session.purge(&leading, gotel::coordinator::KEEP).await.unwrap();
    meter.note(&f, "a purge of nothing", 200).await;
    // A client that begins each run under a new id and ends none.
    for (job, limit) in [(&jobs[0], "NULL"), (&jobs[1], "60000")] {
        leave_runs_open(&mut f, job, limit, 10_000).await;
    }
    meter.note(&f, "20,000 runs", i64::MAX).await;
    let of = |kind| jobs[..2].iter().map(|job| (CheckIn::new(job, kind), 0)).collect::<Vec<_>>();
    session.write_checkins(&of(SignalKind::Fail)).await.unwrap();
    meter.note(&f, "2 failures beside open runs", 14 * 2).await;
    f.session.evaluate(&leading, 500, evaluate).await.unwrap();
    meter.note(&f, "an evaluation beside open runs", 20 * 1000).await;
    println!("{:?}", meter.costs);
    for (what, limit, read) in meter.costs {
        assert!(read <= limit, "{what} read {read} rows, {limit} would do");
    }
}

on_every_database!(a_rate_for_the_eye);
async fn a_rate_for_the_eye(db: TestDb) {
    const ROUNDS: u32 = 20;
    let backend = db.backend();
    let (f, jobs) = crowd(db).await;
    let mut session = f.store.session();
    let begun = now();
    for round in 0..ROUNDS {
        let from = (round as usize * 256) % (ROWS - 256);
        let batch: Vec<_> =
            jobs[from..from + 256].iter().map(|job| (CheckIn::new(job, SignalKind::Ok), 0)).collect();
        session.write_checkins(&batch).await.unwrap();
    }
    let rate = f64::from(ROUNDS * 256) / begun.elapsed().as_secs_f64();
    let mut f = f;
    f.pass(2 * HOUR).await;
    let begun = now();
    let batch = f.evaluate().await;
    println!(
        "{backend:?}: {rate:.0} check-ins/s in batches of 256 (debug build); {} rows evaluated in {:?}",
        batch.examined,
        begun.elapsed()
    );
}
