//! Several replicas on one database, under faults: real programs, real databases, proxies that misbehave. Tests
//! named `row_NN_…` are rows of the fault matrix (reliability, 5b); each ends in the one [`checker`].
//!
//! What a single program must stand is in [`crate::faults`]; here are the variants that need a pair. Those tests
//! mostly wait, for leases and deadlines: `make test` runs many of them at once.
//!
//! Rows of replicas that know each other ([`fleet::Plan::peers`]) are in `peers`, here and in [`crate::peers`].

mod audit;
mod chaos;
mod checker;
mod database;
mod failover;
mod fleet;
mod network;
mod peers;
mod process;
mod schema;

use crate::util::db::{Backend, TestDb};
use checker::Cast;
use fleet::{Fleet, Plan};

/// A fleet on the shared server, and its jobs; `None` where the tests on this database are left out.
async fn fleet_on(backend: Backend, plan: &Plan) -> Option<(Fleet, Cast)> {
    let fleet = Fleet::start(TestDb::new(backend).await?, plan).await;
    let cast = Cast::of(&fleet).await;
    Some((fleet, cast))
}

/// Makes two tests of one function, one on each server.
macro_rules! on_both_servers {
    ($name:ident) => {
        mod $name {
            use crate::util::db::Backend;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_mariadb() {
                super::$name(Backend::MariaDb).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_mysql() {
                super::$name(Backend::MySql).await;
            }
        }
    };
}
use on_both_servers;
