//! One GoTel under test: the real program, its database, its configuration file, and a client.
//!
//! Promises: [`World::kill9`] and [`World::start_again`] keep database, data folder and configuration; what
//! every life of the program printed is kept; [`World::time_passes`] moves the past in the database, so that
//! nothing waits for real hours.
//! Does not promise: that `time_passes` touches what is only in the program's memory.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};
use url::Url;

use super::SOON;
use crate::util::db::TestDb;
use crate::util::process::Gotel;
use crate::util::wait::eventually;

/// How long a client waits for an answer: longer than GoTel may think about it.
const PATIENCE: Duration = Duration::from_secs(40);

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

/// The running program and what it stands on. The program is dropped before its database.
pub struct World {
    pub gotel: Gotel,
    pub url: Url,
    pub http: reqwest::Client,
    pub db: TestDb,
    pub folder: tempfile::TempDir,
    database_url: String,
    env: Vec<(String, String)>,
    earlier: String,
}

/// An answer: its status and its text.
pub type Answer = (u16, String);

impl World {
    /// `gotel serve` on `db` with this YAML.
    pub async fn start(db: TestDb, yaml: &str) -> Self {
        let database_url = db.url().to_owned();
        Self::start_at(db, database_url, yaml, &[]).await
    }

    /// The same on another way to the database, with further variables in its environment.
    pub async fn start_at(db: TestDb, database_url: String, yaml: &str, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("gotel.yaml"), yaml).expect("the folder can be written");
        let env: Vec<_> = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut gotel = spawn(folder.path(), &database_url, &env);
        let url = gotel.url().await;
        let http = client(None);
        Self { gotel, url, http, db, folder, database_url, env, earlier: String::new() }
    }

    /// From now on the client shows this token.
    pub fn use_token(&mut self, token: &str) {
        self.http = client(Some(token));
    }

    /// A file in the data folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("the folder's name is text").to_owned()
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.gotel.kill9();
    }

    /// SIGTERM, and its end awaited.
    pub async fn end(&mut self) {
        self.gotel.sigterm();
        let status = self.gotel.wait_exit(super::EXIT).await;
        assert!(status.success(), "it ended with {status}:\n{}", self.gotel.output());
    }

    /// The next life of an ended program; returns when it listens.
    pub async fn start_again(&mut self) {
        self.gotel.kill9();
        self.earlier.push_str(&self.gotel.output());
        self.gotel = spawn(self.folder.path(), &self.database_url, &self.env);
        self.url = self.gotel.url().await;
    }

    /// What all lives of the program printed.
    pub fn output(&self) -> String {
        format!("{}{}", self.earlier, self.gotel.output())
    }

    /// One request; Err: no answer.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, String> {
        let url = self.url.join(path).expect("the path is one");
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|e| format!("{path}: {e:?}"))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|e| format!("{path}: {e:?}"))?;
        Ok((status, text))
    }

    /// GET, answered whatever the status.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await.expect("GoTel answers")
    }

    /// GET of JSON.
    pub async fn json(&self, path: &str) -> Value {
        let (status, text) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("the answer is JSON")
    }

    /// POST, answered whatever the status.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await.expect("GoTel answers")
    }

    /// A reservation of an hour, with these fields changed.
    pub async fn reserve(&self, app: &str, component: &str, changes: Value) {
        let mut wish = json!({
            "app": app, "component": component, "frequency": 1, "time_units": "hours",
            "owner": "ops", "notify": "ops@example.org",
        });
        for (field, value) in changes.as_object().into_iter().flatten() {
            wish[field] = value.clone();
        }
        let answer = self.post("/reservation", wish).await;
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    /// A signal by path: "" for a good run, `/fail`, `/start`, an exit code.
    pub async fn signal(&self, app: &str, component: &str, signal: &str) {
        let path = format!("/checkin/{app}/{component}{signal}");
        let answer = self.ask(Method::POST, &path, None).await.expect("GoTel answers");
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    /// Tries one check-in; Ok once it is answered 2xx.
    pub async fn try_check_in(&self, app: &str, component: &str) -> Result<(), String> {
        match self.ask(Method::POST, &format!("/checkin/{app}/{component}"), None).await? {
            (200, _) => Ok(()),
            (status, text) => Err(format!("{status}: {text}")),
        }
    }

    /// Reservations `app/0` … `app/<count - 1>`, every hour, as keys for a load.
    pub async fn fleet(&self, app: &str, count: usize) -> Vec<(String, String)> {
        for n in 0..count {
            self.reserve(app, &n.to_string(), Value::Null).await;
        }
        (0..count).map(|n| (app.to_owned(), n.to_string())).collect()
    }

    /// Copies of the reservation `app/component` under the names `app/c0` …, straight in the database.
    pub async fn copies(&self, app: &str, component: &str, count: usize) {
        let mut connection = self.db.connect().await;
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
        let mut connection = self.db.connect().await;
        eventually(SOON, text.to_owned(), async || unless_in_the_way(execute(&mut connection, text).await))
            .await
    }

    /// The first number of a query's one row.
    pub async fn number(&self, query: &str) -> i64 {
        let mut connection = self.db.connect().await;
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
        let mut connection = self.db.connect().await;
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

/// The sum of all lines of a metrics page that begin with `name`.
pub fn metric(page: &str, name: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
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

fn client(token: Option<&str>) -> reqwest::Client {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("the token is text"));
    }
    let builder = reqwest::Client::builder().timeout(PATIENCE).no_proxy().default_headers(headers);
    builder.build().expect("a client can be built")
}

fn spawn(folder: &std::path::Path, database_url: &str, env: &[(String, String)]) -> Gotel {
    let config = folder.join("gotel.yaml");
    let config = config.to_str().expect("the folder's name is text");
    let mut all = vec![
        ("GOTEL_DATABASE_URL", database_url),
        ("GOTEL_DATA_DIR", folder.to_str().expect("the folder's name is text")),
        ("GOTEL_LOG", "debug"),
        ("NO_PROXY", "127.0.0.1,localhost"),
        ("no_proxy", "127.0.0.1,localhost"),
    ];
    all.extend(env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    Gotel::spawn(&["serve", "--listen", "127.0.0.1:0", "--config", config], &all)
}

/// A configuration with one webhook `hook` that hears of everything.
pub fn hook_yaml(hook: &crate::util::receiver::Receiver) -> String {
    format!("alerters:\n  - {{name: hook, type: webhook, url: \"{}\"}}\n", hook.url("/hook"))
}
