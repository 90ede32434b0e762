//! GoTel, a dead-man's switch for scheduled jobs.
//!
//! The module map, from the top down; arrows point down only:
//!
//! | module | what it is |
//! |---|---|
//! | [`cli`] | the command line: one subcommand, one file |
//! | [`replica`] | every part of one process wired, started and ended in order |
//! | [`config`] | flags, environment and one YAML file |
//! | [`http`] | the API and the pages |
//! | [`coordinator`] | lease, evaluator, own outages, housekeeping |
//! | [`alert`] | the alerters and the outbox's dispatchers |
//! | [`checkin`] | the write path |
//! | [`operator`] | reservations as Kubernetes objects |
//! | [`peers`] | the other replicas, and who is told when they or the database are gone |
//! | [`store`] | what is known, in SQLite, MariaDB or MySQL |
//! | [`board`] | what is known of the other replicas, for the pages |
//! | [`secret`] | what nobody prints, and how it is read again when it changes |
//! | [`lifecycle`], [`metrics`], [`telemetry`], [`clock`] | the process: its loops, figures, logs and time |
//! | [`reservation`] | the rules: pure, no clock, no I/O |

pub mod alert;
pub mod board;
pub mod checkin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod coordinator;
mod failpoint;
pub mod http;
pub mod lifecycle;
pub mod metrics;
pub mod operator;
pub mod peers;
pub mod replica;
pub mod reservation;
pub mod secret;
pub mod store;
pub mod telemetry;
