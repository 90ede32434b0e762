//! Whether this process is alive, draining, or stuck: the ages of its loops, and the order of its end.
//!
//! Promises: each loop that must keep moving is registered with the longest age that is still healthy,
//! and marks every step that ended; `/livez`, `/metrics` and `/nodes` read the ages from here. A step that
//! failed because the database is away counts as movement and not as work done: restarting this process
//! would not bring the database back. A loop that ends early is a crash, not a detail: [`Tasks`] ends the
//! whole process with it.

use crate::clock;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A loop's pulse.
#[derive(Debug)]
pub struct Pulse {
    name: String,
    /// Older than this is stuck.
    limit_ms: i64,
    /// When it last moved.
    last_boot_ms: AtomicI64,
    /// When a step last did what it is for.
    done_boot_ms: AtomicI64,
    /// What the last step came to, in a few words.
    note: Mutex<String>,
}

impl Pulse {
    /// Marks a step that did what it is for.
    pub fn beat(&self) {
        let now = clock::boot_ms();
        self.last_boot_ms.store(now, Ordering::Relaxed);
        self.done_boot_ms.store(now, Ordering::Relaxed);
    }

    /// Marks a step that ended in a failure which is not this process's: the loop moves, its work does not.
    pub fn tried(&self, note: impl Into<String>) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note.into();
        self.last_boot_ms.store(clock::boot_ms(), Ordering::Relaxed);
    }

    /// The same, and says what it came to.
    pub fn beat_with(&self, note: impl Into<String>) {
        *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note.into();
        self.beat();
    }
}

/// A loop as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopAge {
    /// Its name: `lease`, `evaluate`, `checkin-0`, `alerter/ops-mail`, `purge` …
    pub name: String,
    /// Since its last step ended, well or not.
    pub age_ms: i64,
    /// Since a step last did what it is for.
    pub done_age_ms: i64,
    /// Older than this is stuck.
    pub limit_ms: i64,
    /// What the last step came to.
    pub note: String,
}

impl LoopAge {
    /// Whether it moves.
    pub fn is_healthy(&self) -> bool {
        self.age_ms <= self.limit_ms
    }
}

/// All loops of this process, and whether it is on its way out.
#[derive(Debug, Default)]
pub struct Loops {
    pulses: Mutex<Vec<Arc<Pulse>>>,
    draining: AtomicBool,
}

impl Loops {
    /// Registers a loop; it counts as having moved just now.
    pub fn register(&self, name: impl Into<String>, limit: Duration) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse {
            name: name.into(),
            limit_ms: i64::try_from(limit.as_millis()).unwrap_or(i64::MAX),
            last_boot_ms: AtomicI64::new(clock::boot_ms()),
            done_boot_ms: AtomicI64::new(clock::boot_ms()),
            note: Mutex::default(),
        });
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&pulse));
        pulse
    }

    /// Their ages now.
    pub fn ages(&self) -> Vec<LoopAge> {
        let now = clock::boot_ms();
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ages: Vec<_> = pulses
            .iter()
            .map(|p| LoopAge {
                name: p.name.clone(),
                age_ms: now - p.last_boot_ms.load(Ordering::Relaxed),
                done_age_ms: now - p.done_boot_ms.load(Ordering::Relaxed),
                limit_ms: p.limit_ms,
                note: p.note.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            })
            .collect();
        ages.sort_by(|a, b| a.name.cmp(&b.name));
        ages
    }

    /// From now on `/readyz` says no.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether this process is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// Something that forbids this process to lead, whoever finds it; empty: nothing does.
#[derive(Debug, Clone, Default)]
pub struct Bar(Arc<Mutex<Option<String>>>);

impl Bar {
    /// From now on this process must not lead, for `reason`.
    pub fn bar(&self, reason: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
    }

    /// Nothing forbids it any more.
    pub fn lift(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why it must not; None: it may.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The tasks of a process: one that ends before it was asked to brings the others down.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Tasks {
    /// The token that asks every task to end.
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that runs until the token is cancelled.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// The same on a thread of its own. In a flood of requests thousands of tasks are ready at once, and a
    /// task among them gets its turn only after all the others, at each of its waits; a thread gets its
    /// share from the kernel instead.
    ///
    /// # Panics
    /// When the system has no thread left.
    pub fn spawn_apart(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        let cut = CancellationToken::new();
        let guard = cut.clone().drop_guard();
        let body = move || {
            // Dropped at the end, also at that of a panic.
            let _alive = alive;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                tokio::select! {
                    () = task => {}
                    () = cut.cancelled() => {}
                }
            });
        };
        std::thread::Builder::new().name(name.into()).spawn(body).expect("a thread can be made");
        self.set.spawn(async move {
            // A task that is cut off cuts its thread off.
            let _guard = guard;
            let _ = ended.await;
            name
        });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Waits until `ask` is done or a task has ended by itself; says which.
    pub async fn until(&mut self, ask: impl Future<Output = ()>) -> Result<(), String> {
        tokio::select! {
            () = ask => Ok(()),
            ended = self.set.join_next() => Err(describe(ended)),
        }
    }

    /// Asks every task to end and waits at most `limit`; false: some had to be cut off.
    pub async fn finish(mut self, limit: Duration) -> bool {
        self.stop.cancel();
        let all = async { while self.set.join_next().await.is_some() {} };
        tokio::time::timeout(limit, all).await.is_ok()
    }
}

fn describe(ended: Option<Result<&'static str, tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok(name)) => format!("the {name} task ended by itself"),
        Some(Err(e)) => format!("a task died: {e}"),
        None => "no task is running".into(),
    }
}
