//! A store with its schema, and the few things every test of it does: reserve, check in, let time pass,
//! evaluate, read what would be told.
//!
//! Promises: time is the database's, moved by the store's own shift, so nothing waits. [`Fixture::pass`] moves
//! it with GoTel at work all the while; [`Fixture::be_away`] moves it with no replica there.

use std::sync::Arc;
use std::time::Duration;

use gotel::coordinator::{Context, plan};
use gotel::metrics::Metrics;
use gotel::reservation::routing::{Card, Routes};
use gotel::reservation::{Draft, JobKey, Settings, SignalKind};
use gotel::store::lease::{COORDINATOR, Claim, Limits};
use gotel::store::{
    Accepted, Batch, CheckIn, Finish, Leading, Refused, Reserved, Session, Store, StoreError,
};
use sqlx::{AnyConnection, AssertSqlSafe, Executor, Row};

use super::db::{Backend, TestDb};

/// One second in milliseconds, as the store counts.
pub const SECOND: i64 = 1000;
/// One minute.
pub const MINUTE: i64 = 60 * SECOND;
/// One hour.
pub const HOUR: i64 = 60 * MINUTE;

/// A migrated store on a database of the test's own.
pub struct Fixture {
    /// What is tested.
    pub store: Store,
    /// The coordinator's connection.
    pub session: Session,
    /// What notices are made from: alerters `chat` (default), `mail` (per address) and `pager` (folds).
    pub context: Arc<Context>,
    shift_ms: i64,
    raw: AnyConnection,
    // Last, so that it outlives the connections.
    db: TestDb,
}

/// One outbox row in words: `trigger chat ada@example.org pending`.
pub type Told = String;

impl Fixture {
    /// Opens and migrates.
    pub async fn new(db: TestDb) -> Self {
        let store = Store::open(db.url(), Arc::new(Metrics::new())).unwrap();
        store.migrate().await.unwrap();
        let context = Arc::new(context(&store));
        let raw = db.connect().await;
        Self { session: store.session(), store, context, shift_ms: 0, raw, db }
    }

    /// The database.
    pub fn db(&self) -> &TestDb {
        &self.db
    }

    /// Whether it is the embedded one, which has no network to break and no second writer.
    pub fn is_embedded(&self) -> bool {
        self.db.backend() == Backend::Sqlite
    }

    /// A store of another replica; on SQLite, which allows none, another handle of this one.
    pub fn replica(&self) -> Store {
        if self.is_embedded() {
            return self.store.clone();
        }
        let store = Store::open(self.db.url(), Arc::new(Metrics::new())).unwrap();
        store.shift_clock(self.shift_ms);
        store
    }

    /// Runs raw SQL past the store.
    pub async fn sql(&mut self, text: &str) {
        self.raw.execute(AssertSqlSafe(text.to_owned())).await.unwrap();
    }

    /// The one number that raw SQL yields; None for NULL.
    pub async fn maybe_number(&mut self, text: &str) -> Option<i64> {
        self.raw.fetch_one(AssertSqlSafe(text.to_owned())).await.unwrap().try_get(0).unwrap()
    }

    /// The one number that raw SQL yields.
    pub async fn number(&mut self, text: &str) -> i64 {
        self.maybe_number(text).await.unwrap()
    }

    /// The first column of what raw SQL yields.
    pub async fn texts(&mut self, text: &str) -> Vec<String> {
        let rows = self.raw.fetch_all(AssertSqlSafe(text.to_owned())).await.unwrap();
        rows.iter().map(|row| row.try_get(0).unwrap()).collect()
    }

    /// A reservation of `app/job` with these settings.
    pub async fn reserve(&self, app: &str, draft: Draft) -> JobKey {
        let key = key(app);
        let made = self.store.reserve(&key, &settings(draft)).await.unwrap();
        assert_ne!(made, Reserved::Unchanged);
        key
    }

    /// The same made by a replica that has other alerters than this one.
    pub async fn reserve_for(&self, known: &[&str], app: &str, draft: Draft) -> JobKey {
        let known: Vec<_> = known.iter().map(|name| (*name).to_owned()).collect();
        let key = key(app);
        let settings = Settings::parse(&draft, &known, 1_767_323_045_000).unwrap();
        self.store.reserve(&key, &settings).await.unwrap();
        key
    }

    /// A check-in, in a batch of its own.
    pub async fn check_in(&self, key: &JobKey, kind: SignalKind) -> Accepted {
        self.write(CheckIn::new(key, kind)).await.unwrap()
    }

    /// A check-in with all its parts, in a batch of its own.
    pub async fn write(&self, checkin: CheckIn) -> Result<Accepted, Refused> {
        let answers = self.store.session().write_checkins(&[(checkin, 0)]).await.unwrap();
        answers.into_iter().next().unwrap()
    }

    /// Lets time pass, with GoTel at work. The mark goes first: a loop that looks in between finds nothing to write,
    /// where an old mark would be an outage to it.
    pub async fn pass(&mut self, ms: i64) {
        let then = self.store.now_ms().await.unwrap() + ms;
        self.sql(&format!("UPDATE meta SET alive_ms = {then}")).await;
        self.be_away(ms);
    }

    /// Lets time pass with no replica there.
    pub fn be_away(&mut self, ms: i64) {
        self.shift_ms += ms;
        self.store.shift_clock(self.shift_ms);
    }

    /// Takes the lease, whoever has it.
    pub async fn lead(&mut self) -> Leading {
        lead(&mut self.session).await
    }

    /// Evaluates everything that is due, as a new leader.
    pub async fn evaluate(&mut self) -> Batch {
        let leading = self.lead().await;
        self.evaluate_as(&leading).await.unwrap()
    }

    /// Evaluates everything that is due, in batches of 500.
    pub async fn evaluate_as(&mut self, leading: &Leading) -> Result<Batch, StoreError> {
        let mut all = Batch::default();
        loop {
            let context = Arc::clone(&self.context);
            let batch = self.session.evaluate(leading, 500, |loaded| plan(&context, loaded)).await?;
            all.examined += batch.examined;
            all.opened += batch.opened;
            all.closed += batch.closed;
            all.queued += batch.queued;
            if batch.examined < 500 {
                return Ok(all);
            }
        }
    }

    /// Every outbox row in the order they were made.
    pub async fn outbox(&mut self) -> Vec<Told> {
        self.texts(
            "SELECT event || ' ' || alerter || ' ' || recipient || ' ' || state FROM delivery ORDER BY id",
        )
        .await
    }

    /// What waits to be told, and is then told: the events in order.
    pub async fn deliver(&mut self, alerter: &str) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            let claimed = self.session.claim(alerter, 100).await.unwrap();
            if claimed.is_empty() {
                return told;
            }
            for row in claimed {
                assert!(self.session.finish(&row, &Finish::Done).await.unwrap());
                told.push(format!("{} {}", row.notice.event.as_str(), row.notice.app));
            }
        }
    }

    /// A number of `app`'s row.
    pub async fn column(&mut self, key: &JobKey, column: &str) -> Option<i64> {
        let digest = key.digest();
        self.maybe_number(&format!("SELECT {column} FROM reservation WHERE rkey = '{digest}'")).await
    }

    /// The state of `app`'s row.
    pub async fn state(&mut self, key: &JobKey) -> String {
        let digest = key.digest();
        self.texts(&format!("SELECT state FROM reservation WHERE rkey = '{digest}'")).await.remove(0)
    }
}

/// Takes the coordinator's lease for `session`, whoever has it.
pub async fn lead(session: &mut Session) -> Leading {
    let seen = session.observe(COORDINATOR, LIMITS.op).await.unwrap();
    let claim = Claim::new(COORDINATOR, &seen);
    session.take(&claim, "test", LIMITS).await.unwrap().expect("nobody else takes it meanwhile")
}

/// As between replicas, but good for an hour: a slow machine must not end what a test believes.
pub const LIMITS: Limits = Limits { op: Duration::from_secs(2), valid_ms: 3_600_000, lease_ms: 15_000 };

fn context(store: &Store) -> Context {
    let card = |name: &str, default, per_address, folds| Card {
        name: name.into(),
        default,
        per_address,
        folds,
        fallback: if per_address { vec!["ops@example.org".into()] } else { Vec::new() },
    };
    Context {
        routes: Routes::new(vec![
            card("chat", true, false, false),
            card("mail", false, true, false),
            card("pager", false, false, true),
        ]),
        srv: "replica-1".into(),
        install_id: store.install_id().to_owned(),
        external_url: Some("https://gotel.example".into()),
    }
}

/// The key of `app`'s one job.
pub fn key(app: &str) -> JobKey {
    JobKey::parse(app, "job").unwrap()
}

/// Settings from a draft; the alerters of [`Fixture`] are known.
pub fn settings(draft: Draft) -> Settings {
    let known = ["chat", "mail", "pager"].map(str::to_owned);
    Settings::parse(&draft, &known, 1_767_323_045_000).unwrap()
}

/// A draft that expects a check-in each `every`.
pub fn every(every: &str) -> Draft {
    Draft { every: Some(every.into()), ..Draft::default() }
}
