//! Database servers that are left for others, refuse writes, or have no room: rows 21, 26 and 31.

use std::sync::Arc;

use gotel::metrics::Metrics;
use gotel::store::Store;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use url::Url;

use super::SOON;
use super::invariants::{Known, events_of, hold};
use super::world::{World, hook_yaml};
use crate::util::chaos::ChaosProxy;
use crate::util::db::{Backend, TestDb};
use crate::util::load::Load;
use crate::util::receiver::Receiver;
use crate::util::server::PrivateServer;
use crate::util::wait::eventually;

/// GoTel with these endpoints in its configuration; their URLs stand in its environment.
async fn with_endpoints(db: TestDb, urls: [&str; 2], hook: &Receiver) -> World {
    let yaml = format!("database:\n  urls: [\"${{DB_ONE}}\", \"${{DB_TWO}}\"]\n{}", hook_yaml(hook));
    World::start_at(db, String::new(), &yaml, &[("DB_ONE", urls[0]), ("DB_TWO", urls[1])]).await
}

/// A user that may do what the documentation grants it, and the database's URL as that user.
async fn plain_user(db: &TestDb) -> String {
    let mut admin = db.admin().await;
    let mut url = Url::parse(db.url()).unwrap();
    let database = url.path().trim_start_matches('/').to_owned();
    for statement in [
        "CREATE USER IF NOT EXISTS plain@'%' IDENTIFIED BY 'plain'".to_owned(),
        format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES ON {database}.* TO plain@'%'"
        ),
    ] {
        admin.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    url.set_username("plain").unwrap();
    url.set_password(Some("plain")).unwrap();
    url.into()
}

async fn another_address(backend: Backend) {
    let Some(db) = TestDb::new(backend).await else { return };
    let server = db.server_addr().unwrap();
    let [one, two] = [ChaosProxy::start(server).await, ChaosProxy::start(server).await];
    let hook = Receiver::webhook().await;
    let (url_one, url_two) = (db.url_through(one.addr()), db.url_through(two.addr()));
    let world = with_endpoints(db, [&url_one, &url_two], &hook).await;
    let keys = world.fleet("load", 20).await;
    let load = Load::start(&world.url, &keys, 16, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 200).await;
    assert_eq!(two.connections(), 0, "the first endpoint serves");
    // The first dies with its connections; later the second falls silent.
    one.refuse();
    one.cut();
    let before = load.acknowledged();
    eventually(SOON, "check-ins by way of the second", async || {
        two.connections() > 0 && load.acknowledged() >= before + 200
    })
    .await;
    one.heal();
    let (used, before) = (one.connections(), load.acknowledged());
    two.freeze_all();
    eventually(SOON, "check-ins by way of the first", async || {
        one.connections() > used && load.acknowledged() >= before + 200
    })
    .await;
    two.heal();
    let report = load.stop().await;
    assert_eq!(report.unanswered, 0);
    assert!(report.refused.keys().all(|status| *status == 503), "{:?}", report.refused);
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    hook.received(1, SOON).await;
    let known = Known {
        acknowledged: &report.acknowledged,
        hooks: &[("hook", &hook)],
        on_time: &["load"],
        secrets: &["gotel:gotel@"],
    };
    hold(&world, &known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_21_a_database_that_moves_to_another_address_is_followed_on_mariadb() {
    another_address(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_21_a_database_that_moves_to_another_address_is_followed_on_mysql() {
    another_address(Backend::MySql).await;
}

/// A server that is made read-only, with GoTel as a user that obeys it, or as one that could write all the same.
async fn read_only(backend: Backend, obeys: bool) {
    let Some(server) = PrivateServer::start(backend) else { return };
    let db = server.database().await;
    let hook = Receiver::webhook().await;
    let url = if obeys { plain_user(&db).await } else { db.url().to_owned() };
    let world = World::start_at(db, url, &hook_yaml(&hook), &[]).await;
    let warned = world.output().contains("may write to a server that is read-only");
    assert_eq!(warned, !obeys, "the start says so: {}", world.output());
    let keys = world.fleet("load", 10).await;
    let load = Load::start(&world.url, &keys, 8, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 100).await;
    let mut admin = world.db.admin().await;
    admin.execute("SET GLOBAL read_only = 1").await.unwrap();
    eventually(SOON, "an honest 503", async || match world.try_check_in("load", "0").await {
        Err(why) if why.starts_with("503") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    eventually(SOON, "its connections to be closed", async || {
        let count = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()";
        // The one that asks, and one that has just asked whether it is still so.
        world.number(count).await <= 2
    })
    .await;
    assert_eq!(world.get("/livez").await.0, 200);
    admin.execute("SET GLOBAL read_only = 0").await.unwrap();
    let before = load.acknowledged();
    eventually(SOON, "check-ins to be taken again", async || load.acknowledged() >= before + 100).await;
    let report = load.stop().await;
    assert!(report.refused.keys().all(|status| *status == 503), "{:?}", report.refused);
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    eventually(SOON, "the failure to be told", async || {
        events_of(&hook).iter().any(|one| one.app == "billing")
    })
    .await;
    let known = Known {
        acknowledged: &report.acknowledged,
        hooks: &[("hook", &hook)],
        on_time: &["load"],
        ..Known::default()
    };
    hold(&world, &known).await;
    assert!(
        world.output().contains("takes no writes: every connection to it is closed"),
        "{}",
        world.output()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_26_a_read_only_mariadb_is_an_honest_503_and_heals() {
    read_only(Backend::MariaDb, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_26_a_read_only_mysql_is_an_honest_503_and_heals() {
    read_only(Backend::MySql, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_26_a_user_that_could_write_all_the_same_leaves_it_too() {
    read_only(Backend::MariaDb, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_26_a_demoted_server_is_left_for_the_one_that_was_promoted() {
    let (Some(old), Some(new)) =
        (PrivateServer::start(Backend::MariaDb), PrivateServer::start(Backend::MariaDb))
    else {
        return;
    };
    let (old_db, new_db) = (old.database().await, new.database().await);
    // What replication would have made of the new one.
    let made = |url: String| async move {
        let store = Store::open(&url, Arc::new(Metrics::new())).unwrap();
        store.migrate().await.unwrap();
        store.install_id().to_owned()
    };
    let id = made(old_db.url().to_owned()).await;
    made(new_db.url().to_owned()).await;
    let mut promoted = new_db.connect().await;
    let same = format!("UPDATE meta SET install_id = '{id}'");
    promoted.execute(AssertSqlSafe(same)).await.unwrap();
    new_db.admin().await.execute("SET GLOBAL read_only = 1").await.unwrap();

    let hook = Receiver::webhook().await;
    // Written in the wrong order: the one that takes writes is found nevertheless.
    let urls = [new_db.url().to_owned(), old_db.url().to_owned()];
    let world = with_endpoints(old_db, [&urls[0], &urls[1]], &hook).await;
    world.reserve("billing", "nightly", Value::Null).await;
    assert_eq!(world.number("SELECT COUNT(*) FROM reservation").await, 1);

    world.db.admin().await.execute("SET GLOBAL read_only = 1").await.unwrap();
    new_db.admin().await.execute("SET GLOBAL read_only = 0").await.unwrap();
    eventually(SOON, "the promoted one to be used", async || {
        world.try_check_in("billing", "nightly").await.err().filter(|why| why.starts_with("404"))
    })
    .await;
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    eventually(SOON, "the failure to be told", async || {
        events_of(&hook).iter().any(|one| one.app == "billing")
    })
    .await;
    let row = promoted.fetch_one("SELECT COUNT(*) FROM incident WHERE app = 'billing'").await.unwrap();
    assert_eq!(sqlx::Row::get::<i64, _>(&row, 0), 1);
    super::invariants::loops_move(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_31_a_database_without_room_keeps_its_coordinator_and_is_told_of_failures() {
    let Some(server) = PrivateServer::start(Backend::MariaDb) else { return };
    let db = server.database().await;
    let hook = Receiver::webhook().await;
    let plain = plain_user(&db).await;
    let world = World::start_at(db, plain.clone(), &hook_yaml(&hook), &[]).await;
    let keys = world.fleet("load", 5).await;
    let load = Load::start(&world.url, &keys, 4, &[]);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 50).await;
    world.becomes("SELECT COUNT(*) FROM lease WHERE eval_ms > 0", 1).await;
    let term = world.number("SELECT term FROM lease").await;
    world.reserve("billing", "nightly", Value::Null).await;

    // The administrator has a place of his own; all the others are taken, and those that fall free.
    let mut admin = world.db.admin().await;
    admin.execute("SET GLOBAL max_connections = 20").await.unwrap();
    let mut hogs = Vec::new();
    let mut hog = async || loop {
        match MySqlConnection::connect(&plain).await {
            Ok(one) => hogs.push(one),
            Err(why) => break assert!(why.to_string().contains("Too many connections"), "{why}"),
        }
    };
    hog().await;
    let evaluations = async |admin: &mut MySqlConnection| -> i64 {
        let database = Url::parse(&plain).unwrap().path().trim_start_matches('/').to_owned();
        let text = format!("SELECT eval_ms FROM {database}.lease");
        sqlx::Row::get(&admin.fetch_one(AssertSqlSafe(text)).await.unwrap(), 0)
    };
    world.signal("billing", "nightly", "/fail").await;
    hook.received(1, SOON).await;
    for _ in 0..3 {
        hog().await;
        let before = evaluations(&mut admin).await;
        eventually(SOON, "an evaluation", async || evaluations(&mut admin).await > before).await;
    }
    admin.execute("SET GLOBAL max_connections = 500").await.unwrap();
    for one in hogs {
        one.close().await.ok();
    }
    let before = load.acknowledged();
    eventually(SOON, "check-ins", async || load.acknowledged() >= before + 50).await;
    let report = load.stop().await;
    assert_eq!(report.unanswered, 0);
    assert!(report.refused.keys().all(|status| *status == 503), "{:?}", report.refused);
    assert_eq!(world.number("SELECT term FROM lease").await, term, "the election's connection was kept");
    let known = Known {
        acknowledged: &report.acknowledged,
        hooks: &[("hook", &hook)],
        on_time: &["load"],
        ..Known::default()
    };
    hold(&world, &known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_may_lose_commits_is_told_of_at_the_start() {
    let Some(server) = PrivateServer::start(Backend::MariaDb) else { return };
    let db = server.database().await;
    db.admin().await.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2").await.unwrap();
    let url = plain_user(&db).await;
    let world = World::start_at(db, url, "", &[]).await;
    let output = world.output();
    let told: Vec<_> =
        output.lines().filter(|line| line.contains("may lose what it has acknowledged")).collect();
    assert_eq!(told.len(), 1, "{output}");
    assert!(
        told[0].contains("innodb_flush_log_at_trx_commit is 2") && told[0].contains("set it to 1"),
        "{told:?}"
    );
}
