//! Panics and hangs on demand, for tests of what survives one. Debug builds only; in a release nothing of this
//! exists.
//!
//! `GOTEL_FAIL=alerter:2,handler:1` makes the first two passes of the point `alerter` and the first of
//! `handler` panic; `evaluate:1:hang` makes the first pass of `evaluate` never end, which the log says. A real bug
//! would be the honest cause, and there is none to be had.

#[cfg(debug_assertions)]
pub(crate) use debug::{pass, reach};

/// Does nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn pass(_: &str) {}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub(crate) async fn reach(_: &str) {}

#[cfg(debug_assertions)]
mod debug {
    use std::collections::BTreeMap;
    use std::sync::{LazyLock, Mutex, PoisonError};

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Action {
        Panic,
        Hang,
    }

    static LEFT: LazyLock<Mutex<BTreeMap<String, (u32, Action)>>> = LazyLock::new(|| {
        let asked = std::env::var("GOTEL_FAIL").unwrap_or_default();
        let points = asked.split(',').filter_map(|entry| {
            let (point, rest) = entry.split_once(':')?;
            let (times, action) = match rest.split_once(':') {
                Some((times, "hang")) => (times, Action::Hang),
                _ => (rest, Action::Panic),
            };
            Some((point.to_owned(), (times.parse().ok()?, action)))
        });
        Mutex::new(points.collect())
    });

    /// What this pass of `point` is asked to do.
    fn asked(point: &str) -> Option<Action> {
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        let (times, action) = left.get_mut(point)?;
        let due = *times > 0;
        *times -= u32::from(due);
        due.then_some(*action)
    }

    /// Panics here if a test asked for it.
    pub(crate) fn pass(point: &str) {
        assert!(asked(point) != Some(Action::Panic), "a test asked for a panic at {point}");
    }

    /// Panics here, or never ends, if a test asked for it.
    pub(crate) async fn reach(point: &str) {
        match asked(point) {
            None => {}
            Some(Action::Panic) => panic!("a test asked for a panic at {point}"),
            Some(Action::Hang) => {
                tracing::warn!("a test asked for a hang at {point}");
                std::future::pending().await
            }
        }
    }
}
