//! Reservations as Kubernetes objects: what is applied to a cluster is watched, and each object shows how its job is.
//!
//! Promises: nothing here keeps check-ins or alerts waiting, and no probe of this process asks the Kubernetes API.
//! Each call to it has a limit. Nothing is written when nothing has changed; check-ins alone never write more than an
//! object's times, once a minute and through a bucket. Deleting an object never waits for GoTel: there is no
//! finalizer; what was missed is found by a sweep, which has a brake.
//!
//! Does not promise that an object's status is the newest: the database is, and `GET /reservation` reads it.
//!
//! Races: two replicas in one cluster: one holds the lease `controller/<cluster>`, and what a late one still writes is
//! guarded by uid and generation (`store::objects`). An object deleted and made again: a patch names the uid, so the
//! status of the former never reaches the latter. A deletion that is missed: the row stays watched until the sweep.

pub mod brake;
pub mod bucket;
pub mod claims;
pub mod config;
mod connect;
mod context;
pub mod crd;
mod definition;
pub mod diff;
mod events;
mod failures;
mod feed;
mod place;
mod queue;
mod reconcile;
mod run;
pub mod spec;
pub mod status;
mod sweep;
mod term;
mod watch;
pub mod words;

pub use connect::{Found, find};
pub use run::{Operator, Parts};
