//! The store on every database it runs on.

mod checkins;
mod embedded;
mod endpoints;
mod faults;
mod galera;
mod handover;
mod lease;
mod objects;
mod outbox;
mod purge;
mod replicas;
mod reservations;
mod schema;
mod server;
mod speed;
mod system;
mod views;
