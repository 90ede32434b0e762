//! Replicas that watch each other: real processes, a real database, heartbeats over loopback.

pub mod fleet;
mod heartbeat;
mod pair;

use std::time::Duration;

/// Long enough that only a fault exceeds it, also on a busy machine.
const SOON: Duration = Duration::from_secs(90);
