//! The tests' own tools, tested: a fault that a tool fails to make would let every test that uses it pass.

mod browser;
mod chaos;
mod cluster;
mod db;
mod foreign_smtp;
mod load;
mod mounted;
mod process;
mod receiver;
mod server;
mod smtp;
mod wait;

use std::time::Duration;

/// Long enough that only a fault in a tool exceeds it, also on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// How long silence is watched, where the point is that nothing comes.
const A_WHILE: Duration = Duration::from_millis(150);
