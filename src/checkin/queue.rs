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

/// Check-ins in one transaction at most.
pub const BATCH: usize = 512;

/// What would wait for longer than this, at the pace of the last batch, is refused at once: half of the patience, as
/// the batch that is being written takes its time first.
const WAIT_US: i64 = 2_500_000;

/// For so long a batch says how long the next one takes.
const FRESH_US: i64 = 10_000_000;

/// Whether one more may wait behind `depth` others, when a batch takes `batch_us`. The next batch is open to all:
/// how long it takes is not known before it was tried.
fn admits(depth: usize, batch_us: i64) -> bool {
    let batches = i64::try_from(depth / BATCH + 1).unwrap_or(i64::MAX);
    batches == 1 || batches.saturating_mul(batch_us) <= WAIT_US
}

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
    /// Since when the batch in hand is being written, by the boot clock; 0: there is none.
    begun_us: AtomicI64,
    /// How long the last one took.
    took_us: AtomicI64,
    /// When it ended, by the boot clock.
    ended_us: AtomicI64,
}

impl Waiting {
    /// A batch is being written from now on.
    pub(super) fn begin(&self, now_us: i64) {
        self.begun_us.store(now_us, Ordering::Relaxed);
    }

    /// It is no more.
    pub(super) fn end(&self, now_us: i64) {
        let begun_us = self.begun_us.swap(0, Ordering::Relaxed);
        self.took_us.store(now_us - begun_us, Ordering::Relaxed);
        self.ended_us.store(now_us, Ordering::Relaxed);
    }

    /// How long a batch takes now: as long as the last one, or as the one in hand if that takes longer. One of some
    /// time ago says nothing.
    fn batch_us(&self, now_us: i64) -> i64 {
        let begun_us = self.begun_us.load(Ordering::Relaxed);
        let so_far_us = if begun_us == 0 { 0 } else { now_us - begun_us };
        let fresh = now_us - self.ended_us.load(Ordering::Relaxed) <= FRESH_US;
        so_far_us.max(if fresh { self.took_us.load(Ordering::Relaxed) } else { 0 })
    }
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
        let now_us = clock::boot_us();
        let item = Item { checkin, received_us: now_us, reply };
        // Counted before it is there: the writer may take it out before this task runs on.
        let before = shard.waiting.depth.fetch_add(1, Ordering::Relaxed);
        let depth = before + 1;
        if !admits(before, shard.waiting.batch_us(now_us)) {
            shard.waiting.depth.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Full);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SECOND_US: i64 = 1_000_000;

    #[rstest]
    #[case::nothing_was_written_yet(CAPACITY, 0, true)]
    #[case::a_quick_database(CAPACITY, SECOND_US / 20, true)]
    #[case::the_next_batch_is_open_also_while_the_database_hangs(BATCH - 1, 60 * SECOND_US, true)]
    #[case::and_none_behind_it(BATCH, 60 * SECOND_US, false)]
    #[case::three_batches_fit_into_the_wait(3 * BATCH - 1, SECOND_US * 4 / 5, true)]
    #[case::four_do_not(3 * BATCH, SECOND_US * 4 / 5, false)]
    #[case::no_figure_overflows(usize::MAX, i64::MAX, false)]
    fn what_could_not_be_stored_in_time_is_refused_at_once(
        #[case] depth: usize,
        #[case] batch_us: i64,
        #[case] admitted: bool,
    ) {
        assert_eq!(admits(depth, batch_us), admitted);
    }

    #[test]
    fn a_batch_takes_as_long_as_the_last_one_or_as_it_has_taken_so_far() {
        let waiting = Waiting::default();
        assert_eq!(waiting.batch_us(SECOND_US), 0);
        waiting.begin(SECOND_US);
        waiting.end(SECOND_US + 40);
        assert_eq!(waiting.batch_us(2 * SECOND_US), 40);
        waiting.begin(2 * SECOND_US);
        assert_eq!(waiting.batch_us(2 * SECOND_US + 1), 40);
        assert_eq!(waiting.batch_us(9 * SECOND_US), 7 * SECOND_US);
        waiting.end(9 * SECOND_US);
        assert_eq!(waiting.batch_us(19 * SECOND_US), 7 * SECOND_US);
        assert_eq!(
            waiting.batch_us(20 * SECOND_US),
            0,
            "a burst at midnight meets nothing of a hiccup at noon"
        );
    }
}
