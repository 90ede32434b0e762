//! The sight of a replica without peers: whether the database takes its writes, and nothing else.
//!
//! Whoever writes to the database anyway says how that went ([`Solo::saw`]): the attempts to reach it at the
//! start, and then the mark that the coordinator's loop moves. So it costs no statement of its own, and it is a
//! true write that counts: a full disk and a read-only server are a database that is away.

use super::sight::Sight;
use std::sync::Arc;
use tokio::sync::watch;

/// Writes the sight.
#[derive(Debug, Clone)]
pub struct Solo(Arc<watch::Sender<Sight>>);

impl Solo {
    /// Nothing has been seen yet.
    pub fn new(replica: &str, boot_ms: i64) -> (Self, watch::Receiver<Sight>) {
        let (sender, receiver) = watch::channel(Sight {
            replica: replica.to_owned(),
            rank: 0,
            db_ok_boot_ms: None,
            db_lost_since_boot_ms: None,
            peers: Vec::new(),
            db_now_ms: None,
            complete: false,
            boot_ms,
        });
        (Self(Arc::new(sender)), receiver)
    }

    /// The database has just taken a write, or has not.
    pub fn saw(&self, takes_writes: bool, boot_ms: i64) {
        self.0.send_modify(|sight| {
            sight.boot_ms = boot_ms;
            sight.complete = takes_writes;
            if takes_writes {
                sight.db_ok_boot_ms = Some(boot_ms);
                sight.db_lost_since_boot_ms = None;
            } else {
                sight.db_lost_since_boot_ms.get_or_insert(boot_ms);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_lost_from_its_first_failure_to_its_next_write() {
        let (solo, sight) = Solo::new("a", 5);
        let seen = || {
            let s = sight.borrow();
            (s.db_ok_boot_ms, s.db_lost_since_boot_ms, s.complete, s.boot_ms)
        };
        assert_eq!(seen(), (None, None, false, 5));
        solo.saw(false, 10);
        solo.saw(false, 20);
        assert_eq!(seen(), (None, Some(10), false, 20));
        solo.saw(true, 30);
        assert_eq!(seen(), (Some(30), None, true, 30));
        solo.saw(false, 40);
        assert_eq!(seen(), (Some(30), Some(40), false, 40));
    }
}
