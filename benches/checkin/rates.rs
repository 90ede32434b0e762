//! Check-ins a second over HTTP, beside D, H and S.

use super::Depth;
use super::baseline::{self, Figure};
use super::db::{Backend, Db};
use super::load::{self, Outcome, Plan};
use super::process::Server;
use super::report::{Report, at_least, at_most, count, ms, progress};
use super::timing::median;
use std::collections::BTreeMap;
use std::time::Duration;

/// What GoTel 0.1 stored a second at 64 clients on such a machine.
const ORIGINAL: f64 = 1400.0;

/// Reservations that the clients check in for.
const JOBS: usize = 10_000;

/// Connections of S.
const CONNECTIONS: usize = 32;

/// One cell: the same measurement of several rounds.
#[derive(Default)]
struct Cell(Vec<(f64, f64, f64)>);

impl Cell {
    fn rate(&self) -> f64 {
        median(self.0.iter().map(|c| c.0).collect())
    }

    fn p50(&self) -> f64 {
        median(self.0.iter().map(|c| c.1).collect())
    }

    fn p99(&self) -> f64 {
        median(self.0.iter().map(|c| c.2).collect())
    }

    fn note(&mut self, outcome: &Outcome) {
        assert_eq!((outcome.others(), outcome.broken), (0, 0), "every check-in is stored: {outcome:?}");
        self.0.push((outcome.rate, outcome.p50_us, outcome.p99_us));
    }

    fn note_figure(&mut self, figure: &Figure) {
        self.0.push((figure.rate, figure.p50_us, 0.0));
    }
}

/// Everything measured on one database, by clients.
#[derive(Default)]
struct Sheet {
    full: BTreeMap<usize, Cell>,
    writer: BTreeMap<usize, Cell>,
    single: Cell,
    bare: Cell,
}

pub async fn run(databases: &[Backend], depth: Depth, report: &mut Report) {
    let (clients, rounds, span): (&[usize], _, _) = match depth {
        Depth::Full => (&[1, 16, 64, 256], 3, Duration::from_millis(1500)),
        Depth::Quick => (&[1, 64, 256], 1, Duration::from_millis(700)),
    };
    let mut sink: BTreeMap<usize, Cell> = BTreeMap::new();
    let mut sheets: BTreeMap<&str, Sheet> = BTreeMap::new();
    let mut open = Vec::new();
    for backend in databases {
        let db = Db::new(backend).await;
        db.fill(JOBS).await;
        open.push(db);
    }
    // Round after round over everything, so that a disturbance hits all of them alike.
    for round in 1..=rounds {
        progress(&format!("rates: round {round} of {rounds}"));
        {
            let server = Server::sink();
            for n in clients {
                sink.entry(*n).or_default().note(&over_http(&server, *n, span).await);
            }
        }
        for db in &open {
            let sheet = sheets.entry(db.name).or_default();
            {
                let server = Server::gotel(&db.url);
                for n in clients {
                    sheet.full.entry(*n).or_default().note(&over_http(&server, *n, span).await);
                }
            }
            for n in clients {
                sheet.writer.entry(*n).or_default().note_figure(&baseline::writer(db, *n, JOBS, span).await);
            }
            sheet.single.note_figure(&baseline::single(db, CONNECTIONS, JOBS, span).await);
            sheet.bare.note_figure(&baseline::single(db, 1, JOBS, span).await);
        }
    }
    for db in open {
        db.end().await;
    }
    tell(&sheets, &sink, databases, report);
}

async fn over_http(server: &Server, clients: usize, span: Duration) -> Outcome {
    let (addr, warm) = (server.addr.clone(), span / 4);
    load::run(&Plan { addr, clients, jobs: JOBS, warm, run: span, rate: 0, apart: false }).await
}

fn tell(
    sheets: &BTreeMap<&str, Sheet>,
    sink: &BTreeMap<usize, Cell>,
    order: &[Backend],
    report: &mut Report,
) {
    let mut rows = Vec::new();
    let mut ratios = Vec::new();
    for backend in order {
        let sheet = &sheets[backend.name];
        for (clients, full) in &sheet.full {
            rows.push(vec![
                backend.name.to_owned(),
                clients.to_string(),
                count(full.rate()),
                ms(full.p50()),
                ms(full.p99()),
                count(sheet.writer[clients].rate()),
                count(sink[clients].rate()),
                count(if *clients == 1 { sheet.bare.rate() } else { sheet.single.rate() }),
            ]);
        }
        let (d, h) = (sheet.writer[&256].rate(), sink[&256].rate());
        let full = sheet.full[&256].rate();
        ratios.push(vec![
            backend.name.to_owned(),
            at_least(full / (1.0 / (1.0 / d + 1.0 / h)), 0.7),
            at_least(full / sheet.single.rate(), 2.0),
            at_most(sheet.full[&1].p50() / sheet.bare.p50(), 1.5),
            format!("{:.1}", sheet.full[&64].rate() / ORIGINAL),
            // GoTel 0.1 knew MySQL only.
            match backend.name {
                "SQLite" => format!("{:.1}", full / ORIGINAL),
                _ => at_least(full / ORIGINAL, 20.0),
            },
        ]);
    }
    let columns = [
        "database",
        "clients",
        "check-ins/s",
        "p50 ms",
        "p99 ms",
        "D /s",
        "H /s",
        "S /s (1 client: 1 connection)",
    ];
    report.table("Check-ins over HTTP", &columns, &rows);
    let columns = [
        "database",
        "256 clients: rate / (1/(1/D + 1/H))",
        "256 clients: rate / S",
        "1 client: p50 / one bare transaction's",
        "64 clients: rate / 1,400 (GoTel 0.1)",
        "256 clients: rate / 1,400",
    ];
    report.table("Check-ins over HTTP: ratios", &columns, &ratios);
}
