//! Row 8: panics. The program has no switch to panic by, so its own dispatcher is given an alerter that does.
//! (A handler that does is tested beside the router, in `src/http/mod.rs`.)

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
use crate::util::db::{Backend, TestDb};
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
