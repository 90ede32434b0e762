//! What the integration tests are made with: real databases, broken networks, fake receivers, real processes.
//!
//! Each of these is tested itself, in `harness/`, so that a test that fails speaks of GoTel.

pub mod app;
pub mod browser;
pub mod chaos;
pub mod cluster;
pub mod db;
pub mod foreign_smtp;
pub mod galera;
pub mod kube;
pub mod kubelet;
pub mod load;
pub mod mounted;
pub mod needs;
pub mod node;
pub mod pod;
pub mod process;
pub mod raw;
pub mod receiver;
pub mod server;
pub mod signal;
pub mod smtp;
pub mod store;
pub mod wait;
