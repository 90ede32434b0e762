//! How often each object failed in a row, and so how long it waits; and what is away (the database, the definition),
//! said once.
//!
//! Promises: one outage is one line in the log and one event, however many objects meet it; who failed because
//! of it does not wait on once it is over.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The first wait; doubled with each failure.
const FIRST: Duration = Duration::from_secs(5);
/// The longest.
const LONGEST: Duration = Duration::from_secs(300);

/// How long the `n`th failure in a row waits (1 = the first), before spreading.
fn wait(n: u32) -> Duration {
    FIRST.saturating_mul(1 << n.saturating_sub(1).min(10)).min(LONGEST)
}

#[derive(Debug, Default)]
pub(super) struct Failures {
    /// Uid → failures in a row, and until when it waits, by the boot clock.
    objects: Mutex<HashMap<String, (u32, i64)>>,
    /// Whether the database was away when somebody last looked.
    database: AtomicBool,
    /// Whether the definition was.
    definition: AtomicBool,
}

impl Failures {
    fn objects(&self) -> MutexGuard<'_, HashMap<String, (u32, i64)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more failure: how long to wait, ± 20 %.
    pub(super) fn failed(&self, uid: &str, boot_ms: i64) -> Duration {
        let mut objects = self.objects();
        let (n, until_ms) = objects.entry(uid.to_owned()).or_default();
        *n += 1;
        let wait = wait(*n).mul_f64(0.8 + 0.4 * fastrand::f64());
        *until_ms = boot_ms.saturating_add_unsigned(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        wait
    }

    /// Whether it waits after a failure.
    pub(super) fn waits(&self, uid: &str, boot_ms: i64) -> bool {
        self.objects().get(uid).is_some_and(|(_, until_ms)| *until_ms > boot_ms)
    }

    /// It went well.
    pub(super) fn went_well(&self, uid: &str) {
        self.objects().remove(uid);
    }

    /// What most of them failed for is over: all may be tried again.
    pub(super) fn forgive(&self) {
        self.objects().clear();
    }

    /// What the database did; true: that is news.
    pub(super) fn database(&self, away: bool) -> bool {
        self.database.swap(away, Ordering::Relaxed) != away
    }

    /// Whether the definition is missing; true: that is news.
    pub(super) fn definition(&self, missing: bool) -> bool {
        self.definition.swap(missing, Ordering::Relaxed) != missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_five_seconds_to_five_minutes() {
        let waits: Vec<u64> = (1..=8).map(|n| wait(n).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(wait(u32::MAX), LONGEST);
    }

    #[test]
    fn an_object_that_went_well_begins_anew() {
        let failures = Failures::default();
        for _ in 0..5 {
            failures.failed("u1", 0);
        }
        assert!(failures.failed("u1", 0) > Duration::from_secs(100));
        failures.went_well("u1");
        assert!(failures.failed("u1", 0) < Duration::from_secs(7));
        assert!(failures.failed("u2", 0) < Duration::from_secs(7));
    }

    #[test]
    fn an_object_waits_until_its_time_has_come_or_what_it_failed_for_is_over() {
        let failures = Failures::default();
        let wait_ms = i64::try_from(failures.failed("u1", 1000).as_millis()).unwrap();
        assert!(failures.waits("u1", 1000) && failures.waits("u1", 999 + wait_ms));
        assert!(!failures.waits("u1", 1000 + wait_ms) && !failures.waits("u2", 1000));
        failures.failed("u1", 1000);
        failures.forgive();
        assert!(!failures.waits("u1", 1000));
    }

    #[test]
    fn an_outage_is_news_once_and_its_end_too() {
        let failures = Failures::default();
        let said: Vec<bool> =
            [false, true, true, true, false, false].map(|away| failures.database(away)).into();
        assert_eq!(said, [false, true, false, false, true, false]);
    }
}
