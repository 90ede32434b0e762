//! A network between GoTel and its database that falls silent: row 18.

use serde_json::Value;

use super::SOON;
use super::invariants::{Known, hold};
use super::world::{World, hook_yaml, metric};
use crate::util::chaos::{ChaosProxy, Cut};
use crate::util::db::{Backend, TestDb};
use crate::util::load::Load;
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

/// GoTel and its database with a proxy in between.
async fn behind_a_proxy(backend: Backend) -> Option<(World, ChaosProxy, Receiver)> {
    let db = TestDb::new(backend).await?;
    let proxy = ChaosProxy::start(db.server_addr().expect("a server")).await;
    let hook = Receiver::webhook().await;
    let url = db.url_through(proxy.addr());
    let world = World::start_at(db, url, &hook_yaml(&hook), &[]).await;
    Some((world, proxy, hook))
}

async fn black_hole(backend: Backend) {
    let Some((world, proxy, hook)) = behind_a_proxy(backend).await else { return };
    let keys = world.fleet("load", 20).await;
    let load = Load::start(&world.url, &keys, 16, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 200).await;
    let term = world.number("SELECT term FROM lease").await;
    let errors = metric(&world.get("/metrics").await.1, "gotel_db_errors_total");
    proxy.freeze_existing();
    let before = load.acknowledged();
    eventually(SOON, "check-ins to be taken again", async || load.acknowledged() >= before + 200).await;
    eventually(SOON, "reads to work again", async || world.get("/reservation").await.0 == 200).await;
    let report = load.stop().await;
    let felt = metric(&world.get("/metrics").await.1, "gotel_db_errors_total");
    assert!(felt > errors, "the freeze was not felt: the test proves nothing");
    assert_eq!(world.number("SELECT term FROM lease").await, term, "the election came back in time");
    assert_eq!(world.json("/is-coordinator").await, true);
    assert_eq!(report.unanswered, 0, "everybody is answered in time");
    assert!(report.refused.keys().all(|status| *status == 503), "{:?}", report.refused);

    // The evaluator and the outbox have come back, too.
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    hook.received(1, SOON).await;
    world.signal("billing", "nightly", "").await;
    world.becomes("SELECT COUNT(*) FROM incident WHERE closed_ms IS NULL", 0).await;
    let known = Known {
        acknowledged: &report.acknowledged,
        hooks: &[("hook", &hook)],
        on_time: &["load"],
        ..Known::default()
    };
    hold(&world, &known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_18_writers_recover_when_established_flows_fall_silent_on_mariadb() {
    black_hole(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_18_writers_recover_when_established_flows_fall_silent_on_mysql() {
    black_hole(Backend::MySql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_20_a_cut_inside_commit_is_a_503_and_trying_again_is_safe() {
    let Some((world, proxy, hook)) = behind_a_proxy(Backend::MariaDb).await else { return };
    let keys = world.fleet("load", 5).await;
    proxy.cut_on(b"COMMIT", Cut::BeforeReply);
    for (app, component) in &keys {
        let why = world.try_check_in(app, component).await.expect_err("its commit was cut");
        assert!(why.starts_with("503"), "{why}");
    }
    proxy.heal();
    for (app, component) in &keys {
        eventually(SOON, "the check-in to be taken", async || world.try_check_in(app, component).await).await;
    }
    let known = Known { hooks: &[("hook", &hook)], on_time: &["load"], ..Known::default() };
    hold(&world, &known).await;
}
