//! The only file that may read a clock.
//!
//! Two clocks, for two purposes: [`boot_ms`] measures how long something took or is still good for
//! (it never jumps, and it counts while the machine is suspended, unlike `std::time::Instant`);
//! [`wall_ms`] is for showing a time to a person. Neither decides whether a job is late: that is the
//! database's clock, read in the transaction that decides (`store`).

use std::time::Duration;

/// Milliseconds since boot, suspend included (`CLOCK_BOOTTIME`).
pub fn boot_ms() -> i64 {
    boot_us() / 1000
}

/// Microseconds since boot, suspend included.
pub fn boot_us() -> i64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    t.tv_sec * 1_000_000 + t.tv_nsec / 1000
}

/// Time elapsed since a reading of [`boot_us`].
pub fn since_us(earlier_us: i64) -> Duration {
    Duration::from_micros(u64::try_from(boot_us() - earlier_us).unwrap_or(0))
}

/// Milliseconds since 1970 by this machine's clock.
pub fn wall_ms() -> i64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    t.tv_sec * 1000 + t.tv_nsec / 1_000_000
}
