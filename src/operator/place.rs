//! One watch: of one namespace, or of all. What it has listed, and how it fares.
//!
//! Promises: a place that was never listed is known as such: nobody takes its emptiness for deletions. A failure that
//! is not met again for a while is over, as a watch that is quiet says nothing when it works again.

use super::context::{Guarded, locked};
use futures::channel::mpsc::UnboundedSender;
use kube_runtime::reflector::{ObjectRef, Store};
use kube_runtime::watcher;
use std::sync::{Arc, Mutex};

/// A failure that is not met again for so long is over. A watch that fails is tried again within 12 s.
const OVER_MS: i64 = 30_000;

/// Why a watch does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The definition is not there.
    Undefined,
    /// Its account may not.
    Forbidden,
    /// Anything else.
    Failing,
}

impl Trouble {
    pub(super) fn of(error: &watcher::Error) -> Self {
        let status = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
            | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            | watcher::Error::WatchFailed(kube::Error::Api(status)) => status,
            _ => return Self::Failing,
        };
        // By the code alone: of a resource that is not defined the API server says so in plain text.
        match status.code {
            404 => Self::Undefined,
            403 => Self::Forbidden,
            _ => Self::Failing,
        }
    }
}

/// How a watch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// Its objects are known, and what becomes of them is told.
    Up,
    /// It has only begun.
    Beginning,
    /// It does not work.
    In(Trouble),
}

impl Stand {
    /// All there are.
    pub(super) const ALL: [Self; 5] = [
        Self::Up,
        Self::Beginning,
        Self::In(Trouble::Undefined),
        Self::In(Trouble::Forbidden),
        Self::In(Trouble::Failing),
    ];

    /// As a label of a figure.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Beginning => "beginning",
            Self::In(Trouble::Undefined) => "undefined",
            Self::In(Trouble::Forbidden) => "forbidden",
            Self::In(Trouble::Failing) => "failing",
        }
    }

    /// Why its objects are not known.
    fn why(self) -> &'static str {
        match self {
            Self::Up | Self::Beginning => "are being listed",
            Self::In(Trouble::Undefined) => "cannot be listed, as the definition is not there",
            Self::In(Trouble::Forbidden) => "may not be listed",
            Self::In(Trouble::Failing) => "cannot be listed",
        }
    }
}

/// What became of a watch so far.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    listed: bool,
    trouble: Option<(Trouble, i64)>,
}

impl Health {
    /// Its objects are known from now on.
    pub(super) fn listed(&self) {
        locked(&self.0).listed = true;
    }

    /// Something came; true: it was in trouble.
    pub(super) fn works(&self) -> bool {
        locked(&self.0).trouble.take().is_some()
    }

    /// It failed; true: that is news.
    pub(super) fn fails(&self, trouble: Trouble, boot_ms: i64) -> bool {
        locked(&self.0).trouble.replace((trouble, boot_ms)).is_none_or(|(known, _)| known != trouble)
    }

    /// Whether its objects are known, and how it stands; the second: whether a trouble has passed just now.
    pub(super) fn look(&self, boot_ms: i64) -> (bool, Stand, bool) {
        let mut seen = locked(&self.0);
        let over = seen.listed && seen.trouble.is_some_and(|(_, since)| since + OVER_MS < boot_ms);
        if over {
            seen.trouble = None;
        }
        let stand = match (seen.trouble, seen.listed) {
            (Some((trouble, _)), _) => Stand::In(trouble),
            (None, true) => Stand::Up,
            (None, false) => Stand::Beginning,
        };
        (seen.listed, stand, over)
    }
}

/// One watch: its objects, and the way to have one looked at.
pub(super) struct Place {
    /// None: all namespaces.
    pub(super) namespace: Option<String>,
    pub(super) objects: Store<Guarded>,
    pub(super) look_at: UnboundedSender<ObjectRef<Guarded>>,
    pub(super) health: Arc<Health>,
}

impl Place {
    /// Whether objects of this namespace are seen here.
    pub(super) fn covers(&self, namespace: &str) -> bool {
        self.namespace.as_ref().is_none_or(|own| own == namespace)
    }

    /// Why its objects are not known.
    pub(super) fn why(&self, stand: Stand) -> String {
        match &self.namespace {
            Some(namespace) => format!("those of {namespace} {}", stand.why()),
            None => format!("objects {}", stand.why()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_news_once_and_over_when_something_comes_or_nothing_fails_any_more() {
        let health = Health::default();
        assert_eq!(health.look(0), (false, Stand::Beginning, false));
        assert!(health.fails(Trouble::Undefined, 0));
        assert!(!health.fails(Trouble::Undefined, 1));
        assert!(health.fails(Trouble::Forbidden, 2), "it is another one");
        assert_eq!(health.look(100_000), (false, Stand::In(Trouble::Forbidden), false), "never listed");
        health.listed();
        assert!(health.works() && !health.works());
        assert_eq!(health.look(100_000), (true, Stand::Up, false));
        assert!(health.fails(Trouble::Failing, 100_000));
        assert_eq!(health.look(100_000 + OVER_MS), (true, Stand::In(Trouble::Failing), false));
        assert_eq!(health.look(100_001 + OVER_MS), (true, Stand::Up, true));
        assert_eq!(health.look(100_001 + OVER_MS), (true, Stand::Up, false));
    }
}
