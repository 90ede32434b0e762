//! Replicas that watch each other, and what they tell of each other and of their database: rows 5, 16, 17, 30 and
//! 33, and what lies between 16 and 17.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{Executor, Row};

use super::checker::{Allowed, Cast};
use super::fleet::{Fleet, PAGE, Plan, SLACK, SOON, TAKE_OVER};
use super::{audit, fleet_on, on_both_servers};
use crate::faults::invariants::{loops_move, one_open_incident};
use crate::util::db::{Backend, TestDb};
use crate::util::server::PrivateServer;
use crate::util::wait::{eventually, now, slowness};

/// A database that takes no writes is told after this; each further replica waits so much longer.
const DB_GONE: Duration = Duration::from_secs(60);
const RANK: Duration = Duration::from_secs(30);

/// One notice about a trouble of GoTel's own, as the webhook got it.
#[derive(Clone, Debug)]
struct Trouble {
    /// `trigger db-gone`.
    what: String,
    /// Who told it.
    srv: String,
    dedup_key: String,
    at: Instant,
}

/// What the webhook heard of `component`.
fn troubles(fleet: &Fleet, component: &str) -> Vec<Trouble> {
    let one = |body: Value, at| {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let what = format!("{} {}", text("event"), text("component"));
        Trouble { what, srv: text("srv"), dedup_key: text("dedup_key"), at }
    };
    let all = fleet.hook.requests().into_iter().map(|request| one(request.json(), request.at));
    all.filter(|trouble| trouble.what.ends_with(&format!(" {component}"))).collect()
}

/// Who told of it so far, each by its name: `trigger a`.
fn told_by(fleet: &Fleet, component: &str) -> BTreeSet<String> {
    let event = |what: &str| what.split(' ').next().unwrap_or_default().to_owned();
    troubles(fleet, component).iter().map(|t| format!("{} {}", event(&t.what), t.srv)).collect()
}

#[track_caller]
fn is_told(fleet: &Fleet, component: &str, by: &[&str], within: Duration) -> impl Future<Output = ()> {
    let expected: BTreeSet<String> = by.iter().map(|who| who.to_string()).collect();
    eventually(within, format!("{component} to be told: {by:?}"), async move || {
        let told = told_by(fleet, component);
        if told == expected { Ok(()) } else { Err(format!("{told:?}")) }
    })
}

/// The key under which every replica tells that the database is gone.
async fn key_of_db_gone(db: &TestDb) -> String {
    let row = sqlx::query("SELECT install_id FROM meta").fetch_one(&mut db.connect().await).await;
    format!("gotel/{}/db-gone", row.expect("the identity can be read").get::<String, _>(0))
}

/// A pair that sees each other well, on a server of the test's own, which outlives it.
async fn watched_pair(backend: Backend) -> Option<(Fleet, Cast, PrivateServer)> {
    let server = PrivateServer::start(backend)?;
    let (fleet, cast) = watched_pair_on(server.database().await).await;
    Some((fleet, cast, server))
}

async fn watched_pair_on(db: TestDb) -> (Fleet, Cast) {
    let fleet = Fleet::start(db, &Plan::pair().peers()).await;
    fleet.see_each_other("healthy").await;
    let cast = Cast::of(&fleet).await;
    (fleet, cast)
}

/// What is on the page of nodes at this replica, whatever its status.
async fn nodes(fleet: &Fleet, index: usize) -> String {
    fleet[index].node.get("/nodes").await.1
}

on_both_servers!(row_05_of_three_exactly_the_one_that_died_is_told_once);
async fn row_05_of_three_exactly_the_one_that_died_is_told_once(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::trio().peers()).await else { return };
    fleet.see_each_other("healthy").await;
    fleet.kill9(2);
    eventually(PAGE + SLACK, "its death to be told", async || !told_by(&fleet, "peer-dead/c").is_empty())
        .await;
    cast.goes_silent(&fleet).await;
    cast.misses_are_told(&fleet, Duration::from_secs(5) + SLACK).await;
    // Long enough for the other one that is left to tell it, too.
    slowness(2 * PAGE).await;
    assert_eq!(troubles(&fleet, "peer-dead/c").len(), 1, "{:?}", troubles(&fleet, "peer-dead/c"));
    for (index, other) in [(0, "b"), (1, "a")] {
        let page = fleet[index].node.get("/metrics").await.1;
        for (peer, state) in [(other, "healthy"), ("c", "dead")] {
            let line = format!("gotel_peer_state{{peer=\"{peer}\",state=\"{state}\"}} 1");
            assert!(page.contains(&line), "{line}:\n{page}");
        }
    }
    fleet.restart(2).await;
    fleet.see_each_other("healthy").await;
    let over = "resolve peer-dead/c";
    eventually(SOON, "its end to be told", async || {
        troubles(&fleet, "peer-dead/c").iter().any(|t| t.what == over)
    })
    .await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(Duration::from_secs(5)).troubles(&["peer-dead/c"])).await;
    assert_eq!(
        audit::reigns(&fleet.db).await.len(),
        1,
        "a worker's death changes nothing for the coordinator"
    );
}

on_both_servers!(row_16_replicas_that_lose_only_each_other_say_so_and_page_nobody);
async fn row_16_replicas_that_lose_only_each_other_say_so_and_page_nobody(backend: Backend) {
    let Some((mut fleet, mut cast)) = fleet_on(backend, &Plan::pair().peers()).await else { return };
    fleet.see_each_other("healthy").await;
    fleet.cut_from_each_other();
    cast.goes_silent(&fleet).await;
    fleet.see_each_other("unreachable_from_here").await;
    // Long enough for a page, if this were one.
    slowness(3 * PAGE).await;
    for (index, other) in [(0, "b"), (1, "a")] {
        let line = format!("the replica {other}: unreachable from here");
        fleet[index].gotel().printed(&line, SLACK).await;
        let page = nodes(&fleet, index).await;
        let evidence = "Its row in the database moves. It does not answer over HTTP";
        assert!(page.contains("</svg>unreachable from here") && page.contains(evidence), "{page}");
        assert_eq!(fleet[index].node.get("/readyz").await.0, 200);
    }
    cast.misses_are_told(&fleet, Duration::from_secs(5) + SLACK).await;
    fleet[0].heal();
    fleet[1].heal();
    fleet.see_each_other("healthy").await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(Duration::from_secs(5))).await;
    assert_eq!(audit::reigns(&fleet.db).await.len(), 1, "nobody else took the lead");
}

on_both_servers!(row_17_replicas_without_each_other_and_a_database_both_page_under_one_key);
async fn row_17_replicas_without_each_other_and_a_database_both_page_under_one_key(backend: Backend) {
    let Some((mut fleet, mut cast, mut server)) = watched_pair(backend).await else { return };
    let key = key_of_db_gone(&fleet.db).await;
    fleet.cut_from_each_other();
    server.kill9();
    let since = now();
    is_told(&fleet, "db-gone", &["trigger a", "trigger b"], DB_GONE + RANK + SLACK).await;
    for trouble in troubles(&fleet, "db-gone") {
        let waited = DB_GONE + if trouble.srv == "b" { RANK } else { Duration::ZERO };
        let after = trouble.at.duration_since(since);
        assert!(after + Duration::from_secs(5) >= waited, "{after:?}: {trouble:?}");
        assert_eq!(trouble.dedup_key, key);
    }
    eventually(SOON, "PagerDuty to have heard it twice", async || fleet.pager.requests().len() == 2).await;
    one_page_is_open(&fleet, &key).await;
    eventually(SOON, "the page to say so", async || {
        let page = nodes(&fleet, 1).await;
        if page.contains("The database takes no writes: told without it") { Ok(()) } else { Err(page) }
    })
    .await;
    server.restart();
    fleet[0].heal();
    fleet[1].heal();
    let all = ["trigger a", "trigger b", "resolve a", "resolve b"];
    is_told(&fleet, "db-gone", &all, SOON + SLACK).await;
    eventually(SOON, "PagerDuty to hear the end", async || fleet.pager.open_incidents().is_empty()).await;
    fleet.see_each_other("healthy").await;
    fleet.db.becomes("SELECT COUNT(*) FROM outage", 1).await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats().troubles(&["db-gone"])).await;
}

on_both_servers!(a_database_that_is_gone_is_told_by_one_replica_while_the_other_hears_that_it_is);
/// Between rows 16 and 17: the database is gone, and the replicas hear each other.
async fn a_database_that_is_gone_is_told_by_one_replica_while_the_other_hears_that_it_is(backend: Backend) {
    let Some((mut fleet, mut cast, mut server)) = watched_pair(backend).await else { return };
    let key = key_of_db_gone(&fleet.db).await;
    server.kill9();
    let since = now();
    is_told(&fleet, "db-gone", &["trigger a"], DB_GONE + SLACK).await;
    for index in [0, 1] {
        let (status, text) = fleet[index]
            .node
            .ask(reqwest::Method::POST, "/checkin/on-time/0", None)
            .await
            .expect("it answers all the same");
        assert_eq!(status, 503, "{text}");
        let (status, page) = fleet[index].node.get("/nodes").await;
        assert_eq!(status, 503);
        assert!(page.contains("</svg>no database either"), "{page}");
    }
    // The moment of the second passes, and a while.
    slowness((DB_GONE + RANK + SLACK).saturating_sub(since.elapsed())).await;
    assert_eq!(told_by(&fleet, "db-gone"), BTreeSet::from(["trigger a".to_owned()]));
    one_page_is_open(&fleet, &key).await;
    assert_eq!(fleet.pager.requests().len(), 1, "one page of two replicas");
    server.restart();
    is_told(&fleet, "db-gone", &["trigger a", "resolve a"], SOON + SLACK).await;
    eventually(SOON, "PagerDuty to hear the end", async || fleet.pager.open_incidents().is_empty()).await;
    fleet.see_each_other("healthy").await;
    fleet.db.becomes("SELECT COUNT(*) FROM outage", 1).await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).troubles(&["db-gone"])).await;
}

/// Two databases that were one, as after a fail-over that reached only some: on MariaDB, whose files can be copied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_33_replicas_on_two_primaries_that_were_one_both_page_it() {
    let Some((mut fleet, mut cast, server)) = watched_pair(Backend::MariaDb).await else { return };
    // Check-ins go to `a` alone, so that the checker may read its database for them all.
    fleet.shut_door(1);
    let mut copy = server.lagging_copy().await;
    copy.restart();
    let address = |server: &PrivateServer| server.url().socket_addrs(|| None).expect("it has an address")[0];
    fleet[1].link.redirect(address(&copy));
    fleet[1].link.cut();
    // Each finds that the other's beats are not in its database, and tells it by way of its own.
    is_told(&fleet, "split-db/b", &["trigger a"], PAGE + SOON).await;
    is_told(&fleet, "split-db/a", &["trigger b"], PAGE + SOON).await;
    eventually(SOON, "PagerDuty to hear both", async || fleet.pager.open_incidents().len() == 2).await;
    for index in [0, 1] {
        let page = nodes(&fleet, index).await;
        assert!(page.contains("</svg>other database"), "{page}");
        assert_eq!(fleet[index].node.get("/is-coordinator").await.1, "true", "each leads its own");
    }
    // As the notice says: the replicas of the wrong one are stopped first.
    fleet.kill9(1);
    fleet[1].link.redirect(address(&server));
    fleet.restart(1).await;
    fleet.see_each_other("healthy").await;
    is_told(&fleet, "split-db/b", &["trigger a", "resolve a"], SOON).await;
    cast.goes_silent(&fleet).await;
    let troubles = &["split-db/a", "split-db/b", "peer-dead/b"];
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats().troubles(troubles)).await;
    drop(fleet);
    drop(copy);
}

/// PagerDuty, which is told beside the webhook and not before it, has one incident open, however many told it.
async fn one_page_is_open(fleet: &Fleet, key: &str) {
    let right = BTreeSet::from([key.to_owned()]);
    eventually(SOON, format!("PagerDuty to have {key} open, and nothing else"), async || {
        let open = fleet.pager.open_incidents();
        if open == right { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
}

/// The database's clock.
const NOW: &str = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) DIV 1000";

/// Little room is still room: as the server tidies up, the mark may get through now and then. So a full disk may be
/// several times in which nothing could be stored, one after the other from `full_ms` (at `since`) on. Those that ended
/// before anybody was told that the database is gone are told as over; the others are told by that, and by nothing else.
async fn every_gap_is_told_once(fleet: &Fleet, full_ms: i64, since: Instant) {
    let rows = sqlx::query("SELECT from_ms, to_ms FROM outage ORDER BY from_ms");
    let rows = rows.fetch_all(&mut fleet.db.connect().await).await.expect("outages can be read");
    let gaps: Vec<(i64, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert!(gaps.iter().all(|(from, to)| to - from > 30_000), "{gaps:?}");
    assert!(gaps.windows(2).all(|two| two[0].1 <= two[1].0), "they overlap: {gaps:?}");
    let (first, last) = (gaps.first().expect("one at least"), gaps.last().expect("one at least"));
    assert!(first.0 > full_ms - 30_000 && last.1 <= fleet.db.number(NOW).await, "{full_ms}: {gaps:?}");
    let gone = troubles(fleet, "db-gone");
    let told_ms = |trouble: &Trouble| {
        full_ms + i64::try_from(trouble.at.duration_since(since).as_millis()).expect("it is soon")
    };
    let told = gone.iter().find(|t| t.what.starts_with("trigger")).map(told_ms).expect("it was told");
    assert!(gaps.iter().any(|(from, to)| (from..to).contains(&&told)), "{told} is in none of {gaps:?}");
    let before = gaps.iter().filter(|(_, to)| *to < told).count();
    assert_eq!(troubles(fleet, "outage").len(), before, "each of those once: {gaps:?}");
}

/// A disk that is full: on MariaDB, which nobody has to be root to give little room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_30_a_database_without_room_refuses_check_ins_is_told_without_it_and_is_still_read() {
    let Some(mut server) = PrivateServer::start_small() else { return };
    let (mut fleet, mut cast) = watched_pair_on(server.database().await).await;
    let key = key_of_db_gone(&fleet.db).await;
    let mut connection = fleet.db.connect().await;
    connection.execute("CREATE TABLE filler (x LONGBLOB) ENGINE=InnoDB").await.expect("there is room yet");
    for size in [1_000_000, 100_000, 15_000, 4000, 400] {
        let row = format!("INSERT INTO filler VALUES (REPEAT('x', {size}))");
        while connection.execute(sqlx::AssertSqlSafe(row.clone())).await.is_ok() {}
    }
    let since = now();
    let full_ms = fleet.db.number(NOW).await;
    for member in &fleet.members {
        eventually(SOON, "an honest 503", async || {
            let answer = member.node.ask(reqwest::Method::POST, "/checkin/on-time/0", None).await;
            matches!(answer, Ok((503, _)))
        })
        .await;
    }
    is_told(&fleet, "db-gone", &["trigger a"], DB_GONE + SLACK).await;
    assert!(since.elapsed() + Duration::from_secs(5) >= DB_GONE, "a short lack of room pages nobody");
    one_page_is_open(&fleet, &key).await;
    for member in &fleet.members {
        for page in ["/status", "/badguests", "/nodes", "/reservation/on-time/0"] {
            let (status, text) = member.node.get(page).await;
            assert_eq!(status, 200, "{page}: {text}");
        }
        assert_eq!(member.node.get("/livez").await.0, 200, "a restart makes no room");
    }
    // A full InnoDB does not even drop a table: room comes from outside.
    drop(connection);
    server.enlarge();
    cast.further(50, SOON).await;
    is_told(&fleet, "db-gone", &["trigger a", "resolve a"], SOON + SLACK).await;
    fleet.see_each_other("healthy").await;
    every_gap_is_told_once(&fleet, full_ms, since).await;
    cast.goes_silent(&fleet).await;
    cast.end(&mut fleet, Allowed::within(TAKE_OVER).repeats().troubles(&["db-gone", "outage"])).await;
    drop(fleet);
    drop(server);
}

/// Another replica's row says how its alerters fold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_without_pagerduty_ends_the_alert_that_stands_for_a_storm_there() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::start(db, &Plan { without_pager: Some(0), ..Plan::pair().peers() }).await;
    fleet.see_each_other("healthy").await;
    // It looks each 15 s.
    slowness(Duration::from_secs(20)).await;
    let names: Vec<_> = (0..12).map(|n| format!("job-{n}")).collect();
    for name in &names {
        fleet[1].node.reserve("storm", name, json!({ "alerters": ["pager"] })).await;
    }
    for name in &names {
        fleet[1].node.signal("storm", name, "/fail").await;
    }
    fleet.db.becomes("SELECT COUNT(*) FROM incident WHERE app = 'storm' AND closed_ms IS NULL", 12).await;
    fleet.db.becomes("SELECT COUNT(*) FROM delivery WHERE state IN ('pending', 'inflight')", 0).await;
    let open = fleet.pager.open_incidents();
    assert!(!open.is_empty() && open.len() < 12, "one stands for many: {open:?}");
    for name in &names {
        fleet[1].node.signal("storm", name, "").await;
    }
    fleet.db.becomes("SELECT COUNT(*) FROM incident WHERE app = 'storm' AND closed_ms IS NULL", 0).await;
    eventually(SOON, "PagerDuty to hear the end of all", async || {
        let open = fleet.pager.open_incidents();
        if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
    })
    .await;
    assert_eq!(audit::reigns(&fleet.db).await.len(), 1, "it was led by the one without");
    one_open_incident(&fleet.db).await;
    for member in &fleet.members {
        loops_move(&member.node).await;
    }
}
