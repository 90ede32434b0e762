//! GoTel's own troubles: told once, withdrawn for those who heard.

use gotel::reservation::routing::Target;
use gotel::store::{Finish, Life, SystemKind, SystemReport};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, MINUTE};

fn report(subject: &str) -> SystemReport {
    let to = |recipient: &str| Target { alerter: "chat".into(), recipient: recipient.into() };
    SystemReport {
        kind: SystemKind::DeliveryFailing,
        subject: subject.into(),
        text: "mail does not arrive".into(),
        since_ms: 1000,
        targets: vec![to("one"), to("two")],
        srv: "replica-1".into(),
        life: Life::UntilWithdrawn,
    }
}

on_every_database!(a_trouble_is_told_once_however_many_replicas_find_it);
async fn a_trouble_is_told_once_however_many_replicas_find_it(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = f.store.clone();
        tasks.spawn(async move { store.report_system(&report("mail")).await.unwrap() });
    }
    let first = tasks.join_all().await.into_iter().filter(|reported| *reported).count();
    assert_eq!(first, 1);
    assert_eq!(f.outbox().await, ["trigger chat one pending", "trigger chat two pending"]);
    assert!(f.store.report_system(&report("pager")).await.unwrap(), "another subject is another trouble");
    let open = f.store.system_incidents().await.unwrap();
    assert_eq!(open.len(), 2);
    assert_eq!((open[0].app.as_str(), open[0].component.as_str()), ("gotel", "delivery-failing/mail"));
    assert_eq!(open[0].detail.as_deref(), Some("mail does not arrive"));
    let long = |end: &str| report(&format!("{}{end}", "x".repeat(300)));
    assert!(f.store.report_system(&long("1")).await.unwrap());
    assert!(f.store.report_system(&long("2")).await.unwrap(), "long names are not confused");
}

on_every_database!(its_end_is_told_only_to_those_who_heard_of_it);
async fn its_end_is_told_only_to_those_who_heard_of_it(db: TestDb) {
    let mut f = Fixture::new(db).await;
    assert!(!f.store.withdraw_system(SystemKind::DeliveryFailing, "mail", "replica-2").await.unwrap());
    f.store.report_system(&report("mail")).await.unwrap();
    let told = f.session.claim("chat", 10).await.unwrap();
    assert!(f.session.finish(&told[0], &Finish::Done).await.unwrap());
    assert!(f.session.finish(&told[1], &Finish::Dead { error: "gone".into() }).await.unwrap());
    f.pass(MINUTE).await;
    assert!(f.store.withdraw_system(SystemKind::DeliveryFailing, "mail", "replica-2").await.unwrap());
    assert!(!f.store.withdraw_system(SystemKind::DeliveryFailing, "mail", "replica-2").await.unwrap());
    let outbox = f.outbox().await;
    assert_eq!(outbox, ["trigger chat one done", "trigger chat two dead", "resolve chat one pending"]);
    let end = f.session.claim("chat", 10).await.unwrap().remove(0).notice;
    assert!(end.srv == "replica-2" && end.down_ms >= Some(MINUTE) && end.event_no == 1);
    assert!(f.store.system_incidents().await.unwrap().is_empty());
    assert!(f.store.report_system(&report("mail")).await.unwrap(), "it may come again");
}

on_every_database!(a_trouble_that_is_over_is_told_as_such_and_never_open);
async fn a_trouble_that_is_over_is_told_as_such_and_never_open(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let over = SystemReport { life: Life::Over, kind: SystemKind::Outage, ..report("") };
    f.store.report_system(&over).await.unwrap();
    f.store.report_system(&over).await.unwrap();
    assert!(f.store.system_incidents().await.unwrap().is_empty());
    assert_eq!(f.number("SELECT COUNT(*) FROM incident WHERE closed_ms IS NOT NULL").await, 2);
    assert!(f.outbox().await[0].starts_with("recovered chat one"));
}
