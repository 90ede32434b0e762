//! The writers: each one task, one dedicated connection, one batch at a time.

use super::queue::{BATCH, Item, Queue, Refusal, Waiting};
use crate::clock;
use crate::lifecycle::{Loops, Pulse, Tasks};
use crate::metrics::Metrics;
use crate::store::{Accepted, CheckIn, Refused, Session, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// An item that waited longer than this is refused unwritten: its client has given up or is about to.
const STALE: Duration = Duration::from_secs(5);

/// How long the queue is flushed for at the end.
const FLUSH: Duration = Duration::from_secs(10);

/// A writer that waits for work marks its pulse this often.
const IDLE: Duration = Duration::from_secs(5);

/// Starts `writers` writers on `store` and returns the queue in front of them.
pub fn start(
    store: &Store,
    writers: usize,
    tasks: &mut Tasks,
    loops: &Arc<Loops>,
    metrics: &Arc<Metrics>,
) -> Queue {
    let (queue, ends) = Queue::new(writers, Arc::clone(metrics));
    for (index, (receiver, waiting)) in ends.into_iter().enumerate() {
        let writer = Writer {
            index,
            session: store.session(),
            receiver,
            waiting,
            pulse: loops.register(format!("checkin-{index}"), Duration::from_secs(30)),
            metrics: Arc::clone(metrics),
            failing: false,
        };
        tasks.spawn_apart("checkin", writer.run(tasks.stop()));
    }
    queue
}

/// A queue of `writers` shards whose check-ins are answered at once and stored nowhere: what lies in front
/// of the writers, to be measured without them. For benchmarks; nothing of the program may use it.
pub fn sink(writers: usize, tasks: &mut Tasks, metrics: &Arc<Metrics>) -> Queue {
    let (queue, ends) = Queue::new(writers, Arc::clone(metrics));
    for (mut receiver, waiting) in ends {
        tasks.spawn_apart("sink", async move {
            while let Some(item) = receiver.recv().await {
                waiting.depth.fetch_sub(1, Ordering::Relaxed);
                // A client that went away does not mind.
                let _ = item.reply.send(Ok(Accepted { at_ms: clock::boot_ms() }));
            }
        });
    }
    queue
}

struct Writer {
    index: usize,
    session: Session,
    receiver: mpsc::Receiver<Item>,
    waiting: Arc<Waiting>,
    pulse: Arc<Pulse>,
    metrics: Arc<Metrics>,
    /// Said once, not with each batch of a flood.
    failing: bool,
}

impl Writer {
    async fn run(mut self, stop: CancellationToken) {
        let mut items = Vec::with_capacity(BATCH);
        loop {
            let received = tokio::select! {
                // First, so that a queue that never runs empty cannot hold up the end; what waits is flushed below.
                biased;
                () = stop.cancelled() => break,
                received = tokio::time::timeout(IDLE, self.receiver.recv_many(&mut items, BATCH)) => received,
            };
            match received {
                Ok(0) => break,
                Ok(_) => self.step(&mut items).await,
                Err(_) => {}
            }
            self.pulse.beat();
        }
        // What was accepted into the queue is still written, for a bounded while.
        self.receiver.close();
        let flush = async {
            while self.receiver.recv_many(&mut items, BATCH).await > 0 {
                self.step(&mut items).await;
            }
        };
        // Whatever is left hears `Draining` when its reply is dropped.
        let _ = tokio::time::timeout(FLUSH, flush).await;
    }

    /// Writes one batch and answers everybody in it.
    async fn step(&mut self, items: &mut Vec<Item>) {
        let depth = self.waiting.depth.fetch_sub(items.len(), Ordering::Relaxed).saturating_sub(items.len());
        self.metrics.queue_depth(self.index, depth);
        let now = clock::boot_us();
        let mut replies = Vec::with_capacity(items.len());
        let mut batch = Vec::with_capacity(items.len());
        let oldest_us = items.iter().map(|item| item.received_us).min().unwrap_or(0);
        self.waiting.oldest_us.store(oldest_us, Ordering::Relaxed);
        for item in items.drain(..) {
            let waited_us = now - item.received_us;
            // One whose client went away is written all the same: the run it speaks of took place.
            if waited_us > i64::try_from(STALE.as_micros()).unwrap_or(i64::MAX) {
                let _ = item.reply.send(Err(Refusal::Late));
                continue;
            }
            replies.push(item.reply);
            batch.push((item.checkin, waited_us / 1000));
        }
        if !batch.is_empty() {
            self.metrics.batch(batch.len());
            self.waiting.begin(now);
            let answers = self.write(batch).await;
            self.waiting.end(clock::boot_us());
            for (reply, answer) in replies.into_iter().zip(answers) {
                // A client that went away does not mind.
                let _ = reply.send(answer);
            }
        }
        self.waiting.oldest_us.store(0, Ordering::Relaxed);
    }

    /// Writes the batch; where the data of an item is at fault, halves it until that item is found.
    async fn write(&mut self, mut batch: Vec<(CheckIn, i64)>) -> Vec<Result<Accepted, Refusal>> {
        let started_us = clock::boot_us();
        let mut counted_ms = 0;
        let mut answers: Vec<Result<Accepted, Refusal>> = Vec::with_capacity(batch.len());
        // Ranges still to be written, the next one last; `answers` grows from the front.
        let mut ranges = Vec::new();
        ranges.push(0..batch.len());
        while let Some(range) = ranges.pop() {
            // What the earlier tries took is time that the rest has waited.
            let spent_ms = (clock::boot_us() - started_us) / 1000;
            batch[range.start..].iter_mut().for_each(|(_, waited_ms)| *waited_ms += spent_ms - counted_ms);
            counted_ms = spent_ms;
            match self.session.write_checkins(&batch[range.clone()]).await {
                Ok(stored) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("check-ins are stored again");
                    }
                    answers.extend(stored.into_iter().map(answer));
                }
                Err(e) if e.is_data() && range.len() > 1 => {
                    let middle = range.start + range.len() / 2;
                    ranges.push(middle..range.end);
                    ranges.push(range.start..middle);
                }
                Err(e) if e.is_data() => {
                    tracing::warn!(error = %e, "a check-in was refused by the database");
                    answers.push(Err(refusal(&e)));
                }
                Err(e) => {
                    // The database, not an item: the others would only wait for the same answer.
                    let left = batch.len() - answers.len();
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(error = %e, class = e.class(), items = left, "check-ins are not stored: they get 503");
                    }
                    answers.extend((0..left).map(|_| Err(refusal(&e))));
                    break;
                }
            }
        }
        answers
    }
}

fn answer(stored: Result<Accepted, Refused>) -> Result<Accepted, Refusal> {
    stored.map_err(|Refused::NotFound| Refusal::NotFound)
}

fn refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Data(text) => Refusal::Data(text.clone()),
        StoreError::Timeout(..) => Refusal::Late,
        _ => Refusal::Unavailable,
    }
}
