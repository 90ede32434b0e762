//! Panics on demand, for tests of what survives one. Debug builds only; in a release nothing of this exists.
//!
//! `GOTEL_FAIL=alerter:2,handler:1` makes the first two passes of the point `alerter` and the first of
//! `handler` panic. A real bug would be the honest cause, and there is none to be had.

/// Panics here if a test asked for it.
#[cfg(debug_assertions)]
pub(crate) fn pass(point: &str) {
    use std::collections::BTreeMap;
    use std::sync::{LazyLock, Mutex, PoisonError};

    static LEFT: LazyLock<Mutex<BTreeMap<String, u32>>> = LazyLock::new(|| {
        let asked = std::env::var("GOTEL_FAIL").unwrap_or_default();
        let points = asked.split(',').filter_map(|entry| {
            let (point, times) = entry.split_once(':')?;
            Some((point.to_owned(), times.parse().ok()?))
        });
        Mutex::new(points.collect())
    });

    let due = {
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        left.get_mut(point).is_some_and(|times| {
            let due = *times > 0;
            *times -= u32::from(due);
            due
        })
    };
    assert!(!due, "a test asked for a panic at {point}");
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn pass(_: &str) {}
