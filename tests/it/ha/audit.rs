//! What was committed under which lease: a record that the database itself keeps, by triggers of the test's own.
//!
//! Promises: each committed write of the lease row is one row of `lease_log`, in the order of the commits, since
//! whoever writes the lease holds its lock until the end of the transaction; each incident of a job is one row
//! of `incident_log`, with the lease as its transaction saw it. What was rolled back is in neither.

use std::sync::Arc;

use gotel::metrics::Metrics;
use gotel::store::Store;
use sqlx::{AnyConnection, AssertSqlSafe, Executor, Row};

use super::on_both_servers;
use crate::util::db::{Backend, TestDb};
use crate::util::store::lead;

const TABLES: [&str; 5] = [
    "CREATE TABLE lease_log (seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, term BIGINT NOT NULL, \
     token VARCHAR(36) NOT NULL, holder VARCHAR(64) NOT NULL, beat BIGINT NOT NULL, eval_ms BIGINT NOT NULL) \
     ENGINE=InnoDB",
    "CREATE TABLE incident_log (seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, incident_id VARCHAR(36) NOT NULL, \
     term BIGINT NOT NULL, lease_term BIGINT NOT NULL) ENGINE=InnoDB",
    "CREATE TRIGGER lease_is_logged AFTER UPDATE ON lease FOR EACH ROW INSERT INTO lease_log (term, token, holder, \
     beat, eval_ms) VALUES (NEW.term, NEW.token, NEW.holder, NEW.beat, NEW.eval_ms)",
    "CREATE TRIGGER incident_is_logged AFTER INSERT ON incident FOR EACH ROW INSERT INTO incident_log (incident_id, \
     term, lease_term) SELECT NEW.id, NEW.term, lease.term FROM lease WHERE lease.scope = 'coordinator' AND \
     NEW.reservation_id IS NOT NULL",
    "INSERT INTO lease_log (term, token, holder, beat, eval_ms) SELECT term, token, holder, beat, eval_ms FROM lease",
];

/// One committed write of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub term: i64,
    pub token: String,
    pub holder: String,
    pub beat: i64,
}

/// From now on everything is on record.
pub async fn begin(db: &TestDb) {
    let mut connection = db.connect().await;
    for statement in TABLES {
        run(&mut connection, statement).await;
    }
}

/// Who holds the lease; "" nobody, or nobody knows.
pub async fn holder(connection: &mut AnyConnection) -> String {
    let row = sqlx::query("SELECT holder FROM lease WHERE scope = 'coordinator'").fetch_optional(connection);
    row.await.expect("the lease can be read").map_or_else(String::new, |row| row.get(0))
}

/// The lease's history.
pub async fn writes(db: &TestDb) -> Vec<Write> {
    let mut connection = db.connect().await;
    let rows = sqlx::query("SELECT term, token, holder, beat FROM lease_log ORDER BY seq");
    let rows = rows.fetch_all(&mut connection).await.expect("the record can be read");
    rows.iter()
        .map(|row| Write { term: row.get(0), token: row.get(1), holder: row.get(2), beat: row.get(3) })
        .collect()
}

/// Who led, one after the other.
pub async fn reigns(db: &TestDb) -> Vec<(i64, String)> {
    let mut reigns: Vec<(i64, String)> = Vec::new();
    for write in writes(db).await {
        if !write.holder.is_empty() && reigns.last().is_none_or(|(term, _)| *term != write.term) {
            reigns.push((write.term, write.holder));
        }
    }
    reigns
}

/// I3: terms never go back, each has one token and one holder, and every incident of a job was committed under
/// the term that its transaction was fenced with.
pub async fn terms_never_go_back(db: &TestDb) {
    let writes = writes(db).await;
    assert!(!writes.is_empty(), "I3: nothing was on record: the test proves nothing");
    for pair in writes.windows(2) {
        let [before, after] = pair else { continue };
        assert!(before.term <= after.term, "I3: the term went back: {before:?}, then {after:?}");
        assert!(before.beat <= after.beat, "I3: the beat went back: {before:?}, then {after:?}");
        if before.term == after.term {
            assert_eq!(before.token, after.token, "I3: one term, two tokens: {before:?}, then {after:?}");
            let released = after.holder.is_empty();
            assert!(released || before.holder == after.holder, "I3: {before:?}, then {after:?}");
        } else {
            assert_ne!(before.token, after.token, "I3: one token, two terms: {before:?}, then {after:?}");
        }
    }
    let stale = "SELECT COUNT(*) FROM incident_log WHERE term <> lease_term";
    assert_eq!(db.number(stale).await, 0, "I3: an incident was committed under a term that was over");
}

on_both_servers!(a_term_that_goes_back_and_a_second_token_are_found_out);
/// The checker's own test: what it would never find would let every test pass.
async fn a_term_that_goes_back_and_a_second_token_are_found_out(backend: Backend) {
    let lies = [
        ("UPDATE lease SET term = term - 1, beat = beat + 1", "the term went back"),
        ("UPDATE lease SET token = 'another', beat = beat + 1", "one term, two tokens"),
        ("UPDATE lease SET term = term + 1, beat = beat + 1", "one token, two terms"),
        ("UPDATE lease SET holder = 'another', beat = beat + 1", "one term"),
    ];
    for (lie, found) in lies {
        let Some(db) = TestDb::new(backend).await else { return };
        let store = Store::open(db.url(), Arc::new(Metrics::new())).expect("the store opens");
        store.migrate().await.expect("the schema is made");
        let mut session = store.session();
        lead(&mut session).await;
        begin(&db).await;
        lead(&mut session).await;
        terms_never_go_back(&db).await;
        db.sql(lie).await;
        let judged = tokio::spawn(async move { terms_never_go_back(&db).await }).await;
        let panic = judged.expect_err("the lie is found out").into_panic();
        let why = panic.downcast_ref::<String>().map_or("", String::as_str);
        assert!(found == "one term" || why.contains(found), "{lie}: {why}");
    }
}

async fn run(connection: &mut AnyConnection, statement: &str) {
    let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}
