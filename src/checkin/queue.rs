//! The bounded queue in front of the writers.

use crate::clock;
use crate::metrics::Metrics;
use crate::store::{Accepted, CheckIn};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Check-ins that may wait for one writer.
pub const CAPACITY: usize = 4096;

/// How long a caller waits for its answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A check-in that was not stored, as far as we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such reservation, or it is checked out.
    #[error("no such reservation")]
    NotFound,
    /// The item itself cannot be stored.
    #[error("the check-in cannot be stored: {0}")]
    Data(String),
    /// Too many are waiting.
    #[error("too many check-ins are waiting")]
    Full,
    /// Not answered in time; it may have been stored.
    #[error("the database did not answer in time")]
    Late,
    /// This process is on its way out.
    #[error("this replica is shutting down")]
    Draining,
    /// The database failed.
    #[error("the database is not available")]
    Unavailable,
}

/// One waiting check-in.
pub(super) struct Item {
    pub checkin: CheckIn,
    /// When it was received, by the boot clock.
    pub received_us: i64,
    pub reply: oneshot::Sender<Result<Accepted, Refusal>>,
}

/// Where handlers put check-ins.
#[derive(Debug, Clone)]
pub struct Queue {
    shards: Arc<[Shard]>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
pub(super) struct Shard {
    sender: mpsc::Sender<Item>,
    waiting: Arc<Waiting>,
}

/// What waits in a shard, or is being written.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Items not yet taken by the writer.
    pub depth: AtomicUsize,
    /// When the oldest that the writer has in hand was received, by the boot clock; 0: it has none.
    pub oldest_us: AtomicI64,
}

/// A writer's end of its shard.
pub(super) type End = (mpsc::Receiver<Item>, Arc<Waiting>);

impl Queue {
    /// A queue of `writers` shards, and the receiving ends.
    pub(super) fn new(writers: usize, metrics: Arc<Metrics>) -> (Self, Vec<End>) {
        let mut shards = Vec::with_capacity(writers);
        let mut ends = Vec::with_capacity(writers);
        for _ in 0..writers {
            let (sender, receiver) = mpsc::channel(CAPACITY);
            let waiting = Arc::new(Waiting::default());
            shards.push(Shard { sender, waiting: Arc::clone(&waiting) });
            ends.push((receiver, waiting));
        }
        (Self { shards: shards.into(), metrics }, ends)
    }

    /// Stores `checkin`; `Ok` means committed.
    pub async fn submit(&self, checkin: CheckIn) -> Result<Accepted, Refusal> {
        let index = self.shard_of(&checkin);
        let shard = &self.shards[index];
        let (reply, answer) = oneshot::channel();
        let item = Item { checkin, received_us: clock::boot_us(), reply };
        // Counted before it is there: the writer may take it out before this task runs on.
        let depth = shard.waiting.depth.fetch_add(1, Ordering::Relaxed) + 1;
        if let Err(e) = shard.sender.try_send(item) {
            shard.waiting.depth.fetch_sub(1, Ordering::Relaxed);
            return Err(match e {
                mpsc::error::TrySendError::Full(_) => Refusal::Full,
                mpsc::error::TrySendError::Closed(_) => Refusal::Draining,
            });
        }
        self.metrics.queue_depth(index, depth);
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(outcome)) => outcome,
            // The writer dropped the reply: it is gone with its task.
            Ok(Err(_)) => Err(Refusal::Draining),
            Err(_) => Err(Refusal::Late),
        }
    }

    /// How long the oldest check-in that a writer has in hand has waited; it grows while the writer hangs.
    pub fn oldest(&self) -> Duration {
        let received = |shard: &Shard| shard.waiting.oldest_us.load(Ordering::Relaxed);
        let oldest_us = self.shards.iter().map(received).filter(|us| *us > 0).min();
        oldest_us.map_or(Duration::ZERO, clock::since_us)
    }

    /// The same reservation always has the same writer, so two writers never wait for one row.
    fn shard_of(&self, checkin: &CheckIn) -> usize {
        let digest = checkin.rkey.as_bytes();
        let hash =
            digest.iter().take(8).fold(0usize, |h, b| h.wrapping_mul(31).wrapping_add(usize::from(*b)));
        hash % self.shards.len()
    }
}
