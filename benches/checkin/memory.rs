//! Resident memory with 100,000 reservations under load.

use super::Depth;
use super::db::{Backend, Db};
use super::load::{self, Plan};
use super::process::Server;
use super::report::{Report, at_most, count, progress};
use std::time::Duration;

pub async fn run(databases: &[Backend], depth: Depth, report: &mut Report) {
    let (jobs, span) = match depth {
        Depth::Full => (100_000, Duration::from_secs(8)),
        Depth::Quick => (20_000, Duration::from_secs(2)),
    };
    let mut rows = Vec::new();
    for backend in databases {
        progress(&format!("memory: {}", backend.name));
        let db = Db::new(backend).await;
        db.fill(jobs).await;
        let server = Server::gotel(&db.url);
        let begin = server.resident_bytes();
        let plan = Plan {
            addr: server.addr.clone(),
            clients: 256,
            jobs,
            warm: Duration::ZERO,
            run: span,
            rate: 0,
            apart: false,
        };
        let cpu = server.cpu_seconds();
        let outcome = load::run(&plan).await;
        let cpu = server.cpu_seconds() - cpu;
        let peak = server.peak_bytes() as f64 / 1e6;
        rows.push(vec![
            backend.name.to_owned(),
            count(jobs as f64),
            count(outcome.rate),
            format!("{:.0}", begin as f64 / 1e6),
            at_most(peak.round(), 60.0),
            format!("{:.0}", cpu * 1e6 / outcome.stored().max(1) as f64),
        ]);
        drop(server);
        db.end().await;
    }
    let columns = [
        "database",
        "reservations",
        "check-ins/s",
        "MB resident at start",
        "peak MB resident",
        "processor µs a check-in (GoTel alone)",
    ];
    report.table("Memory: 256 clients", &columns, &rows);
}
