//! Tests of [`crate::util::db`].

use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use crate::util::db::{Backend, TestDb, on_every_database};

on_every_database!(what_one_connection_writes_another_reads);
async fn what_one_connection_writes_another_reads(db: TestDb) {
    let mut writer = db.connect().await;
    writer
        .execute("CREATE TABLE guest (name VARCHAR(150) NOT NULL PRIMARY KEY, nights BIGINT)")
        .await
        .unwrap();
    sqlx::query("INSERT INTO guest VALUES (?, ?)")
        .bind("Ada 🛎")
        .bind(3i64)
        .execute(&mut writer)
        .await
        .unwrap();
    writer.close().await.unwrap();

    let mut reader = db.connect().await;
    let row = reader.fetch_one("SELECT name, nights FROM guest").await.unwrap();
    assert_eq!((row.get::<String, _>(0), row.get::<i64, _>(1)), ("Ada 🛎".into(), 3));
}

on_every_database!(two_databases_share_nothing_and_leave_nothing_behind);
async fn two_databases_share_nothing_and_leave_nothing_behind(one: TestDb) {
    let other = TestDb::new(one.backend()).await.expect("the first one was there");
    one.connect().await.execute("CREATE TABLE guest (id BIGINT)").await.unwrap();
    assert!(other.connect().await.fetch_all("SELECT id FROM guest").await.is_err());

    if let Some(dir) = one.dir().map(ToOwned::to_owned) {
        assert!(dir.join("gotel.db").exists());
        drop(one);
        assert!(!dir.exists());
    } else {
        let name = one.url().rsplit('/').next().unwrap().to_owned();
        drop(one);
        let mut admin = other.admin().await;
        let found = admin.fetch_optional(AssertSqlSafe(format!("SHOW DATABASES LIKE '{name}'"))).await;
        assert!(found.unwrap().is_none(), "{name} is still there");
    }
}

on_every_database!(the_servers_are_the_ones_users_run_and_make_every_commit_durable);
async fn the_servers_are_the_ones_users_run_and_make_every_commit_durable(db: TestDb) {
    if db.backend() == Backend::Sqlite {
        return;
    }
    let mut admin = db.admin().await;
    let row = admin.fetch_one("SELECT VERSION(), @@innodb_flush_log_at_trx_commit").await.unwrap();
    let (version, flush): (String, u64) = (row.get(0), row.get(1));
    assert_eq!(version.contains("MariaDB"), db.backend() == Backend::MariaDb, "{version}");
    assert_eq!(flush, 1);
    if db.backend() == Backend::MySql {
        assert!(!version.starts_with("8."), "{version}");
        let user = "SELECT plugin FROM mysql.user WHERE user = 'gotel'";
        let plugin: String = admin.fetch_one(user).await.unwrap().get(0);
        assert_eq!(plugin, "caching_sha2_password");
    }
}
