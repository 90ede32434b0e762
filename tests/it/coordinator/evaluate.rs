//! What is due is decided, and told, once.

use gotel::reservation::settings::DraftEscalation;
use gotel::reservation::snooze::Snooze;
use gotel::reservation::{Draft, Event, JobKey, Reason, SignalKind};
use gotel::store::{CheckIn, Claimed, Finish, StoreError, controller_scope};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, SECOND, every, settings};

on_every_database!(a_miss_is_an_incident_and_a_notice_and_a_check_in_ends_both);
async fn a_miss_is_an_incident_and_a_notice_and_a_check_in_ends_both(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    let last = f.check_in(&job, SignalKind::Ok).await.at_ms;
    f.evaluate().await;
    f.pass(HOUR - MINUTE).await;
    let batch = f.evaluate().await;
    assert_eq!((batch.opened, f.outbox().await.len()), (0, 0), "not yet");
    f.pass(2 * MINUTE).await;
    let batch = f.evaluate().await;
    assert_eq!((batch.examined, batch.opened, batch.queued), (1, 1, 1));
    assert_eq!(f.state(&job).await, "late");
    assert_eq!(f.number("SELECT deadline_ms FROM incident").await, last + HOUR, "the exact moment");
    assert_eq!(f.evaluate().await.examined, 0, "nothing is left to do");
    let notice = f.session.claim("chat", 1).await.unwrap().remove(0).notice;
    assert_eq!(notice.dedup_key, f.texts("SELECT dedup_key FROM incident").await[0]);
    assert_eq!(notice.url.as_deref(), Some("https://gotel.example/status/a/job"));
    f.pass(2 * MINUTE).await;
    let back = f.check_in(&job, SignalKind::Ok).await.at_ms;
    let batch = f.evaluate().await;
    assert_eq!((batch.closed, f.state(&job).await.as_str()), (1, "on_time"));
    assert_eq!(f.texts("SELECT ending FROM incident WHERE open_key IS NULL").await, ["recovered"]);
    assert_eq!(f.number("SELECT closed_ms FROM incident").await, back);
    assert_eq!(f.outbox().await, ["trigger chat  inflight", "resolve chat  pending"]);
}

on_every_database!(a_miss_whose_cluster_is_silent_says_so);
async fn a_miss_whose_cluster_is_silent_says_so(db: TestDb) {
    let mut f = Fixture::new(db).await;
    for app in ["silent", "heard", "unheard", "own"] {
        f.reserve(app, every("1h")).await;
        // As an object of the cluster of that name made it.
        if app != "own" {
            let of = format!(
                "INSERT INTO kube_object (reservation_id, cluster, namespace, name, uid, generation, reclaim, suspended, \
                 created_ms) SELECT id, app, 'billing', app, app, 1, 'delete', 0, 0 FROM reservation WHERE app = '{app}'"
            );
            f.sql(&of).await;
            f.store.prepare_lease(controller_scope(app)).await.unwrap();
        }
    }
    f.pass(6 * HOUR).await;
    let now = f.store.now_ms().await.unwrap();
    for (cluster, heard_ms) in [("silent", now - 3 * HOUR), ("heard", now - MINUTE)] {
        let lease = format!("UPDATE lease SET renewed_ms = {heard_ms} WHERE scope = 'controller/{cluster}'");
        f.sql(&lease).await;
    }
    assert_eq!(f.evaluate().await.opened, 4);
    let remarks = |rows: Vec<Claimed>, event| {
        let mut told: Vec<_> = rows
            .into_iter()
            .filter(|row| row.notice.event == event)
            .flat_map(|row| {
                row.notice.remarks.into_iter().map(move |remark| (row.notice.app.clone(), remark))
            })
            .filter(|(_, remark)| remark.contains("cluster"))
            .collect();
        told.sort();
        told
    };
    let right = "GoTel in cluster silent, where the reservation's object is, was last heard of 3h ago: the cluster may \
                 be gone.";
    let claimed = f.session.claim("chat", 10).await.unwrap();
    for row in &claimed {
        assert!(f.session.finish(row, &Finish::Done).await.unwrap());
    }
    let opened = remarks(claimed, Event::Trigger);
    assert_eq!(opened, [("silent".to_owned(), right.to_owned())]);
    f.pass(6 * HOUR + MINUTE).await;
    f.evaluate().await;
    let reminded = remarks(f.session.claim("chat", 10).await.unwrap(), Event::Remind);
    assert_eq!(reminded.iter().map(|(app, _)| app.as_str()).collect::<Vec<_>>(), ["heard", "silent"]);
}

on_every_database!(a_job_that_never_checks_in_is_told_as_such);
async fn a_job_that_never_checks_in_is_told_as_such(db: TestDb) {
    let mut f = Fixture::new(db).await;
    f.reserve("a", Draft { first_within: Some("10m".into()), ..every("1h") }).await;
    f.pass(9 * MINUTE).await;
    assert_eq!(f.evaluate().await.opened, 0);
    f.pass(2 * MINUTE).await;
    assert_eq!(f.evaluate().await.opened, 1);
    assert_eq!(f.texts("SELECT reason FROM incident").await, ["never_checked_in"]);
}

on_every_database!(a_failure_after_a_recovery_is_told_again);
async fn a_failure_after_a_recovery_is_told_again(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Fail).await;
    f.evaluate().await;
    f.deliver("chat").await;
    for kind in [SignalKind::Ok, SignalKind::Fail] {
        f.pass(SECOND).await;
        f.check_in(&job, kind).await;
    }
    let batch = f.evaluate().await;
    assert_eq!((batch.closed, batch.opened), (1, 1));
    assert_eq!(f.outbox().await, ["trigger chat  done", "resolve chat  pending", "trigger chat  pending"]);
    assert_eq!(f.number("SELECT COUNT(*) FROM incident WHERE open_key IS NOT NULL").await, 1);
}

on_every_database!(nothing_is_told_during_a_snooze_and_its_end_pages_nobody);
async fn nothing_is_told_during_a_snooze_and_its_end_pages_nobody(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("10m")).await;
    f.check_in(&job, SignalKind::Ok).await;
    let hour = |now| Snooze { from_ms: now, until_ms: now + HOUR };
    f.store.snooze(&job, hour, None, None).await.unwrap();
    for _ in 0..5 {
        f.pass(11 * MINUTE).await;
        f.check_in(&job, SignalKind::Fail).await;
        f.evaluate().await;
        assert_eq!(f.outbox().await.len(), 0);
    }
    f.check_in(&job, SignalKind::Ok).await;
    f.pass(6 * MINUTE).await;
    f.evaluate().await;
    assert_eq!(f.outbox().await.len(), 0, "the end itself pages nobody");
    f.pass(11 * MINUTE).await;
    assert_eq!(f.evaluate().await.opened, 1, "what stays silent after it does");
}

on_every_database!(a_checkout_cancels_what_was_told);
async fn a_checkout_cancels_what_was_told(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Fail).await;
    f.evaluate().await;
    f.deliver("chat").await;
    f.store.checkout(&job).await.unwrap();
    assert_eq!(f.evaluate().await.closed, 1);
    assert_eq!(f.texts("SELECT ending FROM incident").await, ["checked_out"]);
    assert_eq!(f.outbox().await, ["trigger chat  done", "cancel chat  pending"]);
    f.pass(1000 * HOUR).await;
    assert_eq!(f.evaluate().await.examined, 0, "it is never looked at again");
}

on_every_database!(a_lasting_incident_is_told_again_and_to_others);
async fn a_lasting_incident_is_told_again_and_to_others(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let draft = Draft {
        realert: Some("2h".into()),
        notify: Some(vec!["ada@example.org,bob@example.org".into()]),
        escalation: Some(vec![
            DraftEscalation { after: "30m".into(), alerters: vec!["mail".into()] },
            DraftEscalation { after: "90m".into(), alerters: vec!["pager".into()] },
        ]),
        ..every("1h")
    };
    let job = f.reserve("a", draft).await;
    f.check_in(&job, SignalKind::Fail).await;
    let mut told = Vec::new();
    for _ in 0..10 {
        f.evaluate().await;
        for alerter in ["chat", "mail", "pager"] {
            told.extend(f.deliver(alerter).await.into_iter().map(|t| format!("{alerter}: {t}")));
        }
        f.pass(30 * MINUTE).await;
    }
    assert_eq!(
        told,
        [
            "chat: trigger a",
            "mail: escalate a",
            "mail: escalate a",
            "pager: escalate a",
            "chat: remind a",
            "chat: remind a",
        ]
    );
    f.check_in(&job, SignalKind::Ok).await;
    f.evaluate().await;
    let ends = f.texts("SELECT alerter || recipient FROM delivery WHERE event = 'resolve' ORDER BY id").await;
    assert_eq!(ends, ["chat", "mailada@example.org", "mailbob@example.org", "pager"]);
}

on_every_database!(whoever_was_never_told_hears_of_no_end);
async fn whoever_was_never_told_hears_of_no_end(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let steps = vec![DraftEscalation { after: "30m".into(), alerters: vec!["pager".into()] }];
    let job = f.reserve("a", Draft { escalation: Some(steps), ..every("1h") }).await;
    f.check_in(&job, SignalKind::Fail).await;
    f.evaluate().await;
    f.deliver("chat").await;
    f.pass(31 * MINUTE).await;
    f.evaluate().await;
    f.check_in(&job, SignalKind::Ok).await;
    f.evaluate().await;
    assert_eq!(
        f.outbox().await,
        ["trigger chat  done", "escalate pager  superseded", "resolve chat  pending"]
    );
}

on_every_database!(each_run_that_takes_too_long_is_told_by_its_id);
async fn each_run_that_takes_too_long_is_told_by_its_id(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", Draft { max_runtime: Some("5m".into()), ..every("1h") }).await;
    let of = |rid: &str, kind| CheckIn { rid: rid.into(), ..CheckIn::new(&job, kind) };
    f.write(of("slow", SignalKind::Start)).await.unwrap();
    f.pass(4 * MINUTE).await;
    f.write(of("quick", SignalKind::Start)).await.unwrap();
    f.write(of("quick", SignalKind::Ok)).await.unwrap();
    f.evaluate().await;
    assert_eq!(f.outbox().await.len(), 0);
    f.pass(2 * MINUTE).await;
    assert_eq!(f.evaluate().await.opened, 1);
    assert_eq!(f.texts("SELECT reason || ' ' || rid FROM incident").await, ["overrun slow"]);
    assert_eq!(f.state(&job).await, "overrun");
    f.write(of("slow", SignalKind::Ok)).await.unwrap();
    assert_eq!(f.evaluate().await.closed, 1);
    assert_eq!(f.state(&job).await, "on_time");
}

on_every_database!(a_run_that_never_ends_is_abandoned_once_a_later_one_went_well);
async fn a_run_that_never_ends_is_abandoned_once_a_later_one_went_well(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", Draft { max_runtime: Some("5m".into()), ..every("1h") }).await;
    let of = |rid: &str, kind| CheckIn { rid: rid.into(), ..CheckIn::new(&job, kind) };
    f.write(of("lost", SignalKind::Start)).await.unwrap();
    f.pass(6 * MINUTE).await;
    f.evaluate().await;
    f.write(of("next", SignalKind::Start)).await.unwrap();
    f.write(of("next", SignalKind::Ok)).await.unwrap();
    assert_eq!(f.evaluate().await.closed, 1);
    assert_eq!(f.texts("SELECT outcome FROM run WHERE rid = 'lost'").await, ["abandoned"]);
    assert_eq!(f.evaluate().await.examined, 0);
}

on_every_database!(a_tolerance_forgives_that_many_misses);
async fn a_tolerance_forgives_that_many_misses(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", Draft { tolerance: Some(3), ..every("10m") }).await;
    f.check_in(&job, SignalKind::Ok).await;
    f.evaluate().await;
    f.pass(25 * MINUTE).await;
    f.evaluate().await;
    assert_eq!((f.state(&job).await.as_str(), f.outbox().await.len()), ("late", 0));
    f.pass(6 * MINUTE).await;
    assert_eq!(f.evaluate().await.opened, 1);
}

on_every_database!(a_row_that_cannot_be_read_is_set_aside_told_once_and_mended);
async fn a_row_that_cannot_be_read_is_set_aside_told_once_and_mended(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (bad, good) = (f.reserve("bad", every("1h")).await, f.reserve("good", every("1h")).await);
    f.sql("UPDATE reservation SET settings = 'garbage' WHERE app = 'bad'").await;
    f.pass(2 * HOUR).await;
    f.evaluate().await;
    assert_eq!(f.state(&good).await, "late");
    assert_eq!(f.outbox().await.len(), 2);
    let open = f.store.system_incidents().await.unwrap();
    assert_eq!(open.len(), 1);
    assert!(open[0].detail.as_deref().unwrap().contains("bad/job cannot be evaluated"), "{open:?}");
    assert_eq!(f.evaluate().await.examined, 0, "it is left alone for an hour");
    f.pass(61 * MINUTE).await;
    f.evaluate().await;
    assert_eq!(f.store.system_incidents().await.unwrap().len(), 1, "and told once");
    assert_eq!(f.outbox().await.len(), 2);
    f.store.reserve(&bad, &crate::util::store::settings(every("1h"))).await.unwrap();
    f.evaluate().await;
    assert!(f.store.system_incidents().await.unwrap().is_empty(), "made again, it is watched again");
    assert_eq!(
        f.number("SELECT COUNT(*) FROM delivery WHERE event = 'resolve' AND alerter = 'chat'").await,
        1
    );
}

on_every_database!(two_reservations_whose_names_read_alike_are_set_aside_each_for_itself);
async fn two_reservations_whose_names_read_alike_are_set_aside_each_for_itself(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let long = "x".repeat(150);
    let names = [("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"), (&long, "1"), (&long, "2")];
    let keys = names.map(|(app, component)| JobKey::parse(app, component).unwrap());
    for key in &keys {
        f.store.reserve(key, &settings(every("1h"))).await.unwrap();
    }
    f.sql("UPDATE reservation SET settings = 'garbage'").await;
    f.evaluate().await;
    assert_eq!(f.store.system_incidents().await.unwrap().len(), 5);
    assert_eq!(f.number("SELECT COUNT(DISTINCT dedup_key) FROM incident").await, 5);
    for (mended, key) in keys.iter().enumerate() {
        f.store.reserve(key, &settings(every("1h"))).await.unwrap();
        f.evaluate().await;
        let open = f.store.system_incidents().await.unwrap();
        assert_eq!(open.len(), 4 - mended, "{open:?}");
    }
}

on_every_database!(twelve_hundred_due_rows_are_three_batches);
async fn twelve_hundred_due_rows_are_three_batches(db: TestDb) {
    let mut f = Fixture::new(db).await;
    f.reserve("a", every("1h")).await;
    copies(&mut f, 1200).await;
    let leading = f.lead().await;
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let context = f.context.clone();
        let plan = |loaded: &_| gotel::coordinator::plan(&context, loaded);
        sizes.push(f.session.evaluate(&leading, 500, plan).await.unwrap().examined);
    }
    assert_eq!(sizes, [500, 500, 201]);
    f.pass(2 * HOUR).await;
    let batch = f.evaluate_as(&leading).await.unwrap();
    assert_eq!((batch.examined, batch.opened, batch.queued), (1201, 1201, 1201));
}

/// `count` more reservations like the first one.
async fn copies(f: &mut Fixture, count: usize) {
    let values: Vec<String> = (0..count)
        .map(|n| {
            let key = crate::util::store::key(&format!("copy{n}")).digest();
            format!("SELECT '{key}' AS k, 'copy{n}' AS a")
        })
        .collect();
    for some in values.chunks(400) {
        f.sql(&format!(
            "INSERT INTO reservation (rkey, app, component, owner, gen, settings, state, due_ms, created_ms, \
             updated_ms, fails, checkins, uses_runs, rearm_ms) SELECT v.k, v.a, r.component, r.owner, 1, \
             r.settings, r.state, 0, r.created_ms, r.updated_ms, 0, 0, 0, 0 FROM ({}) v, reservation r \
             WHERE r.app = 'a'",
            some.join(" UNION ALL ")
        ))
        .await;
    }
}

on_every_database!(a_gap_of_the_evaluator_alone_moves_nothing_and_is_told);
async fn a_gap_of_the_evaluator_alone_moves_nothing_and_is_told(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Ok).await;
    f.evaluate().await;
    f.pass(HOUR + 12 * MINUTE).await;
    f.evaluate().await;
    let notice = f.session.claim("chat", 1).await.unwrap().remove(0).notice;
    assert_eq!(notice.remarks.len(), 1);
    assert!(notice.remarks[0].starts_with("Noticed 12m"), "{:?}", notice.remarks);
}

on_every_database!(nothing_is_judged_before_a_gap_is_recorded);
async fn nothing_is_judged_before_a_gap_is_recorded(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    f.check_in(&job, SignalKind::Ok).await;
    f.evaluate().await;
    f.be_away(2 * HOUR);
    let leading = f.lead().await;
    assert!(matches!(f.evaluate_as(&leading).await, Err(StoreError::Gap { .. })));
    assert_eq!(f.outbox().await.len(), 0);
    f.pass(0).await;
    assert_eq!(f.evaluate_as(&leading).await.unwrap().opened, 1);
}

on_every_database!(of_very_many_open_runs_each_is_let_go_or_told_in_its_turn);
async fn of_very_many_open_runs_each_is_let_go_or_told_in_its_turn(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", Draft { max_runtime: Some("30m".into()), ..every("1h") }).await;
    let start = |rid: &str| CheckIn { rid: rid.into(), ..CheckIn::new(&job, SignalKind::Start) };
    let open = "SELECT COUNT(*) FROM run WHERE ended_ms IS NULL";
    for _ in 0..5 {
        let starts: Vec<_> = (0..500).map(|_| (start(&uuid::Uuid::new_v4().to_string()), 0)).collect();
        f.store.session().write_checkins(&starts).await.unwrap();
    }
    f.pass(40 * MINUTE).await;
    f.write(start("young")).await.unwrap();
    f.check_in(&job, SignalKind::Ok).await;
    for left in [1501, 501, 1, 1] {
        f.evaluate().await;
        assert_eq!(f.number(open).await, left, "a later run went well");
    }
    assert!(f.outbox().await.is_empty());
    f.pass(31 * MINUTE).await;
    f.evaluate().await;
    let told = f.session.claim("chat", 10).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].notice.reason, told[0].notice.rid.as_deref()), (Reason::Overrun, Some("young")));
}

on_every_database!(an_incident_reminded_of_a_hundred_thousand_times_is_nobody_elses_trouble);
async fn an_incident_reminded_of_a_hundred_thousand_times_is_nobody_elses_trouble(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (long, other) = (f.reserve("long", every("1h")).await, f.reserve("other", every("1h")).await);
    f.check_in(&long, SignalKind::Fail).await;
    f.check_in(&other, SignalKind::Ok).await;
    f.evaluate().await;
    f.pass(HOUR - MINUTE).await;
    f.deliver("chat").await;
    f.sql(
        "INSERT INTO delivery (idem_key, incident_id, event, event_no, alerter, recipient, payload, state, \
         created_ms, next_ms, attempts) SELECT 'r', incident_id, 'remind', 1, 'chat', '', '{}', 'done', \
         created_ms, 0, 1 FROM delivery",
    )
    .await;
    for power in 0..17 {
        f.sql(&format!(
            "INSERT INTO delivery (idem_key, incident_id, event, event_no, alerter, recipient, payload, state, \
             created_ms, next_ms, attempts) SELECT idem_key || '{}', incident_id, event, event_no + {}, alerter, \
             recipient, payload, state, created_ms, 0, 1 FROM delivery WHERE event = 'remind'",
            char::from(b'a' + power),
            1 << power
        ))
        .await;
    }
    f.sql("UPDATE incident SET event_no = 131073").await;
    f.sql("UPDATE reservation SET due_ms = 0").await;
    f.pass(2 * MINUTE).await;
    assert_eq!(f.evaluate().await.opened, 1);
    assert_eq!(f.deliver("chat").await, ["trigger other"]);
    f.check_in(&long, SignalKind::Ok).await;
    f.evaluate().await;
    assert_eq!(f.deliver("chat").await, ["resolve long"]);
}

on_every_database!(a_reminder_takes_the_place_of_one_that_still_waits);
async fn a_reminder_takes_the_place_of_one_that_still_waits(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", Draft { realert: Some("1h".into()), ..every("1h") }).await;
    f.check_in(&job, SignalKind::Fail).await;
    for _ in 0..4 {
        f.evaluate().await;
        f.pass(61 * MINUTE).await;
    }
    assert_eq!(
        f.outbox().await,
        [
            "trigger chat  pending",
            "remind chat  superseded",
            "remind chat  superseded",
            "remind chat  pending"
        ]
    );
}
