//! The due query and a whole evaluation, with few and with many reservations of which 100 are late.

use super::Depth;
use super::db::{Backend, DAY, Db, number, run as sql};
use super::report::{Report, at_most, count, ms, progress};
use super::timing::median;
use gotel::clock;
use gotel::coordinator::{Context, plan};
use gotel::reservation::routing::{Card, Routes};
use gotel::store::lease::{COORDINATOR, Claim, Limits};
use gotel::store::{Leading, Session, Store};
use std::time::Duration;

/// Reservations that are late in each round.
const LATE: i64 = 100;

/// Rows that are made one by one; the others are copies.
const SEED: usize = 1000;

pub async fn run(databases: &[Backend], depth: Depth, report: &mut Report) {
    let (sizes, rounds): (&[usize], _) = match depth {
        Depth::Full => (&[1_000, 100_000, 1_000_000], 15),
        Depth::Quick => (&[1_000, 50_000], 5),
    };
    let mut rows = Vec::new();
    for backend in databases {
        let mut stages = Vec::new();
        for size in sizes {
            progress(&format!("evaluate: {} with {}", backend.name, count(*size as f64)));
            stages.push(Stage::new(backend, *size).await);
        }
        // Sizes in turn, so that a disturbance hits all of them alike; the first round warms up.
        for round in 0..=rounds {
            for stage in &mut stages {
                stage.round(round > 0).await;
            }
        }
        let first = (median(stages[0].due.clone()), median(stages[0].step.clone()));
        for stage in stages {
            let (due, step) = (median(stage.due.clone()), median(stage.step.clone()));
            rows.push(vec![
                backend.name.to_owned(),
                count(stage.size as f64),
                ms(due),
                at_most(due / first.0, 2.0),
                ms(step),
                at_most(step / first.1, 2.0),
            ]);
            stage.db.end().await;
        }
    }
    let columns = ["database", "reservations", "due query ms", "× the first", "whole step ms", "× the first"];
    report.table("Evaluation: 100 reservations are late", &columns, &rows);
}

/// One database of one size.
struct Stage {
    size: usize,
    db: Db,
    store: Store,
    /// As the evaluator has them: one for the look, one for the work.
    look: Session,
    session: Session,
    leading: Leading,
    /// Ids of those that are made late.
    late: String,
    context: Context,
    /// In microseconds.
    due: Vec<f64>,
    step: Vec<f64>,
}

impl Stage {
    async fn new(backend: &Backend, size: usize) -> Self {
        let db = Db::new(backend).await;
        db.fill(SEED.min(size)).await;
        db.multiply(size).await;
        let store = db.store();
        let mut session = store.session();
        let limits = Limits { op: Duration::from_secs(2), valid_ms: 3_600_000, lease_ms: 3_600_000 };
        let seen = session.observe(COORDINATOR, limits.op).await.expect("the lease is read");
        let claim = Claim::new(COORDINATOR, &seen);
        let leading = session.take(&claim, "bench", limits).await.expect("the lease is written");
        let card = Card {
            name: "console".into(),
            default: true,
            per_address: false,
            folds: false,
            fallback: Vec::new(),
        };
        let context = Context {
            routes: Routes::new(vec![card]),
            srv: "bench".into(),
            install_id: store.install_id().to_owned(),
            external_url: Some("https://gotel.example.org".into()),
        };
        let mut raw = db.connect().await;
        let last = number(&mut raw, "SELECT MAX(id) FROM reservation").await;
        let (mut late, mut before) = (Vec::new(), 0);
        for n in 0..LATE {
            // Copying left gaps between the ids: not the same one twice.
            let from = before.max(last * n / LATE);
            before = number(&mut raw, &format!("SELECT MIN(id) FROM reservation WHERE id > {from}")).await;
            late.push(before.to_string());
        }
        let late = late.join(", ");
        let leading = leading.expect("nobody else takes it");
        let look = store.session();
        Self { size, db, store, look, session, leading, late, context, due: Vec::new(), step: Vec::new() }
    }

    async fn round(&mut self, counted: bool) {
        self.make_late().await;
        let started_us = clock::boot_us();
        assert!(self.look.anything_due().await.expect("the due query"));
        let due_us = clock::since_us(started_us).as_micros() as f64;

        let started_us = clock::boot_us();
        let due = self.look.anything_due().await.expect("the due query");
        let batch = self.session.evaluate(&self.leading, 500, |loaded| plan(&self.context, loaded)).await;
        self.session.evaluated(&self.leading).await.expect("the mark");
        let step_us = clock::since_us(started_us).as_micros() as f64;
        let batch = batch.expect("the evaluation");
        assert_eq!((due, batch.opened), (true, LATE as usize), "each late one is found: {batch:?}");
        if counted {
            self.due.push(due_us);
            self.step.push(step_us);
        }
    }

    /// 100 rows, spread over the table, are late; nothing was told of them.
    async fn make_late(&mut self) {
        let now = self.store.now_ms().await.expect("the clock");
        // A new one: the server has closed what was idle while the next table was filled.
        let mut raw = self.db.connect().await;
        let ids = &self.late;
        sql(&mut raw, "DELETE FROM delivery").await;
        sql(&mut raw, "DELETE FROM incident").await;
        let since = now - 2 * DAY;
        let text = format!(
            "UPDATE reservation SET state = 'on_time', due_ms = {due}, last_ok_ms = {since}, \
             last_ok_started_ms = {since}, last_seen_ms = {since}, created_ms = {since} WHERE id IN ({ids})",
            due = since + DAY
        );
        sql(&mut raw, &text).await;
        // Filling took its time, and nobody marked that the database was reached.
        sql(&mut raw, &format!("UPDATE meta SET alive_ms = {now}")).await;
    }
}
