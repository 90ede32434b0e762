//! What was heard of each peer over HTTP, whichever side called. Shared by `listener`, `caller`, `watch`.

use super::sight::Said;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// One place for all that is heard.
#[derive(Debug, Clone, Default)]
pub struct Ear(Arc<Mutex<BTreeMap<String, Heard>>>);

/// What is known of one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// What it last said.
    pub said: Option<Said>,
    /// When the last call to it ended, well or not.
    pub called_boot_ms: Option<i64>,
    /// Why that call failed; None: it did not.
    pub failure: Option<String>,
}

impl Ear {
    /// A peer said this.
    pub fn hear(&self, peer: &str, said: Said) {
        self.change(peer, |heard| heard.said = Some(said));
    }

    /// A call to a peer ended.
    pub fn called(&self, peer: &str, boot_ms: i64, failure: Option<String>) {
        self.change(peer, |heard| {
            heard.called_boot_ms = Some(boot_ms);
            heard.failure = failure;
        });
    }

    /// All that is known.
    pub fn all(&self) -> BTreeMap<String, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, peer: &str, change: impl FnOnce(&mut Heard)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(peer.to_owned()).or_default());
    }
}
