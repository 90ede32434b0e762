//! Row 8: panics. The program of a debug build panics where a test asks it to; besides, its dispatcher is given an
//! alerter that does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use gotel::alert::dispatch::{Dispatcher, Parts};
use gotel::alert::{Alerter, Delivery, Outcome, Reporter};
use gotel::lifecycle::Tasks;
use gotel::metrics::Metrics;
use gotel::reservation::routing::Target;
use gotel::store::{self, Life, Store, SystemKind, SystemReport};
use tokio::sync::Notify;

use super::SOON;
use super::world::{World, hook_yaml};
use crate::util::db::{Backend, TestDb};
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

/// Panics on its first notice, takes the others.
struct Hothead(AtomicUsize);

impl Alerter for Hothead {
    fn name(&self) -> &str {
        "hothead"
    }

    fn kind(&self) -> &'static str {
        "console"
    }

    fn send<'a>(&'a self, _: &'a Delivery) -> BoxFuture<'a, Outcome> {
        assert_ne!(self.0.fetch_add(1, Ordering::SeqCst), 0, "the first notice is too much");
        async { Outcome::Accepted }.boxed()
    }
}

/// Nobody to report to.
struct Nobody;

impl Reporter for Nobody {
    fn failing<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, store::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn dead_letter<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, store::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn works<'a>(&'a self, _: &'a str) -> BoxFuture<'a, store::Result<()>> {
        async { Ok(()) }.boxed()
    }
}

async fn a_store() -> (TestDb, Store, Arc<Metrics>) {
    let db = TestDb::new(Backend::Sqlite).await.unwrap();
    let metrics = Arc::new(Metrics::new());
    let store = Store::open(db.url(), Arc::clone(&metrics)).unwrap();
    store.migrate().await.unwrap();
    (db, store, metrics)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_08_a_panicking_alerter_is_a_failed_try_and_its_loop_goes_on() {
    let (_db, store, metrics) = a_store().await;
    let trouble = SystemReport {
        kind: SystemKind::Outage,
        subject: String::new(),
        text: "for the test".into(),
        since_ms: store.now_ms().await.unwrap(),
        targets: vec![Target { alerter: "hothead".into(), recipient: String::new() }],
        srv: "a".into(),
        life: Life::Once,
    };
    store.report_system(&trouble).await.unwrap();
    let hothead = Arc::new(Hothead(AtomicUsize::new(0)));
    let dispatcher = Dispatcher::new(Parts {
        alerter: hothead.clone(),
        session: store.session(),
        metrics: Arc::clone(&metrics),
        reporter: Arc::new(Nobody),
        wake: Arc::new(Notify::new()),
        beat: Arc::new(|| ()),
        srv: "a".into(),
        context: Default::default(),
    });
    let mut tasks = Tasks::default();
    tasks.spawn("alerter", dispatcher.run(tasks.stop()));
    eventually(SOON, "the second try", async || hothead.0.load(Ordering::SeqCst) == 2).await;
    eventually(SOON, "its success to be counted", async || {
        metrics.render().contains("gotel_delivery_total{channel=\"hothead\",result=\"accepted\"} 1")
    })
    .await;
    assert!(metrics.render().contains("gotel_panics_total{reason=\"alerter\"} 1"), "{}", metrics.render());
    assert!(tasks.finish(SOON).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_08_a_panic_in_a_handler_or_an_alerter_costs_one_try_and_the_program_lives() {
    let Some(db) = TestDb::new(Backend::Sqlite).await else { return };
    let hook = Receiver::webhook().await;
    let url = db.url().to_owned();
    let world = World::start_at(db, url, &hook_yaml(&hook), &[("GOTEL_FAIL", "handler:1,alerter:1")]).await;
    world.reserve("a", "b", serde_json::json!({})).await;
    let (status, text) = world.get("/reservation/a/b").await;
    assert_eq!(status, 500, "{text}");
    assert!(text.contains("\"success\":false") && !text.contains("panic"), "{text}");
    assert_eq!(world.get("/reservation/a/b").await.0, 200);

    world.signal("a", "b", "/fail").await;
    hook.received(1, std::time::Duration::from_secs(60)).await;
    let figures = world.get("/metrics").await.1;
    for place in ["http", "alerter"] {
        let line = format!("gotel_panics_total{{reason=\"{place}\"}} 1");
        assert!(figures.contains(&line), "{line} is not in\n{figures}");
    }
    assert_eq!(world.get("/livez").await.0, 200);
}
