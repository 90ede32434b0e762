//! The outbox: claimed by one, told in order, told again when nobody said how it ended.

use gotel::reservation::{Draft, JobKey, SignalKind};
use gotel::store::{Claimed, Finish};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, HOUR, MINUTE, SECOND, every};

fn over(alerter: &str) -> Draft {
    Draft { alerters: Some(vec![alerter.into()]), ..every("1h") }
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
