//! A pair of replicas: found, lost, left, doubled, cut off.

use reqwest::StatusCode;

use super::SOON;
use super::fleet::{Fleet, IDS, Replica};
use crate::util::chaos::ChaosProxy;
use crate::util::db::{Backend, TestDb};
use crate::util::wait::eventually;

/// Puts the coordinator first, once there is one; with their places.
async fn by_role(pair: [Replica; 2]) -> [(usize, Replica); 2] {
    eventually(SOON, "exactly one coordinator", async || pair[0].leads().await != pair[1].leads().await)
        .await;
    let first = pair[0].leads().await;
    let [one, other] = pair;
    if first { [(0, one), (1, other)] } else { [(1, other), (0, one)] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_is_one_coordinator_and_one_worker_and_each_sees_the_other_well() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::new(db).await;
    let [(_, coordinator), (place, worker)] = by_role(fleet.pair().await).await;
    for replica in [&coordinator, &worker] {
        replica
            .shows("one of each role", |page| {
                page.contains(r#"<td data-label="Role"><span>coordinator"#)
                    && page.contains(r#"<td data-label="Role"><span>worker"#)
            })
            .await;
        assert_eq!(replica.get("/readyz").await.0, StatusCode::OK);
        assert_eq!(replica.get("/livez").await.0, StatusCode::OK);
    }
    let line = format!(r#"gotel_peer_state{{peer="{}",state="healthy"}} 1"#, IDS[place]);
    eventually(SOON, line.clone(), async || {
        let figures = coordinator.get("/metrics").await.1;
        if figures.contains(&line) { Ok(()) } else { Err(figures) }
    })
    .await;
    assert!(fleet.told().is_empty(), "{:?}", fleet.told());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_05_a_killed_worker_is_told_once_and_its_return_once() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::new(db).await;
    let [(_, coordinator), (place, mut worker)] = by_role(fleet.pair().await).await;
    worker.gotel.kill9();
    let dead = format!("trigger peer-dead/{}", IDS[place]);
    fleet.tells(&[&dead]).await;
    coordinator.shows("it to be dead", |page| page.contains("</svg>dead")).await;
    let back = fleet.start(place, place).await;
    let over = format!("resolve peer-dead/{}", IDS[place]);
    fleet.tells(&[&dead, &over]).await;
    back.shows("both to be healthy", |page| page.matches("</svg>healthy").count() == 2).await;
    assert!(!back.gotel.output().contains("another process uses"), "a restart is no second process");
    assert!(coordinator.leads().await, "the worker's death changes nothing for it");
    fleet.holds(&[&coordinator, &back]).await;
}

/// How many seconds ago the page says that somebody left.
fn left_for_s(page: &str) -> Option<u64> {
    let (_, rest) = page.split_once("It left in order ")?;
    let (age, _) = rest.split_once(" ago")?;
    let ms = gotel::reservation::duration::parse_ms("age", age).ok()?;
    u64::try_from(ms / 1000).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_asked_to_end_is_missed_by_nobody() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::new(db).await;
    let [(_, coordinator), (place, mut worker)] = by_role(fleet.pair().await).await;
    worker.gotel.sigterm();
    assert!(worker.gotel.wait_exit(SOON).await.success());
    // Longer than it takes to be told of one that died.
    coordinator
        .shows("it to be gone for a while", |page| {
            page.contains("</svg>left in order") && left_for_s(page).is_some_and(|s| s > 25)
        })
        .await;
    assert!(fleet.told().is_empty(), "{:?}", fleet.told());
    let back = fleet.start(place, place).await;
    back.shows("both to be healthy", |page| page.matches("</svg>healthy").count() == 2).await;
    coordinator.shows("both to be healthy", |page| page.matches("</svg>healthy").count() == 2).await;
    assert!(fleet.told().is_empty(), "{:?}", fleet.told());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_12_a_second_process_of_one_id_says_so_is_told_of_and_never_leads() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::new(db).await;
    let mut one = fleet.start(0, 0).await;
    eventually(SOON, "the first to lead", async || one.leads().await).await;
    let other = fleet.start(1, 1).await;
    other.shows("both to be healthy", |page| page.matches("</svg>healthy").count() == 2).await;
    let mut second = fleet.start(1, 2).await;
    second.gotel.printed("another process uses this replica's id: this one refuses to lead", SOON).await;
    fleet.tells(&["trigger duplicate-id/us-1"]).await;
    one.shows("its id to be used twice", |page| page.contains("</svg>id used twice")).await;
    // Of the two processes that are left only one may lead, as often as the lease is vacant.
    one.gotel.sigterm();
    assert!(one.gotel.wait_exit(SOON).await.success());
    for _ in 0..5 {
        fleet.db.becomes("SELECT COUNT(*) FROM lease WHERE holder = 'us-1'", 1).await;
        eventually(SOON, "the first process of the id to lead", async || {
            assert!(!second.leads().await, "the second process leads:\n{}", second.gotel.output());
            other.leads().await
        })
        .await;
        fleet.db.sql("UPDATE lease SET holder = '', token = 'taken away', beat = beat + 1").await;
    }
    let one = fleet.start(0, 0).await;
    second.gotel.sigterm();
    assert!(second.gotel.wait_exit(SOON).await.success());
    assert!(!second.gotel.output().contains("this replica coordinates"), "{}", second.gotel.output());
    fleet.tells(&["trigger duplicate-id/us-1", "resolve duplicate-id/us-1"]).await;
    for replica in [&one, &other] {
        replica.shows("both to be healthy", |page| page.matches("</svg>healthy").count() == 2).await;
        assert!(!replica.gotel.output().contains("this one refuses to lead"));
    }
    fleet.holds(&[&one, &other]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_15_a_replica_cut_from_the_database_is_told_of_by_the_other_and_is_not_ready() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let proxy = ChaosProxy::start(db.server_addr().expect("a server")).await;
    let fleet = Fleet::new(db).await;
    let cut = fleet.spawn(1, 1, &fleet.db.url_through(proxy.addr()));
    let one = fleet.start(0, 0).await;
    let cut = fleet.ready(cut).await;
    one.shows("both to be healthy", |page| page.matches("</svg>healthy").count() == 2).await;
    proxy.freeze_all();
    fleet.tells(&["trigger peer-no-db/us-1"]).await;
    eventually(SOON, "it to be not ready", async || {
        let (status, text) = cut.get("/readyz").await;
        if status == StatusCode::SERVICE_UNAVAILABLE && text.contains("another one does") {
            return Ok(());
        }
        Err(text)
    })
    .await;
    let (status, page) = cut.get("/nodes").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.contains("has the database") && page.contains("without a database"), "{page}");
    assert_eq!(cut.get("/livez").await.0, StatusCode::OK, "a restart would not help");
    proxy.heal();
    fleet.tells(&["trigger peer-no-db/us-1", "resolve peer-no-db/us-1"]).await;
    eventually(SOON, "it to be ready", async || cut.get("/readyz").await.0 == StatusCode::OK).await;
    fleet.holds(&[&one, &cut]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_replica_that_is_forgotten_is_no_trouble_any_more() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let fleet = Fleet::new(db).await;
    let [one, mut other] = fleet.pair().await;
    let command = async |args: &[&str]| {
        let mut gotel = tokio::process::Command::new(env!("CARGO_BIN_EXE_gotel"));
        gotel.arg("replica").args(args).env_clear().env("GOTEL_DATABASE_URL", fleet.db.url());
        let ran = gotel.output().await.expect("the program runs");
        let said = [ran.stdout, ran.stderr].concat();
        (ran.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (listed, list) = command(&["list"]).await;
    assert!(listed && list.contains("eu-1: beat ") && list.contains("us-1: beat "), "{list}");
    let (forgotten, why) = command(&["forget", "us-1"]).await;
    assert!(!forgotten && why.contains("us-1 lives"), "{why}");
    other.gotel.kill9();
    fleet.tells(&["trigger peer-dead/us-1"]).await;
    let (forgotten, said) = command(&["forget", "us-1"]).await;
    assert!(forgotten && said.contains("Forgotten: us-1."), "{said}");
    fleet.tells(&["trigger peer-dead/us-1", "resolve peer-dead/us-1"]).await;
    one.shows("it to have left", |page| page.contains("</svg>left in order")).await;
    let (forgotten, why) = command(&["forget", "nobody"]).await;
    assert!(!forgotten && why.contains("there is no replica \"nobody\": eu-1"), "{why}");
}
