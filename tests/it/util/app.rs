//! The real router behind a real listener, on a database of the test's own.
//!
//! Promises: answers come over TCP from the code that users meet; the database's clock can be shifted
//! (`app.store.shift_clock`); a test fails when the server or a check-in writer has died meanwhile.
//! Does not promise: that anything evaluates deadlines; a test seeds the incidents it wants to see.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gotel::board::Board;
use gotel::http::{self, App, Auth};
use gotel::lifecycle::{Loops, Tasks};
use gotel::metrics::Metrics;
use gotel::reservation::routing::{Card, Routes};
use gotel::secret::watch::Rack;
use gotel::store::Store;
use serde_json::Value;
use sqlx::Executor;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::db::{Backend, TestDb};

/// A running server.
pub struct TestApp {
    pub addr: SocketAddr,
    pub store: Store,
    pub loops: Arc<Loops>,
    pub board: Board,
    pub secrets: Rack,
    pub stop: CancellationToken,
    pub client: reqwest::Client,
    pub server: JoinHandle<()>,
    tasks: Tasks,
    db: TestDb,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: String,
}

impl TestApp {
    /// On SQLite, open to all.
    pub async fn new() -> Self {
        Self::on(TestDb::new(Backend::Sqlite).await.unwrap()).await
    }

    /// On `db`, open to all.
    pub async fn on(db: TestDb) -> Self {
        Self::with(db, Auth::open()).await
    }

    /// On `db`, under the rules of `auth`.
    pub async fn with(db: TestDb, auth: Auth) -> Self {
        let metrics = Arc::new(Metrics::new());
        let store = Store::open(db.url(), Arc::clone(&metrics)).unwrap();
        store.migrate().await.unwrap();
        let loops = Arc::new(Loops::default());
        let mut tasks = Tasks::default();
        let checkins = gotel::checkin::start(&store, 2, &mut tasks, &loops, &metrics);
        let (board, secrets) = (Board::default(), Rack::default());
        let card = |name: &str, per_address| Card {
            name: name.into(),
            default: true,
            per_address,
            folds: false,
            fallback: vec!["ops@example.org".into()],
        };
        let app = Arc::new(App {
            store: store.clone(),
            checkins,
            routes: Arc::new(Routes::new(vec![card("console", false), card("mail", true)])),
            auth,
            external_url: Some("http://gotel.example".into()),
            replica: "test-1".into(),
            metrics,
            loops: Arc::clone(&loops),
            max_body: http::MAX_BODY,
            counted: Default::default(),
            board: board.clone(),
            bar: Default::default(),
            secrets: secrets.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(http::serve(listener, http::router(app), stop.clone()));
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { addr, store, loops, board, secrets, stop, client, server, tasks, db }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = String::from_utf8_lossy(&response.bytes().await.expect("a whole answer")).into_owned();
        Answer { status, headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.client.get(self.url(path))).await
    }

    /// Posts as curl does: whatever the body is, it is said to be a form.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let form = "application/x-www-form-urlencoded";
        self.send(self.client.post(self.url(path)).header("content-type", form).body(body)).await
    }

    /// Makes a reservation with a period of five minutes, and what `more` adds to it.
    pub async fn reserve(&self, app: &str, component: &str, more: Value) {
        let mut wish = serde_json::json!({"app": app, "component": component});
        let target = wish.as_object_mut().unwrap();
        target.extend(more.as_object().unwrap().clone());
        if !target.contains_key("cron") && !target.contains_key("every") {
            target.entry("frequency").or_insert(5.into());
            target.entry("time_units").or_insert("minutes".into());
        }
        let answer = self.post("/reservation", wish.to_string()).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "\"OK\""));
    }

    /// Runs SQL that is good on every database.
    pub async fn sql(&self, text: &str) {
        let mut connection = self.db.connect().await;
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned()))).await.unwrap();
    }

    /// Asks the check-in writers to end while the server goes on.
    pub fn close_writers(&self) {
        self.tasks.stop().cancel();
    }

    /// Ends the server and its writers in their order; fails if one of them had died.
    pub async fn finish(self) {
        assert!(!self.server.is_finished() || self.stop.is_cancelled(), "the server died");
        self.stop.cancel();
        self.server.await.expect("the server did not panic");
        assert!(self.tasks.finish(Duration::from_secs(10)).await, "a check-in writer hangs");
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// `message` of a refusal.
    pub fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and body, with everything that differs from run to run replaced.
    pub fn shown(&self) -> String {
        let body = match serde_json::from_str::<Value>(&self.body) {
            Ok(mut value) => {
                redact(&mut value);
                serde_json::to_string_pretty(&value).unwrap()
            }
            Err(_) => self.body.clone(),
        };
        format!("{}\n{body}", self.status)
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match key.as_str() {
                    "deadline_ms" | "last_checkin" | "took_ms" if value.is_number() => {
                        *value = "[time]".into()
                    }
                    "time_since_last_checkin" if value != "" => *value = "[since]".into(),
                    _ => redact(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(redact),
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => *text = "[time]".into(),
        _ => {}
    }
}
