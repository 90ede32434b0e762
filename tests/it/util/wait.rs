//! Waiting in tests: for a condition, with a deadline, and with a failure that says what was awaited.
//!
//! Promises: [`eventually`] returns as soon as the condition holds (within one [`POLL`]) and panics at the
//! deadline, naming what was awaited, the caller's line and the last thing seen, even when a look hangs.
//! Does not promise: that the condition held without a break, or still holds when it returns.
//!
//! Nothing else in the tests lets time pass, but for [`slowness`], which fakes use to be slow on purpose.

use std::fmt::Display;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How often a condition is looked at: short against any deadline, long against a look.
const POLL: Duration = Duration::from_millis(10);

/// What a look at a condition yields: the value awaited, or why it is not there yet.
pub trait Look {
    /// What waiting was for.
    type Value;
    /// The value, or a description of what stands in its place.
    fn seen(self) -> Result<Self::Value, String>;
}

impl Look for bool {
    type Value = ();
    fn seen(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("not so".into()) }
    }
}

impl<T> Look for Option<T> {
    type Value = T;
    fn seen(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".into())
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Value = T;
    fn seen(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Looks again and again until the look yields a value: `true`, `Some(value)` or `Ok(value)`.
///
/// `what` completes the sentence "waited 5s in vain for …".
#[track_caller]
pub fn eventually<L: Look>(
    deadline: Duration,
    what: impl Into<String>,
    mut look: impl AsyncFnMut() -> L,
) -> impl Future<Output = L::Value> {
    let (caller, what) = (Location::caller(), what.into());
    async move {
        let mut last = String::from("the first look did not return");
        let waiting = async {
            let mut poll = tokio::time::interval(POLL);
            poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                poll.tick().await;
                match look().await.seen() {
                    Ok(value) => return value,
                    Err(instead) => last = instead,
                }
            }
        };
        match tokio::time::timeout(deadline, waiting).await {
            Ok(value) => value,
            Err(_) => panic!("{caller}: waited {deadline:?} in vain for {what}; last seen: {last}"),
        }
    }
}

/// Lets `duration` pass: for a fake that is slow on purpose, never to wait for something to happen.
pub async fn slowness(duration: Duration) {
    if !duration.is_zero() {
        let mut clock = tokio::time::interval(duration);
        clock.tick().await;
        clock.tick().await;
    }
}

/// The monotonic clock, for notes of when something was seen.
#[expect(
    clippy::disallowed_methods,
    reason = "tests observe real programs in real time, from this one place"
)]
pub fn now() -> Instant {
    Instant::now()
}
