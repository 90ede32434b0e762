//! Tests of [`crate::util::server`].

use std::time::Duration;

use rstest::rstest;
use sqlx::{Connection, Executor, Row};

use super::SOON;
use crate::util::db::Backend;
use crate::util::server::PrivateServer;
use crate::util::wait::eventually;

#[tokio::test]
async fn a_lagging_copy_has_what_was_committed_before_and_nothing_after() {
    let Some(server) = PrivateServer::start(Backend::MariaDb) else { return };
    let mut db = server.database().await;
    let mut before = db.connect().await;
    before.execute("CREATE TABLE guest (nights BIGINT)").await.unwrap();
    before.execute("INSERT INTO guest VALUES (3)").await.unwrap();
    let mut copy = server.lagging_copy().await;
    before.execute("INSERT INTO guest VALUES (4)").await.unwrap();
    copy.restart();
    db.move_to(copy.url());
    assert_eq!(db.number("SELECT MAX(nights) FROM guest").await, 3);
    let both = before.fetch_one("SELECT COUNT(*) FROM guest").await.unwrap();
    assert_eq!(both.get::<i64, _>(0), 2);
}

#[rstest]
#[case::mariadb(Backend::MariaDb)]
#[case::mysql(Backend::MySql)]
#[tokio::test]
async fn a_killed_server_comes_back_with_what_was_committed(#[case] backend: Backend) {
    let Some(mut server) = PrivateServer::start(backend) else { return };
    let db = server.database().await;
    let mut before = db.connect().await;
    before.execute("CREATE TABLE guest (nights BIGINT)").await.unwrap();
    before.execute("INSERT INTO guest VALUES (3)").await.unwrap();

    server.sigstop().await;
    let answer = tokio::time::timeout(Duration::from_millis(300), before.ping()).await;
    assert!(answer.is_err(), "a stopped server answered: {answer:?}");
    server.sigcont();
    before.ping().await.unwrap();

    server.kill9();
    eventually(SOON, "the connection to break", async || before.ping().await.is_err()).await;
    server.restart();
    let row = db.connect().await.fetch_one("SELECT nights FROM guest").await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 3);
}
