//! Raw SQL on a test's database past GoTel, and the past moved in it, so that nothing waits for real hours.
//!
//! Promises: a statement that was in GoTel's way is tried again.
//! Does not promise: that [`TestDb::time_passes`] touches what is only in a program's memory.

use std::time::Duration;

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};

use super::db::TestDb;
use super::wait::eventually;

/// Long enough that only a fault exceeds it, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Columns that hold a moment, by table. `meta.alive_ms` is left out: GoTel itself was there.
const MOMENTS: [(&str, &[&str]); 7] = [
    (
        "reservation",
        &[
            "due_ms",
            "created_ms",
            "updated_ms",
            "checked_out_ms",
            "last_ok_ms",
            "last_ok_started_ms",
            "last_fail_ms",
            "last_seen_ms",
            "rearm_ms",
            "snooze_from_ms",
            "snooze_until_ms",
        ],
    ),
    ("run", &["started_ms", "ended_ms"]),
    ("checkin", &["at_ms"]),
    ("incident", &["deadline_ms", "opened_ms", "closed_ms", "next_remind_ms"]),
    ("delivery", &["created_ms", "next_ms", "claim_until_ms", "done_ms"]),
    ("outage", &["from_ms", "to_ms"]),
    ("lease", &["renewed_ms", "acquired_ms", "eval_ms"]),
];

impl TestDb {
    /// Copies of the reservation `app/component` under the names `app/c0` …, straight in the database.
    pub async fn copies(&self, app: &str, component: &str, count: usize) {
        let mut connection = self.connect().await;
        let columns = "app, owner, gen, settings, max_runtime_ms, state, due_ms, created_ms, updated_ms, \
                       checked_out_ms, last_ok_ms, last_ok_started_ms, last_fail_ms, last_exit_code, fails, \
                       last_seen_ms, checkins, uses_runs, rearm_ms";
        // SQLite takes 500 SELECTs in one.
        for names in (0..count).map(|n| format!("c{n}")).collect::<Vec<_>>().chunks(400) {
            let rows: Vec<_> =
                names.iter().map(|name| format!("SELECT '{}' AS k, '{name}' AS c", key(app, name))).collect();
            let text = format!(
                "INSERT INTO reservation (rkey, component, {columns}) SELECT v.k, v.c, {columns} \
                 FROM reservation r JOIN ({}) v ON 1 = 1 WHERE r.app = '{app}' AND r.component = '{component}'",
                rows.join(" UNION ALL ")
            );
            execute(&mut connection, &text).await.expect("the copies are inserted");
        }
    }

    /// One statement, again if it was in GoTel's way.
    pub async fn sql(&self, text: &str) -> u64 {
        let mut connection = self.connect().await;
        eventually(SOON, text.to_owned(), async || unless_in_the_way(execute(&mut connection, text).await))
            .await
    }

    /// The first number of a query's one row.
    pub async fn number(&self, query: &str) -> i64 {
        let mut connection = self.connect().await;
        let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await;
        row.unwrap_or_else(|e| panic!("{query}: {e}")).try_get(0).expect("it is a number")
    }

    /// Waits until a query's number is what it should be.
    #[track_caller]
    pub fn becomes(&self, query: &str, wanted: i64) -> impl Future<Output = ()> {
        eventually(SOON, format!("{query} to be {wanted}"), async move || {
            let number = self.number(query).await;
            if number == wanted { Ok(()) } else { Err(number.to_string()) }
        })
    }

    /// Everything that is written down happened `ago` earlier, while GoTel was there.
    pub async fn time_passes(&self, ago: Duration) {
        let ago_ms = ago.as_millis();
        let mut connection = self.connect().await;
        let mut statements = vec!["UPDATE reservation SET due_ms = 0".to_owned()];
        for (table, columns) in MOMENTS {
            let set: Vec<_> = columns.iter().map(|c| format!("{c} = {c} - {ago_ms}")).collect();
            statements.insert(0, format!("UPDATE {table} SET {}", set.join(", ")));
        }
        eventually(SOON, "the past to be moved", async || {
            unless_in_the_way(all_or_nothing(&mut connection, &statements).await)
        })
        .await;
    }

    /// GoTel was last there `ago`: what a long absence leaves behind.
    pub async fn was_away(&self, ago: Duration) {
        self.sql(&format!("UPDATE meta SET alive_ms = alive_ms - {}", ago.as_millis())).await;
    }
}

/// The key of a reservation's row.
fn key(app: &str, component: &str) -> String {
    gotel::reservation::JobKey::parse(app, component).expect("the name serves").digest()
}

async fn execute(connection: &mut AnyConnection, text: &str) -> sqlx::Result<u64> {
    let done = connection.execute(sqlx::raw_sql(AssertSqlSafe(text.to_owned()))).await?;
    Ok(done.rows_affected())
}

async fn all_or_nothing(connection: &mut AnyConnection, statements: &[String]) -> sqlx::Result<()> {
    let mut tx = connection.begin().await?;
    for statement in statements {
        execute(&mut tx, statement).await?;
    }
    tx.commit().await
}

/// A statement that met GoTel's in a deadlock, or waited for it too long, did nothing and may be repeated.
fn unless_in_the_way<T>(outcome: sqlx::Result<T>) -> Result<T, String> {
    outcome.map_err(|error| {
        let text = error.to_string();
        let in_the_way = ["1213", "1205", "locked"].iter().any(|sign| text.contains(sign));
        assert!(in_the_way, "{text}");
        text
    })
}
