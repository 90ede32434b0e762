//! A pair of replicas on one server: how long nobody leads after each way to lose the coordinator, how late a
//! miss is told that falls into such a moment, and what a replica costs that has nothing to do.

use super::Depth;
use super::db::{Backend, Db};
use super::process::Server;
use super::proxy::Proxy;
use super::report::{Report, progress};
use super::timing::median;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use gotel::clock;
use rustix::process::Signal;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor, Row};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// Longer than any take-over.
const PATIENCE: Duration = Duration::from_secs(90);

/// The shortest promise there is: its deadline can be awaited.
const SHORT: Duration = Duration::from_secs(10);

/// How long an idle replica is watched.
const IDLE: Duration = Duration::from_secs(20);

/// A way to lose the coordinator, and its bound.
const WAYS: [(Way, &str, f64); 4] = [
    (Way::Kill, "kill -9", 21.0),
    (Way::Stop, "SIGSTOP", 21.0),
    (Way::Cut, "cut from the database", 21.0),
    (Way::Ask, "SIGTERM", 1.0),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Kill,
    Stop,
    Cut,
    Ask,
}

pub async fn run(databases: &[Backend], depth: Depth, report: &mut Report) {
    let Some(backend) = databases.iter().find(|backend| backend.name != "SQLite") else {
        return progress("failover is left out: it needs a server");
    };
    let rounds = if depth == Depth::Full { 10 } else { 1 };
    let db = Db::new(backend).await;
    let mut pair = Pair::new(&db).await;
    let mut rows = Vec::new();
    let mut late = Vec::new();
    for (way, name, bound) in WAYS {
        let mut took = Vec::new();
        for round in 0..rounds {
            progress(&format!("failover: {name}, {} of {rounds}", round + 1));
            took.push(pair.lose(way, &mut late).await);
        }
        rows.push(row(name, &took, bound));
    }
    let columns = ["the coordinator is lost by", "times", "median s", "maximum s"];
    report.table(&format!("Take-over: a pair on {}", backend.name), &columns, &rows);
    // Told within a second where nothing happens, and the coordinator died just before the deadline.
    let rows = [row("kill -9 a second before the deadline", &late, 23.0)];
    report.table("Deadline to accepted alert", &["meanwhile", "times", "median s", "maximum s"], &rows);

    let rows = pair.idle().await;
    let columns = ["an idle replica", "queries/s at the database", "processor %"];
    report.table(&format!("Idle, on {}", backend.name), &columns, &rows);
    drop(pair);
    db.end().await;
}

fn row(name: &str, took: &[f64], bound: f64) -> Vec<String> {
    let most = took.iter().copied().fold(0.0, f64::max);
    let met = if most <= bound { "met" } else { "missed" };
    vec![
        name.to_owned(),
        took.len().to_string(),
        format!("{:.2}", median(took.to_vec())),
        format!("{most:.2} ({met}, bound {bound})"),
    ]
}

/// What a webhook was sent, and when, in microseconds of the boot clock.
type Heard = Arc<Mutex<Vec<(String, i64)>>>;

/// Two replicas, each behind a proxy of its own; the one at `leads` coordinates.
struct Pair {
    replicas: [Option<Server>; 2],
    proxies: [Proxy; 2],
    urls: [String; 2],
    folder: tempfile::TempDir,
    heard: Heard,
    conn: AnyConnection,
    http: reqwest::Client,
    leads: usize,
    jobs: usize,
}

impl Pair {
    async fn new(db: &Db) -> Self {
        let server = db.server_addr().expect("a database server");
        let proxies = [Proxy::before(server).await, Proxy::before(server).await];
        let urls = [db.url_through(&proxies[0]), db.url_through(&proxies[1])];
        let heard = Heard::default();
        let hook = webhook(Arc::clone(&heard)).await;
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let yaml = format!("alerters:\n  - {{name: hook, type: webhook, url: \"{hook}\"}}\n");
        std::fs::write(folder.path().join("gotel.yaml"), yaml).expect("the folder can be written");
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build();
        let mut pair = Self {
            replicas: [None, None],
            proxies,
            urls,
            folder,
            heard,
            // Not as the store's own: the server would close it while nothing happens.
            conn: AnyConnection::connect(&db.url).await.expect("the database answers"),
            http: http.expect("a client can be built"),
            leads: 0,
            jobs: 0,
        };
        for index in 0..2 {
            pair.start(index);
            pair.taken_by(0).await;
        }
        pair
    }

    fn start(&mut self, index: usize) {
        let config = self.folder.path().join("gotel.yaml");
        self.replicas[index] = Some(Server::replica(NAMES[index], &self.urls[index], &config));
    }

    /// Loses the coordinator; seconds until the other holds the lease.
    async fn lose(&mut self, way: Way, late: &mut Vec<f64>) -> f64 {
        let (old, new) = (self.leads, 1 - self.leads);
        let job = if way == Way::Kill { Some(self.almost_late(new).await) } else { None };
        let began_us = clock::boot_us();
        let replica = self.replicas[old].as_ref().expect("the coordinator runs");
        match way {
            Way::Kill => replica.signal(Signal::KILL),
            Way::Stop => replica.signal(Signal::STOP),
            Way::Cut => self.proxies[old].silent(true),
            Way::Ask => replica.signal(Signal::TERM),
        }
        self.taken_by(new).await;
        let took = clock::since_us(began_us).as_secs_f64();
        if let Some((job, deadline_us)) = job {
            late.push((self.told(&job).await - deadline_us) as f64 / 1e6);
        }
        match way {
            Way::Kill | Way::Ask => self.start(old),
            Way::Stop => self.replicas[old].as_ref().expect("it stands still").signal(Signal::CONT),
            Way::Cut => self.proxies[old].silent(false),
        }
        // A candidate has seen the row a few times before its patience counts.
        tokio::time::sleep(Duration::from_secs(4)).await;
        took
    }

    /// A job whose deadline is a second ahead, and that deadline.
    async fn almost_late(&mut self, at: usize) -> (String, i64) {
        let name = format!("job-{}", self.jobs);
        self.jobs += 1;
        let addr = self.replicas[at].as_ref().expect("the other runs").addr.clone();
        let wish = serde_json::json!({
            "app": "bench", "component": name, "frequency": SHORT.as_secs(), "time_units": "seconds",
            "owner": "ops", "notify": "ops@example.org",
        });
        let asked = self.http.post(format!("http://{addr}/reservation")).json(&wish).send().await;
        asked.and_then(reqwest::Response::error_for_status).expect("the reservation is made");
        let asked = self.http.get(format!("http://{addr}/checkin/bench/{name}")).send().await;
        asked.and_then(reqwest::Response::error_for_status).expect("the check-in is stored");
        let deadline_us = clock::boot_us() + i64::try_from(SHORT.as_micros()).unwrap_or(0);
        tokio::time::sleep(SHORT - Duration::from_secs(1)).await;
        (name, deadline_us)
    }

    /// When the webhook heard of it.
    async fn told(&self, job: &str) -> i64 {
        let name = format!("\"{job}\"");
        let found = async {
            loop {
                let heard = self
                    .heard
                    .lock()
                    .expect("nobody panics")
                    .iter()
                    .find(|(b, _)| b.contains(&name))
                    .cloned();
                if let Some((_, at_us)) = heard {
                    break at_us;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the miss is told")
    }

    async fn taken_by(&mut self, index: usize) {
        let conn = &mut self.conn;
        let taken = async {
            loop {
                let row = conn.fetch_one("SELECT holder FROM lease").await.expect("the lease is read");
                if row.get::<String, _>(0) == NAMES[index] {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, taken).await.expect("the other takes the lease");
        self.leads = index;
    }

    /// What each of the two costs while nothing happens.
    async fn idle(&mut self) -> Vec<Vec<String>> {
        let (leader, worker) = (self.leads, 1 - self.leads);
        progress("failover: idle, both");
        let both = self.questions().await;
        drop(self.replicas[worker].take());
        progress("failover: idle, the coordinator alone");
        let one = self.questions().await;
        drop(self.replicas[leader].take());
        progress("failover: idle, nobody");
        let none = self.questions().await;
        let line = |name: &str, queries: f64, cpu: f64| {
            vec![name.to_owned(), format!("{queries:.1}"), format!("{:.2}", cpu * 100.0)]
        };
        vec![
            line("that coordinates", one.queries - none.queries, one.cpu[leader]),
            line("that waits", both.queries - one.queries, both.cpu[worker]),
        ]
    }

    /// A while of nothing.
    async fn questions(&mut self) -> Cost {
        let cpu = |pair: &Self| pair.replicas.each_ref().map(|r| r.as_ref().map_or(0.0, Server::cpu_seconds));
        let (cpu_before, asked_before, began_us) = (cpu(self), self.asked().await, clock::boot_us());
        tokio::time::sleep(IDLE).await;
        let (cpu_after, asked) = (cpu(self), self.asked().await - asked_before);
        let span = clock::since_us(began_us).as_secs_f64();
        Cost {
            queries: asked / span,
            cpu: [0, 1].map(|index: usize| (cpu_after[index] - cpu_before[index]) / span),
        }
    }

    /// How many statements the server was sent so far.
    async fn asked(&mut self) -> f64 {
        let text = AssertSqlSafe("SHOW GLOBAL STATUS LIKE 'Questions'".to_owned());
        let row = self.conn.fetch_one(sqlx::raw_sql(text)).await.expect("the server tells");
        row.get::<String, _>(1).parse().expect("it is a number")
    }
}

/// What a while of nothing cost.
struct Cost {
    /// A second.
    queries: f64,
    /// By replica, processor seconds a second.
    cpu: [f64; 2],
}

const NAMES: [&str; 2] = ["a", "b"];

/// Takes everything, and notes when.
async fn webhook(heard: Heard) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}/hook", listener.local_addr().expect("it has an address"));
    let note = |State(heard): State<Heard>, body: Bytes| async move {
        let text = String::from_utf8_lossy(&body).into_owned();
        heard.lock().expect("nobody panics").push((text, clock::boot_us()));
    };
    let app = Router::new().fallback(note).with_state(heard);
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}
