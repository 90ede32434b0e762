//! SQLite: one file, one process, and what becomes of a disk that fails.

use std::sync::Arc;
use std::time::Duration;

use gotel::metrics::Metrics;
use gotel::reservation::SignalKind;
use gotel::store::{CheckIn, Store, StoreError};
use sqlx::{Connection, Executor};

use crate::util::db::{Backend, TestDb};
use crate::util::store::{Fixture, every, key, settings};
use crate::util::wait::eventually;

fn open(url: &str) -> Result<Store, StoreError> {
    Store::open(url, Arc::new(Metrics::new()))
}

async fn fixture() -> Fixture {
    Fixture::new(TestDb::new(Backend::Sqlite).await.unwrap()).await
}

#[tokio::test]
async fn a_second_process_on_the_same_file_is_refused_with_a_way_out() {
    let f = fixture().await;
    let url = f.db().url().to_owned();
    let refused = open(&url).unwrap_err();
    assert!(matches!(refused, StoreError::InUse(_)));
    let text = refused.to_string();
    assert!(text.contains("another gotel is using") && text.contains("gotel.db"), "{text}");
    assert!(text.contains("use MySQL"), "{text}");
    let link = f.db().dir().unwrap().join("link.db");
    std::os::unix::fs::symlink(f.db().dir().unwrap().join("gotel.db"), &link).unwrap();
    assert!(open(&format!("sqlite://{}", link.display())).is_err(), "a link to the file is the file");
}

#[tokio::test]
async fn the_file_is_free_again_once_the_store_is_gone() {
    let db = TestDb::new(Backend::Sqlite).await.unwrap();
    drop(open(db.url()).unwrap());
    open(db.url()).unwrap();
}

#[test]
fn a_database_in_memory_is_refused() {
    for url in ["sqlite::memory:", "sqlite://:memory:", "sqlite://", "sqlite://x.db?mode=memory"] {
        let refused = open(url).unwrap_err();
        assert!(matches!(refused, StoreError::Schema(_)), "{url}: {refused}");
        assert!(refused.to_string().contains("must be a file"), "{refused}");
    }
    let other = open("postgres://host/gotel").unwrap_err().to_string();
    assert!(other.contains("sqlite://") && other.contains("mysql://"), "{other}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    // `/proc` refuses even root.
    let refused = open("sqlite:///proc/gotel/gotel.db").unwrap_err().to_string();
    assert!(refused.contains("cannot make the folder of /proc/gotel/gotel.db"), "{refused}");
    let refused = open("sqlite:///proc/gotel.db").unwrap_err().to_string();
    assert!(refused.contains("cannot lock /proc/gotel.db"), "{refused}");
}

#[tokio::test]
async fn every_commit_is_durable() {
    let mut f = fixture().await;
    assert_eq!(f.texts("PRAGMA journal_mode").await, ["wal"]);
    // The pragma is each connection's own, so the store's must be asked; its source is the same for all.
    let setup = gotel::store::dialect::Dialect::Sqlite.session_setup();
    let mut conn = f.db().connect().await;
    for statement in setup {
        conn.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
    let full: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut conn).await.unwrap();
    assert_eq!(full, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_50_a_foreign_lock_on_the_file_is_busy_and_passes() {
    let f = fixture().await;
    let job = f.reserve("a", every("1h")).await;
    let mut foreign = f.db().connect().await;
    foreign.execute("BEGIN EXCLUSIVE").await.unwrap();
    let mut session = f.store.session();
    let item = [(CheckIn::new(&job, SignalKind::Ok), 0)];
    let refused = session.write_checkins(&item).await.unwrap_err();
    assert!(matches!(refused, StoreError::Contended(_) | StoreError::Timeout(..)), "{refused:?}");
    assert!(f.store.reservation(&job).await.unwrap().is_some(), "reading goes on");
    foreign.execute("ROLLBACK").await.unwrap();
    eventually(Duration::from_secs(10), "a stored check-in", async || session.write_checkins(&item).await)
        .await;
}

/// A limit on the size of files stands for the full disk. It is a whole process's, so this test runs again as
/// a process of its own.
#[tokio::test]
async fn row_50_a_full_disk_is_unavailable_and_leaves_nothing_half_written() {
    if std::env::var_os(LIMITED).is_none() {
        let me = std::env::current_exe().unwrap();
        let name = "store::embedded::row_50_a_full_disk_is_unavailable_and_leaves_nothing_half_written";
        // Ignored, the signal becomes an error of the write.
        let limited = "trap '' XFSZ; ulimit -S -f 2048; exec \"$0\" --exact \"$1\"";
        let child = std::process::Command::new("bash")
            .args(["-c", limited, me.to_str().unwrap(), name])
            .env(LIMITED, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let mut f = fixture().await;
    let job = f.reserve("a", every("1h")).await;
    let note = |n: u8| CheckIn { note: Some(vec![n; 10_000]), ..CheckIn::new(&job, SignalKind::Ok) };
    let batch: Vec<_> = (0..50).map(|n| (note(n), 0)).collect();
    let mut session = f.store.session();
    let mut stored = 0;
    let refused = loop {
        match session.write_checkins(&batch).await {
            Ok(_) => stored += 50,
            Err(e) => break e,
        }
        assert!(stored < 1000, "the limit holds");
    };
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    assert_eq!(f.number("SELECT COUNT(*) FROM checkin").await, stored);
    assert_eq!(f.column(&job, "checkins").await, Some(stored));
    let unlimited = rustix::process::Rlimit { current: None, maximum: None };
    rustix::process::setrlimit(rustix::process::Resource::Fsize, unlimited).unwrap();
    session.write_checkins(&batch).await.expect("there is room again");
    assert_eq!(f.column(&job, "checkins").await, Some(stored + 50));
}

/// Set in the process that has the limit.
const LIMITED: &str = "GOTEL_TEST_LIMITED";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_writers_takes_turns() {
    let f = fixture().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..24 {
        let store = f.store.clone();
        tasks.spawn(async move { store.reserve(&key(&format!("a{n}")), &settings(every("1h"))).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    let mut raw = f.db().connect().await;
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM reservation").fetch_one(&mut raw).await.unwrap();
    assert_eq!(count, 24);
    raw.close().await.unwrap();
}
