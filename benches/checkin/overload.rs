//! Three times as many check-ins as can be stored, whether or not they are answered.
//!
//! The server has one processor and the load the other: on the same two, a load could never ask for three times
//! what the server can do. What it can do is measured first, in the same way.

use super::Depth;
use super::db::{Backend, Db, number};
use super::load::{self, Plan};
use super::process::Server;
use super::report::{Report, count, ms, progress};
use std::time::Duration;

/// Connections: more than the queues have places, fewer than the server takes.
const CONNECTIONS: usize = 9800;

/// Reservations.
const JOBS: usize = 10_000;

pub async fn run(databases: &[Backend], depth: Depth, report: &mut Report) {
    let span = if depth == Depth::Full { Duration::from_secs(20) } else { Duration::from_secs(3) };
    let mut rows = Vec::new();
    for backend in databases {
        progress(&format!("overload: {}", backend.name));
        let db = Db::new(backend).await;
        db.fill(JOBS).await;
        let server = Server::gotel_on_one_processor(&db.url);
        let mut plan = Plan {
            addr: server.addr.clone(),
            clients: 256,
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
        rows.push(vec![
            backend.name.to_owned(),
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
        ]);
        drop(conn);
        db.end().await;
    }
    let columns = [
        "database",
        "256 clients /s",
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
    let title = format!("Overload: three times the rate at 256 clients, for {} s", span.as_secs());
    report.table(&title, &columns, &rows);
}
