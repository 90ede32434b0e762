//! What holds after every fault (reliability, 5c), checked over the database, the receivers and the metrics.
//!
//! Promises: each check names the first thing that breaks it.
//! Does not promise: to wait for more than undelivered notices; the test has healed its fault before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sqlx::{AssertSqlSafe, Row};

use super::SOON;
use super::world::World;
use crate::util::db::TestDb;
use crate::util::load::Acknowledged;
use crate::util::node::{Node, metric};
use crate::util::receiver::Receiver;
use crate::util::wait::eventually;

/// What the test knows besides.
#[derive(Default)]
pub struct Known<'a> {
    /// What was answered 2xx.
    pub acknowledged: &'a [Acknowledged],
    /// Webhooks by the name of their alerter.
    pub hooks: &'a [(&'a str, &'a Receiver)],
    /// Applications whose jobs were all on time.
    pub on_time: &'a [&'a str],
    /// What must be seen nowhere.
    pub secrets: &'a [&'a str],
}

/// Asserts all that applies.
pub async fn hold(world: &World, known: &Known<'_>) {
    acknowledged_are_stored(&world.db, known.acknowledged).await;
    one_open_incident(&world.db).await;
    every_miss_is_told(&world.db, known.hooks).await;
    on_time_is_left_alone(&world.db, known.on_time).await;
    silence_is_kept(&world.db).await;
    for (_, hook) in known.hooks {
        no_resolve_before_its_trigger(&events_of(hook));
    }
    loops_move(world).await;
    nothing_is_leaked(world, known).await;
}

/// I1.
pub async fn acknowledged_are_stored(db: &TestDb, acknowledged: &[Acknowledged]) {
    if acknowledged.is_empty() {
        return;
    }
    let mut connection = db.connect().await;
    let rows = sqlx::query("SELECT note FROM checkin WHERE note IS NOT NULL");
    let rows = rows.fetch_all(&mut connection).await.expect("the history can be read");
    let stored: BTreeSet<Vec<u8>> = rows.iter().map(|row| row.get(0)).collect();
    let missing: Vec<_> = acknowledged.iter().filter(|a| !stored.contains(a.note.as_bytes())).collect();
    assert!(
        missing.is_empty(),
        "I1: {} of {} acknowledged check-ins are missing, such as {:?}",
        missing.len(),
        acknowledged.len(),
        missing[0]
    );
}

/// I2.
pub async fn one_open_incident(db: &TestDb) {
    let twice = "SELECT COUNT(*) FROM (SELECT reservation_id FROM incident WHERE closed_ms IS NULL AND \
                 reservation_id IS NOT NULL GROUP BY reservation_id HAVING COUNT(*) > 1) t";
    assert_eq!(db.number(twice).await, 0, "I2: a reservation has two open incidents");
    let unkeyed = "SELECT COUNT(*) FROM incident WHERE (closed_ms IS NULL) <> (open_key IS NOT NULL)";
    assert_eq!(db.number(unkeyed).await, 0, "I2: open_key and closed_ms of an incident disagree");
    let same = "SELECT COUNT(*) FROM (SELECT dedup_key FROM incident WHERE reservation_id IS NOT NULL \
                GROUP BY dedup_key HAVING COUNT(*) > 1) t";
    assert_eq!(db.number(same).await, 0, "I2: one miss made two incidents");
}

/// I4: each incident of a job was queued for somebody, and what counts as done did arrive.
pub async fn every_miss_is_told(db: &TestDb, hooks: &[(&str, &Receiver)]) {
    let untold = "SELECT COUNT(*) FROM incident i WHERE i.reservation_id IS NOT NULL AND NOT EXISTS \
                  (SELECT 1 FROM delivery d WHERE d.incident_id = i.id)";
    assert_eq!(db.number(untold).await, 0, "I4: an incident was queued for nobody");
    for (name, hook) in hooks {
        let waiting = format!(
            "SELECT COUNT(*) FROM delivery WHERE alerter = '{name}' AND state IN ('pending', 'inflight') \
             AND grp IS NULL"
        );
        db.becomes(&waiting, 0).await;
        let heard: BTreeSet<String> = hook
            .requests()
            .iter()
            .map(|one| one.json()["incident"].as_str().unwrap_or_default().into())
            .collect();
        let mut connection = db.connect().await;
        // What went into a digest was told by it; a long one names only the first 50.
        let told = format!(
            "SELECT DISTINCT CASE WHEN state = 'digested' THEN digest ELSE incident_id END FROM delivery \
             WHERE alerter = '{name}' AND event = 'trigger' AND state IN ('done', 'digested')"
        );
        let rows = sqlx::query(AssertSqlSafe(told)).fetch_all(&mut connection).await;
        for row in rows.expect("the outbox can be read") {
            let incident: String = row.get(0);
            assert!(heard.contains(&incident), "I4: {name} never heard of {incident}, said to be told");
        }
    }
}

/// I5.
pub async fn on_time_is_left_alone(db: &TestDb, apps: &[&str]) {
    for app in apps {
        let query = format!("SELECT COUNT(*) FROM incident WHERE app = '{app}'");
        assert_eq!(db.number(&query).await, 0, "I5: {app} was on time and got an incident");
    }
}

/// I6: nothing was sent in a snooze or after a checkout, but for the end. What was on its way when it began may arrive
/// as long as a send may take.
pub async fn silence_is_kept(db: &TestDb) {
    const SEND_MS: i64 = 30_000;
    let of = "SELECT COUNT(*) FROM delivery d JOIN incident i ON i.id = d.incident_id \
              JOIN reservation r ON r.id = i.reservation_id WHERE d.state = 'done'";
    let snoozed = format!(
        "{of} AND r.checked_out_ms IS NULL AND d.done_ms > r.snooze_from_ms + {SEND_MS} \
         AND d.done_ms < r.snooze_until_ms"
    );
    assert_eq!(db.number(&snoozed).await, 0, "I6: something was told in a snooze");
    let gone = format!(
        "{of} AND d.event IN ('trigger', 'remind', 'escalate') AND i.ending = 'checked_out' \
         AND d.done_ms > r.checked_out_ms + {SEND_MS}"
    );
    assert_eq!(db.number(&gone).await, 0, "I6: something was told after a checkout");
}

/// One thing a receiver heard of one incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub incident: String,
    pub event: String,
    pub app: String,
    pub component: String,
    /// By way of a digest.
    pub digest: bool,
    /// Whether it is of GoTel's own.
    pub system: bool,
    /// Names this delivery; the same on each try.
    pub key: String,
}

/// What a webhook heard, in order; the lines of digests each for itself.
pub fn events_of(hook: &Receiver) -> Vec<Heard> {
    hook.requests()
        .iter()
        .flat_map(|request| told_in(&request.json(), request.header("idempotency-key")))
        .collect()
}

fn told_in(body: &Value, key: &str) -> Vec<Heard> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |line: &Value, digest| Heard {
        incident: text(&line["incident"]),
        event: text(&line["event"]),
        app: text(&line["app"]),
        component: text(&line["component"]),
        digest,
        system: line["reason"] == "system",
        key: key.to_owned(),
    };
    match body["digest"]["alerts"].as_array() {
        Some(lines) => lines.iter().map(|line| one(line, true)).collect(),
        None => vec![one(body, false)],
    }
}

/// I7: nothing of an incident is told as new once its end was told, and no end without its beginning.
pub fn no_resolve_before_its_trigger(heard: &[Heard]) {
    let mut ended: BTreeMap<&str, bool> = BTreeMap::new();
    for one in heard {
        let known = ended.get(one.incident.as_str()).copied();
        match one.event.as_str() {
            "resolve" | "cancel" => {
                assert!(
                    known.is_some(),
                    "I7: {} was resolved before it was told of: {heard:#?}",
                    one.incident
                );
                ended.insert(&one.incident, true);
            }
            _ => {
                assert_ne!(known, Some(true), "I7: {} was told of again after its end", one.incident);
                ended.insert(&one.incident, false);
            }
        }
    }
}

/// I8: `/livez` says so, and no loop is older than 30 s; those that rest longer are given time for a step.
pub async fn loops_move(node: &Node) {
    loops_move_by(async |path: &'static str| node.get(path).await).await;
}

/// The same by a way to ask for a page.
pub async fn loops_move_by(get: impl AsyncFn(&'static str) -> (u16, String)) {
    eventually(SOON, "every loop to move (I8)", async || {
        let (status, text) = get("/livez").await;
        assert_eq!(status, 200, "I8: {text}");
        let (status, page) = get("/metrics").await;
        assert_eq!(status, 200, "{page}");
        assert_eq!(metric(&page, "gotel_panics_total"), 0.0, "a part of GoTel panicked");
        let ages = page.lines().filter(|line| line.starts_with("gotel_loop_age_seconds{"));
        match ages.into_iter().find(|line| metric(line, "") >= 30.0) {
            None => Ok(()),
            Some(old) => Err(old.to_owned()),
        }
    })
    .await;
}

/// I10: no secret in the log, on a page, in an answer or in a notice.
pub async fn nothing_is_leaked(world: &World, known: &Known<'_>) {
    if known.secrets.is_empty() {
        return;
    }
    let mut seen = vec![("the log".to_owned(), world.output())];
    let pages = ["/status", "/badguests", "/nodes", "/metrics", "/livez", "/readyz", "/openapi.json"];
    for page in pages.into_iter().chain(["/reservation", "/is-coordinator", "/nowhere"]) {
        seen.push((page.to_owned(), world.get(page).await.1));
    }
    for (name, hook) in known.hooks {
        let bodies = hook.requests().into_iter().map(|r| String::from_utf8_lossy(&r.body).into_owned());
        seen.push((format!("what {name} was sent"), bodies.collect()));
    }
    for (place, text) in &seen {
        no_secret_in(place, text, known.secrets);
    }
}

/// I10, of one text.
pub fn no_secret_in(place: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "I10: {place} holds the secret {secret}: {line:?}");
    }
}
