//! Some replicas on one database, each with an address for heartbeats of its own.
//!
//! Promises: no other test uses these addresses, as each fleet has its own of the loopback network; what is
//! shortened is how long a verdict must stand, and nothing else.

use reqwest::StatusCode;
use serde_json::Value;
use url::Url;

use super::SOON;
use crate::faults::invariants::{
    events_of, every_miss_is_told, loops_move_by, no_resolve_before_its_trigger, one_open_incident,
};
use crate::util::db::TestDb;
use crate::util::process::Gotel;
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

/// What all replicas sign with.
pub const SECRET: &str = "a-secret-for-all-replicas";

/// The ids, and what a process may be called that uses one of them.
pub const IDS: [&str; 2] = ["eu-1", "us-1"];

/// Two replicas, or what a test makes of them.
pub struct Fleet {
    pub hook: Receiver,
    pub http: reqwest::Client,
    folder: tempfile::TempDir,
    /// Addresses for heartbeats, by place.
    addresses: Vec<String>,
    pub db: TestDb,
}

/// One process.
pub struct Replica {
    pub gotel: Gotel,
    pub url: Url,
    http: reqwest::Client,
}

impl Fleet {
    /// A migrated database and a receiver; no process yet.
    pub async fn new(db: TestDb) -> Self {
        let store = gotel::store::Store::open(db.url(), Default::default()).unwrap();
        store.migrate().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), SECRET).unwrap();
        let net = [fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..250)];
        let [a, b, c] = net;
        let addresses = (0..4).map(|n| format!("127.{a}.{b}.{}:8081", c + n)).collect();
        let http = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
        Self { hook: Receiver::webhook().await, http, folder, addresses, db }
    }

    /// From now on processes that start read another one.
    pub fn change_secret(&self, secret: &str) {
        std::fs::write(self.folder.path().join("secret"), secret).unwrap();
    }

    /// The process at a place finds another one in its file.
    pub fn renew_secret(&self, place: usize, secret: &str) {
        std::fs::write(self.folder.path().join(format!("secret-{place}")), secret).unwrap();
    }

    /// Where the replica at a place takes heartbeats.
    pub fn address(&self, place: usize) -> &str {
        &self.addresses[place]
    }

    /// Starts a process of the id at `id`, which listens at the address of `place`.
    pub fn spawn(&self, id: usize, place: usize, database_url: &str) -> Gotel {
        let list: Vec<_> =
            (0..2).map(|n| format!("{{id: {}, url: \"http://{}\"}}", IDS[n], self.addresses[n])).collect();
        let secret = self.folder.path().join(format!("secret-{place}"));
        std::fs::copy(self.folder.path().join("secret"), &secret).unwrap();
        let yaml = format!(
            "replica: {}\npeers:\n  listen: {}\n  secretFile: {}\n  replicas: [{}]\n  confirm: 3s\n  page: 12s\n\
             alerters: [{{name: hook, type: webhook, url: \"{}\"}}]\n",
            IDS[id],
            self.addresses[place],
            secret.display(),
            list.join(", "),
            self.hook.url("/hook"),
        );
        let config = self.folder.path().join(format!("{place}.yaml"));
        std::fs::write(&config, yaml).unwrap();
        let data = self.folder.path().join(place.to_string());
        let env = [
            ("GOTEL_DATABASE_URL", database_url),
            ("GOTEL_DATA_DIR", data.to_str().unwrap()),
            ("NO_PROXY", "127.0.0.0/8,localhost"),
            ("no_proxy", "127.0.0.0/8,localhost"),
        ];
        Gotel::spawn(&["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()], &env)
    }

    /// The same, on the fleet's database and with its address awaited.
    pub async fn start(&self, id: usize, place: usize) -> Replica {
        self.ready(self.spawn(id, place, self.db.url())).await
    }

    /// A process whose address is awaited.
    pub async fn ready(&self, mut gotel: Gotel) -> Replica {
        let url = gotel.url().await;
        Replica { gotel, url, http: self.http.clone() }
    }

    /// Two replicas that have found each other.
    pub async fn pair(&self) -> [Replica; 2] {
        let both = [0, 1].map(|n| self.spawn(n, n, self.db.url()));
        let [one, other] = both;
        let pair = [self.ready(one).await, self.ready(other).await];
        for replica in &pair {
            replica.shows("both to be healthy", |page| page.matches("</svg>healthy").count() == 2).await;
        }
        pair
    }

    /// What was told so far: `trigger peer-dead/us-1`.
    pub fn told(&self) -> Vec<String> {
        let said = |event: Value| {
            format!("{} {}", event["event"].as_str().unwrap(), event["component"].as_str().unwrap())
        };
        self.hook.requests().iter().map(|request| said(request.json())).collect()
    }

    /// What must hold after any fault (reliability, 5c), as far as it applies where no job is watched.
    pub async fn holds(&self, running: &[&Replica]) {
        one_open_incident(&self.db).await;
        every_miss_is_told(&self.db, &[("hook", &self.hook)]).await;
        no_resolve_before_its_trigger(&events_of(&self.hook));
        for replica in running {
            loops_move_by(async |path| {
                let (status, page) = replica.get(path).await;
                (status.as_u16(), page)
            })
            .await;
        }
    }

    /// Waits until exactly this was told.
    #[track_caller]
    pub fn tells(&self, expected: &[&str]) -> impl Future<Output = ()> {
        eventually(SOON, format!("{expected:?} to be told"), async move || {
            let told = self.told();
            if told == expected { Ok(()) } else { Err(format!("{told:?}")) }
        })
    }
}

impl Replica {
    /// GET, with its status.
    pub async fn get(&self, path: &str) -> (StatusCode, String) {
        let answer = self.http.get(self.url.join(path).unwrap()).send().await.expect("it answers");
        (answer.status(), answer.text().await.expect("it answers to the end"))
    }

    /// Waits until `/nodes` is as it should be.
    #[track_caller]
    pub fn shows(&self, what: &str, right: impl Fn(&str) -> bool) -> impl Future<Output = ()> {
        eventually(SOON, what.to_owned(), async move || {
            let (_, page) = self.get("/nodes").await;
            if right(&page) { Ok(()) } else { Err(page) }
        })
    }

    /// Whether it coordinates.
    pub async fn leads(&self) -> bool {
        self.get("/is-coordinator").await.1 == "true"
    }
}
