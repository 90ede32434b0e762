//! Three times as many check-ins as can be stored, whether or not they are answered.
//!
//! The server has one processor and the load the other: on the same two, a load could never ask for three times
//! what the server can do. What it can do is measured first, in the same way.
//!
//! A database server on the same machine is not what such a server waits for: its one processor is, and what it has
//! not read yet waits in the sockets, where nobody can refuse it. So each database server stands there twice, the
//! second time behind a line that is late: there the database is what all wait for, as in a data centre.

use super::Depth;
use super::db::{Backend, Db, number};
use super::load::{self, Plan};
use super::process::Server;
use super::proxy::Proxy;
use super::report::{Report, count, ms, progress};
use std::time::Duration;

/// Connections: more than the queues have places, fewer than the server takes.
const CONNECTIONS: usize = 9800;

/// Enough of them to fill every batch of both writers.
const FULL_BATCHES: usize = 2048;

/// Reservations.
const JOBS: usize = 10_000;

/// How late the long line carries, each way.
const LATE: Duration = Duration::from_millis(40);

pub async fn run(databases: &[Backend], depth: Depth, report: &mut Report) {
    let span = if depth == Depth::Full { Duration::from_secs(20) } else { Duration::from_secs(3) };
    let mut rows = Vec::new();
    for backend in databases {
        rows.push(measure(backend, Duration::ZERO, span).await);
        if backend.is_server() {
            rows.push(measure(backend, LATE, span).await);
        }
    }
    let columns = [
        "database",
        "can /s",
        "due /s",
        "sent /s",
        "not sent",
        "answered 2xx",
        "stored",
        "2xx not stored",
        "503",
        "anything else",
        "2xx p99 ms",
        "503 p99 ms",
        "longest ms",
        "peak MB resident",
        "as promised",
    ];
    let title = format!("Overload: three times what it can, for {} s", span.as_secs());
    report.table(&title, &columns, &rows);
}

async fn measure(backend: &Backend, late: Duration, span: Duration) -> Vec<String> {
    let far = !late.is_zero();
    let name = match far {
        true => format!("{}, {} ms away", backend.name, 2 * late.as_millis()),
        false => backend.name.to_owned(),
    };
    progress(&format!("overload: {name}"));
    let db = Db::new(backend).await;
    db.fill(JOBS).await;
    let proxy = match db.server_addr() {
        Some(server) if far => Some(Proxy::far_before(server, late).await),
        _ => None,
    };
    let server = match &proxy {
        Some(proxy) => Server::gotel_on_one_processor(&db.url_through(proxy)),
        None => Server::gotel_on_one_processor(&db.url),
    };
    let mut plan = Plan {
        addr: server.addr.clone(),
        clients: if far { FULL_BATCHES } else { 256 },
        jobs: JOBS,
        warm: span / 20,
        run: span / 5,
        rate: 0,
        apart: true,
    };
    let calm = load::run(&plan).await;
    let rate = 3.0 * calm.rate;
    plan = Plan { clients: CONNECTIONS, warm: Duration::ZERO, run: span, rate: rate as u32, ..plan };
    let outcome = load::run(&plan).await;
    let peak = server.peak_bytes();
    progress(&format!("answers {:?}, broken connections {}", outcome.answers, outcome.broken));
    drop(server);
    let mut conn = db.connect().await;
    let stored = number(&mut conn, "SELECT COUNT(*) FROM checkin").await;
    let refused = outcome.answers.get(&503).copied().unwrap_or(0);
    let stored = stored - calm.stored() as i64;
    let lost = (outcome.stored() as i64 - stored).max(0);
    let whole = lost == 0 && outcome.others() == refused && outcome.broken == 0;
    let sent = (outcome.stored() + outcome.others() + outcome.broken) as f64 / span.as_secs_f64();
    drop(conn);
    db.end().await;
    vec![
        name,
        count(calm.rate),
        count(rate),
        count(sent),
        count(outcome.unsent as f64),
        count(outcome.stored() as f64),
        count(stored as f64),
        count(lost as f64),
        count(refused as f64),
        count((outcome.others() - refused + outcome.broken) as f64),
        ms(outcome.p99_us),
        ms(outcome.refused_p99_us),
        ms(outcome.longest_us),
        format!("{:.0}", peak as f64 / 1e6),
        match (whole, refused > 0) {
            (true, true) => "yes",
            (true, false) => "yes, and NOT overloaded",
            _ => "NO",
        }
        .to_owned(),
    ]
}
