//! Replicas with different alerters: rows stay with those who have the alerter, and fall to the defaults when nobody
//! has it.

use gotel::reservation::{Draft, Notice, SignalKind};
use gotel::store::{Finish, NewDelivery};

use super::outbox::failed;
use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, MINUTE, SECOND, every};

fn over_chat(alerter: &str, notice: &Notice) -> Vec<NewDelivery> {
    let mut notice = notice.clone();
    notice.remarks.push(format!("instead of {alerter}"));
    vec![NewDelivery {
        alerter: "chat".into(),
        recipient: String::new(),
        notice,
        not_before_ms: 0,
        group: None,
    }]
}

on_every_database!(an_alerter_nobody_has_falls_to_others_after_a_minute);
async fn an_alerter_nobody_has_falls_to_others_after_a_minute(db: TestDb) {
    let mut f = Fixture::new(db).await;
    failed(&mut f, "pager", 3).await;
    // One was tried before the alerter went away, one is still claimed by a replica that died.
    let tried = f.session.claim("pager", 2).await.unwrap();
    let retry = Finish::Retry { after_ms: 0, error: "busy".into() };
    assert!(f.session.finish(&tried[0], &retry).await.unwrap());
    let known = ["chat".to_owned()];
    assert!(f.session.adopt_orphans(&known, over_chat).await.unwrap().is_empty(), "too soon");
    f.pass(3 * MINUTE).await;
    assert_eq!(f.session.adopt_orphans(&known, |_, _| Vec::new()).await.unwrap(), ["pager"]);
    assert_eq!(
        f.number("SELECT COUNT(*) FROM delivery WHERE state = 'superseded'").await,
        0,
        "nothing to replace it"
    );
    assert_eq!(f.session.adopt_orphans(&known, over_chat).await.unwrap(), ["pager"]);
    assert_eq!(f.number("SELECT COUNT(*) FROM delivery WHERE state = 'superseded'").await, 3);
    let told = f.session.claim("chat", 10).await.unwrap();
    assert_eq!(told.len(), 3);
    assert_eq!(told[0].notice.remarks, ["instead of pager"]);
    assert!(!f.session.finish(&tried[1], &Finish::Done).await.unwrap(), "it was taken over");
    assert!(f.session.adopt_orphans(&[], over_chat).await.unwrap().is_empty());
}

on_every_database!(what_a_live_replica_has_is_left_to_it_however_long_its_receiver_fails);
async fn what_a_live_replica_has_is_left_to_it_however_long_its_receiver_fails(db: TestDb) {
    let mut f = Fixture::new(db).await;
    failed(&mut f, "pager", 3).await;
    let (ours, live) = (["chat".to_owned()], ["chat".to_owned(), "pager".to_owned()]);
    // Two were tried and failed; then the breaker opened, and nothing is claimed any more.
    for tried in f.session.claim("pager", 2).await.unwrap() {
        let retry = Finish::Retry { after_ms: SECOND, error: "no answer".into() };
        assert!(f.session.finish(&tried, &retry).await.unwrap());
    }
    for _ in 0..3 {
        f.pass(10 * MINUTE).await;
        assert!(f.session.adopt_orphans(&live, over_chat).await.unwrap().is_empty());
    }
    assert_eq!(
        f.number("SELECT COUNT(*) FROM delivery WHERE state = 'pending'").await,
        3,
        "nothing is told twice"
    );
    // Its replica dies: nobody has the alerter now.
    assert_eq!(f.session.adopt_orphans(&ours, over_chat).await.unwrap(), ["pager"]);
    assert_eq!(f.deliver("chat").await.len(), 3);
    assert!(f.deliver("pager").await.is_empty());
}

/// What the dispatcher of a mail alerter does, with "ops@example.org" as its own address.
async fn mailed(f: &mut Fixture) -> Vec<String> {
    let fallback = ["ops@example.org".to_owned()];
    let mut told = Vec::new();
    loop {
        let (folded, claimed) =
            f.session.fold_and_claim("post", 100, "srv", false, Some(&fallback)).await.unwrap();
        if folded == 0 && claimed.is_empty() {
            told.sort();
            return told;
        }
        for row in claimed {
            assert!(f.session.finish(&row, &Finish::Done).await.unwrap());
            told.push(format!("{} {} {}", row.notice.event.as_str(), row.notice.app, row.recipient));
        }
    }
}

on_every_database!(a_replica_without_the_mail_alerter_plans_a_row_that_its_owner_sends_to_each_address);
async fn a_replica_without_the_mail_alerter_plans_a_row_that_its_owner_sends_to_each_address(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let wish = |notify: &[&str]| Draft {
        alerters: Some(vec!["post".into()]),
        notify: Some(notify.iter().map(|n| (*n).to_owned()).collect()),
        ..every("1h")
    };
    // The planner knows `chat`, `mail` and `pager` only.
    let two = f.reserve_for(&["post"], "two", wish(&["ada@example.org", "bob@example.org"])).await;
    let nobody = f.reserve_for(&["post"], "nobody", wish(&[])).await;
    for job in [&two, &nobody] {
        f.check_in(job, SignalKind::Fail).await;
    }
    f.evaluate().await;
    assert_eq!(f.outbox().await, ["trigger post  pending", "trigger post  pending"]);
    assert_eq!(
        mailed(&mut f).await,
        ["trigger nobody ops@example.org", "trigger two ada@example.org", "trigger two bob@example.org"]
    );
    assert!(mailed(&mut f).await.is_empty());
    f.pass(SECOND).await;
    for job in [&two, &nobody] {
        f.check_in(job, SignalKind::Ok).await;
    }
    f.evaluate().await;
    assert_eq!(
        mailed(&mut f).await,
        ["resolve nobody ops@example.org", "resolve two ada@example.org", "resolve two bob@example.org"]
    );
    assert_eq!(f.number("SELECT COUNT(*) FROM delivery WHERE state = 'dead'").await, 0);
}

on_every_database!(an_end_planned_before_its_beginning_was_sent_comes_after_it_at_each_address);
async fn an_end_planned_before_its_beginning_was_sent_comes_after_it_at_each_address(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let draft = Draft {
        alerters: Some(vec!["post".into()]),
        notify: Some(vec!["ada@example.org".into()]),
        ..every("1h")
    };
    let job = f.reserve_for(&["post"], "a", draft).await;
    f.check_in(&job, SignalKind::Fail).await;
    f.evaluate().await;
    f.pass(SECOND).await;
    f.check_in(&job, SignalKind::Ok).await;
    f.evaluate().await;
    let fallback = ["ops@example.org".to_owned()];
    let mut events = Vec::new();
    for _ in 0..2 {
        let (_, claimed) =
            f.session.fold_and_claim("post", 100, "srv", false, Some(&fallback)).await.unwrap();
        assert_eq!(claimed.len(), 1);
        events.push(format!("{} {}", claimed[0].notice.event.as_str(), claimed[0].recipient));
        assert!(f.session.finish(&claimed[0], &Finish::Done).await.unwrap());
    }
    assert_eq!(events, ["trigger ada@example.org", "resolve ada@example.org"]);
}

on_every_database!(a_row_without_recipient_that_cannot_be_read_is_a_dead_letter);
async fn a_row_without_recipient_that_cannot_be_read_is_a_dead_letter(db: TestDb) {
    let mut f = Fixture::new(db).await;
    failed(&mut f, "pager", 1).await;
    f.sql("UPDATE delivery SET payload = 'garbage', alerter = 'post'").await;
    assert!(mailed(&mut f).await.is_empty());
    assert_eq!(f.number("SELECT COUNT(*) FROM delivery WHERE state = 'dead'").await, 1);
}
