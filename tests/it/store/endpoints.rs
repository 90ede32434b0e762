//! Several servers of one database: which of them is used, and when it is left.

use std::sync::Arc;
use std::time::Duration;

use gotel::metrics::Metrics;
use gotel::reservation::SignalKind;
use gotel::store::lease::COORDINATOR;
use gotel::store::{CheckIn, Store, StoreError};
use url::Url;

use crate::util::chaos::ChaosProxy;
use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::store::{Fixture, LIMITS, every};
use crate::util::wait::{eventually, now};

const SOON: Duration = Duration::from_secs(20);

/// Two ways to the fixture's database, and a store that knows both.
async fn two_ways(f: &Fixture) -> Option<([ChaosProxy; 2], Store)> {
    let server = f.db().server_addr()?;
    let proxies = [ChaosProxy::start(server).await, ChaosProxy::start(server).await];
    let urls = proxies.each_ref().map(|proxy| f.db().url_through(proxy.addr()));
    let store = Store::open_any(&urls.each_ref().map(String::as_str), Arc::new(Metrics::new())).unwrap();
    store.migrate().await.unwrap();
    Some((proxies, store))
}

on_every_database!(an_endpoint_that_refuses_is_passed_over_and_every_connection_follows);
async fn an_endpoint_that_refuses_is_passed_over_and_every_connection_follows(db: TestDb) {
    let f = Fixture::new(db).await;
    let Some(([first, second], store)) = two_ways(&f).await else { return };
    let job = f.reserve("a", every("1h")).await;
    let mut session = store.session();
    let item = [(CheckIn::new(&job, SignalKind::Ok), 0)];
    session.write_checkins(&item).await.unwrap();
    assert_eq!(second.connections(), 0, "the first one serves");
    let reads = futures::future::join_all((0..3).map(|_| store.counts())).await;
    assert!(reads.iter().all(Result::is_ok));
    // The connections that stand go on, and are left as soon as a new one had to go elsewhere.
    first.refuse();
    eventually(SOON, "a connection to go elsewhere", async || {
        store.session().write_checkins(&item).await.map_err(|e| e.to_string())?;
        if second.connections() > 0 { Ok(()) } else { Err("none did".to_owned()) }
    })
    .await;
    first.freeze_existing();
    let before = now();
    session.write_checkins(&item).await.unwrap();
    store.now_ms().await.unwrap();
    assert!(
        before.elapsed() < Duration::from_secs(3),
        "one of them went the old way: {:?}",
        before.elapsed()
    );
    assert!(second.connections() >= 3);
    // It stays where it is well.
    first.heal();
    let used = first.connections();
    store.session().write_checkins(&item).await.unwrap();
    assert_eq!(first.connections(), used);
}

on_every_database!(a_silent_endpoint_costs_a_share_of_the_time_also_where_the_limit_is_short);
async fn a_silent_endpoint_costs_a_share_of_the_time_also_where_the_limit_is_short(db: TestDb) {
    let f = Fixture::new(db).await;
    let Some(([first, second], store)) = two_ways(&f).await else { return };
    first.freeze_all();
    let job = f.reserve("a", every("1h")).await;
    let item = [(CheckIn::new(&job, SignalKind::Ok), 0)];
    store.session().write_checkins(&item).await.expect("within its 4 seconds it comes to the second");
    // And back, by operations that have two seconds.
    first.heal();
    second.freeze_all();
    let mut lease = store.session();
    let mut look = async || lease.observe(COORDINATOR, LIMITS.op).await.is_ok();
    let tries = [look().await, look().await];
    assert!(tries[1], "{tries:?}: the second try begins behind the silent one");
}

on_every_database!(an_endpoint_with_another_installation_is_refused);
async fn an_endpoint_with_another_installation_is_refused(db: TestDb) {
    let f = Fixture::new(db).await;
    let Some(server) = f.db().server_addr() else { return };
    let Some(other) = TestDb::new(f.db().backend()).await else { return };
    for has_schema in [false, true] {
        let proxy = ChaosProxy::start(server).await;
        let ours = f.db().url_through(proxy.addr());
        if has_schema {
            Store::open(other.url(), Arc::new(Metrics::new())).unwrap().migrate().await.unwrap();
        }
        let store = Store::open_any(&[&ours, other.url()], Arc::new(Metrics::new())).unwrap();
        store.migrate().await.unwrap();
        assert_eq!(store.install_id(), f.store.install_id());
        proxy.refuse();
        proxy.cut();
        let refused = eventually(SOON, "the first to be gone", async || match store.now_ms().await {
            Ok(_) => Err("it answers".to_owned()),
            Err(e) => Ok(e),
        })
        .await;
        assert!(refused.to_string().contains("holds another installation"), "{refused}");
        assert!(!refused.to_string().contains("gotel:gotel"), "{refused}");
    }
}

#[test]
fn what_cannot_be_a_list_of_endpoints_is_refused() {
    let open = |urls: &[&str]| Store::open_any(urls, Arc::new(Metrics::new()));
    for urls in [&[][..], &["mysql://a/b", "sqlite:///x.db"], &["sqlite:///x.db", "sqlite:///y.db"]] {
        assert!(matches!(open(urls), Err(StoreError::Schema(_))), "{urls:?}");
    }
    assert!(open(&["mysql://a/b", "mariadb://c/b"]).is_ok());
}

on_every_database!(the_servers_settings_are_looked_at);
async fn the_servers_settings_are_looked_at(db: TestDb) {
    let f = Fixture::new(db).await;
    let found = f.store.durability_warnings().await.unwrap();
    match f.db().backend() {
        Backend::Sqlite => assert!(found.is_empty()),
        // The tests' user may do everything; the server is set up to lose nothing.
        _ => assert!(found.len() == 1 && found[0].contains("read-only"), "{found:?}"),
    }
    let url = Url::parse(f.db().url()).unwrap();
    assert!(found.iter().all(|text| !text.contains(url.password().unwrap_or("hush"))));
}
