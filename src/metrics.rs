//! The figures at `/metrics`, under the names that dashboards and tests rely on.
//!
//! One value, handed around; no global registry. Ages of loops are not kept here: they are read from
//! [`crate::lifecycle::Loops`] when the page is asked for.

mod operator;

pub use operator::OperatorFigures;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// A gauge of seconds.
type Seconds = Gauge<f64, AtomicU64>;

/// Labels with one name.
macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($field:ident),+ })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($field: String),+ }
    )+};
}

labels! {
    Replica { replica }
    Op { op }
    Class { class }
    Code { code }
    Shard { shard }
    Channel { channel }
    Delivery { channel, result }
    Cause { reason }
    Loop { name }
    Route { route, method, code }
    StateOf { state }
    PeerState { peer, state }
    PeerCall { peer, result }
    Scope { scope }
    SecretOf { secret }
    Reload { secret, result }
}

/// Every figure this process exports.
pub struct Metrics {
    /// Of the Kubernetes controller.
    pub operator: OperatorFigures,
    registry: Registry,
    db_op: Family<Op, Histogram, fn() -> Histogram>,
    db_errors: Family<Class, Counter>,
    db_retries: Family<Op, Counter>,
    fenced_out: Counter,
    takeovers: Family<Cause, Counter>,
    leader: Family<Replica, Gauge>,
    term: Gauge,
    lease_age: Seconds,
    eval_age: Seconds,
    eval_duration: Histogram,
    overdue: Gauge,
    undecidable: Counter,
    outage_seconds: Counter<f64, AtomicU64>,
    clock_jump: Counter,
    checkins: Family<Code, Counter>,
    batch_size: Histogram,
    queue_depth: Family<Shard, Gauge>,
    queue_oldest: Seconds,
    deliveries: Family<Delivery, Counter>,
    delivery_seconds: Family<Channel, Histogram, fn() -> Histogram>,
    outbox_oldest: Family<Channel, Seconds>,
    outbox_pending: Family<Channel, Gauge>,
    outbox_dead: Gauge,
    breaker_open: Family<Channel, Gauge>,
    panics: Family<Cause, Counter>,
    http: Family<Route, Counter>,
    http_seconds: Histogram,
    loop_age: Family<Loop, Seconds>,
    reservations: Family<StateOf, Gauge>,
    peer_state: Family<PeerState, Gauge>,
    peer_calls: Family<PeerCall, Counter>,
    peer_rejected: Family<Cause, Counter>,
    external_heartbeat_age: Family<Scope, Seconds>,
    secret_reload: Family<Reload, Counter>,
    secret_stale: Family<SecretOf, Gauge>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// 0.25 ms to 8 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

/// 10 ms to 40 s.
fn slow_latency() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 13))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("gotel");
        let mut m = Self {
            operator: OperatorFigures::register(&mut registry),
            registry,
            db_op: Family::new_with_constructor(latency),
            db_errors: Family::default(),
            db_retries: Family::default(),
            fenced_out: Counter::default(),
            takeovers: Family::default(),
            leader: Family::default(),
            term: Gauge::default(),
            lease_age: Seconds::default(),
            eval_age: Seconds::default(),
            eval_duration: latency(),
            overdue: Gauge::default(),
            undecidable: Counter::default(),
            outage_seconds: Counter::default(),
            clock_jump: Counter::default(),
            checkins: Family::default(),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            queue_depth: Family::default(),
            queue_oldest: Seconds::default(),
            deliveries: Family::default(),
            delivery_seconds: Family::new_with_constructor(slow_latency),
            outbox_oldest: Family::default(),
            outbox_pending: Family::default(),
            outbox_dead: Gauge::default(),
            breaker_open: Family::default(),
            panics: Family::default(),
            http: Family::default(),
            http_seconds: latency(),
            loop_age: Family::default(),
            reservations: Family::default(),
            peer_state: Family::default(),
            peer_calls: Family::default(),
            peer_rejected: Family::default(),
            external_heartbeat_age: Family::default(),
            secret_reload: Family::default(),
            secret_stale: Family::default(),
        };
        m.register();
        m
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        let s = Unit::Seconds;
        r.register_with_unit(
            "db_op",
            "Time of a database operation, retries included",
            s.clone(),
            self.db_op.clone(),
        );
        r.register("db_errors", "Database operations that failed, by class", self.db_errors.clone());
        r.register("db_retries", "Transactions run again after contention", self.db_retries.clone());
        r.register(
            "fenced_out",
            "Coordinator transactions refused because the lease was lost",
            self.fenced_out.clone(),
        );
        r.register("takeovers", "Leases taken by this replica", self.takeovers.clone());
        r.register("leader", "1 while this replica is the coordinator", self.leader.clone());
        r.register("term", "Term of the lease this replica last held", self.term.clone());
        r.register_with_unit(
            "lease_age",
            "Time since the lease was last renewed",
            s.clone(),
            self.lease_age.clone(),
        );
        r.register_with_unit(
            "eval_age",
            "Time since the last complete evaluation",
            s.clone(),
            self.eval_age.clone(),
        );
        r.register_with_unit(
            "eval_duration",
            "Time of a complete evaluation",
            s.clone(),
            self.eval_duration.clone(),
        );
        r.register("overdue", "Reservations late, failed or overrun", self.overdue.clone());
        r.register(
            "undecidable",
            "Reservations set aside because they could not be decided",
            self.undecidable.clone(),
        );
        r.register_with_unit("outage", "Own outages recorded", s.clone(), self.outage_seconds.clone());
        r.register(
            "clock_jump",
            "Jumps of the database's clock recorded by this replica",
            self.clock_jump.clone(),
        );
        r.register("checkins", "Check-ins by answered status code", self.checkins.clone());
        r.register("batch_size", "Check-ins committed together", self.batch_size.clone());
        r.register("queue_depth", "Check-ins waiting to be written", self.queue_depth.clone());
        r.register_with_unit(
            "queue_oldest",
            "Age of the oldest waiting check-in",
            s.clone(),
            self.queue_oldest.clone(),
        );
        r.register("delivery", "Deliveries tried, by alerter and result", self.deliveries.clone());
        r.register_with_unit("delivery", "Time of one try", s.clone(), self.delivery_seconds.clone());
        r.register_with_unit(
            "outbox_oldest",
            "Age of the oldest undelivered notice that is due",
            s.clone(),
            self.outbox_oldest.clone(),
        );
        r.register("outbox_pending", "Notices not delivered yet", self.outbox_pending.clone());
        r.register("outbox_dead", "Notices given up and not yet purged", self.outbox_dead.clone());
        r.register(
            "breaker_open",
            "1 while an alerter is left alone after repeated failures",
            self.breaker_open.clone(),
        );
        r.register("panics", "Panics caught and survived", self.panics.clone());
        r.register("http_requests", "HTTP requests by route, method and status code", self.http.clone());
        r.register_with_unit(
            "http_request",
            "Time to answer an HTTP request",
            s.clone(),
            self.http_seconds.clone(),
        );
        r.register_with_unit(
            "loop_age",
            "Time since a loop last ended a step",
            s.clone(),
            self.loop_age.clone(),
        );
        r.register_with_unit(
            "external_heartbeat_age",
            "Time since a heartbeat URL last accepted a call, or since the start",
            s,
            self.external_heartbeat_age.clone(),
        );
        r.register("reservations", "Reservations by state", self.reservations.clone());
        r.register("peer_state", "1 for what this replica believes of a peer", self.peer_state.clone());
        r.register("peer_calls", "Heartbeats sent to a peer", self.peer_calls.clone());
        r.register("peer_rejected", "Heartbeats not believed, by reason", self.peer_rejected.clone());
        r.register(
            "secret_reload",
            "Secrets read again: replaced, refused or unreadable",
            self.secret_reload.clone(),
        );
        r.register(
            "secret_stale",
            "1 while a secret's file is broken and what it held before is in use",
            self.secret_stale.clone(),
        );
    }

    /// The page.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    pub(crate) fn db_op(&self, op: &str, took: Duration, error: Option<&str>) {
        self.db_op.get_or_create(&Op { op: op.into() }).observe(took.as_secs_f64());
        if let Some(class) = error {
            self.db_errors.get_or_create(&Class { class: class.into() }).inc();
        }
    }

    pub(crate) fn db_retries(&self, op: &str) {
        self.db_retries.get_or_create(&Op { op: op.into() }).inc();
    }

    pub(crate) fn fenced_out(&self) {
        self.fenced_out.inc();
    }

    /// A lease was taken, because of `reason`.
    pub fn takeover(&self, reason: &str, term: i64) {
        self.takeovers.get_or_create(&Cause { reason: reason.into() }).inc();
        self.term.set(term);
    }

    /// Whether this replica leads.
    pub fn set_leader(&self, replica: &str, leads: bool) {
        self.leader.get_or_create(&Replica { replica: replica.into() }).set(i64::from(leads));
    }

    /// One complete evaluation.
    pub fn evaluated(&self, took: Duration) {
        self.eval_duration.observe(took.as_secs_f64());
    }

    /// Reservations that could not be decided.
    pub fn set_aside(&self, count: usize) {
        self.undecidable.inc_by(count as u64);
    }

    /// The database's clock jumped.
    pub fn clock_jump(&self) {
        self.clock_jump.inc();
    }

    /// An own outage.
    pub fn outage(&self, length: Duration) {
        self.outage_seconds.inc_by(length.as_secs_f64());
    }

    /// A check-in answered.
    pub fn checkin(&self, code: u16) {
        self.checkins.get_or_create(&Code { code: code.to_string() }).inc();
    }

    /// A batch written.
    pub fn batch(&self, size: usize) {
        self.batch_size.observe(size as f64);
    }

    /// Check-ins waiting in one writer's queue.
    pub fn queue_depth(&self, shard: usize, depth: usize) {
        self.queue_depth
            .get_or_create(&Shard { shard: shard.to_string() })
            .set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// Age of the oldest waiting check-in.
    pub fn queue_oldest(&self, age: Duration) {
        self.queue_oldest.set(age.as_secs_f64());
    }

    /// A delivery tried.
    pub fn delivery(&self, alerter: &str, result: &str, took: Duration) {
        let labels = Delivery { channel: alerter.into(), result: result.into() };
        self.deliveries.get_or_create(&labels).inc();
        self.delivery_seconds.get_or_create(&Channel { channel: alerter.into() }).observe(took.as_secs_f64());
    }

    /// What waits for an alerter.
    pub fn outbox(&self, alerter: &str, pending: i64, oldest: Duration) {
        let channel = Channel { channel: alerter.into() };
        self.outbox_pending.get_or_create(&channel).set(pending);
        self.outbox_oldest.get_or_create(&channel).set(oldest.as_secs_f64());
    }

    /// Dead letters not yet purged.
    pub fn outbox_dead(&self, dead: i64) {
        self.outbox_dead.set(dead);
    }

    /// Whether an alerter is left alone for a while.
    pub fn breaker(&self, alerter: &str, open: bool) {
        self.breaker_open.get_or_create(&Channel { channel: alerter.into() }).set(i64::from(open));
    }

    /// A panic that was caught.
    pub fn panic(&self, place: &str) {
        self.panics.get_or_create(&Cause { reason: place.into() }).inc();
    }

    /// An HTTP request answered.
    pub fn http(&self, route: &str, method: &str, code: u16, took: Duration) {
        let labels = Route { route: route.into(), method: method.into(), code: code.to_string() };
        self.http.get_or_create(&labels).inc();
        self.http_seconds.observe(took.as_secs_f64());
    }

    /// Age of a loop: since it last moved, and since it last did what it is for.
    pub fn loop_age(&self, name: &str, age: Duration, done: Duration) {
        self.loop_age.get_or_create(&Loop { name: name.into() }).set(age.as_secs_f64());
        if name == "evaluate" {
            self.eval_age.set(done.as_secs_f64());
        }
        if name == "lease" {
            self.lease_age.set(done.as_secs_f64());
        }
    }

    /// Reservations by state.
    pub fn reservations(&self, state: &str, count: i64) {
        self.reservations.get_or_create(&StateOf { state: state.into() }).set(count);
    }

    /// Since a heartbeat URL last accepted a call.
    pub fn external_heartbeat(&self, scope: &str, age: Duration) {
        self.external_heartbeat_age.get_or_create(&Scope { scope: scope.into() }).set(age.as_secs_f64());
    }

    /// Reservations late, failed or overrun.
    pub fn overdue(&self, count: i64) {
        self.overdue.set(count);
    }

    /// What is believed of a peer: 1 for this state, 0 for its others.
    pub fn peer_state(&self, peer: &str, state: &str, believed: bool) {
        let labels = PeerState { peer: peer.into(), state: state.into() };
        self.peer_state.get_or_create(&labels).set(i64::from(believed));
    }

    /// A heartbeat sent.
    pub fn peer_call(&self, peer: &str, result: &str) {
        self.peer_calls.get_or_create(&PeerCall { peer: peer.into(), result: result.into() }).inc();
    }

    /// A secret's file has changed, with this `result`.
    pub fn secret_reload(&self, secret: &str, result: &str) {
        self.secret_reload.get_or_create(&Reload { secret: secret.into(), result: result.into() }).inc();
    }

    /// Whether what a secret's file held before is in use, as it is broken.
    pub fn secret_stale(&self, secret: &str, stale: bool) {
        self.secret_stale.get_or_create(&SecretOf { secret: secret.into() }).set(i64::from(stale));
    }

    /// A heartbeat, or an answer to one, that is not believed.
    pub fn peer_rejected(&self, reason: &str) {
        self.peer_rejected.get_or_create(&Cause { reason: reason.into() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alert rules are written against these (reliability, 5d).
    #[test]
    fn the_names_that_people_rely_on_are_there() {
        let m = Metrics::new();
        m.takeover("vacant", 1);
        m.set_leader("eu-1", true);
        m.loop_age("evaluate", Duration::ZERO, Duration::ZERO);
        m.db_op("due", Duration::ZERO, Some("timeout"));
        m.queue_depth(0, 0);
        m.checkin(200);
        m.delivery("mail", "accepted", Duration::ZERO);
        m.outbox("mail", 0, Duration::ZERO);
        let page = m.render();
        for name in [
            "gotel_leader{replica=",
            "gotel_term ",
            "gotel_lease_age_seconds ",
            "gotel_eval_age_seconds ",
            "gotel_eval_duration_seconds_count ",
            "gotel_overdue ",
            "gotel_fenced_out_total ",
            "gotel_takeovers_total{reason=",
            "gotel_db_op_seconds_count{op=",
            "gotel_db_errors_total{class=",
            "gotel_batch_size_count ",
            "gotel_queue_depth{shard=",
            "gotel_queue_oldest_seconds ",
            "gotel_checkins_total{code=",
            "gotel_delivery_total{channel=\"mail\",result=",
            "gotel_outbox_oldest_seconds{channel=",
            "gotel_outbox_dead ",
            "gotel_outage_seconds_total ",
        ] {
            assert!(page.lines().any(|line| line.starts_with(name)), "{name}\n{page}");
        }
    }
}
