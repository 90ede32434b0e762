//! The real program under faults: processes that die, networks that fall silent, databases that go away,
//! receivers that misbehave, clocks, disks, and input that means harm. Tests named `row_NN_…` are rows of the
//! fault matrix (reliability, 5b); each ends with what must hold after any fault ([`invariants`]).

mod alerters;
mod clock;
mod clock_jump;
mod commands;
mod database;
mod direct;
mod embedded;
mod endpoints;
mod endpoints_db;
mod external;
mod galera;
mod input;
pub mod invariants;
mod network;
mod panics;
mod process;
mod renewal;
mod restart;
mod secrets;
mod stories;
mod world;

use std::time::Duration;

/// Long enough that only a fault exceeds it, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// How long ending may take (reliability, 4d).
const EXIT: Duration = Duration::from_secs(30);
