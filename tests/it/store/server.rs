//! What only a database server has: logins, TLS, sessions, other people's locks.

use std::sync::Arc;

use gotel::metrics::Metrics;
use gotel::reservation::SignalKind;
use gotel::store::{CheckIn, Store, StoreError};
use sqlx::{AssertSqlSafe, Executor, Row};

use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::store::{Fixture, every};

on_every_database!(a_session_reads_committed_rows_waits_two_seconds_and_ends_when_silent);
async fn a_session_reads_committed_rows_waits_two_seconds_and_ends_when_silent(db: TestDb) {
    if db.backend() == Backend::Sqlite {
        return;
    }
    let isolation =
        if db.backend() == Backend::MariaDb { "@@tx_isolation" } else { "@@transaction_isolation" };
    let mut conn = db.connect().await;
    for statement in gotel::store::dialect::Dialect::MySql.session_setup() {
        conn.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    let row = conn
        .fetch_one(AssertSqlSafe(format!(
            "SELECT CAST({isolation} AS CHAR), CAST(@@innodb_lock_wait_timeout AS SIGNED), \
             CAST(@@lock_wait_timeout AS SIGNED), CAST(@@wait_timeout AS SIGNED), CAST(@@sql_mode AS CHAR)"
        )))
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>(0), "READ-COMMITTED");
    assert_eq!([row.get::<i64, _>(1), row.get(2), row.get(3)], [2, 2, 10]);
    assert!(row.get::<String, _>(4).contains("STRICT_ALL_TABLES"));
}

on_every_database!(the_stores_own_connections_are_set_up_so);
async fn the_stores_own_connections_are_set_up_so(db: TestDb) {
    if db.backend() != Backend::MariaDb {
        return;
    }
    // A holder of the row: only a session that was set up gives up waiting after 2 s.
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    f.sql("START TRANSACTION").await;
    f.sql("UPDATE reservation SET fails = 0").await;
    let item = [(CheckIn::new(&job, SignalKind::Ok), 0)];
    let refused = f.store.session().write_checkins(&item).await.unwrap_err();
    assert!(matches!(refused, StoreError::Contended(_) | StoreError::Timeout(..)), "{refused:?}");
    f.sql("ROLLBACK").await;
}

on_every_database!(a_connection_that_the_server_ended_is_replaced_without_a_word);
async fn a_connection_that_the_server_ended_is_replaced_without_a_word(db: TestDb) {
    if db.backend() == Backend::Sqlite {
        return;
    }
    let f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    let mut session = f.store.session();
    let item = [(CheckIn::new(&job, SignalKind::Ok), 0)];
    session.write_checkins(&item).await.unwrap();
    f.store.now_ms().await.unwrap();
    let database = f.db().url().rsplit('/').next().unwrap().to_owned();
    let mut admin = f.db().admin().await;
    let sleeping = format!(
        "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = '{database}' \
         AND command = 'Sleep'"
    );
    let ids = admin.fetch_all(AssertSqlSafe(sleeping)).await.unwrap();
    assert!(ids.len() >= 2);
    for id in ids {
        admin.execute(AssertSqlSafe(format!("KILL {}", id.get::<i64, _>(0)))).await.unwrap();
    }
    session.write_checkins(&item).await.unwrap();
    f.store.now_ms().await.unwrap();
    assert!(f.store.reservation(&job).await.unwrap().is_some());
}

#[tokio::test]
async fn mysqls_default_login_works_with_tls_and_without_and_verifying_refuses_an_unknown_certificate() {
    let Some(db) = TestDb::new(Backend::MySql).await else { return };
    let mut admin = db.admin().await;
    let user = format!("u{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let database = db.url().rsplit('/').next().unwrap().to_owned();
    for statement in [
        format!("CREATE USER '{user}'@'%' IDENTIFIED WITH caching_sha2_password BY 'pä ss'"),
        format!("GRANT ALL ON {database}.* TO '{user}'@'%'"),
    ] {
        admin.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    for mode in ["REQUIRED", "DISABLED"] {
        // Each login is to be a full one: the server's cache would hide that only cached ones work.
        admin.execute("FLUSH PRIVILEGES").await.unwrap();
        let mut url = url::Url::parse(db.url()).unwrap();
        url.set_username(&user).unwrap();
        url.set_password(Some("pä ss")).unwrap();
        url.query_pairs_mut().append_pair("ssl-mode", mode);
        let store = Store::open(url.as_str(), Arc::new(Metrics::new())).unwrap();
        store.migrate().await.unwrap_or_else(|e| panic!("{mode}: {e}"));
    }
    for mode in ["VERIFY_CA", "VERIFY_IDENTITY"] {
        let url = format!("{}?ssl-mode={mode}", db.url());
        let refused = Store::open(&url, Arc::new(Metrics::new())).unwrap().migrate().await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable(_)), "nobody vouches for it: {refused:?}");
    }
    let wrong = db.url().replacen("gotel:gotel@", &format!("{user}:wrong@"), 1);
    let refused = Store::open(&wrong, Arc::new(Metrics::new())).unwrap().migrate().await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    assert!(!refused.to_string().contains("wrong@"), "{refused}");
    admin.execute(AssertSqlSafe(format!("DROP USER '{user}'@'%'"))).await.unwrap();
}
