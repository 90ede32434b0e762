//! Time: calendars (row 48), long absences (row 59), and outages of GoTel's own.

use std::time::Duration;

use gotel::reservation::evidence::Evidence;
use gotel::reservation::{Draft, Settings, deadline};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::SOON;
use super::invariants::{Known, events_of, hold};
use super::world::{World, hook_yaml};
use crate::util::db::{TestDb, on_every_database};
use crate::util::receiver::Receiver;

/// The next moments a cron line expects a check-in after `after`, in UTC.
fn upcoming(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let now_ms = after.parse::<Timestamp>().unwrap().as_millisecond();
    let draft = Draft {
        cron: Some(cron.into()),
        time_zone: Some(zone.into()),
        owner: Some("ops".into()),
        ..Draft::default()
    };
    let settings = Settings::parse(&draft, &[], now_ms).unwrap();
    let evidence = Evidence { created_ms: now_ms, ..Evidence::default() };
    let times = deadline::upcoming(&settings, &evidence, now_ms, count);
    times.into_iter().map(|ms| Timestamp::from_millisecond(ms).unwrap().to_string()).collect()
}

#[test]
fn row_48_calendars_turn_as_their_countries_say() {
    let dublin = upcoming("30 2 * * *", "Europe/Dublin", "2026-03-28T00:00:00Z", 3);
    assert_eq!(dublin, ["2026-03-28T02:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T01:30:00Z"]);
    let leap = upcoming("0 12 29 2 *", "UTC", "2026-01-01T00:00:00Z", 2);
    assert_eq!(leap, ["2028-02-29T12:00:00Z", "2032-02-29T12:00:00Z"]);
    let after_2038 = upcoming("14 3 19 1 *", "UTC", "2038-01-19T03:13:59Z", 2);
    assert_eq!(after_2038, ["2038-01-19T03:14:00Z", "2039-01-19T03:14:00Z"]);
    let year = upcoming("59 23 31 12 *", "America/New_York", "2026-12-31T23:59:59Z", 1);
    assert_eq!(year, ["2027-01-01T04:59:00Z"]);
    // Half an hour of summer time, and clocks that go back: twice 1:45, one run.
    let lord_howe = upcoming("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2);
    assert_eq!(lord_howe, ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]);
}

on_every_database!(row_48_a_cron_reservation_shows_its_next_times_in_its_own_zone);
async fn row_48_a_cron_reservation_shows_its_next_times_in_its_own_zone(db: TestDb) {
    let hook = Receiver::webhook().await;
    let world = World::start(db, &hook_yaml(&hook)).await;
    let body = json!({
        "app": "billing", "component": "nightly", "cron": "30 2 * * *", "time_zone": "Europe/Dublin",
        "owner": "ops", "notify": "ops@example.org",
    });
    assert_eq!(world.post("/reservation", body).await.0, 200);
    let shown = world.json("/reservation/billing/nightly").await;
    let times: Vec<Timestamp> = shown["result"]["upcoming"]
        .as_array()
        .unwrap()
        .iter()
        .map(|time| time.as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(times.len(), 5);
    for (n, time) in times.iter().enumerate() {
        let there = time.in_tz("Europe/Dublin").unwrap();
        assert_eq!((there.hour(), there.minute()), (2, 30), "{there}");
        assert_eq!(
            there.date(),
            times[0].in_tz("Europe/Dublin").unwrap().date() + jiff::Span::new().days(n as i64)
        );
    }
    let deadline: Timestamp = shown["result"]["deadline"].as_str().unwrap().parse().unwrap();
    assert!(deadline > times[0], "an hour of grace");

    // The night before Dublin's clocks go forward, in 2038: the next 02:30 does not exist there.
    let eve = "2038-03-27T12:00:00Z".parse::<Timestamp>().unwrap().as_millisecond();
    world.sql(&format!("UPDATE reservation SET last_ok_ms = {eve}, due_ms = 0")).await;
    world.becomes(&format!("SELECT COUNT(*) FROM reservation WHERE due_ms > {eve}"), 1).await;
    let shown = world.json("/reservation/billing/nightly").await;
    assert_eq!(
        shown["result"]["deadline"], "2038-03-28T02:30:00Z",
        "03:30 there, once, and an hour of grace"
    );
    // And back: 02:30 comes twice, and is one run.
    let eve = "2038-10-30T12:00:00Z".parse::<Timestamp>().unwrap().as_millisecond();
    world.sql(&format!("UPDATE reservation SET last_ok_ms = {eve}, due_ms = 0")).await;
    world.becomes(&format!("SELECT COUNT(*) FROM reservation WHERE due_ms > {eve}"), 1).await;
    let shown = world.json("/reservation/billing/nightly").await;
    assert_eq!(shown["result"]["deadline"], "2038-10-31T03:30:00Z");

    // In 2039 nothing is different for the database.
    let far = "UPDATE reservation SET last_ok_ms = 2177452800000, due_ms = 0";
    world.sql(far).await;
    world.becomes("SELECT COUNT(*) FROM reservation WHERE due_ms > 2177452800000", 1).await;
    let shown = world.json("/reservation/billing/nightly").await;
    assert!(shown["result"]["last_checkin_str"].as_str().unwrap().starts_with("2039-01-01"), "{shown}");
    assert!(shown["result"]["deadline"].as_str().unwrap().starts_with("2039-01-0"), "{shown}");
    hold(&world, &Known { on_time: &["billing"], ..Known::default() }).await;
}

/// What the webhook heard, by a word for each.
fn told(hook: &Receiver) -> (usize, usize, usize, usize) {
    let requests: Vec<Value> = hook.requests().iter().map(|request| request.json()).collect();
    let digests = requests.iter().filter(|one| one["event"] == "digest").count();
    let of_digests: u64 = requests.iter().filter_map(|one| one["digest"]["count"].as_u64()).sum();
    let single = requests.iter().filter(|one| one["event"] == "trigger" && one["reason"] != "system").count();
    let outages = events_of(hook).iter().filter(|one| one.component == "outage").count();
    (outages, single, digests, usize::try_from(of_digests).unwrap())
}

on_every_database!(row_59_after_twenty_minutes_away_old_misses_come_at_once_and_the_rest_as_one_digest);
async fn row_59_after_twenty_minutes_away_old_misses_come_at_once_and_the_rest_as_one_digest(db: TestDb) {
    let hook = Receiver::webhook().await;
    let mut world = World::start(db, &hook_yaml(&hook)).await;
    // 9,700 that are well, 5 that were late before, 295 whose deadline fell into the absence.
    world.reserve("well", "one", json!({ "frequency": 24 })).await;
    world.reserve("old", "one", Value::Null).await;
    world.reserve("lost", "one", json!({ "frequency": 10, "time_units": "seconds" })).await;
    for app in ["well", "old", "lost"] {
        world.signal(app, "one", "").await;
    }
    world.kill9();
    world.copies("well", "one", 9_699).await;
    world.copies("old", "one", 4).await;
    world.copies("lost", "one", 294).await;
    let minutes = Duration::from_secs(20 * 60);
    world.time_passes(minutes).await;
    world.was_away(minutes).await;
    world.sql("UPDATE reservation SET last_ok_ms = last_ok_ms - 3700000 WHERE app = 'old'").await;
    // The last check-in came just before the end.
    world
        .sql("UPDATE reservation SET last_ok_ms = (SELECT alive_ms FROM meta) - 2000 WHERE app = 'lost'")
        .await;
    world.start_again().await;

    world.becomes("SELECT COUNT(*) FROM outage", 1).await;
    hook.received(6, SOON).await;
    assert_eq!(told(&hook), (1, 5, 0, 0), "the outage, and five old misses at once");
    world.becomes("SELECT COUNT(*) FROM incident WHERE app = 'lost'", 295).await;
    assert_eq!(told(&hook), (1, 5, 0, 0), "the others wait until every job had its time");
    world.sql("UPDATE delivery SET next_ms = 0 WHERE state = 'pending'").await;
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state IN ('pending', 'inflight')", 0).await;
    assert_eq!(told(&hook), (1, 5, 1, 295), "and come as one digest");
    hold(&world, &Known { hooks: &[("hook", &hook)], on_time: &["well"], ..Known::default() }).await;
}

on_every_database!(an_outage_of_two_hours_with_five_hundred_jobs_is_one_digest_and_every_true_miss);
async fn an_outage_of_two_hours_with_five_hundred_jobs_is_one_digest_and_every_true_miss(db: TestDb) {
    let hook = Receiver::webhook().await;
    let mut world = World::start(db, &hook_yaml(&hook)).await;
    world.reserve("job", "template", json!({ "grace": "30s" })).await;
    world.signal("job", "template", "").await;
    world.copies("job", "template", 499).await;
    world.kill9();
    let hours = Duration::from_secs(2 * 3600);
    world.time_passes(hours).await;
    world.was_away(hours).await;
    world.start_again().await;
    world.becomes("SELECT COUNT(*) FROM outage", 1).await;
    // Half of them come back in time.
    for n in 0..249 {
        world.signal("job", &format!("c{n}"), "").await;
    }
    world.becomes("SELECT COUNT(*) FROM reservation WHERE due_ms = 0", 0).await;
    hook.received(1, SOON).await;
    assert_eq!(told(&hook), (1, 0, 0, 0), "nobody is late yet");

    // Eleven minutes on, with GoTel there.
    world.time_passes(Duration::from_secs(11 * 60)).await;
    let late = "SELECT COUNT(*) FROM incident WHERE app = 'job' AND closed_ms IS NULL";
    world.becomes(late, 251).await;
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state IN ('pending', 'inflight')", 0).await;
    assert_eq!(told(&hook), (1, 0, 1, 251));
    hold(&world, &Known { hooks: &[("hook", &hook)], ..Known::default() }).await;
}
