//! The outbox: claimed by one, told in order, told again when nobody said how it ended.

use std::collections::BTreeSet;

use gotel::reservation::routing::Target;
use gotel::reservation::settings::DraftEscalation;
use gotel::reservation::snooze::Snooze;
use gotel::reservation::{Draft, JobKey, Notice, SignalKind};
use gotel::store::{Claimed, Finish, Found, Life, SystemKind, SystemReport};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, SECOND, every};

fn over(alerter: &str) -> Draft {
    Draft { alerters: Some(vec![alerter.into()]), ..every("1h") }
}

/// The same, and again an hour later.
fn escalated(alerter: &str) -> Draft {
    let step = DraftEscalation { after: "1h".into(), alerters: vec![alerter.into()] };
    Draft { escalation: Some(vec![step]), ..over(alerter) }
}

/// `count` failed jobs `a0`, `a1` … that are to be told over `alerter`.
pub(super) async fn failed(f: &mut Fixture, alerter: &str, count: usize) -> Vec<JobKey> {
    let mut jobs = Vec::new();
    for n in 0..count {
        let job = f.reserve(&format!("a{n}"), over(alerter)).await;
        f.check_in(&job, SignalKind::Fail).await;
        jobs.push(job);
    }
    f.evaluate().await;
    jobs
}

async fn recovered(f: &mut Fixture, jobs: &[JobKey]) {
    f.pass(SECOND).await;
    for job in jobs {
        f.check_in(job, SignalKind::Ok).await;
    }
    f.evaluate().await;
}

fn events(claimed: &[Claimed]) -> Vec<String> {
    claimed.iter().map(|c| format!("{} {}", c.notice.event.as_str(), c.notice.app)).collect()
}

on_every_database!(a_row_is_claimed_once_oldest_first_and_finished_by_its_claimant);
async fn a_row_is_claimed_once_oldest_first_and_finished_by_its_claimant(db: TestDb) {
    let mut f = Fixture::new(db).await;
    failed(&mut f, "chat", 3).await;
    let claimed = f.session.claim("chat", 2).await.unwrap();
    assert_eq!(events(&claimed), ["trigger a0", "trigger a1"]);
    assert_eq!((claimed[0].attempts, claimed[0].recipient.as_str()), (1, ""));
    assert!(claimed[0].age_ms < MINUTE && claimed[0].idem_key.len() == 64);
    assert!(f.session.claim("pager", 10).await.unwrap().is_empty());
    assert_eq!(events(&f.session.claim("chat", 10).await.unwrap()), ["trigger a2"]);
    assert!(f.session.claim("chat", 10).await.unwrap().is_empty());
    assert!(f.session.finish(&claimed[0], &Finish::Done).await.unwrap());
    assert!(!f.session.finish(&claimed[0], &Finish::Done).await.unwrap(), "it is finished");
    let stolen = Claimed { token: "another".into(), ..claimed[1].clone() };
    assert!(!f.session.finish(&stolen, &Finish::Done).await.unwrap());
    let dead = Finish::Dead { error: "x\0y".repeat(400) };
    assert!(f.session.finish(&claimed[1], &dead).await.unwrap());
    let outbox = f.outbox().await;
    assert_eq!(outbox, ["trigger chat  done", "trigger chat  dead", "trigger chat  inflight"]);
    let counts = f.store.counts().await.unwrap();
    assert_eq!((counts.dead, counts.outbox.len()), (1, 1));
}

on_every_database!(a_claim_that_nobody_finished_runs_out_and_keeps_its_name);
async fn a_claim_that_nobody_finished_runs_out_and_keeps_its_name(db: TestDb) {
    let mut f = Fixture::new(db).await;
    failed(&mut f, "chat", 1).await;
    let first = f.session.claim("chat", 10).await.unwrap().remove(0);
    f.pass(89 * SECOND).await;
    assert!(f.session.claim("chat", 10).await.unwrap().is_empty());
    f.pass(2 * SECOND).await;
    let second = f.session.claim("chat", 10).await.unwrap().remove(0);
    assert_eq!((second.id, &second.idem_key, second.attempts), (first.id, &first.idem_key, 2));
    assert_ne!(second.token, first.token);
    assert!(!f.session.finish(&first, &Finish::Dead { error: "late".into() }).await.unwrap());
    assert!(f.session.finish(&second, &Finish::Done).await.unwrap());
}

on_every_database!(a_retry_waits_its_time);
async fn a_retry_waits_its_time(db: TestDb) {
    let mut f = Fixture::new(db).await;
    failed(&mut f, "chat", 1).await;
    let claimed = f.session.claim("chat", 10).await.unwrap().remove(0);
    let retry = Finish::Retry { after_ms: MINUTE, error: "451 later".into() };
    assert!(f.session.finish(&claimed, &retry).await.unwrap());
    assert!(f.session.claim("chat", 10).await.unwrap().is_empty());
    assert_eq!(f.texts("SELECT error FROM delivery").await, ["451 later"]);
    f.pass(MINUTE + SECOND).await;
    assert_eq!(f.session.claim("chat", 10).await.unwrap().remove(0).attempts, 2);
}

on_every_database!(what_was_tried_is_hurried_and_what_has_its_time_is_not);
async fn what_was_tried_is_hurried_and_what_has_its_time_is_not(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let paged = f.reserve("b0", over("pager")).await;
    f.check_in(&paged, SignalKind::Fail).await;
    failed(&mut f, "chat", 2).await;
    for alerter in ["chat", "pager"] {
        let claimed = f.session.claim(alerter, 1).await.unwrap().remove(0);
        let retry = Finish::Retry { after_ms: 10 * MINUTE, error: "535".into() };
        assert!(f.session.finish(&claimed, &retry).await.unwrap());
    }
    assert_eq!(f.session.hurry("chat").await.unwrap(), 1, "the other was not tried");
    assert_eq!(f.session.hurry("chat").await.unwrap(), 0);
    let claimed = f.session.claim("chat", 10).await.unwrap();
    let mut attempts: Vec<_> = claimed.iter().map(|c| c.attempts).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2]);
    assert!(f.session.claim("pager", 10).await.unwrap().is_empty(), "another alerter's wait its time");
}

on_every_database!(an_end_waits_for_its_beginning);
async fn an_end_waits_for_its_beginning(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "chat", 1).await;
    let trigger = f.session.claim("chat", 10).await.unwrap().remove(0);
    recovered(&mut f, &jobs).await;
    assert_eq!(f.outbox().await, ["trigger chat  inflight", "resolve chat  pending"]);
    assert!(f.session.claim("chat", 10).await.unwrap().is_empty(), "it would overtake");
    let retry = Finish::Retry { after_ms: MINUTE, error: "busy".into() };
    assert!(f.session.finish(&trigger, &retry).await.unwrap());
    assert!(f.session.claim("chat", 10).await.unwrap().is_empty());
    assert_eq!(f.session.fold_storms("chat", "srv").await.unwrap(), 0);
    f.pass(2 * MINUTE).await;
    assert_eq!(f.deliver("chat").await, ["trigger a0", "resolve a0"]);
}

on_every_database!(two_replicas_never_get_the_same_row);
async fn two_replicas_never_get_the_same_row(db: TestDb) {
    let mut f = Fixture::new(db).await;
    failed(&mut f, "chat", 60).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let mut session = f.replica().session();
        tasks.spawn(async move {
            let mut got = Vec::new();
            loop {
                let claimed = session.claim("chat", 4).await.unwrap();
                if claimed.is_empty() {
                    return got;
                }
                got.extend(claimed.iter().map(|c| c.id));
            }
        });
    }
    let mut got: Vec<i64> = tasks.join_all().await.into_iter().flatten().collect();
    got.sort_unstable();
    let count = got.len();
    got.dedup();
    assert_eq!(got.len(), count, "a row was claimed twice");
    // One that was looked at while another claimed it is found by the next look.
    got.extend(f.session.claim("chat", 100).await.unwrap().iter().map(|c| c.id));
    assert_eq!(got.len(), 60);
}

on_every_database!(ten_go_alone_and_eleven_become_one_digest);
async fn ten_go_alone_and_eleven_become_one_digest(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "chat", 10).await;
    assert_eq!(f.session.fold_storms("chat", "srv").await.unwrap(), 0);
    assert_eq!(f.deliver("chat").await.len(), 10);
    recovered(&mut f, &jobs[..2]).await;
    assert_eq!(f.session.fold_storms("chat", "srv").await.unwrap(), 2, "ten were told in this half minute");
    assert_eq!(f.deliver("chat").await, ["digest gotel"]);
    f.pass(MINUTE).await;
    recovered(&mut f, &jobs[2..]).await;
    assert_eq!(f.session.fold_storms("chat", "srv").await.unwrap(), 0, "half a minute later they go alone");
    assert_eq!(f.deliver("chat").await.len(), 8);
}

on_every_database!(a_digest_names_its_members_and_their_ends_come_after_it);
async fn a_digest_names_its_members_and_their_ends_come_after_it(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "chat", 12).await;
    assert_eq!(f.session.fold_storms("chat", "replica-2").await.unwrap(), 12);
    assert_eq!(f.session.fold_storms("chat", "replica-2").await.unwrap(), 0);
    let digest = f.session.claim("chat", 10).await.unwrap().remove(0);
    let told = digest.notice.digest.clone().unwrap();
    assert_eq!((told.count, told.lines.len(), digest.notice.srv.as_str()), (12, 12, "replica-2"));
    assert_eq!(f.number("SELECT COUNT(*) FROM delivery WHERE state = 'digested'").await, 12);
    recovered(&mut f, &jobs[..1]).await;
    assert!(f.session.claim("chat", 10).await.unwrap().is_empty(), "its beginning is being told");
    assert!(f.session.finish(&digest, &Finish::Done).await.unwrap());
    assert_eq!(f.deliver("chat").await, ["resolve a0"]);
}

on_every_database!(a_receiver_that_closes_by_key_gets_every_end_alone);
async fn a_receiver_that_closes_by_key_gets_every_end_alone(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "pager", 8).await;
    assert_eq!(f.session.fold_storms_but_ends("pager", "srv").await.unwrap(), 0);
    assert_eq!(f.deliver("pager").await.len(), 8);
    recovered(&mut f, &jobs).await;
    assert_eq!(
        f.session.fold_storms_but_ends("pager", "srv").await.unwrap(),
        0,
        "an end in a digest closes nothing"
    );
    assert_eq!(f.deliver("pager").await.iter().filter(|t| t.starts_with("resolve")).count(), 8);
}

on_every_database!(one_alert_stands_for_a_storm_and_ends_with_the_last_of_it);
async fn one_alert_stands_for_a_storm_and_ends_with_the_last_of_it(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "pager", 12).await;
    assert_eq!(f.session.fold_storms_but_ends("pager", "srv").await.unwrap(), 12);
    let digest = f.session.claim("pager", 10).await.unwrap().remove(0);
    assert!(f.session.finish(&digest, &Finish::Done).await.unwrap());
    recovered(&mut f, &jobs[..5]).await;
    assert!(f.session.claim("pager", 10).await.unwrap().is_empty(), "some of it lasts");
    recovered(&mut f, &jobs[5..]).await;
    let last = f.session.claim("pager", 10).await.unwrap();
    assert_eq!(last.len(), 1);
    assert_eq!(
        (last[0].notice.event.as_str(), &last[0].notice.dedup_key),
        ("resolve", &digest.notice.dedup_key)
    );
}

/// Everything the dispatcher of `pager` would send now: event and key, folded as it folds.
async fn page(f: &mut Fixture) -> Vec<(String, String)> {
    let mut told = Vec::new();
    loop {
        let (folded, claimed) = f.session.fold_and_claim("pager", 100, "srv", true, None).await.unwrap();
        if folded == 0 && claimed.is_empty() {
            return told;
        }
        for row in claimed {
            assert!(f.session.finish(&row, &Finish::Done).await.unwrap());
            told.push((row.notice.event.as_str().to_owned(), row.notice.dedup_key));
        }
    }
}

/// What is open at a receiver that opens and closes by key, after all of `told`; and how often it paged.
fn at_the_pager(told: &[(String, String)]) -> (BTreeSet<&str>, usize) {
    let (mut open, mut pages) = (BTreeSet::new(), 0);
    for (event, key) in told {
        match event.as_str() {
            "resolve" | "cancel" | "recovered" => {
                open.remove(key.as_str());
            }
            _ => pages += usize::from(open.insert(key.as_str())),
        }
    }
    (open, pages)
}

on_every_database!(a_storm_that_lasts_pages_once_and_every_alert_of_it_ends);
async fn a_storm_that_lasts_pages_once_and_every_alert_of_it_ends(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "pager", 12).await;
    let mut told = page(&mut f).await;
    for _ in 0..2 {
        f.pass(7 * HOUR).await;
        f.evaluate().await;
        told.extend(page(&mut f).await);
    }
    assert_eq!(at_the_pager(&told).1, 1, "{told:?}");
    recovered(&mut f, &jobs).await;
    told.extend(page(&mut f).await);
    let (open, pages) = at_the_pager(&told);
    assert!(open.is_empty() && pages == 1, "{told:?}");
}

on_every_database!(a_storm_whose_digest_was_refused_is_reminded_of_and_ends);
async fn a_storm_whose_digest_was_refused_is_reminded_of_and_ends(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "pager", 12).await;
    assert_eq!(f.session.fold_storms_but_ends("pager", "srv").await.unwrap(), 12);
    let digest = f.session.claim("pager", 10).await.unwrap().remove(0);
    let dead = Finish::Dead { error: "413 too large".into() };
    assert!(f.session.finish(&digest, &dead).await.unwrap());
    f.pass(7 * HOUR).await;
    f.evaluate().await;
    let mut told = page(&mut f).await;
    assert_eq!(at_the_pager(&told).1, 12, "{told:?}");
    recovered(&mut f, &jobs).await;
    told.extend(page(&mut f).await);
    assert!(at_the_pager(&told).0.is_empty(), "{told:?}");
}

on_every_database!(what_was_told_alone_and_then_in_a_digest_ends_under_both_keys);
async fn what_was_told_alone_and_then_in_a_digest_ends_under_both_keys(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let (mut jobs, mut told) = (Vec::new(), Vec::new());
    for n in 0..12 {
        let job = f.reserve(&format!("a{n}"), escalated("pager")).await;
        f.check_in(&job, SignalKind::Fail).await;
        f.evaluate().await;
        told.extend(page(&mut f).await);
        f.pass(MINUTE).await;
        jobs.push(job);
    }
    assert_eq!(at_the_pager(&told).1, 12, "each went alone: {told:?}");
    f.pass(HOUR).await;
    f.evaluate().await;
    told.extend(page(&mut f).await);
    assert_eq!(at_the_pager(&told).1, 13, "one digest escalates them: {told:?}");
    recovered(&mut f, &jobs).await;
    told.extend(page(&mut f).await);
    assert!(at_the_pager(&told).0.is_empty(), "{told:?}");
}

on_every_database!(what_was_told_in_a_digest_and_then_alone_ends_under_both_keys);
async fn what_was_told_in_a_digest_and_then_alone_ends_under_both_keys(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let mut jobs = failed(&mut f, "pager", 12).await;
    let one = f.reserve("a12", escalated("pager")).await;
    f.check_in(&one, SignalKind::Fail).await;
    f.evaluate().await;
    jobs.push(one);
    let mut told = page(&mut f).await;
    f.pass(2 * HOUR).await;
    f.evaluate().await;
    told.extend(page(&mut f).await);
    assert_eq!(at_the_pager(&told).1, 2, "the escalation went alone: {told:?}");
    recovered(&mut f, &jobs[12..]).await;
    told.extend(page(&mut f).await);
    assert_eq!(at_the_pager(&told).0.len(), 1, "only the digest of the others is open: {told:?}");
    recovered(&mut f, &jobs[..12]).await;
    told.extend(page(&mut f).await);
    assert!(at_the_pager(&told).0.is_empty(), "{told:?}");
}

on_every_database!(what_was_over_before_it_was_folded_goes_alone_and_ends);
async fn what_was_over_before_it_was_folded_goes_alone_and_ends(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "pager", 12).await;
    recovered(&mut f, &jobs).await;
    let told = page(&mut f).await;
    assert_eq!((told.len(), at_the_pager(&told).0.len()), (24, 0), "{told:?}");
}

on_every_database!(the_last_trouble_of_gotels_own_ends_the_digest_that_told_it);
async fn the_last_trouble_of_gotels_own_ends_the_digest_that_told_it(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let report = |subject: &str| SystemReport {
        kind: SystemKind::DeliveryFailing,
        subject: subject.into(),
        text: "it does not arrive".into(),
        since_ms: 1000,
        targets: vec![Target { alerter: "pager".into(), recipient: String::new() }],
        srv: "replica-1".into(),
        life: Life::UntilWithdrawn,
    };
    for n in 0..12 {
        f.store.report_system(&report(&n.to_string())).await.unwrap();
    }
    let jobs = failed(&mut f, "pager", 1).await;
    let mut told = page(&mut f).await;
    assert_eq!(told.len(), 1, "{told:?}");
    recovered(&mut f, &jobs).await;
    for n in 0..12 {
        told.extend(page(&mut f).await);
        assert_eq!(at_the_pager(&told).0.len(), 1, "{told:?}");
        f.store.withdraw_system(SystemKind::DeliveryFailing, &n.to_string(), "replica-1").await.unwrap();
    }
    told.extend(page(&mut f).await);
    assert!(at_the_pager(&told).0.is_empty(), "{told:?}");
}

on_every_database!(what_waits_is_not_told_in_a_snooze_and_is_given_its_time_after_it);
async fn what_waits_is_not_told_in_a_snooze_and_is_given_its_time_after_it(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "chat", 12).await;
    let tried = f.session.claim("chat", 1).await.unwrap().remove(0);
    let retry = Finish::Retry { after_ms: MINUTE, error: "busy".into() };
    assert!(f.session.finish(&tried, &retry).await.unwrap());
    for job in &jobs {
        let until = |now_ms| Snooze { from_ms: now_ms, until_ms: now_ms + 30 * HOUR };
        f.store.snooze(job, until, None, None).await.unwrap();
    }
    f.pass(29 * HOUR).await;
    assert!(!f.session.anything_to_send("chat").await.unwrap());
    assert!(f.session.claim("chat", 100).await.unwrap().is_empty());
    assert_eq!(f.session.fold_storms("chat", "srv").await.unwrap(), 0);
    assert_eq!(f.store.counts().await.unwrap().outbox, [("chat".to_owned(), 12, 0)]);
    assert_eq!(f.store.oldest_undelivered_ms().await.unwrap(), 0, "whoever watches GoTel need not worry");
    let replace = |_: &str, _: &Notice| Vec::new();
    assert!(f.session.adopt_orphans(&["mail".into()], replace).await.unwrap().is_empty());
    f.pass(HOUR + 30 * SECOND).await;
    assert!(
        f.session.adopt_orphans(&["mail".into()], replace).await.unwrap().is_empty(),
        "a minute is theirs"
    );
    assert!(f.session.anything_to_send("chat").await.unwrap());
    let waits_ms = f.store.oldest_undelivered_ms().await.unwrap();
    assert!((30 * SECOND..HOUR).contains(&waits_ms), "since the end of the snooze: {waits_ms}");
    let told = f.session.claim("chat", 100).await.unwrap();
    assert_eq!(told.len(), 12);
    assert!(told.iter().all(|row| row.age_ms < HOUR), "snoozed time does not age it");
}

on_every_database!(an_unfinished_digest_of_others_waits_for_no_snooze);
async fn an_unfinished_digest_of_others_waits_for_no_snooze(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "chat", 13).await;
    let until = |now_ms| Snooze { from_ms: now_ms, until_ms: now_ms + HOUR };
    f.store.snooze(&jobs[0], until, None, None).await.unwrap();
    assert_eq!(f.session.fold_storms("chat", "srv").await.unwrap(), 12);
    assert_eq!(f.deliver("chat").await, ["digest gotel"]);
    assert!(f.store.unsnooze(&jobs[0]).await.unwrap() == Found::Yes);
    assert_eq!(f.deliver("chat").await, ["trigger a0"]);
}

on_every_database!(after_a_checkout_only_ends_are_told);
async fn after_a_checkout_only_ends_are_told(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let jobs = failed(&mut f, "chat", 3).await;
    recovered(&mut f, &jobs[..1]).await;
    let told = f.session.claim("chat", 2).await.unwrap();
    assert_eq!(events(&told), ["trigger a0", "trigger a1"]);
    for row in &told {
        assert!(f.session.finish(row, &Finish::Done).await.unwrap());
    }
    // One of them was snoozed before: nobody waits for the end of that.
    let until = |now_ms| Snooze { from_ms: now_ms, until_ms: now_ms + HOUR };
    f.store.snooze(&jobs[1], until, None, None).await.unwrap();
    for job in &jobs {
        f.store.checkout(job).await.unwrap();
    }
    assert_eq!(f.deliver("chat").await, ["resolve a0"], "nobody has looked at the others yet");
    f.evaluate().await;
    assert_eq!(f.deliver("chat").await, ["cancel a1"]);
}

on_every_database!(a_notice_that_cannot_be_read_is_a_dead_letter_in_nobodys_way);
async fn a_notice_that_cannot_be_read_is_a_dead_letter_in_nobodys_way(db: TestDb) {
    let mut f = Fixture::new(db).await;
    failed(&mut f, "chat", 3).await;
    let first = f.number("SELECT MIN(id) FROM delivery").await;
    f.sql(&format!("UPDATE delivery SET payload = 'garbage' WHERE id = {first}")).await;
    let claimed = f.session.claim("chat", 10).await.unwrap();
    assert_eq!(events(&claimed), ["trigger a1", "trigger a2"]);
    let error = f.texts("SELECT error FROM delivery WHERE state = 'dead'").await;
    assert!(error.len() == 1 && error[0].contains("cannot be read"), "{error:?}");
    f.sql("UPDATE delivery SET payload = 'garbage', state = 'pending', alerter = 'gone'").await;
    f.pass(HOUR).await;
    f.session.adopt_orphans(&["chat".into()], |_, _| Vec::new()).await.unwrap();
    assert_eq!(f.number("SELECT COUNT(*) FROM delivery WHERE state = 'dead'").await, 3);
}

on_every_database!(a_notice_with_too_much_in_it_is_shortened_and_told);
async fn a_notice_with_too_much_in_it_is_shortened_and_told(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let mut draft = every("1h");
    draft.labels = Some((0..32).map(|n| (format!("label{n}"), "🛎".repeat(255))).collect());
    draft.alert_msg = Some("{owner}{notify}".repeat(130));
    draft.owner = Some("🛎".repeat(254));
    draft.notify = Some((0..20).map(|n| format!("{n}{}", "é".repeat(250))).collect());
    let job = f.reserve("a", draft).await;
    let output = vec![1; 10_240];
    let fail =
        gotel::store::CheckIn { note: Some(output), ..gotel::store::CheckIn::new(&job, SignalKind::Fail) };
    f.write(fail).await.unwrap();
    f.evaluate().await;
    let claimed = f.session.claim("chat", 10).await.unwrap();
    assert_eq!(events(&claimed), ["trigger a"]);
}

on_every_database!(the_end_of_a_failures_output_is_told_with_it);
async fn the_end_of_a_failures_output_is_told_with_it(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let job = f.reserve("a", every("1h")).await;
    let mut note = vec![0; 9000];
    note.extend_from_slice("disk full\n".as_bytes());
    let fail =
        gotel::store::CheckIn { note: Some(note), ..gotel::store::CheckIn::new(&job, SignalKind::Fail) };
    f.write(fail).await.unwrap();
    f.evaluate().await;
    let claimed = f.session.claim("chat", 10).await.unwrap().remove(0);
    assert_eq!(claimed.notice.output.as_deref(), Some("disk full\n"));
}
