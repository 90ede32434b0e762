//! The dispatcher of one alerter: from the outbox to the receiver, and back with the result.
//!
//! Promises:
//! - Claim, send, finish: nothing is sent inside a transaction, and no send lasts longer than
//!   [`SEND_LIMIT`]. At most [`SLOTS`] notices are on their way at once.
//! - Each alerter has its own dispatcher with its own connection, limiter and breaker: a mail server that
//!   hangs delays mail to it and nothing else.
//! - What failed is tried again (`reservation::backoff`: 5 s … 5 min, for 24 h); what the receiver refuses
//!   for ever is a dead letter. Either way somebody is told over another alerter ([`Reporter`]): at once for
//!   a dead letter and for an alerter that is set up wrongly, after 5 minutes for one that just fails.
//! - An alerter that was set up wrongly and gets a new secret is tried again at once, with what waits for it.
//! - A panic in an alerter is a failed try, not the end of the process.
//!
//! Does not promise exactly one delivery. Races and their answers:
//! - The process dies between send and finish: the claim runs out after 90 s and the notice is sent again
//!   with the same key.
//! - The database is gone when a send has ended: the result is kept and written when it is back. If the claim
//!   ran out meanwhile, finishing changes nothing, and the other sender's result counts.
//! - The process is stopped after claiming and wakes after the claim ran out: a try whose claim is too old
//!   for a whole send is not begun.

use super::breaker::{Allowed, Breaker};
use super::{Alerter, Context, Delivery, Outcome, Reporter, SEND_LIMIT};
use crate::clock;
use crate::failpoint;
use crate::metrics::Metrics;
use crate::reservation::backoff::next_try_ms;
use crate::reservation::{Notice, Reason};
use crate::store::{CLAIM_MS, Claimed, Finish, Result, Session, StoreError, SystemKind};
use futures::FutureExt;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Notices of one alerter on their way at once (design 3.4).
pub const SLOTS: usize = 4;
/// How often the outbox is looked at when nobody says that there is something in it.
const POLL: Duration = Duration::from_secs(1);
/// After this long without a success somebody is told.
const FAILING_MS: i64 = 300_000;
/// How long sends in flight may take to end when the process does.
const DRAIN: Duration = Duration::from_secs(10);
/// A wrong password is not tried more often than this, in milliseconds: as far as a receiver's own
/// Retry-After may go (`next_try_ms` obeys up to 10 min).
const BROKEN_RETRY_MS: i64 = 600_000;

/// What a dispatcher is given.
pub struct Parts {
    /// The alerter.
    pub alerter: Arc<dyn Alerter>,
    /// A connection of its own.
    pub session: Session,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Who is told of trouble.
    pub reporter: Arc<dyn Reporter>,
    /// Says that there is something in the outbox; `notify_waiters`, as all dispatchers may share it. One
    /// that misses it looks a second later anyway.
    pub wake: Arc<Notify>,
    /// Called after each completed step: the loop's pulse.
    pub beat: Arc<dyn Fn() + Send + Sync>,
    /// This replica's name, for digests.
    pub srv: String,
    /// For links to GoTel's own pages.
    pub context: Context,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("alerter", &self.alerter.name()).finish_non_exhaustive()
    }
}

/// Moves the notices of one alerter.
pub struct Dispatcher {
    alerter: Arc<dyn Alerter>,
    session: Session,
    metrics: Arc<Metrics>,
    reporter: Arc<dyn Reporter>,
    wake: Arc<Notify>,
    beat: Arc<dyn Fn() + Send + Sync>,
    srv: String,
    context: Context,
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
    breaker: Breaker,
    sends: JoinSet<Sent>,
    /// Ended, and not written down yet.
    unwritten: Vec<Sent>,
    health: Health,
    /// As of the last step: [`Alerter::renewals`].
    renewals: u64,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("alerter", &self.alerter.name()).finish_non_exhaustive()
    }
}

/// A try that ended.
struct Sent {
    claimed: Claimed,
    outcome: Outcome,
    /// `boot_ms` of its claim.
    claimed_ms: i64,
    /// Whether breaker, health and metrics have heard of it.
    counted: bool,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// Results written down.
    pub finished: usize,
    /// Notices folded into digests.
    pub folded: usize,
    /// Sends begun.
    pub begun: usize,
}

/// What has to be told about the alerter itself.
#[derive(Debug, Default)]
struct Health {
    /// `boot_ms` of the first failure since the last success.
    failing_since_ms: Option<i64>,
    /// What this process has reported: failing or not. None: nothing, and an earlier process may have.
    reported: Option<bool>,
    /// Whether a try has succeeded since the last failure.
    works: bool,
    /// Why the last try failed.
    why: String,
    /// An alerter that is set up wrongly is reported without waiting.
    broken: bool,
}

impl Dispatcher {
    /// A dispatcher that has claimed nothing yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            limiter: limiter(parts.alerter.kind()),
            renewals: parts.alerter.renewals(),
            alerter: parts.alerter,
            session: parts.session,
            metrics: parts.metrics,
            reporter: parts.reporter,
            wake: parts.wake,
            beat: parts.beat,
            srv: parts.srv,
            context: parts.context,
            breaker: Breaker::default(),
            sends: JoinSet::new(),
            unwritten: Vec::new(),
            health: Health::default(),
        }
    }

    /// Runs until `stop` is cancelled, then waits at most 10 s for sends in flight.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut database_down = false;
        while !stop.is_cancelled() {
            match self.step(clock::boot_ms()).await {
                Ok(_) if database_down => {
                    database_down = false;
                    tracing::info!(alerter = self.alerter.name(), "the outbox can be read again");
                }
                Ok(_) => {}
                Err(e) if !database_down => {
                    database_down = true;
                    tracing::warn!(alerter = self.alerter.name(), error = %e, "the outbox cannot be read or written");
                }
                Err(_) => {}
            }
            (self.beat)();
            let wake = Arc::clone(&self.wake);
            tokio::select! {
                () = stop.cancelled() => {}
                () = wake.notified(), if !database_down => {}
                () = self.collect(), if !self.sends.is_empty() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
        self.drain().await;
    }

    /// Writes down what has ended, folds storms, and begins as many sends as there is room for. `now_ms` is
    /// `clock::boot_ms()`.
    ///
    /// # Errors
    /// The store's. Results that could not be written are kept for the next step.
    pub async fn step(&mut self, now_ms: i64) -> Result<Step> {
        while let Some(joined) = self.sends.try_join_next() {
            self.unwritten.extend(joined.ok());
        }
        self.count(now_ms);
        let mut step = Step { finished: self.write().await?, ..Step::default() };
        self.report(now_ms).await;
        self.renew(now_ms).await?;
        loop {
            let room = self.room(now_ms);
            if room == 0 {
                break;
            }
            let claimed_ms = clock::boot_ms();
            let (folded, claimed) = self.claim(room).await?;
            for claimed in claimed {
                self.begin(claimed, claimed_ms);
                step.begun += 1;
            }
            step.folded += folded;
            // The digest was not there yet when its notices were counted.
            if folded == 0 {
                break;
            }
        }
        self.metrics.breaker(self.alerter.name(), self.breaker.is_open());
        Ok(step)
    }

    /// Where a secret has changed, what its alerter failed to send may work now.
    async fn renew(&mut self, now_ms: i64) -> Result<()> {
        let renewals = self.alerter.renewals();
        if renewals == self.renewals {
            return Ok(());
        }
        let hurried = self.session.hurry(self.alerter.name()).await?;
        self.renewals = renewals;
        self.breaker.mended(now_ms);
        if hurried > 0 {
            tracing::info!(
                alerter = self.alerter.name(),
                notices = hurried,
                "has a new secret: tried again now"
            );
        }
        Ok(())
    }

    /// Folds storms and claims at most `room` notices.
    async fn claim(&mut self, room: usize) -> Result<(usize, Vec<Claimed>)> {
        let (name, ends_stay) = (self.alerter.name(), self.alerter.folds());
        let claimed = match self.session.anything_to_send(name).await {
            Ok(false) => Ok((0, Vec::new())),
            Ok(true) => {
                self.session.fold_and_claim(name, room, &self.srv, ends_stay, self.alerter.fallback()).await
            }
            Err(e) => Err(e),
        };
        match claimed {
            // Where tables are locked, there may be something to tell about just that.
            Err(e @ (StoreError::Contended(_) | StoreError::Timeout(..))) => {
                match self.session.claim_own(name, room, self.alerter.fallback().is_some()).await {
                    Ok(own) if !own.is_empty() => Ok((0, own)),
                    _ => Err(e),
                }
            }
            claimed => claimed,
        }
    }

    /// Waits until one more send has ended; at once if none is in flight.
    pub async fn collect(&mut self) {
        if let Some(Ok(sent)) = self.sends.join_next().await {
            self.unwritten.push(sent);
        }
    }

    /// Sends in flight.
    pub fn in_flight(&self) -> usize {
        self.sends.len()
    }

    fn room(&self, now_ms: i64) -> usize {
        // Results that cannot be written hold their slots: a database that is gone must not pile them up.
        let free = SLOTS.saturating_sub(self.sends.len() + self.unwritten.len());
        match self.breaker.allowed(now_ms) {
            Allowed::Any => free,
            Allowed::One if self.sends.is_empty() => free.min(1),
            Allowed::One | Allowed::Nothing => 0,
        }
    }

    fn begin(&mut self, claimed: Claimed, claimed_ms: i64) {
        let (alerter, limiter, metrics) =
            (Arc::clone(&self.alerter), self.limiter.clone(), Arc::clone(&self.metrics));
        let claimed = Claimed { notice: self.context.linked(claimed.notice), ..claimed };
        self.sends.spawn(async move {
            if let Some(limiter) = limiter {
                limiter.until_ready().await;
            }
            let outcome = attempt(alerter.as_ref(), &claimed, claimed_ms, &metrics).await;
            Sent { claimed, outcome, claimed_ms, counted: false }
        });
    }

    /// Tells breaker and health of each result once, however often writing it down has to be tried.
    fn count(&mut self, now_ms: i64) {
        for sent in self.unwritten.iter_mut().filter(|sent| !sent.counted) {
            sent.counted = true;
            match &sent.outcome {
                Outcome::Accepted => {
                    self.breaker.lives();
                    self.health.succeeded();
                }
                Outcome::Refused { .. } => self.breaker.lives(),
                Outcome::Retry { why, .. } => {
                    self.breaker.fails(now_ms);
                    self.health.failed(&sent.claimed, why, now_ms);
                }
                Outcome::Broken { why } => {
                    self.breaker.breaks(now_ms);
                    self.health.failed(&sent.claimed, why, now_ms);
                    self.health.broken = true;
                }
            }
            log(self.alerter.name(), sent);
        }
    }

    async fn write(&mut self) -> Result<usize> {
        let mut written = 0;
        while let Some(sent) = self.unwritten.first() {
            let finish = finish_of(&sent.outcome, &sent.claimed, fastrand::f64());
            // After that somebody else may have sent it, and their result counts.
            if clock::boot_ms() - sent.claimed_ms <= CLAIM_MS {
                // Told before it is written: should this process end in between, it is told twice and not
                // never.
                if let Finish::Dead { error } = &finish
                    && !is_about_delivery(&sent.claimed.notice)
                {
                    let (recipient, title) = (&sent.claimed.recipient, sent.claimed.notice.title());
                    self.reporter.dead_letter(self.alerter.name(), recipient, &title, error).await?;
                }
                written += usize::from(self.session.finish(&sent.claimed, &finish).await?);
            }
            self.unwritten.remove(0);
        }
        Ok(written)
    }

    /// Tells what has to be told. What cannot be told now stays for the next step.
    async fn report(&mut self, now_ms: i64) {
        let name = self.alerter.name();
        let Some(failing) = self.health.to_report(now_ms) else { return };
        let told = if failing {
            self.reporter.failing(name, &self.health.why).await
        } else {
            self.reporter.works(name).await
        };
        match told {
            Ok(()) => self.health.reported = Some(failing),
            Err(e) => {
                tracing::warn!(alerter = name, error = %e, "the alerter's state cannot be reported yet")
            }
        }
    }

    /// Ends: nothing more is claimed; what is in flight may end and is written down. What does not end in
    /// time is cut off; its claim runs out and another process sends it again.
    async fn drain(&mut self) {
        let ended = async {
            while !self.sends.is_empty() {
                self.collect().await;
            }
        };
        let in_time = tokio::time::timeout(DRAIN, ended).await.is_ok();
        self.count(clock::boot_ms());
        let written = self.write().await;
        if !in_time || written.is_err() {
            tracing::warn!(
                alerter = self.alerter.name(),
                "ends with notices in flight: they will be sent again"
            );
        }
    }
}

impl Health {
    fn succeeded(&mut self) {
        self.failing_since_ms = None;
        self.broken = false;
        self.works = true;
    }

    fn failed(&mut self, claimed: &Claimed, why: &str, now_ms: i64) {
        // A notice that failed before this process began tells since when.
        let since = if claimed.attempts > 1 { now_ms - claimed.age_ms } else { now_ms };
        self.failing_since_ms = Some(self.failing_since_ms.map_or(since, |earlier| earlier.min(since)));
        self.works = false;
        why.clone_into(&mut self.why);
    }

    /// Whether it should be told that the alerter fails (true) or works (false); None: nothing new.
    fn to_report(&self, now_ms: i64) -> Option<bool> {
        let failing = match self.failing_since_ms {
            Some(since) if self.broken || now_ms - since >= FAILING_MS => true,
            None if self.works => false,
            // It fails but not for long, or nothing was tried yet: whatever stands reported goes on standing.
            _ => return None,
        };
        (self.reported != Some(failing)).then_some(failing)
    }
}

/// One try, whatever happens in it.
async fn attempt(alerter: &dyn Alerter, claimed: &Claimed, claimed_ms: i64, metrics: &Metrics) -> Outcome {
    let limit_ms = i64::try_from(SEND_LIMIT.as_millis()).unwrap_or(i64::MAX);
    if clock::boot_ms() - claimed_ms > CLAIM_MS - limit_ms {
        return Outcome::Retry { why: "the claim had become too old to send".into(), after_ms: None };
    }
    let delivery = Delivery {
        idem_key: claimed.idem_key.clone(),
        recipient: claimed.recipient.clone(),
        notice: claimed.notice.clone(),
    };
    let started = clock::boot_us();
    let sending = AssertUnwindSafe(async {
        failpoint::pass("alerter");
        alerter.send(&delivery).await
    })
    .catch_unwind();
    let outcome = match tokio::time::timeout(SEND_LIMIT, sending).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            metrics.panic("alerter");
            Outcome::retry("the alerter panicked: this is a bug in GoTel")
        }
        Err(_) => Outcome::retry(format!("no answer within {} s", SEND_LIMIT.as_secs())),
    };
    metrics.delivery(alerter.name(), outcome.as_str(), clock::since_us(started));
    outcome
}

/// What becomes of the row. `jitter` in [0, 1).
fn finish_of(outcome: &Outcome, claimed: &Claimed, jitter: f64) -> Finish {
    let (why, wish_ms) = match outcome {
        Outcome::Accepted => return Finish::Done,
        Outcome::Refused { why } => return Finish::Dead { error: why.clone() },
        Outcome::Retry { why, after_ms } => (why, *after_ms),
        Outcome::Broken { why } => (why, Some(BROKEN_RETRY_MS)),
    };
    match next_try_ms(claimed.attempts, claimed.age_ms, wish_ms, jitter) {
        Some(after_ms) => Finish::Retry { after_ms, error: why.clone() },
        None => Finish::Dead { error: format!("given up after {} tries: {why}", claimed.attempts) },
    }
}

/// The one place where the result of a try is logged.
fn log(alerter: &str, sent: &Sent) {
    let notice = &sent.claimed.notice;
    let (app, component, event) = (&notice.app, &notice.component, notice.event.as_str());
    let (incident, attempts) = (&notice.incident, sent.claimed.attempts);
    match sent.outcome.why() {
        None => tracing::info!(alerter, %app, %component, event, %incident, attempts, "told"),
        Some(why) => {
            let result = sent.outcome.as_str();
            tracing::warn!(alerter, %app, %component, event, %incident, attempts, result, why, "not told");
        }
    }
}

/// Whether a notice tells of deliveries that failed. Its own death is logged and counted and told no
/// further: where every alerter refuses, each report would die and be reported in turn without end.
fn is_about_delivery(notice: &Notice) -> bool {
    notice.reason == Reason::System
        && [SystemKind::DeadLetter, SystemKind::DeliveryFailing].iter().any(|kind| {
            notice
                .component
                .strip_prefix(kind.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

/// How fast notices may leave, by type of alerter. The outbox folds storms into digests before; this keeps
/// many incidents at once from looking like an attack to the receiver.
/// - mail: 10 a second (design 3.4), what an ordinary relay takes from one client without greylisting it;
/// - PagerDuty: 2 a second with 10 at once; its support has named 120 a minute for an integration key;
/// - webhook: 10 a second, as for mail, since little is known of what stands behind it;
/// - the terminal: no limit.
fn limiter(kind: &str) -> Option<Arc<DefaultDirectRateLimiter>> {
    let (per_second, burst) = match kind {
        "console" => return None,
        "pagerduty" => (2, 10),
        _ => (10, 10),
    };
    let quota = Quota::per_second(NonZeroU32::new(per_second)?).allow_burst(NonZeroU32::new(burst)?);
    Some(Arc::new(RateLimiter::direct(quota)))
}

#[cfg(test)]
mod tests;
