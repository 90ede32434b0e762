//! Reservations as Kubernetes objects: the controller at work.

mod absence;
mod brakes;
mod cluster;
mod contend;
mod controller;
mod identity;
mod team;
mod trouble;
mod waits;

use gotel::reservation::JobKey;
use serde_json::{Value, json};

use crate::util::db::{Backend, TestDb};
use crate::util::store::Fixture;

/// A store on SQLite.
async fn fixture() -> Fixture {
    Fixture::new(TestDb::new(Backend::Sqlite).await.unwrap()).await
}

/// A spec for `billing/<component>`, hourly.
fn spec(component: &str) -> Value {
    json!({"app": "billing", "component": component, "schedule": {"every": "1h"}})
}

/// The key of [`spec`].
fn job(component: &str) -> JobKey {
    JobKey::parse("billing", component).unwrap()
}
