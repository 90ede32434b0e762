//! The one checker in which every test of several replicas ends (reliability, 5c): over the database's history,
//! the receivers', the replicas' figures, and what clients know.
//!
//! Promises: each check names the first thing that breaks its invariant. [`Cast::end`] waits for what is still to
//! be told, within its bound; the test has healed its fault before.
//! Does not promise: to know of a fault's bound by itself: each test gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Row;

use super::audit;
use super::fleet::{Fleet, SLACK, SOON};
use crate::faults::invariants::{
    Heard, acknowledged_are_stored, events_of, every_miss_is_told, loops_move, no_resolve_before_its_trigger,
    on_time_is_left_alone, one_open_incident, silence_is_kept,
};
use crate::util::load::{Acknowledged, Load};
use crate::util::node::metric;
use crate::util::receiver::Receiver;
use crate::util::wait::{eventually, now};

/// What those who are on time promise, in seconds: longer than any fault here without an outage of ours.
const ON_TIME_S: u64 = 120;

/// What those who will miss promise, in seconds: the shortest there is.
const SHORT_S: u64 = 10;

/// What those promise who came back, in seconds.
const LONG_S: u64 = 36_000;

/// Check-ins that may wait in one replica: two writers' queues.
const QUEUES: f64 = 2.0 * 4096.0;

/// How long an interrupted send keeps its claim, and a try more.
const CLAIM: Duration = Duration::from_secs(150);

/// A job that went silent.
#[derive(Clone, Debug)]
pub struct Miss {
    component: String,
    /// Its deadline is not before this,
    not_before: Instant,
    /// and not after this.
    due: Instant,
}

/// The jobs of a test: some on time all along, some that miss, one snoozed, one checked out.
pub struct Cast {
    keys: Vec<(String, String)>,
    load: Option<Load>,
    acknowledged: Vec<Acknowledged>,
    refused: BTreeMap<u16, u64>,
    unanswered: u64,
    misses: Vec<Miss>,
    /// How many of them, from the first, have come back.
    back: usize,
}

/// What a fault may lead to.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// How long after its deadline a miss may be told.
    pub bound: Duration,
    /// A process or the database died, or a network was silent, while something may have been on its way:
    /// the same notice may arrive again under the same key.
    pub repeats: bool,
    /// GoTel's own troubles that are told: their components.
    pub troubles: &'static [&'static str],
}

impl Allowed {
    /// Nothing but what is late, so soon after its deadline.
    pub fn within(bound: Duration) -> Self {
        Self { bound: bound + SLACK, repeats: false, troubles: &[] }
    }

    /// Notices may be repeated, under their keys.
    pub fn repeats(self) -> Self {
        Self { repeats: true, ..self }
    }

    /// These troubles of GoTel's own may be told.
    pub fn troubles(self, troubles: &'static [&'static str]) -> Self {
        Self { troubles, ..self }
    }
}

impl Cast {
    /// Reserves, and begins to check in for those that are on time.
    pub async fn of(fleet: &Fleet) -> Self {
        let mut keys = Vec::new();
        for n in 0..8 {
            let component = n.to_string();
            fleet.reserve("on-time", &component, ON_TIME_S).await;
            keys.push(("on-time".to_owned(), component));
        }
        for app in ["snoozed", "gone"] {
            fleet.reserve(app, "one", SHORT_S).await;
            fleet.check_in(app, "one").await;
        }
        let nap = json!({ "app": "snoozed", "component": "one", "duration": "1h" });
        fleet.post("/snooze", Some(nap)).await;
        fleet.post("/checkout", Some(json!({ "app": "gone", "component": "one" }))).await;
        let mut cast = Self {
            keys,
            load: None,
            acknowledged: Vec::new(),
            refused: BTreeMap::new(),
            unanswered: 0,
            misses: Vec::new(),
            back: 0,
        };
        cast.work(fleet, 4).await;
        cast
    }

    /// That many clients check in from now on, in the place of those before.
    pub async fn work(&mut self, fleet: &Fleet, clients: usize) {
        self.rest().await;
        let load = fleet.load(&self.keys, clients);
        eventually(SOON, "check-ins", async || load.acknowledged() >= 20).await;
        self.load = Some(load);
    }

    /// Nobody checks in any more.
    pub async fn rest(&mut self) {
        let Some(load) = self.load.take() else { return };
        let report = load.stop().await;
        self.acknowledged.extend(report.acknowledged);
        self.unanswered += report.unanswered;
        for (status, times) in report.refused {
            *self.refused.entry(status).or_default() += times;
        }
    }

    /// Waits until this many further check-ins were acknowledged.
    #[track_caller]
    pub fn further(&self, count: u64, within: Duration) -> impl Future<Output = ()> {
        let load = self.load.as_ref().expect("somebody checks in");
        let before = load.acknowledged();
        eventually(within, format!("{count} further check-ins"), async move || {
            let so_far = load.acknowledged() - before;
            if so_far >= count { Ok(()) } else { Err(format!("{so_far}")) }
        })
    }

    /// Requests of those that rest that got no answer, and how often each status but 2xx was answered.
    pub fn denied(&self) -> (u64, &BTreeMap<u16, u64>) {
        (self.unanswered, &self.refused)
    }

    /// A job checks in once more, and never again. Its deadline is ten seconds from now.
    pub async fn goes_silent(&mut self, fleet: &Fleet) -> String {
        let component = self.misses.len().to_string();
        fleet.reserve("silent", &component, SHORT_S).await;
        let sent = fleet.check_in("silent", &component).await;
        let short = Duration::from_secs(SHORT_S);
        self.misses.push(Miss { component: component.clone(), not_before: sent + short, due: now() + short });
        component
    }

    /// How many are silent now.
    pub fn silent(&self) -> usize {
        self.misses.len() - self.back
    }

    /// The first of those that are silent comes back, if all have been told of it.
    pub async fn one_comes_back(&mut self, fleet: &Fleet) {
        let component = self.misses[self.back].component.clone();
        if told_by_hook(fleet, &component).is_some() && told_by_pager(fleet, &component).is_some() {
            comes_back(fleet, &component).await;
            self.back += 1;
        }
    }

    /// Waits until every miss so far is told to all, each within `bound` after its deadline and none before.
    pub async fn misses_are_told(&self, fleet: &Fleet, bound: Duration) {
        for miss in &self.misses {
            for (name, told_at) in
                [("hook", told_by_hook as fn(&Fleet, &str) -> Option<Instant>), ("pager", told_by_pager)]
            {
                let what = format!("I4: {name} to be told of silent/{}", miss.component);
                // What is left of its bound, and a little, so that one who comes late is called late.
                let left = (miss.due + bound).saturating_duration_since(now()) + SLACK;
                let at = eventually(left, what, async || told_at(fleet, &miss.component)).await;
                let late = at.saturating_duration_since(miss.due);
                assert!(
                    late <= bound,
                    "I4: {name} was told of {miss:?} {late:?} after its deadline, bound {bound:?}"
                );
                assert!(at >= miss.not_before, "I5: {name} was told of {miss:?} before its deadline");
            }
        }
    }

    /// The end: all misses are told, the jobs come back, that is told too, and every invariant holds.
    pub async fn end(self, fleet: &mut Fleet, allowed: Allowed) {
        self.misses_are_told(fleet, allowed.bound).await;
        for miss in &self.misses[self.back..] {
            comes_back(fleet, &miss.component).await;
        }
        let open = "SELECT COUNT(*) FROM incident WHERE closed_ms IS NULL AND reservation_id IS NOT NULL";
        settles(fleet, open).await;
        settles(fleet, "SELECT COUNT(*) FROM delivery WHERE state IN ('pending', 'inflight')").await;
        self.stands(fleet, allowed).await;
    }

    /// Every invariant holds as things are, while what a gap has left behind still waits for its ten minutes.
    pub async fn stands(mut self, fleet: &mut Fleet, allowed: Allowed) {
        self.rest().await;
        hold(fleet, &self.acknowledged, allowed).await;
        assert!(!self.acknowledged.is_empty(), "nobody checked in: the test proves nothing");
    }
}

/// A silent job checks in, and promises less from then on, so that it is not late again.
async fn comes_back(fleet: &Fleet, component: &str) {
    fleet.check_in("silent", component).await;
    fleet.reserve("silent", component, LONG_S).await;
}

/// Every invariant that can be read off.
async fn hold(fleet: &mut Fleet, acknowledged: &[Acknowledged], allowed: Allowed) {
    let db = &fleet.db;
    acknowledged_are_stored(db, acknowledged).await; // I1
    one_open_incident(db).await; // I2
    silence_is_kept(db).await; // I6
    audit::terms_never_go_back(db).await; // I3
    every_miss_is_told(db, &[("hook", &fleet.hook)]).await; // I4
    pager_heard_what_is_done(fleet).await;
    on_time_is_left_alone(db, &["on-time", "snoozed", "gone"]).await; // I5, I6
    let heard = events_of(&fleet.hook);
    nothing_is_told_of_others(&heard, allowed.troubles);
    nothing_is_repeated("hook", sendings(&fleet.hook), allowed.repeats);
    nothing_is_repeated("pager", pages(&fleet.pager), allowed.repeats);
    no_resolve_before_its_trigger(&heard); // I7
    pager_resolves_after_its_trigger(fleet).await;
    for index in 0..fleet.members.len() {
        if !fleet.runs(index) {
            continue;
        }
        let node = &fleet[index].node;
        loops_move(node).await; // I8
        let page = node.get("/metrics").await.1;
        let waiting = metric(&page, "gotel_queue_depth");
        assert!(waiting <= QUEUES, "I11: {waiting} check-ins wait in {}", fleet[index].name);
    }
}

/// I4, for PagerDuty: what counts as done has arrived.
async fn pager_heard_what_is_done(fleet: &Fleet) {
    let mut connection = fleet.db.connect().await;
    let done = "SELECT DISTINCT i.dedup_key FROM delivery d JOIN incident i ON i.id = d.incident_id \
                WHERE d.alerter = 'pager' AND d.event = 'trigger' AND d.state = 'done'";
    let rows = sqlx::query(done).fetch_all(&mut connection).await.expect("the outbox can be read");
    let heard: BTreeSet<String> = pages(&fleet.pager).into_iter().map(|page| page.about).collect();
    for row in rows {
        let key: String = row.get(0);
        assert!(heard.contains(&key), "I4: PagerDuty never heard of {key}, said to be told: {heard:#?}");
    }
    let dead = "SELECT COUNT(*) FROM delivery WHERE state = 'dead'";
    assert_eq!(fleet.db.number(dead).await, 0, "I4: a notice was given up, and every receiver works");
}

/// I5 and I6: only those who were silent are spoken of, and GoTel's own troubles where they are allowed.
fn nothing_is_told_of_others(heard: &[Heard], troubles: &[&str]) {
    for one in heard {
        let expected =
            if one.system { troubles.contains(&one.component.as_str()) } else { one.app == "silent" };
        assert!(expected, "I5: nobody should have been told of this: {one:#?}");
    }
}

/// One request to a receiver, in its own terms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sending {
    /// The incident, or PagerDuty's key for it.
    about: String,
    event: String,
    /// What the receiver folds repeats by.
    key: String,
}

fn sendings(hook: &Receiver) -> Vec<Sending> {
    let requests = hook.requests();
    let one = |request: &crate::util::receiver::Request| {
        let body = request.json();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let event = format!("{} {}", text("event"), body["event_no"]);
        Sending { about: text("incident"), event, key: request.header("idempotency-key").to_owned() }
    };
    requests.iter().map(one).collect()
}

fn pages(pager: &Receiver) -> Vec<Sending> {
    let requests = pager.requests();
    let one = |request: &crate::util::receiver::Request| {
        let body = request.json();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Sending { about: text("dedup_key"), event: text("event_action"), key: text("dedup_key") }
    };
    requests.iter().map(one).collect()
}

/// I5: per target, incident and event one sending; more only under the same key, where a fault allows it.
fn nothing_is_repeated(target: &str, sendings: Vec<Sending>, allowed: bool) {
    let mut keys: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for one in sendings {
        keys.entry((one.about, one.event)).or_default().push(one.key);
    }
    for (what, keys) in keys {
        let distinct: BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), 1, "I5: {target} was told {what:?} under several keys: {keys:#?}");
        assert!(allowed || keys.len() == 1, "I5: {target} was told {what:?} {} times", keys.len());
    }
}

/// I7, for PagerDuty: a key is never resolved before it was triggered, nor triggered after. What was over before
/// anybody could be told is a resolve alone.
async fn pager_resolves_after_its_trigger(fleet: &Fleet) {
    let mut connection = fleet.db.connect().await;
    let over = "SELECT DISTINCT i.dedup_key FROM delivery d JOIN incident i ON i.id = d.incident_id \
                WHERE d.alerter = 'pager' AND d.event = 'recovered'";
    let rows = sqlx::query(over).fetch_all(&mut connection).await.expect("the outbox can be read");
    let mut ended: BTreeMap<String, bool> = rows.iter().map(|row| (row.get(0), true)).collect();
    for page in pages(&fleet.pager) {
        let known = ended.get(&page.about).copied();
        let resolve = page.event == "resolve";
        assert!(!resolve || known.is_some(), "I7: {} was resolved before it was triggered", page.about);
        assert!(resolve || known != Some(true), "I7: {} was triggered after its end", page.about);
        ended.insert(page.about, resolve);
    }
}

fn told_by_hook(fleet: &Fleet, component: &str) -> Option<Instant> {
    let requests = fleet.hook.requests();
    let mut about = requests.iter().filter(|request| {
        let body = request.json();
        let is = |one: &serde_json::Value| {
            one["app"] == "silent" && one["component"] == component && one["event"] == "trigger"
        };
        is(&body) || body["digest"]["alerts"].as_array().is_some_and(|lines| lines.iter().any(is))
    });
    about.next().map(|request| request.at)
}

fn told_by_pager(fleet: &Fleet, component: &str) -> Option<Instant> {
    let requests = fleet.pager.requests();
    let mut about = requests.iter().filter(|request| {
        let body = request.json();
        let payload = &body["payload"];
        body["event_action"] == "trigger" && payload["group"] == "silent" && payload["component"] == component
    });
    about.next().map(|request| request.at)
}

/// Waits until a query's number is 0: an interrupted send is repeated once its claim has run out.
async fn settles(fleet: &Fleet, query: &str) {
    let mut connection = fleet.db.connect().await;
    eventually(CLAIM, format!("{query} to be 0"), async || {
        let row = sqlx::query(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await;
        match row.map(|row| row.get::<i64, _>(0)) {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
