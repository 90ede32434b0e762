//! What pages and the API read.

use gotel::reservation::snooze::Snooze;
use gotel::reservation::{Draft, JobKey, SignalKind, State};
use gotel::store::{CheckIn, Filter, OutboxState};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, every, key, settings};

async fn apps(f: &Fixture, filter: Filter) -> Vec<String> {
    let page = f.store.list(&filter, None, 100).await.unwrap();
    page.items.into_iter().map(|r| r.app).collect()
}

/// `bad` failed, `snoozed` snoozed, `good` in time, `new` waiting, `gone` checked out.
async fn house(f: &mut Fixture) {
    for app in ["bad", "snoozed", "good", "new", "gone"] {
        let draft = Draft { owner: Some(format!("Owner of {app}")), ..every("1h") };
        f.reserve(app, draft).await;
    }
    f.check_in(&key("bad"), SignalKind::Fail).await;
    f.check_in(&key("good"), SignalKind::Ok).await;
    f.store.checkout(&key("gone")).await.unwrap();
    let hour = |now| Snooze { from_ms: now, until_ms: now + HOUR };
    f.store.snooze(&key("snoozed"), hour, None, None).await.unwrap();
    f.evaluate().await;
}

on_every_database!(a_list_shows_what_was_asked_for);
async fn a_list_shows_what_was_asked_for(db: TestDb) {
    let mut f = Fixture::new(db).await;
    house(&mut f).await;
    let all = Filter::default;
    assert_eq!(apps(&f, all()).await, ["bad", "snoozed", "good", "new"]);
    assert_eq!(apps(&f, Filter { bad: true, ..all() }).await, ["bad"]);
    assert_eq!(apps(&f, Filter { snoozed: true, ..all() }).await, ["snoozed"]);
    assert_eq!(apps(&f, Filter { state: Some(State::OnTime), ..all() }).await, ["good"]);
    assert_eq!(apps(&f, Filter { state: Some(State::Waiting), ..all() }).await, ["snoozed", "new"]);
    assert_eq!(apps(&f, Filter { app: Some("good".into()), ..all() }).await, ["good"]);
    assert_eq!(apps(&f, Filter { app: Some("GOOD".into()), ..all() }).await, Vec::<String>::new());
    assert_eq!(apps(&f, Filter { owner: Some("Owner of new".into()), ..all() }).await, ["new"]);
    let two = Filter { q: Some("owner OF".into()), state: Some(State::OnTime), ..all() };
    assert_eq!(apps(&f, two).await, ["good"]);
    let (bad, _) = f.store.reservation(&key("bad")).await.unwrap().unwrap();
    assert!(bad.incident.is_some() && bad.state == State::Failed);
    f.pass(2 * HOUR).await;
    assert_eq!(apps(&f, Filter { snoozed: true, ..all() }).await, Vec::<String>::new(), "it is over");
    f.sql("UPDATE reservation SET state = 'garbage', settings = '{}' WHERE app = 'new'").await;
    assert_eq!(apps(&f, all()).await, ["bad", "snoozed", "good", "new"], "one bad row hides no other");
    let (new, _) = f.store.reservation(&key("new")).await.unwrap().unwrap();
    assert!(new.settings.unwrap_err().contains("garbage"));
    f.store.counts().await.unwrap();
}

on_every_database!(a_search_takes_wildcards_for_what_they_are);
async fn a_search_takes_wildcards_for_what_they_are(db: TestDb) {
    let f = Fixture::new(db).await;
    for app in ["100%", "100x", "a_b", "axb", "wow!", "wow", "Été", "it's", "back\\slash"] {
        f.reserve(app, every("1h")).await;
    }
    for (q, found) in [
        ("0%", vec!["100%"]),
        ("a_b", vec!["a_b"]),
        ("!", vec!["wow!"]),
        ("WOW", vec!["wow!", "wow"]),
        ("Été", vec!["Été"]),
        ("t's", vec!["it's"]),
        ("k\\s", vec!["back\\slash"]),
        ("", vec!["100%", "100x", "a_b", "axb", "wow!", "wow", "Été", "it's", "back\\slash"]),
    ] {
        assert_eq!(apps(&f, Filter { q: Some(q.into()), ..Filter::default() }).await, found, "{q}");
    }
}

on_every_database!(a_tokens_prefix_is_exact);
async fn a_tokens_prefix_is_exact(db: TestDb) {
    let f = Fixture::new(db).await;
    for app in ["team-a", "TEAM-a", "team_a", "teám-a", "tea"] {
        f.reserve(app, every("1h")).await;
    }
    for (prefix, found) in [("team-", vec!["team-a"]), ("team_", vec!["team_a"]), ("TEAM", vec!["TEAM-a"])] {
        let filter = Filter { app_prefix: Some(prefix.into()), ..Filter::default() };
        assert_eq!(apps(&f, filter).await, found, "{prefix}");
    }
    let padded = Filter { app_prefix: Some("tea ".into()), ..Filter::default() };
    assert!(apps(&f, padded).await.is_empty());
}

on_every_database!(pages_follow_each_other_without_a_gap_or_a_repeat);
async fn pages_follow_each_other_without_a_gap_or_a_repeat(db: TestDb) {
    let f = Fixture::new(db).await;
    for n in 0..23 {
        f.reserve(&format!("a{n}"), every("1h")).await;
    }
    let (mut after, mut seen, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = f.store.list(&Filter::default(), after, 5).await.unwrap();
        seen.extend(page.items.into_iter().map(|r| r.app));
        pages += 1;
        // What is made meanwhile comes at the end.
        if pages == 2 {
            f.reserve("a23", every("1h")).await;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(pages, 5);
    assert_eq!(seen, (0..24).map(|n| format!("a{n}")).collect::<Vec<_>>());
}

on_every_database!(the_history_of_check_ins_is_paged_from_the_newest);
async fn the_history_of_check_ins_is_paged_from_the_newest(db: TestDb) {
    let f = Fixture::new(db).await;
    let (a, b) = (f.reserve("a", every("1h")).await, f.reserve("b", every("1h")).await);
    for n in 0..7 {
        let of = |job: &JobKey| CheckIn {
            exit_code: Some(n),
            rid: if n == 3 { "three".into() } else { String::new() },
            ..CheckIn::new(job, SignalKind::Fail)
        };
        f.write(of(&a)).await.unwrap();
        f.write(of(&b)).await.unwrap();
    }
    let (view, _) = f.store.reservation(&a).await.unwrap().unwrap();
    let first = f.store.checkins(view.id, None, 4).await.unwrap();
    let rest = f.store.checkins(view.id, first.next, 4).await.unwrap();
    assert!(first.next.is_some() && rest.next.is_none());
    let all: Vec<_> = first.items.iter().chain(&rest.items).map(|c| c.exit_code.unwrap()).collect();
    assert_eq!(all, [6, 5, 4, 3, 2, 1, 0]);
    assert_eq!((first.items[3].rid.as_deref(), first.items[0].kind.as_str()), (Some("three"), "fail"));
    assert_eq!(first.items[0].rid, None);
}

on_every_database!(an_incident_says_whom_we_told_and_whether_it_arrived);
async fn an_incident_says_whom_we_told_and_whether_it_arrived(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Fail).await;
    f.evaluate().await;
    f.deliver("chat").await;
    f.pass(MINUTE).await;
    f.check_in(&job, SignalKind::Ok).await;
    f.evaluate().await;
    f.check_in(&job, SignalKind::Fail).await;
    f.evaluate().await;
    let (view, _) = f.store.reservation(&job).await.unwrap().unwrap();
    let incidents = f.store.incidents(view.id, 10).await.unwrap();
    assert_eq!(incidents.len(), 2);
    let [new, old] = incidents.as_slice() else { panic!("two") };
    assert!(new.closed_ms.is_none() && old.closed_ms.is_some());
    assert_eq!(view.incident.unwrap().0, new.id);
    let told: Vec<_> = old.deliveries.iter().map(|d| (d.event.as_str(), d.state)).collect();
    assert_eq!(told, [("trigger", OutboxState::Done), ("resolve", OutboxState::Pending)]);
    assert!(old.deliveries[0].done_ms.is_some());
    let by_id = f.store.incidents_by_id(&[old.id.clone(), "unknown".into()]).await.unwrap();
    assert_eq!(by_id.len(), 1);
    assert!(f.store.incidents_by_id(&[]).await.unwrap().is_empty());
}

on_every_database!(the_totals_add_up);
async fn the_totals_add_up(db: TestDb) {
    let mut f = Fixture::new(db).await;
    house(&mut f).await;
    let counts = f.store.counts().await.unwrap();
    let of = |state| counts.by_state.iter().find(|(s, _)| *s == state).map_or(0, |(_, n)| *n);
    assert_eq!([of(State::Waiting), of(State::OnTime), of(State::Failed), of(State::Late)], [2, 1, 1, 0]);
    assert_eq!((counts.snoozed, counts.dead), (1, 0));
    assert_eq!((counts.outbox[0].0.as_str(), counts.outbox[0].1), ("chat", 1));
    f.pass(5 * MINUTE).await;
    let age = f.store.counts().await.unwrap().outbox[0].2;
    assert!((5 * MINUTE..6 * MINUTE).contains(&age), "{age}");
    f.sql(&format!("UPDATE delivery SET next_ms = next_ms + {HOUR}")).await;
    assert_eq!(f.store.counts().await.unwrap().outbox[0].2, 0, "held back on purpose");
    f.store.reserve(&key("more"), &settings(every("1h"))).await.unwrap();
    assert_eq!(f.store.outages().await.unwrap(), []);
}
