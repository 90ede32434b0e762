//! One GoTel under test: the real program and its database.
//!
//! Promises: as [`crate::util::node`] and [`crate::util::raw`]; the program is dropped before its database.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use serde_json::Value;

use crate::util::db::TestDb;
use crate::util::node::Node;
pub use crate::util::node::metric;

/// The running program and what it stands on. The program is dropped before its database.
pub struct World {
    node: Node,
    pub db: TestDb,
}

impl Deref for World {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Node {
        &mut self.node
    }
}

impl World {
    /// `gotel serve` on `db` with this YAML.
    pub async fn start(db: TestDb, yaml: &str) -> Self {
        let database_url = db.url().to_owned();
        Self::start_at(db, database_url, yaml, &[]).await
    }

    /// The same on another way to the database, with further variables in its environment.
    pub async fn start_at(db: TestDb, database_url: String, yaml: &str, env: &[(&str, &str)]) -> Self {
        Self { node: Node::start(database_url, yaml, env).await, db }
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
        self.db.copies(app, component, count).await;
    }

    /// One statement, again if it was in GoTel's way.
    pub async fn sql(&self, text: &str) -> u64 {
        self.db.sql(text).await
    }

    /// The first number of a query's one row.
    pub async fn number(&self, query: &str) -> i64 {
        self.db.number(query).await
    }

    /// Waits until a query's number is what it should be.
    #[track_caller]
    pub fn becomes(&self, query: &str, wanted: i64) -> impl Future<Output = ()> {
        self.db.becomes(query, wanted)
    }

    /// Everything that is written down happened `ago` earlier, while GoTel was there.
    pub async fn time_passes(&self, ago: Duration) {
        self.db.time_passes(ago).await;
    }

    /// GoTel was last there `ago`: what a long absence leaves behind.
    pub async fn was_away(&self, ago: Duration) {
        self.db.was_away(ago).await;
    }
}

/// A configuration with one webhook `hook` that hears of everything.
pub fn hook_yaml(hook: &crate::util::receiver::Receiver) -> String {
    format!("alerters:\n  - {{name: hook, type: webhook, url: \"{}\"}}\n", hook.url("/hook"))
}
